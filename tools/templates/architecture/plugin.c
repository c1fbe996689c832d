/* architecture-@NAME@.c - a decoder-only model whose sublayers run side by side:
 *
 *     x = x + attention(norm(x)) + ffn(norm(x))
 *
 * Paper: Chowdhery et al., PaLM: Scaling Language Modeling with Pathways, 2022.
 *
 * The contract: tandem/kind/architecture.h; examples and batches: tandem/kind/batch.h. Its parts
 * (attention, position, norm, ffn) are plugins that the config names. */
#include <stdlib.h>

#include "tandem/kind/architecture.h"

struct @IDENT@_config {
    int64_t vocab_size, d_model, layers;
    td_part attention, position, norm, ffn;
};

static const char *const attention_kind[] = { TD_ATTENTION_KIND, NULL };
static const char *const position_kind[] = { TD_POSITION_KIND, NULL };
static const char *const norm_kind[] = { TD_NORM_KIND, NULL };
static const char *const ffn_kind[] = { TD_FFN_KIND, NULL };

static const td_option options[] = {
    TD_OPTION_INT(struct @IDENT@_config, vocab_size, 320, 2, 1 << 24, "rows of the embedding table"),
    TD_OPTION_INT(struct @IDENT@_config, d_model, 64, 1, 1 << 20, "width of the model"),
    TD_OPTION_INT(struct @IDENT@_config, layers, 2, 1, 4096, "layers"),
    TD_OPTION_PART(struct @IDENT@_config, attention, attention_kind, "softmax",
                   "attention of all layers"),
    TD_OPTION_PART(struct @IDENT@_config, position, position_kind, "rope", "positional scheme"),
    TD_OPTION_PART(struct @IDENT@_config, norm, norm_kind, "rms",
                   "norm before each layer and at the end"),
    TD_OPTION_PART(struct @IDENT@_config, ffn, ffn_kind, "relu2", "feed-forward sublayer"),
    TD_OPTION_END
};

/* [main]: rules across options and parts. Check here that the parts can be used, so that an
 * error is reported with the config's line and not in the middle of a run. */
static int check(const void *config, td_error *error)
{
    const struct @IDENT@_config *c = config;
    const td_attention       *a = (const void *)c->attention.plugin;
    const td_position        *p = (const void *)c->position.plugin;
    if (!a || !p)
        return 0; /* missing: already reported */
    if (!(a->roles & TD_ATTENTION_SELF))
        return td_fail(error, TD_ECONFIG,
                       "attention '%s' cannot be used here: it does not support self-attention",
                       a->plugin.name);
    return p->check_head && a->head_dim
               ? p->check_head(c->position.config, a->head_dim(c->attention.config), error)
               : 0;
}

static int check_bounds(const void *config, const td_bounds *b, td_error *error)
{
    const struct @IDENT@_config *c = config;
    const td_position        *p = td_position_of(&c->position);
    return p->check_positions ? p->check_positions(c->position.config, b->total, error) : 0;
}

/* ---- examples to arrays ---------------------------------------------------------------------- */

/* [any]: the number of places in a row that the largest example takes. Given and predicted
 * tokens form one sequence here. */
static td_extent extent(const void *config, const td_bounds *b)
{
    (void)config;
    return (td_extent){ .first = b->total };
}

/* All [rows, length]; zeroed at first, and owned by the batch. */
struct arrays {
    int32_t *ids, *segments, *positions, *labels;
    float   *weights;
};

static const char *const names[] = { "input_ids", "segments",     "positions",
                                     "labels",    "loss_weights", NULL };

static int32_t token(const td_example *e, int64_t k)
{
    return k < e->n_given ? e->given[k] : e->predicted[k - e->n_given];
}

/* Documents within an example are numbered from 1; without numbers it is a single document. */
static int32_t document(const td_example *e, int64_t k)
{
    const int32_t *d = k < e->n_given ? e->given_documents : e->predicted_documents;
    return d ? d[k < e->n_given ? k : k - e->n_given] : 1;
}

/* Writes an example from place `at` on, after segment `base` of its row. The model reads <s> x_1 ..
 * x_{n-1} and is trained to predict x_1 .. x_n; only predicted tokens have weight. Tokens see their
 * own segment only, so each document becomes a segment. */
static void place(struct arrays *a, const td_example *e, int64_t at, int32_t first, int32_t base)
{
    for (int64_t k = 0; k < e->n_given + e->n_predicted; k++) {
        int64_t p = k - e->n_given; /* index of the label among the predicted tokens */
        a->ids[at + k] = k ? token(e, k - 1) : first;
        a->segments[at + k] = base + document(e, k ? k - 1 : 0);
        a->positions[at + k] = (int32_t)k;
        a->labels[at + k] = token(e, k);
        a->weights[at + k] = p < 0 ? 0 : e->weights ? e->weights[p] : 1;
    }
}

/* Examples come from other plugins, so they are checked before use. */
static int check_example(const struct @IDENT@_config *c, const td_example *e, int64_t room,
                         td_error *error)
{
    int64_t n = e->n_given + e->n_predicted;
    /* with `places` the predicted tokens are not the ones that follow, as in masked language models */
    if (e->places)
        return td_fail(error, TD_ECONFIG,
                       "architecture '@NAME@' predicts the next token, but this loss predicts "
                       "tokens in place: choose another loss");
    if (n > room)
        return td_fail(error, TD_EFORMAT, "an example of %lld tokens does not fit into %lld places",
                       (long long)n, (long long)room);
    for (int64_t k = 0; k < n; k++)
        if (token(e, k) < 0 || token(e, k) >= c->vocab_size)
            return td_fail(error, TD_EFORMAT,
                           "token %lld of an example is %d, outside model.vocab_size = %lld: does "
                           "the model belong to this tokenizer?",
                           (long long)k, (int)token(e, k), (long long)c->vocab_size);
    return 0;
}

/* [worker]: lays out a batch. With train.pack several examples share a row, each starting where the
 * previous one ended. in->count may be 0: then only the shapes are needed. */
static int arrange(const void *config, const td_arrange_in *in, td_batch *out, td_error *error)
{
    int64_t       rows = in->rows, length = in->extent.first;
    struct arrays a = { td_batch_add(out, names[0], TD_I32, rows, length),
                        td_batch_add(out, names[1], TD_I32, rows, length),
                        td_batch_add(out, names[2], TD_I32, rows, length),
                        td_batch_add(out, names[3], TD_I32, rows, length),
                        td_batch_add(out, names[4], TD_F32, rows, length) };
    int64_t      *used = calloc((size_t)rows + 1, sizeof *used); /* places taken, per row */
    int32_t       first = in->special.bos >= 0 ? in->special.bos : 0;
    int           code = 0;

    if (!a.ids || !a.segments || !a.positions || !a.labels || !a.weights || !used)
        code = td_fail(error, TD_ENOMEM, "out of memory for the arrays of a batch");
    for (int64_t k = 0; !code && k < in->count; k++) {
        const td_example *e = &in->examples[k];
        int64_t           at = e->row * length + used[e->row];
        code = check_example(config, e, length - used[e->row], error);
        /* segment numbers continue within a row: tokens with the same number would see each other
         * */
        if (!code)
            place(&a, e, at, first, used[e->row] ? a.segments[at - 1] : 0);
        used[e->row] += e->n_given + e->n_predicted;
    }
    free(used);
    return code;
}

/* ---- graph ----------------------------------------------------------------------------------- */

/* x [B, T, D]; the scope is the layer's. `in` has everything but query and key. */
static td_tensor *layer(const struct @IDENT@_config *c, td_attention_in in, td_tensor *x)
{
    td_tensor *h = td_norm_build(&c->norm, "input_layernorm", x);
    td_ffn_in  f = { h, in.mask.q_segment, in.dropout };
    td_tensor *a, *b = td_ffn_build(&c->ffn, "mlp", &f);
    in.query = in.key = h;
    a = td_attention_build(&c->attention, "self_attn", &in);
    return td_add(x, td_add(td_drop(a, in.dropout, "attn", 1), td_drop(b, in.dropout, "mlp", 1)));
}

/* All layers and the final norm. */
static td_tensor *stack(const struct @IDENT@_config *c, const td_attention_in *in, td_tensor *x)
{
    td_graph       *g = x->graph;
    td_attention_in own = *in;
    char            name[32];
    for (int64_t i = 0; i < c->layers; i++) {
        snprintf(name, sizeof name, "layers.%lld", (long long)i);
        td_push(g, name);
        td_layer_begin(g); /* train.recompute may compute what is between begin and end again */
        own.layer = i + 1;
        x = layer(c, own, x);
        td_layer_end(g);
        td_pop(g);
    }
    return td_drop(td_norm_build(&c->norm, "norm", x), in->dropout, "final", 1);
}

/* Token t sees the tokens up to t in its own segment; padding (segment 0) sees only itself. */
static td_mask causal(td_graph *g, td_tensor *segment, td_tensor *position)
{
    td_mask m = { .causal = true, .self = true, .q_segment = segment, .k_segment = segment };
    /* in generation a pass has a few queries, and keys that came before them: positions, not
     * places in the row, say which is earlier */
    if (td_is_generating(g))
        m.q_index = m.k_index = position;
    return m;
}

/* [build]: the inputs of the graph are the arrays above. in->batch has their dims; do not read its
 * data. */
static void build(const void *config, const td_architecture_in *in, td_architecture_out *out)
{
    const struct @IDENT@_config *c = config;
    td_graph                 *g = in->graph;
    int64_t                   dims[] = { c->vocab_size, c->d_model };
    const td_position        *p = td_position_of(&c->position);
    td_tensor      *position = td_batch_input(g, in->batch, "positions"), *x; /* i32 [B, T] */
    td_attention_in a = { .q_position = position,
                          .k_position = position,
                          .mask = causal(g, td_batch_input(g, in->batch, "segments"), position),
                          .role = TD_ROLE_DECODER,
                          .stack = "model",
                          .position = c->position,
                          .rotated = true,
                          .dropout = in->dropout };

    td_push(g, "model");
    /* the table is also the output projection; with entries of variance 1, logits are divided by
     * sqrt(D) */
    out->embedding = td_param(g, "embed_tokens.weight", dims, 2, td_normal(1)); /* [V, D] */
    out->logit_scale = 1 / sqrt((double)c->d_model);
    x = td_gather(out->embedding, td_batch_input(g, in->batch, "input_ids")); /* [B, T, D] */
    if (p->embed) {
        td_hook_begin(g, &p->plugin, "embed");
        x = p->embed(c->position.config, x, position);
        td_hook_end(g);
        x = td_hook_result(g, &p->plugin, "embed", x);
    }
    out->hidden = stack(c, &a, td_drop(x, in->dropout, "embeddings", 1));
    td_pop(g);
}

static int64_t vocab_size(const void *config)
{
    return ((const struct @IDENT@_config *)config)->vocab_size;
}

/* The hook `complete` is left out: it is for batches made elsewhere (`tandem probe`). */
static const td_architecture @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_architecture, TD_ARCHITECTURE_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "decoder-only, attention and feed-forward side by side",
                        .paper = "Chowdhery et al., PaLM, 2022", .check = check),
    .extent = extent,
    .arrange = arrange,
    .build = build,
    .vocab_size = vocab_size,
    .check_bounds = check_bounds,
    .arrays = names,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
