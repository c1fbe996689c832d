/* accuracy.c - whether the choice with the largest log-likelihood is the right one. The names of the
 * three are those of lm-evaluation-harness: acc (raw), acc_norm (per byte). */
#include <math.h>

#include "text.h"

enum { PER_CHOICE, PER_TOKEN, PER_BYTE };

struct accuracy {
    int64_t per;
};

static const char *const units[] = { "choice", "token", "byte", NULL };

static const td_option options[] = {
    TD_OPTION_CHOICE(struct accuracy, per, PER_CHOICE, units,
                     "divide log-likelihoods by the choice's length, so that long choices have no "
                     "disadvantage"),
    TD_OPTION_END
};

/* Log-likelihoods agree to 1e-5 between batch sizes and thread counts. Closer ones are a tie, which
 * the lower index wins, so that the score is always the same. */
#define TIE 1e-5

static double likelihood(const struct accuracy *c, const td_answer *a, size_t k)
{
    int64_t length = c->per == PER_TOKEN ? a->tokens[k] : c->per == PER_BYTE ? a->bytes[k] : 1;
    return a->logprob[k] / (double)(length > 0 ? length : 1);
}

static int measure(const void *config, const td_answer *a, double *statistics, td_error *error)
{
    const struct accuracy *c = config;
    size_t                 best = 0;
    for (size_t k = 0; k < a->n_choices; k++) {
        double x = likelihood(c, a, k);
        if (isnan(x))
            return td_fail(error, TD_EFORMAT, "the log-likelihood of choice %zu is NaN", k + 1);
        if (x > likelihood(c, a, best) + TIE)
            best = k;
    }
    statistics[0] = a->n_choices && best == a->gold;
    return 0;
}

static const char *key(const void *config)
{
    static const char *const names[] = { "acc", "acc_norm_token", "acc_norm" };
    return names[((const struct accuracy *)config)->per];
}

static const td_task_metric accuracy = {
    .plugin = TD_PLUGIN(td_task_metric, TD_METRIC_KIND, "accuracy", options, struct accuracy,
                        .brief = "whether the most likely choice is the correct one"),
    .flags = TD_METRIC_CHOICES,
    .statistics = 1,
    .measure = measure,
    .key = key,
};

TD_MODULE("accuracy", "1.0", "tandem", "MIT", &accuracy.plugin)
