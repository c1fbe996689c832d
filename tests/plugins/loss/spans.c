/* spans.c - the losses that remove spans from a text: the text is restored from both sides,
 * spans are counted, and lengths are compared with those of T5's code. */
#include <math.h>

#include "plugins/part.h"
#include "tandem/kind/loss.h"

enum { LONGEST = 700, FIRST_MARK = 1000, EOS = 1, MODE = 2000, TRIES = 9000 };

static char  room[1 << 18];
static char *next_room;

static void *allocate(void *arena, size_t bytes)
{
    char **next = arena, *p = *next;
    *next += (bytes + 15) / 16 * 16;
    cr_assert(*next <= room + sizeof room);
    return p;
}

/* Marks count downwards, as those of T5's vocabulary. */
static const td_split_in usual = { .special = { .pad = 0,
                                                .bos = -1,
                                                .eos = EOS,
                                                .unk = 2,
                                                .vocab_size = 4096,
                                                .sentinels = 300,
                                                .sentinel = FIRST_MARK,
                                                .sentinel_step = -1,
                                                .mode = { MODE, MODE + 1, MODE + 2 } },
                                   .seed = 42,
                                   .allocate = allocate,
                                   .arena = &next_room };

static const td_loss *loss_of(const td_part *p) { return (const td_loss *)(const void *)p->plugin; }

static int32_t tokens[LONGEST], documents[LONGEST];
static float   weights[LONGEST];

static void setup(void)
{
    for (int k = 0; k < LONGEST; k++) {
        tokens[k] = 2001 + k;
        documents[k] = 1 + k / 5;
        weights[k] = (float)(k % 3);
    }
}

static td_record run(int64_t n, uint64_t id)
{
    return (td_record){ .targets = tokens, .n_targets = n, .id = id };
}

static td_example split(const td_part *p, const td_record *r, const td_split_in *in)
{
    td_example e;
    td_error   error = { 0 };
    next_room = room;
    cr_assert_eq(loss_of(p)->split(p->config, r, in, &e, &error), 0, "%s", error.text);
    return e;
}

static td_part span_corruption(double density, double mean)
{
    td_part p = load_part("loss-span-corruption", "span-corruption");
    set_option(&p, "noise_density", density);
    set_option(&p, "mean_span", mean);
    return p;
}

/* ---- restoring the text ---------------------------------------------------------------------- */

static bool is_mark(int32_t id) { return id <= FIRST_MARK && id > FIRST_MARK - 300; }

/* Restore the text: each mark is replaced by what follows it on the other side. Returns the number
 * of spans. */
static int64_t restore(const td_example *e, int64_t from, int32_t *out, int64_t *n)
{
    int64_t at = 0, spans = 0;
    *n = 0;
    for (int64_t k = from; k < e->n_given; k++) {
        if (!is_mark(e->given[k])) {
            out[(*n)++] = e->given[k];
            continue;
        }
        cr_assert(k > from && !is_mark(e->given[k - 1]), "a span without a kept token before it");
        cr_assert(e->given[k] == FIRST_MARK - spans && e->predicted[at] == e->given[k]);
        spans++;
        at++;
        cr_assert(at < e->n_predicted && e->predicted[at] > MODE, "an empty span");
        while (at < e->n_predicted && e->predicted[at] > MODE)
            out[(*n)++] = e->predicted[at++];
    }
    cr_assert_eq(e->predicted[at], EOS);
    cr_assert(at == e->n_predicted - 1 && out[*n - 1] == EOS && is_mark(e->given[e->n_given - 2]));
    --*n;
    return spans;
}

static void check_whole(const td_part *p, int64_t n, uint64_t id, int64_t noise, int64_t spans)
{
    int32_t    text[LONGEST];
    int64_t    count;
    td_record  r = run(n, id);
    td_example e = split(p, &r, &usual);
    cr_expect_eq(restore(&e, 0, text, &count), spans, "%d tokens", (int)n);
    cr_expect(count == n && !memcmp(text, tokens, (size_t)n * sizeof *text));
    cr_expect(e.n_predicted == noise + spans + 1 && e.n_given == n - noise + spans + 1);
}

/* Numbers of noise tokens and spans worked out by hand from T5's rounding, halves to even. */
Test(span_corruption, both_sides_are_the_text, .init = setup)
{
    static const struct {
        double  density, mean;
        int64_t n, noise, spans;
    } cases[] = {
        { 0.15, 3, 568, 85, 28 }, { 0.15, 3, 2, 1, 1 },    { 0.15, 3, 3, 1, 1 },
        { 0.5, 3, 5, 2, 1 },      { 0.5, 3, 7, 4, 1 },     { 0.5, 2, 10, 5, 2 },
        { 0.5, 2, 14, 7, 4 },     { 0.9, 1, 10, 9, 1 },    { 0.5, 1, 31, 16, 15 },
        { 0.15, 64, 568, 85, 1 }, { 0.999, 3, 11, 10, 1 }, { 0.001, 3, 11, 1, 1 },
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        td_part p = span_corruption(cases[k].density, cases[k].mean);
        for (uint64_t id = 0; id < 40; id++)
            check_whole(&p, cases[k].n, id, cases[k].noise, cases[k].spans);
        free_part(&p);
    }
}

/* T5 reads 512 tokens and predicts 114 of 568. */
Test(span_corruption, lengths_are_those_of_t5)
{
    td_part   p = span_corruption(0.15, 3);
    td_bounds b = loss_of(&p)->bounds(p.config, 626);
    cr_expect(b.raw == 568 && b.given == 512 && b.predicted == 114 && b.total == 626);
    cr_expect_eq(loss_of(&p)->bounds(p.config, 625).raw, 567);
    b = loss_of(&p)->bounds(p.config, 5);
    cr_expect(b.raw == 0 && b.predicted == 0, "the shortest text has six tokens");
    cr_expect_eq(loss_of(&p)->bounds(p.config, 6).raw, 2);
    free_part(&p);
}

/* A record of bounds(T).raw tokens has the promised lengths; one more token would not fit. */
Test(span_corruption, bounds_are_reached, .init = setup)
{
    static const double densities[] = { 0.15, 0.5, 0.85 }, means[] = { 1, 3, 8 };
    for (int i = 0; i < 9; i++) {
        td_part p = span_corruption(densities[i / 3], means[i % 3]);
        for (int64_t length = 6; length < 300; length += 7) {
            td_bounds  b = loss_of(&p)->bounds(p.config, length);
            td_record  r = run(b.raw, 3), more = run(b.raw + 1, 3);
            td_example e = split(&p, &r, &usual);
            cr_expect(e.n_given == b.given && e.n_predicted == b.predicted &&
                      b.given + b.predicted == b.total && b.total <= length);
            e = split(&p, &more, &usual);
            cr_expect_gt(e.n_given + e.n_predicted, length);
        }
        free_part(&p);
    }
}

/* Four of eight tokens in two spans: three ways to cut the noise, three to cut the rest. */
Test(span_corruption, all_ways_to_cut_are_equally_likely, .init = setup)
{
    td_part p = span_corruption(0.5, 2);
    int     seen[9] = { 0 };
    double  chi = 0;
    for (uint64_t id = 0; id < TRIES; id++) {
        td_record  r = run(8, id);
        td_example e = split(&p, &r, &usual);
        int        kept = 0, taken = 0;
        while (!is_mark(e.given[kept]))
            kept++;
        while (!is_mark(e.predicted[taken + 1]))
            taken++;
        cr_assert(kept >= 1 && kept <= 3 && taken >= 1 && taken <= 3);
        seen[(kept - 1) * 3 + taken - 1]++;
    }
    for (int k = 0; k < 9; k++)
        chi += pow(seen[k] - TRIES / 9.0, 2) / (TRIES / 9.0);
    cr_expect_lt(chi, 26.1, "chi-squared of 8 degrees is %g: 1 in 1000", chi);
    free_part(&p);
}

Test(span_corruption, depends_on_seed_and_record_only, .init = setup)
{
    td_part     p = span_corruption(0.15, 3);
    td_split_in other = usual;
    td_record   r = run(101, 7), next = run(101, 8);
    td_example  a = split(&p, &r, &usual);
    int32_t     before[LONGEST];
    memcpy(before, a.predicted, (size_t)a.n_predicted * sizeof *before);
    split(&p, &next, &usual);
    a = split(&p, &r, &usual);
    cr_expect(!memcmp(before, a.predicted, (size_t)a.n_predicted * sizeof *before));
    a = split(&p, &next, &usual);
    cr_expect(memcmp(before, a.predicted, (size_t)a.n_predicted * sizeof *before));
    other.seed = 43;
    a = split(&p, &r, &other);
    cr_expect(memcmp(before, a.predicted, (size_t)a.n_predicted * sizeof *before));
    free_part(&p);
}

static void expect_followed(const td_example *e)
{
    for (int64_t k = 0; k < e->n_predicted; k++) {
        int32_t id = is_mark(e->predicted[k]) ? e->predicted[k + 1]
                     : e->predicted[k] == EOS ? tokens[28]
                                              : e->predicted[k];
        cr_expect_eq(e->predicted_documents[k], documents[id - tokens[0]]);
        cr_expect_eq(e->weights[k], weights[id - tokens[0]]);
    }
    for (int64_t k = 0; k < e->n_given - 1; k++) {
        int32_t id = is_mark(e->given[k]) ? e->given[k - 1] + 1 : e->given[k];
        cr_expect_eq(e->given_documents[k], documents[id - tokens[0]]);
    }
    cr_expect_eq(e->given_documents[e->n_given - 1], documents[28]);
}

/* A mark has the document and weight of its span's first token, eos those of the last. */
Test(span_corruption, documents_and_weights_follow, .init = setup)
{
    td_part p = span_corruption(0.5, 2);
    for (uint64_t id = 0; id < 20; id++) {
        td_record r = run(29, id);
        r.documents = documents;
        r.weights = weights;
        td_example e = split(&p, &r, &usual);
        expect_followed(&e);
    }
    free_part(&p);
}

Test(span_corruption, without_eos_there_is_none, .init = setup)
{
    td_part     p = span_corruption(0.15, 3);
    td_split_in in = usual;
    td_record   r = run(20, 1);
    in.special.eos = -1;
    td_example e = split(&p, &r, &in);
    cr_expect(e.n_given == 18 && e.n_predicted == 4 && is_mark(e.given[17]));
    free_part(&p);
}

Test(span_corruption, reports_how_many_sentinels_it_needs, .init = setup)
{
    td_part     p = span_corruption(0.15, 3);
    td_split_in in = usual;
    td_record   r = run(568, 9), one = run(1, 9);
    td_example  e;
    td_error    error = { 0 }, short_error = { 0 };
    next_room = room;
    in.special.sentinels = 27;
    cr_expect_eq(loss_of(&p)->split(p.config, &r, &in, &e, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, "need 28 sentinels; the tokenizer has 27") &&
                  strstr(error.text, "tokenizer.sentinels = 28"),
              "%s", error.text);
    in.special.sentinels = 28;
    cr_expect_eq(loss_of(&p)->split(p.config, &r, &in, &e, &error), 0);
    cr_expect_eq(loss_of(&p)->split(p.config, &one, &in, &e, &short_error), TD_EFORMAT);
    free_part(&p);
}

static void expect_pair(const char *file, const char *name)
{
    td_part    p = load_part(file, name);
    td_record  r = { .inputs = tokens, .n_inputs = 5, .targets = tokens + 5, .n_targets = 2 };
    td_example e = split(&p, &r, &usual);
    cr_expect(e.given == tokens && e.n_given == 5 && e.predicted == tokens + 5 &&
              e.n_predicted == 2);
    free_part(&p);
}

Test(spans, keep_pairs_apart, .init = setup)
{
    expect_pair("loss-span-corruption", "span-corruption");
    expect_pair("loss-ul2", "ul2");
}

/* ---- the mixture ----------------------------------------------------------------------------- */

/* An item of the list of denoisers; the order is that of the plugin's options. */
struct denoiser {
    int64_t mode;
    double  noise_density, mean_span, rate;
};

static void set_denoisers(td_part *p, const struct denoiser *at, size_t count)
{
    const td_option *o = find_option(p->plugin, "denoisers");
    cr_assert(o->item_size == sizeof *at &&
              o->fields[2].offset == offsetof(struct denoiser, mean_span));
    *(td_list *)(void *)((char *)(uintptr_t)p->config + o->offset) = (td_list){ at, count };
}

/* Which of the paper's seven denoisers made the example, judged by mode, predicted tokens and
 * spans; 6: S. */
static int which(const td_example *e, int64_t n)
{
    static const double density[] = { 0.15, 0.15, 0.5, 0.5, 0.15, 0.5 };
    static const double mean[] = { 3, 8, 3, 8, 64, 64 };
    static const int    mode[] = { 0, 0, 2, 2, 2, 2 };
    int64_t             spans = 0;
    if (e->given[0] == MODE + 1)
        return 6;
    for (int64_t k = 0; k < e->n_predicted; k++)
        spans += is_mark(e->predicted[k]);
    for (int k = 0; k < 6; k++) {
        double noise = rint((double)n * density[k]);
        if (e->given[0] == MODE + mode[k] && (double)spans == rint(noise / mean[k]) &&
            (double)e->n_predicted == noise + (double)spans + 1)
            return k;
    }
    return -1;
}

/* Each of the seven comes up equally often, fits, and keeps the whole text. */
Test(ul2, is_the_seven_of_the_paper, .init = setup)
{
    td_part   p = load_part("loss-ul2", "ul2");
    td_bounds b = loss_of(&p)->bounds(p.config, 509), most = { 0, 0, 0, 0 };
    int       seen[7] = { 0 };
    double    chi = 0, end = 0;
    int32_t   text[LONGEST];
    int64_t   n;
    for (uint64_t id = 0; id < 2100; id++) {
        td_record  r = run(b.raw, id);
        td_example e = split(&p, &r, &usual);
        int        k = which(&e, b.raw);
        cr_assert_geq(k, 0);
        if (k < 6) {
            restore(&e, 1, text, &n);
            cr_assert(n == b.raw && !memcmp(text, tokens, (size_t)n * 4));
        } else
            end += (double)e.n_predicted;
        seen[k]++;
        most.given = e.n_given > most.given ? e.n_given : most.given;
        most.predicted = e.n_predicted > most.predicted ? e.n_predicted : most.predicted;
        n = e.n_given + e.n_predicted;
        most.total = n > most.total ? n : most.total;
    }
    for (int k = 0; k < 7; k++)
        chi += pow(seen[k] - 300, 2) / 300;
    cr_expect_lt(chi, 22.5, "chi-squared of 6 degrees is %g: 1 in 1000", chi);
    cr_expect_float_eq(end / seen[6] / (double)b.raw, 0.25, 0.03);
    cr_expect(most.given <= b.given && most.predicted == b.predicted && most.total == b.total &&
              b.total <= 509 && b.total > 505);
    free_part(&p);
}

/* The end of a text has no marks; mode tokens are added only if the tokenizer has them and the
 * option is set. */
Test(ul2, sequential_denoiser, .init = setup)
{
    static const struct denoiser end[] = { { 1, 0.25, 1, 1 } };
    td_part                      p = load_part("loss-ul2", "ul2");
    td_split_in                  plain = usual;
    int                          seen[20] = { 0 };
    set_denoisers(&p, end, 1);
    td_bounds b = loss_of(&p)->bounds(p.config, 21);
    cr_expect(b.raw == 20 && b.given == 20 && b.predicted == 9 && b.total == 21);
    for (uint64_t id = 0; id < 900; id++) {
        td_record r = run(20, id);
        r.documents = documents;
        r.weights = weights;
        td_example e = split(&p, &r, &usual);
        int64_t    k = e.n_given - 1;
        cr_assert(e.given[0] == MODE + 1 && !memcmp(e.given + 1, tokens, (size_t)k * 4));
        cr_assert(e.predicted == tokens + k && k + e.n_predicted == 20 && e.weights == weights + k);
        cr_assert(e.given_documents[0] == 1 && e.given_documents[k] == documents[k - 1] &&
                  e.predicted_documents == documents + k);
        seen[e.n_predicted]++;
    }
    for (int k = 1; k < 20; k++)
        cr_expect(k < 10 ? seen[k] > 60 : !seen[k], "an end of %d came up %d times", k, seen[k]);
    plain.special.mode[1] = -1;
    td_record  r = run(20, 1);
    td_example e = split(&p, &r, &plain);
    cr_expect(e.given == tokens && e.n_given + e.n_predicted == 20);
    set_option(&p, "mode_tokens", 0);
    e = split(&p, &r, &usual);
    cr_expect(e.given == tokens && loss_of(&p)->bounds(p.config, 21).raw == 21);
    free_part(&p);
}

/* More than half of a text may be predicted on average. */
Test(ul2, long_ends, .init = setup)
{
    static const struct denoiser end[] = { { 1, 0.75, 1, 1 } };
    td_part                      p = load_part("loss-ul2", "ul2");
    int                          seen[21] = { 0 };
    set_denoisers(&p, end, 1);
    td_bounds b = loss_of(&p)->bounds(p.config, 21);
    cr_expect(b.raw == 20 && b.given == 10 && b.predicted == 19 && b.total == 21);
    for (uint64_t id = 0; id < 900; id++) {
        td_record  r = run(20, id);
        td_example e = split(&p, &r, &usual);
        cr_assert_eq(e.n_given - 1 + e.n_predicted, 20);
        seen[e.n_predicted]++;
    }
    for (int k = 0; k <= 20; k++)
        cr_expect(k >= 11 && k <= 19 ? seen[k] > 60 : !seen[k], "an end of %d came up %d times", k,
                  seen[k]);
    free_part(&p);
}

/* A denoiser with too few sentinels is reported at the first record, however rarely it is drawn. */
Test(ul2, every_denoiser_can_mark, .init = setup)
{
    static const struct denoiser two[] = { { 1, 0.25, 1, 1 }, { 2, 0.5, 3, 1e-9 } };
    td_part                      p = load_part("loss-ul2", "ul2");
    td_split_in                  in = usual;
    td_record                    r = run(60, 0);
    td_example                   e;
    td_error                     error = { 0 };
    set_denoisers(&p, two, 2);
    next_room = room;
    in.special.sentinels = 9;
    cr_expect_eq(loss_of(&p)->split(p.config, &r, &in, &e, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, "loss 'ul2'") && strstr(error.text, "sentinels = 10"), "%s",
              error.text);
    in.special.sentinels = 10;
    error.code = 0;
    cr_expect_eq(loss_of(&p)->split(p.config, &r, &in, &e, &error), 0);
    free_part(&p);
}

/* Rates are relative: each denoiser of the list is drawn in proportion to its rate. */
Test(ul2, rates, .init = setup)
{
    static const struct denoiser two[] = { { 0, 0.15, 3, 1 }, { 2, 0.5, 8, 3 } };
    td_part                      p = load_part("loss-ul2", "ul2");
    int                          x = 0;
    set_denoisers(&p, two, 2);
    for (uint64_t id = 0; id < 4000; id++) {
        td_record  r = run(61, id);
        td_example e = split(&p, &r, &usual);
        x += e.given[0] == MODE + 2;
    }
    cr_expect(abs(x - 3000) < 90, "%d of 4000 were X", x);
    free_part(&p);
}
