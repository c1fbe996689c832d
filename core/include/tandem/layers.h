/* layers.h - the building blocks of models: linear layers and heads.
 *
 * All of it is written with ops.h; the host knows nothing about it. Names and shapes are as in
 * Hugging Face's models, so weights need no renaming: a linear layer has a weight [out, in] called
 * NAME.weight, computes y = x W^T, and heads are split as [B, T, H E] -> [B, H, T, E].
 *
 * generation.h, included here, keeps the tensors that later passes of generation will read. All of
 * this file is [build].
 *
 * Example:
 *
 *     // One step of gated mixing of heads: q [B, H, T, E] from x [B, T, D], back to [B, T, D].
 *     static td_tensor *mix(td_tensor *x, int64_t heads, int64_t head_dim)
 *     {
 *         td_tensor *q = td_split_heads(td_linear("q_proj", x, heads * head_dim), heads);
 *         td_tensor *gate = td_linear_with("gate", x, heads * head_dim, true, td_truncated(0.02));
 *         q = td_mul(q, td_sigmoid(td_split_heads(gate, heads)));
 *         return td_linear("o_proj", td_merge_heads(q), td_dim(x, -1));
 *     }
 */
#ifndef TANDEM_LAYERS_H
#define TANDEM_LAYERS_H

#include <math.h>

#include "generation.h"
#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- initial values of parameters ------------------------------------------------------------ */

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

/* N(0, std^2) */
static inline td_init td_normal(double std)
{
    td_init i = { TD_INIT_NORMAL, std };
    return i;
}

/* The same, cut at two deviations and rescaled to deviation `std`. */
static inline td_init td_truncated(double std)
{
    td_init i = { TD_INIT_TRUNCATED, std };
    return i;
}

/* ---- linear layers and heads ----------------------------------------------------------------- */

/* x [.., in] -> [.., out]: x W^T, with NAME.weight [out, in] drawn from `init`; with `bias`, plus
 * NAME.bias [out], which starts at 0. */
static inline td_tensor *td_linear_with(const char *name, td_tensor *x, int64_t out, bool bias,
                                        td_init init)
{
    td_graph  *g = x->graph;
    int64_t    in = td_dim(x, -1), rows = in ? td_count(x) / in : 0;
    int64_t    flat[] = { rows, in }, dims[] = { out, in }, y_dims[TD_MAX_RANK];
    td_tensor *y, *w;

    td_push(g, name);
    w = td_param(g, "weight", dims, 2, init);
    /* flattened to one product of two matrices: batched ones are slower on every backend */
    y = td_matmul(td_reshape(x, flat, 2), td_transpose(w, 0, 1)); /* [rows, out] */
    if (bias)
        y = td_add(y, td_param(g, "bias", dims, 1, td_zeros()));
    td_pop(g);
    for (int a = 0; a < x->rank; a++)
        y_dims[a] = a == x->rank - 1 ? out : x->dim[a];
    return td_reshape(y, y_dims, x->rank);
}

/* The usual projection: no bias, weights from N(0, 1/in), so that outputs have the scale of
 * inputs. */
static inline td_tensor *td_linear(const char *name, td_tensor *x, int64_t out)
{
    return td_linear_with(name, x, out, false, td_normal(1 / sqrt((double)td_dim(x, -1))));
}

/* [B, T, H E] -> [B, H, T, E]; `heads` must divide the last axis. */
static inline td_tensor *td_split_heads(td_tensor *x, int64_t heads)
{
    int64_t dims[] = { td_dim(x, 0), td_dim(x, 1), heads, heads ? td_dim(x, 2) / heads : 0 };
    return td_transpose(td_reshape(x, dims, 4), 1, 2);
}

/* The opposite: [B, H, T, E] -> [B, T, H E]. */
static inline td_tensor *td_merge_heads(td_tensor *x)
{
    int64_t dims[] = { td_dim(x, 0), td_dim(x, 2), td_dim(x, 1) * td_dim(x, 3) };
    return td_reshape(td_transpose(x, 1, 2), dims, 3);
}

#ifdef __cplusplus
}
#endif
#endif
