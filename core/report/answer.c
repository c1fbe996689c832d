/* answer.c - the question answered in three sentences, with numbers and intervals.
 *
 * A difference that its test does not support is called unsupported. The test uses p after Holm's
 * correction for all tests of the report, because the reader sees all of them.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "report/sections.h"
#include "run/differences.h"

enum { MOST_NAMED = 3 }; /* tasks that a sentence names */

/* Two groups of one class on one measure, one of them better by its mean. */
typedef struct duel {
    const td_measure       *measure;
    size_t                  better, other;
    const td_compared_pair *pair; /* NULL: not tested */
    double                  gain; /* how much better, positive */
    double                  low, high;
    bool                    supported;
    size_t                  members; /* groups of the class that have the score */
} duel;

static double score_of(const td_measure *m, size_t group) { return m->groups[group].score; }

static bool is_better(const td_measure *m, double a, double b)
{
    return m->lower_is_better ? a < b : a > b;
}

static bool is_in(const td_report_data *d, const td_measure *m, size_t group, const char *class)
{
    return !strcmp(d->groups[group].class, class) && isfinite(score_of(m, group));
}

/* Reads the test of a pair so that a positive gain is the better group's. */
static void read_test(const td_report_data *d, duel *u)
{
    bool reversed;
    u->pair = td_report_pair(d, u->measure, u->other, u->better, &reversed);
    u->gain = fabs(score_of(u->measure, u->better) - score_of(u->measure, u->other));
    u->low = u->high = (double)NAN;
    if (!u->pair)
        return;
    /* better minus other, so that higher is better */
    double sign = (reversed ? -1 : 1) * (u->measure->lower_is_better ? -1 : 1);
    double a = sign * u->pair->difference.low, b = sign * u->pair->difference.high;
    u->gain = sign * u->pair->difference.mean;
    u->low = fmin(a, b);
    u->high = fmax(a, b);
    u->supported = u->pair->adjusted < 0.05;
}

static size_t best_of(const td_report_data *d, const td_measure *m, const char *class, size_t but)
{
    size_t best = SIZE_MAX;
    for (size_t k = 0; k < d->comparison.n_groups; k++)
        if (k != but && is_in(d, m, k, class) &&
            (best == SIZE_MAX || is_better(m, score_of(m, k), score_of(m, best))))
            best = k;
    return best;
}

static size_t first_of(const td_report_data *d, const td_measure *m, const char *class)
{
    for (size_t k = 0; k < d->comparison.n_groups; k++)
        if (is_in(d, m, k, class))
            return k;
    return SIZE_MAX;
}

/* The best group against the first, which is the base that the others were made from; if the
 * first is itself the best, against the second best. False if fewer than two have the score. */
static bool find_duel(const td_report_data *d, const td_measure *m, const char *class, duel *u)
{
    size_t best = best_of(d, m, class, SIZE_MAX), first = first_of(d, m, class);
    *u = (duel){ .measure = m, .better = best };
    if (best == SIZE_MAX)
        return false;
    u->other = first == best ? best_of(d, m, class, best) : first;
    for (size_t k = 0; k < d->comparison.n_groups; k++)
        u->members += is_in(d, m, k, class);
    if (u->other == SIZE_MAX)
        return false;
    read_test(d, u);
    if (u->gain < 0) { /* on the items that both have it is the other way round */
        u->other = best;
        u->better = first == best ? best_of(d, m, class, best) : first;
        read_test(d, u);
    }
    return true;
}

/* ---- the first sentence ---------------------------------------------------------------------- */

/* For a study with several sizes, the last one, whose variants had the largest budget. Held-out
 * text resembles that of pretraining, from which a finetuned model has moved away. */
static const char *class_of_answer(const td_report_data *d, const td_measure *m)
{
    const char *class = "", *pretrained = NULL;
    for (size_t k = 0; k < d->comparison.n_groups; k++) {
        if (!isfinite(score_of(m, k)))
            continue;
        class = d->groups[k].class;
        if (strcmp(d->groups[k].phase, "finetune"))
            pretrained = class;
    }
    return pretrained && !td_report_is_task(m) ? pretrained : class;
}

static const char *in_class(td_document *doc, const char *class)
{
    return *class ? td_document_print(doc, " (%s)", class) : "";
}

/* With the sign of the table of tests, which has the second group minus the first. */
static const char *interval(const td_report_data *d, td_document *doc, const duel *u)
{
    const td_difference *x = &u->pair->difference;
    if (!isfinite(u->low))
        return "";
    return td_document_print(doc, "'%s' minus '%s': 95 %% interval %s to %s, ",
                             d->groups[u->pair->b].name, d->groups[u->pair->a].name,
                             td_report_number(doc, x->low, true),
                             td_report_number(doc, x->high, true));
}

/* An interval is that of one test, so it may say more than p does after the correction. */
static const char *uncorrected(const duel *u)
{
    return u->low > 0 ? "; the interval excludes 0 because it is not corrected for the other tests"
                      : "";
}

/* "p = 0.012 after Holm's correction for 21 tests". */
static const char *evidence(const td_report_data *d, td_document *doc, const duel *u)
{
    return td_document_print(doc, "%s after Holm's correction for %zu test%s",
                             td_report_p(doc, u->pair->adjusted), d->comparison.n_pairs,
                             d->comparison.n_pairs == 1 ? "" : "s");
}

static const char *seeds_of(td_document *doc, const duel *u)
{
    int64_t a = u->measure->groups[u->better].seeds, b = u->measure->groups[u->other].seeds;
    if (a == 1 && b == 1)
        return "one seed each, so the test does not cover variation between seeds";
    return a == b ? td_document_print(doc, "%" PRId64 " seeds each", a)
                  : td_document_print(doc, "%s against %" PRId64, td_report_seeds(doc, a), b);
}

/* ", the best of 5,": there are more groups than the two that are compared. */
static const char *standing(td_document *doc, const duel *u)
{
    return u->members < 3 ? "" : td_document_print(doc, ", the best of %zu,", u->members);
}

/* Whether the difference is too small for the digits that are printed. */
static bool is_tie(const duel *u) { return u->gain < 0.000005; }

/* What it would take to show a difference; "" if nothing is known about seeds. */
static const char *seeds_needed(td_document *doc, const duel *u)
{
    int64_t n = u->pair->seeds;
    if (n < 0 || (!n && !(u->pair->difference.items > 0)))
        return "";
    if (!n)
        return " More seeds would not show a difference of this size: only more scored text would.";
    return td_document_print(doc,
                             " Showing a difference of this size would take about %" PRId64
                             " seeds of each.",
                             n);
}

/* In a study: whether the same two variants also differ in the same way at other sizes. */
static const char *at_other_sizes(const td_report_data *d, td_document *doc, const duel *u)
{
    const td_report_group *better = &d->groups[u->better], *other = &d->groups[u->other];
    size_t                 sizes = 0, same = 0, supported = 0;
    for (size_t k = 0; k < d->comparison.n_pairs; k++) {
        const td_compared_pair *p = &d->comparison.pairs[k];
        const td_report_group  *a = &d->groups[p->a], *b = &d->groups[p->b];
        /* a pair has the order of its groups, so the better variant may be its first or its second
         * */
        bool straight = !strcmp(a->variant, other->variant) && !strcmp(b->variant, better->variant);
        bool reversed = !strcmp(b->variant, other->variant) && !strcmp(a->variant, better->variant);
        if (&d->comparison.measures[p->measure] != u->measure || !*a->variant || p == u->pair ||
            strcmp(a->phase, better->phase) || !(straight || reversed))
            continue;
        bool gains = (p->difference.mean < 0) == u->measure->lower_is_better;
        sizes++;
        same += gains == straight;
        supported += gains == straight && p->adjusted < 0.05;
    }
    if (!sizes)
        return "";
    return td_document_print(
        doc,
        " It is also ahead at %zu of %zu other sizes, at %zu of them with a supported difference.",
        same, sizes, supported);
}

static const char *tested_sentence(const td_report_data *d, td_document *doc, const duel *u,
                                   const char *unit, const char *class)
{
    const char *a = d->groups[u->better].name, *b = d->groups[u->other].name;
    const char *gain = td_report_number(doc, u->gain, false), *in = in_class(doc, class);
    const char *range = interval(d, doc, u), *p = evidence(d, doc, u), *seeds = seeds_of(doc, u);
    const char *rank = standing(doc, u), *sizes = at_other_sizes(d, doc, u);
    /* "better" only if p is below 0.05 after the correction for all tests */
    if (u->supported)
        return td_document_print(
            doc,
            "'%s'%s is better than '%s' on held-out text%s: its loss is lower by "
            "%s %s (%s%s; %s).%s",
            a, rank, b, in, gain, unit, range, p, seeds, sizes);
    if (is_tie(u))
        return td_document_print(
            doc,
            "'%s'%s and '%s' have the same loss on held-out text%s, to five decimals "
            "(%s%s; %s).%s",
            a, rank, b, in, range, p, seeds, sizes);
    return td_document_print(
        doc,
        "The data do not support a difference between '%s'%s and '%s' on held-out text%s: the loss "
        "of '%s' is lower by %s %s, which may be due to chance (%s%s%s; %s).%s%s",
        a, rank, b, in, a, gain, unit, range, p, uncorrected(u), seeds, seeds_needed(doc, u),
        sizes);
}

static const char *untested_sentence(const td_report_data *d, td_document *doc, const duel *u,
                                     const char *unit, const char *class)
{
    return td_document_print(
        doc,
        "On held-out text%s '%s'%s has %s %s and '%s' %s; the "
        "difference cannot be tested, because the runs were not scored on the same "
        "tokens.",
        in_class(doc, class), d->groups[u->better].name, standing(doc, u),
        td_report_number(doc, score_of(u->measure, u->better), false), unit,
        d->groups[u->other].name, td_report_number(doc, score_of(u->measure, u->other), false));
}

static const char *lonely_sentence(const td_report_data *d, td_document *doc, const duel *u,
                                   const char *unit)
{
    const td_measured *m = &u->measure->groups[u->better];
    double             half = td_report_half(m);
    const char        *range = "";
    /* a measure may have no error, and then no interval is claimed */
    if (isfinite(half))
        range = td_document_print(doc, " (95 %% interval %s to %s)",
                                  td_report_number(doc, m->score - half, false),
                                  td_report_number(doc, m->score + half, false));
    return td_document_print(
        doc, "'%s' has %s %s on held-out text%s over %s; there is nothing else to compare it with.",
        d->groups[u->better].name, td_report_number(doc, m->score, false), unit, range,
        td_report_seeds(doc, m->seeds));
}

/* The class of the last size that was finetuned and scored; NULL: there is none. */
static const char *finetuned_class(const td_report_data *d, const td_measure *m)
{
    const char *class = NULL;
    for (size_t k = 0; k < d->comparison.n_groups; k++)
        if (isfinite(score_of(m, k)) && !strcmp(d->groups[k].phase, "finetune"))
            class = d->groups[k].class;
    return class;
}

/* Finetuning can close a gap of pretraining, or open one, so both belong to the answer. */
static const char *after_finetuning(const td_report_data *d, td_document *doc, const td_measure *m,
                                    const char *unit, const char *answered)
{
    const char *class = finetuned_class(d, m), *range, *gain;
    duel u;
    if (!class || !strcmp(class, answered) || !find_duel(d, m, class, &u) || !u.pair)
        return "";
    gain = td_report_number(doc, u.gain, false);
    range = interval(d, doc, &u);
    if (!u.supported && is_tie(&u))
        return td_document_print(
            doc, " After finetuning, '%s' and '%s' have the same loss, to five decimals (%s%s).",
            d->groups[u.better].name, d->groups[u.other].name, range,
            td_report_p(doc, u.pair->adjusted));
    if (!u.supported)
        return td_document_print(
            doc,
            " After finetuning, the data do not support a difference: '%s' is ahead of '%s' by %s "
            "(%s%s%s).",
            d->groups[u.better].name, d->groups[u.other].name, gain, range,
            td_report_p(doc, u.pair->adjusted), uncorrected(&u));
    return td_document_print(doc,
                             " After finetuning, '%s'%s is ahead of '%s' by %s %s on the held-out "
                             "text of finetuning (%s%s).",
                             d->groups[u.better].name, standing(doc, &u), d->groups[u.other].name,
                             gain, unit, range, td_report_p(doc, u.pair->adjusted));
}

/* " 'b' was trained for 20 steps (2400 tokens), 'a' for 100 (12000)."; "" if both read as much. */
static const char *unequal_training(const td_report_data *d, td_document *doc, const duel *u)
{
    const td_compared_group *x = &d->comparison.groups[u->better];
    const td_compared_group *y = &d->comparison.groups[u->other];
    /* runs that differ by a step or so count as equally trained */
    if (x->step < 1 || y->step < 1 || !isfinite(x->tokens / y->tokens) ||
        fabs(x->tokens - y->tokens) <= 0.01 * fmax(x->tokens, y->tokens))
        return "";
    return td_document_print(doc,
                             " The two were not trained equally: '%s' for %" PRId64
                             " steps (%.0f tokens), '%s' for %" PRId64 " (%.0f).",
                             d->groups[u->better].name, x->step, x->tokens,
                             d->groups[u->other].name, y->step, y->tokens);
}

/* A reader takes the variant's name for the only thing that is different. The group that comes first is
 * the base. */
static const char *other_differences(const td_report_data *d, td_document *doc, const duel *u)
{
    const td_comparison *c = &d->comparison;
    size_t               base = u->better < u->other ? u->better : u->other;
    size_t               variant = u->better < u->other ? u->other : u->better;
    const td_text       *a = &c->runs[c->groups[base].runs[0]].differences;
    const td_text       *b = &c->runs[c->groups[variant].runs[0]].differences;
    td_text              lines = { 0 }, words = { 0 };
    bool                 less;
    td_changed_between(td_text_get(a), td_text_get(b), &lines);
    size_t      n = td_changed_say(td_text_get(&lines), d->groups[base].name, &words, &less);
    const char *list = td_document_take(doc, &words), *what = td_changed_summary(n, less);
    td_text_free(&lines);
    if (!what)
        return "";
    return td_document_print(doc, " '%s' and '%s' %s%s: %s.", d->groups[base].name,
                             d->groups[variant].name, what,
                             n > 1 ? ", and this comparison does not tell which of them matters"
                                   : "",
                             list);
}

static const char *answer_heldout(const td_report_data *d, td_document *doc)
{
    /* losses per token of different tokenizers do not measure the same thing */
    const td_measure *m = td_report_measure(d,
                                            d->tokenizers_differ ? "heldout bits/byte" : "heldout");
    const char       *unit = d->tokenizers_differ ? "bits per byte" : "nats per target token";
    const char *class = m ? class_of_answer(d, m) : "";
    duel u;
    if (!m)
        return d->tokenizers_differ
                   ? "The runs have different tokenizers and no score in bits per byte, so their "
                     "held-out losses cannot be compared."
                   : "No run was scored on held-out text: run 'tandem evaluate RUN'.";
    if (!find_duel(d, m, class, &u))
        return lonely_sentence(d, doc, &u, unit);
    return td_document_print(doc, "%s%s%s%s",
                             u.pair ? tested_sentence(d, doc, &u, unit, class)
                                    : untested_sentence(d, doc, &u, unit, class),
                             unequal_training(d, doc, &u), other_differences(d, doc, &u),
                             after_finetuning(d, doc, m, unit, class));
}

/* ---- the second sentence --------------------------------------------------------------------- */

typedef struct tally {
    size_t  better, worse, open;
    td_text named, unsupported;
} tally;

/* Tasks usually come with the last phase, whose groups differ from those of the first sentence. */
static bool find_rivals(const td_report_data *d, duel *u)
{
    const td_measure *heldout = td_report_measure(d, "heldout");
    for (size_t k = 0; k < d->comparison.n_measures; k++) {
        const td_measure *m = &d->comparison.measures[k];
        if (!td_report_is_main(d, k))
            continue;
        const char *class = class_of_answer(d, m);
        if (heldout && find_duel(d, heldout, class, u) && is_in(d, m, u->better, class) &&
            is_in(d, m, u->other, class))
            return true;
        if (find_duel(d, m, class, u))
            return true;
    }
    return false;
}

static void name_task(const td_report_data *d, td_document *doc, const duel *u, td_text *named)
{
    td_text_print(named, "%s%s by %s (%s%s)", named->size ? ", " : "", u->measure->name,
                  td_report_number(doc, u->gain, true), interval(d, doc, u),
                  td_report_p(doc, u->pair->adjusted));
}

/* Supported differences are named; if there are none, the others. */
static void count_task(const td_report_data *d, td_document *doc, const td_measure *m, duel rivals,
                       tally *t)
{
    duel u = { .measure = m, .better = rivals.better, .other = rivals.other };
    read_test(d, &u);
    if (!u.pair)
        return;
    if (!u.supported && t->open++ < MOST_NAMED)
        name_task(d, doc, &u, &t->unsupported);
    if (!u.supported)
        return;
    if (t->better + t->worse < MOST_NAMED)
        name_task(d, doc, &u, &t->named);
    *(u.gain > 0 ? &t->better : &t->worse) += 1;
}

/* "6 tasks". */
static const char *tasks_of(td_document *doc, size_t n)
{
    return n == 1 ? "one task" : td_document_print(doc, "%zu tasks", n);
}

static const char *tell_tally(td_document *doc, const char *a, const char *b, tally *t)
{
    const char *named = td_document_take(doc, &t->named);
    const char *unsupported = td_document_take(doc, &t->unsupported), *rest = "";
    /* these tasks have scores, but nothing that both groups answered */
    if (!(t->better + t->worse + t->open))
        return "The tasks were not tested, because no two groups were scored on the same item.";
    if (!(t->better + t->worse))
        return td_document_print(
            doc, "On %s the data do not support a difference between '%s' and '%s': %s%s.",
            tasks_of(doc, t->open), a, b, unsupported, t->open > MOST_NAMED ? ", .." : "");
    if (t->open)
        rest = td_document_print(doc, "; on %s the data do not support a difference",
                                 tasks_of(doc, t->open));
    return td_document_print(doc, "Of %s '%s' is better than '%s' on %zu and worse on %zu: %s%s%s.",
                             tasks_of(doc, t->better + t->worse + t->open), a, b, t->better,
                             t->worse, named, t->better + t->worse > MOST_NAMED ? ", .." : "",
                             rest);
}

static const char *answer_tasks(const td_report_data *d, td_document *doc)
{
    duel  u;
    tally t = { 0 };
    if (d->comparison.n_groups < 2)
        return NULL;
    if (!find_rivals(d, &u))
        return "Tasks are not compared, because fewer than two groups have scores: run 'tandem "
               "evaluate RUN --tasks ..'.";
    for (size_t k = 0; k < d->comparison.n_measures; k++)
        if (td_report_is_main(d, k))
            count_task(d, doc, &d->comparison.measures[k], u, &t);
    return tell_tally(doc, d->groups[u.better].name, d->groups[u.other].name, &t);
}

/* ---- the third sentence ---------------------------------------------------------------------- */

/* "training took 12 PFLOP against 24 PFLOP (0.50 times)"; nothing if either is unknown. */
static void compare(td_text *t, const char *what, const char *a, const char *b, double x, double y)
{
    if (isfinite(x) && isfinite(y) && y > 0)
        td_text_print(t, "%s%s %s against %s (%.2f times)", t->size ? "; " : "", what, a, b, x / y);
}

static const char *milliseconds(td_document *doc, double seconds)
{
    return td_document_print(doc, "%.3g ms", 1e3 * seconds);
}

/* The same two groups as in the first sentence, or the first two. */
static bool find_priced(const td_report_data *d, duel *u)
{
    const td_measure *m = td_report_measure(d,
                                            d->tokenizers_differ ? "heldout bits/byte" : "heldout");
    *u = (duel){ .better = 0, .other = 1 };
    return d->comparison.n_groups > 1 && (!m || find_duel(d, m, class_of_answer(d, m), u));
}

static const char *answer_cost(const td_report_data *d, td_document *doc)
{
    duel        u;
    td_text     t = { 0 };
    const char *list;
    if (!find_priced(d, &u))
        return NULL;
    const td_compared_group *x = &d->comparison.groups[u.better];
    const td_compared_group *y = &d->comparison.groups[u.other];
    double inside = td_report_inference(d, u.better), outside = td_report_inference(d, u.other);
    double mine = td_report_latency(d, u.better), its = td_report_latency(d, u.other);
    compare(&t, "training took", td_report_flops(doc, x->flops), td_report_flops(doc, y->flops),
            x->flops, y->flops);
    /* per target token, because architectures predict different shares of one sequence */
    compare(&t, "a forward pass takes, for each target token,", td_report_flops(doc, inside),
            td_report_flops(doc, outside), inside, outside);
    compare(&t, "generating a token takes", milliseconds(doc, mine), milliseconds(doc, its), mine,
            its);
    list = td_document_take(doc, &t);
    if (!*list)
        return NULL;
    return td_document_print(doc, "The cost of '%s' compared with '%s': %s%s.",
                             d->groups[u.better].name, d->groups[u.other].name, list,
                             isfinite(mine / its) ? "" : "; latency was not measured");
}

void td_report_answer(const td_report_data *d, td_document *doc)
{
    doc->answer[0] = answer_heldout(d, doc);
    doc->answer[1] = answer_tasks(d, doc);
    doc->answer[2] = answer_cost(d, doc);
}
