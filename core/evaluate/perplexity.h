/* perplexity.h - held-out NLL by the fair protocol: every model gets the same prefix and is scored
 * on the same tokens.
 *
 * The first `prefix` tokens of each held-out sequence are given and the rest is scored, whatever
 * the loss was in training: an encoder-decoder reads the prefix in its encoder, a decoder-only
 * model in front. A score per source, then the plain mean over sources (td_evaluation,
 * tandem/embed.h).
 */
#ifndef TD_EVALUATE_PERPLEXITY_H
#define TD_EVALUATE_PERPLEXITY_H

#include "model/arrange.h"
#include "model/engine.h"
#include "team/team.h"

typedef struct td_evaluate_spec {
    td_arrange_spec feed;      /* its length is the length of held-out sequences */
    int64_t         prefix;    /* given tokens; 0: half of the length */
    int64_t         sequences; /* maximum number of sequences per source; 0: all */
    int64_t         batch;     /* sequences in one batch */
    bool            no_bytes; /* tokens do not stand for all bytes of their text: leave out bits per
                                * byte */
    /* The processes that share the batches; NULL: this one alone. All of them call td_evaluate with
     * the same parameters, and all get the scores of a single process, bit for bit. */
    td_team        *team;
} td_evaluate_spec;

/* A held-out record, split for scoring. Its arrays live in `arena`. */
int td_evaluate_fetch(const td_evaluate_spec *, td_arena *arena, int64_t source, int64_t index,
                      td_example *out, td_error *error);

/* Plan an evaluation before the engine is allocated: a run that could not be evaluated at its end
 * must not begin. `footprint`, unless NULL, grows by the memory needed. Without data, plans for a
 * full batch. */
int  td_evaluate_plan(td_engine *, const td_evaluate_spec *, td_footprint *footprint,
                      td_error *error);
/* `progress`, or NULL, is called after each batch; if it returns nonzero, on any rank, the evaluation
 * ends with TD_EEND and no message. Free `out` with td_evaluation_free; after a failure it is empty. */
int  td_evaluate(td_engine *, const td_evaluate_spec *, td_evaluation_progress *, void *arg,
                 td_evaluation *out, td_error *error);
void td_evaluation_free(td_evaluation *);

#endif
