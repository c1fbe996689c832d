/* place.c - storages: which may share memory, and where each lies in the arena. */
#include <stdlib.h>
#include <string.h>

#include "plan/internal.h"

int32_t td_storage_root(const td_plan *p, int32_t s)
{
    while (p->storages[s].same_as != s)
        s = p->storages[s].same_as;
    return s;
}

static void merge(td_plan *p, int32_t from, int32_t into)
{
    td_storage *a = &p->storages[from], *b = &p->storages[into];
    a->same_as = into;
    b->first = a->first < b->first ? a->first : b->first;
    b->last = a->last > b->last ? a->last : b->last;
}

static bool whole(const td_plan *p, int32_t storage, int64_t offset, const td_view *v)
{
    int64_t count = 1;
    for (int k = 0; k < v->rank; k++) {
        if (v->dim[k] > 1 && v->stride[k] == 0)
            return false;
        count *= v->dim[k];
    }
    return offset == 0 && count == p->storages[storage].count;
}

/* Output `o` of call `s` may be written over its input `k`: nobody reads that later, and no other
 * input of the call sees the same memory in another way. */
static bool may_overwrite(const td_plan *p, const td_kernel_call *s, int32_t index, int k, int o,
                          bool elementwise)
{
    int32_t in, out;
    if (s->in[k] < 0 || s->out[o] < 0)
        return false;
    in = td_storage_root(p, s->in[k]);
    out = td_storage_root(p, s->out[o]);
    if (in == out || p->storages[in].kind != TD_STORAGE_ARENA ||
        p->storages[out].kind != TD_STORAGE_ARENA)
        return false;
    if (p->storages[in].last != index || !td_view_same(&s->call.in[k], &s->call.out[o]))
        return false;
    if (!whole(p, s->in[k], s->in_offset[k], &s->call.in[k]))
        return false;
    for (int j = 0; j < s->call.n_in; j++)
        if (j != k && s->in[j] >= 0 && td_storage_root(p, s->in[j]) == in)
            if (!elementwise || s->in_offset[j] || !td_view_same(&s->call.in[j], &s->call.in[k]))
                return false;
    return true;
}

static void merge_accumulators(td_plan *p, int32_t *last_write)
{
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *s = p->calls[i];
        const td_op   *op = s->node ? s->node->op : NULL;
        int            k = op ? op->accumulate_in - 1 : -1, o = op ? op->accumulate_out : 0;
        if (k >= 0 && may_overwrite(p, s, i, k, o, false))
            merge(p, td_storage_root(p, s->out[o]), td_storage_root(p, s->in[k]));
        for (int j = 0; j < s->call.n_out; j++)
            if (s->out[j] >= 0)
                last_write[td_storage_root(p, s->out[j])] = i;
    }
}

static bool is_assign(const td_kernel_call *s) { return s->node && td_node_is(s->node, "assign"); }

/* Whether call `i` reads variable storage `v` only as the summand of what it writes to `value`. */
static bool reads_as_summand(const td_plan *p, int32_t i, int32_t v, int32_t value)
{
    const td_kernel_call *s = p->calls[i];
    const td_op   *op = s->node ? s->node->op : NULL;
    for (int k = 0; k < s->call.n_in; k++)
        if (s->in[k] == v && (!op || k != op->accumulate_in - 1 || s->out[op->accumulate_out] < 0 ||
                              td_storage_root(p, s->out[op->accumulate_out]) != value ||
                              !td_view_same(&s->call.in[k], &s->call.out[op->accumulate_out])))
            return false;
    return true;
}

/* What merge_assigned knows of a state's storage. */
typedef struct history {
    int32_t last_read; /* the last call that reads it, -1: none */
    int32_t writers;   /* calls that write to it */
} history;

static history *histories(const td_plan *p)
{
    history *h = calloc((size_t)p->n_storages + 1, sizeof *h);
    for (int32_t i = 0; h && i < p->n_storages; i++)
        h[i].last_read = -1;
    for (int32_t i = 0; h && i < p->n_calls; i++) {
        const td_kernel_call *s = p->calls[i];
        for (int k = 0; k < s->call.n_in; k++)
            if (s->in[k] >= 0 && !(k == 0 && is_assign(s)))
                h[s->in[k]].last_read = i;
        for (int k = 0; k < s->call.n_out; k++)
            if (s->out[k] >= 0)
                h[s->out[k]].writers++;
    }
    return h;
}

/* Whether another call than `i` writes to the state while `v` is computed, assigned and read. */
static bool is_written_while(const td_plan *p, int32_t state, const td_storage *v, int32_t i)
{
    int32_t end = v->last > i ? v->last : i;
    for (int32_t j = v->first; j <= end && j < p->n_calls; j++) {
        const td_kernel_call *s = p->calls[j];
        for (int k = 0; j != i && !s->dropped && k < s->call.n_out; k++)
            if (s->out[k] >= 0 && td_storage_root(p, s->out[k]) == state)
                return true;
    }
    return false;
}

/* Whether the value that call `i` assigns may be computed in the state's own memory: it is all of
 * both, and nobody misses what the state held before. */
static bool may_compute_there(const td_plan *p, int32_t i, const int32_t *last_write,
                              const history *h)
{
    const td_kernel_call *s = p->calls[i];
    int32_t           state = s->in[0], value = td_storage_root(p, s->in[1]);
    const td_storage *v = &p->storages[value];

    if (v->kind != TD_STORAGE_ARENA || p->storages[state].kind != TD_STORAGE_VARIABLE ||
        last_write[value] > i || !whole(p, s->in[1], s->in_offset[1], &s->call.in[1]) ||
        !td_view_is_dense(&s->call.in[1]) || p->storages[s->in[1]].count != v->count)
        return false;
    if (s->in_offset[0] || p->storages[state].count != v->count ||
        !td_view_same(&s->call.in[0], &s->call.in[1]))
        return false;
    if (h[state].last_read > v->first ||
        (h[state].last_read == v->first && !reads_as_summand(p, v->first, state, value)))
        return false;
    return h[state].writers == 1 || !is_written_while(p, state, v, i);
}

/* The value is in the state's memory already: a fused call's result. */
static bool is_there(const td_plan *p, const td_kernel_call *s)
{
    return td_storage_root(p, s->in[1]) == s->in[0] && s->in_offset[1] == s->in_offset[0] &&
           td_view_same(&s->call.in[1], &s->call.in[0]);
}

/* What is only computed to be assigned is computed in the state's own memory. */
static void merge_assigned(td_plan *p, const int32_t *last_write)
{
    history *h = histories(p);
    if (!h)
        return; /* an optimization less */
    for (int32_t i = 0; i < p->n_calls; i++) {
        td_kernel_call *s = p->calls[i];
        int32_t  value;
        if (!is_assign(s) || s->in[1] < 0)
            continue;
        s->dropped = is_there(p, s);
        if (s->dropped || (s->call.n_in > 2 && s->in[2] >= 0) ||
            !may_compute_there(p, i, last_write, h))
            continue;
        value = td_storage_root(p, s->in[1]);
        if (h[s->in[0]].last_read < p->storages[value].last)
            h[s->in[0]].last_read = p->storages[value].last;
        merge(p, value, s->in[0]);
        s->dropped = true;
    }
    free(h);
}

static void merge_elementwise(td_plan *p)
{
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *s = p->calls[i];
        if (s->dropped || !(s->kernel->flags & TD_KERNEL_INPLACE))
            continue;
        for (int k = 0; k < s->call.n_in; k++)
            if (may_overwrite(p, s, i, k, 0, true)) {
                merge(p, td_storage_root(p, s->out[0]), td_storage_root(p, s->in[k]));
                break;
            }
    }
}

void td_plan_merge(td_plan *p)
{
    int32_t *last_write = calloc((size_t)p->n_storages + 1, sizeof *last_write);
    if (!last_write)
        return;
    merge_accumulators(p, last_write);
    merge_assigned(p, last_write);
    merge_elementwise(p);
    free(last_write);
}

/* ---- the arena ------------------------------------------------------------------------------- */

typedef struct by_size {
    const td_storage *storages;
    int32_t           index;
} by_size;

static int larger_first(const void *a, const void *b)
{
    const by_size    *p = a, *q = b;
    const td_storage *x = &p->storages[p->index], *y = &q->storages[q->index];
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return p->index < q->index ? -1 : 1;
}

/* What the search for gaps reads of a storage, close together. */
typedef struct placed {
    size_t  offset, end;
    int32_t first, last; /* calls */
} placed;

/* The lowest gap among those placed (sorted by offset) that live at the same time. */
static size_t lowest_gap(const placed *list, int32_t count, const td_storage *s)
{
    size_t at = 0;
    for (const placed *o = list; o < list + count; o++) {
        if (o->first > s->last || s->first > o->last)
            continue;
        if (o->offset >= at + s->bytes)
            break;
        if (o->end > at)
            at = o->end;
    }
    return at;
}

static void insert(placed *list, int32_t count, const td_storage *s)
{
    int32_t i = count;
    for (; i > 0 && list[i - 1].offset > s->offset; i--)
        list[i] = list[i - 1];
    list[i] = (placed){ s->offset, s->offset + s->bytes, s->first, s->last };
}

/* Largest first, each into the lowest gap. */
int td_plan_arrange(td_plan *p, td_error *error)
{
    by_size *order = malloc(((size_t)p->n_storages + 1) * sizeof *order);
    placed  *list = malloc(((size_t)p->n_storages + 1) * sizeof *list);
    int32_t  count = 0;

    p->inputs = td_arena_alloc(p->memory, ((size_t)p->n_storages + 1) * sizeof *p->inputs);
    if (!order || !list || !p->inputs) {
        free(order);
        free(list);
        return td_fail(error, TD_ENOMEM, "out of memory while placing %d buffers", p->n_storages);
    }
    for (int32_t i = 0; i < p->n_storages; i++)
        if (p->storages[i].same_as == i && p->storages[i].kind == TD_STORAGE_ARENA &&
            p->storages[i].bytes)
            order[count++] = (by_size){ p->storages, i };
    qsort(order, (size_t)count, sizeof *order, larger_first);
    for (int32_t i = 0; i < count; i++) {
        td_storage *s = &p->storages[order[i].index];
        s->offset = lowest_gap(list, i, s);
        insert(list, i, s);
        if (s->offset + s->bytes > p->arena)
            p->arena = s->offset + s->bytes;
    }
    /* inputs and constants are the plan's own, one after the other */
    for (int32_t i = 0; i < p->n_storages; i++)
        if (p->storages[i].kind == TD_STORAGE_INPUT || p->storages[i].kind == TD_STORAGE_CONSTANT) {
            p->storages[i].offset = p->own;
            p->own += p->storages[i].bytes;
            if (p->storages[i].kind == TD_STORAGE_INPUT)
                p->inputs[p->n_inputs++] = i;
        }
    free(order);
    free(list);
    return 0;
}
