/* look.c - compares a matrix with its directory, and writes the files that describe it. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run/directory.h"
#include "run/weights.h"
#include "study/mark.h"
#include "study/matrix.h"

/* ---- what differs from what was begun -------------------------------------------------------- */

static td_config *take(const char *text)
{
    td_errors         errors = { 0 };
    td_config_sources s = { .texts = &text, .n_texts = 1, .n_kept = 1 };
    td_config        *c = td_config_read(&s, &errors);
    td_errors_free(&errors);
    if (c)
        td_config_take_text(c);
    return c;
}

void td_matrix_diff(const td_matrix_cell *a, const td_matrix_cell *b, td_text *out)
{
    td_config *x = take(a->plain), *y = take(b->plain);
    if (x && y)
        td_config_diff(x, y, out);
    td_config_free(x);
    td_config_free(y);
}

static bool may_change(void *arg, const char *key, const char *line)
{
    (void)arg;
    (void)line;
    return td_run_may_change(key);
}

/* The keys of the config that differ, and that a resumed run must not change. */
static td_text refused(const char *before, const char *now)
{
    td_config *a = take(before), *b = take(now);
    td_text    all = { 0 }, out = { 0 };
    if (a && b) {
        td_config_diff(a, b, &all);
        out = td_refused_differences(&all, may_change, NULL);
    }
    td_config_free(a);
    td_config_free(b);
    td_text_free(&all);
    return out;
}

/* The record made when a cell was begun (td_begun_read). */
typedef struct begun {
    char       *text; /* free() it */
    const char *key, *upstream, *config;
} begun;

static bool read_begun(const td_matrix *m, const td_matrix_cell *c, begun *b)
{
    char *at;
    b->text = at = td_begun_read(m->directory, c->cell.name);
    b->key = at ? strsep(&at, "\n") : "";
    b->upstream = at ? strsep(&at, "\n") : "";
    b->config = at ? at : "";
    return b->text != NULL;
}

static const char *upstream(const td_matrix *m, const td_matrix_cell *c)
{
    return c->of == TD_NO_CELL ? "" : m->cells[c->of].cell.key;
}

int td_matrix_begin_cell(const td_matrix *m, const char *directory, const td_matrix_cell *c,
                         td_error *error)
{
    td_text t = { 0 };
    int     code;
    td_text_print(&t, "%s\n%s\n%s", c->cell.key, upstream(m, c), c->plain);
    code = td_begun_write(directory, c->cell.name, td_text_get(&t), error);
    td_text_free(&t);
    return code;
}

/* Appends why the cell's run cannot be continued; nothing if it can. */
static void compare(const td_matrix *m, const td_matrix_cell *c, td_text *why)
{
    begun b;
    if (!read_begun(m, c, &b))
        td_text_print(why, "it was not started by this study");
    else if (strcmp(b.key, c->cell.key) && strcmp(b.upstream, upstream(m, c)))
        td_text_print(why, "the run that it starts from has changed");
    else if (strcmp(b.key, c->cell.key)) {
        td_text keys = refused(b.config, c->plain);
        for (char *at = keys.data, *line; at && (line = strsep(&at, "\n")) != NULL;)
            if (*line)
                td_text_print(why, "%s%s", why->size ? ", " : "its config has changed: ",
                              line + strspn(line, " "));
        td_text_free(&keys);
    }
    free(b.text);
}

/* ---- states ---------------------------------------------------------------------------------- */

static bool is_done(const td_matrix *m, const td_matrix_cell *c)
{
    return td_mark_is(m->directory, c->cell.name, c->cell.key) && td_file_exists(c->cell.run);
}

static int clear(const td_matrix *m, const td_matrix_cell *c, td_error *error)
{
    int code = td_mark_clear(m->directory, c->cell.name, error);
    return code ? code : td_remove_tree(c->cell.run, error);
}

/* Only runs are continued; cells that read a run are done again as a whole. */
static int look_at(const td_matrix *m, td_matrix_cell *c, bool restart, td_errors *errors,
                   td_error *error)
{
    td_text why = { 0 };
    int     code = 0;
    c->cell.state = is_done(m, c) ? TD_CELL_DONE : TD_CELL_WAITING;
    if (c->cell.state == TD_CELL_DONE || c->point.reads != TD_STUDY_PHASES ||
        !td_file_exists(c->cell.run))
        return 0;
    compare(m, c, &why);
    if (why.size && restart)
        code = clear(m, c, error);
    else if (why.size)
        td_errors_add(
            errors,
            "cell '%s' cannot be continued in '%s': %s; --restart removes its run and starts it "
            "again, study.name=NAME starts a separate study",
            c->cell.name, c->cell.run, td_text_get(&why));
    td_text_free(&why);
    return code;
}

int td_matrix_look(td_matrix *m, bool restart, td_errors *errors, td_error *error)
{
    size_t before = errors->count;
    for (size_t k = 0; k < m->n; k++)
        if (look_at(m, &m->cells[k], restart, errors, error))
            return td_failed(error, TD_EIO);
    return errors->count == before ? 0 : TD_ECONFIG;
}

/* ---- files ----------------------------------------------------------------------------------- */

static json_t *names_of(const char *const *at, size_t n)
{
    json_t *list = json_array();
    for (size_t k = 0; k < n; k++)
        json_array_append_new(list, json_string(at[k]));
    return list;
}

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *td_matrix_cell_json(const td_cell *c)
{
    const char *run = strrchr(c->run, '/') + 1;
    return json_pack(
        "{s:s, s:s, s:o, s:s, s:I, s:s, s:s, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:I, s:s}", "name",
        c->name, "variant", c->variant, "variants", names_of(c->variants, c->n_variants), "size",
        c->size, "seed", (json_int_t)c->seed, "phase", c->phase, "of", c->of, "run",
        json_sprintf("cells/%s", run), "after", names_of(c->after, c->n_after), "key", c->key,
        "state", td_cell_state_name(c->state), "parameters", number(c->parameters), "flops",
        number(c->flops), "memory", number(c->memory), "processes", (json_int_t)c->processes,
        "chosen", c->chosen);
}

json_t *td_matrix_json(const td_matrix *m)
{
    json_t *cells = json_array();
    for (size_t k = 0; k < m->n; k++)
        json_array_append_new(cells, td_matrix_cell_json(&m->cells[k].cell));
    return json_pack("{s:s, s:s, s:o}", "study", m->design->name, "brief", m->design->brief,
                     "cells", cells);
}

static int write_text(const char *directory, const char *folder, const char *name,
                      const char *ending, const char *text, td_error *error)
{
    td_text path = { 0 };
    int     code;
    td_text_print(&path, "%s/%s%s%s", directory, folder, name, ending);
    code = path.failed ? td_fail(error, TD_ENOMEM, "out of memory while writing a study")
                       : td_file_write(td_text_get(&path), text, strlen(text), error);
    td_text_free(&path);
    return code;
}

int td_matrix_write_cells(const td_matrix *m, const char *directory, td_error *error)
{
    json_t *j = td_matrix_json(m);
    char   *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
    int     code = text ? write_text(directory, "", "cells.json", "", text, error)
                        : td_fail(error, TD_ENOMEM, "out of memory while writing a study");
    free(text);
    json_decref(j);
    return code;
}

static int make_folder(const char *directory, const char *name, td_error *error)
{
    char *path = td_path_join(directory, name);
    int   code = path ? td_make_directories(path, error)
                      : td_fail(error, TD_ENOMEM, "out of memory while writing a study");
    free(path);
    return code;
}

/* The configs are written before the list that names them. */
int td_matrix_write(const td_matrix *m, const char *directory, td_error *error)
{
    static const char *const folders[] = { "configs", "cells", "logs" };
    char                    *study;
    int                      code = 0;
    for (size_t k = 0; k < 3 && !code; k++)
        code = make_folder(directory, folders[k], error);
    for (size_t k = 0; k < m->n && !code; k++)
        code = write_text(directory, "configs/", m->cells[k].cell.name, ".cfg", m->cells[k].text,
                          error);
    study = code ? NULL : td_file_read(m->design->path, NULL, error);
    if (study)
        code = write_text(directory, "", "study.cfg", "", study, error);
    free(study);
    if (code || !study)
        return td_failed(error, TD_EIO);
    return td_matrix_write_cells(m, directory, error);
}
