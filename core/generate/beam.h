/* beam.h - beam search over log-probabilities, for one prompt.
 *
 * A hypothesis of n tokens (its end token counts) with summed log-probability s scores s /
 * n^length_penalty, as in Hugging Face: above 0 favours long answers, below 0 short ones, and 0
 * ignores the length. The search ends when no live hypothesis can still beat the worst finished one
 * at any length up to the limit, so a wide enough search finds the same answers as an exhaustive
 * one.
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
    int64_t        max_tokens, min_tokens; /* tokens of an answer, its end token included */
    double         length_penalty;
    const int32_t *stops; /* ids that end an answer; they outlive the search */
    int64_t        n_stops;
} td_beam_options;

typedef struct td_hypothesis {
    int32_t *tokens; /* [n], without the end token */
    int64_t  n;
    double   logprob, score;
    bool     stopped; /* true: by an end token; false: by the limit */
} td_hypothesis;

typedef struct td_beam td_beam;

td_beam *td_beam_new(const td_beam_options *); /* NULL: out of memory */
void     td_beam_free(td_beam *);

/* Live hypotheses: 1 before the first advance, then up to `beams`; 0 when the search is done. */
int64_t        td_beam_live(const td_beam *);
/* For each live hypothesis, its newest token and its parent: the index, in the previous step, of the
 * hypothesis that it extends. Empty before the first advance. */
const int32_t *td_beam_tokens(const td_beam *);
const int32_t *td_beam_parents(const td_beam *);
bool           td_beam_done(const td_beam *);

/* Log-probabilities [live, vocab_size] of the next token. False: out of memory. */
bool td_beam_advance(td_beam *, const double *logprobs);

/* Finished hypotheses, the best first, available once the search is done. The beam owns them. */
const td_hypothesis *td_beam_best(const td_beam *, int64_t *count);

#endif
