/* t5.c - Hugging Face's T5ForConditionalGeneration: an encoder-decoder with learned biases by
 * distance and without norms in the attention. Papers: Raffel et al. 2020; Shazeer 2020 (v1.1).
 *
 * This follows transformers' modeling_t5.py. T5 does not divide scores by the root of the width of
 * a head, so its query matrices are ours divided by that root; and it divides the logits by
 * sqrt(d_model) where the embeddings are tied, which the decoder's last norm can undo. */
#include <math.h>

#include "transformers.h"

/* Our feed-forward layers under T5's names, their activations, and whether they have a gate. */
static const struct {
    const char *ffn, *theirs, *activation;
    bool        gate;
} layers[] = {
    { "geglu", "gated-gelu", "gelu_new", true },
    { "swiglu", "gated-silu", "silu", true },
    { "relu", "relu", "relu", false },
    { "relu2", "relu2", "relu2", false },
};
enum { LAYERS = sizeof layers / sizeof *layers };

/* What the tensors depend on. `query`, `last`: the factors by which query matrices and the
 * decoder's last norm are multiplied on the way. */
struct shape {
    int64_t d_model, encoder, decoder;
    bool    gate, scale, tied;
    double  query, last;
};

/* ---- tensors --------------------------------------------------------------------------------- */

/* One layer of a stack on both sides. */
struct place {
    const char *theirs, *ours; /* "encoder", "model.encoder" */
    int64_t     layer;
};

static void put(td_translation *t, const struct place *p, int sublayer, const char *theirs,
                const char *ours, double scale)
{
    char name[200], parameter[200];
    snprintf(name, sizeof name, "%s.block.%lld.layer.%d.%s.weight", p->theirs, (long long)p->layer,
             sublayer, theirs);
    snprintf(parameter, sizeof parameter, "%s.layers.%lld.%s.weight", p->ours, (long long)p->layer,
             ours);
    td_put_tensor(t, name, parameter, scale);
}

static void put_scale(td_translation *t, const struct shape *s, const char *name,
                      const char *parameter, double factor)
{
    if (s->scale)
        td_put_tensor(t, name, parameter, factor);
    else
        td_put_filled(t, name, s->d_model, factor);
}

static void put_norm(td_translation *t, const struct shape *s, const struct place *p, int sublayer,
                     const char *ours)
{
    char name[200], parameter[200];
    snprintf(name, sizeof name, "%s.block.%lld.layer.%d.layer_norm.weight", p->theirs,
             (long long)p->layer, sublayer);
    snprintf(parameter, sizeof parameter, "%s.layers.%lld.%s.weight", p->ours, (long long)p->layer,
             ours);
    put_scale(t, s, name, parameter, 1);
}

static void put_attention(td_translation *t, const struct shape *s, const struct place *p,
                          int sublayer, const char *theirs, const char *ours)
{
    static const char *const names[][2] = {
        { "q", "q_proj" }, { "k", "k_proj" }, { "v", "v_proj" }, { "o", "o_proj" }
    };
    for (int n = 0; n < 4; n++) {
        char name[60], parameter[60];
        snprintf(name, sizeof name, "%s.%s", theirs, names[n][0]);
        snprintf(parameter, sizeof parameter, "%s.%s", ours, names[n][1]);
        put(t, p, sublayer, name, parameter, n ? 1 : s->query);
    }
}

static void put_ffn(td_translation *t, const struct shape *s, const struct place *p, int sublayer)
{
    if (s->gate)
        put(t, p, sublayer, "DenseReluDense.wi_0", "mlp.gate_proj", 1);
    put(t, p, sublayer, s->gate ? "DenseReluDense.wi_1" : "DenseReluDense.wi", "mlp.up_proj", 1);
    put(t, p, sublayer, "DenseReluDense.wo", "mlp.down_proj", 1);
    put_norm(t, s, p, sublayer, "pre_feedforward_layernorm");
}

static void put_stack(td_translation *t, const struct shape *s, bool decoder)
{
    struct place p = { decoder ? "decoder" : "encoder", decoder ? "model.decoder" : "model.encoder",
                       0 };
    int64_t n = decoder ? s->decoder : s->encoder;
    for (; p.layer < n; p.layer++) {
        put_attention(t, s, &p, 0, "SelfAttention", "self_attn");
        put_norm(t, s, &p, 0, "pre_self_attn_layernorm");
        if (decoder) {
            put_attention(t, s, &p, 1, "EncDecAttention", "cross_attn");
            put_norm(t, s, &p, 1, "pre_cross_attn_layernorm");
        }
        put_ffn(t, s, &p, 1 + decoder);
    }
}

/* The first layer's biases serve all layers. */
static void put_tensors(td_translation *t, const struct shape *s)
{
    td_put_tensor(t, "shared.weight", "model.decoder.embed_tokens.weight", 1);
    td_put_tensor(t, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                  "model.encoder.relative_attention_bias.weight", 1);
    td_put_tensor(t, "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                  "model.decoder.relative_attention_bias.weight", 1);
    put_stack(t, s, false);
    put_stack(t, s, true);
    put_scale(t, s, "encoder.final_layer_norm.weight", "model.encoder.norm.weight", 1);
    put_scale(t, s, "decoder.final_layer_norm.weight", "model.decoder.norm.weight", s->last);
    if (!s->tied)
        td_put_tensor(t, "lm_head.weight", "lm_head.weight", 1);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void require_parts(td_translation *t)
{
    td_require(t, "model.plugin", "encoder-decoder");
    td_require(t, "model.bidirectional", "true");
    td_require(t, "model.post_norm", "false");
    td_require(t, "model.post_ffn_norm", "false");
    td_require(t, "model.attention.plugin", "softmax");
    td_require(t, "model.attention.qkv_norm", "false");
    td_require(t, "model.attention.output_norm", "false");
    td_require(t, "model.attention.window", "0");
    require_no_caps(t);
    td_require(t, "model.attention.bias", "false");
    td_require(t, "model.position.plugin", "t5-relative");
    td_require(t, "model.share_embeddings", "true");
    td_require(t, "model.norm.plugin", "rms");
    td_require(t, "model.ffn.bias", "false");
    /* no effect without norms in the attention, and with biases that depend on distances alone */
    td_ask(t, "model.attention.v_norm");
    td_ask(t, "model.attention.qk_norm_scale");
    td_ask(t, "model.attention.eps");
    td_ask(t, "model.continuous_positions");
    td_ask(t, "model.cross_positions");
}

static void write_ffn(td_translation *t, struct shape *s)
{
    const char *ffn = td_ask_text(t, "model.ffn.plugin");
    for (size_t k = 0; k < LAYERS; k++)
        if (!strcmp(layers[k].ffn, ffn)) {
            td_put_text(t, "feed_forward_proj", layers[k].theirs);
            td_put_text(t, "dense_act_fn", layers[k].activation);
            td_put_bool(t, "is_gated_act", layers[k].gate);
            s->gate = layers[k].gate;
            return;
        }
    t->refuse(t, "model.ffn.plugin is %s: it can only be geglu, swiglu, relu or relu2", ffn);
}

static void write_sizes(td_translation *t, struct shape *s)
{
    int64_t heads = td_ask_int(t, "model.attention.heads");
    int64_t kv = td_ask_int(t, "model.attention.kv_heads"),
            width = td_ask_int(t, "model.attention.head_dim");
    if (kv && kv != heads)
        t->refuse(t, "model.attention.kv_heads is %lld: it can only be model.attention.heads, %lld",
                  (long long)kv, (long long)heads);
    /* T5 does not divide scores, so its queries are smaller */
    s->d_model = td_ask_int(t, "model.d_model");
    s->encoder = ask_layers(t, "model.encoder_layers");
    s->decoder = ask_layers(t, "model.decoder_layers");
    s->query = width > 0 ? 1 / sqrt((double)width) : 1;
    td_put_int(t, "vocab_size", td_ask_int(t, "model.vocab_size"));
    td_put_int(t, "d_model", s->d_model);
    td_put_int(t, "d_kv", width);
    td_put_int(t, "d_ff", td_ask_int(t, "model.ffn.d_ff"));
    td_put_int(t, "num_heads", heads);
    td_put_int(t, "num_layers", s->encoder);
    td_put_int(t, "num_decoder_layers", s->decoder);
    td_put_int(t, "relative_attention_num_buckets", td_ask_int(t, "model.position.buckets"));
    td_put_int(t, "relative_attention_max_distance", td_ask_int(t, "model.position.max_distance"));
    td_put_int(t, "n_positions", td_ask_int(t, "train.length"));
}

static void write_model(const void *config, td_translation *t)
{
    struct shape s = { .last = 1 };
    bool         divided;
    td_put_text(t, "architectures.0", "T5ForConditionalGeneration");
    td_put_text(t, "model_type", "t5");
    td_put_bool(t, "is_encoder_decoder", true);
    require_parts(t);
    write_ffn(t, &s);
    write_sizes(t, &s);
    write_ids(t, true);
    if (begin_id(t) >= 0)
        td_put_int(t, "decoder_start_token_id", begin_id(t));
    td_put_float(t, "layer_norm_epsilon", td_ask_float(t, "model.norm.eps"));
    td_put_float(t, "dropout_rate", 0);
    s.scale = td_ask_bool(t, "model.norm.scale");
    s.tied = td_ask_bool(t, "model.tie_embeddings");
    td_put_bool(t, "tie_word_embeddings", s.tied);
    write_dtype(t);
    /* T5 divides the logits if, and only if, the embeddings are tied */
    divided = !strcmp(td_ask_text(t, "model.logit_scale"), "rsqrt");
    if (divided != s.tied && s.d_model > 0)
        s.last = divided ? 1 / sqrt((double)s.d_model) : sqrt((double)s.d_model);
    put_tensors(t, &s);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void read_ffn(td_translation *t, struct shape *s)
{
    const char *theirs = td_has(t, "feed_forward_proj") ? td_ask_text(t, "feed_forward_proj")
                                                        : "relu";
    for (size_t k = 0; k < LAYERS; k++) {
        if (strcmp(layers[k].theirs, theirs))
            continue;
        td_put_text(t, "model.ffn.plugin", layers[k].ffn);
        s->gate = layers[k].gate;
        if (td_has(t, "dense_act_fn"))
            td_require(t, "dense_act_fn", layers[k].activation);
        if (td_has(t, "is_gated_act"))
            td_require(t, "is_gated_act", s->gate ? "true" : "false");
        return;
    }
    t->refuse(t, "feed_forward_proj is %s: gated-gelu, gated-silu, relu and relu2 can be read",
              theirs);
}

static void read_sizes(td_translation *t, struct shape *s)
{
    int64_t width = td_ask_int(t, "d_kv"), heads = td_ask_int(t, "num_heads");
    s->d_model = td_ask_int(t, "d_model");
    s->encoder = ask_layers(t, "num_layers");
    s->decoder = td_has(t, "num_decoder_layers") ? ask_layers(t, "num_decoder_layers") : s->encoder;
    s->query = width > 0 ? sqrt((double)width) : 1;
    td_put_int(t, "model.vocab_size", td_ask_int(t, "vocab_size"));
    td_put_int(t, "model.d_model", s->d_model);
    td_put_int(t, "model.encoder_layers", s->encoder);
    td_put_int(t, "model.decoder_layers", s->decoder);
    td_put_int(t, "model.attention.heads", heads);
    td_put_int(t, "model.attention.head_dim", width);
    td_put_int(t, "model.ffn.d_ff", td_ask_int(t, "d_ff"));
    td_put_int(t, "model.position.buckets", td_ask_int_or(t, "relative_attention_num_buckets", 32));
    td_put_int(t, "model.position.max_distance",
               td_ask_int_or(t, "relative_attention_max_distance", 128));
    td_put_int(t, "train.length", td_ask_int_or(t, "n_positions", 512));
}

/* transformers 5 writes that the embeddings are tied even where the file has two tables, as v1.1
 * does; whether the logits are divided has become a setting of its own. */
static void read_logits(td_translation *t, struct shape *s)
{
    bool said = td_ask_bool_or(t, "tie_word_embeddings", true);
    s->tied = td_ask_bool_or(t, "scale_decoder_outputs", said);
    td_put_bool(t, "model.tie_embeddings", s->tied);
    td_put_text(t, "model.logit_scale", s->tied ? "rsqrt" : "none");
}

/* Settings of generation for the paper's tasks, which the configs of the first models have. */
static void ignore_tasks(td_translation *t)
{
    static const char *const tasks[] = { "summarization", "translation_en_to_de",
                                         "translation_en_to_fr", "translation_en_to_ro" };
    static const char *const settings[] = { "early_stopping", "length_penalty",       "max_length",
                                            "min_length",     "no_repeat_ngram_size", "num_beams",
                                            "prefix" };
    char                     path[100];
    for (size_t k = 0; k < sizeof tasks / sizeof *tasks; k++)
        for (size_t n = 0; n < sizeof settings / sizeof *settings; n++) {
            snprintf(path, sizeof path, "task_specific_params.%s.%s", tasks[k], settings[n]);
            t->ask(t, path);
        }
}

static void read_model(const void *config, td_translation *t)
{
    static const char *const idle[] = { "dropout_rate", "initializer_factor", "classifier_dropout",
                                        "output_past", "n_positions" };
    struct shape             s = { .scale = true, .last = 1 };
    int64_t                  pad = td_ask_int_or(t, "pad_token_id", 0);
    /* asked for because a setting that nobody asks for is refused: these do not change what a trained
     * model computes */
    for (size_t k = 0; k < sizeof idle / sizeof *idle; k++)
        t->ask(t, idle[k]);
    td_put_text(t, "model.plugin", "encoder-decoder");
    td_put_text(t, "model.attention.plugin", "softmax");
    td_put_bool(t, "model.attention.qkv_norm", false);
    td_put_text(t, "model.position.plugin", "t5-relative");
    td_put_text(t, "model.norm.plugin", "rms");
    td_put_float(t, "model.norm.eps", td_ask_float_or(t, "layer_norm_epsilon", 1e-6));
    td_put_text(t, "loss.plugin", "prefix-lm");
    read_start(t, td_ask_int_or(t, "decoder_start_token_id", pad), pad,
               td_ask_int_or(t, "bos_token_id", -1));
    read_ffn(t, &s);
    read_sizes(t, &s);
    read_logits(t, &s);
    ignore_idle(t);
    ignore_labels(t);
    ignore_tasks(t);
    put_tensors(t, &s);
}

static const char *const types[] = { "t5", NULL };

static const td_format format = {
    .plugin =
        TD_PLUGIN(td_format, TD_FORMAT_KIND, "t5", NULL, char,
                  .brief = "Hugging Face's T5, also v1.1: encoder-decoder, position t5-relative",
                  .paper = "Raffel et al., Exploring the Limits of Transfer Learning, 2020"),
    .model_types = types,
    .write = write_model,
    .read = read_model,
};

TD_MODULE("t5", "1.0", "tandem", "MIT", &format.plugin)
