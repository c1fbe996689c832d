/* kind/norm.h - a normalization layer, x [.., D] to the same dims. Stateless. */
#ifndef TANDEM_KIND_NORM_H
#define TANDEM_KIND_NORM_H

#include "../layers.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_NORM_KIND "norm/1"

typedef struct td_norm {
    td_plugin plugin;
    /* Parameters go by td_param in the current scope ("weight", "bias"). [build] */
    td_tensor *(*build)(const void *config, td_tensor *x);
} td_norm;

/* For the one who holds the part: build it in the scope `name`. */
static inline td_tensor *td_norm_build(const td_part *part, const char *name, td_tensor *x)
{
    td_tensor *y;
    td_push(x->graph, name);
    y = ((const td_norm *)(const void *)part->plugin)->build(part->config, x);
    y = td_given(x->graph, part->plugin, "build", y);
    td_pop(x->graph);
    return y;
}

#ifdef __cplusplus
}
#endif
#endif
