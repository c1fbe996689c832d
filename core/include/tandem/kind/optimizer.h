/* kind/optimizer.h - an optimizer: it emits the update of one parameter as a graph. Stateless.
 *
 * `build` is called once per parameter. It returns the parameter's new value, which the host
 * assigns; all updates together are one graph that is planned once and run at each step. State
 * (momentum, second moments) comes from td_moment and is saved in checkpoints with the parameter;
 * the optimizer assigns its new content itself, through in->gate. Everything that changes from step
 * to step (learning rate, step number, clipping) is a scalar tensor in td_optimizer_in.
 *
 * Four rules keep optimizers comparable: multiply the gradient by `clip`; multiply the change by
 * `rate`; multiply weight decay by `decay_scale`, so that 0 turns it off; change nothing when
 * `gate` is 0.
 *
 * Example:
 *
 *     // Momentum: m = 0.9 m + g;  p = p - rate m
 *     static td_tensor *build(const void *config, const td_optimizer_in *in)
 *     {
 *         td_tensor *p = in->param, *m = td_moment(in, "m", p->dim, p->rank, 0);
 *         td_tensor *next = td_add(td_scale(m, 0.9), td_mul(in->grad, in->clip));
 *         (void)config;
 *         td_assign(m, next, in->gate);
 *         return td_sub(p, td_mul(next, in->rate));
 *     }
 *
 *     static const td_optimizer heavy_ball = {
 *         .plugin = TD_PLUGIN(td_optimizer, TD_OPTIMIZER_KIND, "heavy-ball", NULL, char,
 *                             .brief = "momentum without decay",
 *                             .paper = "Polyak, Some methods of speeding up convergence, 1964"),
 *         .build = build,
 *     };
 */
#ifndef TANDEM_KIND_OPTIMIZER_H
#define TANDEM_KIND_OPTIMIZER_H

#include "../layers.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_OPTIMIZER_KIND "optimizer/1"

/* One parameter to update. All tensors are real; those called scalar have rank 0. */
typedef struct td_optimizer_in {
    td_graph   *graph;
    const char *name;         /* "model.layers.0.mlp.up_proj.weight" */
    td_tensor  *param, *grad; /* of the same dims; grad is not yet clipped */
    td_tensor  *rate;         /* scalar: the learning rate, times the factor of the group */
    td_tensor  *step;         /* scalar: the number of the update, from 1 */
    td_tensor  *clip;         /* scalar: multiply the gradient by it (global-norm clipping) */
    td_tensor  *gate;         /* scalar: 0 skips the update (NaN, a spike): nothing may change */
    double      decay_scale;  /* the group's factor: multiply the weight decay by it */
} td_optimizer_in;

/* WHOLE_MATRIX: the update of an element depends on the whole tensor, not only through sums, so
 * that the parameter cannot be sharded (Muon's orthogonalization). */
enum { TD_OPTIMIZER_WHOLE_MATRIX = 1 };

typedef struct td_optimizer {
    td_plugin plugin;
    uint64_t  flags; /* TD_OPTIMIZER_.. */
    /* Return the parameter's new value, which the host assigns through the gate. Moments are
     * assigned here, with td_assign(m, next, in->gate); a fused update (update.h) does both.
     * [build] */
    td_tensor *(*build)(const void *config, const td_optimizer_in *in);
} td_optimizer;

/* State of this parameter under `name` ("m", "v"), filled with `initial` before the first update
 * and kept from then on, in checkpoints too. Any dims. [build] */
static inline td_tensor *td_moment(const td_optimizer_in *in, const char *name, const int64_t *dims,
                                   int rank, double initial)
{
    return in->graph->host->state(in->graph, name, dims, rank, initial);
}

#ifdef __cplusplus
}
#endif
#endif
