/* movement.c - full, iota, copy, pad, concat, append: moving words of four bytes from view to view.
 * They are reals or integers; only `full` and `iota` need to know. */
#include "cpu.h"
#include "kernels.h"

#include "tandem/generation.h"

static void copy_leaf(void *const *out, const void *const *in, int64_t n, const td_attrs *a)
{
    memmove(out[0], in[0], (size_t)n * 4);
}

TD_CPU_CLONES static void fill_real(void *const *out, const void *const *in, int64_t n,
                                    const td_attrs *a)
{
    float value = (float)a->f[0];
    for (int64_t i = 0; i < n; i++)
        ((float *)out[0])[i] = value;
}

TD_CPU_CLONES static void fill_i32(void *const *out, const void *const *in, int64_t n,
                                   const td_attrs *a)
{
    int32_t value = (int32_t)a->f[0];
    for (int64_t i = 0; i < n; i++)
        ((int32_t *)out[0])[i] = value;
}

static void zero_leaf(void *const *out, const void *const *in, int64_t n, const td_attrs *a)
{
    memset(out[0], 0, (size_t)n * 4);
}

int td_cpu_full(const td_call *call)
{
    return td_cpu_map(call, 0, call->out[0].dtype == TD_I32 ? fill_i32 : fill_real);
}

int td_cpu_iota(const td_call *call)
{
    const td_view *out = &call->out[0];
    int64_t        n = td_view_count(out);

    for (int64_t i = 0; i < n; i++) {
        if (out->dtype == TD_I32)
            ((int32_t *)out->data)[i] = (int32_t)i;
        else
            ((float *)out->data)[i] = (float)i;
    }
    return 0;
}

/* ---- copy ------------------------------------------------------------------------------------ */

/* A tile of 16 x 16 words is one cache line by 16 on both sides; a strip of 64 rows is a task. */
enum { TILE = 16, STRIP = 64 };

/* A transposing copy: out[b][i][j] = in[b][j][i]. The plain loop would read a new cache line for
 * every word that it writes. */
typedef struct turn {
    const uint32_t *in;
    uint32_t       *out;
    td_view         batch_in, batch_out;
    int64_t         m, n, in_m, in_n, out_m, out_n, strips;
} turn;

static void turn_tile(const turn *t, const uint32_t *in, uint32_t *out, int64_t i0, int64_t i1,
                      int64_t j0, int64_t j1)
{
    for (int64_t i = i0; i < i1; i++)
        for (int64_t j = j0; j < j1; j++)
            out[i * t->out_m + j * t->out_n] = in[i * t->in_m + j * t->in_n];
}

/* A strip of rows, tile by tile. */
static void turn_item(void *arg, int64_t item, int thread)
{
    const turn     *t = arg;
    int64_t         strip = item % t->strips, b = item / t->strips;
    const uint32_t *in = t->in + td_view_offset(&t->batch_in, b);
    uint32_t       *out = t->out + td_view_offset(&t->batch_out, b);
    int64_t         end = td_cpu_min(t->m, (strip + 1) * STRIP);

    for (int64_t i = strip * STRIP; i < end; i += TILE)
        for (int64_t j = 0; j < t->n; j += TILE)
            turn_tile(t, in, out, i, td_cpu_min(i + TILE, end), j, td_cpu_min(j + TILE, t->n));
}

static void remove_axis(td_view *v, int axis)
{
    for (int a = axis; a + 1 < v->rank && a + 1 < TD_MAX_RANK; a++) {
        v->dim[a] = v->dim[a + 1];
        v->stride[a] = v->stride[a + 1];
    }
    v->rank--;
}

/* The axis along which the input is contiguous, if it is not the last; -1 otherwise, or if it or
 * the last is too short to be worth tiles. */
static int turned_axis(const td_view *in, const td_view *out)
{
    int last = out->rank - 1;
    if (in->rank != out->rank || last < 1 || out->stride[last] != 1 || in->stride[last] <= 1 ||
        in->dim[last] < 4)
        return -1;
    for (int a = 0; a < last; a++)
        if (in->stride[a] == 1 && in->dim[a] == out->dim[a] && in->dim[a] >= 4)
            return in->dim[last] == out->dim[last] ? a : -1;
    return -1;
}

/* out = in, which may be broadcast. By tiles if the two disagree about which axis is contiguous. */
int td_cpu_copy(const td_call *call)
{
    const td_view *in = &call->in[0], *out = &call->out[0];
    int            axis = turned_axis(in, out), last = out->rank - 1;
    turn           t = { .in = in->data, .out = out->data, .batch_in = *in, .batch_out = *out };

    if (axis < 0 || in->dtype == TD_BF16 || out->dtype == TD_BF16)
        return td_cpu_map(call, 1, copy_leaf);
    t.m = out->dim[axis];
    t.in_m = 1;
    t.out_m = out->stride[axis];
    t.n = out->dim[last];
    t.in_n = in->stride[last];
    t.out_n = 1;
    /* the other axes are the batch; the later one is removed first, so that `axis` stays valid */
    remove_axis(&t.batch_in, last);
    remove_axis(&t.batch_out, last);
    remove_axis(&t.batch_in, axis);
    remove_axis(&t.batch_out, axis);
    /* a batch axis of the input may be broadcast */
    for (int a = 0; a < t.batch_in.rank; a++) {
        if (t.batch_in.dim[a] == 1)
            t.batch_in.stride[a] = 0;
        t.batch_in.dim[a] = t.batch_out.dim[a];
    }
    t.strips = td_cpu_ceil(t.m, STRIP);
    td_parallel(call->services, td_view_count(&t.batch_out) * t.strips, turn_item, &t);
    return 0;
}

/* ---- pad and concat: a copy into, or zeros over, a part of the output ------------------------ */

/* Copy input `input`, or zeros if it is -1, to the output's range [start, start + length) of
 * `axis`. */
static int into_part(const td_call *call, int input, int axis, int64_t start, int64_t length)
{
    td_call part = *call;

    part.n_out = 1;
    part.out[0].dim[axis] = length;
    part.out[0].data = (char *)part.out[0].data +
                       td_view_size(&part.out[0]) * start * part.out[0].stride[axis];
    if (input < 0)
        return td_cpu_map(&part, 0, zero_leaf);
    part.in[0] = call->in[input];
    return td_cpu_map(&part, 1, copy_leaf);
}

/* Zeros before, the input, zeros after; i: the axis and both numbers of zeros. */
int td_cpu_pad(const td_call *call)
{
    int     axis = (int)call->attrs->i[0];
    int64_t before = call->attrs->i[1], after = call->attrs->i[2], length = call->in[0].dim[axis];

    into_part(call, -1, axis, 0, before);
    into_part(call, 0, axis, before, length);
    return into_part(call, -1, axis, before + length, after);
}

int td_cpu_concat(const td_call *call)
{
    int     axis = (int)call->attrs->i[0];
    int64_t start = 0;

    for (int i = 0; i < call->n_in; i++) {
        into_part(call, i, axis, start, call->in[i].dim[axis]);
        start += call->in[i].dim[axis];
    }
    return 0;
}

/* ---- append ---------------------------------------------------------------------------------- */

/* Where the new tokens of a row go. */
typedef struct tail {
    int64_t length, count;
} tail;

static tail tail_of(const td_call *call, int64_t row)
{
    const td_view *lengths = &call->in[TD_APPEND_LENGTHS], *counts = &call->in[TD_APPEND_COUNTS];
    return (tail){ ((const int32_t *)lengths->data)[row * lengths->stride[0]],
                   ((const int32_t *)counts->data)[row * counts->stride[0]] };
}

/* A ring (i[1]) accepts any number of tokens over time, but no pass may overwrite its own
 * tokens. */
static bool fits(const td_call *call, int64_t row)
{
    int     axis = (int)call->attrs->i[0];
    int64_t slots = call->out[0].dim[axis];
    tail    t = tail_of(call, row);
    return t.length >= 0 && t.count >= 0 && t.count <= call->in[TD_APPEND_NEW].dim[axis] &&
           t.count <= slots && (call->attrs->i[1] || t.length + t.count <= slots);
}

/* Copy tokens [token, token + n) of a row to the slots from `slot` on. */
static void append_run(const td_call *call, int64_t row, int64_t token, int64_t slot, int64_t n)
{
    td_call  part = *call;
    td_view *from = &part.in[0], *to = &part.out[0];
    int      axis = (int)call->attrs->i[0];

    *from = call->in[TD_APPEND_NEW];
    from->data = (char *)from->data +
                 td_view_size(from) * (row * from->stride[0] + token * from->stride[axis]);
    to->data = (char *)to->data +
               td_view_size(to) * (row * to->stride[0] + slot * to->stride[axis]);
    from->dim[0] = to->dim[0] = 1;
    from->dim[axis] = to->dim[axis] = n;
    if (n)
        td_cpu_map(&part, 1, copy_leaf);
}

/* Nothing is written unless all rows fit. */
int td_cpu_append(const td_call *call)
{
    int64_t rows = call->out[0].dim[0], slots = call->out[0].dim[call->attrs->i[0]];

    for (int64_t row = 0; row < rows; row++)
        if (!fits(call, row))
            return TD_ERANGE;
    for (int64_t row = 0; row < rows; row++) {
        tail    t = tail_of(call, row);
        int64_t slot = t.length % slots, whole = td_cpu_min(t.count, slots - slot);
        append_run(call, row, 0, slot, whole);
        append_run(call, row, whole, 0, t.count - whole); /* round the end of a ring */
    }
    return 0;
}
