/* metrics.c - the metrics against numbers from elsewhere: sacreBLEU 2.6 for BLEU and ChrF,
 * values worked out by hand for the others. */
#include <math.h>

#include "plugins/part.h"
#include "tandem/kind/metric.h"

/* sacreBLEU's score of each pair alone, to the last digit. */
static const struct pair {
    const char *answer, *reference;
    double      bleu, chrf;
} pairs[] = {
    { "The cat sat on the mat.", "The cat sat on the mat.", 100.00000000000004, 100.0 },
    { "the quick, brown fox (jumps) over 3.14 dogs - really?",
      "The quick brown fox jumps over 3.14 lazy dogs, really!", 9.83748990557782,
      54.272386010613424 },
    { "Das ist ein kleines Haus.", "Das ist ein sehr kleines Haus.", 43.01250851313264,
      72.94487312518616 },
    { "price: $1,234.50-ish & 5-6 items", "The price is $1,234.50, and 5-6 items",
      28.997844147152072, 53.24788081326724 },
    { "", "nothing was said", 0.0, 0.0 },
    { "na\xc3\xafve caf\xc3\xa9 \xe2\x80\x94 d\xc3\xa9j\xc3\xa0 vu",
      "Na\xc3\xafve caf\xc3\xa9 \xe2\x80\x93 d\xc3\xa9j\xc3\xa0-vu!", 10.682175159905848,
      48.56994507804031 },
    { "a", "b", 0.0, 0.0 },
    { "word word word word word", "word word", 21.3643503198117, 68.96079761886402 },
    { "He said &quot;no&quot; to A.B.C. in 1999.", "He said \"no\" to ABC in 1999.",
      41.211837513230265, 42.81791800671853 },
    { "\xe4\xbd\xa0\xe5\xa5\xbd \xe4\xb8\x96\xe7\x95\x8c",
      "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c", 0.0, 33.99581589958159 },
};
enum { PAIRS = sizeof pairs / sizeof *pairs };

static const td_task_metric *metric_of(const td_part *p) { return (const void *)p->plugin; }

static void add(const td_part *p, const td_answer *a, double *sums)
{
    double   one[TD_MOST_STATISTICS] = { 0 };
    td_error e = { 0 };
    cr_assert_eq(metric_of(p)->measure(p->config, a, one, &e), 0, "%s", e.text);
    for (int k = 0; k < TD_MOST_STATISTICS; k++)
        sums[k] += one[k];
}

static double score_one(const td_part *p, const td_answer *a)
{
    double sums[TD_MOST_STATISTICS] = { 0 };
    add(p, a, sums);
    return td_metric_score(metric_of(p), p->config, sums, 1);
}

/* The score of an answer against up to two references. */
static double score(const td_part *p, const char *answer, const char *one, const char *two)
{
    const char *references[] = { one, two };
    td_answer   a = { .text = answer, .references = references, .n_references = two ? 2 : 1 };
    return score_one(p, &a);
}

/* For all pairs together: sums of statistics, then one score. */
static double corpus(const td_part *p)
{
    double sums[TD_MOST_STATISTICS] = { 0 };
    for (int k = 0; k < PAIRS; k++) {
        td_answer a = { .text = pairs[k].answer,
                        .references = &pairs[k].reference,
                        .n_references = 1 };
        add(p, &a, sums);
    }
    return td_metric_score(metric_of(p), p->config, sums, PAIRS);
}

static void expect(double have, double want, const char *of)
{
    cr_expect(fabs(have - want) <= 1e-13 * fmax(1, fabs(want)), "%s: %.17g, not %.17g", of, have,
              want);
}

Test(metric, bleu_is_sacrebleus)
{
    td_part p = load_part("metric-bleu", "bleu");
    for (int k = 0; k < PAIRS; k++)
        expect(score(&p, pairs[k].answer, pairs[k].reference, NULL), pairs[k].bleu,
               pairs[k].answer);
    expect(corpus(&p), 34.54118556414464, "corpus");
    set_option(&p, "lowercase", 1);
    expect(corpus(&p), 35.66144330501318, "corpus in lower case");
    free_part(&p);
}

Test(metric, chrf_is_sacrebleus)
{
    td_part p = load_part("metric-chrf", "chrf");
    for (int k = 0; k < PAIRS; k++)
        expect(score(&p, pairs[k].answer, pairs[k].reference, NULL), pairs[k].chrf,
               pairs[k].answer);
    expect(corpus(&p), 55.829336712907526, "corpus");
    free_part(&p);
}

Test(metric, an_answer_that_was_not_found_counts_as_empty)
{
    td_part bleu = load_part("metric-bleu", "bleu"), chrf = load_part("metric-chrf", "chrf");
    expect(score(&bleu, NULL, "a b c d", NULL), 0, "BLEU");
    expect(score(&chrf, NULL, "a b c d", NULL), 0, "ChrF");
    free_part(&bleu);
    free_part(&chrf);
}

Test(metric, exact_match_normalizes_on_request)
{
    td_part p = load_part("metric-exact-match", "exact-match");
    expect(score(&p, "Paris", "Paris", NULL), 1, "equal");
    expect(score(&p, "paris", "Paris", NULL), 0, "case");
    expect(score(&p, "the Paris.", "London", "Paris"), 0, "article, punctuation");
    expect(score(&p, NULL, "", NULL), 0, "a missing answer differs from an empty one");
    set_option(&p, "ignore_case", 1);
    set_option(&p, "ignore_punctuation", 1);
    set_option(&p, "ignore_articles", 1);
    set_option(&p, "ignore_spaces", 1);
    expect(score(&p, " the  PARIS. ", "London", "Paris"), 1, "simpler form, second reference");
    expect(score(&p, "paris 4", "Paris", NULL), 0, "digits");
    set_option(&p, "ignore_numbers", 1);
    expect(score(&p, "paris 4", "Paris", NULL), 1, "no digits");
    free_part(&p);
}

Test(metric, alias_match_takes_any_name)
{
    td_part p = load_part("metric-alias-match", "alias-match");
    expect(score(&p, "The Vespa!\nA scooter.", "Piaggio", "vespa"), 1, "alias");
    expect(score(&p, "A Vespa scooter", "Piaggio", "vespa"), 0, "more than the alias");
    set_option(&p, "first_line", 0);
    expect(score(&p, "Vespa\nA scooter.", "Piaggio", "vespa"), 0, "all lines");
    free_part(&p);
}

/* 2 P R / (P + R): of "cat sat down" and "cat sat" 2 words are common, P = 2/3, R = 1. */
Test(metric, f1_of_words)
{
    td_part p = load_part("metric-f1", "f1");
    expect(score(&p, "The cat sat down.", "a cat sat", NULL), 0.8, "overlap");
    expect(score(&p, "dog dog", "dog", NULL), 2.0 / 3, "each word counts once");
    expect(score(&p, "cat", "dog", "cat"), 1, "best reference");
    expect(score(&p, "", "the", NULL), 1, "no words on either side");
    free_part(&p);
}

Test(metric, accuracy_by_length)
{
    td_part            p = load_part("metric-accuracy", "accuracy");
    const double       logprob[] = { -4, -9, -10 };
    const int64_t      tokens[] = { 1, 3, 2 }, bytes[] = { 2, 6, 20 };
    td_answer          a = { .logprob = logprob, .tokens = tokens, .bytes = bytes, .n_choices = 3 };
    static const char *keys[] = { "acc", "acc_norm_token", "acc_norm" };
    const td_task_metric *m = metric_of(&p);
    for (size_t per = 0; per < 3; per++) { /* the best by raw, per token, per byte */
        set_option(&p, "per", (double)per);
        for (a.gold = 0; a.gold < 3; a.gold++)
            expect(score_one(&p, &a), a.gold == per, keys[per]);
        cr_expect_str_eq(m->key(p.config), keys[per]);
    }
    free_part(&p);
}

Test(metric, near_ties_are_won_by_the_lower_index)
{
    td_part       p = load_part("metric-accuracy", "accuracy");
    double        logprob[] = { -5, -5 + 9e-6 };
    const int64_t one[] = { 1, 1 };
    td_answer     a = { .logprob = logprob, .tokens = one, .bytes = one, .n_choices = 2 };
    expect(score_one(&p, &a), 1, "9e-6 apart");
    logprob[1] = -5 + 2e-5;
    expect(score_one(&p, &a), 0, "2e-5 apart");
    free_part(&p);
}

Test(metric, nan_is_an_error_that_names_the_choice)
{
    td_part       p = load_part("metric-accuracy", "accuracy");
    const double  logprob[] = { -5, NAN };
    const int64_t one[] = { 1, 1 };
    td_answer     a = { .logprob = logprob, .tokens = one, .bytes = one, .n_choices = 2 };
    double        s[TD_MOST_STATISTICS];
    td_error      e = { 0 };
    cr_expect_eq(metric_of(&p)->measure(p.config, &a, s, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, "choice 2 is NaN"), "%s", e.text);
    free_part(&p);
}
