/* beam.c - a wide enough beam search finds the same answers as exhaustive search. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generate/beam.h"
#include "tandem/random.h"

enum { VOCAB = 4, LENGTH = 5, WIDE = 1024 };

/* A tiny model: log-probabilities are a function of the whole history. */
static void next(const int32_t *history, int64_t n, uint64_t seed, double *out)
{
    uint64_t stream = td_hash(td_random_stream("beam"), history, (size_t)n * sizeof *history);
    double   sum = 0;
    for (int k = 0; k < VOCAB; k++) {
        out[k] = 3 * td_random_uniform(seed, stream, (uint64_t)k);
        sum += exp(out[k]);
    }
    for (int k = 0; k < VOCAB; k++)
        out[k] -= log(sum);
}

typedef struct answer {
    int32_t tokens[LENGTH];
    int64_t n;
    double  logprob, score;
} answer;

/* Tries every answer that ends with token 0 or at the limit. */
static void try_all(answer *so_far, const td_beam_options *o, uint64_t seed, answer *best)
{
    double p[VOCAB], before = so_far->logprob;
    if (so_far->n == o->max_tokens) {
        so_far->score = before / pow((double)so_far->n, o->length_penalty);
        if (so_far->score > best->score)
            *best = *so_far;
        return;
    }
    next(so_far->tokens, so_far->n, seed, p);
    for (int32_t k = 0; k < VOCAB; k++) {
        if (k == 0) {
            answer ended = *so_far;
            ended.logprob += p[0];
            ended.score = ended.logprob / pow((double)(ended.n + 1), o->length_penalty);
            if (ended.n + 1 >= o->min_tokens && ended.score > best->score)
                *best = ended;
            continue;
        }
        so_far->tokens[so_far->n++] = k;
        so_far->logprob = before + p[k];
        try_all(so_far, o, seed, best);
        so_far->n--;
        so_far->logprob = before;
    }
}

static td_beam *search(const td_beam_options *o, uint64_t seed)
{
    td_beam *b = td_beam_new(o);
    int32_t(*history)[LENGTH] = calloc((size_t)o->beams, sizeof *history);
    int32_t(*moved)[LENGTH] = calloc((size_t)o->beams, sizeof *moved);
    double *p = calloc((size_t)o->beams * VOCAB, sizeof *p);
    for (int64_t n = 0; !td_beam_done(b); n++) {
        for (int64_t i = 0; i < td_beam_live(b); i++)
            next(history[i], n, seed, p + i * VOCAB);
        cr_assert(td_beam_advance(b, p));
        for (int64_t i = 0; i < td_beam_live(b); i++) {
            memcpy(moved[i], history[td_beam_parents(b)[i]], sizeof *moved);
            moved[i][n] = td_beam_tokens(b)[i];
        }
        memcpy(history, moved, (size_t)o->beams * sizeof *history);
    }
    free(history);
    free(moved);
    free(p);
    return b;
}

static const int32_t stops[] = { 0 };

Test(beam, wide_search_is_exhaustive)
{
    static const double penalties[] = { 0, 1, 2, -1 };
    for (uint64_t seed = 0; seed < 40; seed++) {
        td_beam_options      o = { .beams = WIDE,
                                   .vocab_size = VOCAB,
                                   .max_tokens = LENGTH,
                                   .min_tokens = (int64_t)(seed % 3),
                                   .length_penalty = penalties[seed % 4],
                                   .stops = stops,
                                   .n_stops = 1 };
        answer               none = { .n = 0 }, best = { .score = -INFINITY };
        int64_t              count;
        td_beam             *b = search(&o, seed);
        const td_hypothesis *h = td_beam_best(b, &count);
        try_all(&none, &o, seed, &best);
        cr_assert(count > 0);
        cr_expect_float_eq(h->score, best.score, 1e-12, "seed %d", (int)seed);
        cr_expect_eq(h->n, best.n, "seed %d: %d tokens, not %d", (int)seed, (int)h->n, (int)best.n);
        cr_expect(!memcmp(h->tokens, best.tokens, (size_t)best.n * sizeof *h->tokens));
        td_beam_free(b);
    }
}

/* One beam without a penalty for length is greedy search. */
Test(beam, one_beam_is_greedy)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        td_beam_options o = {
            .beams = 1, .vocab_size = VOCAB, .max_tokens = LENGTH, .stops = stops, .n_stops = 1
        };
        int32_t              greedy[LENGTH];
        int64_t              n = 0, count;
        td_beam             *b = search(&o, seed);
        const td_hypothesis *h = td_beam_best(b, &count);
        for (; n < LENGTH; n++) {
            double p[VOCAB];
            int    best = 0;
            next(greedy, n, seed, p);
            for (int k = 1; k < VOCAB; k++)
                best = p[k] > p[best] ? k : best;
            if (!best)
                break;
            greedy[n] = best;
        }
        cr_assert_eq(count, 1);
        cr_expect_eq(h->n, n);
        cr_expect(!memcmp(h->tokens, greedy, (size_t)n * sizeof *greedy));
        cr_expect_eq(h->stopped, n < LENGTH);
        td_beam_free(b);
    }
}

Test(beam, answers_are_sorted_and_differ)
{
    td_beam_options o = { .beams = 5,
                          .vocab_size = VOCAB,
                          .max_tokens = LENGTH,
                          .length_penalty = 1,
                          .stops = stops,
                          .n_stops = 1 };
    for (uint64_t seed = 0; seed < 20; seed++) {
        int64_t              count;
        td_beam             *b = search(&o, seed);
        const td_hypothesis *h = td_beam_best(b, &count);
        cr_expect_eq(count, 5);
        for (int64_t i = 1; i < count; i++) {
            cr_expect(h[i].score <= h[i - 1].score);
            cr_expect(h[i].n != h[i - 1].n ||
                      memcmp(h[i].tokens, h[i - 1].tokens, (size_t)h[i].n * sizeof *h->tokens));
        }
        td_beam_free(b);
    }
}

/* Two stops may fill twice as many candidates as there are beams: the search must still go on. */
Test(beam, several_stops)
{
    static const int32_t three[] = { 0, 1, 2 };
    td_beam_options      o = { .beams = 1,
                               .vocab_size = VOCAB,
                               .max_tokens = LENGTH,
                               .min_tokens = 1,
                               .length_penalty = 1,
                               .stops = three,
                               .n_stops = 3 };
    const double         p[VOCAB] = { -1, -1.1, -1.2, -9 };
    td_beam             *b = td_beam_new(&o);
    cr_assert(td_beam_advance(b, p));
    cr_expect(td_beam_done(b) || td_beam_tokens(b)[0] == 3);
    td_beam_free(b);
}
