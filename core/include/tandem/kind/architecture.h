/* kind/architecture.h - an architecture: how a model reads given tokens and predicts the others.
 * Stateless.
 *
 * A loss says which tokens of an example are given and which are predicted; an architecture says
 * how a model reads them. A decoder-only model puts the given ones in front; an encoder-decoder
 * reads them in its encoder. `arrange` lays examples out as named arrays, padded or packed; `build`
 * turns these, as inputs of the graph, into hidden states of the predicted positions. Attention,
 * position, norm and ffn are options of type part (TD_OPTION_PART), so every architecture works
 * with all of them.
 *
 * When: `extent` and `check_bounds` before the run, to size memory; `arrange` per batch, ahead of
 * the step; `build` once per shape and phase. Training, evaluation, perplexity with a prefix and
 * generation all go through the same four hooks. In generation (TD_PHASE_PREFILL, TD_PHASE_STEP) a
 * row is one example, and q_index and k_index of the mask are positions.
 *
 * Arrays are named as in the golden files: input_ids, segments, positions, prefix_mask;
 * encoder_ids, encoder_segments, decoder_ids, ..; and always labels (i32 [B, U]) and loss_weights
 * (f32 [B, U]), which are aligned with the hidden states. Arrays whose names end in _ids hold
 * tokens.
 *
 * Example:
 *
 *     // The sum of all embeddings so far: a poor model, but a model. One example per row.
 *     struct bag {
 *         int64_t vocab_size, d_model;
 *     };
 *
 *     static const td_option options[] = {
 *         TD_OPTION_NEED_INT(struct bag, vocab_size, 2, 1 << 24, "rows of the embedding table"),
 *         TD_OPTION_INT(struct bag, d_model, 64, 1, 4096, "width of the model"), TD_OPTION_END
 *     };
 *
 *     static td_extent extent(const void *config, const td_bounds *b)
 *     {
 *         td_extent e = { b->total, 0 };
 *         (void)config;
 *         return e;
 *     }
 *
 *     static int32_t token(const td_example *e, int64_t k)
 *     {
 *         return k < e->n_given ? e->given[k] : e->predicted[k - e->n_given];
 *     }
 *
 *     static int arrange(const void *config, const td_arrange_in *in, td_batch *out,
 *                        td_error *error)
 *     {
 *         int64_t  T = in->extent.first;
 *         int32_t *ids = td_batch_add(out, "input_ids", TD_I32, in->rows, T);
 *         int32_t *labels = td_batch_add(out, "labels", TD_I32, in->rows, T);
 *         float   *weights = td_batch_add(out, "loss_weights", TD_F32, in->rows, T);
 *         (void)config;
 *         if (!ids || !labels || !weights || in->count > in->rows)
 *             return td_fail(error, TD_EUNSUPPORTED, "'bag' takes one example per row");
 *         for (int64_t i = 0; i < in->count; i++) {
 *             const td_example *e = &in->examples[i];
 *             for (int64_t k = 0; k < e->n_given + e->n_predicted && k < T; k++) {
 *                 ids[e->row * T + k] = k ? token(e, k - 1) : in->special.pad;
 *                 labels[e->row * T + k] = token(e, k);
 *                 weights[e->row * T + k] = k >= e->n_given;
 *             }
 *         }
 *         return 0;
 *     }
 *
 *     static void build(const void *config, const td_architecture_in *in, td_architecture_out *out)
 *     {
 *         const struct bag *c = config;
 *         int64_t           dims[] = { c->vocab_size, c->d_model };
 *         td_tensor        *ids = td_batch_input(in->graph, in->batch, "input_ids"); // [B, T]
 *         td_push(in->graph, "model");
 *         out->embedding = td_param(in->graph, "embed_tokens.weight", dims, 2, td_normal(1));
 *         out->hidden = td_cumsum(td_gather(out->embedding, ids), 1, false); // [B, T, D]
 *         out->logit_scale = 1 / sqrt((double)c->d_model);
 *         td_pop(in->graph);
 *     }
 *
 *     static int64_t vocab_size(const void *config)
 *     {
 *         return ((const struct bag *)config)->vocab_size;
 *     }
 *
 *     static const td_architecture bag = {
 *         .plugin = TD_PLUGIN(td_architecture, TD_ARCHITECTURE_KIND, "bag", options, struct bag,
 *                             .brief = "the sum of all embeddings so far"),
 *         .extent = extent,
 *         .arrange = arrange,
 *         .build = build,
 *         .vocab_size = vocab_size,
 *     };
 */
#ifndef TANDEM_KIND_ARCHITECTURE_H
#define TANDEM_KIND_ARCHITECTURE_H

#include "attention.h"
#include "batch.h"
#include "ffn.h"
#include "norm.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_ARCHITECTURE_KIND "architecture/1"

/* The number of positions of a row that an example takes in each stream that the architecture
 * reads: { all, 0 } for decoder-only, { encoder, decoder } for an encoder-decoder. */
typedef struct td_extent {
    int64_t first, second;
} td_extent;

/* The examples of a batch. `count` is 0 where only the shapes are needed. */
typedef struct td_arrange_in {
    /* each names its row; several in one row are packed, in this order */
    const td_example *examples;
    int64_t           count, rows;
    td_extent         extent; /* the lengths of a row in each stream: pad to these */
    td_special        special;
} td_arrange_in;

/* The graph to build. Only the names and dims of `batch` may be read, through td_batch_input: the
 * graph serves every batch of its shape. */
typedef struct td_architecture_in {
    td_graph         *graph;
    const td_batch   *batch;
    const td_dropout *dropout;
} td_architecture_in;

/* The arguments of the loss. */
typedef struct td_architecture_out {
    td_tensor *hidden;      /* [B, U, D], after the final norm */
    td_tensor *embedding;   /* [V, D]: the embedding table if tied, else the output projection */
    double     logit_scale; /* logits are td_cap(logit_scale * hidden embedding^T, logit_cap) */
    double     logit_cap;   /* 0: none */
} td_architecture_out;

enum {
    TD_ARCHITECTURE_HAS_ENCODER = 1, /* a loss that gives no tokens is refused */
    /* Given tokens of a stack see later ones, so generation must read all of a text's given tokens,
     * and the one that begins the prediction, in its first pass. Without this flag a prompt may be
     * read in chunks. */
    TD_ARCHITECTURE_WHOLE_PROMPT = 2
};

/* What a parameter is copied from, in a model made from one of another architecture. */
typedef struct td_origin {
    /* It is in the encoder's source model, which may differ from the source of the rest. */
    bool encoder;
    /* It does not belong to the encoder alone, so a model that supplies only the encoder need not
     * have it. The host also asks this about a parameter of such a model, whose name is then the
     * same in this architecture. */
    bool shared;
    char name[256]; /* in the source model */
} td_origin;

typedef struct td_architecture {
    td_plugin plugin;
    uint64_t  flags;
    /* The positions that the largest example within these bounds takes. [any] */
    td_extent (*extent)(const void *config, const td_bounds *);
    /* Lay examples out as arrays of `out`. An example that does not fit, or whose tokens are
     * outside the vocabulary, is an error; so is a packed row, if the architecture cannot pack.
     * [worker] */
    int (*arrange)(const void *config, const td_arrange_in *in, td_batch *out, td_error *error);
    /* For a batch that was made elsewhere (`tandem probe`): add the arrays that can be derived from
     * those present, such as segments from lengths. NULL: none can. [main] */
    int (*complete)(const void *config, td_batch *batch, td_error *error);
    /* Emit the model and fill in `out`. The scope is empty: push "model". [build] */
    void (*build)(const void *config, const td_architecture_in *in, td_architecture_out *out);
    /* The rows of the embedding table, at least the tokenizer's vocab_size. [any] */
    int64_t (*vocab_size)(const void *config);
    /* Refuse lengths that a part cannot handle, such as more positions than a scheme has. NULL: any
     * length will do. [main] */
    int (*check_bounds)(const void *config, const td_bounds *, td_error *error);
    /* The names of all arrays that `complete` and `build` read, then NULL; other names in a batch
     * made elsewhere are an error. NULL: any name is accepted. */
    const char *const *arrays;
    /* The names of other architectures whose weights can be loaded into this one, such as a causal
     * model's where only the mask differs; then NULL. Weights of any other architecture are
     * refused. May be NULL. */
    const char *const *takes;
    /* The name of the array of ids that predicted tokens are read from: an answer's tokens are
     * written there as they are generated. NULL: cannot generate. */
    const char        *generated;
    /* The names of other architectures that a model of this one can be made from, then NULL (`tandem
     * convert --adapt`). NULL: none. */
    const char *const *adapts;
    /* What a parameter of this architecture is then copied from. Required with `adapts`. [main] */
    void (*origin)(const char *parameter, td_origin *out);
} td_architecture;

#ifdef __cplusplus
}
#endif
#endif
