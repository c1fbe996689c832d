/* generation.h - the memory of earlier tokens in generation: buffers that grow with the text
 * (td_remember_axis, over the op `append`) and recurrent state of a fixed size (td_carry).
 *
 * In generation a row is one text, read in passes of T new tokens: a prompt in chunks, then token
 * after token. Everything that later passes need to know about a token is kept in buffers with a
 * fixed number of slots. A row fills the first of them; the others still hold what an earlier text
 * left. So a reader of a buffer must know how many tokens it holds: attention has td_mask.k_length
 * for this. In training these functions leave the graph as it is, so one `build` serves both. All
 * of them are [build].
 *
 * kind/attention.h has shorter forms for attentions, which supply the axis, window and source.
 *
 * Example:
 *
 *     // A running sum of x [B, T, D] over all tokens of a text so far, one new token a pass.
 *     static td_tensor *sum_so_far(td_tensor *x)
 *     {
 *         int64_t    dims[] = { td_dim(x, 0), td_dim(x, 2) };
 *         td_tensor *sum = td_carry(x->graph, "sum", dims, 2);
 *         td_tensor *now = td_add(sum, td_reshape(td_sum(x, 1), dims, 2));
 *         td_carry_on(sum, now);
 *         return now;
 *     }
 */
#ifndef TANDEM_GENERATION_H
#define TANDEM_GENERATION_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Keep x for later passes and return all that was kept along `time_axis`, this pass included: the
 * buffer itself, [.., slots, ..] for x [.., T, ..] (-2: of heads [B, H, T, E]). Axis 0 is the
 * batch. With `window` > 0 only the last tokens are needed, and the buffer is a ring: token i is in
 * slot i modulo their number. Remembering a tensor again under the same name, in another layer,
 * returns the first buffer. In training this returns x. */
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

/* Recurrent state [dims], as td_carry_on left it in the previous pass; zeros at the start of a
 * text, and always in training. Its first axis is the batch. Padding must not change it: see
 * td_new_tokens. */
static inline td_tensor *td_carry(td_graph *g, const char *name, const int64_t *dims, int rank)
{
    return g->host->carry(g, name, dims, rank);
}

/* Leave `value` for the next pass, in the state that td_carry returned. Does nothing in
 * training. */
static inline void td_carry_on(td_tensor *state, td_tensor *value)
{
    state->graph->host->carry_on(state, value);
}

/* ---- the op ---------------------------------------------------------------------------------- */

/* The inputs of "append". */
enum { TD_APPEND_BUFFER, TD_APPEND_NEW, TD_APPEND_LENGTHS, TD_APPEND_COUNTS, TD_APPEND_INPUTS };

/* Append new tokens to those that each row of a buffer holds, in place. `axis` is the axis of the
 * tokens, in buffer [B, .., slots, ..] and x [B, .., T, ..]. Token t of row b, if t < counts[b], is
 * written to slot lengths[b] + t, in a ring modulo the number of slots; the rest of x is padding
 * and is not written. lengths and counts are i32 [B]. Like td_assign, returns the buffer, which is
 * a state.
 *
 * A kernel fails with TD_ERANGE, and writes nothing, if the tokens of a row do not fit. The
 * lowering cannot detect that; it also writes the whole buffer where a kernel writes only T slots.
 * "append": i[0] axis, i[1] 1: a ring */
static inline td_tensor *td_append(td_tensor *buffer, td_tensor *x, td_tensor *lengths,
                                   td_tensor *counts, int axis, bool ring)
{
    td_attrs   a;
    td_tensor *in[TD_APPEND_INPUTS] = { buffer, x, lengths, counts };
    memset(&a, 0, sizeof a);
    a.i[0] = td_axis_(buffer, axis);
    a.i[1] = ring;
    return td_emit_("append", in, TD_APPEND_INPUTS, &a);
}

#ifdef __cplusplus
}
#endif
#endif
