/* footprint.c - prints the memory needed, and checks that there is enough. */
#include "model/footprint.h"

#include <math.h>

#include "base/machine.h"
#include "plugin/hook.h"

void td_footprint_print(const td_footprint *f, td_text *out)
{
    char b[5][32];
    td_text_print(out, "parameters %s, gradients %s, optimizer %s, activations %s, inputs %s",
                  td_human_bytes(b[0], (double)f->parameters),
                  td_human_bytes(b[1], (double)f->gradients),
                  td_human_bytes(b[2], (double)f->states),
                  td_human_bytes(b[3], (double)f->activations),
                  td_human_bytes(b[4], (double)f->inputs));
}

/* Where tensors lie: in the host's memory, or in the device's, if that says how much it has. */
static double limit_of(const td_device *device)
{
    const td_backend *b = device->backend;
    if (!b->download)
        return td_memory_limit();
    return b->available ? (double)TD_HOOK_QUICK(b, available, device->state) : INFINITY;
}

int td_footprint_check(const td_footprint *f, const td_device *device, td_error *error)
{
    /* in double: the sum must not wrap around and look small for a config with a typo */
    double all = (double)f->parameters + (double)f->gradients + (double)f->states +
                 (double)f->activations + (double)f->inputs;
    double  limit = limit_of(device);
    td_text parts = { 0 };
    char    needed[32], available[32];
    int     code;

    if (all <= limit)
        return 0;
    td_footprint_print(f, &parts);
    code = td_fail(error, TD_ECONFIG,
                   "this needs %s of %smemory (%s), but only %s is available: use a smaller model, "
                   "train.micro_batch or evaluate.batch, or set train.recompute = \"layer\"",
                   td_human_bytes(needed, all), device->backend->download ? "device " : "",
                   td_text_get(&parts), td_human_bytes(available, limit));
    td_text_free(&parts);
    return code;
}
