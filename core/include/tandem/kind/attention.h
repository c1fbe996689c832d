/* kind/attention.h - attention: each query reads the tokens that its mask shows. Stateless.
 *
 * An architecture builds one attention per sublayer. In self-attention `query` and `key` are the
 * same [B, T, D]; in cross-attention `key` is the encoder's output; a MERGED attention reads both
 * at once, and the decoder then has no separate cross sublayer (T5Gemma 2). Output: [B, T, D],
 * without the residual connection.
 *
 * A query may depend only on keys that in->mask shows; otherwise a token would read the future,
 * padding, or another example of its row. td_attend_with handles this, as well as positional bias,
 * dropout and the mask's indices: call it unless your weights are not a softmax, and then take the
 * mask as a tensor (td_mask_visible of td_remember_mask). td_rotate applies a rotating scheme.
 * td_remember makes generation work: pass whatever later tokens read through it, usually keys and
 * values, right before using it. In training it returns its argument. A recurrence keeps its state
 * with td_carry (generation.h) instead, and an attention that can do neither sets .whole = true,
 * which is slow but correct.
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

/* The tokens that an attention can read: its own stack's, an encoder's, or both in one softmax. */
enum { TD_ATTENTION_SELF = 1, TD_ATTENTION_CROSS = 2, TD_ATTENTION_MERGED = 4 };

/* One sublayer, as the architecture hands it over: B rows, T queries, S keys. */
typedef struct td_attention_in {
    td_tensor        *query;                   /* [B, T, D] */
    td_tensor        *key;                     /* [B, S, D]; `query` itself in self-attention */
    td_tensor        *q_position, *k_position; /* i32 [B, T], [B, S] */
    td_mask           mask;                    /* which of the S keys each query sees (ops.h) */
    /* MERGED only: the encoder's output [B, M, D], read in addition to `key`; else NULL */
    td_tensor        *memory;
    td_tensor        *memory_position; /* i32 [B, M] */
    td_mask           memory_mask;     /* which of the M tokens each query sees */
    td_role           role;
    const char       *stack;    /* the scope of the stack, for tables that its layers share */
    td_part           position; /* the positional scheme; td_rotate and td_attend_with call it */
    bool              rotated;  /* false: td_rotate does nothing (model.cross_positions = false) */
    const td_dropout *dropout;
    int64_t           layer; /* its number in the stack, from 1; 0: not given */
} td_attention_in;

typedef struct td_attention {
    td_plugin plugin;
    uint64_t  roles; /* TD_ATTENTION_SELF | .. */
    bool      whole; /* cannot work step by step: generation recomputes the whole prefix */
    /* Emit the sublayer; parameters are named in the current scope ("self_attn"). [build] */
    td_tensor *(*build)(const void *config, const td_attention_in *in);
    /* The width of one head, which the positional scheme may refuse. NULL: it is not checked.
     * [main] */
    int64_t (*head_dim)(const void *config);
} td_attention;

/* Queries or keys x [B, H, T, E], rotated by their positions if the scheme rotates, else x itself.
 * Call it before td_remember, so that a key is rotated once. [build] */
static inline td_tensor *td_rotate(const td_attention_in *in, td_tensor *x, bool is_query)
{
    td_rotate_in r = { x, is_query ? in->q_position : in->k_position, in->role, is_query };
    td_tensor   *y;
    if (!in->rotated || !td_position_of(&in->position)->rotate)
        return x;
    td_hook_begin(x->graph, in->position.plugin, "rotate");
    y = td_position_of(&in->position)->rotate(in->position.config, &r);
    td_hook_end(x->graph);
    return td_hook_result(x->graph, in->position.plugin, "rotate", y);
}

/* ---- generation ------------------------------------------------------------------------------
 *
 * A token's key and value do not change while text is generated, so they are computed once and
 * remembered. In a decoder's self-attention the keys of new tokens are appended to earlier ones; in
 * cross-attention the first pass keeps the encoder's; an encoder reads all its tokens in one pass
 * and keeps nothing. In training td_remember is the identity.
 *
 * td_remember returns buffers, of which only the first td_key_length slots hold keys.
 * td_attend_with reads only these; an attention that computes its own scores must ignore the others
 * itself.
 */

/* Whether keys of `in` outlive a pass. */
static inline bool td_keeps_keys(const td_attention_in *in)
{
    return td_is_generating(in->query->graph) && in->role != TD_ROLE_ENCODER;
}

static inline td_tensor *td_remember_along(const td_attention_in *in, const char *name,
                                           td_tensor *x, int axis)
{
    if (!td_keeps_keys(in))
        return x;
    return in->role == TD_ROLE_CROSS
               ? td_remember_axis(name, x, axis, 0, TD_REMEMBER_KEEP)
               : td_remember_axis(name, x, axis, in->mask.window, TD_REMEMBER_APPEND);
}

/* Remember heads x [B, H, S, E] of `key`, and return the heads of all keys: [B, H, slots, E]. */
static inline td_tensor *td_remember(const td_attention_in *in, const char *name, td_tensor *x)
{
    return td_remember_along(in, name, x, -2);
}

/* The same for heads that a MERGED attention computes from `memory`. */
static inline td_tensor *td_remember_memory(const char *name, td_tensor *x)
{
    return td_remember_axis(name, x, -2, 0, TD_REMEMBER_KEEP);
}

/* Per-token integers of the keys, i32 [B, S], extended to all keys that td_remember returns; NULL
 * stays NULL. */
static inline td_tensor *td_remember_tokens(const td_attention_in *in, const char *name,
                                            td_tensor *x)
{
    return x ? td_remember_along(in, name, x, -1) : x;
}

/* The number of slots that an encoder's tokens fill, i32 [B]: up to the last that is not
 * padding. x [B, S, ..]; segments i32 [B, S], NULL: no padding. */
static inline td_tensor *td_source_length(td_tensor *x, td_tensor *segment)
{
    td_graph  *g = x->graph;
    int64_t    rows = td_dim(x, 0), tokens = td_dim(x, 1);
    td_tensor *n = td_full(g, TD_I32, &rows, 1, (double)tokens);
    if (segment) {
        td_tensor *padding = td_equal(segment, td_full(g, TD_I32, 0, 0, 0));
        td_tensor *place = td_affine(td_iota(g, TD_I32, tokens), 1, 1);
        n = td_reshape(td_max(td_mul(td_affine(padding, -1, 1), place), 1), &rows, 1);
    }
    return td_remember_axis("source_length", n, 0, 0, TD_REMEMBER_WHOLE);
}

/* The number of keys in the buffers after this pass, i32 [B]: td_mask.k_length. A ring never holds
 * more keys than it has slots, even if this number is larger. NULL where all keys are present: in
 * training and in encoders. */
static inline td_tensor *td_key_length(const td_attention_in *in)
{
    td_graph *g = in->query->graph;
    int64_t   rows = td_dim(in->query, 0);
    if (!td_keeps_keys(in))
        return 0;
    if (in->role == TD_ROLE_CROSS)
        return td_source_length(in->key, in->mask.k_segment);
    return td_add(td_cache_lengths(g, rows), td_cache_counts(g, rows));
}

/* The mask over all keys that td_remember returns. */
static inline td_mask td_remember_mask(const td_attention_in *in)
{
    td_mask m = in->mask;
    /* without an index from the architecture, positions continue from pass to pass */
    if (td_keeps_keys(in) && in->role == TD_ROLE_DECODER && (!m.q_index || !m.k_index)) {
        int64_t    column[] = { td_dim(in->query, 0), 1 }, line[] = { 1, td_dim(in->query, 1) };
        td_tensor *place = td_reshape(td_iota(in->query->graph, TD_I32, line[1]), line, 2);
        td_tensor *length = td_cache_lengths(in->query->graph, column[0]);
        m.q_index = m.k_index = td_add(td_reshape(length, column, 2), place);
    }
    m.k_segment = td_remember_tokens(in, "k_segment", m.k_segment);
    m.k_input = td_remember_tokens(in, "k_input", m.k_input);
    m.k_index = td_remember_tokens(in, "k_index", m.k_index);
    m.k_length = m.k_length ? m.k_length : td_key_length(in);
    return m;
}

/* ---- attending ------------------------------------------------------------------------------- */

/* The fused attention of q with all keys that are remembered, under in's mask and positional bias;
 * a cap above 0 bounds scores before the bias (td_attend_capped). It includes attention dropout:
 * rows of v are dropped for all queries at once, and with grouped heads for a whole group,
 * regardless of train.dropout_shared. */
static inline td_tensor *td_attend_capped_with(const td_attention_in *in, td_tensor *q,
                                               td_tensor *k, td_tensor *v, int64_t heads,
                                               double scale, double cap)
{
    const td_position *p = td_position_of(&in->position);
    td_tensor         *k_position = td_remember_tokens(in, "k_position", in->k_position);
    td_mask            mask = td_remember_mask(in);
    td_bias_in         bi = { q->graph,     in->role,     in->stack,      heads,
                              td_dim(q, 2), td_dim(k, 2), in->q_position, k_position };
    td_bias_out        bo;

    memset(&bo, 0, sizeof bo);
    if (p->bias) {
        td_hook_begin(q->graph, in->position.plugin, "bias");
        p->bias(in->position.config, &bi, &bo);
        td_hook_end(q->graph);
    }
    if (bo.dense)
        mask.dense = mask.dense ? td_add(mask.dense, bo.dense) : bo.dense;
    /* shared over queries: a key is dropped for all of them */
    if (in->dropout && in->dropout->rate > 0) {
        /* [B, S, H, E]: an element's number does not depend on S, nor on padding */
        v = td_transpose(v, 1, 2);
        v = td_dropout_at(v, in->dropout->step, in->dropout->example, in->dropout->rate,
                          (int64_t)1 << 3, "weights");
        v = td_transpose(v, 1, 2);
    }
    return td_attend_capped(q, k, v, &mask, &bo.table, scale, cap);
}

static inline td_tensor *td_attend_with(const td_attention_in *in, td_tensor *q, td_tensor *k,
                                        td_tensor *v, int64_t heads, double scale)
{
    return td_attend_capped_with(in, q, k, v, heads, scale, 0);
}

/* Build a part in the scope `name` below the current one; for the plugin that has it as an option.
 * [build] */
static inline td_tensor *td_attention_build(const td_part *part, const char *name,
                                            const td_attention_in *in)
{
    td_tensor *y;
    td_push(in->query->graph, name);
    td_hook_begin(in->query->graph, part->plugin, "build");
    y = ((const td_attention *)(const void *)part->plugin)->build(part->config, in);
    td_hook_end(in->query->graph);
    y = td_hook_result(in->query->graph, part->plugin, "build", y);
    td_pop(in->query->graph);
    return y;
}

#ifdef __cplusplus
}
#endif
#endif
