/* list.c - the core's built-in ops. Add new ones here, in alphabetical order. */
#include "define.h"

/* clang-format off */
#define OPS(X)                                                                           \
    X(abs) X(activation) X(activation_grad) X(adafactor_moment) X(adafactor_step)        \
    X(adamw_step) X(add) X(affine) X(append) X(assign) X(attend) X(attend_grad)          \
    X(cast) X(concat) X(copy) X(cos) X(cross_entropy) X(cumsum)                          \
    X(detach) X(div) X(dropout)                                                          \
    X(equal) X(exp) X(expand)                                                            \
    X(floor) X(full)                                                                     \
    X(gather) X(glu) X(glu_grad) X(grouped_matmul) X(grouped_outer)                      \
    X(iota)                                                                              \
    X(layer_norm) X(layer_norm_grad) X(less) X(log)                                      \
    X(matmul) X(max) X(maximum) X(mul)                                                   \
    X(neg)                                                                               \
    X(pad) X(permute)                                                                    \
    X(reshape) X(rms_norm) X(rms_norm_grad) X(rope) X(rsqrt)                             \
    X(scatter_add) X(sigmoid) X(sign) X(sin) X(slice) X(softmax) X(softmax_grad) X(sqrt) \
    X(sub) X(sum) X(sum_squares)                                                         \
    X(tanh) X(topk)                                                                      \
    X(where)
/* clang-format on */

#define X(name) extern const td_op td_op_##name;
OPS(X)
#undef X

/* The registry, which takes it from here, includes no header of this folder. */
extern const td_plugin *const td_core_ops[];

#define X(name) &td_op_##name.plugin,
const td_plugin *const td_core_ops[] = { OPS(X) NULL };
#undef X
