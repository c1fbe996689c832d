/* prepared.h - parameters in layouts that kernels prefer, made once for many runs.
 *
 * While text is generated, parameters do not change, and each token reads all of them. A kernel may
 * lay one out so that reading it is fast (`prepared` and `prepare`, tandem/kind/kernels.h). The
 * layouts belong to whoever knows that parameters stay as they are, not to a plan: all plans over
 * the same parameters share them.
 *
 *     device.prepared = td_prepared_new(&device);
 *     .. plans on that device, bound and run, while no parameter changes ..
 *     td_prepared_free(device.prepared);
 */
#ifndef TD_PLAN_PREPARED_H
#define TD_PLAN_PREPARED_H

#include "plan/plan.h"
#include "tandem/kind/kernels.h"

/* The device is copied. NULL: out of memory. */
td_prepared *td_prepared_new(const td_device *);
/* Plans that were bound with it must no longer run. NULL is fine. */
void         td_prepared_free(td_prepared *);
/* Bytes of all layouts so far. */
size_t       td_prepared_bytes(const td_prepared *);

/* Set call->prepared[in], for an input that is (a part of) the parameter and whose address is set;
 * to NULL if the kernel wants no other layout. */
int td_prepare(td_prepared *, const td_kernel *, const td_variable *, td_call *call, int in,
               td_error *error);

#endif
