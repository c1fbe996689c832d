/* study.h - a study on disk: its cells with their labels, and how far each has got.
 *
 *     study.cfg        the study's config, as it was given
 *     cells.json       {"study", "brief", "cells": [{"name", "variant", "variants", "from", "size", "seed",
 *                      "phase", "of", "run", "after", "key", "state", "parameters", "flops", "memory",
 *                      "processes", "chosen"}]}
 *     configs/NAME.cfg the composed config of each cell
 *     cells/NAME/      the runs: directories as `train` and `evaluate` leave them
 *     done/NAME        the key of a cell that ended well; begun/, texts/: see study/mark.h
 *     logs/NAME.log    what its commands printed
 *     log.txt          the log of the whole study
 *
 * A *cell* is one phase of one variant at one size with one seed. Cells of the phases `pretrain`
 * and `finetune` train, each in a run of its own; cells of the other phases read the run of another
 * cell, `of`, and leave their results in its RUN/eval. Several variants may share a cell, such as
 * the pretraining of two that only finetune differently.
 */
#ifndef TD_STUDY_STUDY_H
#define TD_STUDY_STUDY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tandem/error.h"

typedef enum td_cell_state {
    TD_CELL_WAITING, /* not begun, or interrupted */
    TD_CELL_RUNNING,
    TD_CELL_DONE,
    TD_CELL_FAILED,
    TD_CELL_SKIPPED /* a cell that it needs has failed */
} td_cell_state;

typedef struct td_cell {
    const char        *name;     /* "redllm-nano-s1-pretrain" */
    const char        *variant;  /* the first variant that has it */
    const char *const *variants; /* [n_variants], all that share it, `variant` first */
    size_t             n_variants;
    const char *from; /* the only variant that `variant` is made from; "": none, or several */
    const char *size; /* "": the study has one size only */
    int64_t     seed;
    const char *phase; /* "pretrain", "finetune", "evaluate", "extrapolate", "analyze", "bench" */
    const char *of;    /* the cell whose run it reads: evaluation, finetuning; "": none */
    const char *run;   /* its run's directory, which begins with the study's */
    const char *const *after; /* [n_after], the cells that must be done first */
    size_t             n_after;
    const char        *key; /* a hash of everything that decides its results */
    td_cell_state      state;
    double             parameters; /* of its model */
    double      flops;     /* of its training, visible scores only; NaN: unknown, or no training */
    double      memory;    /* bytes, of all its processes */
    int64_t     processes; /* that compute it together */
    const char *chosen;    /* what was chosen to match it with others, in words; "": nothing */
} td_cell;

typedef struct td_study {
    const char    *name, *directory;
    const char    *brief; /* the question; "": none */
    const td_cell *cells;
    size_t         n_cells;
} td_study;

/* Read a study's directory. The states are current: a cell is done only if its results are there
 * and belong to its present config. NULL with `error`. [main] */
td_study *td_study_open(const char *directory, td_error *error);
void      td_study_close(td_study *); /* NULL is allowed */

/* NULL: there is none of that name. */
const td_cell *td_study_find(const td_study *, const char *name);

/* "waiting", "running", .. */
const char *td_cell_state_name(td_cell_state);
/* Whether a phase of that name trains a model; if so, the cell has a run of its own. */
bool        td_phase_trains(const char *phase);

#endif
