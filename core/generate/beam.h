/* beam.h - beam search over log-probabilities, for one prompt.
 *
 * A hypothesis of n tokens (its end token counts) with summed log-probability s scores
 * s / n^length_penalty, as in Hugging Face: above 0 favours long answers, below 0 short ones, 0 does
 * not look at the length. The search ends when no live hypothesis can beat the worst finished one,
 * by the best score that any length up to the limit could give it, so a wide enough search finds
 * what an exhaustive one finds.
 *
 *     td_beam *b = td_beam_new(&options);
 *     while (!td_beam_done(b)) {
 *         ... a step of td_beam_live(b) rows: the last token of each ...
 *         td_beam_advance(b, logprobs);       rows move: td_beam_parents(b) says from where
 *     }
 *     td_beam_finish(b);
 */
#ifndef TD_GENERATE_BEAM_H
#define TD_GENERATE_BEAM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct td_beam_options {
    int64_t        beams, vocab_size;
    int64_t        max_tokens, min_tokens; /* of an answer, its end token included */
    double         length_penalty;
    const int32_t *stops; /* ids that end an answer; they outlive the search */
    int64_t        n_stops;
} td_beam_options;

typedef struct td_hypothesis {
    int32_t *tokens; /* [n], without the end token */
    int64_t  n;
    double   logprob, score;
    bool     stopped; /* by an end token; else by the limit */
} td_hypothesis;

typedef struct td_beam td_beam;

td_beam *td_beam_new(const td_beam_options *); /* NULL: out of memory */
void     td_beam_free(td_beam *);

/* Live hypotheses: 1 before the first advance, then up to `beams`; 0 when the search is done. */
int64_t        td_beam_live(const td_beam *);
/* The newest token of each live hypothesis, and the live hypothesis of the step before that it
 * continues. Empty before the first advance. */
const int32_t *td_beam_tokens(const td_beam *);
const int32_t *td_beam_parents(const td_beam *);
bool           td_beam_done(const td_beam *);

/* Log-probabilities [live, vocab_size] of the next token. False: out of memory. */
bool td_beam_advance(td_beam *, const double *logprobs);

/* Finished hypotheses, the best first; once the search is done. The beam owns them. */
const td_hypothesis *td_beam_best(const td_beam *, int64_t *count);

#endif
