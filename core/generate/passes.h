/* passes.h - passes of a model over a few columns of each row: their plans and their memory, for
 * decode.c. */
#ifndef TD_GENERATE_PASSES_H
#define TD_GENERATE_PASSES_H

#include "generate/prompt.h"
#include "plan/plan.h"
#include "plan/rows.h"

/* Tokens are scored in pieces: fewer make a slow product, more are seldom needed at once. */
enum { TD_MOST_PASSES = 64, TD_PASS_PIECE = 16 };

/* The graph of one shape of pass over a cache, ready to run. */
typedef struct td_pass {
    const td_cache *cache; /* NULL: reads whole texts */
    int             phase;
    int64_t         rows, tokens, source;
    /* 0: it gives logits; otherwise the NLL of this many tokens, a multiple of TD_PASS_PIECE */
    int64_t         scored;
    td_graph       *graph;
    td_plan        *plan;
    td_tensor *outputs[2]; /* logits [rows, vocab] of each row's last column; or nll and best */
} td_pass;

typedef struct td_passes {
    const td_model *model;
    td_variables   *variables;
    td_device       device; /* with layouts that all plans share */
    td_pass         at[TD_MOST_PASSES];
    size_t          count;
    void           *arena;
    size_t          arena_size;
    td_batch       *batch;
} td_passes;

/* What a pass reads: columns of each row, where they go in the cache, and tokens to score. */
typedef struct td_pass_input {
    const td_columns *slices;           /* [rows] */
    const td_prompt  *like;             /* any prompt */
    const int32_t    *lengths, *counts; /* [rows] */
    const int32_t *scored, *labels; /* [shape.scored]: row * tokens + column, and the token there */
} td_pass_input;

/* The columns that a pass over `count` of them has: padded, and at most `most`. */
int64_t  td_pass_length(int64_t count, int64_t most);
/* How many of `left` columns the next pass reads, so that all have about one length of at most `most`. */
int64_t  td_pass_share(int64_t left, int64_t most);
/* Run the pass of that shape, which is planned when it is first needed. NULL with `error`. */
td_pass *td_passes_run(td_passes *, td_pass shape, const td_pass_input *, td_error *error);
void     td_passes_close(td_passes *);

#endif
