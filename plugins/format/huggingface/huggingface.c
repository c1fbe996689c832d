/* huggingface.c - models for Hugging Face's transformers that its own classes do not have: with our
 * own classes, modeling_tandem.py and its parts, written beside the parameters. */
#include "../transformers.h"

#include "modeling.h"

/* ---- settings -------------------------------------------------------------------------------- */

/* They keep their names, in the object "model" of config.json. */
static void keep(td_translation *t, const char *const *paths)
{
    for (; *paths; paths++) {
        const td_format_value *v = td_ask(t, *paths);
        if (v)
            t->put(t, *paths, v);
    }
}

/* Options that came later are only written where they are not the default, which folders that lack
 * them have. */
static bool later(td_translation *t, const char *path, bool otherwise)
{
    bool x = td_ask_bool_or(t, path, otherwise);
    if (x != otherwise)
        td_put_bool(t, path, x);
    return x;
}

/* Numbers that are 0 by default. */
static void later_number(td_translation *t, const char *path)
{
    double x = td_ask_float_or(t, path, 0);
    if (x != 0)
        t->put(t, path, t->ask(t, path));
}

static const char *const of_all[] = { "model.d_model",
                                      "model.logit_scale",
                                      "model.tie_embeddings",
                                      "model.post_norm",
                                      "model.attention.plugin",
                                      "model.attention.heads",
                                      "model.attention.head_dim",
                                      "model.attention.bias",
                                      "model.attention.eps",
                                      "model.position.plugin",
                                      "model.norm.plugin",
                                      "model.norm.eps",
                                      "model.ffn.plugin",
                                      "model.ffn.d_ff",
                                      NULL };
static const char *const of_decoder[] = { "model.layers", NULL };
static const char *const of_both[] = { "model.encoder_layers",       "model.decoder_layers",
                                       "model.continuous_positions", "model.cross_positions",
                                       "model.bidirectional",        NULL };
static const char *const of_heads[] = { "model.attention.kv_heads", "model.attention.qkv_norm",
                                        "model.attention.v_norm", "model.attention.qk_norm_scale",
                                        NULL };
static const char *const of_softmax[] = { "model.attention.window", "model.attention.output_norm",
                                          NULL };
static const char *const of_differential[] = { "model.attention.lambda_init", NULL };
static const char *const of_linear[] = { "model.attention.chunk", "model.attention.output_norm",
                                         NULL };
static const char *const of_merged[] = { "model.attention.memory_positions",
                                         "model.attention.output_norm", NULL };
static const char *const of_mla[] = { "model.attention.rope_dim",    "model.attention.v_dim",
                                      "model.attention.kv_rank",     "model.attention.q_rank",
                                      "model.attention.output_norm", NULL };
static const char *const of_ffn[] = { "model.ffn.bias", NULL };
static const char *const of_moe[] = { "model.ffn.experts",  "model.ffn.top_k",
                                      "model.ffn.shared",   "model.ffn.activation",
                                      "model.ffn.weights",  "model.ffn.balance",
                                      "model.ffn.router_z", NULL };
static const char *const of_rope[] = { "model.position.base",
                                       "model.position.scaling",
                                       "model.position.factor",
                                       "model.position.original_length",
                                       "model.position.beta_fast",
                                       "model.position.beta_slow",
                                       NULL };
static const char *const of_xpos[] = { "model.position.base", "model.position.scale_base",
                                       "model.position.gamma", NULL };
static const char *const of_t5[] = { "model.position.buckets", "model.position.max_distance",
                                     NULL };
static const char *const of_fire[] = { "model.position.hidden", "model.position.c",
                                       "model.position.threshold", NULL };
static const char *const of_learned[] = { "model.position.max_positions", NULL };
static const char *const of_sinusoidal[] = { "model.position.base", NULL };
static const char *const of_nothing[] = { NULL };

/* A plugin that modeling_*.py has, and the options that only it has. */
struct part {
    const char        *name;
    const char *const *options;
};

static const struct part positions[] = {
    { "rope", of_rope },
    { "xpos", of_xpos },
    { "alibi", of_nothing },
    { "t5-relative", of_t5 },
    { "fire", of_fire },
    { "learned", of_learned },
    { "sinusoidal", of_sinusoidal },
    { "none", of_nothing },
    { NULL, NULL },
};
static const struct part attentions[] = {
    { "softmax", of_softmax },
    { "sliding-window", of_softmax },
    { "differential", of_differential },
    { "linear", of_linear },
    { "merged", of_merged },
    { "mla", of_mla },
    { NULL, NULL },
};
static const struct part ffns[] = {
    { "swiglu", of_ffn }, { "geglu", of_ffn }, { "relu", of_ffn },
    { "relu2", of_ffn },  { "moe", of_moe },   { NULL, NULL },
};

static const char *const of_rms[] = { "model.norm.scale", NULL };
static const char *const of_layer[] = { "model.norm.bias", NULL };
static const struct part norms[] = { { "rms", of_rms }, { "layer", of_layer }, { NULL, NULL } };
static const struct part models[] = { { "decoder-only", of_decoder },
                                      { "decoder-biattn", of_decoder },
                                      { "encoder-decoder", of_both },
                                      { NULL, NULL } };

static bool is(td_translation *t, const char *path, const char *value)
{
    return !strcmp(td_ask_text(t, path), value);
}

/* Keep the options of one of these plugins, or refuse another. */
static void keep_part(td_translation *t, const char *path, const struct part *parts)
{
    const char *value = td_ask_text(t, path);
    char        list[200] = "";
    size_t      used = 0;
    for (size_t k = 0; parts[k].name; k++) {
        if (!strcmp(parts[k].name, value)) {
            keep(t, parts[k].options);
            return;
        }
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s",
                                 !k                  ? ""
                                 : parts[k + 1].name ? ", "
                                                     : " or ",
                                 parts[k].name);
    }
    t->refuse(t, "%s is %s: it can only be %s", path, value, list);
}

/* Caps, and the layers without a window. */
static void keep_caps(td_translation *t)
{
    bool slides = is(t, "model.attention.plugin", "sliding-window");
    later_number(t, "model.logit_cap");
    if (slides || is(t, "model.attention.plugin", "softmax"))
        later_number(t, "model.attention.score_cap");
    if (slides)
        later_number(t, "model.attention.full_every");
}

/* From the config to config.json, and back: the paths are the same. */
static void keep_settings(td_translation *t)
{
    td_put_text(t, "model.plugin", td_ask_text(t, "model.plugin"));
    /* resize_token_embeddings() changes "vocab_size", which counts where it is there */
    td_put_int(t, "model.vocab_size",
               td_ask_int_or(t, "vocab_size", td_ask_int(t, "model.vocab_size")));
    keep(t, of_all);
    keep_part(t, "model.plugin", models);
    keep_part(t, "model.attention.plugin", attentions);
    if (!is(t, "model.attention.plugin", "mla"))
        keep(t, of_heads);
    keep_caps(t);
    keep_part(t, "model.position.plugin", positions);
    keep_part(t, "model.norm.plugin", norms);
    keep_part(t, "model.ffn.plugin", ffns);
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* One stack: where its tensors are, and what its layers are made of. */
struct stack {
    const char *scope, *self_norm, *ffn_norm;
    int64_t     layers;
    bool        cross, scale, norm_bias, post_norm, post_ffn_norm;
    bool        qk_scale, attention_bias, gate, ffn_bias;
    bool        differential, merged, mla; /* the attention */
    bool        latent_queries;            /* of mla */
    bool        moe, shared;               /* the feed-forward layer; it has shared experts */
};

static void put_tensor(td_translation *t, const char *scope, const char *module, const char *what)
{
    char name[200];
    snprintf(name, sizeof name, "%s%s.%s", scope, module, what);
    td_put_tensor(t, name, name, 1);
}

static void put_norm(td_translation *t, const struct stack *s, const char *scope, const char *name)
{
    if (s->scale)
        put_tensor(t, scope, name, "weight");
    if (s->norm_bias)
        put_tensor(t, scope, name, "bias");
}

static void put_linear(td_translation *t, const char *scope, const char *name, bool bias)
{
    put_tensor(t, scope, name, "weight");
    if (bias)
        put_tensor(t, scope, name, "bias");
}

static void put_differential(td_translation *t, const char *layer, const char *name)
{
    static const char *const lambdas[] = { "lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2" };
    char                     scope[160];
    for (int k = 0; k < 4; k++)
        put_tensor(t, layer, name, lambdas[k]);
    snprintf(scope, sizeof scope, "%s%s.", layer, name);
    put_tensor(t, scope, "sub_norm", "weight");
}

static void put_latents(td_translation *t, const struct stack *s, const char *scope)
{
    if (s->latent_queries) {
        put_linear(t, scope, "q_a_proj", s->attention_bias);
        put_tensor(t, scope, "q_a_layernorm", "weight");
    }
    put_tensor(t, scope, s->latent_queries ? "q_b_proj" : "q_proj", "weight");
    put_linear(t, scope, "kv_a_proj_with_mqa", s->attention_bias);
    put_tensor(t, scope, "kv_a_layernorm", "weight");
    put_tensor(t, scope, "kv_b_proj", "weight");
    put_linear(t, scope, "o_proj", s->attention_bias);
}

static void put_attention(td_translation *t, const struct stack *s, const char *layer,
                          const char *name)
{
    char scope[160];
    snprintf(scope, sizeof scope, "%s%s.", layer, name);
    if (s->mla) {
        put_latents(t, s, scope);
        return;
    }
    put_linear(t, scope, "q_proj", s->attention_bias);
    put_linear(t, scope, "k_proj", s->attention_bias);
    put_linear(t, scope, "v_proj", s->attention_bias);
    put_linear(t, scope, "o_proj", s->attention_bias);
    if (s->qk_scale) {
        put_tensor(t, scope, "q_norm", "weight");
        put_tensor(t, scope, "k_norm", "weight");
    }
    if (s->differential)
        put_differential(t, layer, name);
}

static void put_ffn(td_translation *t, const struct stack *s, const char *layer)
{
    static const char *const parts[] = { "gate_proj", "up_proj", "down_proj" };
    char                     name[80];
    for (int k = s->moe || s->gate ? 0 : 1; k < 3; k++) {
        snprintf(name, sizeof name, "mlp.%s%s", s->moe ? "experts." : "", parts[k]);
        put_linear(t, layer, name, s->ffn_bias);
        snprintf(name, sizeof name, "mlp.shared_expert.%s", parts[k]);
        if (s->shared)
            put_tensor(t, layer, name, "weight");
    }
    if (s->moe)
        put_tensor(t, layer, "mlp.gate", "weight");
}

static void put_layer(td_translation *t, const struct stack *s, int64_t k)
{
    char scope[120];
    snprintf(scope, sizeof scope, "%slayers.%lld.", s->scope, (long long)k);
    put_norm(t, s, scope, s->self_norm);
    put_attention(t, s, scope, "self_attn");
    if (s->post_norm)
        put_norm(t, s, scope, "post_self_attn_layernorm");
    if (s->cross && !s->merged) {
        put_norm(t, s, scope, "pre_cross_attn_layernorm");
        put_attention(t, s, scope, "cross_attn");
    }
    if (s->cross && !s->merged && s->post_norm)
        put_norm(t, s, scope, "post_cross_attn_layernorm");
    put_norm(t, s, scope, s->ffn_norm);
    put_ffn(t, s, scope);
    if (s->post_ffn_norm)
        put_norm(t, s, scope, "post_feedforward_layernorm");
}

/* What the layers of a stack share. */
static void put_biases(td_translation *t, const char *scope)
{
    if (is(t, "model.position.plugin", "t5-relative"))
        put_tensor(t, scope, "relative_attention_bias", "weight");
    if (!is(t, "model.position.plugin", "fire"))
        return;
    put_tensor(t, scope, "fire", "c");
    put_tensor(t, scope, "fire", "threshold");
    put_linear(t, scope, "fire.inner", true);
    put_linear(t, scope, "fire.outer", true);
}

static void put_stack(td_translation *t, const struct stack *s)
{
    put_biases(t, s->scope);
    for (int64_t k = 0; k < s->layers; k++)
        put_layer(t, s, k);
    put_norm(t, s, s->scope, "norm");
}

/* What all stacks of a model share. Options that a plugin does not have must not be asked for. */
static struct stack stack_of(td_translation *t)
{
    bool rms = is(t, "model.norm.plugin", "rms"), moe = is(t, "model.ffn.plugin", "moe");
    bool mla = is(t, "model.attention.plugin", "mla");
    return (struct stack){
        .scope = "model.",
        /* the names in a model of one stack: put_both_stacks has the others */
        .self_norm = "input_layernorm",
        .ffn_norm = "post_attention_layernorm",
        .scale = !rms || td_ask_bool(t, "model.norm.scale"),
        .norm_bias = !rms && td_ask_bool(t, "model.norm.bias"),
        .post_norm = td_ask_bool(t, "model.post_norm"),
        .post_ffn_norm = later(t, "model.post_ffn_norm", false),
        .qk_scale = !mla && td_ask_bool(t, "model.attention.qk_norm_scale"),
        .attention_bias = td_ask_bool(t, "model.attention.bias"),
        .gate = is(t, "model.ffn.plugin", "swiglu") || is(t, "model.ffn.plugin", "geglu"),
        .ffn_bias = !moe && td_ask_bool(t, "model.ffn.bias"),
        .differential = is(t, "model.attention.plugin", "differential"),
        .merged = is(t, "model.attention.plugin", "merged"),
        .mla = mla,
        .latent_queries = mla && td_ask_int(t, "model.attention.q_rank") > 0,
        .moe = moe,
        .shared = moe && td_ask_int(t, "model.ffn.shared") > 0,
    };
}

static void put_both_stacks(td_translation *t, struct stack s)
{
    s.self_norm = "pre_self_attn_layernorm";
    s.ffn_norm = "pre_feedforward_layernorm";
    s.scope = "model.encoder.";
    s.layers = ask_layers(t, "model.encoder_layers");
    put_stack(t, &s);
    s.scope = "model.decoder.";
    s.layers = ask_layers(t, "model.decoder_layers");
    s.cross = true;
    put_stack(t, &s);
}

static void put_tensors(td_translation *t)
{
    struct stack s = stack_of(t);
    if (is(t, "model.plugin", "encoder-decoder")) {
        put_tensor(t, "model.decoder.", "embed_tokens", "weight");
        if (!later(t, "model.share_embeddings", true))
            put_tensor(t, "model.encoder.", "embed_tokens", "weight");
        put_both_stacks(t, s);
    } else {
        put_tensor(t, "model.", "embed_tokens", "weight");
        s.layers = ask_layers(t, "model.layers");
        put_stack(t, &s);
    }
    if (is(t, "model.position.plugin", "learned"))
        put_tensor(t, "model.", "position_embeddings", "weight");
    if (!td_ask_bool(t, "model.tie_embeddings"))
        put_tensor(t, "", "lm_head", "weight");
}

/* ---- the format ------------------------------------------------------------------------------ */

static void write_classes(td_translation *t, bool encoder)
{
    td_put_text(t, "model_type", "tandem");
    td_put_text(t, "architectures.0", encoder ? "TandemForSeq2SeqLM" : "TandemForCausalLM");
    td_put_text(t, "auto_map.AutoConfig", "modeling_tandem.TandemConfig");
    if (encoder)
        td_put_text(t, "auto_map.AutoModelForSeq2SeqLM", "modeling_tandem.TandemForSeq2SeqLM");
    else
        td_put_text(t, "auto_map.AutoModelForCausalLM", "modeling_tandem.TandemForCausalLM");
}

static void write_model(const void *config, td_translation *t)
{
    bool encoder = is(t, "model.plugin", "encoder-decoder");
    write_classes(t, encoder);
    write_dtype(t);
    td_put_bool(t, "is_encoder_decoder", encoder);
    td_put_int(t, "max_position_embeddings", td_ask_int(t, "train.length"));
    write_ids(t, encoder);
    if (encoder && begin_id(t) >= 0)
        td_put_int(t, "decoder_start_token_id", begin_id(t));
    keep_settings(t);
    put_tensors(t);
    t->file(t, "modeling_parts.py", modeling_parts_begin,
            (size_t)(modeling_parts_end - modeling_parts_begin));
    t->file(t, "modeling_tandem.py", modeling_tandem_begin,
            (size_t)(modeling_tandem_end - modeling_tandem_begin));
}

static void read_model(const void *config, td_translation *t)
{
    /* of these, the sizes repeat what "model" says */
    static const char *const idle[] = { "auto_map.AutoConfig",
                                        "auto_map.AutoModelForCausalLM",
                                        "auto_map.AutoModelForSeq2SeqLM",
                                        "decoder_start_token_id",
                                        "hidden_size",
                                        "num_hidden_layers",
                                        "num_attention_heads",
                                        "tie_word_embeddings" };
    for (size_t k = 0; k < sizeof idle / sizeof *idle; k++)
        t->ask(t, idle[k]);
    keep_settings(t);
    td_put_int(t, "train.length", td_ask_int_or(t, "max_position_embeddings", 2048));
    td_put_text(t, "loss.plugin",
                is(t, "model.plugin", "decoder-only") ? "causal-lm" : "prefix-lm");
    ignore_idle(t);
    ignore_labels(t);
    put_tensors(t);
}

static const char *const types[] = { "tandem", NULL };

static const td_format format = {
    .plugin = TD_PLUGIN(td_format, TD_FORMAT_KIND, "huggingface", NULL, char,
                        .brief = "Hugging Face with our own class: RedLLM, DecLLM and BiAttn"),
    .model_types = types,
    .write = write_model,
    .read = read_model,
};

TD_MODULE("huggingface", "1.0", "tandem", "MIT", &format.plugin)
