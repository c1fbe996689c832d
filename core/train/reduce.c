/* reduce.c - gradients summed over micro-batches and ranks.
 *
 * A node [lo, hi) of the tree is the sum over these micro-batches. A rank's micro-batches are the
 * union of a few nodes, its *parts*: it adds up each of them by itself, on a stack that works like
 * a binary counter. Then, for one chunk of the gradient after another, rank r receives slice r of
 * every rank's parts, adds them along the rest of the tree, and sends the sum to all ranks. So each
 * rank sends its parts once, and adds 1 / size of the numbers.
 */
#include "train/reduce.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEVELS = 64,     /* depth of the tree, for any number of micro-batches */
    CHUNK = 1 << 22, /* bytes that a rank sends to each other rank, or sums, at a time */
    GRAIN = 1 << 16  /* elements that a thread adds at a time */
};

typedef struct node {
    int64_t lo, hi;
} node;

/* A node that a single rank computes. */
typedef struct part {
    node at;
    int  rank, index; /* the index-th node of its rank */
} part;

struct td_reduction {
    td_engine *engine;
    td_team   *team;
    bool       exact; /* .. in a way that differs from fast */
    int64_t    n_micro, first, end;
    int        dtype;
    size_t     width; /* bytes of an element */
    int64_t    count; /* elements of all gradients */
    node       stack[LEVELS];
    char      *sums[LEVELS]; /* [count] of each node on the stack */
    int        depth, deepest;
    part      *parts;          /* of all ranks, in the order of micro-batches */
    int        n_parts, most;  /* `most`: largest number of parts of one rank */
    int64_t    slice;          /* elements of a chunk that a rank adds */
    char      *send, *receive; /* [size][most][slice] */
    char      *whole;          /* [size][slice] */
};

/* ---- the tree -------------------------------------------------------------------------------- */

static int64_t split(node n)
{
    int64_t half = 1;
    while (2 * half < n.hi - n.lo)
        half *= 2;
    return n.lo + half;
}

/* Whether [a.lo, b.hi) is a node below `top` with the children a and b. */
static bool are_siblings(node top, node a, node b)
{
    while (top.hi - top.lo > 1) {
        int64_t middle = split(top);
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

static void share_of(int64_t n, int rank, int size, int64_t *first, int64_t *end)
{
    *first = n * rank / size;
    *end = n * (rank + 1) / size;
}

/* The largest nodes below `n` that lie in [first, end). */
static void list_parts(td_reduction *r, node n, int rank, node own)
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
    list_parts(r, (node){ n.lo, split(n) }, rank, own);
    list_parts(r, (node){ split(n), n.hi }, rank, own);
}

/* A rank has at most two parts at each level. */
static int find_parts(td_reduction *r, td_error *error)
{
    int size = td_team_size(r->team);
    r->parts = calloc((size_t)size * 2 * LEVELS, sizeof *r->parts);
    if (!r->parts)
        return td_fail(error, TD_ENOMEM, "out of memory for the gradients of %d processes", size);
    for (int k = 0; k < size; k++) {
        node own;
        share_of(r->n_micro, k, size, &own.lo, &own.hi);
        list_parts(r, (node){ 0, r->n_micro }, k, own);
    }
    return 0;
}

/* Adds a node to the stack, and merges siblings; returns the number of merges. */
static int push(td_reduction *r, node n)
{
    int merges = 0;
    r->stack[r->depth++] = n;
    r->deepest = r->depth > r->deepest ? r->depth : r->deepest;
    while (r->depth > 1 &&
           are_siblings((node){ 0, r->n_micro }, r->stack[r->depth - 2], r->stack[r->depth - 1])) {
        r->stack[r->depth - 2].hi = r->stack[r->depth - 1].hi;
        r->depth--;
        merges++;
    }
    return merges;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static td_variable *next_gradient(td_variables *v, size_t *i)
{
    while (*i < td_variables_count(v)) {
        td_variable *x = td_variables_at(v, (*i)++);
        if (x->kind == TD_VARIABLE_GRAD)
            return x;
    }
    return NULL;
}

static bool take(char **out, double bytes)
{
    *out = bytes < 9e18 ? malloc((size_t)bytes + 1) : NULL;
    return *out != NULL;
}

/* Goes through the sums of a step without adding anything, to find the depth of the stack. */
static void play(td_reduction *r)
{
    for (int64_t m = r->first; m < r->end; m++)
        push(r, (node){ m, m + 1 });
    r->depth = 0;
}

/* Also for two: a plan that adds to the last gradient may begin a product with it, which rounds
 * differently from adding the product to it. */
static bool needs_copies(td_reduce how, int64_t n_micro)
{
    return how == TD_REDUCE_EXACT && n_micro > 1;
}

size_t td_reduction_bytes(int rank, int size, td_reduce how, int64_t n_micro, size_t gradients)
{
    td_reduction r = { .n_micro = n_micro };
    if (!needs_copies(how, n_micro))
        return 0;
    share_of(n_micro, rank, size, &r.first, &r.end);
    play(&r);
    return (size_t)r.deepest * gradients;
}

static int take_copies(td_reduction *r, td_error *error)
{
    int    size = td_team_size(r->team);
    double parts;
    bool   well = true;
    play(r);
    for (int k = 0; k < r->deepest; k++)
        well &= take(&r->sums[k], (double)r->count * (double)r->width);
    /* what goes to one rank, a slice of each of its parts, fills one CHUNK */
    r->slice = CHUNK / (int64_t)r->width / r->most;
    parts = (double)size * r->most * (double)r->slice * (double)r->width;
    if (size > 1)
        well &= take(&r->send, parts) && take(&r->receive, parts) &&
                take(&r->whole, parts / r->most);
    return well ? 0
                : td_fail(error, TD_ENOMEM,
                          "cannot allocate %d copies of the gradients for train.reduce = "
                          "\"exact\": use \"fast\", or fewer micro-batches per step",
                          r->deepest);
}

static int take_memory(td_reduction *r, td_error *error)
{
    if (r->exact)
        return take_copies(r, error);
    return td_team_size(r->team) == 1 || take(&r->whole, CHUNK)
               ? 0
               : td_fail(error, TD_ENOMEM, "out of memory for the sums of gradients");
}

static int measure(td_reduction *r, td_error *error)
{
    td_variables *v = td_engine_variables(r->engine);
    size_t        i = 0;
    r->dtype = td_device_real(td_engine_device(r->engine));
    r->width = td_dtype_size(r->dtype);
    for (td_variable *x; (x = next_gradient(v, &i));) {
        if (x->bytes != (size_t)x->count * r->width)
            return td_fail(error, TD_EUNSUPPORTED, "the gradient '%s' has a different precision",
                           x->name);
        r->count += x->count;
    }
    return 0;
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
    r->n_micro = n_micro;
    r->exact = needs_copies(how, n_micro);
    share_of(n_micro, td_team_rank(team), size, &r->first, &r->end);
    /* a rank without a micro-batch would have nothing to add */
    if (n_micro < size)
        td_fail(error, TD_ECONFIG,
                "%d processes share the %lld micro-batches of a step: make train.micro_batch "
                "smaller, or start fewer processes",
                size, (long long)n_micro);
    else if (!measure(r, error) && !find_parts(r, error) && !take_memory(r, error))
        return r;
    td_reduction_free(r);
    return NULL;
}

void td_reduction_free(td_reduction *r)
{
    if (!r)
        return;
    for (int k = 0; k < LEVELS; k++)
        free(r->sums[k]);
    free(r->parts);
    free(r->send);
    free(r->receive);
    free(r->whole);
    free(r);
}

void td_reduction_share(const td_reduction *r, int64_t *first, int64_t *end)
{
    *first = r->first;
    *end = r->end;
}

/* ---- sums ------------------------------------------------------------------------------------ */

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

static void add(const td_reduction *r, char *to, const char *more, int64_t count)
{
    addition a = { to, more, count, r->dtype };
    td_parallel(td_engine_device(r->engine)->services, (count + GRAIN - 1) / GRAIN, add_grain, &a);
}

/* The gradients of all variables, one after another. */
static int read_gradients(const td_reduction *r, char *out, td_error *error)
{
    size_t i = 0;
    for (td_variable *x; (x = next_gradient(td_engine_variables(r->engine), &i)); out += x->bytes)
        if (td_device_read(td_engine_device(r->engine), out, x->memory, x->bytes))
            return td_fail(error, TD_EIO, "the gradient '%s' cannot be read", x->name);
    return 0;
}

static int write_gradients(const td_reduction *r, const char *in, td_error *error)
{
    size_t i = 0;
    for (td_variable *x; (x = next_gradient(td_engine_variables(r->engine), &i)); in += x->bytes)
        if (td_device_write(td_engine_device(r->engine), x->memory, in, x->bytes))
            return td_fail(error, TD_EIO, "the gradient '%s' cannot be written", x->name);
    return 0;
}

bool td_reduction_adds(const td_reduction *r, int64_t m) { return !r->exact && m > r->first; }

int td_reduction_put(td_reduction *r, int64_t m, td_error *error)
{
    if (!r->exact)
        return 0;
    if (m == r->first)
        r->depth = 0; /* even after a step that was dropped half-way */
    if (read_gradients(r, r->sums[r->depth], error))
        return td_failed(error, TD_EIO);
    for (int merges = push(r, (node){ m, m + 1 }); merges > 0; merges--)
        add(r, r->sums[r->depth - 1 + merges - 1], r->sums[r->depth - 1 + merges], r->count);
    return 0;
}

/* ---- over the ranks -------------------------------------------------------------------------- */

/* Slice d of each part goes to rank d; past the end of the gradient, zeros are sent. */
static void pack(const td_reduction *r, int64_t at)
{
    int    size = td_team_size(r->team);
    size_t bytes = (size_t)r->slice * r->width;
    for (int d = 0; d < size; d++)
        for (int k = 0; k < r->depth; k++) {
            int64_t from = at + d * r->slice, left = r->count - from;
            int64_t n = left < 0 ? 0 : left < r->slice ? left : r->slice;
            char   *out = r->send + (size_t)(d * r->most + k) * bytes;
            if (n)
                memcpy(out, r->sums[k] + (size_t)from * r->width, (size_t)n * r->width);
            memset(out + (size_t)n * r->width, 0, bytes - (size_t)n * r->width);
        }
}

static char *find_part(const td_reduction *r, node n)
{
    for (int k = 0; k < r->n_parts; k++)
        if (r->parts[k].at.lo == n.lo && r->parts[k].at.hi == n.hi)
            return r->receive + (size_t)(r->parts[k].rank * r->most + r->parts[k].index) *
                                    (size_t)r->slice * r->width;
    return NULL;
}

/* The sum of a node for this rank's slice, in the memory of its leftmost part. */
static char *sum_of(const td_reduction *r, node n)
{
    char *own = find_part(r, n), *right;
    if (own)
        return own;
    own = sum_of(r, (node){ n.lo, split(n) });
    right = sum_of(r, (node){ split(n), n.hi });
    add(r, own, right, r->slice);
    return own;
}

static int finish_exact(td_reduction *r, td_error *error)
{
    int    size = td_team_size(r->team);
    size_t bytes = (size_t)r->slice * r->width;
    for (int64_t at = 0; at < r->count; at += size * r->slice) {
        int64_t n = r->count - at < size * r->slice ? r->count - at : size * r->slice;
        pack(r, at);
        if (td_team_all_to_all(r->team, r->send, r->receive, (size_t)r->most * bytes, error) ||
            td_team_all_gather(r->team, sum_of(r, (node){ 0, r->n_micro }), r->whole, bytes, error))
            return td_failed(error, TD_EIO);
        /* the previous contents have been sent */
        memcpy(r->sums[0] + (size_t)at * r->width, r->whole, (size_t)n * r->width);
    }
    return 0;
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
        char   *host = d->backend->upload ? r->whole : place;
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

static int finish_fast(const td_reduction *r, td_error *error)
{
    size_t i = 0;
    int    code = 0;
    for (td_variable *x; (x = next_gradient(td_engine_variables(r->engine), &i));)
        code |= sum_variable(r, x, error);
    return code ? td_failed(error, TD_EIO) : 0;
}

int td_reduction_finish(td_reduction *r, td_error *error)
{
    bool alone = td_team_size(r->team) == 1;
    if (!r->exact)
        return alone ? 0 : finish_fast(r, error);
    if (!alone && finish_exact(r, error))
        return td_failed(error, TD_EIO);
    return write_gradients(r, r->sums[0], error);
}
