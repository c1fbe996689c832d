/* probe.h - runs one batch through a session's model, for comparison with another framework. It
 * uses the plans, kernels and optimizer of training.
 *
 *     td_probe p;
 *     if (!td_probe_open(&p, session, "batch.safetensors", "weights.safetensors", false, &error) &&
 *         !td_probe_run(&p, &error))
 *         td_probe_write(&p, "out.safetensors", &error);
 *     td_probe_close(&p);
 */
#ifndef TD_RUN_PROBE_H
#define TD_RUN_PROBE_H

#include "run/session.h"

typedef struct td_probe {
    td_session *session;
    td_batch   *batch;
    double     *logits;              /* [rows, length, vocabulary], after td_probe_run */
    double      loss, cross_entropy; /* from the last run or step */
    double      norm, rate;          /* from the last step */
} td_probe;

/* Read the batch (arrays as the architecture names them) and take parameters (`weights` NULL:
 * initial values) into the session. `updates`: prepares for td_probe_step, otherwise for
 * td_probe_run. Close it even after a failure. */
int  td_probe_open(td_probe *, td_session *, const char *batch, const char *weights, bool updates,
                   td_error *error);
void td_probe_close(td_probe *);

/* Compute loss, logits and gradients of the batch. */
int td_probe_run(td_probe *, td_error *error);
/* Write them: "logits", "loss", "cross_entropy", and "grad.NAME" for each trained parameter. */
int td_probe_write(const td_probe *, const char *path, td_error *error);

/* Make update number `step`, from 0, on the batch; the loss is the one before the update. */
int td_probe_step(td_probe *, int64_t step, td_error *error);

#endif
