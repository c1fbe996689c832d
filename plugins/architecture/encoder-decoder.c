/* encoder-decoder.c - an encoder reads the given tokens, and a decoder predicts. Paper: Zhang et
 * al. 2025 (arXiv 2510.26622). */
#include "rows.h"
#include "stack.h"

struct encoder_decoder {
    struct model model;
    int64_t      encoder_layers, decoder_layers;
    bool         continuous_positions, cross_positions, bidirectional, share_embeddings;
};

MODEL_FIRST(struct encoder_decoder, model);

static const td_option options[] = {
    MODEL_OPTIONS,
    TD_OPTION_NEED_INT(struct encoder_decoder, encoder_layers, 1, 4096, "layers of the encoder"),
    TD_OPTION_NEED_INT(struct encoder_decoder, decoder_layers, 1, 4096, "layers of the decoder"),
    TD_OPTION_BOOL(struct encoder_decoder, continuous_positions, true,
                   "the decoder's positions continue where the encoder's end"),
    TD_OPTION_BOOL(struct encoder_decoder, cross_positions, true,
                   "also rotate queries and keys of cross-attention"),
    TD_OPTION_BOOL(
        struct encoder_decoder, bidirectional, true,
        "encoder tokens see those after them; false: only themselves and those before them"),
    TD_OPTION_BOOL(struct encoder_decoder, share_embeddings, true,
                   "both stacks read one table of embeddings; false: the encoder has its own"),
    TD_OPTION_END
};

static td_extent extent(const void *config, const td_bounds *b)
{
    return (td_extent){ b->given, b->predicted };
}

static int check_bounds(const void *config, const td_bounds *b, td_error *error)
{
    const struct encoder_decoder *c = config;
    int64_t                       longest = b->given > b->predicted ? b->given : b->predicted;
    return check_scheme(&c->model, c->continuous_positions ? b->total : longest, error);
}

static const char *const arrays[] = { "encoder_ids",
                                      "encoder_lengths",
                                      "encoder_segments",
                                      "encoder_positions",
                                      "decoder_ids",
                                      "decoder_lengths",
                                      "decoder_segments",
                                      "decoder_positions",
                                      "labels",
                                      "loss_weights",
                                      NULL };

/* ---- arrays ---------------------------------------------------------------------------------- */

struct rows {
    struct stream encoder, decoder;
    int32_t      *labels;
    int32_t      *segments; /* the last one used in each row, in both streams */
    float        *weights;
};

/* Add the arrays of a batch. */
static int open_rows(struct rows *r, const td_arrange_in *in, td_batch *out, td_error *error)
{
    int64_t rows = in->rows, source = in->extent.first, target = in->extent.second;
    int32_t pad = in->special.pad;

    /* all NULL first: arrange frees whatever an early return leaves */
    memset(r, 0, sizeof *r);
    if (stream_open(&r->encoder, out, "encoder", "encoder_ids", "encoder_segments",
                    "encoder_positions", rows, source, pad) ||
        stream_open(&r->decoder, out, "decoder", "decoder_ids", "decoder_segments",
                    "decoder_positions", rows, target, pad))
        return out_of_memory(error);
    r->labels = td_batch_add(out, "labels", TD_I32, rows, target);
    r->weights = td_batch_add(out, "loss_weights", TD_F32, rows, target);
    r->segments = calloc((size_t)rows + 1, sizeof *r->segments);
    return r->labels && r->weights && r->segments ? 0 : out_of_memory(error);
}

/* The encoder reads x_1 .. x_S, without <s>: it predicts nothing. */
static int place_given(struct rows *r, const td_example *e, int32_t segment, td_error *error)
{
    int64_t at = stream_take(&r->encoder, e->row, e->n_given, error);
    for (int64_t k = 0; at >= 0 && k < e->n_given; k++) {
        r->encoder.ids[at + k] = e->given[k];
        r->encoder.segments[at + k] = segment + document_of(e, k);
        r->encoder.positions[at + k] = (int32_t)k;
    }
    return at < 0 ? (int)at : 0;
}

/* The decoder reads <s> x_{S+1} .. x_{T-1} and must predict x_{S+1} .. x_T. Its positions count
 * from `start`. */
static int place_predicted(struct rows *r, const td_example *e, int32_t segment, int32_t first,
                           int64_t start, td_error *error)
{
    int64_t at = stream_take(&r->decoder, e->row, e->n_predicted, error);
    for (int64_t k = 0; at >= 0 && k < e->n_predicted; k++) {
        r->decoder.ids[at + k] = k ? e->predicted[k - 1] : first;
        r->decoder.segments[at + k] = segment + document_of(e, e->n_given + (k ? k - 1 : 0));
        r->decoder.positions[at + k] = (int32_t)(start + k);
        r->labels[at + k] = e->predicted[k];
        r->weights[at + k] = e->weights ? e->weights[k] : 1;
    }
    return at < 0 ? (int)at : 0;
}

/* Place both sides of an example in its row. */
static int place(struct rows *r, const struct encoder_decoder *c, const td_example *e,
                 int32_t first, td_error *error)
{
    int32_t segment;
    int     code = check_example(e, c->model.vocab_size, error);
    if (code)
        return code;
    /* Both streams use the same segment, by which cross-attention finds an example's own inputs. A
     * row out of range is reported by stream_take, so only the lookup has to survive it. */
    segment = e->row >= 0 && e->row < r->encoder.rows ? r->segments[e->row] + 1 : 1;
    code = place_given(r, e, segment, error);
    if (!code)
        code = place_predicted(r, e, segment, first, c->continuous_positions ? e->n_given : 0,
                               error);
    if (!code)
        r->segments[e->row] += segments_of(e);
    return code;
}

static int arrange(const void *config, const td_arrange_in *in, td_batch *out, td_error *error)
{
    struct rows r;
    int         code = open_rows(&r, in, out, error);
    for (int64_t k = 0; !code && k < in->count; k++)
        code = place(&r, config, &in->examples[k], first_token(&in->special), error);
    free(r.encoder.used);
    free(r.decoder.used);
    free(r.segments);
    return code;
}

/* The number of encoder tokens in each row, without padding; NULL if memory ran out. Free it. */
static int32_t *count_real(const td_batch *b)
{
    const td_array *a = td_batch_find(b, "encoder_segments");
    int32_t        *n = calloc((size_t)a->dim[0], sizeof *n);
    for (int64_t k = 0; n && a->data && k < a->dim[0] * a->dim[1]; k++)
        n[k / a->dim[1]] += ((const int32_t *)a->data)[k] != 0;
    return n;
}

/* As in decoder_complete, for the decoder's arrays. */
static int complete_decoder(const struct encoder_decoder *c, td_batch *batch, const td_array *ids,
                            td_error *error)
{
    const struct model *m = &c->model;
    /* where the encoder's positions end, if the decoder's continue there */
    int32_t            *start = c->continuous_positions ? count_real(batch) : NULL;

    int code = add_leading_ones(batch, "decoder_segments", ids, "decoder_lengths", true, error);
    if (!code && c->continuous_positions && !start)
        code = out_of_memory(error);
    if (!code)
        code = add_positions(batch, "decoder_positions", "decoder_segments", ids, start, error);
    free(start);
    if (!code)
        code = check_positions(batch, "decoder_positions", "decoder_segments", &m->position, error);
    return code ? code : complete_labels(batch, "decoder_segments", ids, m->vocab_size, error);
}

/* Fill in the arrays that a batch from outside lacks, in both streams. */
static int complete(const void *config, td_batch *batch, td_error *error)
{
    const struct model *m = config;
    const td_array     *given = need_ids(batch, "encoder_ids", m->vocab_size, error);
    const td_array     *ids = need_ids(batch, "decoder_ids", m->vocab_size, error);
    int                 code;

    /* the encoder first: the decoder's positions may continue after it */
    if (!given || !ids)
        return TD_EFORMAT;
    if (given->dim[0] != ids->dim[0])
        return td_fail(error, TD_EFORMAT, "encoder_ids has %lld rows, decoder_ids %lld",
                       (long long)given->dim[0], (long long)ids->dim[0]);
    code = add_leading_ones(batch, "encoder_segments", given, "encoder_lengths", true, error);
    if (!code)
        code = add_positions(batch, "encoder_positions", "encoder_segments", given, NULL, error);
    if (!code)
        code = check_positions(batch, "encoder_positions", "encoder_segments", &m->position, error);
    return code ? code : complete_decoder(config, batch, ids, error);
}

/* ---- graph ----------------------------------------------------------------------------------- */

/* Both stacks see their own tokens under one kind of mask, which is causal in the decoder and, unless it
 * is bidirectional, in the encoder. */
static struct stack stack_of(const struct encoder_decoder *c, const td_architecture_in *in,
                             td_role role)
{
    /* as in T5Gemma, an encoder's layer has the same names; only its mask is open on both sides */
    bool         decoder = role == TD_ROLE_DECODER;
    td_tensor   *segment = td_batch_input(in->graph, in->batch,
                                        decoder ? "decoder_segments" : "encoder_segments");
    struct stack s = {
        .model = &c->model,
        .dropout = in->dropout,
        .role = role,
        .scope = decoder ? "model.decoder" : "model.encoder",
        .layers = decoder ? c->decoder_layers : c->encoder_layers,
        .memory_rotated = c->cross_positions,
        .self_norm = "pre_self_attn_layernorm",
        .ffn_norm = "pre_feedforward_layernorm",
        .position = td_batch_input(in->graph, in->batch,
                                   decoder ? "decoder_positions" : "encoder_positions"),
        .mask = { .causal = decoder || !c->bidirectional,
                  .self = true,
                  .q_segment = segment,
                  .k_segment = segment },
    };
    return s;
}

static td_tensor *run_in(const char *scope, const struct stack *s, td_tensor *x)
{
    td_push(x->graph, scope);
    x = run_stack(s, x);
    td_pop(x->graph);
    return x;
}

/* The stack's own table of embeddings. */
static td_tensor *table_in(const char *scope, const struct model *m, td_graph *g)
{
    td_tensor *table;
    td_push(g, scope);
    table = embedding_table(m, g);
    td_pop(g);
    return table;
}

static void build(const void *config, const td_architecture_in *in, td_architecture_out *out)
{
    const struct encoder_decoder *c = config;
    const struct model           *m = &c->model;
    td_graph                     *g = in->graph;
    struct stack                  encoder = stack_of(c, in, TD_ROLE_ENCODER);
    struct stack                  decoder = stack_of(c, in, TD_ROLE_DECODER);
    td_tensor                    *table, *own, *x, *y;

    /* a table that both stacks share has the decoder's name */
    td_push(g, "model");
    table = table_in("decoder", m, g);
    own = c->share_embeddings ? table : table_in("encoder", m, g);
    x = embed(m, in->dropout, "encoder", own, td_batch_input(g, in->batch, "encoder_ids"),
              encoder.position);
    decoder.memory = run_in("encoder", &encoder, x);
    decoder.memory_position = encoder.position;
    /* every token of the segment, in any order: no causality between the two sequences */
    decoder.memory_mask = (td_mask){ .q_segment = decoder.mask.q_segment,
                                     .k_segment = encoder.mask.k_segment };
    y = embed(m, in->dropout, "decoder", table, td_batch_input(g, in->batch, "decoder_ids"),
              decoder.position);
    out->hidden = run_in("decoder", &decoder, y);
    td_pop(g);
    project_out(m, g, table, out);
}

/* A merged attention has one set of queries for both stacks: they cannot be rotated for the
 * decoder's keys but not for the encoder's. */
static int check_merged(const struct encoder_decoder *c, td_error *error)
{
    const td_attention *a = attention_of(&c->model);
    if (!a || c->cross_positions || !(a->roles & TD_ATTENTION_MERGED))
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "cross_positions = false has no effect with attention '%s', whose queries read "
                   "encoder and decoder together: remove it",
                   a->plugin.name);
}

static int check(const void *config, td_error *error)
{
    /* self-attention is needed in both stacks; the encoder may be read in either of two ways */
    int code = check_parts(config, TD_ATTENTION_SELF, error);
    if (!code)
        code = check_parts(config, TD_ATTENTION_CROSS | TD_ATTENTION_MERGED, error);
    return code ? code : check_merged(config, error);
}

/* ---- made from a decoder-only model ---------------------------------------------------------- */

static const char *const adapts[] = { "decoder-only", "decoder-biattn", NULL };

/* The names of our sublayers there, where a layer has only one attention. */
static const char *const sublayers[][2] = {
    { "pre_self_attn_layernorm.", "input_layernorm." },
    { "pre_cross_attn_layernorm.", "input_layernorm." },
    { "post_cross_attn_layernorm.", "post_self_attn_layernorm." },
    { "pre_feedforward_layernorm.", "post_attention_layernorm." },
    { "cross_attn.", "self_attn." },
};

/* Both stacks are that model's, and cross-attention begins as the decoder's self-attention, whose keys
 * and values are then those of another text. Zhang et al. 2025 (arXiv 2504.06225), section 3. */
static void origin(const char *parameter, td_origin *out)
{
    static const char encoder[] = "model.encoder.", decoder[] = "model.decoder.";
    const char       *rest = parameter, *inside;
    out->encoder = !strncmp(parameter, encoder, strlen(encoder));
    /* one table for both stacks, of tokens (unless the encoder has its own) and of positions; and
     * the matrix for the logits, which an encoder has no use for */
    out->shared = !strcmp(parameter, "model.decoder.embed_tokens.weight") ||
                  !strcmp(parameter, "model.position_embeddings.weight") ||
                  !strcmp(parameter, "lm_head.weight");
    if (out->encoder || !strncmp(parameter, decoder, strlen(decoder)))
        rest += strlen(encoder); /* both have the same length */
    for (size_t k = 0; k < sizeof sublayers / sizeof *sublayers; k++)
        if ((inside = strstr(rest, sublayers[k][0])) != NULL) {
            snprintf(out->name, sizeof out->name, "model.%.*s%s%s", (int)(inside - rest), rest,
                     sublayers[k][1], inside + strlen(sublayers[k][0]));
            return;
        }
    snprintf(out->name, sizeof out->name, "%s%s", rest == parameter ? "" : "model.", rest);
}

static const td_architecture encoder_decoder = {
    .plugin = TD_PLUGIN(td_architecture, TD_ARCHITECTURE_KIND, "encoder-decoder", options,
                        struct encoder_decoder,
                        .brief = "an encoder reads the given tokens, and a decoder predicts",
                        .check = check,
                        .paper = "Zhang et al., Encoder-Decoder or Decoder-Only?, 2025"),
    .flags = TD_ARCHITECTURE_HAS_ENCODER,
    .extent = extent,
    .check_bounds = check_bounds,
    .arrays = arrays,
    .generated = "decoder_ids",
    .arrange = arrange,
    .complete = complete,
    .build = build,
    .vocab_size = vocab_size,
    .adapts = adapts,
    .origin = origin,
};

TD_MODULE("encoder-decoder", "1.0", "tandem", "MIT", &encoder_decoder.plugin)
