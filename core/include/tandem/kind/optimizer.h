/* kind/optimizer.h - an optimizer emits its update of one parameter as a graph. Stateless; its
 * state is td_moment's. */
#ifndef TANDEM_KIND_OPTIMIZER_H
#define TANDEM_KIND_OPTIMIZER_H

#include "../layers.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_OPTIMIZER_KIND "optimizer/1"

typedef struct td_optimizer_in {
    td_graph   *graph;
    const char *name;         /* of the parameter */
    td_tensor  *param, *grad; /* of one shape; grad not yet clipped */
    td_tensor  *rate;         /* scalar: learning rate of this step, the group's factor included */
    td_tensor  *step;         /* scalar: counts from 1 */
    td_tensor  *clip;         /* scalar: multiplies the gradient (global-norm clipping) */
    td_tensor  *gate;         /* scalar: 0 changes nothing (NaN guard) */
    double      decay_scale;  /* of the parameter's group: multiplies the weight decay */
} td_optimizer_in;

enum { TD_OPTIMIZER_WHOLE_MATRIX = 1 /* needs whole tensors, not shards */ };

typedef struct td_optimizer {
    td_plugin plugin;
    uint64_t  flags;
    /* The parameter's new value, which the host assigns (through the gate). The optimizer itself
     * assigns its moments, with td_assign(m, new_m, in->gate), or uses a fused step, which does
     * both. [build] */
    td_tensor *(*build)(const void *config, const td_optimizer_in *in);
} td_optimizer;

/* State of the optimizer, kept from step to step and in checkpoints: name "m", filled with
 * `initial` at first. */
static inline td_tensor *td_moment(const td_optimizer_in *in, const char *name, const int64_t *dims,
                                   int rank, double initial)
{
    return in->graph->host->state(in->graph, name, dims, rank, initial);
}

#ifdef __cplusplus
}
#endif
#endif
