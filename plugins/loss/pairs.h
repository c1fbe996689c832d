/* pairs.h - shared by the losses that give some tokens and predict others: records that are
 * pairs. */
#ifndef TANDEM_PLUGINS_PAIRS_H
#define TANDEM_PLUGINS_PAIRS_H

#include "cross-entropy.h"

/* Inputs are given and targets predicted, whatever the loss does to running text. `out` borrows the
 * record's arrays. */
static inline int split_pair(const char *loss, const td_record *r, td_example *out, td_error *error)
{
    if (r->n_inputs < 1 || r->n_targets < 1)
        return td_fail(
            error, TD_EFORMAT,
            "loss '%s': record %llu has %lld input and %lld target tokens; both need at least one",
            loss, (unsigned long long)r->id, (long long)r->n_inputs, (long long)r->n_targets);
    out->given = r->inputs;
    out->n_given = r->n_inputs;
    out->predicted = r->targets;
    out->n_predicted = r->n_targets;
    out->weights = r->weights;
    return 0;
}

#endif
