/* kind/attention.h - attention: each query reads tokens that its mask shows. Stateless.
 *
 * An architecture builds one attention per sublayer. In self-attention `query` and `key` are the
 * same [B, T, D]; in cross-attention `key` is the encoder's output; a MERGED attention reads both
 * at once, and the decoder then has no separate cross sublayer (T5Gemma 2). Output: [B, T, D],
 * without the residual connection.
 *
 * A query may depend only on keys that in->mask shows, or a token reads the future, padding, or
 * another example of its row. td_attend_with takes care of it, and of positional bias, dropout and
 * the mask's indices: call it unless your scores are not a softmax. td_rotate applies a rotating
 * scheme. td_remember makes generation work: pass through it whatever later tokens read, keys and
 * values as a rule, right before it is used. In training it returns its argument. A recurrence
 * keeps its state with td_carry (layers.h) instead, and an attention that can do neither sets
 * .whole = true, which is slow and still right.
 *
 * Example:
 *
 *     // Plain multi-head attention; H heads of width E.
 *     struct plain {
 *         int64_t heads, head_dim;
 *     };
 *
 *     static const td_option options[] = {
 *         TD_OPTION_INT(struct plain, heads, 8, 1, 4096, "attention heads"),
 *         TD_OPTION_INT(struct plain, head_dim, 64, 1, 4096, "width of one head"), TD_OPTION_END
 *     };
 *
 *     static td_tensor *build(const void *config, const td_attention_in *in)
 *     {
 *         const struct plain *c = config;
 *         int64_t             width = c->heads * c->head_dim;
 *         // q [B, H, T, E]; k, v [B, H, S, E]
 *         td_tensor          *q = td_split_heads(td_linear("q_proj", in->query, width), c->heads);
 *         td_tensor          *k = td_split_heads(td_linear("k_proj", in->key, width), c->heads);
 *         td_tensor          *v = td_split_heads(td_linear("v_proj", in->key, width), c->heads);
 *         td_tensor          *o;
 *         q = td_rotate(in, q, true);
 *         k = td_rotate(in, k, false);
 *         k = td_remember(in, "k", k);
 *         v = td_remember(in, "v", v);
 *         o = td_attend_with(in, q, k, v, c->heads, 1 / sqrt((double)c->head_dim));
 *         return td_linear("o_proj", td_merge_heads(o), td_dim(in->query, -1));
 *     }
 *
 *     static int64_t head_dim(const void *config)
 *     {
 *         return ((const struct plain *)config)->head_dim;
 *     }
 *
 *     static const td_attention plain = {
 *         .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "plain", options, struct plain,
 *                             .brief = "multi-head attention"),
 *         .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
 *         .build = build,
 *         .head_dim = head_dim,
 *     };
 */
#ifndef TANDEM_KIND_ATTENTION_H
#define TANDEM_KIND_ATTENTION_H

#include "dropout.h"
#include "position.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_ATTENTION_KIND "attention/1"

/* What an attention can read: its own stack, an encoder, or both in one softmax. */
enum { TD_ATTENTION_SELF = 1, TD_ATTENTION_CROSS = 2, TD_ATTENTION_MERGED = 4 };

/* One sublayer, as the architecture hands it over: B rows, T queries, S keys. */
typedef struct td_attention_in {
    td_tensor        *query;                   /* [B, T, D] */
    td_tensor        *key;                     /* [B, S, D]; `query` itself in self-attention */
    td_tensor        *q_position, *k_position; /* i32 [B, T], [B, S] */
    td_mask           mask;                    /* which of the S keys each query sees (ops.h) */
    /* MERGED only: the encoder's output [B, M, D], read beside `key`; else NULL */
    td_tensor        *memory;
    td_tensor        *memory_position; /* i32 [B, M] */
    td_mask           memory_mask;     /* which of the M tokens each query sees */
    td_role           role;
    const char       *stack;    /* the scope of the stack, for tables that its layers share */
    td_part           position; /* the positional scheme; td_rotate and td_attend_with call it */
    bool              rotated;  /* false: td_rotate does nothing (model.cross_positions = false) */
    const td_dropout *dropout;
} td_attention_in;

typedef struct td_attention {
    td_plugin plugin;
    uint64_t  roles; /* TD_ATTENTION_SELF | .. */
    bool      whole; /* cannot work step by step: generation repeats the whole prefix */
    /* Emit the sublayer; parameters are named in the current scope ("self_attn"). [build] */
    td_tensor *(*build)(const void *config, const td_attention_in *in);
    /* The width of one head, which the positional scheme may refuse. NULL: the scheme is not asked.
     * [main] */
    int64_t (*head_dim)(const void *config);
} td_attention;

/* Queries or keys x [B, H, T, E], rotated by their positions if the scheme rotates, else x itself.
 * Call it before td_remember, so that a key is rotated once. [build] */
static inline td_tensor *td_rotate(const td_attention_in *in, td_tensor *x, bool is_query)
{
    td_rotate_in r = { x, is_query ? in->q_position : in->k_position, in->role, is_query };
    if (!in->rotated || !td_position_of(&in->position)->rotate)
        return x;
    return td_hook_result(x->graph, in->position.plugin, "rotate",
                          td_position_of(&in->position)->rotate(in->position.config, &r));
}

/* Keep heads x [B, H, S, E] of `key` for later steps of generation: in self-attention those of new
 * tokens are appended, the encoder's stay. In training it is x. */
static inline td_tensor *td_remember(const td_attention_in *in, const char *name, td_tensor *x)
{
    return td_remember_axis(name, x, -2, in->mask.window,
                            in->role == TD_ROLE_CROSS ? TD_REMEMBER_KEEP : TD_REMEMBER_APPEND);
}

/* The same for what a MERGED attention makes of `memory`. */
static inline td_tensor *td_remember_memory(const char *name, td_tensor *x)
{
    return td_remember_axis(name, x, -2, 0, TD_REMEMBER_KEEP);
}

/* What is known of key tokens, i32 [B, S], for all keys that td_remember gives; NULL stays NULL. */
static inline td_tensor *td_remember_tokens(const td_attention_in *in, const char *name,
                                            td_tensor *x)
{
    return x ? td_remember_axis(name, x, -1, in->mask.window,
                                in->role == TD_ROLE_CROSS ? TD_REMEMBER_KEEP : TD_REMEMBER_APPEND)
             : x;
}

/* The fused attention of q with all keys that are remembered, under in's mask and positional bias.
 * Attention dropout included: rows of v are dropped for all queries at once, and
 * with grouped heads for a whole group, whatever train.dropout_shared says. */
static inline td_tensor *td_attend_with(const td_attention_in *in, td_tensor *q, td_tensor *k,
                                        td_tensor *v, int64_t heads, double scale)
{
    const td_position *p = td_position_of(&in->position);
    td_mask            mask = in->mask;
    td_tensor         *k_position = td_remember_tokens(in, "k_position", in->k_position);
    td_bias_in         bi = { q->graph,     in->role,     in->stack,      heads,
                              td_dim(q, 2), td_dim(k, 2), in->q_position, k_position };
    td_bias_out        bo;

    mask.k_segment = td_remember_tokens(in, "k_segment", mask.k_segment);
    mask.k_input = td_remember_tokens(in, "k_input", mask.k_input);
    mask.k_index = td_remember_tokens(in, "k_index", mask.k_index);
    memset(&bo, 0, sizeof bo);
    if (p->bias)
        p->bias(in->position.config, &bi, &bo);
    if (bo.dense)
        mask.dense = mask.dense ? td_add(mask.dense, bo.dense) : bo.dense;
    /* shared over queries: a key is dropped for all of them */
    if (in->dropout && in->dropout->rate > 0) {
        /* [B, S, H, E]: an element's number does not depend on S, so not on padding */
        v = td_transpose(v, 1, 2);
        v = td_dropout_at(v, in->dropout->step, in->dropout->example, in->dropout->rate,
                          (int64_t)1 << 3, "weights");
        v = td_transpose(v, 1, 2);
    }
    return td_attend(q, k, v, &mask, &bo.table, scale);
}

/* For whoever holds the part: build it in the scope `name` below the current one. [build] */
static inline td_tensor *td_attention_build(const td_part *part, const char *name,
                                            const td_attention_in *in)
{
    td_tensor *y;
    td_push(in->query->graph, name);
    y = ((const td_attention *)(const void *)part->plugin)->build(part->config, in);
    y = td_hook_result(in->query->graph, part->plugin, "build", y);
    td_pop(in->query->graph);
    return y;
}

#ifdef __cplusplus
}
#endif
#endif
