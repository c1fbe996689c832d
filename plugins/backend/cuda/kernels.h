/* kernels.h - the kernels of the backend 'cuda': one list for the declarations here and the rows in
 * module.c. A kernel has the name of its op. One function serves f32 and bf16; where the same
 * serves integers, the op is in MOVES or BOTH, and ops in I32 have a separate function for
 * integers. Ops in WIDE are never called in bf16. */
#ifndef TD_CUDA_KERNELS_H
#define TD_CUDA_KERNELS_H

#include "state.h"

/* What a kernel accepts besides dense tensors. */
#define DENSE 0
#define INPUTS TD_KERNEL_STRIDED_IN
#define VIEWS (TD_KERNEL_STRIDED_IN | TD_KERNEL_STRIDED_OUT)
#define POINTWISE (VIEWS | TD_KERNEL_INPLACE)

/* clang-format off */

#define TD_CUDA_MOVES(X) \
    X(copy, VIEWS) X(concat, VIEWS) X(pad, VIEWS) X(where, VIEWS) X(cast, VIEWS)    \
    X(gather, DENSE) X(assign, INPUTS) X(append, INPUTS)

#define TD_CUDA_BOTH(X) \
    X(full, VIEWS) X(iota, DENSE) X(cumsum, DENSE)

#define TD_CUDA_I32(X) \
    X(neg, POINTWISE) X(abs, POINTWISE) X(sign, POINTWISE) X(affine, POINTWISE)     \
    X(add, POINTWISE) X(sub, POINTWISE) X(mul, POINTWISE) X(maximum, POINTWISE)     \
    X(less, POINTWISE) X(equal, POINTWISE)

#define TD_CUDA_NARROW(X) \
    X(neg, POINTWISE) X(abs, POINTWISE) X(sign, POINTWISE) X(affine, POINTWISE)     \
    X(add, POINTWISE) X(sub, POINTWISE) X(mul, POINTWISE) X(maximum, POINTWISE)     \
    X(tanh, POINTWISE) X(sigmoid, POINTWISE) X(div, POINTWISE)                      \
    X(activation, POINTWISE) X(activation_grad, POINTWISE) X(glu, POINTWISE)        \
    X(glu_grad, VIEWS) X(grouped_matmul, DENSE) X(grouped_outer, DENSE)             \
    X(rms_norm, VIEWS) X(layer_norm, VIEWS) X(dropout, DENSE)

#define TD_CUDA_WIDE(X) \
    X(less, POINTWISE) X(equal, POINTWISE) X(exp, POINTWISE) X(log, POINTWISE)      \
    X(sqrt, POINTWISE) X(rsqrt, POINTWISE) X(sin, POINTWISE) X(cos, POINTWISE)      \
    X(floor, POINTWISE) X(topk, DENSE) X(softmax, DENSE) X(softmax_grad, DENSE)     \
    X(adamw_step, DENSE) X(adafactor_step, DENSE)

#ifdef __cplusplus
extern "C" {
#endif

#define X(name, flags) int td_cuda_##name(const td_call *);
TD_CUDA_MOVES(X)
TD_CUDA_BOTH(X)
TD_CUDA_NARROW(X)
TD_CUDA_WIDE(X)
#undef X
#define X(name, flags) int td_cuda_i32_##name(const td_call *);
TD_CUDA_I32(X)
#undef X

/* clang-format on */

int    td_cuda_sum(const td_call *);
int    td_cuda_max(const td_call *);
size_t td_cuda_reduce_workspace(const td_call *);
int    td_cuda_sum_squares(const td_call *);
size_t td_cuda_sum_squares_workspace(const td_call *);
int    td_cuda_scatter_add(const td_call *);
size_t td_cuda_scatter_add_workspace(const td_call *);
int    td_cuda_matmul(const td_call *);
size_t td_cuda_matmul_workspace(const td_call *);
bool   td_cuda_accepts_matmul(const td_call *);
/* Of few rows in bf16 (few_rows.cu); the workspace is td_cuda_matmul's. */
int    td_cuda_few_rows(const td_call *);
bool   td_cuda_accepts_few_rows(const td_call *);
/* Products of the same few rows and what is around them, in one launch: see td_fusion. */
int    td_cuda_takes_products(const td_call *const *, const td_kernel *const *, int count);
int    td_cuda_products(const td_call *const *, const td_kernel *const *, int count);
/* Norms, rotations and appending to the cache of heads (heads.cu), likewise. */
int    td_cuda_takes_heads(const td_call *const *, const td_kernel *const *, int count);
int    td_cuda_heads(const td_call *const *, const td_kernel *const *, int count);
int    td_cuda_rms_norm_grad(const td_call *);
int    td_cuda_layer_norm_grad(const td_call *);
size_t td_cuda_norm_grad_workspace(const td_call *);
int    td_cuda_rope(const td_call *);
bool   td_cuda_accepts_rope(const td_call *);
int    td_cuda_attend(const td_call *);
bool   td_cuda_accepts_attend(const td_call *);
/* Of one query (attend_one.cu). */
int    td_cuda_attend_one(const td_call *);
bool   td_cuda_accepts_attend_one(const td_call *);
int    td_cuda_attend_grad(const td_call *);
bool   td_cuda_accepts_attend_grad(const td_call *);
size_t td_cuda_attend_grad_workspace(const td_call *);
int    td_cuda_cross_entropy(const td_call *);
bool   td_cuda_accepts_cross_entropy(const td_call *);
size_t td_cuda_cross_entropy_workspace(const td_call *);
int    td_cuda_adafactor_moment(const td_call *);
size_t td_cuda_adafactor_moment_workspace(const td_call *);

/* Attention on the tensor cores of compute capability 9.0 (attend_cores.cu). */
int    td_cuda_attend_cores(const td_call *);
size_t td_cuda_attend_cores_workspace(const td_call *);
bool   td_cuda_accepts_attend_cores(const td_call *);
int    td_cuda_attend_grad_cores(const td_call *);
size_t td_cuda_attend_grad_cores_workspace(const td_call *);
bool   td_cuda_accepts_attend_grad_cores(const td_call *);
/* y = x, reals of either width; x broadcasts. */
int    td_cuda_convert(td_cuda *, const td_view *y, const td_view *x);
/* Fill a view with a word of its elements' size. */
int    td_cuda_fill(td_cuda *, const td_view *, uint32_t word);
/* The rate, in bytes/s, at which the device reads uncached memory; 0: unknown. */
double td_cuda_read_rate(td_cuda *);

/* Calls that were to be computed together, each by its own kernel. */
static inline int td_cuda_one_by_one(const td_call *const *calls, const td_kernel *const *kernels,
                                     int count)
{
    int code = 0;
    for (int k = 0; k < count && !code; k++)
        code = kernels[k]->run(calls[k]);
    return code;
}

#ifdef __cplusplus
}
#endif
#endif
