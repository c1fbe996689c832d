/* kind/kernels.h - kernels: how ops are computed on a backend. Rows of (op, dtype, function); any
 * module may bring more rows for a backend that it did not write.
 *
 * The run picks: a kernel for (op, backend, dtype); else the op's lowering; else an error that
 * names op, backend, dtype and scope. A kernel allocates nothing: it asks for workspace before the
 * run. Its result must not depend on the number of threads: partial sums belong to fixed pieces of
 * the data and are added in order.
 */
#ifndef TANDEM_KIND_KERNELS_H
#define TANDEM_KIND_KERNELS_H

#include "../graph.h"
#include "../host.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_KERNELS_KIND "kernels/1"

/* A tensor in memory. Strides count elements. data is NULL for an absent input and for an output
 * that nobody reads. */
typedef struct td_view {
    void   *data;
    int32_t dtype, rank;
    int64_t dim[TD_MAX_RANK];
    int64_t stride[TD_MAX_RANK];
} td_view;

typedef struct td_call {
    const td_services *services; /* td_parallel */
    const td_attrs    *attrs;
    int32_t            n_in, n_out;
    td_view            in[TD_MAX_INPUTS];
    td_view            out[TD_MAX_OUTPUTS];
    /* as many bytes as the kernel's `workspace` hook asked for, 64-byte aligned */
    void              *workspace;
    void              *backend; /* the backend's state */
} td_call;

enum {
    TD_KERNEL_STRIDED_IN =
        1, /* takes inputs of any strides; else the planner copies them to dense row-major first */
    TD_KERNEL_STRIDED_OUT =
        2, /* writes outputs of any dense axis order; the planner then keeps that of input 0 */
    TD_KERNEL_INPLACE =
        4 /* output 0 may be the memory of an input of the same strides (elementwise) */
};

typedef struct td_kernel {
    size_t      size; /* sizeof(td_kernel) */
    const char *op;
    int32_t     dtype; /* td_dtype of the reals it computes in; TD_I32: for integer inputs */
    uint64_t    flags;
    /* Compute the outputs. 0 or a negative code. [worker] */
    int (*run)(const td_call *);
    /* Bytes of workspace for a call of these dims (data only says what is there and wanted: it
     * points nowhere yet); NULL: none. [build] */
    size_t (*workspace)(const td_call *);
    /* Whether it takes this call; NULL: always. A call whose strides are refused is asked about
     * again with all operands dense, and they are copied; else the next kernel is asked, then the
     * op is lowered. [build] */
    bool (*accepts)(const td_call *);
} td_kernel;

typedef struct td_kernels {
    td_plugin        plugin;  /* name: the backend's, or any other for a module that adds to it */
    const char      *backend; /* "cpu" */
    const td_kernel *rows;
    size_t           count;
} td_kernels;

#ifdef __cplusplus
}
#endif
#endif
