/* windows.c - parameters and gradients that are sharded across processes: each is here only while
 * it is used.
 *
 * A *window* is a storage of the arena that stands for a parameter from one of its readers to a later
 * one. Before the first of them the parameter is gathered from its owner; until the next window it
 * takes no memory. A gradient is a storage of the arena from the call that writes it first to the one
 * that writes it last; then it is delivered, and its memory is reused.
 *
 * Gathering and delivering are done by all processes together, so the order of a plan's transfers
 * must be that of every other plan for the same purpose, whatever its shape. So it depends on the
 * order of reads alone, and td_plan_order lets the host compare.
 */
#include <stdlib.h>
#include <string.h>

#include "plan/internal.h"
#include "tandem/random.h"

/* Reads of other shared parameters after which a parameter is given back: those of two layers or so.
 * Between the forward and the backward pass of the last layers, it is not worth gathering again. */
enum { DISTANCE = 16 };

static const td_variable *shared_variable(const td_storage *s, int kind)
{
    const td_variable *x = s->kind == TD_STORAGE_VARIABLE ? s->leaf->variable : NULL;
    return x && x->kind == kind && x->owner >= 0 ? x : NULL;
}

static void add_transfer(td_plan *p, td_transfer t)
{
    if (td_plan_grow(p, &p->transfers, p->n_transfers, &p->transfers_room, sizeof *p->transfers))
        p->transfers[p->n_transfers++] = t;
}

/* ---- parameters ------------------------------------------------------------------------------ */

typedef struct window {
    int32_t storage; /* 0: none yet (storage 0 stands in for errors) */
    int64_t read;    /* number of the last read of a shared parameter that was one of this */
} window;

/* The storage that stands for parameter `s` in call `i`, the read of number `read`. */
static int32_t window_of(td_plan *p, window *w, int32_t s, int32_t i, int64_t read)
{
    if (!w->storage || read - w->read > DISTANCE) {
        w->storage = td_plan_storage(p, TD_STORAGE_ARENA, p->storages[s].dtype,
                                     p->storages[s].count);
        p->storages[w->storage].first = i;
        add_transfer(p, (td_transfer){ .at = i,
                                       .variable = p->storages[s].leaf->variable,
                                       .storage = w->storage });
    }
    w->read = read;
    p->storages[w->storage].last = i;
    return w->storage;
}

void td_plan_cut_windows(td_plan *p)
{
    int32_t count = p->n_storages;
    window *windows = p->g->options.shared ? calloc((size_t)count + 1, sizeof *windows) : NULL;
    int64_t read = 0;
    if (!windows && p->g->options.shared)
        td_plan_out_of_memory(p);
    for (int32_t i = 0; windows && i < p->n_calls; i++) {
        td_kernel_call *c = p->calls[i];
        for (int k = 0; k < c->call.n_in; k++)
            if (c->in[k] >= 0 && c->in[k] < count &&
                shared_variable(&p->storages[c->in[k]], TD_VARIABLE_PARAM)) {
                window *w = &windows[c->in[k]];
                c->in[k] = window_of(p, w, c->in[k], i, ++read);
            }
    }
    free(windows);
}

/* ---- gradients ------------------------------------------------------------------------------- */

/* The calls from the first to the last that touch a storage; false if none writes to it. */
static bool lifetime(const td_plan *p, int32_t s, int32_t *first, int32_t *last)
{
    bool written = false;
    *first = -1;
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *c = p->calls[i];
        bool                  touches = false;
        for (int k = 0; k < c->call.n_in && !c->dropped; k++)
            touches |= c->in[k] >= 0 && td_storage_root(p, c->in[k]) == s;
        for (int k = 0; k < c->call.n_out && !c->dropped; k++)
            if (c->out[k] >= 0 && td_storage_root(p, c->out[k]) == s)
                touches = written = true;
        if (touches && *first < 0)
            *first = i;
        if (touches)
            *last = i;
    }
    return written;
}

/* Deliveries come before what the next call needs: they free memory that it may take. */
static int in_order(const void *a, const void *b)
{
    const td_transfer *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    if (x->delivers != y->delivers)
        return x->delivers ? -1 : 1;
    return x->variable->index < y->variable->index ? -1 : 1;
}

void td_plan_cut_gradients(td_plan *p)
{
    for (int32_t s = 0; p->g->options.shared && s < p->n_storages; s++) {
        td_variable *x = p->storages[s].kind == TD_STORAGE_VARIABLE ? p->storages[s].leaf->variable
                                                                    : NULL;
        int32_t      first, last = -1;
        if (!x || !shared_variable(&p->storages[s], TD_VARIABLE_GRAD) ||
            !lifetime(p, s, &first, &last))
            continue;
        p->storages[s].kind = TD_STORAGE_ARENA;
        p->storages[s].first = first;
        p->storages[s].last = last;
        add_transfer(p, (td_transfer){
                            .at = last + 1, .delivers = true, .variable = x, .storage = s });
    }
    if (p->n_transfers)
        qsort(p->transfers, (size_t)p->n_transfers, sizeof *p->transfers, in_order);
}

uint64_t td_plan_order(const td_plan *p)
{
    uint64_t h = td_random_stream("transfers");
    for (int32_t k = 0; k < p->n_transfers; k++)
        h = td_random_bits(h, (uint64_t)p->transfers[k].variable->index, p->transfers[k].delivers);
    return h;
}

/* ---- running --------------------------------------------------------------------------------- */

int td_plan_transfer(td_plan *p, const td_transfer *t, td_error *error)
{
    const td_exchange *e = p->device.exchange;
    /* merging it with another has left its memory there */
    const td_storage  *root = &p->storages[td_storage_root(p, t->storage)];
    const td_storage  *s = &p->storages[t->storage];
    size_t             bytes = (size_t)s->count * td_dtype_size(s->dtype);
    if (!e || !e->collect)
        return td_fail(error, TD_EIO,
                       "'%s' is sharded across processes that are no longer connected: load the "
                       "parameters from a checkpoint",
                       t->variable->name);
    return t->delivers ? e->deliver(e->arg, t->variable, root->memory, error)
                       : e->collect(e->arg, t->variable, root->memory, bytes, error);
}
