/* matmul.c - [.., M, K] x [.., K, N], plus a summand that may be the output's own memory.
 *
 * Operands are both f32 or both bf16; with bf16 operands, the result and the summand may be
 * either. cuBLASLt requires these two to have the same dtype: if they differ, the sum is made in
 * f32. */
#include "state.h"
#include "kernels.h"

/* Matrix `n` of the batch dims of y; operands are aligned at the right, and broadcast. */
static int64_t batch_offset(const td_view *v, const td_view *y, int64_t n)
{
    int64_t offset = 0;
    for (int a = y->rank - 3; a >= 0; a--) {
        int own = a - (y->rank - v->rank);
        if (own >= 0 && v->dim[own] != 1)
            offset += n % y->dim[a] * v->stride[own];
        n /= y->dim[a];
    }
    return offset;
}

static td_cuda_matrix matrix_of(const td_view *v)
{
    td_cuda_matrix m = { v->data, v->stride[v->rank - 2], v->stride[v->rank - 1], 0,
                         v->dtype == TD_BF16 };
    return m;
}

/* How many matrices from the first on lie at equal distances, in all operands: cuBLASLt's strided
 * batch. Sets the distances. */
static int64_t regular(const td_view *const *operand, td_cuda_matrix *const *matrix, int operands,
                       const td_view *y, int64_t count)
{
    int64_t n = count;
    for (int k = 0; k < operands; k++) {
        int64_t step = count > 1 ? batch_offset(operand[k], y, 1) : 0, i = 2;
        while (i < n && batch_offset(operand[k], y, i) == i * step)
            i++;
        n = count > 1 ? i : 1;
        matrix[k]->batch = step;
    }
    return n;
}

static bool unit(int64_t dim, int64_t stride) { return dim <= 1 || stride == 1; }

/* One of the two axes is contiguous, and the other does not overlap. */
static bool is_matrix(const td_view *v)
{
    int64_t rows, columns, row, column;
    if (v->rank < 2)
        return false;
    rows = v->dim[v->rank - 2];
    columns = v->dim[v->rank - 1];
    row = v->stride[v->rank - 2];
    column = v->stride[v->rank - 1];
    if (unit(columns, column) && (rows <= 1 || row >= columns))
        return true;
    return unit(rows, row) && (columns <= 1 || column >= rows);
}

bool td_cuda_accepts_matmul(const td_call *call)
{
    const td_view *acc = td_cuda_in(call, 2);
    return is_matrix(&call->in[0]) && is_matrix(&call->in[1]) &&
           (!acc || (is_matrix(acc) && unit(acc->dim[acc->rank - 1], acc->stride[acc->rank - 1])));
}

/* An empty sum: the summand, or zeros. */
static int without_terms(const td_call *call)
{
    const td_view *y = &call->out[0], *acc = td_cuda_in(call, 2);
    if (!acc)
        return td_cuda_fill(td_cuda_of(call), y, 0);
    return acc->data == y->data ? 0 : td_cuda_convert(td_cuda_of(call), y, acc);
}

static void *moved(const td_view *v, const td_view *y, int64_t n)
{
    return (char *)v->data + batch_offset(v, y, n) * (v->dtype == TD_BF16 ? 2 : 4);
}

/* The distance between rows, if those of one matrix follow those of the one before; else 0. */
static int64_t row_of_all(const td_cuda_matrix *x, int64_t m)
{
    int64_t row = m == 1 ? x->batch : x->row;
    return x->column == 1 && x->batch == m * row ? row : 0;
}

/* One right operand for matrices whose rows follow each other: they can be treated as one matrix
 * with more rows, for which the library has faster algorithms. Returns how many there are. */
static int64_t fold(td_cuda_matrix *const *matrix, int operands, int64_t m, int64_t count)
{
    if (count == 1 || matrix[1]->batch)
        return 1;
    for (int k = 0; k < operands; k++)
        if (k != 1 && !row_of_all(matrix[k], m))
            return 1;
    for (int k = 0; k < operands; k++)
        if (k != 1)
            matrix[k]->row = row_of_all(matrix[k], m);
    return count;
}

/* y = a b + acc, where y and acc have one dtype. */
static int multiply(const td_call *call, const td_view *y, const td_view *acc)
{
    const td_view  *a = &call->in[0], *b = &call->in[1], *operand[] = { a, b, y, acc };
    td_cuda_matrix  ma = matrix_of(a), mb = matrix_of(b), mc = matrix_of(y), md = { 0 };
    td_cuda_matrix *matrix[] = { &ma, &mb, &mc, &md };
    int64_t m = y->dim[y->rank - 2], n = y->dim[y->rank - 1], k = a->dim[a->rank - 1], step, folded;
    int64_t count = td_cuda_count(y) / (m * n);
    int     code = 0;

    if (acc)
        md = matrix_of(acc);
    step = regular(operand, matrix, acc ? 4 : 3, y, count);
    /* pieces of equal length, so that each has the distances of the first */
    while (count % step)
        step--;
    folded = fold(matrix, acc ? 4 : 3, m, step);
    for (int64_t i = 0; i < count && !code; i += step) {
        ma.data = moved(a, y, i);
        mb.data = moved(b, y, i);
        mc.data = moved(y, y, i);
        md.data = acc ? moved(acc, y, i) : NULL;
        code = td_cuda_gemm(td_cuda_of(call), m * folded, n, k, step / folded, 1, ma, mb,
                            acc ? 1 : 0, md, mc);
    }
    return code;
}

/* Whether the sum is wider than the result. */
static bool rounds_later(const td_call *call)
{
    const td_view *acc = td_cuda_in(call, 2);
    return acc && acc->dtype == TD_F32 && call->out[0].dtype == TD_BF16;
}

size_t td_cuda_matmul_workspace(const td_call *call)
{
    return rounds_later(call) ? (size_t)td_cuda_count(&call->out[0]) * sizeof(float) : 0;
}

int td_cuda_matmul(const td_call *call)
{
    const td_view *y = &call->out[0], *acc = td_cuda_in(call, 2);
    td_view        sum = *y;
    int            code;

    if (!td_cuda_count(y))
        return 0;
    if (!call->in[0].dim[call->in[0].rank - 1])
        return without_terms(call);
    /* the product is not rounded before the summand is added */
    if (rounds_later(call)) {
        sum.data = call->workspace;
        sum.dtype = TD_F32;
        code = multiply(call, &sum, acc);
        return code ? code : td_cuda_convert(td_cuda_of(call), y, &sum);
    }
    if (!acc || acc->dtype == y->dtype)
        return multiply(call, y, acc);
    code = td_cuda_convert(td_cuda_of(call), y, acc);
    return code ? code : multiply(call, y, y);
}
