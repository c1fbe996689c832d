/* footprint.c - memory for people, and a check that there is enough of it. */
#include "model/footprint.h"

#include "base/machine.h"

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

int td_footprint_check(const td_footprint *f, const td_device *device, td_error *error)
{
    /* in double: the sum for a config with a typo in it must not wrap around and look small */
    double all = (double)f->parameters + (double)f->gradients + (double)f->states +
                 (double)f->activations + (double)f->inputs;
    td_text parts = { 0 };
    char    needed[32], available[32];
    int     code;

    /* `download`: tensors live in the device's memory, of which we know nothing */
    if (device->backend->download || all <= td_memory_limit())
        return 0;
    td_footprint_print(f, &parts);
    code = td_fail(error, TD_ECONFIG,
                   "this needs %s of memory (%s), but only %s is available: use a smaller model, "
                   "train.micro_batch or evaluate.batch, or set train.recompute = \"layer\"",
                   td_human_bytes(needed, all), td_text_get(&parts),
                   td_human_bytes(available, td_memory_limit()));
    td_text_free(&parts);
    return code;
}
