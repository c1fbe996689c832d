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

/* Segments of the encoder's tokens: fixed once the prompt has been read. */
static td_tensor *keep_tokens(const char *name, td_tensor *x)
{
    return x ? td_remember_axis(name, x, -1, 0, TD_REMEMBER_KEEP) : x;
}

/* One mask rule for both. An encoder's token gets index -1, before all others, so that causality
 * always shows it and only its segment can hide it. */
static td_mask both_masks(const td_attention_in *in, int64_t own, int64_t memory)
{
    td_mask    m = in->mask;
    td_tensor *of_own = td_remember_tokens(in, "k_segment", m.k_segment),
              *of_memory = keep_tokens("memory_segment", in->memory_mask.k_segment);

    if (of_own || of_memory) {
        m.q_segment = m.q_segment ? m.q_segment : in->memory_mask.q_segment;
        m.k_segment = join(of_own ? of_own : all_of(in->query, own, 1),
                           of_memory ? of_memory : all_of(in->query, memory, 1), 1);
    }
    if (m.k_input)
        m.k_input = join(td_remember_tokens(in, "k_input", m.k_input), all_of(in->query, memory, 0),
                         1);
    m.q_index = m.q_index ? m.q_index : count_from(in->query, td_dim(in->query, 1), 0);
    m.k_index = m.k_index ? td_remember_tokens(in, "k_index", m.k_index)
                          : count_from(in->query, own, 0);
    m.k_index = join(m.k_index, all_of(in->query, memory, -1), 1);
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
    td_tensor         *position = td_remember_tokens(in, "k_position", in->k_position);
    td_bias_in         bi = { x->q->graph,     in->role, in->stack,      heads,
                              td_dim(x->q, 2), own,      in->q_position, position };
    td_bias_out        bo;

    memset(&bo, 0, sizeof bo);
    if (p->bias)
        p->bias(in->position.config, &bi, &bo);
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

static td_tensor *attend_both(const struct merged *config, const td_attention_in *in, struct qkv x)
{
    const struct heads *c = &config->heads;

    int64_t         kv = kv_heads_of(c), memory = td_dim(in->memory, 1), own = td_dim(x.k, 2);
    td_attention_in there = *in; /* where the encoder's tokens stand */
    td_mask         m = both_masks(in, own, memory);
    td_bias         bias = own_bias(in, &x, memory, &m);
    td_tensor      *k, *v;

    there.k_position = in->memory_position;
    there.rotated = in->rotated && config->memory_positions;
    /* the same weights as for own tokens: the names are those that heads_of used */
    k = td_split_heads(project(c, "k_proj", in->memory, kv * c->head_dim), kv);
    v = td_split_heads(project(c, "v_proj", in->memory, kv * c->head_dim), kv);
    k = td_remember_memory("memory_k", td_rotate(&there, norm_keys(c, k), false));
    v = td_remember_memory("memory_v", norm_values(c, v));
    return td_attend(x.q, join(x.k, k, 2),
                     join(drop_values(in, x.v, "weights"), drop_values(in, v, "memory_weights"), 2),
                     &m, &bias, heads_scale(c));
}

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct heads *c = config;
    struct qkv          x = heads_of(c, in->query, in->key);

    rotate_heads(in, &x);
    remember_heads(in, &x);
    /* only a decoder that reads an encoder has a memory */
    return heads_out(c, in,
                     in->memory ? attend_both(config, in, x)
                                : td_attend_with(in, x.q, x.k, x.v, c->heads, heads_scale(c)));
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
