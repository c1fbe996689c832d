/* kind/kernels.h - kernels: how ops are computed on a backend. Rows of (op, dtype, function).
 *
 * A backend brings its own kernels; any module may bring further rows for another module's backend,
 * and these are tried first. For each node the planner takes the first kernel of (op, backend,
 * dtype) that accepts the call, else lowers the op, else reports op, backend, dtype and scope.
 * `tandem plugins matrix` prints the outcome.
 *
 * Rules. A kernel allocates nothing: workspace is requested when the plan is made. It must return
 * the same bits on any number of threads, so work is divided into pieces by size, and partial sums
 * belong to pieces and are added in their order. NaN must propagate: no -ffast-math. It may read
 * only its inputs and write only its outputs and workspace.
 *
 * ops.h says what an op computes and what its attributes mean. The reference backend, in double
 * precision, defines the right result; `tandem plugins check` compares with it.
 *
 * Example:
 *
 *     // "neg" on the backend "cpu", f32, dense and row-major.
 *     static void negate_piece(void *arg, int64_t i, int thread)
 *     {
 *         const td_call *call = arg;
 *         const float   *x = call->in[0].data;
 *         float         *y = call->out[0].data;
 *         int64_t        count = 1, end;
 *         (void)thread;
 *         for (int a = 0; a < call->out[0].rank; a++)
 *             count *= call->out[0].dim[a];
 *         end = (i + 1) * 4096 < count ? (i + 1) * 4096 : count;
 *         for (int64_t k = i * 4096; k < end; k++)
 *             y[k] = -x[k];
 *     }
 *
 *     static int negate(const td_call *call)
 *     {
 *         int64_t count = 1;
 *         for (int a = 0; a < call->out[0].rank; a++)
 *             count *= call->out[0].dim[a];
 *         td_parallel(call->services, (count + 4095) / 4096, negate_piece, (void *)call);
 *         return 0;
 *     }
 *
 *     static const td_kernel rows[] = { { .size = sizeof(td_kernel),
 *                                         .op = "neg",
 *                                         .dtype = TD_F32,
 *                                         .flags = TD_KERNEL_INPLACE,
 *                                         .run = negate } };
 *
 *     static const td_kernels more = {
 *         .plugin = TD_PLUGIN(td_kernels, TD_KERNELS_KIND, "more", NULL, char,
 *                             .brief = "negation on the backend 'cpu'"),
 *         .backend = "cpu",
 *         .rows = rows,
 *         .count = sizeof rows / sizeof *rows,
 *     };
 */
#ifndef TANDEM_KIND_KERNELS_H
#define TANDEM_KIND_KERNELS_H

#include "../graph.h"
#include "../host.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_KERNELS_KIND "kernels/1"

/* A tensor in the backend's memory: element (i, j, ..) is at i stride[0] + j stride[1] + ..
 * elements from `data`. `data` is NULL for an input that was left out and for an output without a
 * reader, which need not be computed. */
typedef struct td_view {
    void   *data;
    int32_t dtype, rank;
    int64_t dim[TD_MAX_RANK];
    int64_t stride[TD_MAX_RANK];
} td_view;

/* One node to compute. The host owns it. */
typedef struct td_call {
    const td_services *services; /* for td_parallel */
    const td_attrs    *attrs;
    int32_t            n_in, n_out;
    td_view            in[TD_MAX_INPUTS];
    td_view            out[TD_MAX_OUTPUTS];
    /* workspace, aligned to 64 bytes; its content is undefined */
    void              *workspace;
    /* for each input, the output of the hook `prepare`; NULL: nothing, read the input itself */
    const void        *prepared[TD_MAX_INPUTS];
    void              *backend; /* the state that the backend's `open` returned */
    /* bit k: input k is a parameter that no queued work writes to, so a kernel that starts before the
     * work in front of it has ended may read it at once */
    uint32_t           fixed;
    /* bit k: only calls that are computed together with this one (td_fusion) read output k, so it need
     * not be written */
    uint32_t           inner;
} td_call;

/* Operands that a kernel can take. Without STRIDED_IN the planner copies inputs to dense
 * row-major memory first; with STRIDED_OUT outputs may have any dense order of axes, and get the
 * order of input 0; with INPLACE output 0 may be the memory of an input with the same strides. */
enum { TD_KERNEL_STRIDED_IN = 1, TD_KERNEL_STRIDED_OUT = 2, TD_KERNEL_INPLACE = 4 };

/* One row: a function for one op and dtype. */
typedef struct td_kernel {
    size_t      size; /* sizeof(td_kernel) */
    const char *op;   /* the op's name */
    /* dtype of the reals that it computes in; TD_I32 for a call on integers. TD_BF16: a call in which
     * some operands are bf16 and others f32, as their views say; `tandem describe --precision` prints
     * the rules. It computes in f32 and rounds each result once (tandem/bf16.h). */
    int32_t     dtype;
    uint64_t    flags; /* TD_KERNEL_.. */
    /* Compute the outputs: 0, or a negative td_status, which ends the run. [worker] */
    int (*run)(const td_call *);
    /* The bytes of workspace for a call of these dims. `data` of a view is not NULL if the operand
     * is present, but is not a valid address yet. NULL: no workspace. [build] */
    size_t (*workspace)(const td_call *);
    /* Whether the kernel takes this call. If it refuses strided operands, it is called again
     * with dense ones, and if it accepts these, the operands are copied; otherwise the next row
     * is tried. NULL: always. [build] */
    bool (*accepts)(const td_call *);
    /* Parameters do not change while text is generated, so the kernel may lay one out once in the
     * form that it prefers. Returns the bytes needed for input `in` of a call like this, whose
     * views have addresses; 0 if the input is best as it is, as it always is with a NULL hook.
     * Calls that differ in other operands share the result. [main] */
    size_t (*prepared)(const td_call *, int in);
    /* Write input `in` in that form to `memory`, zeroed device memory aligned to 64 bytes, which
     * each such call finds in `prepared`. 0 or a negative td_status. [main] */
    int (*prepare)(const td_call *, int in, void *memory);
} td_kernel;

/* Consecutive calls of a plan, computed by one function: for a backend on which starting
 * a kernel takes as long as a short one runs. The results are those of the single kernels. */
typedef struct td_fusion {
    size_t      size; /* sizeof(td_fusion) */
    const char *name; /* for profiles: "norm+products" */
    /* How many of these calls, from the first on, it computes together: at least 2, or 0. `kernels`
     * are the rows that were chosen for them. Addresses are not valid yet: views of one storage have
     * addresses as far apart as they will be; different storages never overlap. `takes` must refuse
     * calls that read part of what another writes. [build] */
    int (*takes)(const td_call *const *calls, const td_kernel *const *kernels, int count);
    /* Compute that many calls: 0, or a negative td_status. Until the last of them has ended, none of
     * their operands shares memory with another storage; so running the calls' own kernels in order is
     * correct, too. [worker] */
    int (*run)(const td_call *const *calls, const td_kernel *const *kernels, int count);
} td_fusion;

enum { TD_MOST_FUSED = 16 /* calls that `takes` is shown at a time */ };

/* The plugin: rows for one backend. */
typedef struct td_kernels {
    /* named like the backend, or differently if another module adds rows */
    td_plugin        plugin;
    const char      *backend; /* the name of the backend: "cpu" */
    const td_kernel *rows;
    size_t           count;
    /* What it computes together; the first that takes a call is chosen. NULL: nothing. */
    const td_fusion *fusions;
    size_t           n_fusions;
} td_kernels;

#ifdef __cplusplus
}
#endif
#endif
