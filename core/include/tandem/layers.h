/* layers.h - what models are written in: linear layers and heads. All of it is ops.h, with names.
 *
 * A linear layer's weight is [out, in] and y = x W^T, under the names that Hugging Face users know
 * (model.layers.0.self_attn.q_proj.weight).
 */
#ifndef TANDEM_LAYERS_H
#define TANDEM_LAYERS_H

#include <math.h>

#include "generation.h"
#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

static inline td_init td_ones(void)
{
    td_init i = { TD_INIT_ONES, 0 };
    return i;
}
static inline td_init td_zeros(void)
{
    td_init i = { TD_INIT_ZEROS, 0 };
    return i;
}
static inline td_init td_normal(double std)
{
    td_init i = { TD_INIT_NORMAL, std };
    return i;
}
static inline td_init td_truncated(double std)
{
    td_init i = { TD_INIT_TRUNCATED, std };
    return i;
}

/* x [.., in] by the weight `name`.weight [out, in] -> [.., out]; with `bias`, plus `name`.bias
 * [out]. */
static inline td_tensor *td_linear_with(const char *name, td_tensor *x, int64_t out, bool bias,
                                        td_init init)
{
    td_graph *g = x->graph;
    int64_t   in = td_dim(x, -1), rows = in ? td_count(x) / in : 0, flat[] = { rows, in },
            dims[] = { out, in };
    int64_t    y_dims[TD_MAX_RANK];
    td_tensor *y, *w;

    td_push(g, name);
    w = td_param(g, "weight", dims, 2, init);
    y = td_matmul(td_reshape(x, flat, 2), td_transpose(w, 0, 1)); /* [rows, out] */
    if (bias)
        y = td_add(y, td_param(g, "bias", dims, 1, td_zeros()));
    td_pop(g);
    for (int a = 0; a < x->rank; a++)
        y_dims[a] = a == x->rank - 1 ? out : x->dim[a];
    return td_reshape(y, y_dims, x->rank);
}

/* Without bias, initial values N(0, 1/in): attention projections. */
static inline td_tensor *td_linear(const char *name, td_tensor *x, int64_t out)
{
    return td_linear_with(name, x, out, false, td_normal(1 / sqrt((double)td_dim(x, -1))));
}

/* [B, T, H E] -> [B, H, T, E] */
static inline td_tensor *td_split_heads(td_tensor *x, int64_t heads)
{
    int64_t dims[] = { td_dim(x, 0), td_dim(x, 1), heads, heads ? td_dim(x, 2) / heads : 0 };
    return td_transpose(td_reshape(x, dims, 4), 1, 2);
}

/* [B, H, T, E] -> [B, T, H E] */
static inline td_tensor *td_merge_heads(td_tensor *x)
{
    int64_t dims[] = { td_dim(x, 0), td_dim(x, 2), td_dim(x, 1) * td_dim(x, 3) };
    return td_reshape(td_transpose(x, 1, 2), dims, 3);
}

#ifdef __cplusplus
}
#endif
#endif
