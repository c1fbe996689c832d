/* metric.c - requirements on every metric: finite statistics for whatever a model may write, scores
 * in their range, the highest for right answers, and nothing kept from one item to the next. */
#include "check/cases.h"
#include "check/internal.h"
#include "tandem/kind/metric.h"

/* ---- items ----------------------------------------------------------------------------------- */

/* Texts that a model may write, and references that a data set may have: none at all, white space,
 * invalid UTF-8, one very long word, more than one line. */
static const char *const texts[] = {
    "The quick brown fox jumps over the lazy dog .",
    "the quick brown fox jumps over the dog",
    "",
    " \t\n",
    "42",
    "-1,234.5 is the answer, isn't it?",
    "na\xc3\xafve caf\xc3\xa9 \xe2\x80\x94 \xf0\x9f\xa6\x8a",
    "\xff\xfe\xc3",
    "first line\nsecond line\n\nlast",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aa",
};
enum { TEXTS = sizeof texts / sizeof *texts, CHOICES = 4 };

/* Log-likelihoods of choices: usual ones, all the same, impossible ones. */
static const double  logprobs[][CHOICES] = { { -12.5, -3.25, -40, -7 },
                                             { -1, -1, -1, -1 },
                                             { -INFINITY, -5, -1e300, -0.0 } };
static const int64_t tokens[CHOICES] = { 3, 1, 12, 2 }, bytes[CHOICES] = { 11, 3, 60, 0 };

/* Item k of text: every text against every other one, and no answer at all. */
static td_answer text_item(size_t k)
{
    size_t answer = k / TEXTS % (TEXTS + 1);
    return (td_answer){ .text = answer < TEXTS ? texts[answer] : NULL,
                        .references = &texts[k % TEXTS],
                        /* two references where there is a second one, and sometimes none */
                        .n_references = k % 7 == 6 ? 0 : 1 + (k % TEXTS + 1 < TEXTS) };
}

static td_answer choice_item(size_t k)
{
    return (td_answer){ .logprob = logprobs[k % 3],
                        .tokens = tokens,
                        .bytes = bytes,
                        .n_choices = k % 11 == 10 ? 1 : CHOICES,
                        .gold = k % 11 == 10 ? 0 : k % CHOICES };
}

enum { ITEMS = TEXTS * (TEXTS + 1) };

static td_answer item(const td_task_metric *m, size_t k)
{
    return m->flags & TD_METRIC_CHOICES ? choice_item(k) : text_item(k);
}

/* ---- measuring ------------------------------------------------------------------------------- */

static const td_task_metric *metric_of(td_check *c, const td_part *part)
{
    const td_task_metric *m = (const void *)part->plugin;
    td_check_need_options(c);
    MUST(c, m->statistics >= 1 && m->statistics <= TD_MOST_STATISTICS,
         "statistics is %lld: set how many numbers measure writes, 1 to %d",
         (long long)m->statistics, (int)TD_MOST_STATISTICS);
    return m;
}

/* The statistics of an answer; statistics that the metric does not write are 0. Ends the test if
 * it fails. */
static void measure(td_check *c, const td_part *part, const td_answer *a, double *out)
{
    const td_task_metric *m = (const void *)part->plugin;
    td_error              e = { 0 };
    int                   code;
    memset(out, 0, TD_MOST_STATISTICS * sizeof *out);
    code = m->measure(part->config, a, out, &e);
    if (code)
        td_check_failure(c, "measure", code, &e);
    MUST(c, !code, "measure fails on an answer that a model may give ('%s'): %s",
         a->text ? a->text : "(no answer)", td_check_error(&e));
}

static double score(const td_part *part, const double *sums, int64_t items)
{
    return td_metric_score((const void *)part->plugin, part->config, sums, items);
}

/* NaN is in no range. */
static void check_range(td_check *c, const td_task_metric *m, double x, const char *of)
{
    double most = m->flags & TD_METRIC_PERCENT ? 100 : 1;
    if (!(x >= 0 && x <= most * (1 + 1e-12)))
        td_check_finding(c,
                         "the score of %s is %g: it must be in [0, %g]; TD_METRIC_PERCENT says "
                         "which range is meant",
                         of, x, most);
}

static void add(double *sums, const double *one)
{
    for (int k = 0; k < TD_MOST_STATISTICS; k++)
        sums[k] += one[k];
}

/* ---- tests ----------------------------------------------------------------------------------- */

void td_check_statistics(td_check *c)
{
    td_part               part = td_check_part(c);
    const td_task_metric *m = metric_of(c, &part);
    double                sums[TD_MOST_STATISTICS] = { 0 }, one[TD_MOST_STATISTICS];
    for (size_t k = 0; k < ITEMS && !c->n_findings; k++) {
        td_answer a = item(m, k);
        measure(c, &part, &a, one);
        for (int64_t i = 0; i < m->statistics; i++)
            if (!isfinite(one[i]))
                td_check_finding(c, "statistic %lld of the answer '%s' is %g: it must be finite",
                                 (long long)i, a.text ? a.text : "(no answer)", one[i]);
        check_range(c, m, score(&part, one, 1), "one item");
        add(sums, one);
    }
    check_range(c, m, score(&part, sums, ITEMS), "all items together");
    /* --limit 0 and an empty file: a mean must not divide by zero */
    memset(sums, 0, sizeof sums);
    check_range(c, m, score(&part, sums, 0), "no items");
}

/* The score of four items of one sort: right, wrong, or not answered. */
static double score_of(td_check *c, const td_part *part, int sort)
{
    static const double likely[2][CHOICES] = { { -1, -300, -300, -300 }, { -300, -300, -1, -300 } };
    const td_task_metric *m = (const void *)part->plugin;
    double                sums[TD_MOST_STATISTICS] = { 0 }, one[TD_MOST_STATISTICS];
    for (size_t k = 0; k < 4; k++) {
        /* the first text has more than four words: some metrics look at runs of four */
        td_answer a = { .text = sort == 2 ? NULL : texts[sort ? 4 : 0],
                        .references = texts,
                        .n_references = 1 };
        if (m->flags & TD_METRIC_CHOICES)
            a = (td_answer){
                .logprob = likely[sort], .tokens = tokens, .bytes = bytes, .n_choices = CHOICES
            };
        measure(c, part, &a, one);
        add(sums, one);
    }
    return score(part, sums, 4);
}

void td_check_right(td_check *c)
{
    td_part               part = td_check_part(c);
    const td_task_metric *m = metric_of(c, &part);
    double most = m->flags & TD_METRIC_PERCENT ? 100 : 1, right = score_of(c, &part, 0),
           wrong = score_of(c, &part, 1);
    if (!td_check_near(right, most, 1e-9))
        td_check_finding(c, "correct answers have a score of %g: it must be %g", right, most);
    /* not >=: NaN must be found, too */
    if (!(wrong < right))
        td_check_finding(c,
                         "wrong answers have a score of %g, correct ones of %g: a higher score "
                         "must be better",
                         wrong, right);
    if (!(m->flags & TD_METRIC_CHOICES) && score_of(c, &part, 2) > wrong)
        td_check_finding(c, "no answer (text = NULL) scores more than a wrong one");
}

void td_check_metric_order(td_check *c)
{
    td_part               part = td_check_part(c);
    const td_task_metric *m = metric_of(c, &part);
    double *first = td_arena_alloc(c->arena, ITEMS * sizeof(double) * TD_MOST_STATISTICS);
    MUST(c, first, "out of memory");
    for (size_t k = 0; k < ITEMS; k++) {
        td_answer a = item(m, k);
        measure(c, &part, &a, first + k * TD_MOST_STATISTICS);
    }
    /* in reverse order, which exposes a metric that keeps state from the previous item */
    for (size_t k = ITEMS; k-- > 0;) {
        td_answer a = item(m, k);
        double    again[TD_MOST_STATISTICS];
        measure(c, &part, &a, again);
        if (memcmp(again, first + k * TD_MOST_STATISTICS, (size_t)m->statistics * sizeof *again)) {
            td_check_finding(c,
                             "item %zu has different statistics when items are measured in another "
                             "order: keep nothing between calls of measure",
                             k);
            return;
        }
    }
}

static void measure_all(td_check *c, void *argument)
{
    const td_part *part = argument;
    double         one[TD_MOST_STATISTICS];
    for (size_t k = 0; k < ITEMS; k++) {
        td_answer a = item((const void *)part->plugin, k);
        measure(c, part, &a, one);
    }
}

void td_check_metric_leak(td_check *c)
{
    td_part part = td_check_part(c);
    metric_of(c, &part);
    td_check_leak(c, "measuring", measure_all, &part);
}
