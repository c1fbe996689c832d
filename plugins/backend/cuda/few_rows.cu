/* few_rows.cu - products of few rows (few_rows.cuh): which calls they are, and which of these are
 * computed together: products of the same rows, the norm that the rows come from, and a gated linear
 * unit of two products.
 */
#include "few_rows.cuh"
#include "kernels.h"

enum {
    MOST_ROWS = 16,
    MOST_TERMS = 1 << 30 /* their numbers have 32 bits, and so have those of columns */
};

/* The distance between rows if it is the same throughout; -1: it is not. */
static int64_t row_distance(const td_view *v)
{
    int64_t distance = 0, next = 0;
    for (int a = v->rank - 2; a >= 0; a--) {
        if (v->dim[a] == 1)
            continue;
        if (next && v->stride[a] != next)
            return -1;
        distance = next ? distance : v->stride[a];
        next = v->stride[a] * v->dim[a];
    }
    return distance;
}

static bool has_rows(const td_view *v, int64_t rows)
{
    return v->rank > 0 && td_cuda_rows(v) == rows && row_distance(v) >= 0 &&
           (v->dim[v->rank - 1] == 1 || v->stride[v->rank - 1] == 1);
}

/* One matrix, of contiguous columns in whole pieces. */
static bool has_columns(const td_view *b)
{
    return b->rank >= 2 && td_cuda_rows(b) == b->dim[b->rank - 2] && td_cuda_count(b) > 0 &&
           b->dim[b->rank - 2] % FEW_TERMS == 0 && b->stride[b->rank - 2] == 1 &&
           b->stride[b->rank - 1] % FEW_PIECE == 0;
}

#ifdef TD_CUDA_CORES

template <int ROWS, int TILES, bool GATED> static int launch(td_cuda *cuda, few_args a)
{
    typedef few_shape<ROWS, TILES, GATED> shape;
    size_t                                shared = shape::BYTES;
    int                                   blocks = cuda->properties.multiProcessorCount;
    a.units = 0;
    for (int p = 0; p < FEW_PARTS && a.part[p].w; p++) {
        int units = (int)td_cuda_pieces(a.part[p].n, shape::UNIT);
        a.units = GATED ? units : a.units + units;
        a.part[p].end = a.units;
    }
    a.steps = (int)td_cuda_pieces(a.k, FEW_TERMS * FEW_WARPS * shape::AT_ONCE) * shape::AT_ONCE;
    if (a.norm.in.data)
        shared += (size_t)a.m * (size_t)few_norm_row(a.k) * sizeof *a.x;
    return td_cuda_launch(cuda, dim3((unsigned)(a.units < blocks ? a.units : blocks)), shared, 1,
                          few_rows<ROWS, TILES, GATED>, a);
}

static int launch_any(td_cuda *cuda, const few_args &a)
{
    if (a.gated.data)
        return a.m <= 8 ? launch<8, 2, true>(cuda, a) : launch<MOST_ROWS, 2, true>(cuda, a);
    return a.m <= 8 ? launch<8, 1, false>(cuda, a) : launch<MOST_ROWS, 1, false>(cuda, a);
}

/* Rows x, to be multiplied by matrices with k terms. */
static few_args args_of(const td_view *x, int64_t rows, int64_t k)
{
    few_args a = {};
    a.x = (const uint16_t *)x->data;
    a.x_row = row_distance(x);
    a.m = (int)rows;
    a.k = (int)k;
    a.fixed = true;
    return a;
}

/* Whether output k of a call is to be stored. */
static bool is_read(const td_call *call, int k) { return !(call->inner >> k & 1); }

static void add_part(few_args *a, int p, const td_call *call)
{
    const td_view *b = &call->in[1], *acc = td_cuda_in(call, 2), *y = &call->out[0];
    few_part      *part = &a->part[p];
    part->w = (const uint16_t *)b->data;
    part->n = (int)b->dim[b->rank - 1];
    part->column = b->stride[b->rank - 1];
    part->y = td_reals_of(y);
    part->acc = td_reals_of(acc);
    part->y_row = row_distance(y);
    part->acc_row = acc ? row_distance(acc) : 0;
    a->fixed = a->fixed && call->fixed >> 1 & 1;
}

bool td_cuda_accepts_few_rows(const td_call *call)
{
    const td_view *x = &call->in[0], *b = &call->in[1], *acc = td_cuda_in(call, 2),
                  *y = &call->out[0];
    const struct cudaDeviceProp *gpu = &td_cuda_of(call)->properties;
    int64_t                      rows = td_cuda_rows(y);
    return gpu->major == 9 && gpu->minor == 0 && x->dtype == TD_BF16 && b->dtype == TD_BF16 &&
           has_columns(b) && rows > 0 && rows <= MOST_ROWS && has_rows(x, rows) &&
           row_distance(x) % FEW_PIECE == 0 && b->dim[b->rank - 2] < MOST_TERMS &&
           b->dim[b->rank - 1] < MOST_TERMS && has_rows(y, rows) && (!acc || has_rows(acc, rows));
}

int td_cuda_few_rows(const td_call *call)
{
    const td_view *x = &call->in[0], *b = &call->in[1];
    few_args       a;

    /* addresses are known only now; strides were checked when the plan was made */
    if (!td_is_aligned(x) || !td_is_aligned(b))
        return td_cuda_matmul(call);
    a = args_of(x, td_cuda_rows(&call->out[0]), b->dim[b->rank - 2]);
    add_part(&a, 0, call);
    return launch_any(td_cuda_of(call), a);
}

/* ---- several calls --------------------------------------------------------------------------- */

/* Which of some calls are what: perhaps a norm, some products, perhaps a gated linear unit. */
typedef struct group {
    bool norm, gated;
    int  parts;
} group;

static bool is(const td_kernel *kernel, int (*run)(const td_call *)) { return kernel->run == run; }

/* A norm that the product's kernel computes as norm.cu does. */
static bool can_normalize(const td_call *call)
{
    const td_view *x = &call->in[0], *y = td_cuda_out(call, 0);
    int64_t        rows = td_cuda_rows(x), width = td_cuda_last(x);
    int64_t        most = width <= FEW_NORM_MIDDLE ? FEW_NORM_ROWS : FEW_NORM_LONG_ROWS;
    return y && !td_cuda_out(call, 1) && y->dtype == TD_BF16 && rows <= most &&
           width >= FEW_NORM_LEAST && width <= FEW_NORM_MOST && td_has_vector_steps(x) &&
           td_has_vector_steps(y) && has_rows(x, rows) && has_rows(y, rows);
}

/* The same elements in the same rows; those of y are contiguous. */
static bool same_rows(const td_view *x, const td_view *y)
{
    return x->data == y->data && has_rows(x, td_cuda_rows(y)) &&
           td_cuda_last(x) == td_cuda_last(y) && row_distance(x) == row_distance(y);
}

/* Whether call k is f(product of call k - 2) * (product of call k - 1). */
static bool is_gated(const td_call *const *calls, int k)
{
    const td_call *call = calls[k], *gate = calls[k - 2], *up = calls[k - 1];
    const td_view *y = td_cuda_out(call, 0);
    int64_t        rows = td_cuda_rows(&gate->out[0]);
    return y && td_cuda_is_apart(calls, k, 3) && same_rows(&call->in[0], &gate->out[0]) &&
           same_rows(&call->in[1], &up->out[0]) &&
           td_cuda_last(&gate->out[0]) == td_cuda_last(&up->out[0]) && has_rows(y, rows);
}

static group group_of(const td_call *const *calls, const td_kernel *const *kernels, int count)
{
    group          g = {};
    const td_view *x;
    g.norm = is(kernels[0], td_cuda_rms_norm) && can_normalize(calls[0]);
    x = g.norm ? &calls[0]->out[0] : &calls[0]->in[0];
    for (int k = g.norm; k < count && g.parts < FEW_PARTS; k++, g.parts++)
        if (!is(kernels[k], td_cuda_few_rows) || !same_rows(&calls[k]->in[0], x) ||
            td_cuda_in(calls[k], 2) || !td_cuda_is_apart(calls, k, g.norm))
            break;
    if (g.parts == 2 && g.norm + 2 < count && is(kernels[g.norm + 2], td_cuda_glu))
        g.gated = is_gated(calls, g.norm + 2);
    return g;
}

static int size_of(const group &g) { return g.parts ? g.norm + g.parts + g.gated : 0; }

int td_cuda_takes_products(const td_call *const *calls, const td_kernel *const *kernels, int count)
{
    int n = size_of(group_of(calls, kernels, count));
    return n > 1 ? n : 0;
}

static few_norm norm_of(const td_call *call)
{
    few_norm n = {};
    n.in = td_reals_of(&call->in[0]);
    n.weight = td_reals_of(td_cuda_in(call, 1));
    n.out = td_reals_of(&call->out[0]);
    if (!is_read(call, 0))
        n.out.data = NULL;
    n.in_row = row_distance(&call->in[0]);
    n.out_row = row_distance(&call->out[0]);
    n.eps = (float)call->attrs->f[0];
    return n;
}

static bool are_aligned(const td_call *const *calls, const group &g)
{
    bool aligned = td_is_aligned(&calls[g.norm]->in[0]);
    if (g.norm)
        aligned = aligned && td_is_aligned(&calls[0]->in[0]);
    for (int p = 0; p < g.parts; p++)
        aligned = aligned && td_is_aligned(&calls[g.norm + p]->in[1]);
    return aligned;
}

int td_cuda_products(const td_call *const *calls, const td_kernel *const *kernels, int count)
{
    group          g = group_of(calls, kernels, count);
    const td_call *first = calls[g.norm], *last = calls[count - 1];
    const td_view *b = &first->in[1];
    few_args       a;

    /* addresses are known only now */
    if (size_of(g) != count || !are_aligned(calls, g))
        return td_cuda_one_by_one(calls, kernels, count);
    a = args_of(&first->in[0], td_cuda_rows(&first->out[0]), b->dim[b->rank - 2]);
    for (int p = 0; p < g.parts; p++)
        add_part(&a, p, calls[g.norm + p]);
    if (g.norm)
        a.norm = norm_of(calls[0]);
    if (g.gated) {
        for (int p = 0; p < 2; p++)
            a.part[p].y.data = is_read(calls[g.norm + p], 0) ? a.part[p].y.data : NULL;
        a.gated = td_reals_of(&last->out[0]);
        a.gated_row = row_distance(&last->out[0]);
        a.activation = (int)last->attrs->i[0];
    }
    return launch_any(td_cuda_of(first), a);
}

#else

bool td_cuda_accepts_few_rows(const td_call *call) { return false; }
int  td_cuda_few_rows(const td_call *call) { return TD_EUNSUPPORTED; }
int  td_cuda_takes_products(const td_call *const *calls, const td_kernel *const *kernels, int count)
{
    return 0;
}
int td_cuda_products(const td_call *const *calls, const td_kernel *const *kernels, int count)
{
    return TD_EUNSUPPORTED;
}

#endif
