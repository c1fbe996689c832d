/* score.c - log-likelihoods of targets equal a plain log-softmax of full logits, whatever the
 * batch, the order and the threads. */
#include <math.h>

#include "evaluate/score.h"
#include "evaluate/score_shared.h"
#include "model/lab.h"

enum { ITEMS = 41, LONGEST = 96 };

static const char *const configs[] = { "nano/redllm", "nano/decllm", "nano/decllm-biattn" };
static const char *const small[] = { LAB_SMALL, NULL };

/* Items of all lengths, some equal, some without given tokens. The tokens of the k-th item do
 * not depend on the number of items. */
typedef struct set {
    int32_t   tokens[ITEMS][LONGEST];
    td_scored items[ITEMS];
} set;

static void make(set *s)
{
    for (int64_t i = 0; i < ITEMS; i++) {
        int64_t given = i % 4 == 3 ? 0 : (i * 13) % 67, target = 1 + (i * i) % 17;
        if (i % 5 == 0) { /* ties */
            given = 21;
            target = 3;
        }
        if (i % 10 == 0) /* choices of one question, one token each */
            target = 1;
        for (int64_t k = 0; k < LONGEST; k++)
            s->tokens[i][k] = 2 + (int32_t)td_random_below(5, (uint64_t)i, (uint64_t)k,
                                                           LAB_VOCABULARY - 2);
        s->items[i] = (td_scored){ .given = s->tokens[i],
                                   .n_given = given,
                                   .target = s->tokens[i] + given,
                                   .n_target = target,
                                   .logprob = NAN };
        if (i % 10 == 0)
            s->items[i].given = i % 20 ? s->tokens[0] : memcpy(s->tokens[i], s->tokens[0], 21 * 4);
    }
}

static td_score_spec spec_of(const lab *l, int64_t batch, int64_t tokens)
{
    return (td_score_spec){ .feed = lab_feed(l), .batch = batch, .tokens = tokens };
}

static void score(td_engine *e, const lab *l, set *s, int64_t batch, int64_t tokens)
{
    td_score_spec spec = spec_of(l, batch, tokens);
    td_error      error = { 0 };
    cr_assert_eq(td_score_items(e, &spec, s->items, ITEMS, NULL, NULL, &error), 0, "%s",
                 error.text);
}

static void declare(lab *l)
{
    td_batch *largest = lab_batch(l, 0, 0, LAB_BATCH);
    lab_allocate(l, largest, NULL);
    td_batch_free(largest);
}

/* ---- plainly, one item at a time ------------------------------------------------------------- */

/* The logits of the places that predict an item's target, [n_target][vocab]; free() them. */
static double *logits_of(lab *l, const td_scored *s)
{
    td_arrange_spec feed = lab_feed(l);
    td_example      x = {
             .given = s->given, .n_given = s->n_given, .predicted = s->target, .n_predicted = s->n_target
    };
    td_batch       *b = td_batch_new();
    td_micro        m = { .batch = b, .divisor = 1 };
    td_micro_out    out;
    const td_array *w;
    double         *all;
    int64_t         n = 0;

    cr_assert_eq(td_arrange_examples(&feed, &x, 1, b, &l->error), 0, "%s", l->error.text);
    w = td_batch_find(b, "loss_weights");
    all = malloc((size_t)(w->dim[1] * LAB_VOCABULARY) * sizeof *all);
    cr_assert_eq(td_engine_probe(l->engine, &m, &out, all, &l->error), 0, "%s", l->error.text);
    for (int64_t k = 0; k < w->dim[1]; k++)
        if (((const float *)w->data)[k] != 0)
            memmove(all + n++ * LAB_VOCABULARY, all + k * LAB_VOCABULARY,
                    LAB_VOCABULARY * sizeof *all);
    cr_assert_eq(n, s->n_target);
    td_batch_free(b);
    return all;
}

static int32_t best_of(const double *z)
{
    int32_t best = 0;
    for (int32_t v = 1; v < LAB_VOCABULARY; v++)
        best = z[v] > z[best] ? v : best;
    return best;
}

static double log_softmax(const double *z, int32_t of)
{
    double sum = 0;
    for (int32_t v = 0; v < LAB_VOCABULARY; v++)
        sum += exp(z[v] - z[of]);
    return -log(sum);
}

/* An encoder must read something; the test's plain batches give it one padding token. */
static void expect_plain(lab *l, const td_scored *s, const char *config, int64_t i)
{
    double *z = logits_of(l, s), sum = 0;
    bool    greedy = true;
    for (int64_t k = 0; k < s->n_target; k++) {
        sum += log_softmax(z + k * LAB_VOCABULARY, s->target[k]);
        greedy = greedy && best_of(z + k * LAB_VOCABULARY) == s->target[k];
    }
    cr_expect_float_eq(s->logprob, sum, 2e-6 * (double)s->n_target + 2e-6,
                       "%s: item %lld: %.9g, plainly %.9g", config, (long long)i, s->logprob, sum);
    cr_expect_eq(s->greedy, greedy, "%s: item %lld: greedy is %d", config, (long long)i, s->greedy);
    free(z);
}

/* Use the model's own answers as targets, so that some items are greedy to their end. */
static void follow_greedily(lab *l, set *s, int64_t i)
{
    for (int64_t k = 0; k < s->items[i].n_target; k++) {
        double *z = logits_of(l, &s->items[i]);
        s->tokens[i][s->items[i].n_given + k] = best_of(z + k * LAB_VOCABULARY);
        free(z);
    }
}

Test(score, equals_log_softmax_of_full_logits, .timeout = 120)
{
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        static set s;
        lab        l = lab_open(configs[c], small, NULL);
        int64_t    greedy = 0;
        make(&s);
        declare(&l);
        for (int64_t i = 1; i < ITEMS; i += 6)
            follow_greedily(&l, &s, i);
        score(l.engine, &l, &s, 0, 0);
        for (int64_t i = 0; i < ITEMS; i++) {
            expect_plain(&l, &s.items[i], configs[c], i);
            greedy += s.items[i].greedy;
        }
        cr_expect(greedy >= 7 && greedy < ITEMS / 2, "%lld items are greedy", (long long)greedy);
        lab_close(&l);
    }
}

/* ---- the same number, whatever surrounds it -------------------------------------------------- */

/* Without AVX2 matrix products come from a library, which promises less. */
static double tolerance(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 0 : 1e-5;
}

static void expect_same(const set *a, const set *b, const char *what)
{
    for (int64_t i = 0; i < ITEMS; i++) {
        double d = fabs(a->items[i].logprob - b->items[i].logprob);
        cr_expect(d <= tolerance(), "%s: item %lld: %.17g and %.17g", what, (long long)i,
                  a->items[i].logprob, b->items[i].logprob);
        cr_expect_eq(a->items[i].greedy, b->items[i].greedy, "%s: item %lld", what, (long long)i);
    }
}

Test(score, does_not_depend_on_the_batch, .timeout = 120)
{
    static const int64_t batches[][2] = { { 1, 0 }, { 2, 0 }, { 7, 0 }, { 64, 300 }, { 64, 1 } };
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        static set whole, other;
        lab        l = lab_open(configs[c], small, NULL);
        make(&whole);
        make(&other);
        declare(&l);
        score(l.engine, &l, &whole, 0, 0);
        for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
            score(l.engine, &l, &other, batches[k][0], batches[k][1]);
            expect_same(&whole, &other, configs[c]);
        }
        lab_close(&l);
    }
}

/* The same items in reverse order: results follow their items. */
Test(score, does_not_depend_on_the_order, .timeout = 60)
{
    static set whole, turned;
    lab        l = lab_open("nano/redllm", small, NULL);
    make(&whole);
    make(&turned);
    declare(&l);
    score(l.engine, &l, &whole, 8, 0);
    for (int64_t i = 0; i < ITEMS; i++)
        turned.items[i] = whole.items[ITEMS - 1 - i];
    score(l.engine, &l, &turned, 8, 0);
    for (int64_t i = 0; i < ITEMS / 2; i++) {
        td_scored x = turned.items[i];
        turned.items[i] = turned.items[ITEMS - 1 - i];
        turned.items[ITEMS - 1 - i] = x;
    }
    expect_same(&whole, &turned, "backwards");
    lab_close(&l);
}

/* An engine of the same model on a separate pool. */
static td_engine *with_threads(const lab *l, td_pool *pool)
{
    td_error          error = { 0 };
    td_engine_options o = { .model = td_experiment_model(l->x),
                            .backend = l->x->backend,
                            .services = td_pool_services(pool) };
    td_engine        *e = td_engine_open(&o, &error);
    td_batch         *shape = lab_batch(l, 0, 0, 1);
    cr_assert(e, "%s", error.text);
    cr_assert_eq(td_engine_plan(e, shape, NULL, &error), 0, "%s", error.text);
    cr_assert_eq(td_engine_allocate(e, 3, &error), 0, "%s", error.text);
    td_batch_free(shape);
    return e;
}

Test(score, does_not_depend_on_threads, .timeout = 120)
{
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        static set two, other;
        lab        l = lab_open(configs[c], small, NULL);
        make(&two);
        make(&other);
        declare(&l);
        score(l.engine, &l, &two, 0, 0);
        for (int threads = 1; threads <= 5; threads += 2) {
            td_pool   *pool = td_pool_new(threads, NULL, &l.error);
            td_engine *e = with_threads(&l, pool);
            score(e, &l, &other, threads, 0);
            expect_same(&two, &other, configs[c]);
            td_engine_close(e);
            td_pool_free(pool);
        }
        lab_close(&l);
    }
}

/* ---- prompts read once ------------------------------------------------------------------------ */

enum { QUESTIONS = 6, CHOICES = 11, CHOICE = 13, GIVEN = 90 };

typedef struct questions {
    int32_t   given[QUESTIONS][GIVEN], targets[QUESTIONS][CHOICES][CHOICE];
    td_scored items[QUESTIONS * CHOICES];
    int64_t   first[QUESTIONS + 1]; /* where each question's choices begin */
} questions;

/* Prompts and choices of all lengths; from question `from` on. Question 2 has more choices than are
 * read side by side, question 4 only such of one token, question 5 a short prompt. */
static void ask(questions *q, int from)
{
    static const int64_t choices[] = { 4, 2, 11, 5, 3, 3 }, given[] = { 16, 41, 77, 90, 33, 7 };
    int64_t              n = 0;
    for (int i = from; i < QUESTIONS; i++) {
        q->first[i] = n;
        for (int64_t k = 0; k < GIVEN; k++)
            q->given[i][k] = 2 + (int32_t)td_random_below(9, (uint64_t)i, (uint64_t)k,
                                                          LAB_VOCABULARY - 2);
        for (int64_t c = 0; c < choices[i]; c++) {
            for (int64_t k = 0; k < CHOICE; k++)
                q->targets[i][c][k] = 2 + (int32_t)td_random_below(8, (uint64_t)(20 * i + c),
                                                                   (uint64_t)k, LAB_VOCABULARY - 2);
            q->items[n++] = (td_scored){ .given = q->given[i],
                                         .n_given = given[i],
                                         .target = q->targets[i][c],
                                         .n_target = i == 4 ? 1 : 1 + (3 * c + i) % CHOICE };
        }
    }
    q->first[QUESTIONS] = n;
}

static td_decoder_options decoder_of(const lab *l, td_engine *e)
{
    return (td_decoder_options){ .model = td_engine_model(e),
                                 .device = td_engine_device(e),
                                 .variables = td_engine_variables(e),
                                 .special = lab_feed(l).special };
}

static void answer(td_engine *e, const lab *l, questions *q, int64_t batch)
{
    td_decoder_options decoder = decoder_of(l, e);
    td_score_spec      spec = spec_of(l, batch, 0);
    td_error           error = { 0 };
    spec.decoder = &decoder;
    cr_assert_eq(td_score_items(e, &spec, q->items, q->first[QUESTIONS], NULL, NULL, &error), 0,
                 "%s", error.text);
}

Test(score, which_prompts_are_read_once)
{
    static questions   q;
    bool               shared[QUESTIONS * CHOICES];
    lab                l = lab_open("nano/decllm", small, NULL);
    td_decoder_options o;
    declare(&l);
    ask(&q, 0);
    o = decoder_of(&l, l.engine);
    td_score_find_shared(&o, q.items, q.first[QUESTIONS], shared);
    for (int i = 0; i < QUESTIONS; i++)
        for (int64_t k = q.first[i]; k < q.first[i + 1]; k++)
            cr_expect_eq(shared[k], i < 4, "question %d", i);
    lab_close(&l);
}

/* As a plain log-softmax has it, for every architecture. */
Test(score, prompts_read_once_equal_log_softmax, .timeout = 120)
{
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        static questions q;
        lab              l = lab_open(configs[c], small, NULL);
        declare(&l);
        ask(&q, 0);
        answer(l.engine, &l, &q, 0);
        for (int64_t i = 0; i < q.first[QUESTIONS]; i++)
            expect_plain(&l, &q.items[i], configs[c], i);
        lab_close(&l);
    }
}

/* To the last bit: whatever the batch, the threads and the other questions. */
Test(score, prompts_read_once_in_any_company, .timeout = 120)
{
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        static questions all, other;
        lab              l = lab_open(configs[c], small, NULL);
        declare(&l);
        ask(&all, 0);
        answer(l.engine, &l, &all, 0);
        for (int k = 1; k <= 3; k++) {
            td_pool   *pool = td_pool_new(k, NULL, &l.error);
            td_engine *e = with_threads(&l, pool);
            ask(&other, k);
            answer(e, &l, &other, k);
            for (int64_t i = 0; i < other.first[QUESTIONS]; i++) {
                double expected = all.items[all.first[k] + i].logprob;
                cr_expect(fabs(other.items[i].logprob - expected) <= tolerance(),
                          "%s, %d threads, from question %d, item %lld: %.17g is not %.17g",
                          configs[c], k, k, (long long)i, other.items[i].logprob, expected);
            }
            td_engine_close(e);
            td_pool_free(pool);
        }
        lab_close(&l);
    }
}

/* ---- what there is not ----------------------------------------------------------------------- */

/* Choices of one token each share one row: no more tokens are computed than for a single choice. */
Test(score, choices_share_a_row)
{
    lab            l = lab_open("nano/decllm", small, NULL);
    td_score_spec  spec = spec_of(&l, 0, 0);
    int32_t        given[20], target[] = { 2, 5, 7, 5 };
    td_scored      items[4];
    td_profile_row rows[32];
    size_t         n;
    double         flops[2] = { 0 };

    for (int32_t k = 0; k < 20; k++)
        given[k] = 3 + k;
    for (int k = 0; k < 4; k++)
        items[k] = (td_scored){
            .given = given, .n_given = 20, .target = target + k, .n_target = 1
        };
    declare(&l);
    for (int choices = 1; choices <= 4; choices += 3) {
        td_engine_profile(l.engine, true);
        cr_assert_eq(td_score_items(l.engine, &spec, items, choices, NULL, NULL, &l.error), 0, "%s",
                     l.error.text);
        n = td_engine_profile_rows(l.engine, rows, 32);
        for (size_t k = 0; k < n; k++)
            flops[choices > 1] += rows[k].flops;
    }
    cr_expect(flops[0] > 0 && flops[0] == flops[1], "%g and %g", flops[0], flops[1]);
    cr_expect(items[1].logprob == items[3].logprob && items[0].logprob != items[1].logprob);
    lab_close(&l);
}

Test(score, nothing_to_score)
{
    lab           l = lab_open("nano/decllm", small, NULL);
    td_score_spec spec = spec_of(&l, 0, 0);
    int32_t       token = 5;
    td_scored     empty = { .given = &token, .n_given = 1, .logprob = NAN };
    declare(&l);
    cr_expect_eq(td_score_items(l.engine, &spec, NULL, 0, NULL, NULL, &l.error), 0);
    cr_expect_eq(td_score_items(l.engine, &spec, &empty, 1, NULL, NULL, &l.error), 0, "%s",
                 l.error.text);
    cr_expect(empty.logprob == 0 && empty.greedy);
    lab_close(&l);
}

Test(score, refuses_unreadable_prompts)
{
    static const char *const learned[] = { LAB_SMALL,
                                           "model.position.plugin=learned",
                                           "model.position.max_positions=30",
                                           "train.length=30",
                                           "evaluate.length=30",
                                           NULL };
    static set               s;
    lab                      l = lab_open("nano/decllm", learned, NULL);
    td_score_spec            spec = spec_of(&l, 0, 0);

    make(&s);
    for (int64_t i = 0; i < ITEMS; i++)
        s.items[i].n_given = 5;
    s.items[17].n_given = 29;
    s.items[17].n_target = 3;
    cr_expect(td_score_items(l.engine, &spec, s.items, ITEMS, NULL, NULL, &l.error) < 0);
    cr_expect(strstr(l.error.text, "item 17, of 29 given tokens and 3 to score, is too long") &&
                  strstr(l.error.text, "30"),
              "%s", l.error.text);
    memset(&l.error, 0, sizeof l.error);
    s.items[17].n_given = -1;
    cr_expect_eq(td_score_items(l.engine, &spec, s.items, ITEMS, NULL, NULL, &l.error), TD_EFORMAT);
    cr_expect(strstr(l.error.text, "item 17 has -1 given tokens"), "%s", l.error.text);
    lab_close(&l);
}

/* Tokens come from a stranger's program: one outside the table would read past it. */
Test(score, refuses_tokens_outside_the_vocabulary)
{
    lab           l = lab_open("nano/redllm", small, NULL);
    td_score_spec spec = spec_of(&l, 0, 0);
    int32_t       tokens[] = { 3, LAB_VOCABULARY, 4 };
    td_scored     x = { .given = tokens, .n_given = 2, .target = tokens + 2, .n_target = 1 };
    declare(&l);
    cr_expect(td_score_items(l.engine, &spec, &x, 1, NULL, NULL, &l.error) < 0);
    cr_expect(strstr(l.error.text, "outside the vocabulary"), "%s", l.error.text);
    lab_close(&l);
}

static int stop_after_ten(void *arg, int64_t done, int64_t all)
{
    *(int64_t *)arg = done;
    return done >= 10 || all != ITEMS;
}

Test(score, stops_on_request)
{
    static set    s;
    lab           l = lab_open("nano/decllm", small, NULL);
    td_score_spec spec = spec_of(&l, 4, 0);
    int64_t       done = 0;
    make(&s);
    declare(&l);
    cr_expect_eq(td_score_items(l.engine, &spec, s.items, ITEMS, stop_after_ten, &done, &l.error),
                 TD_EEND);
    cr_expect(done >= 10 && done < 20 && !l.error.code, "%lld: %s", (long long)done, l.error.text);
    lab_close(&l);
}
