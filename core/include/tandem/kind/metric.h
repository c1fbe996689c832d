/* kind/metric.h - how answers to the items of a task become a score. Stateless.
 *
 * A metric turns each answer into a few numbers that add up over items (its statistics), and their
 * sums into the score. So one pass over the answers yields a mean, BLEU over a whole corpus, its
 * standard error and a comparison of two runs: the host calls `measure` once per item, adds up, and
 * calls `score` as often as it needs.
 *
 * An answer is either text that a model generated, or the log-likelihoods of given choices; the
 * flags say which of the two the metric reads.
 *
 * Example:
 *
 *     #include <string.h>
 *
 *     // 1 where the answer contains the first reference.
 *     static int measure(const void *config, const td_answer *a, double *statistics, td_error *error)
 *     {
 *         (void)config;
 *         (void)error;
 *         statistics[0] = a->text && a->n_references && strstr(a->text, a->references[0]);
 *         return 0;
 *     }
 *
 *     static const td_task_metric contains = {
 *         .plugin = TD_PLUGIN(td_task_metric, TD_METRIC_KIND, "contains", NULL, char,
 *                             .brief = "the answer contains the reference"),
 *         .statistics = 1,
 *         .measure = measure,
 *     };
 */
#ifndef TANDEM_KIND_METRIC_H
#define TANDEM_KIND_METRIC_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_METRIC_KIND "metric/1"

enum {
    TD_METRIC_CHOICES = 1, /* the metric reads choices; otherwise generated text */
    TD_METRIC_PERCENT = 2  /* scores lie in [0, 100]; otherwise in [0, 1] */
};

enum { TD_MOST_STATISTICS = 32 };

/* The answer to one item. Texts are UTF-8, 0-terminated, and owned by the caller. */
typedef struct td_answer {
    /* Generated text after the task's filters. NULL: no filter found an answer in it, which counts
     * as wrong. */
    const char        *text;
    const char *const *references; /* [n_references] right answers */
    size_t             n_references;
    /* For each choice the sum of the log-probabilities of its tokens, in nats, and how many tokens
     * and how many bytes of UTF-8 it has. */
    const double      *logprob; /* [n_choices] */
    const int64_t     *tokens, *bytes;
    size_t             n_choices, gold; /* gold: the index of the right choice */
} td_answer;

/* Not td_metric: that is a number for a logger. */
typedef struct td_task_metric {
    td_plugin plugin;
    uint64_t  flags;
    int64_t   statistics; /* how many numbers `measure` writes: 1 .. TD_MOST_STATISTICS */
    /* The statistics of one item, into an array of TD_MOST_STATISTICS. 0, or a negative code with
     * `error`. [worker] */
    int (*measure)(const void *config, const td_answer *, double *statistics, td_error *error);
    /* The score of `items` items from the sums of their statistics; higher is better. NULL: the mean
     * of the first statistic. [any] */
    double (*score)(const void *config, const double *sums, int64_t items);
    /* The score's name in results, a constant string, which may depend on options. NULL: the
     * plugin's name, with _ for -. [any] */
    const char *(*key)(const void *config);
} td_task_metric;

/* The score of the sums: the hook's, or the mean of the first statistic without a hook. */
static inline double td_metric_score(const td_task_metric *m, const void *config,
                                     const double *sums, int64_t items)
{
    if (m->score)
        return m->score(config, sums, items);
    return items > 0 ? sums[0] / (double)items : 0;
}

#ifdef __cplusplus
}
#endif
#endif
