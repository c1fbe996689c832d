/* device.c - variables on a device: their memory, their initial values, reading and writing them.
 *
 * Host code sees a variable as floats, whatever the device computes in; only this file converts. A
 * backend without `upload` and `download` hooks has host memory, which is used in place.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/elements.h"
#include "plan/plan.h"
#include "tandem/random.h"

/* ---- memory ---------------------------------------------------------------------------------- */

/* `real` is the real type of the graphs that use the variable. */
static int dtype_of(const td_variable *x, int real) { return x->dtype ? x->dtype : real; }

static size_t bytes_of(const td_variable *x, int real)
{
    return (size_t)x->count * td_dtype_size(dtype_of(x, real));
}

/* Variables are declared while graphs are built, so this is called again as graphs come; what has
 * memory keeps it. */
int td_variables_allocate(td_variables *v, const td_device *device, int real, td_error *error)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        td_variable *x = td_variables_at(v, i);
        if (x->memory || !x->count)
            continue;
        x->memory = device->backend->allocate(device->state, bytes_of(x, real));
        if (!x->memory)
            return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes for '%s' on backend '%s'",
                           bytes_of(x, real), x->name, device->backend->plugin.name);
    }
    return 0;
}

void td_variables_release(td_variables *v, const td_device *device)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        /* the real type is not asked for: a device's variables are all of the one it computes in */
        if (td_variables_at(v, i)->memory)
            device->backend->release(device->state, td_variables_at(v, i)->memory,
                                     bytes_of(td_variables_at(v, i), device->backend->real));
        td_variables_at(v, i)->memory = NULL;
    }
}

/* ---- initial values -------------------------------------------------------------------------- */

/* An element's initial value depends on the seed, the variable's name and the element's index
 * alone: not on threads, nor on which other variables a model has. */

/* Two normal numbers (Box and Muller 1958) from one counter. */
static void normal_pair(uint64_t seed, uint64_t stream, uint64_t index, double z[2])
{
    td_random4 r = td_philox(seed, stream, index);
    /* the half keeps u off 0, where the logarithm is infinite */
    double     u = ((double)r.v[0] + 0.5) * 0x1p-32;
    double     w = ((double)r.v[1] + (double)r.v[2] * 0x1p-32) * 0x1p-32;
    double radius = sqrt(-2 * log(u)), angle = 6.283185307179586476925 * w;
    z[0] = radius * cos(angle);
    z[1] = radius * sin(angle);
}

/* Cut at two standard deviations and rescaled to a deviation of 1: what remains of a normal
 * distribution there has 0.8796. */
static double truncated_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    double z[2];
    /* each pair fails with probability 0.2 %; a retry takes the counter's high bits, which no index
     * reaches, so elements stay independent of each other's retries */
    for (uint64_t attempt = 0;; attempt++) {
        normal_pair(seed, stream, index | attempt << 48, z);
        for (int k = 0; k < 2; k++)
            if (fabs(z[k]) <= 2)
                return z[k] / 0.87962566103423978;
    }
}

/* `index` counts the elements of one variable; `stream` is that of its name. */
static double initial_value(const td_variable *x, uint64_t seed, uint64_t stream, uint64_t index)
{
    double z[2];
    switch (x->init.kind) {
    case TD_INIT_ONES:
        return 1;
    case TD_INIT_NORMAL:
        normal_pair(seed, stream, index >> 1, z);
        return x->init.std * z[index & 1]; /* two elements share a counter */
    case TD_INIT_TRUNCATED:
        return x->init.std * truncated_normal(seed, stream, index);
    default:
        return 0;
    }
}

typedef struct fill {
    const td_variable *x;
    void              *to; /* host memory */
    int                real;
    uint64_t           seed, stream;
    int64_t            chunk; /* elements of one item of work */
} fill;

static void fill_chunk(void *arg, int64_t i, int thread)
{
    const fill *f = arg;
    int64_t     end = (i + 1) * f->chunk < f->x->count ? (i + 1) * f->chunk : f->x->count;
    for (int64_t k = i * f->chunk; k < end; k++) {
        double value = f->x->kind == TD_VARIABLE_PARAM
                           ? initial_value(f->x, f->seed, f->stream, (uint64_t)k)
                           : f->x->initial;
        td_element_store(f->to, dtype_of(f->x, f->real), k, value);
    }
}

/* In parallel by fixed chunks, which no value depends on; uploaded in one piece. */
static int initialize(td_variable *x, const td_device *device, int real, uint64_t seed,
                      td_error *error)
{
    const td_backend *b = device->backend;
    fill              f = { .x = x,
                            .to = b->upload ? malloc(bytes_of(x, real)) : x->memory,
                            .real = real,
                            .seed = seed,
                            .stream = td_random_stream(x->name),
                            .chunk = 1 << 16 };
    int               code = 0;

    assert(x->memory); /* td_variables_allocate comes first */
    if (!f.to)
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes for initial values of '%s'",
                       bytes_of(x, real), x->name);
    td_parallel(device->services, (x->count + f.chunk - 1) / f.chunk, fill_chunk, &f);
    if (b->upload) {
        code = b->upload(device->state, x->memory, f.to, bytes_of(x, real));
        free(f.to);
    }
    return code ? td_fail(error, TD_EIO, "backend '%s' failed to store '%s'", b->plugin.name,
                          x->name)
                : 0;
}

int td_variables_initialize(td_variables *v, const td_device *device, int real, uint64_t seed,
                            td_error *error)
{
    for (size_t i = 0; i < td_variables_count(v); i++)
        if (td_variables_at(v, i)->count &&
            initialize(td_variables_at(v, i), device, real, seed, error))
            return error ? error->code : TD_EIO;
    return 0;
}

/* ---- reading and writing --------------------------------------------------------------------- */

int td_variable_set(td_variable *x, const td_device *device, int real, const float *values,
                    td_error *error)
{
    const td_backend *b = device->backend;
    size_t            bytes = bytes_of(x, real);
    int               dtype = dtype_of(x, real), code = 0;
    void             *converted = NULL;
    const void       *from = values;

    /* floats can be handed over as they are, without a second copy of the variable */
    if (dtype != TD_F32) {
        from = converted = malloc(bytes ? bytes : 1);
        if (!converted)
            return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes to set '%s'", bytes,
                           x->name);
        for (int64_t k = 0; k < x->count; k++)
            td_element_store(converted, dtype, k, (double)values[k]);
    }
    if (b->upload)
        code = b->upload(device->state, x->memory, from, bytes);
    else
        memcpy(x->memory, from, bytes);
    free(converted);
    return code ? td_fail(error, TD_EIO, "backend '%s' failed to store '%s'", b->plugin.name,
                          x->name)
                : 0;
}

int td_variable_slice(const td_variable *x, const td_device *device, int real, int64_t first,
                      int64_t count, float *values, td_error *error)
{
    const td_backend *b = device->backend;
    int               dtype = dtype_of(x, real);
    size_t            width = td_dtype_size(dtype), bytes = (size_t)count * width;
    const char       *memory = (const char *)x->memory + (size_t)first * width;
    void             *copy = b->download ? malloc(bytes ? bytes : 1) : NULL;
    const void       *raw = b->download ? copy : memory;
    int               code = 0;

    /* only what was asked for crosses: callers read large variables slice by slice */
    if (b->download && !copy)
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes to read '%s'", bytes, x->name);
    if (b->download)
        code = b->download(device->state, copy, memory, bytes);
    for (int64_t k = 0; !code && k < count; k++)
        values[k] = (float)td_element_load(raw, dtype, k);
    free(copy);
    return code
               ? td_fail(error, TD_EIO, "backend '%s' failed to read '%s'", b->plugin.name, x->name)
               : 0;
}

int td_variable_get(const td_variable *x, const td_device *device, int real, float *values,
                    td_error *error)
{
    return td_variable_slice(x, device, real, 0, x->count, values, error);
}
