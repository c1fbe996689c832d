/* kernels-@NAME@.c - another kernel for an existing op: squared ReLU on the backend "cpu".
 *
 * The contract: tandem/kind/kernels.h; what each op computes, and its attributes: tandem/ops.h.
 * Modules with kernels are loaded wherever they are found, their rows take precedence over the
 * backend's own, and the log reports it. No config names them: plugin_path is enough. */
#include "tandem/kind/kernels.h"
#include "tandem/ops.h"

/* Compiled for several instruction sets; the loader picks the best one that the processor has. All
 * elements of a call must be computed the same way, so that no result depends on where a piece
 * ends. */
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

/* y = max(x, 0)^2; NaN propagates, so that divergence is never hidden. */
CLONES static void relu2(const float *x, float *y, int64_t count)
{
    for (int64_t k = 0; k < count; k++) {
        float positive = x[k] <= 0 ? 0 : x[k]; /* false for NaN; fmaxf would return 0 */
        y[k] = positive * positive;
    }
}

/* Piece i of the work, on any thread. The size of a piece does not depend on the number of threads,
 * so neither does the result. A kernel that computes a sum keeps one per piece in call->workspace
 * and adds those in order. */
static void run_piece(void *arg, int64_t i, int thread)
{
    const job *j = arg;
    int64_t    rest = j->count - i * PIECE;
    (void)thread;
    relu2(j->x + i * PIECE, j->y + i * PIECE, rest < PIECE ? rest : PIECE);
}

/* [worker]: compute out[] from in[]. Without TD_KERNEL_STRIDED_IN and _OUT all operands are dense
 * and row-major; with them, element (i, j, ..) is data[i stride[0] + j stride[1] + ..]. With
 * TD_KERNEL_INPLACE x and y may be the same memory. Allocate nothing here: the hook `workspace`
 * says how much memory is needed, while the plan is made. Returns 0, or a negative code of
 * tandem/error.h. */
static int run(const td_call *call)
{
    job j = { call->in[0].data, call->out[0].data, 1 };
    for (int a = 0; a < call->out[0].rank; a++)
        j.count *= call->out[0].dim[a];
    td_parallel(call->services, (j.count + PIECE - 1) / PIECE, run_piece, &j);
    return 0;
}

/* [build]: which calls this kernel handles; attribute i[0] of "activation" is the function. For
 * other calls the next kernel is tried: the backend's own. */
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

struct @IDENT@_config {
    char none; /* kernels have no options, since no config names them */
};

static const td_kernels @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_kernels, TD_KERNELS_KIND, "@NAME@", NULL, struct @IDENT@_config,
                        .brief = "squared ReLU on the backend 'cpu'"),
    .backend = "cpu",
    .rows = rows,
    .count = sizeof rows / sizeof *rows,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
