/* metrics.h - passes metrics to all loggers of a run. The names of metrics are a public interface:
 * users' plots rely on them. */
#ifndef TD_TRAIN_METRICS_H
#define TD_TRAIN_METRICS_H

#include "tandem/kind/logger.h"
#include "model/engine.h"
#include "evaluate/perplexity.h"

enum { TD_LOGGERS = 8 };

typedef struct td_metrics {
    const td_part *loggers;
    void          *state[TD_LOGGERS];
    size_t         opened;
} td_metrics;

/* `loggers` [n], n <= TD_LOGGERS, must outlive it. Call td_metrics_close even after a failure. */
int  td_metrics_open(td_metrics *, const td_part *loggers, size_t n, const td_logger_in *,
                     td_error *error);
void td_metrics_close(td_metrics *);
int  td_metrics_write(td_metrics *, int64_t step, const td_metric *, size_t n, td_error *error);
int  td_metrics_flush(td_metrics *, td_error *error);

/* "norm/NAME" and "grad_norm/NAME": the current norms of each trained parameter and its
 * gradient. */
int td_metrics_norms(td_metrics *, int64_t step, td_engine *, td_error *error);
/* "evaluate/SOURCE/nll" and "../bits_per_byte", then "evaluate/nll" and so on: the means over
 * sources. */
int td_metrics_evaluation(td_metrics *, int64_t step, const td_evaluation *, td_error *error);

#endif
