/* kernels.h - the kernels of the backend 'reference': the ops, and the flags of each.
 *
 * One list for the declarations here and for the rows of the module in backend.c, so that neither
 * can miss one. */
#ifndef TD_REFERENCE_KERNELS_H
#define TD_REFERENCE_KERNELS_H

#include "tandem/kind/kernels.h"

/* Flags for what a kernel accepts: any strides in inputs; in outputs too; an output in the memory
 * of an input. */
#define INPUTS TD_KERNEL_STRIDED_IN
#define VIEWS (TD_KERNEL_STRIDED_IN | TD_KERNEL_STRIDED_OUT)
#define POINTWISE (VIEWS | TD_KERNEL_INPLACE)

/* clang-format would indent each entry below the one before. */
/* clang-format off */

/* Kernels for reals and for integers. */
#define TD_REF_BOTH(X) \
    X(full, VIEWS) X(iota, VIEWS) X(copy, VIEWS) X(concat, VIEWS) X(pad, VIEWS)           \
    X(neg, POINTWISE) X(abs, POINTWISE) X(sign, POINTWISE) X(affine, POINTWISE)           \
    X(add, POINTWISE) X(sub, POINTWISE) X(mul, POINTWISE) X(maximum, POINTWISE)           \
    X(less, POINTWISE) X(equal, POINTWISE) X(where, VIEWS) X(cast, VIEWS)                 \
    X(gather, INPUTS) X(scatter_add, INPUTS) X(cumsum, VIEWS) X(max, VIEWS) X(sum, VIEWS) \
    X(assign, INPUTS) X(append, INPUTS)

/* Kernels for reals only. */
#define TD_REF_REAL(X) \
    X(exp, POINTWISE) X(log, POINTWISE) X(sqrt, POINTWISE) X(rsqrt, POINTWISE)             \
    X(sin, POINTWISE) X(cos, POINTWISE) X(tanh, POINTWISE) X(sigmoid, POINTWISE)           \
    X(floor, POINTWISE) X(div, POINTWISE) X(activation, POINTWISE)                         \
    X(activation_grad, POINTWISE) X(glu, POINTWISE) X(glu_grad, VIEWS) X(topk, INPUTS)     \
    X(matmul, INPUTS) X(grouped_matmul, INPUTS) X(grouped_outer, INPUTS) X(softmax, VIEWS) \
    X(softmax_grad, VIEWS) X(rms_norm, VIEWS) X(rms_norm_grad, VIEWS) X(layer_norm, VIEWS) \
    X(layer_norm_grad, VIEWS) X(rope, VIEWS) X(attend, VIEWS) X(attend_grad, VIEWS)        \
    X(cross_entropy, INPUTS) X(dropout, VIEWS) X(sum_squares, INPUTS)                      \
    X(adamw_step, INPUTS) X(adafactor_moment, INPUTS) X(adafactor_step, INPUTS)

/* Of these, kernels for calls in bf16: those that write each element of a bf16 output once .. */
#define TD_REF_BF16(X) \
    X(copy, VIEWS) X(concat, VIEWS) X(pad, VIEWS) X(cast, VIEWS) X(gather, INPUTS)         \
    X(assign, INPUTS) X(append, INPUTS) X(where, VIEWS) X(neg, POINTWISE)                  \
    X(abs, POINTWISE) X(sign, POINTWISE) X(affine, POINTWISE) X(add, POINTWISE)            \
    X(sub, POINTWISE) X(mul, POINTWISE) X(div, POINTWISE) X(maximum, POINTWISE)            \
    X(tanh, POINTWISE) X(sigmoid, POINTWISE) X(activation, POINTWISE)                      \
    X(activation_grad, POINTWISE) X(glu, POINTWISE) X(glu_grad, VIEWS) X(dropout, VIEWS)   \
    X(matmul, INPUTS) X(rms_norm, VIEWS) X(rms_norm_grad, VIEWS) X(layer_norm, VIEWS)      \
    X(layer_norm_grad, VIEWS) X(rope, VIEWS)

/* .. and those that add up in it (rounded.h). */
#define TD_REF_ROUNDED(X) \
    X(attend, VIEWS) X(attend_grad, VIEWS) X(cross_entropy, INPUTS) X(grouped_matmul, INPUTS) \
    X(grouped_outer, INPUTS)

#define X(name, flags) int td_ref_##name(const td_call *);
TD_REF_BOTH(X)
TD_REF_REAL(X)
#undef X

/* clang-format on */

#endif
