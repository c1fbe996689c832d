/* look.c - compares a matrix with its directory, and writes the files that describe it. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "run/directory.h"
#include "run/provenance.h"
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

/* What a config says of the length of its run; 0: nothing. */
static double length_of(const td_config *c, const char *key)
{
    const char *text = c ? td_config_value(c, key) : NULL;
    return text ? strtod(text, NULL) : 0;
}

/* Appends the length that the run has passed already, if the config has made it shorter. A run ends with
 * the step that reaches its budget, so one that ended as it should is less than a step past it. */
static void find_shorter(const td_config *before, const td_config *now, const td_progress *p,
                         td_text *why)
{
    const struct {
        const char *key;
        double      spent;
    } lengths[] = { { "train.steps", (double)p->step },
                    { "train.target_tokens", p->targets },
                    { "train.flops", p->flops } };
    for (size_t k = 0; k < 3; k++) {
        double was = length_of(before, lengths[k].key), is = length_of(now, lengths[k].key);
        double last = lengths[k].spent / (double)p->step; /* of its last step */
        bool   shorter = is > 0 && (was <= 0 || is < was);
        if (shorter && lengths[k].spent - last >= is)
            td_text_print(why,
                          "its run is at step %lld, past the end that %s = %.17g sets now: a run "
                          "can be made longer, not shorter",
                          (long long)p->step, lengths[k].key, is);
    }
}

/* Its newest checkpoint; NULL: none. One that cannot be read is reported by the cell. */
static char *latest_of(const char *run)
{
    char    *checkpoints = td_path_join(run, "checkpoints"), *latest = NULL;
    td_error e = { 0 };
    if (checkpoints)
        td_checkpoint_latest(checkpoints, &latest, &e);
    free(checkpoints);
    return latest;
}

static void compare_lengths(const char *before, const char *now, const char *run, td_text *why)
{
    td_config  *a = take(before), *b = take(now);
    char       *latest = latest_of(run);
    td_progress p;
    td_error    e = { 0 };
    if (latest && !td_checkpoint_progress(latest, &p, &e) && p.step > 0)
        find_shorter(a, b, &p, why);
    free(latest);
    td_config_free(a);
    td_config_free(b);
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
        if (!why->size)
            compare_lengths(b.config, c->plain, c->cell.run, why);
    }
    free(b.text);
}

/* ---- what text it was trained on ------------------------------------------------------------- */

/* The run as it is, with its own config; NULL: it cannot be opened, which its cell will report. */
static td_session *open_run(const td_matrix *m, const td_matrix_cell *c)
{
    static const char *const settings[] = { "backend.threads=1", NULL };
    td_session_options       o = { .size = sizeof o,
                                   .run = c->cell.run,
                                   .purpose = TD_PURPOSE_TRAIN,
                                   .settings = settings,
                                   .plugin_paths = m->composer.plugin_paths,
                                   .untrusted = m->composer.untrusted };
    return td_session_open(&o, &(td_error){ 0 });
}

/* Text that was changed after the cell was begun may not be what it was trained on. */
void td_matrix_note_text(const td_matrix *m, const td_matrix_cell *c)
{
    td_session   *s = open_run(m, c);
    td_text_stamp stamp;
    if (!s)
        return;
    stamp = td_run_stamp_text(s);
    if (stamp.newest < td_begun_time(m->directory, c->cell.name))
        td_text_mark_set(m->directory, c->cell.name, stamp.of, &(td_error){ 0 });
    td_session_close(s);
}

/* Reads the text, so it is called only if its files have changed. */
static void read_text(const td_matrix *m, td_matrix_cell *c, td_session *s, const char *stamp)
{
    char    *latest = latest_of(c->cell.run);
    td_error e = { 0 };
    if (latest && td_run_is_other_text(s, latest, &c->other_text, &e))
        td_log_line(m->composer.log, TD_LOG_WARN,
                    "cell '%s': cannot tell whether its text is still what it was trained on: %s",
                    c->cell.name, e.text);
    else if (latest && !c->other_text)
        td_text_mark_set(m->directory, c->cell.name, stamp, &e);
    free(latest);
}

static void compare_text(const td_matrix *m, td_matrix_cell *c, td_text *why)
{
    bool        above = c->of != TD_NO_CELL && m->cells[c->of].other_text;
    td_session *s = above ? NULL : open_run(m, c);
    if (s) {
        td_text_stamp stamp = td_run_stamp_text(s);
        if (!td_text_mark_is(m->directory, c->cell.name, stamp.of))
            read_text(m, c, s, stamp.of);
        td_session_close(s);
    }
    if (c->other_text)
        td_text_print(why,
                      "it was trained on text that differs from the files that data names now");
    else if (above)
        td_text_print(why, "the run that it starts from was trained on different text");
    c->other_text |= above;
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

/* Only runs are continued; cells that read a run are run again as a whole. */
static int look_at(const td_matrix *m, td_matrix_cell *c, bool restart, td_errors *errors,
                   td_error *error)
{
    td_text why = { 0 };
    int     code = 0;
    c->cell.state = is_done(m, c) ? TD_CELL_DONE : TD_CELL_WAITING;
    if (c->point.reads != TD_STUDY_PHASES || !td_file_exists(c->cell.run))
        return 0;
    if (c->cell.state != TD_CELL_DONE)
        compare(m, c, &why);
    /* only where it will run: looking elsewhere must write nothing, not even a cache */
    if (!why.size && m->composer.here)
        compare_text(m, c, &why);
    if (why.size)
        c->cell.state = TD_CELL_WAITING;
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
        "{s:s, s:s, s:o, s:s, s:s, s:I, s:s, s:s, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:I, s:s}",
        "name", c->name, "variant", c->variant, "variants", names_of(c->variants, c->n_variants),
        "from", c->from, "size", c->size, "seed", (json_int_t)c->seed, "phase", c->phase, "of",
        c->of, "run", json_sprintf("cells/%s", run), "after", names_of(c->after, c->n_after), "key",
        c->key, "state", td_cell_state_name(c->state), "parameters", number(c->parameters), "flops",
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
