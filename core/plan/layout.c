/* layout.c - strides: which movements are views, and which layout an output gets.
 *
 * Axes with a single entry have strides too, but these address nothing: views that differ only
 * there count as the same, and as dense.
 */
#include <string.h>

#include "plan/internal.h"

td_view td_view_dense(int dtype, int rank, const int64_t *dims)
{
    td_view v = { 0 };
    int64_t stride = 1;
    v.dtype = dtype;
    v.rank = rank;
    for (int k = rank - 1; k >= 0; k--) {
        v.dim[k] = dims[k];
        v.stride[k] = stride;
        stride *= dims[k];
    }
    return v;
}

/* Row-major without gaps: a kernel may walk through it with one index. */
bool td_view_is_dense(const td_view *v)
{
    int64_t stride = 1;
    for (int k = v->rank - 1; k >= 0; k--) {
        if (v->dim[k] != 1 && v->stride[k] != stride)
            return false;
        stride *= v->dim[k];
    }
    return true;
}

bool td_view_same(const td_view *a, const td_view *b)
{
    if (a->rank != b->rank || a->dtype != b->dtype)
        return false;
    for (int k = 0; k < a->rank; k++)
        if (a->dim[k] != b->dim[k] || (a->dim[k] > 1 && a->stride[k] != b->stride[k]))
            return false;
    return true;
}

/* Match one run of old axes with the run of new axes that it fills, leftwards from axes *a and
 * *b, which end up to the left of their runs. Each of the old axes must continue the one to its
 * right: only then is there a stride for every new axis. */
static bool reshape_run(const td_view *v, const td_tensor *to, int *a, int *b, td_view *out)
{
    int64_t old_size = v->dim[*a], new_size = to->dim[*b], stride = v->stride[*a];
    out->stride[*b] = stride;
    while (old_size != new_size)
        if (old_size < new_size) {
            --*a;
            if (*a < 0 || (v->dim[*a] != 1 && v->stride[*a] != stride * old_size))
                return false;
            old_size *= v->dim[*a];
        } else {
            --*b;
            if (*b < 0)
                return false;
            out->stride[*b] = stride * new_size;
            new_size *= to->dim[*b];
        }
    --*a;
    --*b;
    return true;
}

/* Walks both lists of dims from the right, where memory is contiguous. */
bool td_view_reshape(const td_view *v, const td_tensor *to, td_view *out)
{
    int a = v->rank - 1, b = to->rank - 1;
    *out = td_view_dense(v->dtype, to->rank, to->dim);
    if (td_view_is_dense(v)) /* nearly always */
        return true;
    while (a >= 0 && b >= 0) {
        /* an axis of one entry belongs to no run: its stride is never used */
        if (v->dim[a] == 1)
            a--;
        else if (to->dim[b] == 1)
            b--;
        else if (!reshape_run(v, to, &a, &b, out))
            return false;
    }
    return true;
}

td_view td_view_like(const td_view *like, const td_tensor *dims)
{
    td_view v = td_view_dense(dims->dtype, dims->rank, dims->dim);
    int     order[TD_MAX_RANK];
    int64_t stride = 1;

    if (like->rank != v.rank)
        return v;
    for (int k = 0; k < v.rank; k++) {
        if (like->dim[k] > 1 && like->stride[k] == 0)
            return v; /* an expanded axis (stride 0) has no place in the order */
        order[k] = k;
    }
    /* sort axes by stride, largest first. Stable, and axes of one entry stay where they are: a
     * dense view yields a dense one */
    for (int i = 1; i < v.rank; i++)
        for (int j = i; j > 0; j--) {
            int p = order[j - 1], q = order[j];
            if (like->dim[p] == 1 || like->dim[q] == 1 || like->stride[p] >= like->stride[q])
                break;
            order[j - 1] = q;
            order[j] = p;
        }
    /* close the gaps: the smallest stride becomes 1, and each next one follows without a gap */
    for (int i = v.rank - 1; i >= 0; i--) {
        v.stride[order[i]] = stride;
        stride *= v.dim[order[i]];
    }
    return v;
}
