/* softmax.c - multi-head softmax attention. Papers: Vaswani et al. 2017; grouped heads: Ainslie et
 * al. 2023. */
#include "heads.h"

struct softmax {
    struct heads heads;
    int64_t      window;
};

HEADS_FIRST(struct softmax, heads);

static const td_option options[] = {
    HEADS_SIZES,
    TD_OPTION_INT(struct softmax, window, 0, 0, 1 << 30,
                  "tokens that self-attention looks back over, including the current one; 0: all"),
    HEADS_QKV_NORM,
    HEADS_OUTPUT_NORM,
    HEADS_BIAS_AND_EPS,
    HEADS_SCORE_CAP,
    TD_OPTION_END
};

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct softmax *c = config;
    const struct heads   *h = &c->heads;
    td_attention_in       seen = *in;
    struct qkv            x = heads_of(h, in->query, in->key);

    /* a window counts tokens back from the query; a decoder's query has no place in the
     * encoder's sequence to count from */
    if (in->role != TD_ROLE_CROSS)
        seen.mask.window = narrower(in->mask.window, c->window);
    rotate_heads(in, &x);
    remember_heads(&seen, &x);
    return heads_out(h, in, heads_attend(h, &seen, &x));
}

static const td_attention softmax = {
    .plugin =
        TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "softmax", options, struct softmax,
                  .brief = "multi-head softmax attention, with optional grouped heads and norms",
                  .paper = "Vaswani et al., Attention Is All You Need, 2017", .check = heads_check),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
    .build = build,
    .head_dim = heads_dim,
};

TD_MODULE("softmax", "1.0", "tandem", "MIT", &softmax.plugin)
