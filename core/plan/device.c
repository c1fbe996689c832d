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
#include "plugin/hook.h"
#include "tandem/random.h"

/* ---- memory ---------------------------------------------------------------------------------- */

int td_device_write(const td_device *device, void *to, const void *host, size_t bytes)
{
    const td_backend *b = device->backend;
    if (b->upload)
        return TD_HOOK_QUICK(b, upload, device->state, to, host, bytes);
    memcpy(to, host, bytes);
    return 0;
}

int td_device_read(const td_device *device, void *host, const void *from, size_t bytes)
{
    const td_backend *b = device->backend;
    if (b->download)
        return TD_HOOK_QUICK(b, download, device->state, host, from, bytes);
    memcpy(host, from, bytes);
    return 0;
}

/* `real` is the real type of the graphs that use the variable. */
static int dtype_of(const td_variable *x, int real)
{
    return x->narrow ? TD_BF16 : x->dtype ? x->dtype : real;
}

static size_t bytes_of(const td_variable *x, int real)
{
    return (size_t)x->count * td_dtype_size(dtype_of(x, real));
}

static size_t bytes_of_copy(const td_variable *x)
{
    return (size_t)x->count * td_dtype_size(TD_BF16);
}

static int allocate(void **memory, const td_variable *x, size_t bytes, const td_device *device,
                    td_error *error)
{
    if (!*memory && bytes)
        *memory = TD_HOOK_QUICK(device->backend, allocate, device->state, bytes);
    if (*memory || !bytes)
        return 0;
    return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes for '%s' on backend '%s'", bytes,
                   x->name, device->backend->plugin.name);
}

/* Variables are declared while graphs are built, so this is called again as graphs come;
 * variables that have memory keep it. */
int td_variables_allocate(td_variables *v, const td_device *device, int real, td_error *error)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        td_variable *x = td_variables_at(v, i);
        bool         had_memory = x->memory != NULL, had_copy = x->copy != NULL;
        if (!x->memory)
            x->bytes = bytes_of(x, real);
        if (x->absent)
            continue;
        if (allocate(&x->memory, x, bytes_of(x, real), device, error) ||
            (x->copied && allocate(&x->copy, x, bytes_of_copy(x), device, error)))
            return td_failed(error, TD_ENOMEM);
        /* a graph in bf16 that comes later finds a parameter that has its values already */
        if (had_memory && x->copied && !had_copy && td_variable_write_copy(x, device, real, error))
            return td_failed(error, TD_EIO);
    }
    return 0;
}

void td_variables_release(td_variables *v, const td_device *device)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        if (td_variables_at(v, i)->memory)
            TD_HOOK_QUICK(device->backend, release, device->state, td_variables_at(v, i)->memory,
                          td_variables_at(v, i)->bytes);
        if (td_variables_at(v, i)->copy)
            TD_HOOK_QUICK(device->backend, release, device->state, td_variables_at(v, i)->copy,
                          bytes_of_copy(td_variables_at(v, i)));
        td_variables_at(v, i)->memory = td_variables_at(v, i)->copy = NULL;
    }
}

/* ---- variables of other processes ------------------------------------------------------------ */

void td_variables_reach(td_variables *v, const td_remote *remote)
{
    for (size_t i = 0; i < td_variables_count(v); i++)
        if (td_variables_at(v, i)->absent)
            td_variables_at(v, i)->remote = remote;
}

static int refuse_absent(const td_variable *x, td_error *error)
{
    return td_fail(error, TD_EIO, "'%s' is on rank %d, which cannot be reached", x->name, x->owner);
}

int td_variable_read_bytes(const td_variable *x, const td_device *device, size_t offset,
                           size_t bytes, void *out, td_error *error)
{
    if (x->absent)
        return x->remote ? x->remote->read(x->remote->arg, x, offset, bytes, out, error)
                         : refuse_absent(x, error);
    return td_device_read(device, out, (const char *)x->memory + offset, bytes)
               ? td_fail(error, TD_EIO, "backend '%s' cannot read '%s' from its memory",
                         device->backend->plugin.name, x->name)
               : 0;
}

static int write_bytes(const td_variable *x, const td_device *device, size_t offset, size_t bytes,
                       const void *from, td_error *error)
{
    if (x->absent)
        return x->remote ? x->remote->write(x->remote->arg, x, offset, bytes, from, error)
                         : refuse_absent(x, error);
    return td_device_write(device, (char *)x->memory + offset, from, bytes)
               ? td_fail(error, TD_EIO, "backend '%s' failed to store '%s'",
                         device->backend->plugin.name, x->name)
               : 0;
}

/* ---- copies in bf16 -------------------------------------------------------------------------- */

typedef struct rounding {
    const void *from;
    uint16_t   *to;
    int         dtype;
    int64_t     count, chunk;
} rounding;

static void round_chunk(void *arg, int64_t i, int thread)
{
    const rounding *r = arg;
    int64_t         end = (i + 1) * r->chunk < r->count ? (i + 1) * r->chunk : r->count;
    for (int64_t k = i * r->chunk; k < end; k++)
        td_element_store(r->to, TD_BF16, k, td_element_load(r->from, r->dtype, k));
}

/* Round what lies in host memory, and send it to the copy. */
static int write_copy(td_variable *x, const td_device *device, const void *from, int dtype,
                      td_error *error)
{
    const td_backend *b = device->backend;
    rounding          r = { from, x->copy, dtype, x->count, 1 << 16 };
    int               code = 0;

    /* otherwise r.to is the copy itself: its memory is the host's */
    if (b->upload)
        r.to = malloc(bytes_of_copy(x) + 1);
    if (!r.to)
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes for '%s' in bf16",
                       bytes_of_copy(x), x->name);
    td_parallel(device->services, (x->count + r.chunk - 1) / r.chunk, round_chunk, &r);
    if (b->upload) {
        code = TD_HOOK_QUICK(b, upload, device->state, x->copy, r.to, bytes_of_copy(x));
        free(r.to);
    }
    return code ? td_fail(error, TD_EIO, "backend '%s' failed to store '%s' in bf16",
                          b->plugin.name, x->name)
                : 0;
}

int td_variable_write_copy(td_variable *x, const td_device *device, int real, td_error *error)
{
    const td_backend *b = device->backend;
    size_t            bytes = bytes_of(x, real);
    void             *host = b->download ? malloc(bytes + 1) : x->memory;
    int               code = 0;

    if (!x->copy)
        return 0;
    if (!host)
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes to read '%s'", bytes, x->name);
    if (b->download && TD_HOOK_QUICK(b, download, device->state, host, x->memory, bytes))
        code = td_fail(error, TD_EIO, "backend '%s' failed to read '%s'", b->plugin.name, x->name);
    if (!code)
        code = write_copy(x, device, host, dtype_of(x, real), error);
    if (b->download)
        free(host);
    return code;
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
    double     radius = sqrt(-2 * log(u)), angle = 6.283185307179586476925 * w;
    z[0] = radius * cos(angle);
    z[1] = radius * sin(angle);
}

/* Cut at two standard deviations and rescaled to a deviation of 1: that of a normal distribution
 * cut there is 0.8796. */
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

/* In parallel by fixed chunks, on which no value depends; uploaded in one piece. */
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
        code = TD_HOOK_QUICK(b, upload, device->state, x->memory, f.to, bytes_of(x, real));
        free(f.to);
    }
    if (!code && x->copy)
        return td_variable_write_copy(x, device, real, error);
    return code ? td_fail(error, TD_EIO, "backend '%s' failed to store '%s'", b->plugin.name,
                          x->name)
                : 0;
}

int td_variables_initialize(td_variables *v, const td_device *device, int real, uint64_t seed,
                            td_error *error)
{
    for (size_t i = 0; i < td_variables_count(v); i++)
        if (td_variables_at(v, i)->count && !td_variables_at(v, i)->absent &&
            initialize(td_variables_at(v, i), device, real, seed, error))
            return error ? error->code : TD_EIO;
    return 0;
}

/* ---- reading and writing --------------------------------------------------------------------- */

int td_variable_set(td_variable *x, const td_device *device, int real, const float *values,
                    td_error *error)
{
    size_t      bytes = bytes_of(x, real);
    int         dtype = dtype_of(x, real), code = 0;
    void       *converted = NULL;
    const void *from = values;

    /* floats can be handed over as they are, without a second copy of the variable */
    if (dtype != TD_F32) {
        from = converted = malloc(bytes ? bytes : 1);
        if (!converted)
            return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes to set '%s'", bytes,
                           x->name);
        for (int64_t k = 0; k < x->count; k++)
            td_element_store(converted, dtype, k, (double)values[k]);
    }
    code = write_bytes(x, device, 0, bytes, from, error);
    if (!code && x->copy)
        code = write_copy(x, device, from, dtype, error);
    free(converted);
    return code;
}

/* Whether its memory can be read and written as it is. */
static bool is_here(const td_variable *x, const td_device *device)
{
    return !device->backend->upload && !device->backend->download && !x->absent;
}

/* Elements [first, ..) of the variable's memory, where they may be read or written as they are, or a
 * buffer of `bytes` to copy through; NULL with an error. */
static void *window(const td_variable *x, const td_device *device, size_t first, size_t bytes,
                    td_error *error)
{
    void *buffer = is_here(x, device) ? (char *)x->memory + first : malloc(bytes ? bytes : 1);
    if (!buffer)
        td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes to reach '%s'", bytes, x->name);
    return buffer;
}

int td_variable_write(td_variable *x, const td_device *device, int real, int64_t first,
                      int64_t count, const double *values, td_error *error)
{
    int    dtype = dtype_of(x, real), code = 0;
    size_t width = td_dtype_size(dtype), bytes = (size_t)count * width;
    size_t offset = (size_t)first * width;
    void  *to = window(x, device, offset, bytes, error);

    if (!to)
        return TD_ENOMEM;
    for (int64_t k = 0; k < count; k++)
        td_element_store(to, dtype, k, values[k]);
    if (!is_here(x, device)) {
        code = write_bytes(x, device, offset, bytes, to, error);
        free(to);
    }
    /* products read the copy, so it changes with the parameter */
    return code || !x->copy ? code : td_variable_write_copy(x, device, real, error);
}

/* The bytes as in `window`, read; NULL with an error. The caller frees what is not the memory itself. */
static void *fetch(const td_variable *x, const td_device *device, size_t offset, size_t bytes,
                   td_error *error)
{
    void *from = window(x, device, offset, bytes, error);
    if (from && !is_here(x, device) &&
        td_variable_read_bytes(x, device, offset, bytes, from, error)) {
        free(from);
        return NULL;
    }
    return from;
}

static void release(const td_variable *x, const td_device *device, void *from)
{
    if (!is_here(x, device))
        free(from);
}

int td_variable_read(const td_variable *x, const td_device *device, int real, int64_t first,
                     int64_t count, double *values, td_error *error)
{
    int    dtype = dtype_of(x, real);
    size_t width = td_dtype_size(dtype);
    void  *from = fetch(x, device, (size_t)first * width, (size_t)count * width, error);
    if (!from)
        return td_failed(error, TD_EIO);
    for (int64_t k = 0; k < count; k++)
        values[k] = td_element_load(from, dtype, k);
    release(x, device, from);
    return 0;
}

/* Only the requested elements are transferred: callers read large variables slice by slice. */
int td_variable_slice(const td_variable *x, const td_device *device, int real, int64_t first,
                      int64_t count, float *values, td_error *error)
{
    int    dtype = dtype_of(x, real);
    size_t width = td_dtype_size(dtype);
    void  *from = fetch(x, device, (size_t)first * width, (size_t)count * width, error);
    if (!from)
        return td_failed(error, TD_EIO);
    for (int64_t k = 0; k < count; k++)
        values[k] = (float)td_element_load(from, dtype, k);
    release(x, device, from);
    return 0;
}

int td_variable_get(const td_variable *x, const td_device *device, int real, float *values,
                    td_error *error)
{
    return td_variable_slice(x, device, real, 0, x->count, values, error);
}
