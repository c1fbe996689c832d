/* engine.h - a model at work on a backend: plans by shape, one arena, gradients, updates,
 * evaluation.
 *
 *     td_engine *e = td_engine_open(&options, &error);
 *     td_engine_plan(e, largest_batch, &memory, &error);      everything is known, nothing is allocated
 *     td_engine_allocate(e, seed, &error);                    parameters get their initial values
 *     td_engine_gradient(e, batch, ...); td_engine_update(e, ...);
 */
#ifndef TD_MODEL_ENGINE_H
#define TD_MODEL_ENGINE_H

#include "base/log.h"
#include "model/model.h"
#include "plan/plan.h"

typedef struct td_engine td_engine;

typedef struct td_engine_options {
    td_model           model;
    td_part            backend;
    const td_services *services;
    td_journal        *log;
    bool               lowered; /* run lowerings even where a fused kernel exists: for tests */
} td_engine_options;

typedef struct td_memory {
    size_t parameters, gradients, states;
    size_t activations; /* the arena of all plans */
    size_t inputs;      /* of each plan */
} td_memory;

/* Whether so much can be had of this machine's memory; a backend with memory of its own is not
 * asked. */
int td_memory_check(const td_memory *, const td_device *, td_error *error);

td_engine *td_engine_open(const td_engine_options *, td_error *error);
void       td_engine_close(td_engine *);

/* Build and plan the step for batches of this shape (the largest to come), gradients and update
 * included. */
int td_engine_plan(td_engine *, const td_batch *shape, td_memory *memory, td_error *error);
/* What else is known to come, so that no step has to plan or allocate; `memory` (or NULL) grows to
 * what it takes. After td_engine_plan: the micro-batches of a step but its first. */
int td_engine_plan_adding(td_engine *, const td_batch *shape, td_memory *memory, td_error *error);
/* td_engine_norms. */
int td_engine_plan_norms(td_engine *, td_memory *memory, td_error *error);
/* Batches that are only scored: no gradients. */
int td_engine_plan_evaluation(td_engine *, const td_batch *shape, td_memory *memory,
                              td_error *error);
/* Memory for all of it, and initial values by parameter name. */
int td_engine_allocate(td_engine *, uint64_t seed, td_error *error);

const td_device *td_engine_device(const td_engine *);
td_variables    *td_engine_variables(td_engine *);
const td_model  *td_engine_model(const td_engine *);
/* The graph of the planned shape's step, and its roots, for FLOPs and dumps. */
td_graph        *td_engine_graph(td_engine *, td_tensor *const **roots, size_t *n_roots);

/* One micro-batch. `divisor`: the weights of the whole batch; `step` and `examples` [rows] key the
 * dropout. */
typedef struct td_micro {
    const td_batch *batch;
    double          divisor;
    bool            add; /* to the gradients that are there */
    int32_t         step;
    const int32_t  *examples; /* NULL: 0, 1, .. */
} td_micro;
/* An auxiliary loss, a part of the loss. */
typedef struct td_auxiliary {
    const char *name;
    double      loss;
} td_auxiliary;
typedef struct td_micro_out {
    double       loss, sum;
    /* td_engine_gradient: of the matrix products, forward and backward, of this very batch; scores
     * that no mask shows are not counted */
    double       flops;
    td_auxiliary aux[TD_AUX];
    size_t       n_aux;
} td_micro_out;
int td_engine_gradient(td_engine *, const td_micro *, td_micro_out *out, td_error *error);

/* Parameters move, unless the gradient norm is not below `limit` (or not a number) and the model
 * guards. `step` counts from 1. */
typedef struct td_update_out {
    double norm;
    bool   applied;
} td_update_out;
int td_engine_update(td_engine *, double rate, int64_t step, double limit, td_update_out *out,
                     td_error *error);

/* Norms of each trained parameter and of its gradient, as they are now; free(*out). */
typedef struct td_parameter_norms {
    const char *name; /* of the parameter */
    double      parameter, gradient;
} td_parameter_norms;
int td_engine_norms(td_engine *, td_parameter_norms **out, size_t *count, td_error *error);

/* Forward only. `nll`: per label position [rows * length], or NULL. */
int td_engine_evaluate(td_engine *, const td_batch *, double *sum, double *nll, td_error *error);

/* Like td_engine_gradient, and the logits [rows, length, vocabulary]. */
int td_engine_probe(td_engine *, const td_micro *, td_micro_out *out, double *logits,
                    td_error *error);

/* Time and rate per op, since it was switched on. Rows of all plans together; gives how many. */
void   td_engine_profile(td_engine *, bool on);
size_t td_engine_profile_rows(td_engine *, td_profile_row *rows, size_t room);
/* Seconds that building and planning took in all, and how many plans there are. */
double td_engine_planning(const td_engine *, size_t *plans);

#endif
