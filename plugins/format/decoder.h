/* decoder.h - shared by the formats for Hugging Face's decoder-only models: one config, with small
 * differences, and tensors whose names are also ours.
 *
 * The settings are named as in transformers; its modeling_llama.py and modeling_qwen3.py define
 * what they compute. */
#ifndef TANDEM_PLUGINS_FORMAT_DECODER_H
#define TANDEM_PLUGINS_FORMAT_DECODER_H

#include "parts.h"

/* How the two formats differ. */
struct dialect {
    const char *type, *architecture; /* "llama", "LlamaForCausalLM" */
    bool        qk_norm;             /* queries and keys are normalized, with a learnable scale */
    bool        mlp_bias;            /* the feed-forward layer can have biases */
    bool        heads_divide;        /* the width is a multiple of the heads */
    bool        windows;             /* it has use_sliding_window, which is off unless set */
    int64_t     head_dim; /* if config.json lacks it; 0: the width divided by the heads */
};

/* ---- tensors --------------------------------------------------------------------------------- */

/* A tensor of layer k, which is our parameter of the same name. */
static void put_in_layer(td_translation *t, int64_t k, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "model.layers.%lld.%s", (long long)k, name);
    td_put_tensor(t, path, path, 1);
}

static void put_linear(td_translation *t, int64_t k, const char *name, bool bias)
{
    char path[120];
    snprintf(path, sizeof path, "%s.weight", name);
    put_in_layer(t, k, path);
    snprintf(path, sizeof path, "%s.bias", name);
    if (bias)
        put_in_layer(t, k, path);
}

/* The shape of a model, as far as its tensors depend on it. */
struct shape {
    int64_t d_model, head_dim, layers;
    bool    tied, bias, mlp_bias;
    bool    qk_scale; /* the norms of queries and keys have scales of their own */
    bool    scale;    /* the other norms do */
    double  last;     /* factor of the last norm, which stands for the logits' */
};

/* A norm's scale: the parameter times `factor`, or that factor alone. */
static void put_norm(td_translation *t, const char *name, bool has, int64_t width, double factor)
{
    if (has)
        td_put_tensor(t, name, name, factor);
    else
        td_put_filled(t, name, width, factor);
}

static void put_layer_norms(td_translation *t, const struct dialect *d, const struct shape *s,
                            int64_t k)
{
    static const char *const names[] = { "input_layernorm", "post_attention_layernorm",
                                         "self_attn.q_norm", "self_attn.k_norm" };
    for (int n = 0; n < (d->qk_norm ? 4 : 2); n++) {
        char path[160];
        bool head = n >= 2;
        snprintf(path, sizeof path, "model.layers.%lld.%s.weight", (long long)k, names[n]);
        put_norm(t, path, head ? s->qk_scale : s->scale, head ? s->head_dim : s->d_model, 1);
    }
}

static void put_layer(td_translation *t, const struct dialect *d, const struct shape *s, int64_t k)
{
    static const char *const attention[] = { "self_attn.q_proj", "self_attn.k_proj",
                                             "self_attn.v_proj", "self_attn.o_proj" };
    static const char *const ffn[] = { "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj" };
    for (int n = 0; n < 4; n++)
        put_linear(t, k, attention[n], s->bias);
    for (int n = 0; n < 3; n++)
        put_linear(t, k, ffn[n], s->mlp_bias);
    put_layer_norms(t, d, s, k);
}

static void put_tensors(td_translation *t, const struct dialect *d, const struct shape *s)
{
    td_put_tensor(t, "model.embed_tokens.weight", "model.embed_tokens.weight", 1);
    for (int64_t k = 0; k < s->layers; k++)
        put_layer(t, d, s, k);
    put_norm(t, "model.norm.weight", s->scale, s->d_model, s->last);
    if (!s->tied)
        td_put_tensor(t, "lm_head.weight", "lm_head.weight", 1);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void require_decoder(td_translation *t)
{
    td_require(t, "model.plugin", "decoder-only");
    td_require(t, "model.post_norm", "false");
    td_require(t, "model.post_ffn_norm", "false");
    td_require(t, "model.attention.plugin", "softmax");
    td_require(t, "model.attention.window", "0");
    require_no_caps(t);
    td_require(t, "model.attention.output_norm", "false");
    td_require(t, "model.norm.plugin", "rms");
}

/* These formats have one eps for all norms; without norms in the attention, the attention's eps
 * does not matter. */
static void write_norms(td_translation *t, const struct dialect *d)
{
    const td_format_value *eps = td_ask(t, "model.norm.eps"),
                          *own = td_ask(t, "model.attention.eps");
    td_require(t, "model.attention.qkv_norm", d->qk_norm ? "true" : "false");
    if (d->qk_norm)
        td_require(t, "model.attention.v_norm", "false");
    if (d->qk_norm && eps && own && eps->number != own->number)
        t->refuse(t, "model.attention.eps is %s: it can only be model.norm.eps, %s", own->text,
                  eps->text);
    td_ask(t, "model.attention.v_norm");
    td_put_float(t, "rms_norm_eps", eps ? eps->number : 0);
}

static void write_sizes(td_translation *t, const struct dialect *d, struct shape *s)
{
    int64_t heads = td_ask_int(t, "model.attention.heads");
    int64_t kv = td_ask_int(t, "model.attention.kv_heads");
    s->d_model = td_ask_int(t, "model.d_model");
    s->head_dim = td_ask_int(t, "model.attention.head_dim");
    s->layers = ask_layers(t, "model.layers");
    td_put_int(t, "vocab_size", td_ask_int(t, "model.vocab_size"));
    td_put_int(t, "hidden_size", s->d_model);
    td_put_int(t, "intermediate_size", td_ask_int(t, "model.ffn.d_ff"));
    td_put_int(t, "num_hidden_layers", s->layers);
    td_put_int(t, "num_attention_heads", heads);
    td_put_int(t, "num_key_value_heads", kv ? kv : heads);
    /* the config class requires it, although nothing depends on it */
    if (d->heads_divide && heads > 0 && s->d_model % heads)
        t->refuse(t,
                  "model.attention.heads is %lld: it can only be a divisor of model.d_model, %lld",
                  (long long)heads, (long long)s->d_model);
    td_put_int(t, "head_dim", s->head_dim);
    write_length(t);
}

static void write_biases(td_translation *t, const struct dialect *d, struct shape *s)
{
    s->bias = td_ask_bool(t, "model.attention.bias");
    td_put_bool(t, "attention_bias", s->bias);
    if (!d->mlp_bias)
        td_require(t, "model.ffn.bias", "false");
    s->mlp_bias = td_ask_bool(t, "model.ffn.bias");
    if (d->mlp_bias)
        td_put_bool(t, "mlp_bias", s->mlp_bias);
}

static void write_decoder(const struct dialect *d, td_translation *t)
{
    struct shape s = { .last = 1 };
    td_put_text(t, "architectures.0", d->architecture);
    td_put_text(t, "model_type", d->type);
    require_decoder(t);
    write_norms(t, d);
    write_activation(t, "hidden_act");
    write_rope(t);
    write_sizes(t, d, &s);
    write_biases(t, d, &s);
    write_ids(t, false);
    s.qk_scale = td_ask_bool(t, "model.attention.qk_norm_scale");
    s.scale = td_ask_bool(t, "model.norm.scale");
    s.tied = td_ask_bool(t, "model.tie_embeddings");
    td_put_bool(t, "tie_word_embeddings", s.tied);
    td_put_float(t, "attention_dropout", 0);
    write_dtype(t);
    /* these formats have no scale for the logits, but the last norm can apply it */
    if (!strcmp(td_ask_text(t, "model.logit_scale"), "rsqrt") && s.d_model > 0)
        s.last = 1 / sqrt((double)s.d_model);
    put_tensors(t, d, &s);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* No window: Qwen3 has a switch, which configs of other classes can have, too. Without the switch,
 * a width may be meant for all layers, although Llama's class ignores it, so such a config is
 * refused. */
static void require_no_window(td_translation *t, const struct dialect *d)
{
    bool off = td_has(t, "use_sliding_window") || d->windows;
    if (td_ask_bool_or(t, "use_sliding_window", false))
        t->refuse(t, "use_sliding_window is true: it can only be false");
    if (td_has(t, "sliding_window") && !off)
        t->refuse(t, "sliding_window is %s: it can only be null", td_ask_text(t, "sliding_window"));
    t->ask(t, "max_window_layers"); /* these belong to windows that are off */
}

/* All layers attend to everything. */
static void require_full_attention(td_translation *t, const struct dialect *d, int64_t layers)
{
    char path[60];
    for (int64_t k = 0; k < layers; k++) {
        snprintf(path, sizeof path, "layer_types.%lld", (long long)k);
        if (td_has(t, path))
            td_require(t, path, "full_attention");
    }
    require_no_window(t, d);
}

static void read_sizes(td_translation *t, const struct dialect *d, struct shape *s)
{
    int64_t heads = td_ask_int(t, "num_attention_heads");
    s->d_model = td_ask_int(t, "hidden_size");
    s->layers = ask_layers(t, "num_hidden_layers");
    s->head_dim = td_ask_int_or(t, "head_dim",
                                d->head_dim ? d->head_dim
                                : heads > 0 ? s->d_model / heads
                                            : 0);
    td_put_int(t, "model.vocab_size", td_ask_int(t, "vocab_size"));
    td_put_int(t, "model.d_model", s->d_model);
    td_put_int(t, "model.layers", s->layers);
    td_put_int(t, "model.attention.heads", heads);
    td_put_int(t, "model.attention.kv_heads", td_ask_int_or(t, "num_key_value_heads", heads));
    td_put_int(t, "model.attention.head_dim", s->head_dim);
    td_put_int(t, "model.ffn.d_ff", td_ask_int(t, "intermediate_size"));
    td_put_int(t, "train.length", td_ask_int_or(t, "max_position_embeddings", 2048));
}

static void read_norms(td_translation *t, const struct dialect *d)
{
    double eps = td_ask_float_or(t, "rms_norm_eps", 1e-6);
    td_put_text(t, "model.norm.plugin", "rms");
    td_put_float(t, "model.norm.eps", eps);
    td_put_bool(t, "model.attention.qkv_norm", d->qk_norm);
    if (!d->qk_norm)
        return;
    td_put_bool(t, "model.attention.v_norm", false);
    td_put_bool(t, "model.attention.qk_norm_scale", true);
    td_put_float(t, "model.attention.eps", eps);
}

static void read_biases(td_translation *t, const struct dialect *d, struct shape *s)
{
    s->bias = td_ask_bool_or(t, "attention_bias", false);
    s->mlp_bias = d->mlp_bias && td_ask_bool_or(t, "mlp_bias", false);
    td_put_bool(t, "model.attention.bias", s->bias);
    td_put_bool(t, "model.ffn.bias", s->mlp_bias);
}

static void read_decoder(const struct dialect *d, td_translation *t)
{
    struct shape s = { .scale = true, .qk_scale = true, .last = 1 };
    td_put_text(t, "model.plugin", "decoder-only");
    td_put_text(t, "model.logit_scale", "none");
    td_put_text(t, "model.attention.plugin", "softmax");
    read_activation(t, "hidden_act");
    read_sizes(t, d, &s);
    read_norms(t, d);
    read_rope(t);
    read_biases(t, d, &s);
    require_full_attention(t, d, s.layers);
    s.tied = td_ask_bool_or(t, "tie_word_embeddings", false);
    td_put_bool(t, "model.tie_embeddings", s.tied);
    td_put_text(t, "loss.plugin", "causal-lm");
    ignore_idle(t);
    ignore_labels(t);
    put_tensors(t, d, &s);
}

#endif
