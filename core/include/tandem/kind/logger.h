/* kind/logger.h - where metrics go: a file, a dashboard. */
#ifndef TANDEM_KIND_LOGGER_H
#define TANDEM_KIND_LOGGER_H

#include "../host.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_LOGGER_KIND "logger/1"

typedef struct td_logger_in {
    const td_services *services;
    const char        *directory; /* of the run */
    /* first step to come: later lines of an earlier try are cut; 0: a new run */
    int64_t            resume;
    /* the evaluation of the step before (metrics "evaluate/..") comes again: cut it too */
    bool               evaluate_again;
} td_logger_in;

/* Names: train/loss, cross_entropy, grad_norm, learning_rate, tokens, target_tokens, flops, skipped,
 * and one for each auxiliary loss; time/tokens_per_second, share_of_peak, seconds; evaluate/nll, perplexity and
 * bits_per_byte, the same with evaluate/SOURCE/ before it. A plugin takes whatever comes. */
typedef struct td_metric {
    const char *name; /* "train/loss", "evaluate/wikipedia/nll" */
    double      value;
    bool        time; /* a clock's reading: differs between identical runs */
} td_metric;

typedef struct td_logger {
    td_plugin plugin;
    /* Begin, or go on where `resume` says; `state` is the plugin's own. [main] */
    int (*open)(const void *config, const td_logger_in *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    /* The metrics of one step. [main] */
    int (*write)(void *state, int64_t step, const td_metric *metrics, size_t count,
                 td_error *error);
    /* Make all that was written last (before a checkpoint). [main] */
    int (*flush)(void *state, td_error *error);
} td_logger;

#ifdef __cplusplus
}
#endif
#endif
