/* work.h - what commands that compute share: a config opened, threads, an engine, tokenizer and
 * data. */
#ifndef TD_TOOLS_WORK_H
#define TD_TOOLS_WORK_H

#include "command.h"
#include "run/experiment.h"

typedef struct td_work {
    td_tool           *tool;
    td_experiment     *x;
    td_pool           *pool;
    char              *shipped; /* what services->shipped says */
    const td_services *services;
    td_engine         *engine;
    void              *tokenizer, *data; /* states, which may be NULL */
    bool               tokenizer_opened, data_opened;
    char               tokenizer_id[64]; /* tells what tokenizers of other pieces are not */
    td_special         special;
    uint64_t           allowed; /* which of the keys that may differ do (weights.h) */
} td_work;

/* The config with its parts and a thread pool. False after a message, with the exit code in
 * `*code`. */
bool td_work_open(td_work *, td_tool *, unsigned needs, int *code);
void td_work_close(td_work *);

/* Backend and model. */
int td_work_engine(td_work *, td_error *error);
/* The tokenizer alone. */
int td_work_tokenizer(td_work *, td_error *error);
/* Tokenizer and data source; prepares token shards where they are missing. */
int td_work_data(td_work *, td_error *error);
/* Only what opening would prepare. */
int td_work_prepare(td_work *, td_error *error);

/* How training, or evaluation, lays out its batches; without data until td_work_data. */
td_arrange_spec  td_work_feed(const td_work *);
td_evaluate_spec td_work_evaluate(const td_work *);
/* {"nll", "perplexity", "bits_per_byte", "sources": [..]} of an evaluation; unknown numbers are
 * null. */
json_t          *td_work_scores(const td_evaluation *);
/* Plan all that a run of the config does: steps of the largest micro-batches that can come, norms,
 * evaluation. Memory for all of it, the batches that are read ahead among the inputs. */
int              td_work_plan(td_work *, td_memory *memory, td_error *error);
/* Rows of random tokens of full length, given and predicted as the loss splits them; lengths are
 * rounded up to `bucket` as in training. */
td_batch        *td_work_random(const td_work *, int64_t rows, int64_t bucket, td_error *error);

#endif
