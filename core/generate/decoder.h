/* decoder.h - the inside of a decoder, for decode.c and decode_score.c. */
#ifndef TD_GENERATE_DECODER_H
#define TD_GENERATE_DECODER_H

#include "generate/decode.h"

typedef struct row {
    td_prompt prompt;
    bool      active;
    int64_t   read;   /* columns that the model has read */
    int64_t   answer; /* tokens of the answer so far */
} row;

struct td_decoder {
    td_decoder_options options;
    td_passes          passes;
    int64_t            vocab, capacity, chunk, source;
    /* A prompt is read into a cache of one row, then moved, so that the other rows are not
     * involved. */
    td_cache          *cache, *intake;
    td_row_gather     *admit, *reorder; /* from intake to cache; within the cache */
    row               *rows;
    float             *values; /* [rows][vocab] */
    td_columns        *slices;
    int32_t           *lengths, *counts, *from;
    td_pass_cost       prompt_cost; /* cost of the last prompt */
};

#endif
