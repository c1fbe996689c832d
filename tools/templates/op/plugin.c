/* op-@NAME@.c - a new op with its gradient, its lowering and a kernel for the backend "cpu", and a
 * feed-forward layer that uses it.
 *
 *     y = x / sqrt(1 + (x / limit)^2)        close to x near 0, and always within -limit .. limit
 *
 * Paper: Carlile et al., Improving Deep Learning by Inverse Square Root Linear Units, 2017.
 *
 * The contracts: tandem/kind/op.h, tandem/kind/kernels.h, tandem/kind/ffn.h. */
#include <string.h>

#include "tandem/kind/ffn.h"
#include "tandem/kind/kernels.h"
#include "tandem/kind/op.h"

/* Ops and kernels have no options, since no config names them. */
struct empty {
    char none;
};

/* ---- the op ---------------------------------------------------------------------------------- */

/* Emits the op. A node has numbered attributes (tandem/graph.h); here f[0] is the limit. */
static td_tensor *bounded(td_tensor *x, double limit)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a); /* equal nodes are merged: unused slots must be equal too */
    a.f[0] = limit;
    return td_emit(x->graph, "@NAME@", in, 1, &a);
}

/* [build]: set the dtype and dims of each output and return their number, or fail with a
 * message. in[k] is NULL where the caller left an input out. */
static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    (void)n;
    if (!in[0])
        return td_fail(error, TD_EGRAPH, "input 0 is missing");
    if (in[0]->dtype == TD_I32)
        return td_fail(error, TD_EGRAPH, "input 0 has integers: convert it with td_cast");
    if (!(a->f[0] > 0))
        return td_fail(error, TD_EGRAPH, "the limit, f[0], must be above 0, not %g", a->f[0]);
    out[0].dtype = in[0]->dtype;
    out[0].rank = in[0]->rank;
    memcpy(out[0].dim, in[0]->dim, sizeof out[0].dim);
    return 1;
}

/* 1 / sqrt(1 + (x / limit)^2), in ops that every backend has. */
static td_tensor *slope(td_tensor *x, double limit)
{
    return td_rsqrt(td_affine(td_mul(x, x), 1 / (limit * limit), 1));
}

/* [build]: the gradient with respect to each input k with need[k], as ops: dx = dy s^3. So every
 * backend has the gradient without a separate kernel. */
static void vjp(td_tensor *const *in, int n, td_tensor *const *out, td_tensor *const *grad_out,
                const td_attrs *a, const bool *need, td_tensor **grad_in)
{
    td_tensor *s = slope(in[0], a->f[0]);
    (void)n;
    (void)out;
    (void)need;
    grad_in[0] = td_mul(grad_out[0], td_mul(s, td_mul(s, s)));
}

/* [build]: the op in terms of simpler ones, for backends without a kernel. Tests compare the
 * two. */
static void lower(td_graph *g, td_tensor *const *in, int n, const td_attrs *a, const bool *used,
                  td_tensor **out)
{
    (void)g;
    (void)n;
    (void)used;
    out[0] = td_mul(in[0], slope(in[0], a->f[0]));
}

/* [build]: the examples on which `tandem plugins check` tests it. */
static int example(td_graph *g, int n, td_tensor **in, td_attrs *attrs)
{
    static const int64_t dims[][3] = { { 7, 1, 1 }, { 3, 5, 1 }, { 2, 3, 11 }, { 3, 11003, 1 } };
    static const int     ranks[] = { 1, 2, 3, 2 }; /* the last one: more than two pieces of work */
    static const double  limits[] = { 1, 0.25, 4, 1 };
    if (n >= 4)
        return 0;
    in[0] = td_param(g, "x", dims[n], ranks[n], td_normal(1));
    attrs->f[0] = limits[n];
    return 1;
}

static const td_op @IDENT@_op = {
    .plugin = TD_PLUGIN(td_op, TD_OP_KIND, "@NAME@", NULL, struct empty,
                        .brief = "x / sqrt(1 + (x / limit)^2)",
                        .paper = "Carlile et al., Inverse Square Root Linear Units, 2017"),
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = TD_OP_ELEMENTWISE,
    .infer = infer,
    .vjp = vjp,
    .lower = lower,
    .example = example,
};

/* ---- its kernel ------------------------------------------------------------------------------ */

enum { PIECE = 1 << 14 };

typedef struct job {
    const float *x;
    float       *y, scale;
    int64_t      count;
} job;

/* Piece i of the work, on any thread. The size of a piece does not depend on the number of threads,
 * so neither does the result. */
static void run_piece(void *arg, int64_t i, int thread)
{
    const job *j = arg;
    int64_t    end = (i + 1) * PIECE < j->count ? (i + 1) * PIECE : j->count;
    (void)thread;
    for (int64_t k = i * PIECE; k < end; k++) {
        float t = j->x[k] * j->scale;
        j->y[k] = j->x[k] / sqrtf(1 + t * t);
    }
}

/* [worker]: without TD_KERNEL_STRIDED_IN and _OUT all operands are dense and row-major. With
 * TD_KERNEL_INPLACE x and y may be the same memory. Allocate nothing here. */
static int run(const td_call *call)
{
    job j = { call->in[0].data, call->out[0].data, (float)(1 / call->attrs->f[0]), 1 };
    for (int a = 0; a < call->out[0].rank; a++)
        j.count *= call->out[0].dim[a];
    td_parallel(call->services, (j.count + PIECE - 1) / PIECE, run_piece, &j);
    return 0;
}

static const td_kernel rows[] = {
    { .size = sizeof(td_kernel),
      .op = "@NAME@",
      .dtype = TD_F32,
      .flags = TD_KERNEL_INPLACE,
      .run = run },
};

static const td_kernels @IDENT@_kernels = {
    .plugin = TD_PLUGIN(td_kernels, TD_KERNELS_KIND, "@NAME@", NULL, struct empty,
                        .brief = "op '@NAME@' on the backend 'cpu'"),
    .backend = "cpu",
    .rows = rows,
    .count = sizeof rows / sizeof *rows,
};

/* ---- a layer that uses it -------------------------------------------------------------------- */

struct @IDENT@_config {
    int64_t d_ff;
    double  limit;
};

static const td_option options[] = { TD_OPTION_INT(struct @IDENT@_config, d_ff, 256, 1, 1 << 24,
                                                   "width of the hidden layer"),
                                     TD_OPTION_FLOAT(struct @IDENT@_config, limit, 3, 0.001, 1000,
                                                     "largest magnitude in the hidden layer"),
                                     TD_OPTION_END };

/* [build]: bounded(x W1) W2, x [B, T, D] */
static td_tensor *build(const void *config, const td_ffn_in *in)
{
    const struct @IDENT@_config *c = config;
    td_tensor                *inside = bounded(td_linear("up_proj", in->x, c->d_ff), c->limit);
    inside = td_drop(inside, in->dropout, "inside", 1);
    return td_linear("down_proj", inside, td_dim(in->x, -1));
}

static const td_ffn @IDENT@_ffn = {
    .plugin = TD_PLUGIN(td_ffn, TD_FFN_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "two linear layers with op '@NAME@' between them"),
    .build = build,
};

/* All plugins of the module: a config that names one of them gets the others too. */
TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_op.plugin, &@IDENT@_kernels.plugin,
          &@IDENT@_ffn.plugin)
