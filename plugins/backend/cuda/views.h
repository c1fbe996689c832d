/* views.h - what operands of calls tell without a GPU: sizes, and which of them share memory. */
#ifndef TD_CUDA_VIEWS_H
#define TD_CUDA_VIEWS_H

#include "tandem/kind/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of an element. */
static inline int64_t td_cuda_size(const td_view *v) { return v->dtype == TD_BF16 ? 2 : 4; }

static inline int64_t td_cuda_count(const td_view *v)
{
    int64_t n = 1;
    for (int a = 0; a < v->rank; a++)
        n *= v->dim[a];
    return n;
}

/* The length of a row, and the number of rows. */
static inline int64_t td_cuda_last(const td_view *v) { return v->rank ? v->dim[v->rank - 1] : 1; }
static inline int64_t td_cuda_rows(const td_view *v)
{
    int64_t n = 1;
    for (int a = 0; a + 1 < v->rank; a++)
        n *= v->dim[a];
    return n;
}

/* The first byte and the byte after the last. */
static inline uintptr_t td_cuda_begin(const td_view *v)
{
    uintptr_t at = (uintptr_t)v->data;
    for (int a = 0; a < v->rank; a++)
        if (v->stride[a] < 0)
            at += (uintptr_t)((v->dim[a] - 1) * v->stride[a] * td_cuda_size(v));
    return at;
}

static inline uintptr_t td_cuda_end(const td_view *v)
{
    uintptr_t at = (uintptr_t)v->data + (uintptr_t)td_cuda_size(v);
    for (int a = 0; a < v->rank; a++)
        if (v->stride[a] > 0)
            at += (uintptr_t)((v->dim[a] - 1) * v->stride[a] * td_cuda_size(v));
    return at;
}

/* Whether the two overlap, each from its first byte to its last: gaps count as well. */
static inline bool td_cuda_share_memory(const td_view *x, const td_view *y)
{
    return x->data && y->data && td_cuda_count(x) > 0 && td_cuda_count(y) > 0 &&
           td_cuda_begin(x) < td_cuda_end(y) && td_cuda_begin(y) < td_cuda_end(x);
}

static inline bool td_cuda_shares_any(const td_view *list, int count, const td_view *v)
{
    for (int k = 0; k < count; k++)
        if (td_cuda_share_memory(&list[k], v))
            return true;
    return false;
}

/* Whether call k can be computed at the same time as those in front of it: they write to none of its
 * operands, and it writes to none of theirs. Bit i of `passed`: input i is the very value that one of
 * them hands on, and is not looked at. */
static inline bool td_cuda_is_apart(const td_call *const *calls, int k, unsigned passed)
{
    const td_call *c = calls[k];
    for (int j = 0; j < k; j++) {
        const td_call *before = calls[j];
        for (int i = 0; i < c->n_in; i++)
            if (!(passed >> i & 1) && td_cuda_shares_any(before->out, before->n_out, &c->in[i]))
                return false;
        for (int o = 0; o < c->n_out; o++)
            if (td_cuda_shares_any(before->out, before->n_out, &c->out[o]) ||
                td_cuda_shares_any(before->in, before->n_in, &c->out[o]))
                return false;
    }
    return true;
}

#ifdef __cplusplus
}
#endif
#endif
