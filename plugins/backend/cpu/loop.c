/* loop.c - elementwise loops over any strides, and rows of views.
 *
 * A kernel sees contiguous runs only. The loop over them is planned once per call: dims of 1 are
 * dropped, dims are ordered by the strides of the first output, and neighbours without a gap in
 * every operand are merged. Operands that are all dense become a single run. */
#include <assert.h>

#include "cpu.h"

enum {
    OPERANDS = 8,    /* most operands of a kernel */
    BLOCK = 256,     /* elements of a run that goes through buffers */
    PIECE = 1 << 15, /* elements of a task */
};

/* All operands, outputs first, over the dims of the outputs. */
typedef struct loop {
    td_cpu_leaf    *leaf;
    const td_attrs *attrs;
    int             n_out, operands, rank;
    char           *data[OPERANDS];
    bool            narrow[OPERANDS]; /* bf16, which the leaf sees as floats in a buffer */
    int64_t         dim[TD_MAX_RANK], stride[TD_MAX_RANK][OPERANDS];
    int64_t inner, inner_pieces; /* the innermost dim, and how many tasks share a row of it */
    int64_t rows, rows_per_item;
} loop;

/* The stride of an axis counted from the right; 0 where the view is broadcast along it. */
static int64_t stride_at(const td_view *v, int from_right)
{
    int axis = v->rank - 1 - from_right;
    return axis < 0 || v->dim[axis] == 1 ? 0 : v->stride[axis];
}

/* Insert a dim before those with a smaller stride in the first output, which ends up innermost. */
static void insert_dim(loop *l, int64_t dim, const int64_t *stride)
{
    int at = l->rank++;
    for (; at > 0 && l->stride[at - 1][0] < stride[0]; at--) {
        l->dim[at] = l->dim[at - 1];
        memcpy(l->stride[at], l->stride[at - 1], sizeof l->stride[at]);
    }
    l->dim[at] = dim;
    memcpy(l->stride[at], stride, sizeof l->stride[at]);
}

/* Does a step of `outer` span exactly all of `inner`, in every operand? */
static bool follows(const loop *l, int outer, int inner)
{
    for (int o = 0; o < l->operands; o++)
        if (l->stride[outer][o] != l->stride[inner][o] * l->dim[inner])
            return false;
    return true;
}

/* Dims are sorted by now; the merged one takes the inner one's strides. */
static void merge_dims(loop *l)
{
    int last = 0;
    for (int a = 1; a < l->rank; a++) {
        if (follows(l, last, a)) {
            l->dim[last] *= l->dim[a];
        } else {
            last++;
            l->dim[last] = l->dim[a];
        }
        memcpy(l->stride[last], l->stride[a], sizeof l->stride[a]);
    }
    l->rank = last + 1;
}

static void plan(loop *l, const td_call *call, int n_in)
{
    const td_view *out = &call->out[0], *view[OPERANDS];

    assert(call->n_out + n_in <= OPERANDS);
    l->n_out = call->n_out;
    l->operands = call->n_out + n_in;
    l->rank = 0;
    for (int o = 0; o < l->operands; o++) {
        view[o] = o < l->n_out ? &call->out[o] : &call->in[o - l->n_out];
        l->data[o] = view[o]->data;
        l->narrow[o] = view[o]->dtype == TD_BF16;
    }
    for (int a = 0; a < out->rank; a++) {
        int64_t stride[OPERANDS] = { 0 };
        for (int o = 0; o < l->operands; o++)
            stride[o] = stride_at(view[o], out->rank - 1 - a);
        if (out->dim[a] != 1)
            insert_dim(l, out->dim[a], stride);
    }
    /* a scalar is a row of one element */
    if (!l->rank) {
        int64_t one[OPERANDS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
        insert_dim(l, 1, one);
    }
    merge_dims(l);
    l->inner = l->dim[l->rank - 1];
    l->rows = 1;
    for (int a = 0; a + 1 < l->rank; a++)
        l->rows *= l->dim[a];
}

/* Eight bytes in, sixteen out, when both are contiguous: the compiler does the rest. */
TD_CPU_CLONES static void widen(float *to, const uint16_t *from, int64_t step, int64_t n)
{
    uint32_t *bits = (uint32_t *)to;
    if (step == 1)
        for (int64_t i = 0; i < n; i++)
            bits[i] = (uint32_t)from[i] << 16;
    else
        for (int64_t i = 0; i < n; i++)
            bits[i] = (uint32_t)from[i * step] << 16;
}

TD_CPU_CLONES static void narrow(uint16_t *to, int64_t step, const float *from, int64_t n)
{
    if (step == 1)
        for (int64_t i = 0; i < n; i++)
            to[i] = td_cpu_rounded(from[i]);
    else
        for (int64_t i = 0; i < n; i++)
            to[i * step] = td_cpu_rounded(from[i]);
}

/* Not functions with clones themselves, which would be exported. */
void td_cpu_widen(float *to, const uint16_t *from, int64_t step, int64_t n)
{
    widen(to, from, step, n);
}

void td_cpu_narrow(uint16_t *to, int64_t step, const float *from, int64_t n)
{
    narrow(to, step, from, n);
}

static void gather(uint32_t *to, const char *from, bool narrow, int64_t stride, int64_t n)
{
    const uint32_t *p = (const uint32_t *)(const void *)from;
    if (narrow)
        td_cpu_widen((float *)to, (const uint16_t *)(const void *)from, stride, n);
    for (int64_t i = 0; !narrow && i < n; i++)
        to[i] = p[i * stride];
}

static void scatter(char *to, const uint32_t *from, bool narrow, int64_t stride, int64_t n)
{
    uint32_t *p = (uint32_t *)(void *)to;
    if (narrow)
        td_cpu_narrow((uint16_t *)(void *)to, stride, (const float *)from, n);
    for (int64_t i = 0; !narrow && i < n; i++)
        p[i * stride] = from[i];
}

/* Call the leaf once, with buffers for operands that are not contiguous. The buffer of an operand
 * that is constant along the row is filled only when a row begins (`fill`). */
static void run_block(const loop *l, char *const *at, int64_t n, uint32_t buffer[][BLOCK],
                      bool fill)
{
    const int64_t *stride = l->stride[l->rank - 1];
    void          *out[OPERANDS];
    const void    *in[OPERANDS];

    /* an output without data gets a buffer too, which is then dropped */
    for (int o = 0; o < l->operands; o++) {
        bool direct = stride[o] == 1 && l->data[o] && !l->narrow[o];
        if (o < l->n_out)
            out[o] = direct ? at[o] : (char *)buffer[o];
        else
            in[o - l->n_out] = direct ? at[o] : (char *)buffer[o];
        if (o >= l->n_out && !direct && (fill || stride[o]))
            gather(buffer[o], at[o], l->narrow[o], stride[o],
                   stride[o] ? n : td_cpu_min(l->inner, BLOCK));
    }
    l->leaf(out, in, n, l->attrs);
    for (int o = 0; o < l->n_out; o++)
        if (l->data[o] && (stride[o] != 1 || l->narrow[o]))
            scatter(at[o], buffer[o], l->narrow[o], stride[o], n);
}

/* Are rows contiguous in every operand, so that no buffer bounds a run? */
static bool contiguous(const loop *l)
{
    for (int o = 0; o < l->operands; o++)
        if (l->stride[l->rank - 1][o] != 1 || !l->data[o] || l->narrow[o])
            return false;
    return true;
}

/* Elements start .. end - 1 of a row. */
static void run_row(const loop *l, int64_t row, int64_t start, int64_t end,
                    uint32_t buffer[][BLOCK])
{
    const int64_t *inner = l->stride[l->rank - 1];
    int64_t        offset[OPERANDS] = { 0 }, step = contiguous(l) ? PIECE : BLOCK;

    /* divisions once per row, not per element */
    for (int a = l->rank - 2; a >= 0; a--) {
        int64_t i = row % l->dim[a];
        row /= l->dim[a];
        for (int o = 0; o < l->operands; o++)
            offset[o] += i * l->stride[a][o];
    }
    for (int64_t i = start; i < end; i += step) {
        char *at[OPERANDS];
        for (int o = 0; o < l->operands; o++)
            at[o] = l->data[o] ? l->data[o] + (l->narrow[o] ? 2 : 4) * (offset[o] + i * inner[o])
                               : NULL;
        run_block(l, at, td_cpu_min(step, end - i), buffer, i == start);
    }
}

/* A task: several short rows, or a piece of a long one. */
static void run_item(void *arg, int64_t item, int thread)
{
    const loop *l = arg;
    uint32_t    buffer[OPERANDS][BLOCK];
    int64_t     piece = item % l->inner_pieces, first = item / l->inner_pieces * l->rows_per_item;
    int64_t     start = piece * PIECE, end = td_cpu_min(l->inner, start + PIECE);

    for (int64_t row = first; row < td_cpu_min(l->rows, first + l->rows_per_item); row++)
        run_row(l, row, start, end, buffer);
}

/* Tasks are about a PIECE of elements each, by shape alone. */
int td_cpu_map(const td_call *call, int n_in, td_cpu_leaf *leaf)
{
    loop l = { .leaf = leaf, .attrs = call->attrs };

    plan(&l, call, n_in);
    if (l.rows * l.inner == 0)
        return 0;
    l.inner_pieces = td_cpu_ceil(l.inner, PIECE);
    l.rows_per_item = td_cpu_max(1, PIECE / l.inner);
    td_parallel(call->services, l.inner_pieces * td_cpu_ceil(l.rows, l.rows_per_item), run_item,
                &l);
    return 0;
}

td_cpu_rows td_cpu_rows_of(const td_view *v)
{
    td_cpu_rows r = { .data = v->data, .narrow = v->dtype == TD_BF16 };

    /* merge a dim into the previous one if there is no gap */
    for (int a = 0; a < v->rank - 1; a++) {
        if (v->dim[a] == 1)
            continue;
        if (r.rank && r.stride[r.rank - 1] == v->stride[a] * v->dim[a]) {
            r.dim[r.rank - 1] *= v->dim[a];
            r.stride[r.rank - 1] = v->stride[a];
        } else {
            r.dim[r.rank] = v->dim[a];
            r.stride[r.rank++] = v->stride[a];
        }
    }
    if (!r.rank) {
        r.dim[0] = 1;
        r.stride[0] = 0;
        r.rank = 1;
    }
    return r;
}
