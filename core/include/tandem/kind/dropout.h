/* kind/dropout.h - not a kind: how model plugins apply dropout.
 *
 * The run decides rate and form (train.dropout, train.dropout_shared); an architecture passes them
 * on in a td_dropout; a plugin calls td_drop wherever its paper applies dropout. In evaluation, in
 * generation and at a rate of 0 it returns x itself, so callers need no check. Which elements are
 * dropped is a function of (seed, step, example, place, element): the same for any batch size,
 * thread count and rank, and after a restart.
 *
 * Example:
 *
 *     #include "tandem/kind/ffn.h"
 *
 *     // The hidden activations of a feed-forward layer, [B, T, F]; axis 1 is time.
 *     static td_tensor *inside(const td_ffn_in *in, td_tensor *hidden)
 *     {
 *         return td_drop(hidden, in->dropout, "inside", 1);
 *     }
 */
#ifndef TANDEM_KIND_DROPOUT_H
#define TANDEM_KIND_DROPOUT_H

#include "../layers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Settings of the run, and the tensors that its random numbers depend on. */
typedef struct td_dropout {
    double     rate;    /* the fraction of elements dropped; 0: none */
    bool       shared;  /* one mask for all tokens of a sequence (Gal and Ghahramani 2016) */
    td_tensor *step;    /* scalar i32: the update that the batch belongs to */
    td_tensor *example; /* i32 [B]: the number of each row within that update */
} td_dropout;

/* Drop elements of x, whose dim 0 is the batch. `place` tells the calls of one scope apart: two
 * with the same place would drop the same elements. `time_axis` is the axis along which a shared
 * mask is the same. `d` may be NULL: no dropout. [build] */
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
