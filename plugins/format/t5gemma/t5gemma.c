/* t5gemma.c - Hugging Face's T5GemmaForConditionalGeneration: an encoder-decoder with norms before
 * and after every sublayer. Paper: Zhang et al. 2025 (arXiv 2504.06225).
 *
 * This follows transformers' modeling_t5gemma.py. Its config has a group of settings for each
 * stack; our stacks differ only in their numbers of layers, so the groups must agree on
 * everything else. A few things are ours under another name: norms hold what they add to 1;
 * embeddings are multiplied by sqrt(d_model) before the first layer, so ours are larger by that;
 * scores are divided by the root of a setting, not of the width of a head; and an encoder's
 * window does not count the token itself. Before transformers 5.4.0 it did: models with windows
 * are written for that version or a later one, and read as the version that saved them defines. */
#include <stdlib.h>

#include "../parts.h"
#include "t5gemma.h"

#define WINDOWS_SINCE "5.4.0"

/* ---- writing --------------------------------------------------------------------------------- */

static void require_parts(td_translation *t)
{
    const char *attention = td_ask_text(t, "model.attention.plugin");
    if (strcmp(attention, "softmax") && strcmp(attention, "sliding-window"))
        t->refuse(t, "model.attention.plugin is %s: it can only be softmax or sliding-window",
                  attention);
    td_require(t, "model.plugin", "encoder-decoder");
    td_require(t, "model.bidirectional", "true");
    td_require(t, "model.post_norm", "true");
    td_require(t, "model.post_ffn_norm", "true");
    td_require(t, "model.norm.plugin", "rms");
    td_require(t, "model.ffn.bias", "false");
    td_require(t, "model.attention.qkv_norm", "false");
    td_require(t, "model.attention.output_norm", "false");
    td_require(t, "model.cross_positions", "false");
    /* no effect without norms in the attention, and where positions matter only to self-attention,
     * which reads distances */
    td_ask(t, "model.attention.v_norm");
    td_ask(t, "model.attention.qk_norm_scale");
    td_ask(t, "model.attention.eps");
    td_ask(t, "model.continuous_positions");
}

static const char full[] = "full_attention", sliding[] = "sliding_attention";

/* The type of layer k where every n-th layer is full; 0: none is. */
static const char *type_of(int64_t every, int64_t k)
{
    return every && (k + 1) % every == 0 ? full : sliding;
}

static void put_layer_types(td_translation *t, const char *group, int64_t layers, int64_t every)
{
    char path[80];
    for (int64_t k = 0; k < layers; k++) {
        snprintf(path, sizeof path, "%s.layer_types.%lld", group, (long long)k);
        td_put_text(t, path, type_of(every, k));
    }
}

/* The class makes masks for both types of layers, and needs a width even if no layer slides. */
static void write_windows(td_translation *t, const struct shape *s)
{
    const char *plugin = td_ask_text(t, "model.attention.plugin");
    bool        slides = !strcmp(plugin, "sliding-window");
    int64_t     window = td_ask_int(t, "model.attention.window");
    int64_t     every = slides ? td_ask_int(t, "model.attention.full_every") : 1;
    if (!slides)
        td_require(t, "model.attention.window", "0");
    else if (window < 2)
        t->refuse(t, "model.attention.window is %lld: it must be at least 2", (long long)window);
    if (slides)
        td_put_text(t, "transformers_version", WINDOWS_SINCE);
    else
        window = td_ask_int(t, "train.length") + 1;
    td_put_int(t, "encoder.sliding_window", window - 1);
    td_put_int(t, "decoder.sliding_window", window);
    put_layer_types(t, "encoder", s->encoder, every);
    put_layer_types(t, "decoder", s->decoder, every);
}

/* Without null, the class would cap by default. */
static void write_cap(td_translation *t, const char *key, const char *ours)
{
    double cap = td_ask_float(t, ours);
    if (cap > 0)
        td_put_float(t, key, cap);
    else
        td_put_null(t, key);
}

/* By default, the class of transformers 4.57 uses a kernel of torch that ignores caps of scores. Later
 * ones refuse that kernel. */
static void write_kernel(td_translation *t)
{
    if (td_ask_float(t, "model.attention.score_cap") > 0)
        td_put_text(t, "_attn_implementation", "eager");
}

/* What both groups have. */
static void write_sizes(td_translation *t, const struct shape *s)
{
    int64_t heads = td_ask_int(t, "model.attention.heads"),
            kv = td_ask_int(t, "model.attention.kv_heads"),
            width = td_ask_int(t, "model.attention.head_dim");
    /* the config class requires it, although nothing depends on it */
    if (heads > 0 && s->d_model % heads)
        t->refuse(t,
                  "model.attention.heads is %lld: it can only be a divisor of model.d_model, %lld",
                  (long long)heads, (long long)s->d_model);
    td_put_text(t, "model_type", "t5_gemma_module");
    td_put_int(t, "vocab_size", td_ask_int(t, "model.vocab_size"));
    td_put_int(t, "hidden_size", s->d_model);
    td_put_int(t, "intermediate_size", td_ask_int(t, "model.ffn.d_ff"));
    td_put_int(t, "num_attention_heads", heads);
    td_put_int(t, "num_key_value_heads", kv ? kv : heads);
    td_put_int(t, "head_dim", width);
    td_put_int(t, "query_pre_attn_scalar", width);
    td_put_bool(t, "attention_bias", s->bias);
    write_cap(t, "attn_logit_softcapping", "model.attention.score_cap");
    write_cap(t, "final_logit_softcapping", "model.logit_cap");
    td_put_float(t, "rms_norm_eps", td_ask_float(t, "model.norm.eps"));
    td_put_bool(t, "tie_word_embeddings", s->tied);
    write_activation(t, "hidden_activation");
    write_rope(t);
    write_length(t);
    write_dtype(t);
}

/* A missing id must be stated as null: the class has defaults. */
static void put_ids(td_translation *t, const char *group, int64_t pad)
{
    const int64_t            ids[] = { begin_id(t), td_ask_int_or(t, "special.eos", -1), pad };
    static const char *const names[] = { "bos_token_id", "eos_token_id", "pad_token_id" };
    char                     path[80];
    for (int k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "%s%s", group, names[k]);
        if (ids[k] < 0)
            td_put_null(t, path);
        else
            td_put_int(t, path, ids[k]);
    }
}

/* The decoder takes every padding id for padding, and so would not read the first token of a text
 * that begins with it: it then gets no padding id, and asks for a mask. */
static void write_special(td_translation *t)
{
    int64_t begins = begin_id(t), pad = td_ask_int_or(t, "special.pad", -1);
    put_ids(t, "", pad);
    put_ids(t, "encoder.", pad);
    put_ids(t, "decoder.", pad == begins ? -1 : pad);
    if (begins >= 0)
        td_put_int(t, "decoder_start_token_id", begins);
}

/* Tied embeddings make the logits as they are, so ours are divided by what they have to be divided
 * by anyway; a last norm makes up for a division that is ours or theirs alone. */
static void write_logits(td_translation *t, struct shape *s)
{
    double root = s->d_model > 0 ? sqrt((double)s->d_model) : 1;
    bool   divided = !strcmp(td_ask_text(t, "model.logit_scale"), "rsqrt");
    s->tied = td_ask_bool(t, "model.tie_embeddings");
    s->shared = td_ask_bool(t, "model.share_embeddings");
    s->table = 1 / root;
    s->head = divided ? 1 / root : 1;
    s->last = s->tied && !divided ? root : 1;
}

static void write_model(const void *config, td_translation *t)
{
    struct shape  s = { .query = 1 };
    struct groups both;
    (void)config;
    begin_groups(&both, t, false);
    td_put_text(t, "architectures.0", "T5GemmaForConditionalGeneration");
    td_put_text(t, "model_type", "t5gemma");
    td_put_bool(t, "is_encoder_decoder", true);
    require_parts(t);
    s.d_model = td_ask_int(t, "model.d_model");
    s.encoder = ask_layers(t, "model.encoder_layers");
    s.decoder = ask_layers(t, "model.decoder_layers");
    s.scale = td_ask_bool(t, "model.norm.scale");
    td_put_int(t, "vocab_size", td_ask_int(t, "model.vocab_size"));
    td_put_int(t, "encoder.num_hidden_layers", s.encoder);
    td_put_int(t, "decoder.num_hidden_layers", s.decoder);
    s.bias = td_ask_bool(t, "model.attention.bias");
    write_windows(t, &s);
    write_logits(t, &s);
    td_put_bool(t, "tie_word_embeddings", s.tied);
    /* through `both`: the encoder and the decoder each have settings, and ours are for both */
    write_sizes(&both.inner, &s);
    write_kernel(t);
    write_special(t);
    td_put_float(t, "dropout_rate", 0);
    td_put_float(t, "attention_dropout", 0);
    write_dtype(t);
    put_tensors(t, &s);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Layer k's type. A config may leave out the list; every second layer is full then. */
static const char *ask_type(td_translation *t, const char *group, int64_t k, char path[80])
{
    const char *type;
    snprintf(path, 80, "%s.layer_types", group);
    t->ask(t, path); /* null */
    snprintf(path, 80, "%s.layer_types.0", group);
    if (!td_has(t, path))
        return type_of(2, k);
    snprintf(path, 80, "%s.layer_types.%lld", group, (long long)k);
    type = td_ask_text(t, path);
    if (strcmp(type, full) && strcmp(type, sliding))
        t->refuse(t, "%s is %s: only full_attention and sliding_attention can be read", path, type);
    return type;
}

/* The number of the first full layer, from 1; 0: there is none. */
static int64_t first_full(td_translation *t, const char *group, int64_t layers)
{
    char path[80];
    for (int64_t k = 0; k < layers; k++)
        if (!strcmp(ask_type(t, group, k, path), full))
            return k + 1;
    return 0;
}

static void require_types(td_translation *t, const char *group, int64_t layers, int64_t every)
{
    char path[80];
    for (int64_t k = 0; k < layers; k++) {
        const char *type = ask_type(t, group, k, path);
        if (strcmp(type, type_of(every, k)))
            t->refuse(
                t,
                "%s is %s: it can only be %s, as layer %lld is full_attention, and so must be "
                "its multiples, but no other layers, in both stacks",
                path, type, type_of(every, k), (long long)every);
    }
}

/* Every n-th layer of both stacks is full; 0: none is. */
static int64_t read_layer_types(td_translation *t, const struct shape *s)
{
    int64_t encoder = first_full(t, "encoder", s->encoder),
            decoder = first_full(t, "decoder", s->decoder),
            every = encoder && (!decoder || encoder < decoder) ? encoder : decoder;
    require_types(t, "encoder", s->encoder, every);
    require_types(t, "decoder", s->decoder, every);
    return every;
}

/* Whether the encoder's window counts the token itself, as before 5.4.0. What comes before a release
 * ("5.4.0.dev0") may be older than the change. */
static bool counts_itself(td_translation *t)
{
    const char *version = td_ask_text(t, "transformers_version");
    char       *rest;
    long major = strtol(version, &rest, 10), minor = *rest == '.' ? strtol(rest + 1, NULL, 10) : 0;
    bool release = version[strspn(version, "0123456789.")] == 0;
    if (rest == version || (major == 5 && minor == 4 && !release))
        t->refuse(t,
                  "transformers_version is %s: layers of type sliding_attention mean something "
                  "else since " WINDOWS_SINCE ", and this may be older or newer: for a model whose "
                  "encoder's window counts the token itself, set transformers_version to 5.3.0, "
                  "else to " WINDOWS_SINCE,
                  version);
    return major < 5 || (major == 5 && minor < 4);
}

/* `ahead` is ours less the token itself, if the encoder does not count it. */
static void require_windows(td_translation *t, int64_t ahead, int64_t window)
{
    bool    itself = counts_itself(t);
    int64_t wanted = itself ? window : window - 1;
    if (window < 2)
        t->refuse(t, "decoder.sliding_window is %lld: it must be at least 2", (long long)window);
    else if (ahead != wanted)
        t->refuse(t,
                  "encoder.sliding_window is %lld: it can only be decoder.sliding_window%s, %lld, "
                  "because %s the token itself in this version of transformers (%s)",
                  (long long)ahead, itself ? "" : " - 1", (long long)wanted,
                  itself ? "both count" : "only the decoder's counts",
                  td_ask_text(t, "transformers_version"));
}

static void read_windows(td_translation *t, const struct shape *s)
{
    int64_t every = read_layer_types(t, s), ahead, window;
    td_put_text(t, "model.attention.plugin", every == 1 ? "softmax" : "sliding-window");
    ahead = td_ask_int_or(t, "encoder.sliding_window", 4096);
    window = td_ask_int_or(t, "decoder.sliding_window", 4096);
    if (every == 1)
        return;
    require_windows(t, ahead, window);
    td_put_int(t, "model.attention.window", window);
    td_put_int(t, "model.attention.full_every", every);
}

/* What both groups have. */
static void read_sizes(td_translation *t, struct shape *s)
{
    int64_t width = td_ask_int(t, "head_dim");
    double  scalar = td_ask_float_or(t, "query_pre_attn_scalar", 256);
    s->d_model = td_ask_int(t, "hidden_size");
    s->bias = td_ask_bool_or(t, "attention_bias", false);
    if (!(scalar > 0))
        t->refuse(t, "query_pre_attn_scalar is %g: it must be above 0", scalar);
    else if (width > 0)
        s->query = sqrt((double)width / scalar);
    td_put_int(t, "model.vocab_size", td_ask_int(t, "vocab_size"));
    td_put_int(t, "model.d_model", s->d_model);
    td_put_int(t, "model.attention.heads", td_ask_int(t, "num_attention_heads"));
    td_put_int(t, "model.attention.kv_heads", td_ask_int(t, "num_key_value_heads"));
    td_put_int(t, "model.attention.head_dim", width);
    td_put_bool(t, "model.attention.bias", s->bias);
    td_put_int(t, "model.ffn.d_ff", td_ask_int(t, "intermediate_size"));
    td_put_float(t, "model.norm.eps", td_ask_float_or(t, "rms_norm_eps", 1e-6));
    td_put_int(t, "train.length", td_ask_int_or(t, "max_position_embeddings", 8192));
    read_activation(t, "hidden_activation");
    read_rope(t);
}

/* null: there is none; missing: the class has one by default. */
static double read_cap(td_translation *t, const char *path, double otherwise)
{
    const td_format_value *v = t->ask(t, path);
    double                 cap = otherwise;
    if (v && v->type == TD_VALUE_NULL)
        return 0;
    if (v)
        cap = td_ask_float(t, path);
    if (!(cap > 0))
        t->refuse(t, "%s is %s: it must be above 0, or null", path, td_ask_text(t, path));
    return cap;
}

static void read_caps(td_translation *t)
{
    double encoder = read_cap(t, "encoder.attn_logit_softcapping", 50),
           decoder = read_cap(t, "decoder.attn_logit_softcapping", 50);
    if (encoder != decoder)
        t->refuse(t,
                  "encoder.attn_logit_softcapping is %g, but decoder.attn_logit_softcapping is %g "
                  "(0: none): they must be equal",
                  encoder, decoder);
    td_put_float(t, "model.attention.score_cap", decoder);
    td_put_float(t, "model.logit_cap", read_cap(t, "decoder.final_logit_softcapping", 30));
    t->ask(t, "encoder.final_logit_softcapping"); /* an encoder makes no logits */
}

static void read_memory(td_translation *t, const struct shape *s)
{
    int64_t width = td_ask_int_or(t, "decoder.cross_attention_hidden_size", s->d_model);
    if (width != s->d_model)
        t->refuse(t,
                  "decoder.cross_attention_hidden_size is %lld: it can only be hidden_size, %lld",
                  (long long)width, (long long)s->d_model);
}

/* null: there is none; missing: the class has one by default. */
static int64_t ask_id(td_translation *t, const char *path, int64_t otherwise)
{
    const td_format_value *v = t->ask(t, path);
    if (v && v->type == TD_VALUE_NULL)
        return -1;
    return v ? td_ask_int(t, path) : otherwise;
}

/* The class takes ids that it is not given from its decoder. */
static void read_ids(td_translation *t)
{
    int64_t pad = ask_id(t, "pad_token_id", ask_id(t, "decoder.pad_token_id", 0)),
            bos = ask_id(t, "bos_token_id", ask_id(t, "decoder.bos_token_id", 2));
    read_start(t, td_ask_int_or(t, "decoder_start_token_id", bos), pad, bos);
}

static void ignore_rest(td_translation *t, struct groups *both)
{
    static const char *const idle[] = { "dropout_rate", "classifier_dropout_rate", "vocab_size",
                                        "_attn_implementation" };
    for (size_t k = 0; k < sizeof idle / sizeof *idle; k++)
        t->ask(t, idle[k]);
    ignore_idle(t);
    ignore_labels(t);
    ask_of_either(both);
    t = &both->inner;
    t->ask(t, "dropout_rate");
    t->ask(t, "tie_word_embeddings");
    ignore_idle(t);
    ignore_labels(t);
}

static void read_fixed(td_translation *t)
{
    td_put_text(t, "model.plugin", "encoder-decoder");
    td_put_bool(t, "model.post_norm", true);
    td_put_bool(t, "model.post_ffn_norm", true);
    td_put_bool(t, "model.continuous_positions", false);
    td_put_bool(t, "model.cross_positions", false);
    td_put_bool(t, "model.share_embeddings", false);
    td_put_bool(t, "model.attention.qkv_norm", false);
    td_put_text(t, "model.norm.plugin", "rms");
    td_put_text(t, "loss.plugin", "prefix-lm");
}

static void read_model(const void *config, td_translation *t)
{
    struct shape  s = { .scale = true, .query = 1, .head = 1, .last = 1 };
    struct groups both;
    (void)config;
    begin_groups(&both, t, true);
    read_fixed(t);
    read_caps(t);
    s.encoder = ask_layers(t, "encoder.num_hidden_layers");
    s.decoder = ask_layers(t, "decoder.num_hidden_layers");
    td_put_int(t, "model.encoder_layers", s.encoder);
    td_put_int(t, "model.decoder_layers", s.decoder);
    read_sizes(&both.inner, &s);
    read_memory(t, &s);
    read_windows(t, &s);
    s.tied = td_ask_bool_or(t, "tie_word_embeddings", true);
    /* Gemma multiplies what it reads from its table; ours holds the products, so the logits of a tied
     * one are divided again */
    s.table = s.d_model > 0 ? sqrt((double)s.d_model) : 1;
    td_put_bool(t, "model.tie_embeddings", s.tied);
    td_put_text(t, "model.logit_scale", s.tied ? "rsqrt" : "none");
    read_ids(t);
    ignore_rest(t, &both);
    put_tensors(t, &s);
}

static const char *const types[] = { "t5gemma", NULL };

static const td_format format = {
    .plugin = TD_PLUGIN(td_format, TD_FORMAT_KIND, "t5gemma", NULL, char,
                        .brief = "Hugging Face's T5Gemma: encoder-decoder, post_norm "
                                 "and post_ffn_norm = true",
                        .paper = "Zhang et al., Encoder-Decoder Gemma, 2025"),
    .model_types = types,
    .write = write_model,
    .read = read_model,
};

TD_MODULE("t5gemma", "1.0", "tandem", "MIT", &format.plugin)
