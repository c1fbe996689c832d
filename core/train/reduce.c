/* reduce.c - gradients summed over micro-batches and ranks.
 *
 * A node of the tree (tree.h) is the sum over some micro-batches. A rank's micro-batches are the
 * union of a few nodes, its *parts*: it adds up each of them by itself, on a stack that works like
 * a binary counter. The newest gradient stays where the plan has put it, unless it has to wait there
 * for its sibling.
 *
 * Then the ranks exchange. Of all numbers, each rank has a *share*: the gradients of the parameters
 * that it updates (train.shard), or 1 / size of them. Slice by slice it receives its share of every
 * rank's parts, adds them along the rest of the tree, and keeps the sum or sends it to all ranks.
 */
#include "train/reduce.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/memory.h"

enum {
    LEVELS = TD_TREE_LEVELS,
    CHUNK = 1 << 22,         /* bytes that a rank sends to each other rank, or sums, at a time */
    DEVICE_CHUNKS = 1 << 28, /* .. of a device, that it sends to all others: launches take time */
    ALIGNMENT = 64           /* elements: slices begin where vectors may */
};

/* A node that a single rank computes. */
typedef struct part {
    td_partial at;
    int        rank, index; /* the index-th node of its rank */
} part;

/* Elements [first, first + count) of all gradients, one gradient after another. */
typedef struct range {
    int64_t first, count;
} range;

struct td_reduction {
    td_engine    *engine;
    td_team      *team;
    bool          exact;  /* .. in a way that differs from fast */
    bool          shared; /* a sum goes only to the rank that updates the parameter */
    td_memory     memory; /* of what follows: gradients are read from the device, sums written */
    int64_t       n_micro, first, end;
    int           dtype;
    size_t        width;     /* bytes of an element */
    td_variable **gradients; /* [n_gradients], by owner if they have any */
    size_t        n_gradients;
    int64_t       count;  /* elements of all gradients */
    range        *shares; /* [size]: what each rank adds up */
    td_partials   stack;
    char         *sums[LEVELS]; /* [count] of each node on the stack; .. */
    bool          in_place;     /* .. but the last is in the gradients themselves */
    int           copies;
    part         *parts;          /* of all ranks, in the order of micro-batches */
    int           n_parts, most;  /* `most`: largest number of parts of one rank */
    int64_t       slice;          /* elements of a share that are exchanged at a time */
    char         *send, *receive; /* [size][most][slice] */
    char         *whole;          /* [size][slice], unless shared */
    char         *piece; /* [CHUNK]: a gradient on its way; NULL: it can be added where it is */
};

/* ---- the tree -------------------------------------------------------------------------------- */

static void share_of(int64_t n, int rank, int size, int64_t *first, int64_t *end)
{
    *first = n * rank / size;
    *end = n * (rank + 1) / size;
}

/* The largest nodes below `n` that lie in [first, end). */
static void list_parts(td_reduction *r, td_partial n, int rank, td_partial own)
{
    if (n.hi <= own.lo || n.lo >= own.hi)
        return;
    if (own.lo <= n.lo && n.hi <= own.hi) {
        int k = 0;
        while (k < r->n_parts && r->parts[r->n_parts - 1 - k].rank == rank)
            k++;
        r->parts[r->n_parts++] = (part){ n, rank, k };
        r->most = k + 1 > r->most ? k + 1 : r->most;
        return;
    }
    list_parts(r, (td_partial){ n.lo, td_partial_split(n) }, rank, own);
    list_parts(r, (td_partial){ td_partial_split(n), n.hi }, rank, own);
}

/* A rank has at most two parts at each level. */
static int find_parts(td_reduction *r, td_error *error)
{
    int size = td_team_size(r->team);
    r->parts = calloc((size_t)size * 2 * LEVELS, sizeof *r->parts);
    if (!r->parts)
        return td_fail(error, TD_ENOMEM, "out of memory for the gradients of %d processes", size);
    for (int k = 0; k < size; k++) {
        td_partial own;
        share_of(r->n_micro, k, size, &own.lo, &own.hi);
        list_parts(r, (td_partial){ 0, r->n_micro }, k, own);
    }
    return 0;
}

/* ---- shares ---------------------------------------------------------------------------------- */

/* By owner; in order of declaration where that is the same, or there is none. */
static int by_owner(const void *a, const void *b)
{
    const td_variable *x = *(td_variable *const *)a, *y = *(td_variable *const *)b;
    if (x->owner != y->owner)
        return x->owner < y->owner ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

td_variable **td_gradients_by_owner(td_engine *engine, size_t *count, td_error *error)
{
    td_variables *v = td_engine_variables(engine);
    td_variable **list = calloc(td_variables_count(v) + 1, sizeof *list);
    *count = 0;
    if (!list)
        td_fail(error, TD_ENOMEM, "out of memory for the sums of gradients");
    for (size_t i = 0; list && i < td_variables_count(v); i++)
        if (td_variables_at(v, i)->kind == TD_VARIABLE_GRAD)
            list[(*count)++] = td_variables_at(v, i);
    if (list)
        qsort(list, *count, sizeof *list, by_owner);
    return list;
}

static int list_gradients(td_reduction *r, td_error *error)
{
    r->gradients = td_gradients_by_owner(r->engine, &r->n_gradients, error);
    if (!r->gradients)
        return TD_ENOMEM;
    for (size_t k = 0; k < r->n_gradients; k++) {
        const td_variable *x = r->gradients[k];
        if (x->bytes != (size_t)x->count * r->width)
            return td_fail(error, TD_EUNSUPPORTED, "the gradient '%s' has a different precision",
                           x->name);
        r->count += x->count;
    }
    return 0;
}

static int set_shares(td_reduction *r, td_error *error)
{
    int     size = td_team_size(r->team);
    int64_t at = 0;
    r->shares = calloc((size_t)size, sizeof *r->shares);
    if (!r->shares)
        return td_fail(error, TD_ENOMEM, "out of memory for the gradients of %d processes", size);
    for (size_t k = 0; k < r->n_gradients && r->shared; k++)
        r->shares[r->gradients[k]->owner].count += r->gradients[k]->count;
    for (int d = 0; d < size; d++) {
        r->shares[d].first = at;
        if (!r->shared)
            r->shares[d].count = r->count * (d + 1) / size - r->count * d / size;
        at += r->shares[d].count;
    }
    return 0;
}

static int64_t longest_share(const td_reduction *r)
{
    int64_t longest = 0;
    for (int d = 0; d < td_team_size(r->team); d++)
        longest = r->shares[d].count > longest ? r->shares[d].count : longest;
    return longest;
}

/* What goes to one rank at a time, a slice of each part, fills about one chunk. Slices of equal
 * lengths leave the last one no shorter, which would be filled up. */
static int64_t slice_of(const td_reduction *r)
{
    int64_t chunk = r->memory.on_device ? DEVICE_CHUNKS / td_team_size(r->team) : CHUNK;
    int64_t longest = longest_share(r), room = chunk / (int64_t)r->width / r->most;
    int64_t slices = (longest + room - 1) / room;
    int64_t slice = slices ? (longest + slices - 1) / slices : 0;
    return (slice + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- memory ---------------------------------------------------------------------------------- */

bool td_take_bytes(char **out, double bytes)
{
    *out = bytes < 9e18 ? malloc((size_t)bytes + 1) : NULL;
    return *out != NULL;
}

/* Whether the gradient of micro-batch m, which completed `merges` sums, has to make room for
 * the next one. */
static bool must_wait(const td_reduction *r, int64_t m, int merges)
{
    return !merges && m + 1 < r->end;
}

/* Goes through the sums of a step without adding anything, to find how many it keeps. */
static void play(td_reduction *r)
{
    for (int64_t m = r->first; m < r->end; m++)
        if (must_wait(r, m, td_partials_push(&r->stack, (td_partial){ m, m + 1 })) &&
            r->stack.depth > r->copies)
            r->copies = r->stack.depth;
    r->stack.depth = 0;
}

/* Also for two: a plan that adds to the last gradient may begin a product with it, which rounds
 * differently from adding the product to it. */
static bool needs_copies(td_reduce how, int64_t n_micro)
{
    return how == TD_REDUCE_EXACT && n_micro > 1;
}

/* Of send, receive and, unless shared, whole together. Only those of small models are smaller than their
 * limit: for these the parts of a rank are taken to be as many as there can be. */
static size_t bytes_of_buffers(int size, const td_reduction_spec *spec, size_t gradients)
{
    double parts = 1 + 2 * log2((double)spec->n_micro), all = size * parts * (double)gradients;
    return (spec->shared ? 2 : 3) * (all < DEVICE_CHUNKS ? (size_t)all : DEVICE_CHUNKS);
}

size_t td_reduction_bytes(int rank, int size, const td_reduction_spec *spec, size_t gradients)
{
    td_reduction r = { .n_micro = spec->n_micro, .stack.n = spec->n_micro };
    bool         exact = needs_copies(spec->how, spec->n_micro);
    bool         buffers = size > 1 && spec->attached && (exact || spec->shared);
    size_t       bytes = buffers ? bytes_of_buffers(size, spec, gradients) : 0;
    if (!exact)
        return bytes;
    share_of(spec->n_micro, rank, size, &r.first, &r.end);
    play(&r);
    return bytes + (size_t)r.copies * gradients;
}

static int take_copies(td_reduction *r, td_error *error)
{
    bool well = true;
    for (int k = 0; k < r->copies; k++) {
        r->sums[k] = td_memory_take(&r->memory, (double)r->count * (double)r->width);
        well &= r->sums[k] != NULL;
    }
    return well ? 0
                : td_fail(error, TD_ENOMEM,
                          "cannot allocate %d copies of the gradients for train.reduce = "
                          "\"exact\": use \"fast\", or fewer micro-batches per step",
                          r->copies);
}

static bool take(td_reduction *r, char **out, double bytes)
{
    *out = td_memory_take(&r->memory, bytes);
    return *out != NULL;
}

/* For what is on its way. */
static int take_buffers(td_reduction *r, td_error *error)
{
    int    size = td_team_size(r->team);
    bool   well = td_memory_sees(&r->memory) || take(r, &r->piece, CHUNK);
    double slices;
    r->slice = slice_of(r);
    slices = (double)size * (double)r->slice * (double)r->width;
    if (size > 1 && (r->exact || r->shared))
        well &= take(r, &r->send, slices * r->most) && take(r, &r->receive, slices * r->most) &&
                (r->shared || take(r, &r->whole, slices));
    return well ? 0 : td_fail(error, TD_ENOMEM, "out of memory for the sums of gradients");
}

/* Finds out what there is to add, and takes the memory for it. */
static int prepare(td_reduction *r, td_error *error)
{
    r->dtype = td_device_real(td_engine_device(r->engine));
    r->width = td_dtype_size(r->dtype);
    r->most = 1;
    if (list_gradients(r, error) || set_shares(r, error) || (r->exact && find_parts(r, error)))
        return td_failed(error, TD_ENOMEM);
    if (r->exact)
        play(r);
    return take_copies(r, error) || take_buffers(r, error) ? td_failed(error, TD_ENOMEM) : 0;
}

td_reduction *td_reduction_new(td_engine *engine, td_team *team, td_reduce how, int64_t n_micro,
                               td_error *error)
{
    td_reduction *r = calloc(1, sizeof *r);
    int           size = td_team_size(team);
    if (!r) {
        td_fail(error, TD_ENOMEM, "out of memory for the sums of gradients");
        return NULL;
    }
    r->engine = engine;
    r->team = team;
    r->n_micro = r->stack.n = n_micro;
    r->exact = needs_copies(how, n_micro);
    r->shared = td_engine_model(engine)->shard.size > 1;
    r->memory.device = td_engine_device(engine);
    r->memory.on_device = td_memory_can(r->memory.device) &&
                          (size == 1 || td_team_is_attached(team));
    share_of(n_micro, td_team_rank(team), size, &r->first, &r->end);
    /* a rank without a micro-batch would have nothing to add */
    if (n_micro < size)
        td_fail(error, TD_ECONFIG,
                "%d processes share the %lld micro-batches of a step: make train.micro_batch "
                "smaller, or start fewer processes",
                size, (long long)n_micro);
    else if (!prepare(r, error))
        return r;
    td_reduction_free(r);
    return NULL;
}

void td_reduction_free(td_reduction *r)
{
    if (!r)
        return;
    td_memory_free(&r->memory);
    free(r->gradients);
    free(r->shares);
    free(r->parts);
    free(r);
}

void td_reduction_share(const td_reduction *r, int64_t *first, int64_t *end)
{
    *first = r->first;
    *end = r->end;
}

/* ---- sums ------------------------------------------------------------------------------------ */

static int add(const td_reduction *r, char *to, const char *more, int64_t count, td_error *error)
{
    return td_memory_add(&r->memory, to, more, count, r->dtype)
               ? td_fail(error, TD_EIO, "backend '%s' cannot add up gradients",
                         r->memory.device->backend->plugin.name)
               : 0;
}

/* Elements [from, from + n) of the gradients, out of the variables or into them. */
static int move(const td_reduction *r, bool out, int64_t from, int64_t n, char *sums,
                td_error *error)
{
    int64_t at = 0;
    for (size_t k = 0; k < r->n_gradients; at += r->gradients[k++]->count) {
        const td_variable *x = r->gradients[k];
        int64_t            first = from > at ? from : at,
                end = from + n < at + x->count ? from + n : at + x->count;
        size_t bytes = first < end ? (size_t)(end - first) * r->width : 0;
        char  *place = (char *)x->memory + (size_t)(first - at) * r->width;
        char  *here = sums + (size_t)(first - from) * r->width;
        if (bytes && (out ? td_memory_get(&r->memory, here, place, bytes)
                          : td_memory_put(&r->memory, place, here, bytes)))
            return td_fail(error, TD_EIO, "the gradient '%s' cannot be %s", x->name,
                           out ? "read" : "written");
    }
    return 0;
}

/* sum += the gradients, piece by piece if they cannot be added where they are. */
static int add_gradients(const td_reduction *r, char *sum, td_error *error)
{
    int64_t room = CHUNK / (int64_t)r->width;
    int     code = 0;
    for (size_t k = 0; k < r->n_gradients && !r->piece; k++) {
        code |= add(r, sum, r->gradients[k]->memory, r->gradients[k]->count, error);
        sum += r->gradients[k]->bytes;
    }
    for (int64_t at = 0; at < r->count && r->piece && !code; at += room) {
        int64_t n = r->count - at < room ? r->count - at : room;
        code = move(r, true, at, n, r->piece, error);
        if (!code)
            code = add(r, sum + (size_t)at * r->width, r->piece, n, error);
    }
    return code ? td_failed(error, TD_EIO) : 0;
}

bool td_reduction_adds(const td_reduction *r, int64_t m) { return !r->exact && m > r->first; }

int td_reduction_put(td_reduction *r, int64_t m, td_error *error)
{
    int merges, top, code = 0;
    if (!r->exact)
        return 0;
    if (m == r->first)
        r->stack.depth = 0; /* even after a step that was dropped half-way */
    merges = td_partials_push(&r->stack, (td_partial){ m, m + 1 });
    top = r->stack.depth - 1;
    r->in_place = !merges && !must_wait(r, m, merges);
    if (merges)
        code = add_gradients(r, r->sums[top + merges - 1], error);
    else if (!r->in_place)
        code = move(r, true, 0, r->count, r->sums[top], error);
    while (--merges > 0)
        code |= add(r, r->sums[top + merges - 1], r->sums[top + merges], r->count, error);
    return code ? td_failed(error, TD_EIO) : 0;
}

/* ---- over the ranks -------------------------------------------------------------------------- */

/* How many elements of rank d's slice at `at` there are: shares differ in length. */
static int64_t left_of(const td_reduction *r, int d, int64_t at)
{
    int64_t left = r->shares[d].count - at;
    return left < 0 ? 0 : left < r->slice ? left : r->slice;
}

/* Slice d of each part goes to rank d; what follows the end of its share is sent, but not used. */
static int pack(const td_reduction *r, int64_t at, td_error *error)
{
    size_t bytes = (size_t)r->slice * r->width;
    int    code = 0;
    for (int d = 0; d < td_team_size(r->team); d++)
        for (int k = 0; k < r->stack.depth; k++) {
            int64_t from = r->shares[d].first + at, n = left_of(r, d, at);
            char   *out = r->send + (size_t)(d * r->most + k) * bytes;
            if (r->in_place && k == r->stack.depth - 1)
                code |= move(r, true, from, n, out, error);
            else
                code |= td_memory_copy(&r->memory, out, r->sums[k] + (size_t)from * r->width,
                                       (size_t)n * r->width);
        }
    return code;
}

static char *find_part(const td_reduction *r, td_partial n)
{
    for (int k = 0; k < r->n_parts; k++)
        if (r->parts[k].at.lo == n.lo && r->parts[k].at.hi == n.hi)
            return r->receive + (size_t)(r->parts[k].rank * r->most + r->parts[k].index) *
                                    (size_t)r->slice * r->width;
    return NULL;
}

/* The sum of a node for this rank's slice, in the memory of its leftmost part. */
static char *sum_of(const td_reduction *r, td_partial n, int *code, td_error *error)
{
    char *own = find_part(r, n), *right;
    if (own)
        return own;
    own = sum_of(r, (td_partial){ n.lo, td_partial_split(n) }, code, error);
    right = sum_of(r, (td_partial){ td_partial_split(n), n.hi }, code, error);
    *code |= add(r, own, right, r->slice, error);
    return own;
}

/* The same without a tree: each rank has sent one sum, and the first takes those of the others. */
static char *sum_in_order(const td_reduction *r, int *code, td_error *error)
{
    size_t bytes = (size_t)r->slice * r->width;
    for (int d = 1; d < td_team_size(r->team); d++)
        *code |= add(r, r->receive, r->receive + (size_t)d * bytes, r->slice, error);
    return r->receive;
}

static int all_to_all(td_reduction *r, size_t bytes, td_error *error)
{
    return r->memory.on_device
               ? td_team_device_all_to_all(r->team, r->send, r->receive, bytes, error)
               : td_team_all_to_all(r->team, r->send, r->receive, bytes, error);
}

/* The sums of all ranks' slices to every rank. */
static int spread(td_reduction *r, int64_t at, const char *sum, td_error *error)
{
    size_t bytes = (size_t)r->slice * r->width;
    int code = r->memory.on_device ? td_team_device_all_gather(r->team, sum, r->whole, bytes, error)
                                   : td_team_all_gather(r->team, sum, r->whole, bytes, error);
    if (code)
        return TD_EIO;
    for (int d = 0; d < td_team_size(r->team); d++)
        code |= move(r, false, r->shares[d].first + at, left_of(r, d, at),
                     r->whole + (size_t)d * bytes, error);
    return code;
}

/* A rank whose device fails still takes part, because the others do. Sums replace the gradients,
 * which have been packed. */
static int exchange(td_reduction *r, td_error *error)
{
    int     own = td_team_rank(r->team), code = 0;
    size_t  bytes = (size_t)r->slice * r->width;
    int64_t end = longest_share(r);
    for (int64_t at = 0; at < end; at += r->slice) {
        char *sum;
        code |= pack(r, at, error);
        if (all_to_all(r, (size_t)r->most * bytes, error))
            return td_failed(error, TD_EIO);
        sum = r->exact ? sum_of(r, (td_partial){ 0, r->n_micro }, &code, error)
                       : sum_in_order(r, &code, error);
        code |= r->shared
                    ? move(r, false, r->shares[own].first + at, left_of(r, own, at), sum, error)
                    : spread(r, at, sum, error);
        if (td_team_is_lost(r->team))
            break; /* nobody would answer */
    }
    return code ? td_failed(error, TD_EIO) : 0;
}

/* In place if the device's memory is the host's. A rank whose device fails still takes part in all
 * sums, because the others do. */
static int sum_variable(const td_reduction *r, td_variable *x, td_error *error)
{
    const td_device *d = td_engine_device(r->engine);
    int64_t          room = CHUNK / (int64_t)r->width;
    int              code = 0;
    for (int64_t at = 0; at < x->count; at += room) {
        int64_t n = x->count - at < room ? x->count - at : room;
        size_t  bytes = (size_t)n * r->width;
        char   *place = (char *)x->memory + (size_t)at * r->width;
        /* a device's memory is not readable here, so it goes through a buffer of one chunk */
        char   *host = r->piece ? r->piece : place;
        if (host != place && td_device_read(d, host, place, bytes))
            code = TD_EIO;
        if (td_team_all_reduce(r->team, host, n, r->dtype, error))
            return td_failed(error, TD_EIO);
        if (host != place && td_device_write(d, place, host, bytes))
            code = TD_EIO;
    }
    return !code ? 0
                 : td_fail(error, TD_EIO,
                           "the gradient '%s' cannot be copied to or from the device", x->name);
}

static int sum_variables(const td_reduction *r, td_error *error)
{
    int code = 0;
    for (size_t k = 0; k < r->n_gradients; k++)
        code |= sum_variable(r, r->gradients[k], error);
    return code ? td_failed(error, TD_EIO) : 0;
}

/* The same from device to device, all at once. */
static int sum_on_device(const td_reduction *r, td_error *error)
{
    int code = td_team_device_begin(r->team, error);
    for (size_t k = 0; k < r->n_gradients; k++)
        code |= td_team_device_all_reduce(r->team, r->gradients[k]->memory, r->gradients[k]->count,
                                          r->dtype, error);
    code |= td_team_device_end(r->team, error);
    return code ? td_failed(error, TD_EIO) : 0;
}

static int sum_over_ranks(td_reduction *r, td_error *error)
{
    if (!r->exact && !r->shared)
        return r->memory.on_device ? sum_on_device(r, error) : sum_variables(r, error);
    if (!r->exact) {
        r->stack.depth = 1;
        r->in_place = true;
    }
    return exchange(r, error);
}

int td_reduction_finish(td_reduction *r, td_error *error)
{
    int code;
    if (td_team_size(r->team) == 1)
        return r->exact ? move(r, false, 0, r->count, r->sums[0], error) : 0;
    code = sum_over_ranks(r, error);
    if (r->memory.on_device)
        code |= td_team_device_wait(r->team, error);
    /* one whose device failed must not leave the others waiting in what follows */
    return td_team_settle(r->team, code, error);
}
