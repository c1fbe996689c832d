/* module.c - the module backend-cuda: the backend, and which function computes which op. */
#include "module.h"

#include "kernels.h"

#define ROW(op_, dtype_, flags_, ...)                                                              \
    {                                                                                              \
        .size = sizeof(td_kernel), .op = op_, .dtype = dtype_, .flags = flags_, .run = __VA_ARGS__ \
    }
#define WIDE(name, flags) ROW(#name, TD_F32, flags, td_cuda_##name),
#define I32(name, flags) ROW(#name, TD_I32, flags, td_cuda_i32_##name),
#define REAL(name, flags) \
    ROW(#name, TD_F32, flags, td_cuda_##name), ROW(#name, TD_BF16, flags, td_cuda_##name),
#define BOTH(name, flags) \
    ROW(#name, TD_F32, flags, td_cuda_##name), ROW(#name, TD_I32, flags, td_cuda_##name),
#define MOVE(name, flags) REAL(name, flags) ROW(#name, TD_I32, flags, td_cuda_##name),
/* One function for f32 and bf16, with hooks. */
#define REALS(op_, flags_, ...) \
    ROW(op_, TD_F32, flags_, __VA_ARGS__), ROW(op_, TD_BF16, flags_, __VA_ARGS__)

static const td_kernel rows[] = {
    TD_CUDA_MOVES(MOVE) TD_CUDA_BOTH(BOTH) TD_CUDA_NARROW(REAL) TD_CUDA_WIDE(WIDE) TD_CUDA_I32(I32)
        ROW("sum", TD_F32, INPUTS, td_cuda_sum, .workspace = td_cuda_reduce_workspace),
    ROW("sum", TD_I32, INPUTS, td_cuda_sum, .workspace = td_cuda_reduce_workspace),
    ROW("max", TD_F32, INPUTS, td_cuda_max, .workspace = td_cuda_reduce_workspace),
    ROW("max", TD_I32, INPUTS, td_cuda_max, .workspace = td_cuda_reduce_workspace),
    ROW("sum_squares", TD_F32, INPUTS, td_cuda_sum_squares,
        .workspace = td_cuda_sum_squares_workspace),
    ROW("scatter_add", TD_F32, DENSE, td_cuda_scatter_add,
        .workspace = td_cuda_scatter_add_workspace),
    ROW("scatter_add", TD_I32, DENSE, td_cuda_scatter_add,
        .workspace = td_cuda_scatter_add_workspace),
    /* the first that accepts a call computes it */
    ROW("matmul", TD_BF16, INPUTS, td_cuda_few_rows, .accepts = td_cuda_accepts_few_rows,
        .workspace = td_cuda_matmul_workspace),
    REALS("matmul", INPUTS, td_cuda_matmul, .accepts = td_cuda_accepts_matmul,
          .workspace = td_cuda_matmul_workspace),
    REALS("rms_norm_grad", VIEWS, td_cuda_rms_norm_grad, .workspace = td_cuda_norm_grad_workspace),
    REALS("layer_norm_grad", VIEWS, td_cuda_layer_norm_grad,
          .workspace = td_cuda_norm_grad_workspace),
    REALS("rope", VIEWS, td_cuda_rope, .accepts = td_cuda_accepts_rope),
    ROW("attend", TD_BF16, VIEWS, td_cuda_attend_one, .accepts = td_cuda_accepts_attend_one),
    ROW("attend", TD_BF16, VIEWS, td_cuda_attend_cores, .accepts = td_cuda_accepts_attend_cores,
        .workspace = td_cuda_attend_cores_workspace),
    ROW("attend_grad", TD_BF16, VIEWS, td_cuda_attend_grad_cores,
        .accepts = td_cuda_accepts_attend_grad_cores,
        .workspace = td_cuda_attend_grad_cores_workspace),
    REALS("attend", VIEWS, td_cuda_attend, .accepts = td_cuda_accepts_attend),
    REALS("attend_grad", VIEWS, td_cuda_attend_grad, .accepts = td_cuda_accepts_attend_grad,
          .workspace = td_cuda_attend_grad_workspace),
    REALS("cross_entropy", DENSE, td_cuda_cross_entropy, .accepts = td_cuda_accepts_cross_entropy,
          .workspace = td_cuda_cross_entropy_workspace),
    ROW("adafactor_moment", TD_F32, DENSE, td_cuda_adafactor_moment,
        .workspace = td_cuda_adafactor_moment_workspace),
};

static const td_fusion fusions[] = {
    { sizeof(td_fusion), "products", td_cuda_takes_products, td_cuda_products },
    { sizeof(td_fusion), "heads", td_cuda_takes_heads, td_cuda_heads },
};

struct empty {
    char none;
};

static const td_kernels kernels = {
    .plugin = TD_PLUGIN(td_kernels, TD_KERNELS_KIND, "cuda", NULL, struct empty,
                        .brief = "the kernels of the backend 'cuda', in f32, bf16 and i32"),
    .backend = "cuda",
    .rows = rows,
    .count = sizeof rows / sizeof rows[0],
    .fusions = fusions,
    .n_fusions = sizeof fusions / sizeof fusions[0],
};

TD_MODULE("backend-cuda", "0.1.0", "the tandem authors", "MIT", &td_cuda_backend.plugin,
          &kernels.plugin)
