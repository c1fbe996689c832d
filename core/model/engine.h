/* engine.h - a model on a backend: plans by purpose and shape, one arena, gradients, updates,
 * scores.
 *
 *     td_engine *e = td_engine_open(&options, &error);
 *     td_engine_plan(e, largest_batch, &footprint, &error);   everything known, nothing allocated
 *     td_engine_allocate(e, seed, &error);                    parameters get their initial values
 *     td_engine_gradient(e, &micro, &out, &error);            once for each micro-batch of a step
 *     td_engine_update(e, rate, step, limit, &updated, &error);
 *
 * A *step* is one update of the parameters, here and in training; it may take several
 * micro-batches. An engine belongs to one thread; kernels spread over the pool of td_services by
 * themselves. [main]
 */
#ifndef TD_MODEL_ENGINE_H
#define TD_MODEL_ENGINE_H

#include "base/log.h"
#include "model/footprint.h"
#include "model/model.h"
#include "plan/plan.h"
#include "plan/precision.h"

typedef struct td_engine td_engine;

typedef struct td_engine_options {
    td_model           model;
    td_part            backend;
    const td_services *services;
    td_journal        *log;
} td_engine_options;

td_engine *td_engine_open(const td_engine_options *, td_error *error);
void       td_engine_close(td_engine *);

const td_device *td_engine_device(const td_engine *);
td_variables    *td_engine_variables(td_engine *);
const td_model  *td_engine_model(const td_engine *);

/* ---- planning -------------------------------------------------------------------------------- */

/* Plan a step for batches of this shape, the largest to come: gradients and, if the model has an
 * optimizer, the update. `footprint`, or NULL, is set to the memory needed. */
int td_engine_plan(td_engine *, const td_batch *shape, td_footprint *footprint, td_error *error);
/* Plan all other work in advance, after td_engine_plan, so that no step has to plan or allocate;
 * `footprint`, or NULL, grows by the memory needed. All micro-batches of a step but its first: */
int td_engine_plan_adding(td_engine *, const td_batch *shape, td_footprint *footprint,
                          td_error *error);
/* Plan for td_engine_evaluate; td_engine_plan is not needed before. */
int td_engine_plan_evaluation(td_engine *, const td_batch *shape, td_footprint *footprint,
                              td_error *error);
/* Plan for td_engine_tokens. */
int td_engine_plan_tokens(td_engine *, const td_batch *shape, td_footprint *footprint,
                          td_error *error);
/* Plan for td_engine_norms. */
int td_engine_plan_norms(td_engine *, td_footprint *footprint, td_error *error);

/* Allocate memory for all that was planned, and give every parameter its initial value, which
 * depends on `seed` and its name alone. */
int td_engine_allocate(td_engine *, uint64_t seed, td_error *error);

/* The graph that was planned first, and its roots, for FLOPs and dumps; NULL if there is none. */
td_graph *td_engine_graph(td_engine *, td_tensor *const **roots, size_t *n_roots);

/* How that first plan computes each op, in bf16 or wide (td_plan_precision_rows); 0 rows: nothing was
 * planned. */
size_t td_engine_precision(td_engine *, td_precision_row *rows, size_t room);

/* ---- steps ----------------------------------------------------------------------------------- */

/* One micro-batch. `divisor`: the sum of the loss weights of all micro-batches of the step, so
 * that splitting a batch changes only rounding. `step` (updates made before) and `examples`
 * [rows], numbered over the step, key the dropout. */
typedef struct td_micro {
    const td_batch *batch;
    double          divisor;
    bool            add; /* to the gradients that earlier micro-batches left */
    int32_t         step;
    const int32_t  *examples; /* NULL: 0, 1, .. */
} td_micro;

/* An auxiliary loss, already part of the loss, or a logged scalar, which is not. */
typedef struct td_auxiliary {
    const char *name;
    double      loss;
} td_auxiliary;

typedef struct td_micro_out {
    double       loss; /* divided by the divisor, so that the micro-batches of a step add up */
    double       sum;  /* sum of the cross-entropy, not divided */
    /* td_engine_gradient only: of the matrix products of this very batch, forward and backward;
     * scores that its masks hide are not counted */
    double       flops;
    td_auxiliary aux[TD_AUX];
    size_t       n_aux;
} td_micro_out;

/* The FLOPs that td_engine_gradient would report for a batch; plans it, and computes nothing. */
int td_engine_flops(td_engine *, const td_batch *, double *flops, td_error *error);
int td_engine_gradient(td_engine *, const td_micro *, td_micro_out *out, td_error *error);

/* If the update is sharded: *squares are the squared norms of all *count gradients, 0 for those
 * whose sums other ranks have. The caller adds them up over the ranks, in place,
 * before td_engine_update and td_engine_norms read them. Both are set after a failure as well. */
int td_engine_square(td_engine *, double **squares, int64_t *count, td_error *error);

/* Update the parameters from the gradients. With a guard, nothing changes unless the gradient norm
 * is below `limit`, which NaN never is. `step` counts from 1. */
typedef struct td_update_out {
    double norm;
    bool   applied;
} td_update_out;
int td_engine_update(td_engine *, double rate, int64_t step, double limit, td_update_out *out,
                     td_error *error);

/* ---- sharded parameters ---------------------------------------------------------------------- */

/* Whether they are. Then all processes must compute gradients and scores together, each at the
 * same time as the others:
 *
 *     td_engine_order(e, batch, false, &order, &error);      all ranks have the same order
 *     td_engine_gradient(e, &micro, &out, &error);           ranks without a batch: td_engine_serve
 */
bool td_engine_exchanges(const td_engine *);
/* Use these hooks from now on; NULL: none. */
void td_engine_connect(td_engine *, const td_exchange *);
/* The order of the transfers for a batch, or, without one, of a rank that only serves: a hash.
 * `scores`: of td_engine_evaluate, not td_engine_gradient. */
int  td_engine_order(td_engine *, const td_batch *, bool scores, uint64_t *order, td_error *error);
int  td_engine_serve(td_engine *, bool scores, td_error *error);

/* ---- looking --------------------------------------------------------------------------------- */

/* The current norms of each trained parameter and of its gradient; free(*out). */
typedef struct td_parameter_norms {
    const char *name; /* of the parameter */
    double      parameter, gradient;
} td_parameter_norms;
int td_engine_norms(td_engine *, td_parameter_norms **out, size_t *count, td_error *error);

/* Forward only. `sum`: of the cross-entropy; `nll`: per label position [rows * length], or NULL. */
int td_engine_evaluate(td_engine *, const td_batch *, double *sum, double *nll, td_error *error);

/* The tokens that a batch with "scored" and "scored_labels" [n] names (td_model_tokens): the NLL
 * of each, and the token that the model would have chosen there. The loss plugin is not used. */
int td_engine_tokens(td_engine *, const td_batch *, double *nll, double *best, td_error *error);

/* Like td_engine_gradient, and the logits [rows, length, vocabulary]. */
int td_engine_probe(td_engine *, const td_micro *, td_micro_out *out, double *logits,
                    td_error *error);

/* Time and rate per op since profiling was switched on, all plans together. Returns the number of
 * rows written, at most `room`. */
void   td_engine_profile(td_engine *, bool on);
size_t td_engine_profile_rows(td_engine *, td_profile_row *rows, size_t room);
/* Seconds spent building graphs and planning, and the number of plans. */
double td_engine_planning(const td_engine *, size_t *plans);

#endif
