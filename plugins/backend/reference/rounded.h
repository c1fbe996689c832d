/* rounded.h - calls in bf16: computed in double, rounded once.
 *
 * Kernels accumulate sums in their outputs, which bf16 would round each time: a kernel gets outputs in
 * double, in the workspace, and its results are rounded into the real outputs at the end. */
#ifndef TD_REFERENCE_ROUNDED_H
#define TD_REFERENCE_ROUNDED_H

#include "tandem/kind/kernels.h"

/* Run `kernel` so. */
int    td_ref_rounded(const td_call *call, int (*kernel)(const td_call *));
/* Bytes for the outputs in double. */
size_t td_ref_rounded_workspace(const td_call *call);

#endif
