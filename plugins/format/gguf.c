/* gguf.c - llama.cpp's files, for the two of its architectures that a DecLLM can be: llama, without
 * norms of queries and keys, and qwen3, with them.
 *
 * Both are Hugging Face's models (decoder.h) with other keys and tensor names, so this format
 * stands between them and the host, and renames. Other differences of llama.cpp: its llama rotates
 * neighbouring elements of a head instead of its halves, so the rows of queries and keys are in
 * another order; its activation is always silu; and whether there are biases or a matrix for the
 * logits shows in the tensors alone. llama.cpp's sources define the names: llama-arch.cpp,
 * models/llama.cpp and models/qwen3.cpp. */
#include "decoder.h"

static const struct dialect dialects[] = {
    { .type = "llama", .architecture = "", .mlp_bias = true },
    { .type = "qwen3", .architecture = "", .qk_norm = true, .windows = true },
};

/* A translation under way: `inner` is the one with Hugging Face's names. */
struct renaming {
    td_translation        inner, *outer;
    const struct dialect *dialect;
    int64_t               head_dim;
    td_format_value       made; /* the answer to a question that the file answers in another way */
    char                  key[120];
};

/* ---- settings -------------------------------------------------------------------------------- */

/* A key that begins with a dot is one of the architecture's: "llama.block_count". */
static const struct {
    const char *theirs, *key;
} names[] = {
    { "model_type", "general.architecture" },
    { "vocab_size", ".vocab_size" },
    { "max_position_embeddings", ".context_length" },
    { "hidden_size", ".embedding_length" },
    { "num_hidden_layers", ".block_count" },
    { "intermediate_size", ".feed_forward_length" },
    { "num_attention_heads", ".attention.head_count" },
    { "num_key_value_heads", ".attention.head_count_kv" },
    { "head_dim", ".attention.key_length" },
    { "rms_norm_eps", ".attention.layer_norm_rms_epsilon" },
    { "rope_theta", ".rope.freq_base" },
    { "rope_scaling.rope_type", ".rope.scaling.type" },
    { "rope_scaling.factor", ".rope.scaling.factor" },
    { "rope_scaling.original_max_position_embeddings", ".rope.scaling.original_context_length" },
    { "rope_scaling.beta_fast", ".rope.scaling.yarn_beta_fast" },
    { "rope_scaling.beta_slow", ".rope.scaling.yarn_beta_slow" },
    { "bos_token_id", "tokenizer.ggml.bos_token_id" },
    { "eos_token_id", "tokenizer.ggml.eos_token_id" },
    { "pad_token_id", "tokenizer.ggml.padding_token_id" },
};

/* Settings that always have one value there, or show in the tensors. */
static const char *const unnamed[] = {
    "architectures.0", "dtype",    "torch_dtype",         "attention_dropout", "hidden_act",
    "attention_bias",  "mlp_bias", "tie_word_embeddings", "rope_scaling",
};

static const char *key_of(struct renaming *r, const char *key)
{
    if (*key != '.')
        return key;
    snprintf(r->key, sizeof r->key, "%s%s", r->dialect->type, key);
    return r->key;
}

/* NULL: it has no name of its own. */
static const char *renamed(struct renaming *r, const char *theirs)
{
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (!strcmp(names[k].theirs, theirs))
            return key_of(r, names[k].key);
    return NULL;
}

static bool is_unnamed(const char *theirs)
{
    for (size_t k = 0; k < sizeof unnamed / sizeof *unnamed; k++)
        if (!strcmp(unnamed[k], theirs))
            return true;
    return false;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static const char *const parts[][2] = {
    { "self_attn.q_proj", "attn_q" },      { "self_attn.k_proj", "attn_k" },
    { "self_attn.v_proj", "attn_v" },      { "self_attn.o_proj", "attn_output" },
    { "self_attn.q_norm", "attn_q_norm" }, { "self_attn.k_norm", "attn_k_norm" },
    { "input_layernorm", "attn_norm" },    { "post_attention_layernorm", "ffn_norm" },
    { "mlp.gate_proj", "ffn_gate" },       { "mlp.up_proj", "ffn_up" },
    { "mlp.down_proj", "ffn_down" },
};

static const char *const outside[][2] = {
    { "model.embed_tokens.weight", "token_embd.weight" },
    { "model.norm.weight", "output_norm.weight" },
    { "lm_head.weight", "output.weight" },
};

/* "model.layers.3.self_attn.q_proj.weight" becomes "blk.3.attn_q.weight". */
static bool rename_tensor(const char *theirs, char out[120])
{
    int  after = 0, layer;
    bool inside = sscanf(theirs, "model.layers.%d.%n", &layer, &after) == 1 && after;
    for (size_t k = 0; !inside && k < sizeof outside / sizeof *outside; k++)
        if (!strcmp(outside[k][0], theirs))
            return snprintf(out, 120, "%s", outside[k][1]) < 120;
    for (size_t k = 0; inside && k < sizeof parts / sizeof *parts; k++) {
        size_t n = strlen(parts[k][0]);
        if (!strncmp(theirs + after, parts[k][0], n) && theirs[after + (int)n] == '.')
            return snprintf(out, 120, "blk.%d.%s%s", layer, parts[k][1], theirs + after + n) < 120;
    }
    return false;
}

/* Of llama's queries and keys; qwen3 rotates halves, as we do. */
static bool is_rotated(const struct renaming *r, const char *theirs)
{
    return !r->dialect->qk_norm &&
           (strstr(theirs, ".self_attn.q_proj.") || strstr(theirs, ".self_attn.k_proj."));
}

static void put_renamed_tensor(td_translation *t, const td_format_tensor *x)
{
    struct renaming *r = t->host;
    td_format_tensor own = *x;
    char             name[120];
    if (!rename_tensor(x->name, name)) {
        r->outer->refuse(r->outer, "tensor %s has no name in GGUF", x->name);
        return;
    }
    own.name = name;
    if (is_rotated(r, x->name))
        r->outer->interleaved(r->outer, &own, r->head_dim);
    else
        r->outer->tensor(r->outer, &own);
}

/* ---- writing --------------------------------------------------------------------------------- */

static const td_format_value *ask_ours(td_translation *t, const char *path)
{
    struct renaming *r = t->host;
    return r->outer->ask(r->outer, path);
}

static void put_renamed(td_translation *t, const char *path, const td_format_value *v)
{
    struct renaming *r = t->host;
    const char      *key = renamed(r, path);
    if (key)
        r->outer->put(r->outer, key, v);
    else if (!is_unnamed(path))
        r->outer->refuse(r->outer, "%s has no name in GGUF", path);
    if (!strcmp(path, "head_dim"))
        r->head_dim = v->integer;
}

/* Each call of llama.cpp's tokenizer then begins the text as the model expects. */
static void write_rest(struct renaming *r)
{
    td_translation *t = r->outer;
    const char     *dtype = t->dtype;
    td_put_int(t, key_of(r, ".attention.value_length"), r->head_dim);
    td_put_int(t, key_of(r, ".rope.dimension_count"), r->head_dim);
    td_put_int(t, "general.file_type", !strcmp(dtype, "q8_0") ? 7 : *dtype == 'b' ? 32 : 0);
    td_put_int(t, "general.quantization_version", 2);
    td_put_bool(t, "tokenizer.ggml.add_bos_token", begin_id(t) >= 0);
    td_put_bool(t, "tokenizer.ggml.add_eos_token", false);
}

static void refuse_inner(td_translation *, const char *format, ...) TD_PRINTF(2, 3);

/* Messages begin with the name of a setting: that of the file. */
static void refuse_inner(td_translation *t, const char *format, ...)
{
    struct renaming *r = t->host;
    char             text[600], name[100];
    int              n;
    va_list          args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    n = (int)strcspn(text, " ");
    snprintf(name, sizeof name, "%.*s", n, text);
    if (renamed(r, name))
        r->outer->refuse(r->outer, "%s%s", renamed(r, name), text + n);
    else
        r->outer->refuse(r->outer, "%s", text);
}

/* `ask` and `put` are those of a direction. */
static void begin(struct renaming *r, td_translation *outer, bool qk_norm)
{
    *r = (struct renaming){ .outer = outer, .dialect = &dialects[qk_norm] };
    r->inner = (td_translation){ .size = sizeof r->inner,
                                 .dtype = outer->dtype,
                                 .tensor = put_renamed_tensor,
                                 .refuse = refuse_inner,
                                 .host = r };
}

static void write_gguf(const void *config, td_translation *t)
{
    struct renaming        r;
    const td_format_value *norm = t->ask(t, "model.attention.qkv_norm");
    (void)config;
    begin(&r, t, norm && norm->integer);
    r.inner.ask = ask_ours;
    r.inner.put = put_renamed;
    td_require(t, "model.ffn.plugin", "swiglu");
    if (r.dialect->qk_norm)
        td_require(t, "model.attention.bias", "false");
    write_decoder(r.dialect, &r.inner);
    write_rest(&r);
}

/* ---- reading --------------------------------------------------------------------------------- */

static const td_format_value *made_text(struct renaming *r, const char *text)
{
    r->made = (td_format_value){ TD_VALUE_TEXT, 0, 0, text };
    return &r->made;
}

static const td_format_value *made_bool(struct renaming *r, bool x)
{
    r->made = (td_format_value){ TD_VALUE_BOOL, x, x, x ? "true" : "false" };
    return &r->made;
}

static bool has(const struct renaming *r, const char *tensor)
{
    return r->outer->has(r->outer, tensor);
}

/* A file that states a factor without a type means a linear scaling. */
static const td_format_value *rope_type_of(struct renaming *r)
{
    const td_format_value *v = r->outer->ask(r->outer, key_of(r, ".rope.scaling.type"));
    if (v && strcmp(v->text, "none"))
        return v;
    if (!v && r->outer->ask(r->outer, key_of(r, ".rope.scaling.factor")))
        return made_text(r, "linear");
    return made_text(r, "default");
}

/* Older files give the number of tokens only as the length of their list. */
static const td_format_value *vocab_size_of(struct renaming *r)
{
    const td_format_value *list = r->outer->ask(r->outer, "tokenizer.ggml.tokens");
    const td_format_value *v = r->outer->ask(r->outer, key_of(r, ".vocab_size"));
    if (v || !list)
        return v;
    r->made = (td_format_value){ TD_VALUE_INT, list->integer, (double)list->integer, "" };
    return &r->made;
}

static const td_format_value *ask_renamed(td_translation *t, const char *path)
{
    struct renaming *r = t->host;
    const char      *key;
    if (!strcmp(path, "hidden_act"))
        return made_text(r, "silu");
    if (!strcmp(path, "attention_bias"))
        return made_bool(r, has(r, "blk.0.attn_q.bias"));
    if (!strcmp(path, "mlp_bias"))
        return made_bool(r, has(r, "blk.0.ffn_gate.bias"));
    if (!strcmp(path, "tie_word_embeddings"))
        return made_bool(r, !has(r, "output.weight"));
    if (!strcmp(path, "rope_scaling.rope_type"))
        return rope_type_of(r);
    if (!strcmp(path, "vocab_size"))
        return vocab_size_of(r);
    key = renamed(r, path);
    return key ? r->outer->ask(r->outer, key) : NULL;
}

static void put_ours(td_translation *t, const char *path, const td_format_value *v)
{
    struct renaming *r = t->host;
    if (!strcmp(path, "model.attention.head_dim"))
        r->head_dim = v->integer;
    r->outer->put(r->outer, path, v);
}

/* Heads of one width, rotated as a whole. */
static void require_width(struct renaming *r, const char *key)
{
    int64_t x = td_ask_int_or(r->outer, key_of(r, key), r->head_dim);
    if (x != r->head_dim)
        r->outer->refuse(r->outer, "%s is %lld: it can only be the width of a head, %lld",
                         key_of(r, key), (long long)x, (long long)r->head_dim);
}

static void ignore_described(struct renaming *r)
{
    static const char *const keys[] = { "general.file_type", "general.quantization_version",
                                        "tokenizer.ggml.add_bos_token",
                                        "tokenizer.ggml.add_eos_token", ".rope.scaling.finetuned" };
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        r->outer->ask(r->outer, key_of(r, keys[k]));
}

/* As read_sizes finds it. Rows are moved in pairs, so a wrong width is refused before it reaches the
 * host. */
static bool width_is_even(struct renaming *r)
{
    td_translation *t = r->outer;
    int64_t         heads = td_ask_int_or(t, key_of(r, ".attention.head_count"), 0);
    int64_t         whole = td_ask_int_or(t, key_of(r, ".embedding_length"), 0);
    int64_t         width = td_ask_int_or(t, key_of(r, ".attention.key_length"),
                                  heads > 0 ? whole / heads : 2);
    if (width >= 2 && width % 2 == 0)
        return true;
    t->refuse(t,
              "the width of a head is %lld: it must be even (%s, or else %s.embedding_length "
              "divided by the number of heads)",
              (long long)width, key_of(r, ".attention.key_length"), r->dialect->type);
    return false;
}

static void read_gguf(const void *config, td_translation *t)
{
    struct renaming r;
    const char     *type = td_ask_text(t, "general.architecture");
    (void)config;
    begin(&r, t, !strcmp(type, "qwen3"));
    if (strcmp(type, r.dialect->type)) {
        t->refuse(t, "general.architecture is %s: llama and qwen3 can be read", type);
        return;
    }
    if (!width_is_even(&r))
        return;
    r.inner.ask = ask_renamed;
    r.inner.put = put_ours;
    read_decoder(r.dialect, &r.inner);
    require_width(&r, ".attention.value_length");
    require_width(&r, ".rope.dimension_count");
    ignore_described(&r);
}

static const char *const types[] = { "llama", "qwen3", NULL };

static const td_format format = {
    .plugin = TD_PLUGIN(td_format, TD_FORMAT_KIND, "gguf", NULL, char,
                        .brief = "files of llama.cpp: decoder-only as llama (qkv_norm = false) or "
                                 "qwen3 (v_norm = false)"),
    .model_types = types,
    .write = write_gguf,
    .read = read_gguf,
    .container = TD_CONTAINER_GGUF,
};

TD_MODULE("gguf", "1.0", "tandem", "MIT", &format.plugin)
