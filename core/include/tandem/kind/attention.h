/* kind/attention.h - attention: queries and the tokens they read, to [B, T, D]. Stateless.
 *
 * The body of a plugin reads:
 *
 *     td_tensor *q = td_split_heads(td_linear("q_proj", in->query, c->heads * c->head_dim), c->heads);   [B, H, T, E]
 *     td_tensor *k = td_split_heads(td_linear("k_proj", in->key, c->heads * c->head_dim), c->heads);
 *     td_tensor *v = td_split_heads(td_linear("v_proj", in->key, c->heads * c->head_dim), c->heads);
 *     q = td_rotate(in, q, true), k = td_rotate(in, k, false);
 *     k = td_remember(in, "k", k), v = td_remember(in, "v", v);
 *     o = td_attend_with(in, q, k, v, c->heads, 1 / sqrt((double)c->head_dim));
 *     return td_linear("o_proj", td_merge_heads(o), td_dim(in->query, -1));
 */
#ifndef TANDEM_KIND_ATTENTION_H
#define TANDEM_KIND_ATTENTION_H

#include "dropout.h"
#include "position.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_ATTENTION_KIND "attention/1"

enum { TD_ATTENTION_SELF = 1, TD_ATTENTION_CROSS = 2, TD_ATTENTION_MERGED = 4 };

typedef struct td_attention_in {
    td_tensor        *query;                   /* [B, T, D] */
    td_tensor        *key;                     /* [B, S, D]: the same tensor in self-attention */
    td_tensor        *q_position, *k_position; /* i32 [B, T], [B, S] */
    td_mask           mask;                    /* over (T, S) */
    /* MERGED: the encoder's output [B, M, D], read beside `key` */
    td_tensor        *memory;
    td_tensor        *memory_position; /* i32 [B, M] */
    td_mask           memory_mask;     /* over (T, M) */
    td_role           role;
    const char       *stack;    /* parameter scope of the stack: "model.decoder" */
    td_part           position; /* the positional scheme */
    bool              rotated;  /* false: no rotation here (model option cross_positions = false) */
    const td_dropout *dropout;
} td_attention_in;

typedef struct td_attention {
    td_plugin plugin;
    uint64_t  roles; /* TD_ATTENTION_SELF | ... */
    bool      whole; /* cannot go step by step: generation runs it on the whole prefix */
    /* Parameters in the current scope. [build] */
    td_tensor *(*build)(const void *config, const td_attention_in *in);
    /* Width of one head, for td_position.check_head; NULL: no heads. [main] */
    int64_t (*head_dim)(const void *config);
} td_attention;

/* Queries or keys x [B, H, T, E] with their positions in, if the scheme rotates. */
static inline td_tensor *td_rotate(const td_attention_in *in, td_tensor *x, bool is_query)
{
    td_rotate_in r = { x, is_query ? in->q_position : in->k_position, in->role, is_query };
    if (!in->rotated || !td_position_of(&in->position)->rotate)
        return x;
    return td_given(x->graph, in->position.plugin, "rotate",
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

static inline td_tensor *td_attention_build(const td_part *part, const char *name,
                                            const td_attention_in *in)
{
    td_tensor *y;
    td_push(in->query->graph, name);
    y = ((const td_attention *)(const void *)part->plugin)->build(part->config, in);
    y = td_given(in->query->graph, part->plugin, "build", y);
    td_pop(in->query->graph);
    return y;
}

#ifdef __cplusplus
}
#endif
#endif
