/* kernels.h - the kernels of the backend 'cpu', as module.c lists them. See ops.h for the ops. */
#ifndef TD_CPU_KERNELS_H
#define TD_CPU_KERNELS_H

#include "tandem/kind/kernels.h"

/* Function types, so that one line can declare many functions. A workspace function runs when the
 * plan is made. */
typedef int    td_cpu_kernel(const td_call *);
typedef size_t td_cpu_workspace(const td_call *);
typedef size_t td_cpu_prepared(const td_call *, int in);
typedef int    td_cpu_prepare(const td_call *, int in, void *memory);
typedef bool   td_cpu_accepts(const td_call *);

/* movement.c, index.c */
td_cpu_kernel    td_cpu_full, td_cpu_iota, td_cpu_copy, td_cpu_pad, td_cpu_concat, td_cpu_append;
td_cpu_kernel    td_cpu_gather, td_cpu_scatter_add, td_cpu_topk, td_cpu_cumsum;
td_cpu_workspace td_cpu_topk_workspace;

/* elementwise.c */
td_cpu_kernel td_cpu_neg, td_cpu_abs, td_cpu_sign, td_cpu_floor, td_cpu_affine;
td_cpu_kernel td_cpu_exp, td_cpu_log, td_cpu_sqrt, td_cpu_rsqrt, td_cpu_sin, td_cpu_cos;
td_cpu_kernel td_cpu_tanh, td_cpu_sigmoid;
td_cpu_kernel td_cpu_add, td_cpu_sub, td_cpu_mul, td_cpu_div, td_cpu_maximum;
td_cpu_kernel td_cpu_less, td_cpu_equal, td_cpu_where, td_cpu_cast;

/* integer.c */
td_cpu_kernel td_cpu_i32_neg, td_cpu_i32_abs, td_cpu_i32_sign, td_cpu_i32_affine;
td_cpu_kernel td_cpu_i32_add, td_cpu_i32_sub, td_cpu_i32_mul, td_cpu_i32_maximum;
td_cpu_kernel td_cpu_i32_less, td_cpu_i32_equal;

/* reduce.c, matmul.c, grouped.c */
td_cpu_kernel    td_cpu_sum, td_cpu_max_over, td_cpu_i32_sum, td_cpu_i32_max_over;
td_cpu_kernel    td_cpu_matmul, td_cpu_grouped_matmul, td_cpu_grouped_outer;
td_cpu_workspace td_cpu_matmul_workspace;
td_cpu_prepared  td_cpu_matmul_prepared;
td_cpu_prepare   td_cpu_matmul_prepare;
td_cpu_accepts   td_cpu_accepts_bf16_product;
td_cpu_workspace td_cpu_grouped_matmul_workspace, td_cpu_grouped_outer_workspace;

/* activation.c, norm.c, rope.c, dropout.c, cross_entropy.c */
td_cpu_kernel    td_cpu_activation, td_cpu_activation_grad, td_cpu_glu, td_cpu_glu_grad;
td_cpu_kernel    td_cpu_softmax, td_cpu_softmax_grad;
td_cpu_kernel    td_cpu_rms_norm, td_cpu_rms_norm_grad, td_cpu_layer_norm, td_cpu_layer_norm_grad;
td_cpu_kernel    td_cpu_rope, td_cpu_dropout, td_cpu_cross_entropy;
td_cpu_workspace td_cpu_norm_workspace, td_cpu_norm_grad_workspace;
td_cpu_workspace td_cpu_cross_entropy_workspace;

/* The widest head that rope rotates in bf16. */
enum { TD_CPU_WIDEST_HEAD = 1024 };

/* attend.c, attend_grad.c */
td_cpu_kernel    td_cpu_attend, td_cpu_attend_grad;
td_cpu_workspace td_cpu_attend_workspace, td_cpu_attend_grad_workspace;

/* update.c */
td_cpu_kernel    td_cpu_sum_squares, td_cpu_assign, td_cpu_adamw_step;
td_cpu_kernel    td_cpu_adafactor_moment, td_cpu_adafactor_step;
td_cpu_workspace td_cpu_sum_squares_workspace, td_cpu_adafactor_moment_workspace;

#endif
