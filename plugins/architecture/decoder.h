/* decoder.h - decoder-only models: one stack reads given and predicted tokens as one sequence.
 *
 * The causal model and the one whose given tokens see each other (BiAttn) differ only in the mask:
 * `bidirectional` below. */
#ifndef TANDEM_PLUGINS_DECODER_H
#define TANDEM_PLUGINS_DECODER_H

#include "rows.h"
#include "stack.h"

struct decoder {
    struct model model;
    int64_t      layers;
};

MODEL_FIRST(struct decoder, model);

static const td_option decoder_options[] = {
    MODEL_OPTIONS, TD_OPTION_NEED_INT(struct decoder, layers, 1, 4096, "layers"), TD_OPTION_END
};

static inline td_extent decoder_extent(const void *config, const td_bounds *b)
{
    return (td_extent){ b->total, 0 };
}

static inline int decoder_check_bounds(const void *config, const td_bounds *b, td_error *error)
{
    return check_scheme(config, b->total, error);
}

static const char *const decoder_arrays[] = { "input_ids", "lengths",      "segments",
                                              "positions", "prefix_mask",  "prefix_lengths",
                                              "labels",    "loss_weights", NULL };

/* ---- arrays ---------------------------------------------------------------------------------- */

struct decoder_rows {
    struct stream tokens;
    int32_t      *prefix; /* NULL in a causal model */
    int32_t      *labels;
    int32_t      *segments; /* the last one used in each row */
    float        *weights;
};

/* Add the arrays of a batch. Even on failure, decoder_arrange frees whatever was allocated. */
static inline int decoder_open(struct decoder_rows *d, const td_arrange_in *in, bool bidirectional,
                               td_batch *out, td_error *error)
{
    int64_t rows = in->rows, length = in->extent.first;
    memset(d, 0, sizeof *d);
    if (stream_open(&d->tokens, out, "decoder", "input_ids", "segments", "positions", rows, length,
                    in->special.pad))
        return out_of_memory(error);
    if (bidirectional)
        d->prefix = td_batch_add(out, "prefix_mask", TD_I32, rows, length);
    d->labels = td_batch_add(out, "labels", TD_I32, rows, length);
    d->weights = td_batch_add(out, "loss_weights", TD_F32, rows, length);
    /* + 1: calloc of 0 bytes may return NULL */
    d->segments = calloc((size_t)rows + 1, sizeof *d->segments);
    if ((bidirectional && !d->prefix) || !d->labels || !d->weights || !d->segments)
        return out_of_memory(error);
    return 0;
}

/* Reads <s> x_1 .. x_{n-1} and must predict x_1 .. x_n; only predicted tokens have weight. */
static inline int decoder_place(struct decoder_rows *d, const td_example *e, int32_t first,
                                td_error *error)
{
    int64_t n = e->n_given + e->n_predicted, at = stream_take(&d->tokens, e->row, n, error);
    int32_t base;
    if (at < 0)
        return (int)at;
    /* Segments continue after the row's earlier examples. Input k is token k - 1, so its segment is
     * that token's document, even where its label already belongs to the next one. */
    base = d->segments[e->row] + 1;
    d->segments[e->row] += segments_of(e);
    for (int64_t k = 0; k < n; k++) {
        int64_t p = k - e->n_given; /* the label's index among the predicted tokens */
        d->tokens.ids[at + k] = k ? token_of(e, k - 1) : first;
        d->tokens.segments[at + k] = base + document_of(e, k ? k - 1 : 0);
        d->tokens.positions[at + k] = (int32_t)k;
        d->labels[at + k] = token_of(e, k);
        d->weights[at + k] = p < 0 ? 0 : e->weights ? e->weights[p] : 1;
        /* <s> and all given tokens, the last of which predicts the first label that counts */
        if (d->prefix)
            d->prefix[at + k] = k <= e->n_given;
    }
    return 0;
}

/* Check an example before any of it is written, then place it. */
static inline int decoder_arrange(const struct model *m, const td_arrange_in *in,
                                  bool bidirectional, td_batch *out, td_error *error)
{
    struct decoder_rows d;
    int                 code = decoder_open(&d, in, bidirectional, out, error);
    for (int64_t k = 0; !code && k < in->count; k++) {
        code = check_example(&in->examples[k], m->vocab_size, error);
        if (!code)
            code = decoder_place(&d, &in->examples[k], first_token(&in->special), error);
    }
    /* the arrays belong to the batch; these two do not */
    free(d.tokens.used);
    free(d.segments);
    return code;
}

/* Fill in the arrays that a batch from outside lacks: segments from lengths, positions, prefix,
 * weights. Each array is needed by the check after it, hence the order. */
static inline int decoder_complete(const struct model *m, bool bidirectional, td_batch *batch,
                                   td_error *error)
{
    const td_array *ids = need_ids(batch, "input_ids", m->vocab_size, error);
    int code = ids ? add_leading_ones(batch, "segments", ids, "lengths", true, error) : TD_EFORMAT;
    if (!code)
        code = add_positions(batch, "positions", "segments", ids, NULL, error);
    if (!code)
        code = check_positions(batch, "positions", "segments", &m->position, error);
    if (!code && bidirectional)
        code = add_leading_ones(batch, "prefix_mask", ids, "prefix_lengths", false, error);
    return code ? code : complete_labels(batch, "segments", ids, m->vocab_size, error);
}

/* ---- graph ----------------------------------------------------------------------------------- */

/* The names of norms are Qwen3's. The second is meant literally: it comes after attention, before
 * the ffn. */
static inline struct stack decoder_stack(const struct decoder *c, const td_architecture_in *in,
                                         bool bidirectional)
{
    td_tensor *segment = td_batch_input(in->graph, in->batch, "segments");
    td_tensor *prefix = bidirectional ? td_batch_input(in->graph, in->batch, "prefix_mask") : NULL;

    /* two input tokens see each other despite causality: passing prefix is what makes the model
     * BiAttn */
    return (struct stack){ .model = &c->model,
                           .dropout = in->dropout,
                           .scope = "model",
                           .role = TD_ROLE_DECODER,
                           .layers = c->layers,
                           .self_norm = "input_layernorm",
                           .ffn_norm = "post_attention_layernorm",
                           .position = td_batch_input(in->graph, in->batch, "positions"),
                           .mask = { .causal = true,
                                     .self = true,
                                     .q_segment = segment,
                                     .k_segment = segment,
                                     .q_input = prefix,
                                     .k_input = prefix } };
}

static inline void decoder_build(const struct decoder *c, const td_architecture_in *in,
                                 bool bidirectional, td_architecture_out *out)
{
    const struct model *m = &c->model;
    td_graph           *g = in->graph;
    struct stack        s = decoder_stack(c, in, bidirectional);
    td_tensor          *table, *x;

    /* the stack is the whole model, so it lives in the model's scope; lm_head does not */
    td_push(g, "model");
    table = embedding_table(m, g);
    x = embed(m, in->dropout, "embeddings", table, td_batch_input(g, in->batch, "input_ids"),
              s.position);
    out->hidden = run_stack(&s, x);
    td_pop(g);
    project_out(m, g, table, out);
}

static inline int decoder_check(const void *config, td_error *error)
{
    return check_parts(config, TD_ATTENTION_SELF, error);
}

#endif
