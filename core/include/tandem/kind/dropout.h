/* kind/dropout.h - not a kind: how model plugins apply dropout. */
#ifndef TANDEM_KIND_DROPOUT_H
#define TANDEM_KIND_DROPOUT_H

#include "../layers.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct td_dropout {
    double     rate;    /* 0: none */
    bool       shared;  /* one mask for the whole sequence (along the time axis) */
    td_tensor *step;    /* scalar i32 */
    td_tensor *example; /* i32 [B]: which example of the step each row is */
} td_dropout;

/* Drop elements of x, whose dim 0 is the batch; `time_axis` is the axis that a shared mask
 * spans. */
static inline td_tensor *td_drop(td_tensor *x, const td_dropout *d, const char *place,
                                 int time_axis)
{
    if (!d || d->rate <= 0)
        return x;
    return td_dropout_at(x, d->step, d->example, d->rate,
                         d->shared ? (int64_t)1 << td_axis_(x, time_axis) : 0, place);
}

#ifdef __cplusplus
}
#endif
#endif
