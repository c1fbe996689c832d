/* sliding-window.c - softmax attention within a window. Papers: Beltagy et al. 2020; causal, with
 * grouped heads: Jiang et al. 2023 (Mistral 7B).
 *
 * A token sees itself and the window - 1 tokens before it; an encoder's, and the given tokens of a
 * decoder in which they see each other, also the window - 1 after it. Cross-attention sees all. */
#include "heads.h"

static const td_option options[] = {
    HEADS_SIZES,
    TD_OPTION_INT(struct heads, window, 4096, 1, 1 << 30,
                  "self-attention sees so many tokens back, itself included; in an encoder as many "
                  "ahead"),
    HEADS_QKV_NORM,
    HEADS_OUTPUT_NORM,
    HEADS_BIAS_AND_EPS,
    TD_OPTION_END
};

/* The mask's window bounds the past only, its causality the future. With key indices moved back by
 * w - 1 both say |i - j| < w:
 *     j - (w-1) <= i  and  i - (j - (w-1)) < 2w - 1
 * Padding, whose own key is no longer at its index, sees nothing. */
static void see_both_sides(const struct heads *c, const td_attention_in *in, td_mask *m)
{
    int64_t queries = td_dim(in->query, 1), keys = td_dim(in->key, 1), ahead = c->window - 1;
    m->q_index = m->q_index ? m->q_index : count_from(in->query, queries, 0);
    m->k_index = m->k_index ? td_affine(m->k_index, 1, -(double)ahead)
                            : count_from(in->key, keys, -(double)ahead);
    m->causal = true;
    m->self = false;
    m->window = 2 * ahead + 1;
}

static td_tensor *along(td_tensor *x, bool keys) /* [B, T] -> [B, 1, T, 1] or [B, 1, 1, T] */
{
    int64_t dims[] = { td_dim(x, 0), 1, keys ? 1 : td_dim(x, 1), keys ? td_dim(x, 1) : 1 };
    return td_reshape(x, dims, 4);
}

/* Given tokens see each other however far ahead, says the rule: hide what is beyond the window,
 * densely. [B, 1, T, S] */
static td_tensor *hide_far_inputs(const struct heads *c, const td_attention_in *in)
{
    td_graph  *g = in->query->graph;
    td_tensor *qi = in->mask.q_index ? in->mask.q_index
                                     : count_from(in->query, td_dim(in->query, 1), 0);
    td_tensor *ki = in->mask.k_index ? in->mask.k_index
                                     : count_from(in->key, td_dim(in->key, 1), 0);
    td_tensor *near;

    ki = td_remember_tokens(in, "k_index", ki);
    near = td_less(td_sub(along(ki, true), along(qi, false)),
                   td_full(g, TD_I32, 0, 0, (double)c->window));
    return td_where(near, td_scalar(g, 0), td_scalar(g, -INFINITY));
}

/* No key is beyond the window, so nothing need be done about those ahead: all keys of this pass are
 * within it, and those of earlier passes are not ahead. */
static bool reaches_all(const struct heads *c, const td_attention_in *in)
{
    return td_dim(in->key, 1) <= c->window;
}

/* Given tokens come in the first pass alone (TD_ARCHITECTURE_WHOLE_PROMPT). */
static bool has_inputs(const td_attention_in *in)
{
    td_graph *g = in->query->graph;
    return in->mask.q_input && g->host->phase(g) != TD_PHASE_STEP;
}

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct heads *c = config;
    td_attention_in     seen = *in;
    struct qkv          x = heads_of(c, in->query, in->key);
    bool                causal = in->role != TD_ROLE_CROSS && in->mask.causal;
    bool                both = in->role != TD_ROLE_CROSS && !in->mask.causal;

    if (causal)
        seen.mask.window = c->window;
    if (causal && has_inputs(in) && !reaches_all(c, in)) {
        td_tensor *far = hide_far_inputs(c, &seen);
        seen.mask.dense = in->mask.dense ? td_add(in->mask.dense, far) : far;
    }
    rotate_heads(in, &x);
    remember_heads(&seen, &x);
    if (both && !reaches_all(c, in))
        see_both_sides(c, in, &seen.mask);
    return heads_out(c, in, td_attend_with(&seen, x.q, x.k, x.v, c->heads, heads_scale(c)));
}

static const td_attention sliding_window = {
    .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "sliding-window", options, struct heads,
                        .brief = "softmax attention within a window, on both sides in an encoder",
                        .doc = "In 'decoder-biattn' a dense mask, [B, T, T], hides given tokens "
                               "ahead of the window from given tokens, where sequences are longer "
                               "than it.",
                        .paper = "Beltagy et al., Longformer, 2020", .check = heads_check),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
    .build = build,
    .head_dim = heads_dim,
};

TD_MODULE("sliding-window", "1.0", "tandem", "MIT", &sliding_window.plugin)
