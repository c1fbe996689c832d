/* figures.h - what a cell costs: its config bound, its model planned, its steps counted or timed. */
#ifndef TD_STUDY_FIGURES_H
#define TD_STUDY_FIGURES_H

#include "base/text.h"
#include "study/compose.h"

typedef struct td_figures {
    double  parameters;
    double  memory; /* bytes of a training run, of all its processes */
    double  flops;  /* of one step, forward and backward, visible scores only, full sequences */
    double  tokens, targets; /* of one step, read and predicted; for pairs, the maximum */
    bool    device;          /* its backend is not the default one, and has its own memory */
    bool    unavailable;     /* .. and cannot be used on this machine */
    bool    pairs;           /* the data consists of pairs, of varying lengths */
    int64_t steps;           /* of the run; 0: a budget sets them once the data is open */
    double  budget_targets, budget_flops; /* that budget; 0: it is in other units */
    double  rate_seconds;                 /* of one step, measured; 0: not measured */
} td_figures;

/* The number of steps of the run, estimated where it depends on the data. */
double td_figures_steps(const td_figures *);
/* FLOPs of the whole training. */
double td_figures_flops(const td_figures *);

/* A composed config as text, every option with its value: equal for cells that compute the same.
 * `annotated`, unless NULL, gets the same with the origin of each value; `notes`, unless NULL, what a
 * change of plugin has dropped, a line each. NULL after adding errors; free all three. */
char *td_cell_text(const td_composer *, const td_point *, const td_choices *, td_text *annotated,
                   td_text *notes, td_errors *errors);

/* Bind, build and plan the cell with this text. Unless `notes` is NULL, also look for anything that
 * would stop it (run/review.h), and check its tasks; `notes` gets a line if this machine lacks what
 * its backend needs, which is an error if it is to run here. 0, or TD_ECONFIG after adding errors. */
int td_figures_of(const td_composer *, const td_point *, const char *text, td_text *notes,
                  td_figures *out, td_errors *errors);

/* Copy to DIRECTORY/modules the modules from elsewhere that the cell needs. */
int td_figures_modules(const td_composer *, const char *text, const char *directory,
                       td_error *error);

/* Time steps of the cell for about `seconds`, on `threads` threads (0: all) for each of its `processes`.
 * Returns the seconds per step. */
int td_figures_measure(const td_composer *, const char *text, int64_t processes, double seconds,
                       int64_t threads, double *out, td_error *error);

#endif
