/* layers.h - what models are written in: linear layers, heads, memory. All of it is ops.h, with
 * names.
 *
 * A linear layer's weight is [out, in] and y = x W^T, under the names that Hugging Face users know
 * (model.layers.0.self_attn.q_proj.weight).
 */
#ifndef TANDEM_LAYERS_H
#define TANDEM_LAYERS_H

#include <math.h>

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

/* ---- generation ------------------------------------------------------------------------------
 *
 * A row is one text, read in passes of T new tokens. What later passes need of a token is kept in
 * buffers of a fixed number of slots, of which a row's first ones are filled; behind them lies what
 * an earlier text left. So whoever reads a buffer must know how many tokens it holds: attention has
 * td_mask.k_length for it.
 */

/* Keep x for later passes and give all that is kept of it along `time_axis`, this pass included:
 * the buffer itself, [.., slots, ..] for x [.., T, ..] (-2: of heads [B, H, T, E]). Axis 0 is the
 * batch. With `window` > 0 only the last tokens are needed, and the buffer is a ring: token i is in
 * slot i modulo their number. A tensor that is remembered again under the same name, by another
 * layer, gives the first buffer. In training it is x. */
static inline td_tensor *td_remember_axis(const char *name, td_tensor *x, int time_axis,
                                          int64_t window, td_remember_mode mode)
{
    return x->graph->host->remember(x, name, td_axis_(x, time_axis), window, mode);
}

/* In generation, for a batch of `rows`: tokens that each row held before this pass, and how many of
 * its new ones are real; the rest is padding. i32 [B]. */
static inline td_tensor *td_cache_lengths(td_graph *g, int64_t rows)
{
    return td_input(g, "cache_lengths", TD_I32, &rows, 1);
}
static inline td_tensor *td_cache_counts(td_graph *g, int64_t rows)
{
    return td_input(g, "cache_counts", TD_I32, &rows, 1);
}

/* In generation, 1 for the real ones among T new tokens and 0 for padding: i32 [B, T]. */
static inline td_tensor *td_new_tokens(td_graph *g, int64_t rows, int64_t tokens)
{
    int64_t line[] = { 1, tokens }, column[] = { rows, 1 };
    return td_less(td_reshape(td_iota(g, TD_I32, tokens), line, 2),
                   td_reshape(td_cache_counts(g, rows), column, 2));
}

/* Recurrent state [dims], as td_carry_on left it in the pass before; zeros for a text that begins,
 * and always in training. Its first axis is the batch. Padding must not change it: see
 * td_new_tokens. */
static inline td_tensor *td_carry(td_graph *g, const char *name, const int64_t *dims, int rank)
{
    return g->host->carry(g, name, dims, rank);
}

/* Leave `value` for the next pass, in the state that td_carry returned; in training nothing. */
static inline void td_carry_on(td_tensor *state, td_tensor *value)
{
    state->graph->host->carry_on(state, value);
}

#ifdef __cplusplus
}
#endif
#endif
