/* kind/norm.h - a normalization layer: x [.., D] to the same dims. Stateless.
 *
 * Architectures build one before each sublayer and at the end of each stack; some attentions build
 * one on their heads. Each token is normalized independently, over the last axis only: a norm that
 * mixed tokens would let them see the future. Parameters are created in the current scope and named
 * "weight" and "bias", as optimizers and weight files expect of norms.
 *
 * Example:
 *
 *     // x / max(|x|), with a learned gain of 1 + weight.
 *     static td_tensor *build(const void *config, td_tensor *x)
 *     {
 *         int64_t    width = td_dim(x, -1);
 *         td_tensor *w = td_param(x->graph, "weight", &width, 1, td_zeros());
 *         (void)config;
 *         return td_mul(td_div(x, td_affine(td_max(td_abs(x), -1), 1, 1e-6)), td_affine(w, 1, 1));
 *     }
 *
 *     static const td_norm peak = {
 *         .plugin = TD_PLUGIN(td_norm, TD_NORM_KIND, "peak", NULL, char,
 *                             .brief = "division by the largest magnitude"),
 *         .build = build,
 *     };
 */
#ifndef TANDEM_KIND_NORM_H
#define TANDEM_KIND_NORM_H

#include "../layers.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_NORM_KIND "norm/1"

typedef struct td_norm {
    td_plugin plugin;
    /* Emit the layer; return a tensor of the dims of x. [build] */
    td_tensor *(*build)(const void *config, td_tensor *x);
} td_norm;

/* Build a part in the scope `name` below the current one; for the plugin that has it as an option.
 * [build] */
static inline td_tensor *td_norm_build(const td_part *part, const char *name, td_tensor *x)
{
    td_tensor *y;
    td_push(x->graph, name);
    td_hook_begin(x->graph, part->plugin, "build");
    y = ((const td_norm *)(const void *)part->plugin)->build(part->config, x);
    td_hook_end(x->graph);
    y = td_hook_result(x->graph, part->plugin, "build", y);
    td_pop(x->graph);
    return y;
}

#ifdef __cplusplus
}
#endif
#endif
