/* cuda_calls.h - for tests that call kernels of the backend 'cuda' one by one, with operands in the
 * memory of a GPU. Without a GPU they are skipped. */
#ifndef TANDEM_TESTS_CUDA_CALLS_H
#define TANDEM_TESTS_CUDA_CALLS_H

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "tandem/bf16.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/kernels.h"

static const td_backend *backend;
static const td_kernels *kernels;
static void             *gpu;
static td_pool          *pool;

static inline void find_plugins(void)
{
    void *module = dlopen(TANDEM_PLUGINS "/backend-cuda.so", RTLD_NOW | RTLD_LOCAL);
    if (!module)
        return;
    for (const td_plugin *const *p = ((const td_module *)dlsym(module, TD_MODULE_SYMBOL))->plugins;
         *p; p++) {
        if (!strcmp((*p)->kind, TD_BACKEND_KIND))
            backend = (const void *)*p;
        else
            kernels = (const void *)*p;
    }
}

static inline void setup(void)
{
    td_error e = { 0 };
    int64_t  config[4] = { 0 }; /* the first GPU */
    pool = td_pool_new(1, 0, &e);
    cr_assert(pool, "%s", e.text);
    find_plugins();
    if (!backend || backend->open(config, td_pool_services(pool), &gpu, &e))
        cr_skip_test("there is no GPU that CUDA can use");
}

static inline void teardown(void)
{
    if (gpu)
        backend->close(gpu);
    td_pool_free(pool);
}

static inline double random_number(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) / 9007199254740992.0 * 2 - 1;
}

static inline int64_t count_of(const td_view *v)
{
    int64_t n = 1;
    for (int a = 0; a < v->rank; a++)
        n *= v->dim[a];
    return n;
}

static inline size_t bytes_of(const td_view *v)
{
    return (size_t)count_of(v) * (v->dtype == TD_BF16 ? 2 : 4);
}

/* Without memory. */
static inline td_view row_major(int dtype, int rank, const int64_t *dims)
{
    td_view v = { NULL, dtype, rank, { 0 }, { 0 } };
    int64_t stride = 1;
    for (int a = rank - 1; a >= 0; a--) {
        v.dim[a] = dims[a];
        v.stride[a] = stride;
        stride *= dims[a];
    }
    return v;
}

/* A matrix whose columns are the rows of x. */
static inline td_view turned(td_view x)
{
    return (td_view){ x.data, x.dtype, 2, { x.dim[1], x.dim[0] }, { x.stride[1], x.stride[0] } };
}

/* Unwritten elements are NaN. */
static inline void allocate(td_view *v)
{
    void *host = malloc(bytes_of(v));
    v->data = backend->allocate(gpu, bytes_of(v));
    cr_assert(v->data && host);
    memset(host, 0xFF, bytes_of(v));
    cr_assert_eq(backend->upload(gpu, v->data, host, bytes_of(v)), 0);
    free(host);
}

static inline void release(td_view *v)
{
    if (v->data)
        backend->release(gpu, v->data, bytes_of(v));
}

/* The same numbers in either dtype: bf16 holds them exactly. */
static inline void randomize(td_view *v, uint64_t stream, double scale)
{
    int64_t   n = count_of(v);
    float    *wide = malloc((size_t)n * sizeof *wide);
    uint16_t *narrow = malloc((size_t)n * sizeof *narrow);
    for (int64_t i = 0; i < n; i++) {
        narrow[i] = td_bf16_from_float((float)(scale * random_number(&stream)));
        wide[i] = td_bf16_to_float(narrow[i]);
    }
    backend->upload(gpu, v->data, v->dtype == TD_BF16 ? (void *)narrow : wide, bytes_of(v));
    free(wide);
    free(narrow);
}

/* The elements of a view, as float; free() them. */
static inline float *download(const td_view *v)
{
    int64_t n = count_of(v);
    char   *raw = malloc(bytes_of(v));
    float  *wide = malloc((size_t)n * sizeof *wide);
    cr_assert_eq(backend->download(gpu, raw, v->data, bytes_of(v)), 0);
    for (int64_t i = 0; i < n; i++)
        wide[i] = v->dtype == TD_BF16 ? td_bf16_to_float(((uint16_t *)(void *)raw)[i])
                                      : ((float *)(void *)raw)[i];
    free(raw);
    return wide;
}

/* Run the first kernel for (op, dtype) that accepts the call, or the last. */
static inline void run_row(td_call *c, const char *op, int dtype, bool last)
{
    const td_kernel *found = NULL;
    size_t           bytes;
    c->backend = gpu;
    for (size_t i = 0; i < kernels->count && (last || !found); i++) {
        const td_kernel *k = kernels->rows + i;
        if (!strcmp(k->op, op) && k->dtype == dtype && (!k->accepts || k->accepts(c)))
            found = k;
    }
    cr_assert(found, "no kernel takes this '%s'", op);
    bytes = found->workspace ? found->workspace(c) : 0;
    c->workspace = backend->allocate(gpu, bytes);
    cr_assert_eq(found->run(c), 0);
    cr_assert_eq(backend->sync(gpu), 0);
    backend->release(gpu, c->workspace, bytes);
}

/* ---- calls that follow each other -------------------------------------------------------------- */

enum { MOST = 8 };

/* Calls that follow each other, and the kernels that compute them. */
typedef struct sequence {
    td_call          calls[MOST];
    td_attrs         attrs[MOST];
    const td_kernel *kernels[MOST];
    int              count;
} sequence;

static inline const td_kernel *kernel_for(const td_call *c, const char *op)
{
    for (size_t i = 0; i < kernels->count; i++) {
        const td_kernel *k = kernels->rows + i;
        if (!strcmp(k->op, op) && k->dtype == TD_BF16 && (!k->accepts || k->accepts(c)))
            return k;
    }
    return NULL;
}

/* The outputs of calls before are views of the same memory. */
static inline td_call *add(sequence *s, const char *op, const td_call *call)
{
    td_call *c = &s->calls[s->count];
    *c = *call;
    c->attrs = &s->attrs[s->count];
    c->backend = gpu;
    s->kernels[s->count] = kernel_for(c, op);
    cr_assert(s->kernels[s->count], "no kernel takes this '%s'", op);
    s->count++;
    return c;
}

/* How many calls from `from` on a fusion takes, and which; NULL: only one, by its own kernel. `list` has
 * room for MOST. */
static inline int take(const sequence *s, int from, const td_call **list, const td_fusion **by)
{
    int count = s->count - from;
    for (int k = 0; k < count; k++)
        list[k] = &s->calls[from + k];
    for (size_t i = 0; i < kernels->n_fusions; i++) {
        int taken = kernels->fusions[i].takes(list, s->kernels + from, count);
        *by = &kernels->fusions[i];
        if (taken > 1)
            return taken;
    }
    *by = NULL;
    return 1;
}

#endif
