/* ffn.h - shared by the feed-forward plugins in this folder: their options and two bodies, gated
 * and plain. A plugin adds the activation. */
#ifndef TANDEM_PLUGINS_FFN_H
#define TANDEM_PLUGINS_FFN_H

#include "tandem/kind/ffn.h"

struct ffn {
    int64_t d_ff;
    bool    bias;
};

static const td_option ffn_options[] = {
    TD_OPTION_NEED_INT(struct ffn, d_ff, 1, 1 << 24, "width of the inner layer"),
    TD_OPTION_BOOL(struct ffn, bias, false, "biases in the linear layers"), TD_OPTION_END
};

/* Weights start from a truncated normal distribution of variance 1/fan_in, as in T5X;
 * attention's are not truncated. */
static inline td_tensor *ffn_linear(const struct ffn *c, const char *name, td_tensor *x,
                                    int64_t out)
{
    return td_linear_with(name, x, out, c->bias, td_truncated(1 / sqrt((double)td_dim(x, -1))));
}

/* h Wd, with dropout on h. */
static inline td_tensor *ffn_down(const struct ffn *c, const td_ffn_in *in, td_tensor *h)
{
    return ffn_linear(c, "down_proj", td_drop(h, in->dropout, "inside", 1), td_dim(in->x, -1));
}

/* (f(x Wg) * (x Wu)) Wd, three matrices: for an equal number of parameters, d_ff is two thirds
 * of a plain layer's. */
static inline td_tensor *ffn_gated(const struct ffn *c, const td_ffn_in *in, td_activation f)
{
    td_tensor *gate = ffn_linear(c, "gate_proj", in->x, c->d_ff),
              *up = ffn_linear(c, "up_proj", in->x, c->d_ff);
    return ffn_down(c, in, td_glu(gate, up, f));
}

/* f(x Wu) Wd */
static inline td_tensor *ffn_plain(const struct ffn *c, const td_ffn_in *in, td_activation f)
{
    return ffn_down(c, in, td_activate(ffn_linear(c, "up_proj", in->x, c->d_ff), f));
}

#endif
