/* ffn-@NAME@.c - a gated feed-forward layer: (f(x Wg) * (x Wu)) Wd.
 * Paper: Shazeer, GLU Variants Improve Transformer, 2020.
 *
 * The contract: tandem/kind/ffn.h. */
#include "tandem/kind/ffn.h"

struct @IDENT@_config {
    int64_t d_ff, activation;
    bool    bias;
};

/* In the order of td_activation (tandem/ops.h); ends with NULL. */
static const char *const activations[] = { "silu", "gelu", "relu", "relu2", "sigmoid", NULL };

static const td_option options[] = {
    TD_OPTION_INT(struct @IDENT@_config, d_ff, 256, 1, 1 << 24, "width of the hidden layer"),
    TD_OPTION_CHOICE(struct @IDENT@_config, activation, TD_SILU, activations,
                     "activation f of the gate"),
    TD_OPTION_BOOL(struct @IDENT@_config, bias, false, "biases in the linear layers"), TD_OPTION_END
};

/* Weights start as a truncated normal of variance 1/fan_in, so that the output has the variance of
 * the input. */
static td_tensor *linear(const struct @IDENT@_config *c, const char *name, td_tensor *x, int64_t out)
{
    return td_linear_with(name, x, out, c->bias, td_truncated(1 / sqrt((double)td_dim(x, -1))));
}

/* [build]: x [B, T, D] to [B, T, D]; parameters are named within the current scope. A token may
 * depend only on itself; in->segment is 0 for padding, in case you count tokens. Dropout inside the
 * layer is td_drop, which does nothing outside training; what surrounds the layer (norm, residual)
 * is the architecture's. */
static td_tensor *build(const void *config, const td_ffn_in *in)
{
    const struct @IDENT@_config *c = config;
    td_tensor                *gate = linear(c, "gate_proj", in->x, c->d_ff); /* [B, T, F] */
    td_tensor                *up = linear(c, "up_proj", in->x, c->d_ff);
    td_tensor                *inside = td_glu(gate, up, (td_activation)c->activation);
    /* "inside" names this dropout's random stream within the layer; axis 1 is time */
    inside = td_drop(inside, in->dropout, "inside", 1);
    return linear(c, "down_proj", inside, td_dim(in->x, -1));
}

static const td_ffn @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_ffn, TD_FFN_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "gated feed-forward layer with a choice of activations",
                        .paper = "Shazeer, GLU Variants Improve Transformer, 2020"),
    .build = build,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
