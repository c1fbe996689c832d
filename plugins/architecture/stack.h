/* stack.h - shared by the architectures in this folder: their options, and a pre-norm stack of
 * layers.
 *
 *     layer:  x = x + attention(norm(x));  [x = x + cross(norm(x), memory);]  x = x + ffn(norm(x))
 *     stack:  norm(layers(x))
 *
 * A plugin's config begins with `struct model` and continues with the options that only it has; see
 * plugins/attention/heads.h, which does the same. Scopes and norms are named as in the models of
 * Hugging Face: Qwen3 for decoders, T5Gemma for encoder-decoders. */
#ifndef TANDEM_PLUGINS_STACK_H
#define TANDEM_PLUGINS_STACK_H

#include "tandem/kind/architecture.h"

struct model {
    int64_t vocab_size, d_model, logit_scale;
    double  logit_cap;
    bool    tie_embeddings, post_norm, post_ffn_norm;
    td_part attention, position, norm, ffn;
};

/* Stops the build if MODEL_OPTIONS would store into the wrong field of S. */
#define MODEL_FIRST(S, member) \
    _Static_assert(offsetof(S, member) == 0, "struct model must be the first member")

enum { SCALE_RSQRT, SCALE_NONE };

static const char *const logit_scales[] = { "rsqrt", "none", 0 };
static const char *const attention_kind[] = { TD_ATTENTION_KIND, 0 };
static const char *const position_kind[] = { TD_POSITION_KIND, 0 };
static const char *const norm_kind[] = { TD_NORM_KIND, 0 };
static const char *const ffn_kind[] = { TD_FFN_KIND, 0 };

#define MODEL_OPTIONS                                                                           \
    TD_OPTION_NEED_INT(struct model, vocab_size, 2, 1 << 24, "rows of the embedding table"),    \
        TD_OPTION_NEED_INT(struct model, d_model, 1, 1 << 20, "width of the model"),            \
        TD_OPTION_CHOICE(struct model, logit_scale, SCALE_RSQRT, logit_scales,                  \
                         "divide the logits by sqrt(d_model)"),                                 \
        TD_OPTION_FLOAT(struct model, logit_cap, 0, 0, 1e9,                                     \
                        "logits z become cap tanh(z / cap), which is below cap; 0: no cap"),    \
        TD_OPTION_BOOL(struct model, tie_embeddings, true,                                      \
                       "one matrix embeds tokens and predicts them"),                           \
        TD_OPTION_BOOL(struct model, post_norm, false,                                          \
                       "also normalize the output of each attention, after o_proj"),            \
        TD_OPTION_BOOL(struct model, post_ffn_norm, false,                                      \
                       "also normalize the output of each feed-forward layer"),                 \
        TD_OPTION_PART(struct model, attention, attention_kind, "softmax",                      \
                       "the attention of all layers"),                                          \
        TD_OPTION_PART(struct model, position, position_kind, "rope", "the positional scheme"), \
        TD_OPTION_PART(struct model, norm, norm_kind, "rms",                                    \
                       "the normalization before each sublayer"),                               \
        TD_OPTION_PART(struct model, ffn, ffn_kind, "swiglu", "the feed-forward sublayer")

/* One stack of layers: where its parameters live, which tensors it reads, and how its norms are
 * named. */
struct stack {
    const struct model *model;
    const td_dropout   *dropout;
    const char         *scope; /* of its parameters: "model.decoder" */
    td_role             role;
    int64_t             layers;
    const char         *self_norm, *ffn_norm;
    td_tensor          *position;                 /* i32 [B, T] */
    td_mask             mask;                     /* of self-attention */
    td_tensor          *memory, *memory_position; /* the encoder's output [B, S, D], or NULL */
    td_mask             memory_mask;
    bool                memory_rotated; /* cross-attention rotates queries and keys */
};

static inline const td_attention *attention_of(const struct model *m)
{
    return (const td_attention *)(const void *)m->attention.plugin;
}

/* The table of token embeddings [V, D], in the current scope. N(0, 1): with tied embeddings the
 * same rows make the logits, which logit_scale brings back to unit variance. */
static inline td_tensor *embedding_table(const struct model *m, td_graph *g)
{
    int64_t dims[] = { m->vocab_size, m->d_model };
    return td_param(g, "embed_tokens.weight", dims, 2, td_normal(1));
}

/* Rows of the table at `ids`, plus absolute positions if the scheme has them, then dropout. `place`
 * names the random stream. Call it in the model's scope, where a learned position table lives. */
static inline td_tensor *embed(const struct model *m, const td_dropout *dropout, const char *place,
                               td_tensor *table, td_tensor *ids, td_tensor *position)
{
    const td_position *p = td_position_of(&m->position);
    td_tensor         *x = td_gather(table, ids);
    if (p->embed) {
        td_hook_begin(table->graph, m->position.plugin, "embed");
        x = p->embed(m->position.config, x, position);
        td_hook_end(table->graph);
        x = td_hook_result(table->graph, m->position.plugin, "embed", x);
    }
    return td_drop(x, dropout, place, 1);
}

/* The matrix that computes the logits: the embeddings, or a separate one. Call it in the empty
 * scope. */
static inline void project_out(const struct model *m, td_graph *g, td_tensor *table,
                               td_architecture_out *out)
{
    int64_t dims[] = { m->vocab_size, m->d_model };
    double  root = sqrt((double)m->d_model);
    bool    scaled = m->logit_scale == SCALE_RSQRT;

    /* Logits start with unit variance either way: the factor 1/sqrt(D) is applied to the logits, if
     * the matrix starts from N(0, 1) as the embeddings do, or else is part of the matrix. */
    out->logit_scale = scaled ? 1 / root : 1;
    out->logit_cap = m->logit_cap;
    out->embedding = m->tie_embeddings
                         ? table
                         : td_param(g, "lm_head.weight", dims, 2, td_normal(scaled ? 1 : 1 / root));
}

/* x + post(attention(norm(x))). `in` has the inputs other than x; the fields that all attentions of
 * the stack share are filled in here. key NULL: self-attention. */
static inline td_tensor *attend(const struct stack *s, int64_t layer, td_tensor *x, const char *pre,
                                const char *name, const char *post, td_attention_in in)
{
    const struct model *m = s->model;
    td_tensor          *y;
    /* pre-norm: in self-attention keys are normalized with the queries; the encoder's output has
     * already passed its final norm */
    in.query = td_norm_build(&m->norm, pre, x);
    in.key = in.key ? in.key : in.query;
    in.q_position = s->position;
    in.stack = s->scope;
    in.position = m->position;
    in.dropout = s->dropout;
    in.layer = layer;
    y = td_attention_build(&m->attention, name, &in);
    if (m->post_norm)
        y = td_norm_build(&m->norm, post, y);
    return td_add(x, td_drop(y, s->dropout, name, 1));
}

/* x + self-attention, which in a merged attention reads the encoder's output as well. */
static inline td_tensor *attend_self(const struct stack *s, int64_t layer, td_tensor *x)
{
    td_attention_in in = {
        .k_position = s->position, .mask = s->mask, .role = s->role, .rotated = true
    };
    /* In generation a query's index in its tensor is not its place in the text. A row holds one
     * example, so positions are those places. */
    if (td_is_generating(x->graph))
        in.mask.q_index = in.mask.k_index = s->position;
    if (s->memory && attention_of(s->model)->roles & TD_ATTENTION_MERGED) {
        in.memory = s->memory;
        in.memory_position = s->memory_position;
        in.memory_mask = s->memory_mask;
    }
    return attend(s, layer, x, s->self_norm, "self_attn", "post_self_attn_layernorm", in);
}

/* x + cross-attention: queries of x, keys of the encoder's output. */
static inline td_tensor *attend_memory(const struct stack *s, int64_t layer, td_tensor *x)
{
    td_attention_in in = { .key = s->memory,
                           .k_position = s->memory_position,
                           .mask = s->memory_mask,
                           .role = TD_ROLE_CROSS,
                           .rotated = s->memory_rotated };
    return attend(s, layer, x, "pre_cross_attn_layernorm", "cross_attn",
                  "post_cross_attn_layernorm", in);
}

/* x + post(ffn(norm(x))). Segments tell an ffn which tokens are padding. */
static inline td_tensor *feed_forward(const struct stack *s, td_tensor *x)
{
    const struct model *m = s->model;
    td_ffn_in  in = { td_norm_build(&m->norm, s->ffn_norm, x), s->mask.q_segment, s->dropout };
    td_tensor *y = td_ffn_build(&m->ffn, "mlp", &in);
    if (m->post_ffn_norm)
        y = td_norm_build(&m->norm, "post_feedforward_layernorm", y);
    return td_add(x, td_drop(y, s->dropout, "mlp", 1));
}

/* All layers and the final norm. Call it in the stack's scope. */
static inline td_tensor *run_stack(const struct stack *s, td_tensor *x)
{
    td_graph *g = x->graph;
    /* a merged attention reads the encoder itself */
    bool      cross = s->memory && !(attention_of(s->model)->roles & TD_ATTENTION_MERGED);
    char      name[32];

    for (int64_t i = 0; i < s->layers; i++) {
        snprintf(name, sizeof name, "layers.%lld", (long long)i);
        td_push(g, name);
        td_layer_begin(g);
        x = attend_self(s, i + 1, x);
        if (cross)
            x = attend_memory(s, i + 1, x);
        x = feed_forward(s, x);
        td_layer_end(g);
        td_pop(g);
    }
    return td_drop(td_norm_build(&s->model->norm, "norm", x), s->dropout, "final", 1);
}

/* Rules between parts: the attention must serve one of `roles`, and its heads must suit the
 * positional scheme. */
static inline int check_parts(const struct model *m, uint64_t roles, td_error *error)
{
    const td_attention *a = attention_of(m);
    const td_position  *p = td_position_of(&m->position);
    if (!a || !p)
        return 0; /* an unknown plugin: already reported */
    if (!(a->roles & roles))
        return td_fail(error, TD_ECONFIG,
                       "attention '%s' cannot be used in this architecture: it does not support %s",
                       a->plugin.name,
                       roles & TD_ATTENTION_SELF ? "self-attention" : "cross-attention");
    if (p->check_head && a->head_dim)
        return p->check_head(m->position.config, a->head_dim(m->attention.config), error);
    return 0;
}

/* Does the positional scheme cover positions 0 .. positions - 1? */
static inline int check_scheme(const struct model *m, int64_t positions, td_error *error)
{
    const td_position *p = td_position_of(&m->position);
    return p->check_positions ? p->check_positions(m->position.config, positions, error) : 0;
}

static inline int64_t vocab_size(const void *config)
{
    return ((const struct model *)config)->vocab_size;
}

#endif
