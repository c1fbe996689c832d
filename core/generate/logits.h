/* logits.h - log-probabilities from the logits of one token. */
#ifndef TD_GENERATE_LOGITS_H
#define TD_GENERATE_LOGITS_H

#include <stdbool.h>
#include <stdint.h>

/* The largest of logits [n], or -INFINITY if any is NaN, so that callers refuse both cases alike. */
float  td_logits_top(const float *logits, int64_t n);
/* log of the sum of exp(logits), whose largest is the finite `top`, to about 1e-15. */
double td_logits_log_sum(const float *logits, int64_t n, float top);
/* Write the log-probabilities of logits [n] to `out` [n]. False: NaN, or all -INFINITY. */
bool   td_log_softmax(const float *logits, int64_t n, double *out);

#endif
