/* kind/position.h - a positional scheme: up to three hooks, each optional. Stateless.
 *
 * A scheme tells a model where tokens are. It acts in one of three places: `embed` adds to the
 * input embeddings (learned, sinusoidal), `rotate` rotates queries and keys (RoPE, xPos), `bias`
 * adds to attention scores (ALiBi, T5, FIRE). The architecture calls `embed` once; attentions call
 * the other two through td_rotate and td_attend_with (kind/attention.h), once per layer. A hook
 * left NULL does nothing, and a plugin without hooks is NoPE.
 *
 * Positions are tensors, i32 [B, T], since packing, padding and generation all shift them; never
 * assume 0, 1, .. A bias should be a table by distance: the fused attention reads it without
 * building a [Tq, Tk] matrix. A dense bias works everywhere too, in O(Tq Tk) memory.
 *
 * Example:
 *
 *     // Scores fall by |distance| / 8 in every head: a constant table [H, 2 reach + 1].
 *     static void bias(const void *config, const td_bias_in *in, td_bias_out *out)
 *     {
 *         int64_t    reach = (in->q_length > in->k_length ? in->q_length : in->k_length) - 1;
 *         int64_t    row[] = { 1, 2 * reach + 1 }, all[] = { in->heads, 2 * reach + 1 };
 *         td_tensor *distance = td_affine(td_iota(in->graph, TD_REAL, row[1]), 1, -(double)reach);
 *         (void)config;
 *         if (in->role == TD_ROLE_CROSS) // positions of two stacks have no distance
 *             return;
 *         out->table.table = td_expand(td_reshape(td_scale(td_abs(distance), -0.125), row, 2),
 *                                      all);
 *         out->table.q_position = in->q_position;
 *         out->table.k_position = in->k_position;
 *         out->table.offset = reach;
 *     }
 *
 *     static const td_position fading = {
 *         .plugin = TD_PLUGIN(td_position, TD_POSITION_KIND, "fading", NULL, char,
 *                             .brief = "scores fall with distance, alike in all heads"),
 *         .bias = bias,
 *     };
 */
#ifndef TANDEM_KIND_POSITION_H
#define TANDEM_KIND_POSITION_H

#include "../layers.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_POSITION_KIND "position/1"

/* The attention that calls. Schemes may treat attentions differently (T5: both directions in an
 * encoder). */
typedef enum td_role { TD_ROLE_ENCODER, TD_ROLE_DECODER, TD_ROLE_CROSS } td_role;

/* The queries or the keys of one attention. */
typedef struct td_rotate_in {
    td_tensor *x;        /* [B, H, T, E] */
    td_tensor *position; /* i32 [B, T] */
    td_role    role;
    bool       is_query; /* xPos scales queries and keys inversely */
} td_rotate_in;

/* The scores of one attention. */
typedef struct td_bias_in {
    td_graph   *graph;
    td_role     role;
    const char *stack; /* scope of the stack, for tables that its layers share (td_push_shared) */
    int64_t     heads;
    int64_t     q_length, k_length;      /* Tq, Tk */
    td_tensor  *q_position, *k_position; /* i32 [B, T] */
} td_bias_in;

/* The result of `bias`: a table, or a dense tensor, or neither. */
typedef struct td_bias_out {
    td_bias    table; /* by distance: the fast way (ops.h) */
    td_tensor *dense; /* real [B|1, H|1, Tq, Tk], added to the scores: slow, for anything else */
} td_bias_out;

typedef struct td_position {
    td_plugin plugin;
    /* Return the embeddings x [B, T, D] with positions added. The scope is the model's. [build] */
    td_tensor *(*embed)(const void *config, td_tensor *x, td_tensor *position);
    /* Return in->x rotated. The scope is the attention's. [build] */
    td_tensor *(*rotate)(const void *config, const td_rotate_in *in);
    /* Fill in a bias on the scores; `out` is zeroed before the call, which means no bias.
     * [build] */
    void (*bias)(const void *config, const td_bias_in *in, td_bias_out *out);
    /* Refuse a head width that the scheme cannot handle: RoPE needs an even one. Called when the
     * config is checked, with the attention's head_dim. NULL: any width will do. [main] */
    int (*check_head)(const void *config, int64_t head_dim, td_error *error);
    /* Refuse sequences with positions 0 .. positions - 1 if they are too long: a learned table has
     * an end. NULL: any length will do. [main] */
    int (*check_positions)(const void *config, int64_t positions, td_error *error);
    /* Its parameters mean something else in an encoder than in a decoder, so neither is made from
     * the other's parameters. */
    bool by_role;
} td_position;

/* The positional scheme that a part names. */
static inline const td_position *td_position_of(const td_part *part)
{
    return (const td_position *)(const void *)part->plugin;
}

#ifdef __cplusplus
}
#endif
#endif
