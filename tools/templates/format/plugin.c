/* format-@NAME@.c - decoder-only models with the names of an imaginary program.
 *
 * The contract: tandem/kind/format.h. */
#include <stdio.h>

#include "tandem/kind/format.h"

/* Settings that the other program has under another name. */
static const struct {
    const char *theirs, *ours;
} sizes[] = {
    { "n_vocab", "model.vocab_size" },
    { "width", "model.d_model" },
    { "depth", "model.layers" },
    { "n_heads", "model.attention.heads" },
    { "head", "model.attention.head_dim" },
    { "n_kv", "model.attention.kv_heads" },
    { "inner", "model.ffn.d_ff" },
    { "context", "train.length" },
};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* What it computes, and cannot change. */
static const char *const fixed[][2] = {
    { "model.plugin", "decoder-only" },
    { "model.post_norm", "false" },
    { "model.post_ffn_norm", "false" },
    { "model.tie_embeddings", "true" },
    { "model.logit_scale", "rsqrt" },
    { "model.logit_cap", "0.0" },
    { "model.attention.plugin", "softmax" },
    { "model.attention.window", "0" },
    { "model.attention.qkv_norm", "true" },
    { "model.attention.v_norm", "true" },
    { "model.attention.qk_norm_scale", "false" },
    { "model.attention.output_norm", "false" },
    { "model.attention.bias", "false" },
    { "model.attention.eps", "1e-06" },
    { "model.attention.score_cap", "0.0" },
    { "model.position.plugin", "rope" },
    { "model.position.scaling", "none" },
    { "model.norm.plugin", "rms" },
    { "model.norm.eps", "1e-06" },
    { "model.norm.scale", "true" },
    { "model.ffn.plugin", "swiglu" },
    { "model.ffn.bias", "false" },
};
enum { FIXED = sizeof fixed / sizeof *fixed };

/* Options of a scaling that is off: they change nothing, whatever they are. */
static const char *const idle[] = { "model.position.factor", "model.position.original_length",
                                    "model.position.beta_fast", "model.position.beta_slow" };
enum { IDLE = sizeof idle / sizeof *idle };

/* Tensors of each layer: theirs, ours. */
static const char *const parts[][2] = {
    { "norm_1", "input_layernorm.weight" }, { "norm_2", "post_attention_layernorm.weight" },
    { "query", "self_attn.q_proj.weight" }, { "key", "self_attn.k_proj.weight" },
    { "value", "self_attn.v_proj.weight" }, { "out", "self_attn.o_proj.weight" },
    { "gate", "mlp.gate_proj.weight" },     { "up", "mlp.up_proj.weight" },
    { "down", "mlp.down_proj.weight" },
};
enum { PARTS = sizeof parts / sizeof *parts };

/* [main]: the same names in both directions; the last argument is a factor, for a program that has
 * a tensor in another scale. */
static void put_tensors(td_translation *t, int64_t layers)
{
    char theirs[80], ours[80];
    td_put_tensor(t, "embeddings", "model.embed_tokens.weight", 1);
    td_put_tensor(t, "norm", "model.norm.weight", 1);
    for (int64_t k = 0; k < layers; k++)
        for (int n = 0; n < PARTS; n++) {
            snprintf(theirs, sizeof theirs, "block_%lld.%s", (long long)k, parts[n][0]);
            snprintf(ours, sizeof ours, "model.layers.%lld.%s", (long long)k, parts[n][1]);
            td_put_tensor(t, theirs, ours, 1);
        }
}

/* [main]: refusals stick, so nothing has to be checked on the way. */
static void write_@IDENT@(const void *config, td_translation *t)
{
    (void)config; /* it has no options */
    td_put_text(t, "model_type", "@NAME@");
    for (int k = 0; k < FIXED; k++)
        td_require(t, fixed[k][0], fixed[k][1]);
    for (int k = 0; k < IDLE; k++)
        td_ask(t, idle[k]);
    for (int k = 0; k < SIZES; k++)
        td_put_int(t, sizes[k].theirs, td_ask_int(t, sizes[k].ours));
    td_put_float(t, "wavelength", td_ask_float(t, "model.position.base"));
    put_tensors(t, td_ask_int(t, "model.layers"));
}

/* [main]: config.json may be anybody's; what is missing or of another type is refused by td_ask_.. */
static void read_@IDENT@(const void *config, td_translation *t)
{
    (void)config;
    for (int k = 0; k < FIXED; k++)
        if (strcmp(fixed[k][1], "true") && strcmp(fixed[k][1], "false"))
            td_put_text(t, fixed[k][0], fixed[k][1]);
        else
            td_put_bool(t, fixed[k][0], !strcmp(fixed[k][1], "true"));
    for (int k = 0; k < SIZES; k++)
        td_put_int(t, sizes[k].ours, td_ask_int(t, sizes[k].theirs));
    td_put_float(t, "model.position.base", td_ask_float(t, "wavelength"));
    put_tensors(t, td_ask_int(t, "depth"));
}

static const char *const types[] = { "@NAME@", NULL };

static const td_format @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_format, TD_FORMAT_KIND, "@NAME@", NULL, char,
                        .brief = "decoder-only models with other names"),
    .model_types = types,
    .write = write_@IDENT@,
    .read = read_@IDENT@,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
