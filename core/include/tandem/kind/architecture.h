/* kind/architecture.h - how a model reads given and predicted tokens. Stateless.
 *
 * `arrange` lays examples out as named arrays; `build` turns those, as graph inputs, into hidden
 * states. The names are those of the golden files: input_ids, segments, positions, prefix_mask;
 * encoder_ids, decoder_ids, ...; always labels (i32 [B, U]) and loss_weights (f32 [B, U]), aligned
 * with the hidden states.
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

/* Tokens that an example takes in each stream that the architecture reads: decoder-only { all, 0 },
 * encoder-decoder { encoder, decoder }. */
typedef struct td_extent {
    int64_t first, second;
} td_extent;

typedef struct td_arrange_in {
    const td_example *examples; /* each says its row; several in one row are packed, in order */
    int64_t           count, rows;
    td_extent         extent; /* row lengths to pad to */
    td_special        special;
} td_arrange_in;

typedef struct td_architecture_in {
    td_graph         *graph;
    const td_batch   *batch; /* td_batch_input(graph, batch, name); data is not to be read */
    const td_dropout *dropout;
} td_architecture_in;

typedef struct td_architecture_out {
    td_tensor *hidden;    /* [B, U, D], after the final norm */
    td_tensor *embedding; /* [V, D]: the tied matrix or the output projection */
    double     logit_scale;
} td_architecture_out;

enum {
    TD_ARCHITECTURE_HAS_ENCODER = 1, /* a loss that gives nothing is refused */
    /* Given tokens of a stack see tokens after them, so that generation must read all of a text's
     * given tokens, and the one that begins the prediction, in its first pass. Without it a prompt
     * may come in chunks. */
    TD_ARCHITECTURE_WHOLE_PROMPT = 2
};

typedef struct td_architecture {
    td_plugin plugin;
    uint64_t  flags;
    /* What the largest example within these bounds takes. [any] */
    td_extent (*extent)(const void *config, const td_bounds *);
    /* Examples to arrays. [worker] */
    int (*arrange)(const void *config, const td_arrange_in *in, td_batch *out, td_error *error);
    /* Arrays that somebody else made (probe): add what follows from the others, such as segments
     * from lengths. [main] */
    int (*complete)(const void *config, td_batch *batch, td_error *error);
    /* The scope is empty: push "model". [build] */
    void (*build)(const void *config, const td_architecture_in *in, td_architecture_out *out);
    /* Rows of the embedding table. [any] */
    int64_t (*vocab_size)(const void *config);
    /* Rules that need the lengths: as many positions as a scheme has, say. NULL: none. [main] */
    int (*check_bounds)(const void *config, const td_bounds *, td_error *error);
    /* Names of arrays that `complete` and `build` read, NULL at the end; batches of others may have
     * no other. NULL: any. */
    const char *const *arrays;
    /* Names of other architectures whose parameters mean the same here, NULL at the end: those of a
     * causal model, where the input becomes bidirectional. Others are refused. NULL: none. */
    const char *const *takes;
    /* Name of the array of ids that predicted tokens are read from: those of an answer go there as
     * they are generated. NULL: cannot generate. */
    const char *generated;
} td_architecture;

#ifdef __cplusplus
}
#endif
#endif
