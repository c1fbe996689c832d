/* perplexity.h - held-out NLL by the fair protocol: every model gets the same prefix and is scored on
 * the same tokens.
 *
 * The first `prefix` tokens of each held-out sequence are given, the rest is scored, whatever the
 * loss: an encoder-decoder reads the prefix in its encoder, a decoder-only model in front. Per
 * source, then the plain mean over sources.
 */
#ifndef TD_EVALUATE_PERPLEXITY_H
#define TD_EVALUATE_PERPLEXITY_H

#include "model/arrange.h"
#include "model/engine.h"

typedef struct td_score {
    const char *source; /* the data source's own */
    int64_t     sequences, targets;
    double      nll;           /* nats per token, weighted; NaN: no held-out text */
    double      bits_per_byte; /* negative: unknown */
} td_score;

typedef struct td_evaluation {
    td_score *at;
    int64_t   count;
    double    nll, bits_per_byte; /* means over sources */
} td_evaluation;

typedef struct td_evaluate_spec {
    td_arrange_spec feed;
    int64_t      prefix;    /* tokens given; 0: half of the length */
    int64_t      sequences; /* per source, at most; 0: all */
    int64_t      batch;     /* sequences at once */
} td_evaluate_spec;

/* Plan it before the engine is allocated: a run that could not be evaluated does not begin.
 * `memory` grows to what it takes. Without data (NULL), for as many sequences at once as may be. */
int td_evaluate_plan(td_engine *, const td_evaluate_spec *, td_memory *memory, td_error *error);
/* `progress`: told after each batch how far it is; what it gives ends the evaluation unless it is
 * 0, with that code and no message. NULL: nobody is told. */
typedef int td_evaluate_progress(void *arg, int64_t done, int64_t all);
int         td_evaluate(td_engine *, const td_evaluate_spec *, td_evaluate_progress *, void *arg,
                        td_evaluation *out, td_error *error);
void        td_evaluation_free(td_evaluation *);

#endif
