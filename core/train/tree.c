/* tree.c - the tree over micro-batches, and the addition of two gradients. */
#include "train/tree.h"

#include <stdbool.h>

#include "tandem/graph.h"

enum { GRAIN = 1 << 16 }; /* elements that a thread adds at a time */

int64_t td_partial_split(td_partial n)
{
    int64_t half = 1;
    while (2 * half < n.hi - n.lo)
        half *= 2;
    return n.lo + half;
}

/* Whether [a.lo, b.hi) is a node below `top` with the children a and b. */
static bool are_siblings(td_partial top, td_partial a, td_partial b)
{
    while (top.hi - top.lo > 1) {
        int64_t middle = td_partial_split(top);
        if (top.lo == a.lo && top.hi == b.hi)
            return middle == a.hi;
        if (b.hi <= middle)
            top.hi = middle;
        else if (a.lo >= middle)
            top.lo = middle;
        else
            return false;
    }
    return false;
}

int td_partials_push(td_partials *s, td_partial n)
{
    td_partial top = { 0, s->n };
    int        merges = 0;
    s->at[s->depth++] = n;
    while (s->depth > 1 && are_siblings(top, s->at[s->depth - 2], s->at[s->depth - 1])) {
        s->at[s->depth - 2].hi = s->at[s->depth - 1].hi;
        s->depth--;
        merges++;
    }
    return merges;
}

typedef struct addition {
    char       *to;
    const char *more;
    int64_t     count;
    int         dtype;
} addition;

static void add_grain(void *arg, int64_t k, int thread)
{
    const addition *a = arg;
    int64_t         end = (k + 1) * GRAIN < a->count ? (k + 1) * GRAIN : a->count;
    if (a->dtype == TD_F64)
        for (int64_t i = k * GRAIN; i < end; i++)
            ((double *)(void *)a->to)[i] += ((const double *)(const void *)a->more)[i];
    else
        for (int64_t i = k * GRAIN; i < end; i++)
            ((float *)(void *)a->to)[i] += ((const float *)(const void *)a->more)[i];
}

void td_add_numbers(const td_services *services, void *to, const void *more, int64_t count,
                    int dtype)
{
    addition a = { to, more, count, dtype };
    td_parallel(services, (count + GRAIN - 1) / GRAIN, add_grain, &a);
}
