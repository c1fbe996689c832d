/* kernels-@NAME@.c - another kernel for an op that there is: squared ReLU on the backend "cpu".
 *
 * The contract: tandem/kind/kernels.h; what each op computes, and its attributes: tandem/ops.h.
 * Where a module with kernels is found it is loaded, and its rows are asked before the backend's
 * own; the log says so. No config names it: plugin_path is enough. */
#include "tandem/kind/kernels.h"
#include "tandem/ops.h"

/* Compiled for several instruction sets; the loader takes the best that the processor has. The
 * elements of a call must all be computed alike, so no result depends on where a piece ends. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

enum { PIECE = 1 << 14 };

typedef struct job {
    const float *x;
    float       *y;
    int64_t      count;
} job;

/* y = max(x, 0)^2; NaN stays NaN, so that no divergence is hidden. */
CLONES static void relu2(const float *x, float *y, int64_t count)
{
    for (int64_t k = 0; k < count; k++) {
        float positive = x[k] <= 0 ? 0 : x[k];
        y[k] = positive * positive;
    }
}

/* Piece i of the work, on any thread. Pieces are cut by size and not by the number of threads, so
 * the result cannot depend on it; a kernel that adds up keeps a sum per piece in call->workspace and
 * adds those in order. */
static void run_piece(void *arg, int64_t i, int thread)
{
    const job *j = arg;
    int64_t    rest = j->count - i * PIECE;
    (void)thread;
    relu2(j->x + i * PIECE, j->y + i * PIECE, rest < PIECE ? rest : PIECE);
}

/* [worker]: compute out[] from in[]. Without TD_KERNEL_STRIDED_IN and _OUT all operands are dense
 * and row-major; else element (i, j, ..) is data[i stride[0] + j stride[1] + ..]. With
 * TD_KERNEL_INPLACE x and y may be the same memory. It allocates nothing: what it needs, the hook
 * `workspace` asks for while the plan is made. Gives 0, or a negative code of tandem/error.h. */
static int run(const td_call *call)
{
    job j = { call->in[0].data, call->out[0].data, 1 };
    for (int a = 0; a < call->out[0].rank; a++)
        j.count *= call->out[0].dim[a];
    td_parallel(call->services, (j.count + PIECE - 1) / PIECE, run_piece, &j);
    return 0;
}

/* [build]: the calls that it takes: attribute i[0] of "activation" is the function. Of the others
 * the next kernel is asked, which is the backend's. */
static bool accepts(const td_call *call) { return call->attrs->i[0] == TD_RELU2; }

/* A row for each op and dtype. */
static const td_kernel rows[] = {
    { .size = sizeof(td_kernel),
      .op = "activation",
      .dtype = TD_F32,
      .flags = TD_KERNEL_INPLACE,
      .run = run,
      .accepts = accepts },
};

struct @IDENT @_config { char none; /* kernels have no options: no config names them */ };

static const td_kernels @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_kernels, TD_KERNELS_KIND, "@NAME@", NULL, struct @IDENT@_config,
                        .brief = "squared ReLU on the backend 'cpu'"),
    .backend = "cpu",
    .rows = rows,
    .count = sizeof rows / sizeof *rows,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
