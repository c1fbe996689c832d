/* cpu.h - helpers for the tests of the backend 'cpu': load the module, call a kernel, compare. */
#ifndef TESTS_CPU_H
#define TESTS_CPU_H

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/kernels.h"
#include "tandem/ops.h"
#include "tandem/random.h"

static const td_module *cpu_module(void)
{
    void *so = dlopen(TANDEM_PLUGINS "/backend-cpu.so", RTLD_NOW | RTLD_LOCAL);
    cr_assert(so, "%s", dlerror());
    return dlsym(so, TD_MODULE_SYMBOL);
}

static const td_kernel *cpu_kernel(const char *op, int dtype)
{
    const td_kernels *k = (const td_kernels *)cpu_module()->plugins[1];
    for (size_t i = 0; i < k->count; i++)
        if (!strcmp(k->rows[i].op, op) && k->rows[i].dtype == dtype)
            return &k->rows[i];
    cr_assert(false, "no kernel %s", op);
    return NULL;
}

/* Dense; dims end at the first 0. */
static td_view view_of(void *data, int dtype, int rank, const int64_t *dim)
{
    td_view v = { .data = data, .dtype = dtype, .rank = rank };
    int64_t stride = 1;
    for (int a = rank - 1; a >= 0; a--) {
        v.dim[a] = dim[a];
        v.stride[a] = stride;
        stride *= dim[a];
    }
    return v;
}

#define DIMS(...) \
    (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }
#define REAL(data, ...) view_of(data, TD_F32, DIMS(__VA_ARGS__))
#define WHOLE(data, ...) view_of(data, TD_I32, DIMS(__VA_ARGS__))
#define SCALAR(data) view_of(data, TD_F32, 0, NULL)

static td_view swapped(td_view v, int a, int b)
{
    int64_t d = v.dim[a], s = v.stride[a];
    v.dim[a] = v.dim[b];
    v.stride[a] = v.stride[b];
    v.dim[b] = d;
    v.stride[b] = s;
    return v;
}

static float *randoms(int64_t n, uint64_t stream)
{
    float *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(4 * td_random_uniform(7, stream, (uint64_t)i) - 2);
    return x;
}

static const td_backend *cpu_backend(void) { return (const td_backend *)cpu_module()->plugins[0]; }

/* Run with 1 and with 3 threads: the bits of the outputs must agree. Output k has `bytes[k]` bytes
 * of memory. */
static int cpu_run(const char *op, int dtype, td_call *call, const td_attrs *attrs)
{
    const td_kernel *kernel = cpu_kernel(op, dtype);
    td_attrs         none = { { 0 }, { 0 } };
    void            *first[TD_MAX_OUTPUTS] = { 0 }, *before[TD_MAX_OUTPUTS] = { 0 };
    size_t           bytes[TD_MAX_OUTPUTS] = { 0 }, work;
    int              code = 0;

    call->attrs = attrs ? attrs : &none;
    work = kernel->workspace ? kernel->workspace(call) : 0;
    call->workspace = aligned_alloc(64, (work + 127) / 64 * 64);
    memset(call->workspace, 0xFF, (work + 127) / 64 * 64);
    for (int k = 0; k < call->n_out; k++) {
        bytes[k] = 4;
        for (int a = 0; a < call->out[k].rank; a++)
            bytes[k] *= (size_t)call->out[k].dim[a];
        before[k] = malloc(bytes[k]);
        first[k] = malloc(bytes[k]);
        if (call->out[k].data)
            memcpy(before[k], call->out[k].data, bytes[k]);
    }
    for (int threads = 1; threads <= 3; threads += 2) {
        td_error error = { 0 };
        td_pool *pool = td_pool_new(threads, NULL, &error);
        cr_assert(pool, "%s", error.text);
        call->services = td_pool_services(pool);
        cr_assert_eq(cpu_backend()->open(NULL, call->services, &call->backend, &error), 0);
        for (int k = 0; k < call->n_out; k++)
            if (call->out[k].data)
                memcpy(call->out[k].data, before[k], bytes[k]);
        code = kernel->run(call);
        for (int k = 0; k < call->n_out; k++) {
            if (!call->out[k].data)
                continue;
            if (threads == 1)
                memcpy(first[k], call->out[k].data, bytes[k]);
            else
                cr_assert(!memcmp(first[k], call->out[k].data, bytes[k]),
                          "%s: output %d depends on threads", op, k);
        }
        cpu_backend()->close(call->backend);
        td_pool_free(pool);
    }
    for (int k = 0; k < call->n_out; k++) {
        free(before[k]);
        free(first[k]);
    }
    free(call->workspace);
    return code;
}

static void near(const char *what, double got, double want, double tolerance)
{
    cr_assert(fabs(got - want) <= tolerance * (1 + fabs(want)), "%s: %.9g, expected %.9g", what,
              got, want);
}

#endif
