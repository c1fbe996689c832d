/* module.c - the module backend-cpu: the backend, and which function computes which op. */
#include "module.h"

#include "kernels.h"
#include "tandem/ops.h"

/* Flags for what a kernel accepts besides dense tensors: any strides, and an output in the memory
 * of an input. */
#define VIEWS (TD_KERNEL_STRIDED_IN | TD_KERNEL_STRIDED_OUT)
#define POINTWISE (VIEWS | TD_KERNEL_INPLACE)

/* MAPPED: an elementwise op on reals, MAPPED_I32 on integers; WORDS: one function for both, as it
 * only moves four-byte words. */
#define ROW(op_, dtype_, flags_, ...)                                                              \
    {                                                                                              \
        .size = sizeof(td_kernel), .op = op_, .dtype = dtype_, .flags = flags_, .run = __VA_ARGS__ \
    }
#define MAPPED(name_) ROW(#name_, TD_F32, POINTWISE, td_cpu_##name_)
#define MAPPED_BF16(name_) ROW(#name_, TD_BF16, POINTWISE, td_cpu_##name_)
#define MAPPED_I32(name_) ROW(#name_, TD_I32, POINTWISE, td_cpu_i32_##name_)
#define WORDS(name_, flags_) \
    ROW(#name_, TD_F32, flags_, td_cpu_##name_), ROW(#name_, TD_I32, flags_, td_cpu_##name_)

static bool unit_rows(const td_view *v)
{
    return !v->rank || v->dim[v->rank - 1] == 1 || v->stride[v->rank - 1] == 1;
}

static bool dense_vector(const td_view *v)
{
    return v->rank != 1 || v->dim[0] == 1 || v->stride[0] == 1;
}

/* Norms and rope: rows may be anywhere, but each must be contiguous; so must weights and biases. */
static bool accepts_rows(const td_call *call)
{
    for (int i = 0; i < call->n_in; i++)
        if (!unit_rows(&call->in[i]) || !dense_vector(&call->in[i]))
            return false;
    for (int i = 0; i < call->n_out; i++)
        if (!unit_rows(&call->out[i]))
            return false;
    return true;
}

static bool accepts_rope(const td_call *call)
{
    return call->in[0].rank == 4 && call->in[1].rank == 3 && call->in[2].rank == 3 &&
           accepts_rows(call);
}

static bool accepts_bf16_rope(const td_call *call)
{
    return accepts_rope(call) && call->in[0].dim[3] <= TD_CPU_WIDEST_HEAD;
}

static bool accepts_cross_entropy(const td_call *call)
{
    return call->in[0].rank == 2 && call->in[1].rank == 2;
}

/* A summand and the gradient that starts from it are sums: float. */
static bool accepts_bf16_cross_entropy(const td_call *call)
{
    bool sum = call->n_in > TD_CE_ACC && call->in[TD_CE_ACC].data;
    return accepts_cross_entropy(call) && td_cpu_accepts_bf16_product(call) &&
           (!sum || call->in[TD_CE_ACC].dtype == TD_F32) &&
           call->out[TD_CE_GRAD_EMBEDDING].dtype == TD_F32;
}

static const td_kernel rows[] = {
    WORDS(full, VIEWS),
    WORDS(iota, 0),
    WORDS(copy, VIEWS),
    WORDS(pad, VIEWS),
    WORDS(concat, VIEWS),
    WORDS(gather, 0),
    WORDS(cumsum, 0),
    WORDS(where, POINTWISE),
    WORDS(cast, POINTWISE),
    WORDS(assign, TD_KERNEL_STRIDED_IN),
    WORDS(append, TD_KERNEL_STRIDED_IN),

    MAPPED(neg),
    MAPPED(exp),
    MAPPED(log),
    MAPPED(sqrt),
    MAPPED(rsqrt),
    MAPPED(sin),
    MAPPED(cos),
    MAPPED(tanh),
    MAPPED(sigmoid),
    MAPPED(abs),
    MAPPED(sign),
    MAPPED(floor),
    MAPPED(affine),
    MAPPED(add),
    MAPPED(sub),
    MAPPED(mul),
    MAPPED(div),
    MAPPED(maximum),
    MAPPED(less),
    MAPPED(equal),
    MAPPED(activation),
    MAPPED(activation_grad),
    MAPPED(glu),
    MAPPED_I32(neg),
    MAPPED_I32(abs),
    MAPPED_I32(sign),
    MAPPED_I32(affine),
    MAPPED_I32(add),
    MAPPED_I32(sub),
    MAPPED_I32(mul),
    MAPPED_I32(maximum),
    MAPPED_I32(less),
    MAPPED_I32(equal),

    MAPPED_BF16(neg),
    MAPPED_BF16(abs),
    MAPPED_BF16(sign),
    MAPPED_BF16(affine),
    MAPPED_BF16(add),
    MAPPED_BF16(sub),
    MAPPED_BF16(mul),
    MAPPED_BF16(div),
    MAPPED_BF16(maximum),
    MAPPED_BF16(tanh),
    MAPPED_BF16(sigmoid),
    MAPPED_BF16(where),
    MAPPED_BF16(cast),
    MAPPED_BF16(activation),
    MAPPED_BF16(activation_grad),
    MAPPED_BF16(glu),
    ROW("glu_grad", TD_BF16, VIEWS, td_cpu_glu_grad),
    ROW("matmul", TD_BF16, TD_KERNEL_STRIDED_IN, td_cpu_matmul,
        .workspace = td_cpu_matmul_workspace, .prepared = td_cpu_matmul_prepared,
        .prepare = td_cpu_matmul_prepare, .accepts = td_cpu_accepts_bf16_product),
    ROW("cross_entropy", TD_BF16, 0, td_cpu_cross_entropy,
        .workspace = td_cpu_cross_entropy_workspace, .accepts = accepts_bf16_cross_entropy),
    ROW("rms_norm", TD_BF16, VIEWS, td_cpu_rms_norm, .workspace = td_cpu_norm_workspace,
        .accepts = accepts_rows),
    ROW("rms_norm_grad", TD_BF16, VIEWS, td_cpu_rms_norm_grad,
        .workspace = td_cpu_norm_grad_workspace, .accepts = accepts_rows),
    ROW("layer_norm", TD_BF16, VIEWS, td_cpu_layer_norm, .workspace = td_cpu_norm_workspace,
        .accepts = accepts_rows),
    ROW("layer_norm_grad", TD_BF16, VIEWS, td_cpu_layer_norm_grad,
        .workspace = td_cpu_norm_grad_workspace, .accepts = accepts_rows),
    ROW("rope", TD_BF16, VIEWS | TD_KERNEL_INPLACE, td_cpu_rope, .accepts = accepts_bf16_rope),
    ROW("copy", TD_BF16, VIEWS, td_cpu_copy),
    ROW("pad", TD_BF16, VIEWS, td_cpu_pad),
    ROW("concat", TD_BF16, VIEWS, td_cpu_concat),
    ROW("append", TD_BF16, TD_KERNEL_STRIDED_IN, td_cpu_append),
    ROW("assign", TD_BF16, TD_KERNEL_STRIDED_IN, td_cpu_assign),
    ROW("gather", TD_BF16, 0, td_cpu_gather),

    ROW("glu_grad", TD_F32, VIEWS, td_cpu_glu_grad),
    ROW("sum", TD_F32, 0, td_cpu_sum),
    ROW("sum", TD_I32, 0, td_cpu_i32_sum),
    ROW("max", TD_F32, 0, td_cpu_max_over),
    ROW("max", TD_I32, 0, td_cpu_i32_max_over),
    ROW("topk", TD_F32, 0, td_cpu_topk, .workspace = td_cpu_topk_workspace),
    ROW("scatter_add", TD_F32, 0, td_cpu_scatter_add),
    ROW("matmul", TD_F32, TD_KERNEL_STRIDED_IN, td_cpu_matmul, .workspace = td_cpu_matmul_workspace,
        .prepared = td_cpu_matmul_prepared, .prepare = td_cpu_matmul_prepare),
    ROW("grouped_matmul", TD_F32, 0, td_cpu_grouped_matmul,
        .workspace = td_cpu_grouped_matmul_workspace),
    ROW("grouped_outer", TD_F32, 0, td_cpu_grouped_outer,
        .workspace = td_cpu_grouped_outer_workspace),

    ROW("softmax", TD_F32, TD_KERNEL_INPLACE, td_cpu_softmax),
    ROW("softmax_grad", TD_F32, TD_KERNEL_INPLACE, td_cpu_softmax_grad),
    ROW("rms_norm", TD_F32, VIEWS, td_cpu_rms_norm, .accepts = accepts_rows),
    ROW("rms_norm_grad", TD_F32, VIEWS, td_cpu_rms_norm_grad,
        .workspace = td_cpu_norm_grad_workspace, .accepts = accepts_rows),
    ROW("layer_norm", TD_F32, VIEWS, td_cpu_layer_norm, .accepts = accepts_rows),
    ROW("layer_norm_grad", TD_F32, VIEWS, td_cpu_layer_norm_grad,
        .workspace = td_cpu_norm_grad_workspace, .accepts = accepts_rows),
    ROW("rope", TD_F32, VIEWS | TD_KERNEL_INPLACE, td_cpu_rope, .accepts = accepts_rope),
    ROW("dropout", TD_F32, TD_KERNEL_INPLACE, td_cpu_dropout),
    ROW("cross_entropy", TD_F32, 0, td_cpu_cross_entropy,
        .workspace = td_cpu_cross_entropy_workspace, .accepts = accepts_cross_entropy),
#ifdef TD_CPU_ATTEND /* without these rows, the op's lowering is used */
    ROW("attend", TD_F32, VIEWS, td_cpu_attend, .workspace = td_cpu_attend_workspace),
    ROW("attend_grad", TD_F32, VIEWS, td_cpu_attend_grad,
        .workspace = td_cpu_attend_grad_workspace),
    ROW("attend", TD_BF16, VIEWS, td_cpu_attend, .workspace = td_cpu_attend_workspace),
    ROW("attend_grad", TD_BF16, VIEWS, td_cpu_attend_grad,
        .workspace = td_cpu_attend_grad_workspace),
#endif

    ROW("sum_squares", TD_F32, 0, td_cpu_sum_squares, .workspace = td_cpu_sum_squares_workspace),
    ROW("adamw_step", TD_F32, 0, td_cpu_adamw_step),
    ROW("adafactor_moment", TD_F32, 0, td_cpu_adafactor_moment,
        .workspace = td_cpu_adafactor_moment_workspace),
    ROW("adafactor_step", TD_F32, 0, td_cpu_adafactor_step),
};

struct empty {
    char none;
};

static const td_kernels kernels = {
    .plugin = TD_PLUGIN(td_kernels, TD_KERNELS_KIND, "cpu", NULL, struct empty,
                        .brief = "the kernels of the backend 'cpu', in f32, bf16 and i32"),
    .backend = "cpu",
    .rows = rows,
    .count = sizeof rows / sizeof rows[0],
};

TD_MODULE("backend-cpu", "0.1.0", "the tandem authors", "MIT", &td_cpu_backend.plugin,
          &kernels.plugin)
