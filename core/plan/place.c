/* place.c - storages: which may share memory, and where in the arena each of them lies.
 *
 * This comes after all calls are planned, because only then the last reader of each value is known.
 * Merging goes by lifetimes, so its order matters: each merge lengthens the lifetime of the storage
 * that remains.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "plan/internal.h"

/* ---- merging --------------------------------------------------------------------------------- */

static void merge(td_plan *p, int32_t from, int32_t into)
{
    td_storage *a = &p->storages[from], *b = &p->storages[into];
    assert(from != into && a->same_as == from && b->same_as == into);
    assert(a->kind ==
           TD_STORAGE_ARENA); /* others have memory that code outside the plan points to */
    a->same_as = into;
    b->first = a->first < b->first ? a->first : b->first;
    b->last = a->last > b->last ? a->last : b->last;
}

/* Whether the view shows every element of its storage, once. */
static bool is_whole(const td_plan *p, int32_t storage, int64_t offset, const td_view *v)
{
    int64_t count = 1;
    for (int k = 0; k < v->rank; k++) {
        if (v->dim[k] > 1 && v->stride[k] == 0)
            return false;
        count *= v->dim[k];
    }
    return offset == 0 && count == p->storages[storage].count;
}

/* Whether call `index` may write output o over its input k. An elementwise kernel reads element i
 * of all inputs before it writes element i, so the same memory may come in twice; other kernels
 * read in any order. */
static bool may_overwrite(const td_plan *p, int32_t index, int k, int o, bool elementwise)
{
    const td_kernel_call *c = p->calls[index];
    int32_t               in, out;
    /* calls that are computed together read and write in any order */
    if (c->in[k] < 0 || c->out[o] < 0 || c->fusion)
        return false;
    in = td_storage_root(p, c->in[k]);
    out = td_storage_root(p, c->out[o]);
    if (in == out || p->storages[in].kind != TD_STORAGE_ARENA ||
        p->storages[out].kind != TD_STORAGE_ARENA)
        return false;
    /* a later reader would find the output there */
    if (p->storages[in].last != index || !td_view_same(&c->call.in[k], &c->call.out[o]))
        return false;
    if (!is_whole(p, c->in[k], c->in_offset[k], &c->call.in[k]))
        return false;
    for (int j = 0; j < c->call.n_in; j++)
        if (j != k && c->in[j] >= 0 && td_storage_root(p, c->in[j]) == in)
            if (!elementwise || c->in_offset[j] || !td_view_same(&c->call.in[j], &c->call.in[k]))
                return false;
    return true;
}

/* A product that starts from a summand writes over it. Also notes, for each storage, the last call
 * that writes to it. */
static void merge_accumulators(td_plan *p, int32_t *last_write)
{
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *c = p->calls[i];
        const td_op          *op = c->node ? c->node->op : NULL;
        int                   k = op ? op->accumulate_in - 1 : -1, o = op ? op->accumulate_out : 0;
        if (k >= 0 && may_overwrite(p, i, k, o, false))
            merge(p, td_storage_root(p, c->out[o]), td_storage_root(p, c->in[k]));
        for (int j = 0; j < c->call.n_out; j++)
            if (c->out[j] >= 0)
                last_write[td_storage_root(p, c->out[j])] = i;
    }
}

static void merge_elementwise(td_plan *p)
{
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *c = p->calls[i];
        if (c->dropped || !(c->kernel->flags & TD_KERNEL_INPLACE))
            continue;
        for (int k = 0; k < c->call.n_in; k++)
            if (may_overwrite(p, i, k, 0, true)) {
                merge(p, td_storage_root(p, c->out[0]), td_storage_root(p, c->in[k]));
                break; /* the output has found its memory */
            }
    }
}

/* ---- assignments ----------------------------------------------------------------------------- */

static bool is_assign(const td_kernel_call *c) { return c->node && td_node_is(c->node, "assign"); }

/* Whether call `i` reads the state only as the summand of what it writes to storage `computed`:
 * then it reads each element before it writes it (m = b m + ..). */
static bool reads_as_summand(const td_plan *p, int32_t i, int32_t state, int32_t computed)
{
    const td_kernel_call *c = p->calls[i];
    const td_op          *op = c->node ? c->node->op : NULL;
    for (int k = 0; k < c->call.n_in; k++)
        if (c->in[k] == state &&
            (!op || k != op->accumulate_in - 1 || c->out[op->accumulate_out] < 0 ||
             td_storage_root(p, c->out[op->accumulate_out]) != computed ||
             !td_view_same(&c->call.in[k], &c->call.out[op->accumulate_out])))
            return false;
    return true;
}

typedef struct history {
    int32_t last_read; /* the last call that reads the storage; -1: none */
    int32_t writers;   /* how many calls write to it */
} history;

/* The uses of every storage, before any assignment is merged; merge_assigned keeps them up to
 * date. */
static history *histories(const td_plan *p)
{
    history *h = calloc((size_t)p->n_storages + 1, sizeof *h);
    for (int32_t i = 0; h && i < p->n_storages; i++)
        h[i].last_read = -1;
    for (int32_t i = 0; h && i < p->n_calls; i++) {
        const td_kernel_call *c = p->calls[i];
        for (int k = 0; k < c->call.n_in; k++)
            if (c->in[k] >= 0 &&
                !(k == 0 && is_assign(c))) /* assign overwrites its state without reading it */
                h[c->in[k]].last_read = i;
        for (int k = 0; k < c->call.n_out; k++)
            if (c->out[k] >= 0)
                h[c->out[k]].writers++;
    }
    return h;
}

/* Whether a call other than `i` writes to the state while the value is computed, assigned or
 * read. */
static bool is_written_while(const td_plan *p, int32_t state, const td_storage *value, int32_t i)
{
    int32_t end = value->last > i ? value->last : i;
    for (int32_t j = value->first; j <= end && j < p->n_calls; j++) {
        const td_kernel_call *c = p->calls[j];
        for (int k = 0; j != i && !c->dropped && k < c->call.n_out; k++)
            if (c->out[k] >= 0 && td_storage_root(p, c->out[k]) == state)
                return true;
    }
    return false;
}

/* Whether the value that call `i` assigns may be computed in the state's own memory from the start:
 * it is all of the state, and nobody reads the state's old content once the value begins to
 * overwrite it. */
static bool may_compute_there(const td_plan *p, int32_t i, const int32_t *last_write,
                              const history *h)
{
    const td_kernel_call *c = p->calls[i];
    int32_t               state = c->in[0], from = c->in[1], root = td_storage_root(p, from);
    const td_storage     *value = &p->storages[root];

    if (value->kind != TD_STORAGE_ARENA || p->storages[state].kind != TD_STORAGE_VARIABLE)
        return false;
    /* the value must be the last thing written to its storage, and fill it */
    if (last_write[root] > i || !is_whole(p, from, c->in_offset[1], &c->call.in[1]) ||
        !td_view_is_dense(&c->call.in[1]) || p->storages[from].count != value->count)
        return false;
    if (c->in_offset[0] || p->storages[state].count != value->count ||
        !td_view_same(&c->call.in[0], &c->call.in[1]))
        return false;
    /* all reads of the old content must come before the value is written */
    if (h[state].last_read > value->first ||
        (h[state].last_read == value->first && !reads_as_summand(p, value->first, state, root)))
        return false;
    return h[state].writers == 1 || !is_written_while(p, state, value, i);
}

/* A fused update has written the value to the state already. */
static bool is_there(const td_plan *p, const td_kernel_call *c)
{
    return td_storage_root(p, c->in[1]) == c->in[0] && c->in_offset[1] == c->in_offset[0] &&
           td_view_same(&c->call.in[1], &c->call.in[0]);
}

/* An assignment under a gate may leave the state as it is, so its value needs separate memory. */
static bool is_gated(const td_kernel_call *c) { return c->call.n_in > 2 && c->in[2] >= 0; }

/* Values that are computed only to be assigned are computed in the state, and the copy is dropped:
 * this is most of the assignments of a training step. */
static void merge_assigned(td_plan *p, const int32_t *last_write)
{
    history *h = histories(p);
    if (!h)
        return; /* without it the plan is correct, only slower */
    for (int32_t i = 0; i < p->n_calls; i++) {
        td_kernel_call *c = p->calls[i];
        int32_t         value;
        if (!is_assign(c) || c->in[1] < 0)
            continue;
        c->dropped = is_there(p, c);
        if (c->dropped || is_gated(c) || !may_compute_there(p, i, last_write, h))
            continue;
        /* readers of the value read the state's memory from now on */
        value = td_storage_root(p, c->in[1]);
        if (h[c->in[0]].last_read < p->storages[value].last)
            h[c->in[0]].last_read = p->storages[value].last;
        merge(p, value, c->in[0]);
        c->dropped = true;
    }
    free(h);
}

/* Elementwise merges come last: done earlier, they would lengthen lifetimes that the other two need
 * short. */
void td_plan_merge_storages(td_plan *p)
{
    int32_t *last_write = calloc((size_t)p->n_storages + 1, sizeof *last_write);
    if (!last_write)
        return; /* without it the plan is correct, only larger */
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

/* Equal sizes by index: the layout must not depend on the C library's qsort. */
static int larger_first(const void *a, const void *b)
{
    const by_size    *p = a, *q = b;
    const td_storage *x = &p->storages[p->index], *y = &q->storages[q->index];
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return p->index < q->index ? -1 : 1;
}

/* Only what the search for gaps reads, packed, since that search is quadratic. */
typedef struct placed {
    size_t  offset, end;
    int32_t first, last; /* calls */
} placed;

/* The lowest gap among the storages placed so far (sorted by offset) whose lifetimes overlap
 * that of s. */
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

/* By offset, so that lowest_gap meets storages from the bottom up. */
static void insert(placed *list, int32_t count, const td_storage *s)
{
    int32_t i = count;
    for (; i > 0 && list[i - 1].offset > s->offset; i--)
        list[i] = list[i - 1];
    list[i] = (placed){ s->offset, s->offset + s->bytes, s->first, s->last };
}

/* Largest first, each into the lowest gap: a good packing, and the same on every machine. `order`
 * and `list` have room for all storages. */
static void pack_arena(td_plan *p, by_size *order, placed *list)
{
    int32_t count = 0;
    for (int32_t i = 0; i < p->n_storages; i++)
        if (p->storages[i].same_as == i && p->storages[i].kind == TD_STORAGE_ARENA &&
            p->storages[i].bytes)
            order[count++] = (by_size){ p->storages, i };
    qsort(order, (size_t)count, sizeof *order, larger_first);
    for (int32_t i = 0; i < count; i++) {
        td_storage *s = &p->storages[order[i].index];
        assert(s->first >= 0 && s->first <= s->last);
        s->offset = lowest_gap(list, i, s);
        insert(list, i, s);
        if (s->offset + s->bytes > p->arena_bytes)
            p->arena_bytes = s->offset + s->bytes;
    }
}

/* Inputs and constants must survive other plans' runs in the shared arena, so they lie in memory
 * that belongs to the plan, one after the other. */
static void pack_own(td_plan *p)
{
    for (int32_t i = 0; i < p->n_storages; i++) {
        td_storage *s = &p->storages[i];
        if (s->kind != TD_STORAGE_INPUT && s->kind != TD_STORAGE_CONSTANT)
            continue;
        s->offset = p->own_bytes;
        p->own_bytes += s->bytes;
        if (s->kind == TD_STORAGE_INPUT)
            p->inputs[p->n_inputs++] = i;
    }
}

int td_plan_set_offsets(td_plan *p, td_error *error)
{
    size_t   room = (size_t)p->n_storages + 1;
    by_size *order = malloc(room * sizeof *order);
    placed  *list = malloc(room * sizeof *list);
    int      code = 0;

    p->inputs = td_arena_alloc(p->records, room * sizeof *p->inputs);
    if (order && list && p->inputs) {
        pack_arena(p, order, list);
        pack_own(p);
    } else
        code = td_fail(error, TD_ENOMEM, "out of memory while placing %d buffers", p->n_storages);
    free(order);
    free(list);
    return code;
}
