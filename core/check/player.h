/* player.h - texts read pass by pass through a cache, each token compared with one whole pass. */
#ifndef TD_CHECK_PLAYER_H
#define TD_CHECK_PLAYER_H

#include "check/subject.h"
#include "plan/rows.h"

enum { TD_PLAYER_ROWS = 3, TD_PLAYER_PLANS = 4 };

/* A sentence alone in a row, followed by padding. */
typedef struct td_text_read {
    td_batch *batch;
    int64_t   tokens, prompt; /* of the predicting stream: in all, and up to the first weight */
    int64_t   source;         /* length of the other stream, 0: none */
    double   *whole;          /* hidden states of one whole pass, [tokens, width] */
    int64_t   width;
} td_text_read;

/* A token whose hidden state differs from that in the whole pass. */
typedef struct td_mismatch {
    bool    found;
    int64_t row, token, element;
    double  have, want;
} td_mismatch;

/* A graph of T new tokens, planned once and run in every pass of T tokens. */
typedef struct td_pass_plan {
    int        phase;
    int64_t    tokens;
    td_graph  *graph;
    td_tensor *hidden;
    td_plan   *plan;
    void      *memory;
} td_pass_plan;

/* A cache in use. Row r reads text[r], of which it has read at[r] tokens. */
typedef struct td_player {
    td_subject         *subject;
    td_cache           *cache;
    double              garbage; /* what its buffers contain at first */
    size_t              spoiled; /* states that hold it */
    td_pass_plan        plans[TD_PLAYER_PLANS];
    int                 n_plans;
    const td_text_read *text[TD_PLAYER_ROWS];
    int32_t             at[TD_PLAYER_ROWS];
    td_mismatch         mismatch; /* the first */
} td_player;

/* Lay all texts out in rows of the same lengths, with `spare` places of padding, and run their
 * whole passes. */
void td_texts_read(td_subject *, const td_sentence *, int count, int64_t spare, td_text_read *out);
void td_texts_free(td_text_read *, int count);

void td_player_open(td_player *, td_subject *, int64_t rows, int64_t capacity, int64_t chunk,
                    int64_t source, double garbage);
void td_player_close(td_player *);
/* One pass of `tokens` places, of which counts[r] are new tokens of row r. */
void td_player_pass(td_player *, int phase, int64_t tokens, const int32_t *counts);
/* Row r continues as row rows[r] of `from`, or as itself if that is -1. */
void td_player_move(td_player *, td_player *from, const int32_t *rows);

#endif
