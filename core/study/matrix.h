/* matrix.h - all cells of a study, composed and checked before the first one runs.
 *
 *     td_matrix *m = td_matrix_new(&request, &errors, &error);
 *     td_matrix_plan(m, &errors);
 *     td_matrix_measure(m, &error);
 *     ..m->cells[k]..
 *     td_matrix_free(m);
 */
#ifndef TD_STUDY_MATRIX_H
#define TD_STUDY_MATRIX_H

#include "study/settle.h"
#include "study/study.h"

typedef struct td_matrix_cell {
    td_cell  cell; /* its labels, as cells.json has them; `run` begins with the study's directory */
    td_point point;
    const char *plain; /* its config */
    const char *text;  /* the same with the origin of each value */
    td_figures  figures;
    bool        other_text; /* its run was trained on text that differs from the text now */
    size_t      of;         /* the cell whose run it reads or starts from; TD_NO_CELL: none */
} td_matrix_cell;

#define TD_NO_CELL SIZE_MAX

typedef struct td_matrix_request {
    const char        *file;      /* the study's config */
    const char *const *overrides; /* [n_overrides], for that config: "study.seeds=[1]" */
    size_t             n_overrides;
    const char *const *files; /* the rest as in td_composer */
    const char *const *settings;
    const char *const *plugin_paths;
    const char        *directory; /* NULL: run.dir/NAME */
    bool               untrusted;
    td_journal        *log;
    double             seconds; /* to spend on measuring a step of each distinct cell; 0: none */
    int64_t            threads; /* number of threads to measure on; 0: all */
    bool               runs;    /* it will be run, so all times it depends on must be measured */
    bool               here;    /* .. on this machine, which must have what backends need */
    void (*measuring)(void *arg, const char *cell); /* before each; may be NULL */
    void *arg;
} td_matrix_request;

typedef struct td_matrix {
    td_design      *design;
    td_composer     composer;
    td_registry    *registry;
    td_arena       *arena;
    const char     *directory; /* of the study */
    td_matrix_cell *cells;     /* each after the cells that it needs */
    size_t          n;
    td_times        times;
} td_matrix;

/* Expand, match, compose and bind everything. Nothing is written. NULL after adding `errors` of
 * the study and its cells, each with the cell that it concerns, or after setting `error`. */
td_matrix *td_matrix_new(const td_matrix_request *, td_errors *errors, td_error *error);
void       td_matrix_free(td_matrix *);

/* Build and plan each distinct model, and look for anything that would stop it: files, tasks,
 * weights. Fills in parameters, FLOPs and memory. 0, or TD_ECONFIG with errors as above. */
int td_matrix_plan(td_matrix *, td_errors *errors);

/* Only the directory of the study; free() it. NULL after errors. */
char *td_matrix_directory(const td_matrix_request *, td_errors *errors, td_error *error);

/* Append a line for each option that differs: "model.attention.heads: 8 -> 16". */
void td_matrix_diff(const td_matrix_cell *a, const td_matrix_cell *b, td_text *out);

/* Time a step of each distinct model among the training cells that `wants` selects (NULL: all). */
int td_matrix_measure(td_matrix *, bool (*wants)(const td_matrix *, const td_matrix_cell *),
                      td_error *error);

/* Look at the directory: fills in the states, and refuses runs that were begun with another
 * config and cannot be continued, unless `restart` removes them. */
int td_matrix_look(td_matrix *, bool restart, td_errors *errors, td_error *error);

/* Write study.cfg, configs/ and cells.json, with the current states of the cells. */
int td_matrix_write(const td_matrix *, const char *directory, td_error *error);
/* Write only cells.json. */
int td_matrix_write_cells(const td_matrix *, const char *directory, td_error *error);
/* Record what the cell is begun with, for td_matrix_look in later calls. */
int td_matrix_begin_cell(const td_matrix *, const char *directory, const td_matrix_cell *,
                         td_error *error);

/* Record the files of its text, when it has ended well. */
void td_matrix_note_text(const td_matrix *, const td_matrix_cell *);

/* As cells.json has them. */
json_t *td_matrix_json(const td_matrix *);
json_t *td_matrix_cell_json(const td_cell *);

#endif
