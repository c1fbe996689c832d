/* cross-entropy.h - what the losses of this folder share: the scalar from hidden states and
 * labels. */
#ifndef TANDEM_PLUGINS_CROSS_ENTROPY_H
#define TANDEM_PLUGINS_CROSS_ENTROPY_H

#include "tandem/kind/loss.h"

/* sum_n w_n (log Z - z_y + z_loss (log Z)^2) / divisor, over all positions [B * U] */
static inline void cross_entropy_build(const td_loss_in *in, double z_loss, double smoothing,
                                       td_loss_out *out)
{
    int64_t    n = td_count(in->labels), dims[] = { n, td_dim(in->hidden, -1) };
    td_tensor *hidden = td_reshape(in->hidden, dims, 2);
    td_tensor *labels = td_reshape(in->labels, &n, 1), *weights = td_reshape(in->weights, &n, 1);

    out->loss = td_cross_entropy(hidden, in->embedding, labels, weights, in->divisor,
                                 in->logit_scale, z_loss, smoothing);
    out->sum = td_output(out->loss, TD_CE_SUM);
    out->nll = td_output(out->loss, TD_CE_NLL);
}

#endif
