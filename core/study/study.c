/* study.c - reads the directory of a study: cells.json, and how far each cell has come. */
#include "study/study.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/text.h"
#include "study/mark.h"

typedef struct opened {
    td_study  study; /* first: the caller has a pointer to it */
    td_arena *arena;
} opened;

static const char *const states[] = { "waiting", "running", "done", "failed", "skipped" };
enum { STATES = sizeof states / sizeof *states };

const char *td_cell_state_name(td_cell_state state) { return states[state]; }

bool td_phase_trains(const char *phase)
{
    return !strcmp(phase, "pretrain") || !strcmp(phase, "finetune");
}

/* ---- cells.json ------------------------------------------------------------------------------ */

static const char *text_of(td_arena *a, const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? td_arena_copy(a, text) : "";
}

/* NaN for null and for what is missing. */
static double number_of(const json_t *j, const char *key)
{
    const json_t *v = json_object_get(j, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static const char *const *list_of(td_arena *a, const json_t *j, const char *key, size_t *n)
{
    const json_t *list = json_object_get(j, key);
    const char  **at = td_arena_alloc(a, (json_array_size(list) + 1) * sizeof *at);
    *n = 0;
    for (size_t k = 0; at && k < json_array_size(list); k++) {
        const char *text = json_string_value(json_array_get(list, k));
        if (text)
            at[(*n)++] = td_arena_copy(a, text);
    }
    return at;
}

static td_cell_state state_of(const json_t *j)
{
    const char *name = json_string_value(json_object_get(j, "state"));
    for (int k = 0; name && k < STATES; k++)
        if (!strcmp(states[k], name))
            return (td_cell_state)k;
    return TD_CELL_WAITING;
}

/* Names become paths: a name from a stranger's file must not lead out of the study. */
static bool is_name(const char *name) { return *name && *name != '.' && !strchr(name, '/'); }

/* `run` is relative to the study, so that a study can be moved. */
static const char *run_of(td_arena *a, const char *directory, const char *relative)
{
    return td_arena_print(a, "%s/%s", directory, relative);
}

static int read_cell(td_arena *a, const char *directory, const json_t *j, td_cell *c,
                     td_error *error)
{
    *c = (td_cell){ .name = text_of(a, j, "name"),
                    .variant = text_of(a, j, "variant"),
                    .from = text_of(a, j, "from"),
                    .size = text_of(a, j, "size"),
                    .seed = json_integer_value(json_object_get(j, "seed")),
                    .phase = text_of(a, j, "phase"),
                    .of = text_of(a, j, "of"),
                    .run = text_of(a, j, "run"),
                    .key = text_of(a, j, "key"),
                    .state = state_of(j),
                    .parameters = number_of(j, "parameters"),
                    .flops = number_of(j, "flops"),
                    .memory = number_of(j, "memory"),
                    .processes = json_integer_value(json_object_get(j, "processes")),
                    .chosen = text_of(a, j, "chosen") };
    c->variants = list_of(a, j, "variants", &c->n_variants);
    c->after = list_of(a, j, "after", &c->n_after);
    /* the file may come from elsewhere: no path in it may lead out of the study */
    if (!is_name(c->name) || strncmp(c->run, "cells/", 6) || !is_name(c->run + 6))
        return td_fail(
            error, TD_EIO,
            "'%s/cells.json': a cell is named '%.100s' and has its run in '%.100s', which no study "
            "writes: the file is damaged; `tandem study run` writes it again",
            directory, c->name, c->run);
    c->run = run_of(a, directory, c->run);
    return 0;
}

/* ---- states ---------------------------------------------------------------------------------- */

static bool is_done(const td_study *s, const td_cell *c)
{
    return td_mark_is(s->directory, c->name, c->key) && td_file_exists(c->run);
}

/* The files on disk decide, not the recorded state: the process that wrote it may have been
 * killed. */
static void update_states(const td_study *s, td_cell *cells)
{
    bool running = td_study_is_running(s->directory);
    for (size_t k = 0; k < s->n_cells; k++) {
        td_cell *c = &cells[k];
        if (is_done(s, c))
            c->state = TD_CELL_DONE;
        else if (c->state == TD_CELL_DONE || (c->state == TD_CELL_RUNNING && !running))
            c->state = TD_CELL_WAITING;
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static json_t *read_json(const char *directory, td_error *error)
{
    char        *path = td_path_join(directory, "cells.json");
    json_error_t why;
    size_t       size = 0;
    char        *text;
    json_t      *root = NULL;

    /* the likely mistake is a wrong directory, which a message about a missing file would not say
     * */
    if (path && !td_file_exists(path)) {
        td_fail(
            error, TD_EIO,
            "'%s' is not the directory of a study: it has no cells.json, which `tandem study run "
            "FILE` writes",
            directory);
        free(path);
        return NULL;
    }
    text = path ? td_file_read(path, &size, error) : NULL;
    if (text && !(root = json_loadb(text, size, 0, &why)))
        td_fail(error, TD_EIO, "'%s': line %d: %s", path, why.line, why.text);
    free(text);
    free(path);
    return root;
}

static int read_cells(opened *o, const json_t *root, td_error *error)
{
    const json_t *list = json_object_get(root, "cells");
    size_t        n = json_array_size(list);
    td_cell      *cells = td_arena_alloc(o->arena, (n + 1) * sizeof *cells);
    if (!cells)
        return td_fail(error, TD_ENOMEM, "out of memory while reading a study");
    o->study.name = text_of(o->arena, root, "study");
    o->study.brief = text_of(o->arena, root, "brief");
    o->study.cells = cells;
    for (size_t k = 0; k < n; k++)
        if (read_cell(o->arena, o->study.directory, json_array_get(list, k), &cells[k], error))
            return td_failed(error, TD_EIO);
    o->study.n_cells = n;
    update_states(&o->study, cells);
    return 0;
}

td_study *td_study_open(const char *directory, td_error *error)
{
    json_t *root = read_json(directory, error);
    opened *o = root ? calloc(1, sizeof *o) : NULL;
    int     code = TD_EIO;
    if (o && (o->arena = td_arena_new()) &&
        (o->study.directory = td_arena_copy(o->arena, directory)))
        code = read_cells(o, root, error);
    json_decref(root);
    if (o && !code)
        return &o->study;
    if (o)
        td_study_close(&o->study);
    return NULL;
}

void td_study_close(td_study *s)
{
    opened *o = (opened *)s;
    if (!o)
        return;
    td_arena_free(o->arena);
    free(o);
}

const td_cell *td_study_find(const td_study *s, const char *name)
{
    for (size_t k = 0; k < s->n_cells; k++)
        if (!strcmp(s->cells[k].name, name))
            return &s->cells[k];
    return NULL;
}
