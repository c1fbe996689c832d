/* merged.c - one softmax over a decoder's own tokens and the encoder's: self- and cross-attention
 * merged. Paper: Zhang et al. 2025 (T5Gemma 2).
 *
 * One set of projections serves both, so a decoder layer has no cross-attention sublayer. In an
 * encoder and in decoder-only models it is plain softmax attention. Among the keys, the encoder's
 * tokens follow the decoder's own. They are rotated by their positions, as in this project's
 * cross-attention, or not at all, as in the paper's models. A scheme that biases scores biases
 * those of the decoder's own tokens only. */
#include "heads.h"

struct merged {
    struct heads heads;
    bool         memory_positions;
};

HEADS_FIRST(struct merged, heads);

static const td_option options[] = {
    HEADS_SIZES,
    TD_OPTION_BOOL(struct merged, memory_positions, true,
                   "rotate the keys of the encoder's tokens too; T5Gemma 2 does not"),
    HEADS_QKV_NORM,
    HEADS_OUTPUT_NORM,
    HEADS_BIAS_AND_EPS,
    TD_OPTION_END
};

/* A key position so far ahead of every query that the lookup is clamped to a table's last entry. */
#define FAR_AHEAD (1 << 28)

static td_tensor *join(td_tensor *own, td_tensor *memory, int axis)
{
    return td_concat((td_tensor *[]){ own, memory }, 2, axis);
}

static td_tensor *all_of(const td_tensor *like, int64_t length, double value)
{
    int64_t dims[] = { td_dim(like, 0), length };
    return td_full(like->graph, TD_I32, dims, 2, value);
}

/* One mask rule for both. An encoder's token gets index -1, before all others, so that causality
 * always shows it and only its segment can hide it. */
static td_mask both_masks(const td_attention_in *in, int64_t own, int64_t memory)
{
    td_mask    m = in->mask;
    td_tensor *of_own = m.k_segment, *of_memory = in->memory_mask.k_segment;

    if (of_own || of_memory) {
        m.q_segment = m.q_segment ? m.q_segment : in->memory_mask.q_segment;
        m.k_segment = join(of_own ? of_own : all_of(in->query, own, 1),
                           of_memory ? of_memory : all_of(in->query, memory, 1), 1);
    }
    if (m.k_input)
        m.k_input = join(m.k_input, all_of(in->query, memory, 0), 1);
    m.q_index = m.q_index ? m.q_index : count_from(in->query, td_dim(in->query, 1), 0);
    m.k_index = m.k_index ? m.k_index : count_from(in->query, own, 0);
    m.k_index = join(m.k_index, all_of(in->query, memory, -1), 1);
    /* padded with 0: a dense mask says nothing about the encoder's tokens */
    m.dense = m.dense ? td_pad(m.dense, 3, 0, memory) : m.dense;
    return m;
}

/* The scheme's bias on the decoder's own tokens, 0 on the encoder's. A table is given one more
 * entry, a 0, which the encoder's tokens read from FAR_AHEAD. */
static td_bias own_bias(const td_attention_in *in, const struct qkv *x, int64_t memory, td_mask *m)
{
    const td_position *p = td_position_of(&in->position);
    int64_t            heads = td_dim(x->q, 1), own = td_dim(x->k, 2);
    int64_t            column[] = { heads, 1 };
    td_bias_in         bi = { x->q->graph,     in->role, in->stack,      heads,
                              td_dim(x->q, 2), own,      in->q_position, in->k_position };
    td_bias_out        bo;

    memset(&bo, 0, sizeof bo);
    if (p->bias) {
        td_hook_begin(x->q->graph, in->position.plugin, "bias");
        p->bias(in->position.config, &bi, &bo);
        td_hook_end(x->q->graph);
    }
    /* dense or a table: either is extended by zeros over the encoder's tokens */
    if (bo.dense) {
        bo.dense = td_pad(bo.dense, 3, 0, memory);
        m->dense = m->dense ? td_add(m->dense, bo.dense) : bo.dense;
    }
    if (bo.table.table) {
        bo.table.table = join(bo.table.table, td_full(x->q->graph, TD_REAL, column, 2, 0), 1);
        bo.table.k_position = join(bo.table.k_position, all_of(in->query, memory, FAR_AHEAD), 1);
    }
    return bo.table;
}

/* Keys and values of the encoder's tokens, by the same weights as those of the decoder's own
 * tokens: the names are those that heads_of used. */
static struct qkv memory_of(const struct merged *m, const td_attention_in *in)
{
    const struct heads *c = &m->heads;
    int64_t             kv = kv_heads_of(c);
    td_attention_in     there = *in; /* with the positions of the encoder's tokens */
    struct qkv          x = { 0 };

    there.k_position = in->memory_position;
    there.rotated = in->rotated && m->memory_positions;
    x.k = td_split_heads(project(c, "k_proj", in->memory, kv * c->head_dim), kv);
    x.v = td_split_heads(project(c, "v_proj", in->memory, kv * c->head_dim), kv);
    x.k = td_rotate(&there, norm_keys(c, x.k), false);
    x.v = norm_values(c, x.v);
    return x;
}

/* Training: one attend over the joined keys. */
static td_tensor *attend_both(const struct merged *c, const td_attention_in *in, struct qkv x)
{
    int64_t    memory = td_dim(in->memory, 1), own = td_dim(x.k, 2);
    td_mask    mask = both_masks(in, own, memory);
    td_bias    bias = own_bias(in, &x, memory, &mask);
    struct qkv y = memory_of(c, in);

    return td_attend(x.q, join(x.k, y.k, 2),
                     join(drop_values(in, x.v, "weights"), drop_values(in, y.v, "memory_weights"),
                          2),
                     &mask, &bias, heads_scale(&c->heads));
}

/* ---- generation ------------------------------------------------------------------------------ */

/* Below any logsumexp. Finite: the difference of two -inf would be NaN. */
#define NOTHING_SEEN -1e30

/* The logsumexp of an attend's scores, [B, H, T, 1]. */
static td_tensor *log_weight(td_tensor *o)
{
    int64_t dims[] = { td_dim(o, 0), td_dim(o, 1), td_dim(o, 2), 1 };
    return td_maximum(td_reshape(td_output(o, 1), dims, 4), td_scalar(o->graph, NOTHING_SEEN));
}

/* The softmax over two sets of keys from the softmax over each: a mean weighted by their sums of
 * exponentials, (e^a o + e^b p) / (e^a + e^b). */
static td_tensor *combine(td_tensor *o, td_tensor *p)
{
    td_tensor *a = log_weight(o), *b = log_weight(p), *top = td_maximum(a, b);

    /* relative to the larger, so that neither overflows and they cannot both be 0 */
    a = td_exp(td_sub(a, top));
    b = td_exp(td_sub(b, top));
    return td_div(td_add(td_mul(o, a), td_mul(p, b)), td_add(a, b));
}

/* Both sources stay in their buffers: joining them would copy every key in every step. */
static td_tensor *attend_each(const struct merged *c, const td_attention_in *in, struct qkv x)
{
    const struct heads *h = &c->heads;
    struct qkv          y = memory_of(c, in);
    td_mask             m = in->memory_mask;

    m.k_length = td_source_length(in->memory, m.k_segment);
    if (m.k_segment)
        m.k_segment = td_remember_axis("memory_segment", m.k_segment, -1, 0, TD_REMEMBER_KEEP);
    y.k = td_remember_memory("memory_k", y.k);
    y.v = td_remember_memory("memory_v", y.v);
    remember_heads(in, &x);
    return combine(td_attend_with(in, x.q, x.k, x.v, h->heads, heads_scale(h)),
                   td_attend(x.q, y.k, y.v, &m, NULL, heads_scale(h)));
}

/* ---- building -------------------------------------------------------------------------------- */

static td_tensor *attend(const struct merged *c, const td_attention_in *in, struct qkv x)
{
    const struct heads *h = &c->heads;

    /* a window would count from an encoder's token as from one of the decoder's own */
    if (in->memory && in->mask.window > 0)
        return td_graph_fail(x.q->graph, "attention 'merged' does not support windows over an "
                                         "encoder's output");
    /* only a decoder that reads an encoder has a memory */
    if (in->memory)
        return td_keeps_keys(in) ? attend_each(c, in, x) : attend_both(c, in, x);
    remember_heads(in, &x);
    return td_attend_with(in, x.q, x.k, x.v, h->heads, heads_scale(h));
}

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct merged *c = config;
    struct qkv           x = heads_of(&c->heads, in->query, in->key);

    rotate_heads(in, &x);
    return heads_out(&c->heads, in, attend(c, in, x));
}

static const td_attention merged = {
    .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "merged", options, struct merged,
                        .brief = "one softmax over a decoder's own tokens and the encoder's",
                        .paper = "Zhang et al., T5Gemma 2, 2025", .check = heads_check),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_MERGED,
    .build = build,
    .head_dim = heads_dim,
};

TD_MODULE("merged", "1.0", "tandem", "MIT", &merged.plugin)
