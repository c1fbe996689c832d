/* chrf.c - F-score over character n-grams, equal to sacreBLEU's to the last digit. Paper: Popovic
 * 2015 (chrF).
 *
 * sacreBLEU's signature: nc:6|nw:0|space:no|eff:yes|case:mixed. Counts add up over items; precision
 * and recall are averaged over the orders for which both sides have n-grams, then combined into one
 * F. */
#include "text.h"

struct chrf {
    int64_t order;
    double  beta;
};

enum { MOST_ORDERS = TD_MOST_STATISTICS / 3 };

static const td_option options[] = {
    TD_OPTION_INT(struct chrf, order, 6, 1, MOST_ORDERS, "longest n-gram, in characters"),
    TD_OPTION_FLOAT(struct chrf, beta, 2, 1e-3, 1e3,
                    "recall counts beta times as much as precision"),
    TD_OPTION_END
};

/* The counts of one n-gram order, in the order of the statistics. */
enum { OF_ANSWER, OF_REFERENCE, MATCHES, COUNTS };

/* ---- n-grams --------------------------------------------------------------------------------- */

/* A text without white space, and the offsets of its characters and of its end. */
struct characters {
    char   *text;
    size_t *at;
    size_t  count;
};

static bool open_characters(struct characters *c, const char *text)
{
    size_t room = strlen(text) + 1, bytes, n = 0;
    c->text = malloc(room);
    c->at = malloc(room * sizeof *c->at);
    c->count = 0;
    if (!c->text || !c->at)
        return false;
    for (; *text; text += bytes) {
        /* n-grams run across words, as in sacreBLEU's default */
        if (is_space(character_at(text, &bytes)))
            continue;
        memcpy(c->text + n, text, bytes);
        c->at[c->count++] = n;
        n += bytes;
    }
    c->at[c->count] = n;
    return true;
}

static void close_characters(struct characters *c)
{
    free(c->text);
    free(c->at);
}

/* Lists all n-grams of one order, sorted; returns how many. */
static size_t grams_of(const struct characters *c, size_t order, struct gram *out)
{
    size_t n = c->count >= order ? c->count - order + 1 : 0;
    for (size_t i = 0; i < n; i++)
        out[i] = (struct gram){ c->text + c->at[i], c->at[i + order] - c->at[i] };
    if (n)
        qsort(out, n, sizeof *out, compare_grams);
    return n;
}

static bool count(const struct chrf *c, const char *answer, const char *reference, double *counts)
{
    struct characters a = { 0 }, b = { 0 };
    struct gram      *of_a = NULL, *of_b = NULL;
    bool              opened = open_characters(&a, answer) && open_characters(&b, reference);

    if (opened) {
        of_a = malloc((a.count + 1) * sizeof *of_a);
        of_b = malloc((b.count + 1) * sizeof *of_b);
    }
    for (size_t n = 1; of_a && of_b && n <= (size_t)c->order; n++) {
        size_t  n_a = grams_of(&a, n, of_a), n_b = grams_of(&b, n, of_b);
        double *to = counts + (n - 1) * COUNTS;
        /* an order for which the reference is too short does not count against the answer */
        to[OF_ANSWER] = n_b ? (double)n_a : 0;
        to[OF_REFERENCE] = (double)n_b;
        to[MATCHES] = (double)common_grams(of_a, n_a, of_b, n_b);
    }
    close_characters(&a);
    close_characters(&b);
    opened = of_a && of_b;
    free(of_a);
    free(of_b);
    return opened;
}

/* ---- score ----------------------------------------------------------------------------------- */

/* The order of the operations is sacreBLEU's, for the same last digit. */
static double f_score(const struct chrf *c, const double *counts)
{
    double  precision = 0, recall = 0, factor = c->beta * c->beta, score;
    int64_t orders = 0;
    for (int64_t n = 0; n < c->order; n++) {
        const double *of = counts + n * COUNTS;
        /* a text shorter than n characters has no n-grams: that order does not count */
        if (of[OF_ANSWER] > 0 && of[OF_REFERENCE] > 0) {
            precision += of[MATCHES] / of[OF_ANSWER];
            recall += of[MATCHES] / of[OF_REFERENCE];
            orders++;
        }
    }
    if (!orders)
        return 0;
    precision /= (double)orders;
    recall /= (double)orders;
    if (precision + recall == 0)
        return 0;
    score = (1 + factor) * precision * recall;
    score /= factor * precision + recall;
    return 100 * score;
}

/* Uses the reference with the best F, the first of equal ones. */
static int measure(const void *config, const td_answer *a, double *statistics, td_error *error)
{
    const struct chrf *c = config;
    double             best = -1;
    memset(statistics, 0, TD_MOST_STATISTICS * sizeof *statistics);
    for (size_t k = 0; k < a->n_references; k++) {
        double counts[TD_MOST_STATISTICS] = { 0 }, f;
        if (!count(c, a->text ? a->text : "", a->references[k], counts))
            return out_of_memory(error);
        f = f_score(c, counts);
        if (f > best) {
            best = f;
            memcpy(statistics, counts, sizeof counts);
        }
    }
    return 0;
}

static double score(const void *config, const double *sums, int64_t items)
{
    (void)items;
    return f_score(config, sums);
}

static const td_task_metric chrf = {
    .plugin = TD_PLUGIN(td_task_metric, TD_METRIC_KIND, "chrf", options, struct chrf,
                        .brief = "F-score over character n-grams", .paper = "Popovic, chrF, 2015"),
    .flags = TD_METRIC_PERCENT,
    .statistics = TD_MOST_STATISTICS,
    .measure = measure,
    .score = score,
};

TD_MODULE("chrf", "1.0", "tandem", "MIT", &chrf.plugin)
