/* cross-entropy.h - shared by the losses in this folder: two options, and the scalar computed
 * from hidden states and labels. */
#ifndef TANDEM_PLUGINS_CROSS_ENTROPY_H
#define TANDEM_PLUGINS_CROSS_ENTROPY_H

#include "tandem/kind/loss.h"

/* The z-loss keeps log Z near 0, where it cannot drift: 1e-4 is PaLM's. */
#define CROSS_ENTROPY_OPTIONS(S)                                   \
    TD_OPTION_FLOAT(S, z_loss, 1e-4, 0, 1, "weight of (log Z)^2"), \
        TD_OPTION_FLOAT(S, label_smoothing, 0, 0, 0.999,           \
                        "fraction of the target spread over the other tokens")

/* sum_n w_n (log Z - z_y + z_loss (log Z)^2) / divisor over all positions [B * U], by one fused
 * op: the logits [B * U, V], which would be the largest tensor of the model, never exist. */
static inline void cross_entropy_build(const td_loss_in *in, double z_loss, double smoothing,
                                       td_loss_out *out)
{
    int64_t    n = td_count(in->labels), dims[] = { n, td_dim(in->hidden, -1) };
    td_tensor *hidden = td_reshape(in->hidden, dims, 2);
    td_tensor *labels = td_reshape(in->labels, &n, 1), *weights = td_reshape(in->weights, &n, 1);

    out->loss = td_cross_entropy_capped(hidden, in->embedding, labels, weights, in->divisor,
                                        in->logit_scale, in->logit_cap, z_loss, smoothing);
    out->sum = td_output(out->loss, TD_CE_SUM);
    out->nll = td_output(out->loss, TD_CE_NLL);
}

#endif
