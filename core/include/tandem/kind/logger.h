/* kind/logger.h - where metrics go: a file, a table, a dashboard.
 *
 * The trainer opens every logger of the config, calls `write` with the metrics of each step, and
 * `flush` before each checkpoint. After an interruption a run resumes at the last checkpoint, and
 * the steps since are computed again: `open` with `resume` must then remove their lines, so that a
 * log is the same with and without interruptions. A logger accepts any names and numbers, including
 * NaN and infinity.
 *
 * Metrics are called train/loss, train/cross_entropy, train/grad_norm, train/learning_rate,
 * train/tokens, train/target_tokens, train/flops, train/skipped, and train/NAME for each auxiliary
 * loss; time/tokens_per_second, time/share_of_peak, time/seconds; evaluate/nll, evaluate/perplexity
 * and evaluate/bits_per_byte, and evaluate/SOURCE/nll and evaluate/SOURCE/bits_per_byte for each
 * source.
 *
 * Example:
 *
 *     #include <stdlib.h>
 *
 *     // The loss, one line a step, appended to a file that is closed after each line.
 *     static int open_tail(const void *config, const td_logger_in *in, void **state,
 *                          td_error *error)
 *     {
 *         char *path = malloc(4096);
 *         (void)config;
 *         if (!path)
 *             return td_fail(error, TD_ENOMEM, "logger 'tail': out of memory");
 *         snprintf(path, 4096, "%s/loss.txt", in->directory);
 *         if (in->resume == 0)
 *             remove(path);
 *         *state = path;
 *         return 0;
 *     }
 *
 *     static int write_tail(void *state, int64_t step, const td_metric *m, size_t count,
 *                           td_error *error)
 *     {
 *         FILE *f = fopen(state, "a");
 *         if (!f)
 *             return td_fail(error, TD_EIO, "logger 'tail' cannot open '%s'", (const char *)state);
 *         for (size_t k = 0; k < count; k++)
 *             if (!m[k].time)
 *                 fprintf(f, "%lld %s %.17g\n", (long long)step, m[k].name, m[k].value);
 *         return fclose(f) ? td_fail(error, TD_EIO, "logger 'tail': cannot write") : 0;
 *     }
 *
 *     static const td_logger tail = {
 *         .plugin = TD_PLUGIN(td_logger, TD_LOGGER_KIND, "tail", NULL, char,
 *                             .brief = "lines of text"),
 *         .open = open_tail,
 *         .close = free,
 *         .write = write_tail,
 *     };
 */
#ifndef TANDEM_KIND_LOGGER_H
#define TANDEM_KIND_LOGGER_H

#include "../host.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_LOGGER_KIND "logger/1"

/* The run to log; the strings outlive the logger. */
typedef struct td_logger_in {
    const td_services *services;
    const char        *directory; /* of the run; it exists */
    /* the first step that will be written: remove existing lines of this and later steps; 0: a new
     * run */
    int64_t            resume;
    /* the evaluation after step resume - 1 will be repeated: remove its metrics ("evaluate/..")
     * too */
    bool               evaluate_again;
    /* the same for the tasks scored after that step ("tasks/..") */
    bool               score_again;
    /* resumed: the last step that metrics were written for, which the log should still have; 0: none,
     * or unknown */
    int64_t            written;
} td_logger_in;

/* One number of a step. */
typedef struct td_metric {
    const char *name; /* "train/loss", "evaluate/wikipedia/nll", "tasks/boolq/acc" */
    double      value;
    bool        time; /* measured by a clock: differs between otherwise identical runs */
} td_metric;

typedef struct td_logger {
    td_plugin plugin;
    /* Begin a log, or continue one at in->resume; set *state, which the plugin owns. After a
     * failure `close` is not called. [main] */
    int (*open)(const void *config, const td_logger_in *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    /* Write the metrics of one step; steps come in ascending order. `metrics` is the host's and
     * valid during the call. [main] */
    int (*write)(void *state, int64_t step, const td_metric *metrics, size_t count,
                 td_error *error);
    /* Write everything so far to the disk; called before each checkpoint, so that a crash loses no
     * step that the checkpoint includes. NULL: nothing is buffered. [main] */
    int (*flush)(void *state, td_error *error);
} td_logger;

#ifdef __cplusplus
}
#endif
#endif
