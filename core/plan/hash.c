/* hash.c - a hash of the parameters, which shows at which step two runs first differ. */
#include <stdlib.h>
#include <xxhash.h>

#include "plan/plan.h"

/* An update changes nearly all elements of every parameter, so that the first part of each shows it.
 * Of small models all bytes are hashed, of larger ones as many as cost less than 0.5 % of ten steps:
 * memory is read at 5 to 20 GB/s, a device's in many small copies. */
enum { MOST = 64 << 20, MOST_OF_DEVICE = 8 << 20 };

static bool is_hashed(const td_variable *x)
{
    return x->kind == TD_VARIABLE_PARAM && (x->memory || x->absent);
}

static size_t total_bytes(const td_variables *v)
{
    size_t total = 0;
    for (size_t k = 0; k < td_variables_count(v); k++)
        if (is_hashed(td_variables_at(v, k)))
            total += td_variables_at(v, k)->bytes;
    return total;
}

static int hash_part(const td_variable *x, size_t bytes, const td_device *device,
                     XXH3_state_t *state, void *buffer, td_error *error)
{
    if (!device->backend->download && !x->absent)
        XXH3_64bits_update(state, x->memory, bytes);
    /* from a device, or from the rank that has it */
    for (size_t at = 0; at < bytes && (device->backend->download || x->absent);
         at += MOST_OF_DEVICE) {
        size_t n = bytes - at < MOST_OF_DEVICE ? bytes - at : MOST_OF_DEVICE;
        if (td_variable_read_bytes(x, device, at, n, buffer, error))
            return td_failed(error, TD_EIO);
        XXH3_64bits_update(state, buffer, n);
    }
    return 0;
}

int td_variables_hash(const td_variables *v, const td_device *device, uint64_t *hash,
                      td_error *error)
{
    size_t        total = total_bytes(v), most = device->backend->download ? MOST_OF_DEVICE : MOST;
    double        share = total > most ? (double)most / (double)total : 1;
    XXH3_state_t *state = XXH3_createState();
    void         *buffer = malloc(MOST_OF_DEVICE + 1);
    int           code = state && buffer
                             ? 0
                             : td_fail(error, TD_ENOMEM, "out of memory while hashing parameters");
    if (!code)
        XXH3_64bits_reset(state);
    /* the same fraction of every parameter, so that a change in any of them shows */
    for (size_t k = 0; k < td_variables_count(v) && !code; k++) {
        const td_variable *x = td_variables_at(v, k);
        if (is_hashed(x))
            code = hash_part(x, (size_t)((double)x->bytes * share), device, state, buffer, error);
    }
    if (!code)
        *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    free(buffer);
    return code;
}
