/* matmul.c - [.., M, K] x [.., K, N] (+ a summand), any strides.
 *
 * BLAS takes a matrix with unit stride along either axis, so transposed views cost nothing. Other
 * views are packed first. */
#include "cpu.h"
#include "kernels.h"

typedef struct matmul_job {
    const td_cpu *cpu;
    td_cpu_way    way;
    td_cpu_matrix a, b;
    td_view       a_at, b_at; /* the batch dims alone; stride 0 where an operand is broadcast */
    float        *c;
    uint16_t     *rounded; /* where c goes in bf16 when it is done; NULL: it is the output */
    td_view       c_at;
    int64_t       m, n, k, ldc, tile_m, tile_n;
    int64_t       across, tiles; /* tiles in a row of tiles, and in a product */
    int64_t       batch;         /* products */
    float         beta;
} matmul_job;

/* Can the last two dims be a matrix with contiguous rows? The stride of a dim of 1 does not matter,
 * and rows must not overlap. */
static bool is_plain(const td_view *v)
{
    int64_t rows = v->dim[v->rank - 2], columns = v->dim[v->rank - 1];
    int64_t down = v->stride[v->rank - 2], across = v->stride[v->rank - 1];
    return (columns == 1 || across == 1) && (rows == 1 || down >= columns);
}

/* The same for contiguous columns. */
static bool is_turned(const td_view *v)
{
    int64_t rows = v->dim[v->rank - 2], columns = v->dim[v->rank - 1];
    int64_t down = v->stride[v->rank - 2], across = v->stride[v->rank - 1];
    return (rows == 1 || down == 1) && (columns == 1 || across >= rows);
}

static bool has_unit_stride(const td_view *v) { return is_plain(v) || is_turned(v); }

static td_cpu_matrix matrix_of(const td_view *v)
{
    int64_t rows = v->dim[v->rank - 2], columns = v->dim[v->rank - 1];
    int64_t down = v->stride[v->rank - 2], across = v->stride[v->rank - 1];

    bool narrow = v->dtype == TD_BF16;

    if (is_plain(v))
        return (
            td_cpu_matrix){ .data = v->data, .ld = rows == 1 ? columns : down, .narrow = narrow };
    return (td_cpu_matrix){
        .data = v->data, .ld = columns == 1 ? rows : across, .trans = true, .narrow = narrow
    };
}

/* v's dims, row-major at `data`. */
static td_view dense(const td_view *v, void *data)
{
    td_view d = *v;
    int64_t stride = 1;
    for (int a = v->rank - 1; a >= 0; a--) {
        d.stride[a] = stride;
        stride *= v->dim[a];
    }
    d.data = data;
    return d;
}

/* The leading dims of an operand, broadcast to the output's: stride 0 where it is repeated. */
static td_view batch_of(const td_view *v, const td_view *out)
{
    td_view b = { .rank = out->rank - 2 };
    for (int a = 0; a < b.rank; a++) {
        int from = a - (out->rank - v->rank);
        b.dim[a] = out->dim[a];
        b.stride[a] = from < 0 || v->dim[from] == 1 ? 0 : v->stride[from];
    }
    return b;
}

/* [B, M, K] x [K, N] is one product with B M rows, if the rows of a and c continue evenly from one
 * matrix to the next. Fold the last batch dim into M as long as that holds: a large product uses
 * the cache better than many small ones. */
static void fold_batch(matmul_job *j)
{
    while (j->a_at.rank > 0) {
        int     last = j->a_at.rank - 1;
        int64_t d = j->a_at.dim[last];
        /* a turned matrix has no rows to continue; b must be the same in each */
        bool    even = !j->a.trans && j->a_at.stride[last] == j->m * j->a.ld &&
                    j->c_at.stride[last] == j->m * j->ldc;
        if (d != 1 && (j->b_at.stride[last] || !even))
            return;
        j->m *= d;
        j->batch /= d;
        j->a_at.rank--;
        j->b_at.rank--;
        j->c_at.rank--;
    }
}

/* A tile of the output in bf16, while its sums are in the cache. */
static void round_tile(const matmul_job *j, int64_t at, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        td_cpu_narrow(j->rounded + at + i * j->ldc, 1, j->c + at + i * j->ldc, columns);
}

/* One tile of one product of the batch. */
static void matmul_tile(void *arg, int64_t item, int thread)
{
    const matmul_job *j = arg;
    int64_t           batch = item / j->tiles, tile = item % j->tiles;
    int64_t           row = tile / j->across * j->tile_m, column = tile % j->across * j->tile_n;
    int64_t           rows = td_cpu_min(j->tile_m, j->m - row);
    int64_t           columns = td_cpu_min(j->tile_n, j->n - column);
    int64_t           at = td_view_offset(&j->c_at, batch) + row * j->ldc + column;
    td_cpu_matrix     a = td_cpu_part(j->a, row, 0), b = td_cpu_part(j->b, 0, column);

    a = td_cpu_from(a, td_view_offset(&j->a_at, batch));
    b = td_cpu_from(b, td_view_offset(&j->b_at, batch));
    td_cpu_sgemm(j->cpu, thread, j->way, a, b, rows, columns, j->k, 1.0f, j->beta, j->c + at,
                 j->ldc);
    if (j->rounded)
        round_tile(j, at, rows, columns);
}

static int copy_to(const td_call *call, const td_view *from, const td_view *to)
{
    td_call copy = *call;
    copy.in[0] = *from;
    copy.out[0] = *to;
    copy.n_in = copy.n_out = 1;
    return td_cpu_copy(&copy);
}

static size_t bytes_of(const td_view *v)
{
    return td_cpu_align((size_t)(td_view_count(v) * td_view_size(v)));
}

/* The operand in a form that BLAS accepts: as it is, or packed into the workspace. */
static td_view usable(const td_call *call, int input, char **workspace)
{
    const td_view *v = &call->in[input];
    td_view        packed;

    if (has_unit_stride(v))
        return *v;
    packed = dense(v, *workspace);
    *workspace += bytes_of(v);
    copy_to(call, v, &packed);
    return packed;
}

size_t td_cpu_matmul_workspace(const td_call *call)
{
    size_t bytes = 0;
    for (int i = 0; i < 2; i++)
        if (!has_unit_stride(&call->in[i]))
            bytes += bytes_of(&call->in[i]);
    /* sums in float of an output in bf16 */
    if (call->out[0].dtype == TD_BF16)
        bytes += (size_t)td_view_count(&call->out[0]) * sizeof(float);
    return bytes;
}

/* Shapes of the products, after folding, and their tiles. */
static void lay_out(matmul_job *j, const td_services *services, const td_view *a, const td_view *b,
                    const td_view *out)
{
    j->a_at = batch_of(a, out);
    j->b_at = batch_of(b, out);
    j->c_at = batch_of(out, out);
    j->m = out->dim[out->rank - 2];
    j->n = out->dim[out->rank - 1];
    j->k = a->dim[a->rank - 1];
    j->ldc = j->n;
    j->batch = td_view_count(out) / (j->m * j->n);
    /* before the way is chosen: it depends on the number of rows */
    fold_batch(j);
    j->way = td_cpu_sgemm_way(j->a, j->b, j->m, j->n, j->k);
    td_cpu_gemm_tiles(services, j->way, j->b.packed, j->m, j->n, j->k, &j->tile_m, &j->tile_n);
    j->across = td_cpu_ceil(j->n, j->tile_n);
    j->tiles = td_cpu_ceil(j->m, j->tile_m) * j->across;
}

/* A right operand that all products of the call share can be packed. */
size_t td_cpu_matmul_prepared(const td_call *call, int in)
{
    const td_view *b = &call->in[1];
    int64_t        k = b->dim[b->rank - 2], n = b->dim[b->rank - 1];
    if (in != 1 || td_view_count(b) != k * n || !has_unit_stride(b))
        return 0;
    return td_cpu_packed_count(k, n) * (size_t)td_view_size(b);
}

int td_cpu_matmul_prepare(const td_call *call, int in, void *memory)
{
    const td_view *b = &call->in[in];
    td_cpu_pack(call->backend, matrix_of(b), b->dim[b->rank - 2], b->dim[b->rank - 1], memory);
    return 0;
}

/* Without AVX2 bf16 would have to be cast for OpenBLAS, which the planner does as well. */
bool td_cpu_accepts_bf16_product(const td_call *call) { return td_cpu_has_avx2(); }

int td_cpu_matmul(const td_call *call)
{
    const td_view *out = &call->out[0];
    const td_view *sum = call->n_in > 2 && call->in[2].data ? &call->in[2] : NULL;
    char          *workspace = call->workspace;
    td_view        a = usable(call, 0, &workspace), b = usable(call, 1, &workspace);
    matmul_job     j = { .cpu = call->backend,
                         .a = matrix_of(&a),
                         .b = call->prepared[1] ? td_cpu_packed(call->prepared[1], b.dim[b.rank - 1],
                                                                b.dtype == TD_BF16)
                                                : matrix_of(&b),
                         .c = out->data,
                         .beta = sum ? 1 : 0 };

    td_view wide = *out; /* where sums are computed */

    if (td_view_count(out) == 0)
        return 0;
    if (out->dtype == TD_BF16) {
        wide.dtype = TD_F32;
        wide.data = j.c = (float *)(void *)workspace;
        j.rounded = out->data;
    }
    /* products are added to the output: fill it with the summand, unless that is the output
     * itself */
    if (sum && sum->data != wide.data)
        copy_to(call, sum, &wide);
    lay_out(&j, call->services, &a, &b, out);
    td_parallel(call->services, j.batch * j.tiles, matmul_tile, &j);
    return 0;
}
