/* pairs.h - what the losses of this folder that give and predict share: records that are pairs. */
#ifndef TANDEM_PLUGINS_PAIRS_H
#define TANDEM_PLUGINS_PAIRS_H

#include "cross-entropy.h"

/* The inputs are given, the targets predicted. */
static inline int split_pair(const char *loss, const td_record *r, td_example *out, td_error *error)
{
    if (r->n_inputs < 1 || r->n_targets < 1)
        return td_fail(
            error, TD_EFORMAT,
            "loss '%s': record %llu has %lld inputs and %lld targets; each needs a token", loss,
            (unsigned long long)r->id, (long long)r->n_inputs, (long long)r->n_targets);
    out->given = r->inputs;
    out->n_given = r->n_inputs;
    out->predicted = r->targets;
    out->n_predicted = r->n_targets;
    out->weights = r->weights;
    return 0;
}

#endif
