/* kind/metric.h - how answers to the items of a task become a score. Stateless.
 *
 * A metric turns each answer into a few numbers that add up over items (its statistics), and the
 * sums into the score. So a mean, an exact BLEU over a corpus, its standard error and a paired
 * bootstrap between two runs all come from one pass over the answers:
 *
 *     double sums[TD_MOST_STATISTICS] = { 0 }, one[TD_MOST_STATISTICS];
 *     for (each item) {
 *         metric->measure(config, &answer, one, &error);
 *         for (k = 0; k < metric->statistics; k++)
 *             sums[k] += one[k];
 *     }
 *     score = metric->score(config, sums, items);
 *
 * An answer is either text that a model generated, or the log-likelihoods of given choices. A metric
 * says in its flags which of the two it reads.
 */
#ifndef TANDEM_KIND_METRIC_H
#define TANDEM_KIND_METRIC_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_METRIC_KIND "metric/1"

enum {
    TD_METRIC_CHOICES = 1, /* reads choices; else generated text */
    TD_METRIC_PERCENT = 2  /* scores lie in [0, 100]; else in [0, 1] */
};

enum { TD_MOST_STATISTICS = 32 };

/* What is known of one item. Texts are UTF-8, 0-terminated, owned by the caller. */
typedef struct td_answer {
    /* Generated text after the task's filters; NULL: no filter found an answer in it, which counts
     * as wrong. */
    const char        *text;
    const char *const *references; /* [n_references] right answers */
    size_t             n_references;
    /* For each choice: sum of the log-probabilities of its tokens in nats, how many tokens and how
     * many bytes of UTF-8 it has. */
    const double      *logprob; /* [n_choices] */
    const int64_t     *tokens, *bytes;
    size_t             n_choices, gold; /* gold: the right one */
} td_answer;

typedef struct td_metric {
    td_plugin plugin;
    uint64_t  flags;
    int64_t   statistics; /* how many numbers `measure` writes, 1 .. TD_MOST_STATISTICS */
    /* Statistics of one item. 0, or a negative code with `error`. [worker] */
    int (*measure)(const void *config, const td_answer *, double *statistics, td_error *error);
    /* The score of `items` items from the sums of their statistics; higher is better. NULL: the mean
     * of the first statistic. [any] */
    double (*score)(const void *config, const double *sums, int64_t items);
} td_metric;

/* The score of sums, whether the metric has a hook for it or not. */
static inline double td_metric_score(const td_metric *m, const void *config, const double *sums,
                                     int64_t items)
{
    if (m->score)
        return m->score(config, sums, items);
    return items > 0 ? sums[0] / (double)items : 0;
}

#ifdef __cplusplus
}
#endif
#endif
