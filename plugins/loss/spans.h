/* spans.h - spans of a text are removed, marked and predicted. Paper: Raffel et al. 2020, with the
 * arithmetic and the random spans of its authors' code (T5's random_spans_noise_mask).
 *
 * Of n tokens, round(n density) are noise, in round(noise / mean_span) spans. Kept tokens and noise
 * are each cut at random into that many runs of at least one token, and the runs alternate,
 * beginning with kept ones. With sentinels <0>, <1>, ..:
 *
 *     text       Thank you for inviting me to your party last week
 *     given      Thank you <0> me to your party <1> week </s>
 *     predicted  <0> for inviting <1> last </s>
 *
 * As in the authors' code, no sentinel ends the targets: the tokenizer's eos does, if it has one.
 */
#ifndef TANDEM_PLUGINS_SPANS_H
#define TANDEM_PLUGINS_SPANS_H

#include <math.h>

#include "pairs.h"

struct spans {
    int64_t noise, count; /* tokens removed, and in how many spans */
};

/* The numbers for n >= 2 tokens. rint rounds halves to even, like numpy in the authors' code: with
 * lround, lengths would differ from theirs. */
static inline struct spans spans_of(int64_t n, double density, double mean_span)
{
    struct spans s = { (int64_t)rint((double)n * density), 0 };
    int64_t      most;
    /* each side needs a token, and each span one of either kind */
    s.noise = s.noise < 1 ? 1 : s.noise > n - 1 ? n - 1 : s.noise;
    most = s.noise < n - s.noise ? s.noise : n - s.noise;
    s.count = (int64_t)rint((double)s.noise / mean_span);
    s.count = s.count < 1 ? 1 : s.count > most ? most : s.count;
    return s;
}

/* The lengths that n >= 2 tokens become: on both sides, a sentinel per span and an eos. */
static inline td_bounds spans_size(int64_t n, double density, double mean_span)
{
    struct spans s = spans_of(n, density, mean_span);
    td_bounds    b = { n, n - s.noise + s.count + 1, s.noise + s.count + 1, 0 };
    b.total = b.given + b.predicted;
    return b;
}

/* The bounds for the longest text whose two sides, with `extra` tokens more, fit in `length`; all 0
 * if none does. The total grows with every token of the text, so bisection finds it. */
static inline td_bounds spans_bounds(int64_t length, double density, double mean_span,
                                     int64_t extra)
{
    int64_t low = 1, high = length;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (spans_size(middle, density, mean_span).total + extra <= length)
            low = middle;
        else
            high = middle - 1;
    }
    return low > 1 ? spans_size(low, density, mean_span) : (td_bounds){ 0, 0, 0, 0 };
}

/* ---- one text -------------------------------------------------------------------------------- */

/* Cut `items` tokens into `runs` runs, every way equally likely: ends[p] is set if a run ends after
 * token p. By selection sampling: each of the places left is cut with probability cuts / places.
 * Place p uses random number first + 2 p; the odd ones are for the other kind of tokens. */
static inline void spans_cut(uint64_t seed, uint64_t stream, uint64_t first, int64_t items,
                             int64_t runs, unsigned char *ends)
{
    int64_t cuts = runs - 1;
    for (int64_t p = 0; p < items - 1; p++) {
        uint64_t places = (uint64_t)(items - 1 - p);
        ends[p] = (int64_t)td_random_below(seed, stream, first + 2 * (uint64_t)p, places) < cuts;
        cuts -= ends[p];
    }
    ends[items - 1] = 1; /* where spans_fill stops */
}

/* One side of the example, given or predicted, as it grows. Its memory belongs to the split's
 * arena. */
struct side {
    int32_t *tokens, *documents; /* documents: NULL if they do not matter */
    float   *weights;            /* or NULL */
    int64_t  count;
};

/* Allocate space for `most` tokens. False: no memory. */
static inline bool side_open(struct side *s, const td_split_in *in, int64_t most, bool documents,
                             bool weights)
{
    size_t n = (size_t)most;
    *s = (struct side){ .tokens = in->allocate(in->arena, n * sizeof *s->tokens) };
    if (documents)
        s->documents = in->allocate(in->arena, n * sizeof *s->documents);
    if (weights)
        s->weights = in->allocate(in->arena, n * sizeof *s->weights);
    return s->tokens && (s->documents || !documents) && (s->weights || !weights);
}

/* Append `token`, which is token `at` of the record or stands for it, with that token's document
 * and weight. */
static inline void side_add(struct side *s, const td_record *r, int32_t token, int64_t at)
{
    if (s->documents)
        s->documents[s->count] = r->documents[at];
    if (s->weights)
        s->weights[s->count] = r->weights[at];
    s->tokens[s->count++] = token;
}

/* A record and how to split it. */
struct spans_in {
    const char        *loss; /* for messages */
    const td_record   *record;
    const td_split_in *split;
    double             density, mean_span;
    int32_t            mode;  /* token added before the given ones, or -1 */
    uint64_t           first; /* index of the first random number */
};

/* Walk the text once: a kept run, its sentinel on both sides, a removed run, and so on. kept and
 * taken are the cuts of either kind of tokens. */
static inline void spans_fill(const struct spans_in *in, struct spans s, const unsigned char *kept,
                              const unsigned char *taken, struct side *given,
                              struct side *predicted)
{
    const td_record  *r = in->record;
    const td_special *special = &in->split->special;
    int64_t           at = 0, keeps = 0, takes = 0;

    if (in->mode >= 0)
        side_add(given, r, in->mode, 0);
    for (int64_t k = 0; k < s.count; k++) {
        int32_t mark = special->sentinel + (int32_t)k * special->sentinel_step;
        do {
            side_add(given, r, r->targets[at], at);
            at++;
        } while (!kept[keeps++]);
        /* the mark belongs to the document of the first token that it hides */
        side_add(given, r, mark, at);
        side_add(predicted, r, mark, at);
        do {
            side_add(predicted, r, r->targets[at], at);
            at++;
        } while (!taken[takes++]);
    }
    if (special->eos >= 0) {
        side_add(given, r, special->eos, r->n_targets - 1);
        side_add(predicted, r, special->eos, r->n_targets - 1);
    }
}

/* The record must have two tokens, and the tokenizer a sentinel for each span. */
static inline int spans_check(const struct spans_in *in, td_error *error)
{
    const td_record *r = in->record;
    int64_t          have = in->split->special.sentinels, need;
    if (r->n_targets < 2)
        return td_fail(
            error, TD_EFORMAT,
            "loss '%s': record %llu has %lld tokens; it needs one to keep and one to remove",
            in->loss, (unsigned long long)r->id, (long long)r->n_targets);
    /* the same count that the split will use */
    need = spans_of(r->n_targets, in->density, in->mean_span).count;
    return need <= have
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "loss '%s': record %llu has %lld tokens, which need %lld sentinels; the "
                         "tokenizer has %lld: set tokenizer.sentinels = %lld or more ('bytes' and "
                         "'sentencepiece' have that option) and enlarge model.vocab_size to match",
                         in->loss, (unsigned long long)r->id, (long long)r->n_targets,
                         (long long)need, (long long)have, (long long)need);
}

/* Cut the record into runs, and fill both sides. `ends` holds both cuts: noise + kept =
 * n_targets. */
static inline void spans_draw(const struct spans_in *in, unsigned char *ends, struct side *given,
                              struct side *predicted)
{
    const td_record *r = in->record;
    struct spans     s = spans_of(r->n_targets, in->density, in->mean_span);
    unsigned char   *taken = ends, *kept = ends + s.noise;

    spans_cut(in->split->seed, r->id, in->first, s.noise, s.count, taken);
    spans_cut(in->split->seed, r->id, in->first + 1, r->n_targets - s.noise, s.count, kept);
    spans_fill(in, s, kept, taken, given, predicted);
}

/* Split a run of tokens: spans removed on the given side, predicted on the other. */
static inline int spans_split(const struct spans_in *in, td_example *out, td_error *error)
{
    const td_record *r = in->record;
    td_bounds        size;
    struct side      given, predicted;
    unsigned char   *ends;

    if (spans_check(in, error))
        return error->code;
    /* one more on the given side for a mode token */
    size = spans_size(r->n_targets, in->density, in->mean_span);
    ends = in->split->allocate(in->split->arena, (size_t)r->n_targets);
    if (!ends || !side_open(&given, in->split, size.given + 1, r->documents, false) ||
        !side_open(&predicted, in->split, size.predicted, r->documents, r->weights))
        return td_fail(error, TD_ENOMEM, "loss '%s': out of memory for an example of %lld tokens",
                       in->loss, (long long)size.total);
    spans_draw(in, ends, &given, &predicted);
    out->given = given.tokens;
    out->n_given = given.count;
    out->given_documents = given.documents;
    out->predicted = predicted.tokens;
    out->n_predicted = predicted.count;
    out->predicted_documents = predicted.documents;
    out->weights = predicted.weights;
    return 0;
}

#endif
