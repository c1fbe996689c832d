/* score.h - the log-likelihood of targets, for any architecture: it ranks the choices of a task,
 * and shows whether greedy generation would produce an answer (td_scored, tandem/embed.h).
 *
 *     td_score_spec spec = { .feed = td_session_feed(session) };
 *     td_scored     items[] = { { .given = question, .n_given = n,
 *                                 .target = answer, .n_target = m } };
 *     td_score_items(engine, &spec, items, 1, NULL, NULL, &error);
 *
 * An encoder-decoder reads `given` in its encoder, a decoder-only model in front of the target.
 * Tokens are used as they are: appending </s> to either is up to the caller.
 *
 * Items of similar length share a batch, whatever their order. Consecutive items with the same
 * given tokens and single-token targets share a row: answers A, B, C and D cost one pass. A score
 * does not depend on the other items: lengths are rounded up by the item alone, so that an item is
 * computed by products of the same lengths in every batch. On a processor with AVX2 its bits are
 * the same for every batch size and number of threads; elsewhere the last few may differ. With a
 * `decoder`, the last few may also differ between an item that is scored alone and one that is
 * scored alongside others of its question.
 */
#ifndef TD_EVALUATE_SCORE_H
#define TD_EVALUATE_SCORE_H

#include "generate/decode.h"
#include "model/arrange.h"
#include "model/engine.h"
#include "team/team.h"

typedef struct td_score_spec {
    td_arrange_spec feed;   /* only the architecture and special ids are read */
    int64_t         batch;  /* most items per batch; 0: 64 */
    int64_t         tokens; /* most tokens per batch, unless one item is longer; 0: 8192 */
    /* Read the given tokens that consecutive items have in common once, and then their targets
     * (score_shared.h), where that pays; rows and lengths are overwritten. NULL: never. */
    const td_decoder_options *decoder;
    /* These processes, which make the same calls, divide batches and questions; all get all scores.
     * NULL: this one alone. */
    td_team                  *team;
} td_score_spec;

/* Plan what td_score_items will run for these items, before the engine is allocated; `footprint`, or
 * NULL, grows by what it takes. */
int td_score_plan(td_engine *, const td_score_spec *, td_scored *items, int64_t count,
                  td_footprint *footprint, td_error *error);

/* `progress`, or NULL, is called after each batch, counting items; if it returns nonzero, the
 * scoring ends with TD_EEND and no message. After a failure the outputs of the items are
 * undefined. */
int td_score_items(td_engine *, const td_score_spec *, td_scored *items, int64_t count,
                   td_evaluation_progress *, void *arg, td_error *error);

#endif
