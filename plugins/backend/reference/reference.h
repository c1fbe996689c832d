/* reference.h - how the kernels of the backend 'reference' reach elements: by row-major number or
 * by index, at any strides.
 *
 * These kernels define what every other backend must compute. Speed does not matter here; being
 * obviously correct does. So they are written like the formulas, one element after another,
 * without blocks, threads or shortcuts. Integers pass through double, which holds all of them. */
#ifndef TD_REFERENCE_H
#define TD_REFERENCE_H

#include <math.h>
#include <string.h>

#include "tandem/bf16.h"
#include "tandem/kind/kernels.h"
#include "tandem/ops.h"

/* Input k, or NULL if it is absent. */
static inline const td_view *td_ref_in(const td_call *call, int k)
{
    return k < call->n_in && call->in[k].data ? &call->in[k] : NULL;
}

/* Output k, or NULL if it is not wanted. */
static inline const td_view *td_ref_out(const td_call *call, int k)
{
    return k < call->n_out && call->out[k].data ? &call->out[k] : NULL;
}

static inline int64_t td_ref_count(const td_view *v)
{
    int64_t n = 1;
    for (int a = 0; a < v->rank; a++)
        n *= v->dim[a];
    return n;
}

/* The length of a row. */
static inline int64_t td_ref_last(const td_view *v) { return v->rank ? v->dim[v->rank - 1] : 1; }

/* Element n in row-major order, as one index per axis. */
static inline void td_ref_unravel(const td_view *v, int64_t n, int64_t *index)
{
    for (int a = v->rank - 1; a >= 0; a--) {
        index[a] = n % v->dim[a];
        n /= v->dim[a];
    }
}

/* The offset in v of `index`, which has `rank` axes. v may broadcast: its axes are aligned at the
 * right, and those of length 1 are repeated. */
static inline int64_t td_ref_offset(const td_view *v, const int64_t *index, int rank)
{
    int64_t offset = 0;
    for (int a = 0; a < v->rank; a++)
        offset += v->dim[a] == 1 ? 0 : index[rank - v->rank + a] * v->stride[a];
    return offset;
}

/* The element at `offset`, in elements of its own dtype. */
static inline double td_ref_get(const td_view *v, int64_t offset)
{
    switch (v->dtype) {
    case TD_I32:
        return ((const int32_t *)v->data)[offset];
    case TD_F32:
        return (double)((const float *)v->data)[offset];
    case TD_BF16:
        return (double)td_bf16_to_float(((const uint16_t *)v->data)[offset]);
    default:
        return ((const double *)v->data)[offset];
    }
}

/* Integers wrap around in two's complement. A sum or product is exact in double before it wraps
 * around; integers beyond 2^53 would not be exact, and become 0. */
static inline void td_ref_put(const td_view *v, int64_t offset, double x)
{
    switch (v->dtype) {
    case TD_I32:
        ((int32_t *)v->data)[offset] = x > -0x1p53 && x < 0x1p53 ? (int32_t)(uint32_t)(int64_t)x
                                                                 : 0;
        break;
    case TD_F32:
        ((float *)v->data)[offset] = (float)x;
        break;
    case TD_BF16:
        ((uint16_t *)v->data)[offset] = td_bf16_from_double(x);
        break;
    default:
        ((double *)v->data)[offset] = x;
    }
}

/* The offset of element n in row-major order. */
static inline int64_t td_ref_place(const td_view *v, int64_t n)
{
    int64_t index[TD_MAX_RANK];
    td_ref_unravel(v, n, index);
    return td_ref_offset(v, index, v->rank);
}

/* Element n in row-major order. Nearly every kernel is written in these two. */
static inline double td_ref_read(const td_view *v, int64_t n)
{
    return td_ref_get(v, td_ref_place(v, n));
}
static inline void td_ref_write(const td_view *v, int64_t n, double x)
{
    td_ref_put(v, td_ref_place(v, n), x);
}

static inline void td_ref_add_to(const td_view *v, int64_t n, double x)
{
    int64_t at = td_ref_place(v, n);
    td_ref_put(v, at, td_ref_get(v, at) + x);
}

static inline void td_ref_fill(const td_view *v, double x)
{
    for (int64_t n = 0; n < td_ref_count(v); n++)
        td_ref_write(v, n, x);
}

/* Copy, unless both are the same memory. */
static inline void td_ref_keep(const td_view *from, const td_view *to)
{
    if (!to || !from || to->data == from->data)
        return;
    for (int64_t n = 0; n < td_ref_count(to); n++)
        td_ref_write(to, n, td_ref_read(from, n));
}

/* Set `out` to the start of a sum: zeros, or an accumulator, which may be the same memory. */
static inline void td_ref_start(const td_view *accumulator, const td_view *out)
{
    if (accumulator)
        td_ref_keep(accumulator, out);
    else
        td_ref_fill(out, 0);
}

/* A scalar input, or `absent`. */
static inline double td_ref_scalar(const td_call *call, int k, double absent)
{
    const td_view *v = td_ref_in(call, k);
    return v ? td_ref_get(v, 0) : absent;
}

#endif
