/* sliding-window.c - softmax attention within a window. Papers: Beltagy et al. 2020; causal, with
 * grouped heads: Jiang et al. 2023 (Mistral 7B).
 *
 * A token sees itself and the window - 1 tokens before it. In an encoder, and among the given
 * tokens of a decoder that reads them bidirectionally, it also sees the window - 1 tokens after it.
 * Cross-attention sees everything, and so does every n-th layer, if that is asked for (Gemma Team
 * 2024). */
#include "heads.h"

struct sliding_window {
    struct heads heads;
    int64_t      window, full_every;
};

HEADS_FIRST(struct sliding_window, heads);

static const td_option options[] = {
    HEADS_SIZES,
    TD_OPTION_INT(struct sliding_window, window, 4096, 1, 1 << 30,
                  "tokens that self-attention looks back over, including the current one; in an "
                  "encoder, it looks as many ahead"),
    TD_OPTION_INT(
        struct sliding_window, full_every, 0, 0, 4096,
        "every n-th layer of a stack, counting from 1, has no window; 0: all layers have one"),
    HEADS_QKV_NORM,
    HEADS_OUTPUT_NORM,
    HEADS_BIAS_AND_EPS,
    HEADS_SCORE_CAP,
    TD_OPTION_END
};

/* A mask's window bounds the past and its causality the future. With key indices shifted back by
 * w - 1 the two together say |i - j| < w:
 *     j - (w-1) <= i  and  i - (j - (w-1)) < 2w - 1
 * `self` lets padding see its own key by index. The shift moves that key away, so `self` is
 * dropped: padding sees nothing. */
static void see_both_sides(const struct sliding_window *c, const td_attention_in *in, td_mask *m)
{
    int64_t queries = td_dim(in->query, 1), keys = td_dim(in->key, 1), ahead = c->window - 1;
    m->q_index = m->q_index ? m->q_index : count_from(in->query, queries, 0);
    m->k_index = m->k_index ? td_affine(m->k_index, 1, -(double)ahead)
                            : count_from(in->key, keys, -(double)ahead);
    m->causal = true;
    m->self = false;
    m->window = narrower(2 * ahead + 1, m->window > 0 ? m->window + ahead : 0);
}

static td_tensor *along(td_tensor *x, bool keys) /* [B, T] -> [B, 1, T, 1] or [B, 1, 1, T] */
{
    int64_t dims[] = { td_dim(x, 0), 1, keys ? 1 : td_dim(x, 1), keys ? td_dim(x, 1) : 1 };
    return td_reshape(x, dims, 4);
}

/* The mask rule lets given tokens see each other however far ahead. It cannot bound that, so a
 * dense mask hides keys beyond the window. [B, 1, T, S] */
static td_tensor *hide_far_inputs(const struct sliding_window *c, const td_attention_in *in)
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

/* True if no key can be beyond the window, so that those ahead need no mask: all keys of this pass
 * are within it, and those of earlier passes are not ahead. */
static bool reaches_all(const struct sliding_window *c, const td_attention_in *in)
{
    return td_dim(in->key, 1) <= c->window;
}

/* Given tokens arrive in the first pass only (TD_ARCHITECTURE_WHOLE_PROMPT). */
static bool has_inputs(const td_attention_in *in)
{
    td_graph *g = in->query->graph;
    return in->mask.q_input && g->host->phase(g) != TD_PHASE_STEP;
}

static bool is_full(const struct sliding_window *c, const td_attention_in *in)
{
    return in->role == TD_ROLE_CROSS || (c->full_every && in->layer % c->full_every == 0);
}

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct sliding_window *c = config;
    const struct heads          *h = &c->heads;
    td_attention_in              seen = *in;
    struct qkv                   x = heads_of(h, in->query, in->key);
    bool                         causal = !is_full(c, in) && in->mask.causal;
    bool                         both = !is_full(c, in) && !in->mask.causal;

    if (c->full_every && in->layer < 1)
        return td_graph_fail(x.q->graph, "attention 'sliding-window' with full_every needs each "
                                         "layer's number, which this architecture does not "
                                         "give: set full_every = 0");
    /* the window is set before remember_heads, which sizes the cache by it */
    if (causal)
        seen.mask.window = narrower(in->mask.window, c->window);
    if (causal && has_inputs(in) && !reaches_all(c, in)) {
        td_tensor *far = hide_far_inputs(c, &seen);
        seen.mask.dense = in->mask.dense ? td_add(in->mask.dense, far) : far;
    }
    rotate_heads(in, &x);
    remember_heads(&seen, &x);
    if (both && !reaches_all(c, in))
        see_both_sides(c, in, &seen.mask);
    return heads_out(h, in, heads_attend(h, &seen, &x));
}

static int check(const void *config, td_error *error)
{
    const struct sliding_window *c = config;
    if (c->full_every == 1)
        return td_fail(error, TD_ECONFIG,
                       "full_every = 1 leaves no layer with a window: use attention 'softmax'");
    return heads_check(config, error);
}

static const td_attention sliding_window = {
    .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "sliding-window", options,
                        struct sliding_window,
                        .brief = "softmax attention within a window, on both sides in an encoder",
                        .doc = "In 'decoder-biattn', sequences longer than the window need a dense "
                               "mask, [B, T, T], which hides given tokens beyond the window from "
                               "each other.",
                        .paper = "Beltagy et al., Longformer, 2020", .check = check),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
    .build = build,
    .head_dim = heads_dim,
};

TD_MODULE("sliding-window", "1.0", "tandem", "MIT", &sliding_window.plugin)
