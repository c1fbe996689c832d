/* kernels.h - the kernels of the backend 'cpu', as module.c lists them. Each takes a td_call; see
 * ops.h for the ops. */
#ifndef TD_CPU_KERNELS_H
#define TD_CPU_KERNELS_H

#include "tandem/kind/kernels.h"

/* movement.c, index.c */
int    td_cpu_full(const td_call *), td_cpu_iota(const td_call *), td_cpu_copy(const td_call *);
int    td_cpu_pad(const td_call *), td_cpu_concat(const td_call *), td_cpu_append(const td_call *);
int    td_cpu_gather(const td_call *), td_cpu_scatter_add(const td_call *);
int    td_cpu_topk(const td_call *), td_cpu_cumsum(const td_call *);
size_t td_cpu_topk_workspace(const td_call *);

/* elementwise.c, integer.c */
int td_cpu_neg(const td_call *), td_cpu_exp(const td_call *), td_cpu_log(const td_call *),
    td_cpu_sqrt(const td_call *);
int td_cpu_rsqrt(const td_call *), td_cpu_sin(const td_call *), td_cpu_cos(const td_call *);
int td_cpu_tanh(const td_call *), td_cpu_sigmoid(const td_call *), td_cpu_abs(const td_call *);
int td_cpu_sign(const td_call *), td_cpu_floor(const td_call *), td_cpu_affine(const td_call *);
int td_cpu_add(const td_call *), td_cpu_sub(const td_call *), td_cpu_mul(const td_call *),
    td_cpu_div(const td_call *);
int td_cpu_maximum(const td_call *), td_cpu_less(const td_call *), td_cpu_equal(const td_call *);
int td_cpu_where(const td_call *), td_cpu_cast(const td_call *);
int td_cpu_i32_neg(const td_call *), td_cpu_i32_abs(const td_call *),
    td_cpu_i32_sign(const td_call *);
int td_cpu_i32_affine(const td_call *), td_cpu_i32_add(const td_call *),
    td_cpu_i32_sub(const td_call *);
int td_cpu_i32_mul(const td_call *), td_cpu_i32_maximum(const td_call *),
    td_cpu_i32_less(const td_call *);
int td_cpu_i32_equal(const td_call *);

/* reduce.c, matmul.c, grouped.c */
int    td_cpu_sum(const td_call *), td_cpu_max_over(const td_call *);
int    td_cpu_i32_sum(const td_call *), td_cpu_i32_max_over(const td_call *);
int    td_cpu_matmul(const td_call *);
size_t td_cpu_matmul_workspace(const td_call *);
int    td_cpu_grouped_matmul(const td_call *), td_cpu_grouped_outer(const td_call *);
size_t td_cpu_grouped_matmul_workspace(const td_call *),
    td_cpu_grouped_outer_workspace(const td_call *);

/* activation.c, norm.c, rope.c, cross_entropy.c, dropout.c */
int    td_cpu_activation(const td_call *), td_cpu_activation_grad(const td_call *);
int    td_cpu_glu(const td_call *), td_cpu_glu_grad(const td_call *);
int    td_cpu_softmax(const td_call *), td_cpu_softmax_grad(const td_call *);
int    td_cpu_rms_norm(const td_call *), td_cpu_rms_norm_grad(const td_call *);
int    td_cpu_layer_norm(const td_call *), td_cpu_layer_norm_grad(const td_call *);
size_t td_cpu_norm_grad_workspace(const td_call *);
int    td_cpu_rope(const td_call *), td_cpu_dropout(const td_call *);
int    td_cpu_cross_entropy(const td_call *);
size_t td_cpu_cross_entropy_workspace(const td_call *);

/* attend.c */
int    td_cpu_attend(const td_call *), td_cpu_attend_grad(const td_call *);
size_t td_cpu_attend_workspace(const td_call *), td_cpu_attend_grad_workspace(const td_call *);

/* update.c */
int td_cpu_sum_squares(const td_call *), td_cpu_assign(const td_call *),
    td_cpu_adamw_step(const td_call *);
int    td_cpu_adafactor_moment(const td_call *), td_cpu_adafactor_step(const td_call *);
size_t td_cpu_sum_squares_workspace(const td_call *),
    td_cpu_adafactor_moment_workspace(const td_call *);

#endif
