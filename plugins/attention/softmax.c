/* softmax.c - multi-head softmax attention. Papers: Vaswani et al. 2017; grouped heads: Ainslie et
 * al. 2023. */
#include "heads.h"

static const td_option options[] = {
    HEADS_SIZES,
    TD_OPTION_INT(struct heads, window, 0, 0, 1 << 30,
                  "self-attention sees only so many tokens back; 0: all"),
    HEADS_QKV_NORM,
    HEADS_OUTPUT_NORM,
    HEADS_BIAS_AND_EPS,
    TD_OPTION_END
};

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct heads *c = config;
    td_attention_in     seen = *in;
    struct qkv          x = heads_of(c, in->query, in->key);

    if (in->role != TD_ROLE_CROSS)
        seen.mask.window = c->window;
    rotate_heads(in, &x);
    remember_heads(&seen, &x);
    return heads_out(c, in, td_attend_with(&seen, x.q, x.k, x.v, c->heads, heads_scale(c)));
}

static const td_attention softmax = {
    .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "softmax", options, struct heads,
                        .brief = "multi-head softmax attention, grouped heads and norms optional",
                        .paper = "Vaswani et al., Attention Is All You Need, 2017",
                        .check = heads_check),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
    .build = build,
    .head_dim = heads_dim,
};

TD_MODULE("softmax", "1.0", "tandem", "MIT", &softmax.plugin)
