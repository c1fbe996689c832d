/* deal.c - gradients that are sent to all ranks in slices while they are computed.
 *
 * Of a gradient of N elements, rank r has the slice of ceil(N / n) elements that begins at r ceil(N / n).
 * All slices of a rank lie one after another, those of one owner's gradients together, so the last
 * exchange, to the owners, moves plain ranges.
 */
#include "train/deal.h"

#include <stdlib.h>
#include <string.h>

#include "train/tree.h"

enum { MOST = 1 << 26 }; /* bytes that a rank sends to all others at a time */

struct td_dealing {
    td_engine    *engine;
    td_team      *team;
    bool          exact;
    int64_t       n_micro, round;
    int           dtype;
    size_t        width;     /* bytes of an element */
    int64_t       room;      /* elements that go to each rank at a time */
    td_variable **gradients; /* [n], by owner */
    size_t        n;
    int64_t      *offset; /* by index of the variable: where its slice begins in a sum */
    int64_t      *bound;  /* [size + 1]: where the slices of an owner's gradients begin */
    td_partials   stack;  /* before the current round */
    char         *sums[TD_TREE_LEVELS]; /* [bound[size]] of each that may wait */
    char         *send, *receive;       /* [size][room] */
};

/* ---- slices ---------------------------------------------------------------------------------- */

static int64_t slice_among(const td_variable *x, int size) { return (x->count + size - 1) / size; }

static int64_t slice_of(const td_dealing *d, const td_variable *x)
{
    return slice_among(x, td_team_size(d->team));
}

static void lay_out(td_dealing *d)
{
    int     size = td_team_size(d->team);
    int64_t at = 0;
    for (size_t k = 0; k < d->n; k++) {
        d->offset[d->gradients[k]->index] = at;
        at += slice_of(d, d->gradients[k]);
        d->bound[d->gradients[k]->owner + 1] = at;
    }
    /* an owner of nothing begins where the one before it ends */
    for (int r = 0; r < size; r++)
        if (d->bound[r + 1] < d->bound[r])
            d->bound[r + 1] = d->bound[r];
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* How many sums wait at the same time: "fast" adds to a single one. */
static int count_sums(td_reduce how, int64_t n_micro)
{
    td_partials s = { .n = n_micro };
    int         most = 1;
    for (int64_t m = 0; m < n_micro && how == TD_REDUCE_EXACT; m++)
        if (!td_partials_push(&s, (td_partial){ m, m + 1 }) && s.depth > most)
            most = s.depth;
    return most;
}

/* Elements of a rank's slices of all gradients. */
static int64_t count_slices(td_engine *engine, int size)
{
    const td_variables *v = td_engine_variables(engine);
    int64_t             all = 0;
    for (size_t i = 0; i < td_variables_count(v); i++)
        if (td_variables_at(v, i)->kind == TD_VARIABLE_GRAD)
            all += slice_among(td_variables_at(v, i), size);
    return all;
}

/* What is on its way, to and from all ranks, takes no more than the slices: a small model on many ranks
 * would otherwise need more for it than for its gradients. */
static int64_t room_for(size_t chunk, int size, size_t width, int64_t all)
{
    size_t  each = chunk < MOST / (size_t)size ? chunk : MOST / (size_t)size;
    int64_t room = (int64_t)(each / width), most = all / (2 * size);
    room = room < most ? room : most;
    return room > 1 ? room : 1;
}

double td_dealing_bytes(td_engine *engine, int size, td_reduce how, int64_t n_micro, size_t chunk)
{
    size_t  width = td_dtype_size(td_device_real(td_engine_device(engine)));
    int64_t all = count_slices(engine, size);
    return (double)width * ((double)count_sums(how, n_micro) * (double)all +
                            2.0 * size * (double)room_for(chunk, size, width, all));
}

static int take_memory(td_dealing *d, td_reduce how, size_t chunk, td_error *error)
{
    td_variables *v = td_engine_variables(d->engine);
    int           size = td_team_size(d->team);
    int64_t       all = count_slices(d->engine, size);
    double        buffer;
    bool          well;
    d->room = room_for(chunk, size, d->width, all);
    buffer = (double)size * (double)d->room * (double)d->width;
    d->gradients = td_gradients_by_owner(d->engine, &d->n, error);
    d->offset = calloc(td_variables_count(v) + 1, sizeof *d->offset);
    d->bound = calloc((size_t)size + 1, sizeof *d->bound);
    well = d->gradients && d->offset && d->bound;
    if (well)
        lay_out(d);
    for (int k = 0; well && k < count_sums(how, d->n_micro); k++)
        well = td_take_bytes(&d->sums[k], (double)all * (double)d->width);
    well = well && td_take_bytes(&d->send, buffer) && td_take_bytes(&d->receive, buffer);
    return well ? 0 : td_fail(error, TD_ENOMEM, "out of memory for the sums of gradients");
}

td_dealing *td_dealing_new(td_engine *engine, td_team *team, td_reduce how, int64_t n_micro,
                           size_t chunk, td_error *error)
{
    td_dealing *d = calloc(1, sizeof *d);
    if (!d) {
        td_fail(error, TD_ENOMEM, "out of memory for the sums of gradients");
        return NULL;
    }
    d->engine = engine;
    d->team = team;
    d->exact = how == TD_REDUCE_EXACT;
    d->n_micro = d->stack.n = n_micro;
    d->dtype = td_device_real(td_engine_device(engine));
    d->width = td_dtype_size(d->dtype);
    if (!take_memory(d, how, chunk, error))
        return d;
    td_dealing_free(d);
    return NULL;
}

void td_dealing_free(td_dealing *d)
{
    if (!d)
        return;
    for (int k = 0; k < TD_TREE_LEVELS; k++)
        free(d->sums[k]);
    free(d->gradients);
    free(d->offset);
    free(d->bound);
    free(d->send);
    free(d->receive);
    free(d);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

int64_t td_dealing_rounds(const td_dealing *d)
{
    int size = td_team_size(d->team);
    return (d->n_micro + size - 1) / size;
}

int64_t td_dealing_own(const td_dealing *d)
{
    int size = td_team_size(d->team), rank = td_team_rank(d->team);
    return (d->n_micro - rank + size - 1) / size;
}

void td_dealing_begin(td_dealing *d, int64_t round)
{
    d->round = round;
    if (!round)
        d->stack.depth = 0; /* even after a step that was dropped half-way */
}

int64_t td_dealing_micro(const td_dealing *d)
{
    int64_t m = d->round * td_team_size(d->team) + td_team_rank(d->team);
    return m < d->n_micro ? m : -1;
}

/* Micro-batches [*first, *end) of the round. */
static void round_of(const td_dealing *d, int64_t *first, int64_t *end)
{
    int size = td_team_size(d->team);
    *first = d->round * size;
    *end = *first + size < d->n_micro ? *first + size : d->n_micro;
}

void td_dealing_end(td_dealing *d)
{
    int64_t first, end;
    round_of(d, &first, &end);
    for (int64_t m = first; m < end; m++)
        td_partials_push(&d->stack, (td_partial){ m, m + 1 });
}

/* ---- adding ---------------------------------------------------------------------------------- */

static void add(const td_dealing *d, void *to, const void *more, int64_t count)
{
    td_add_numbers(td_engine_device(d->engine)->services, to, more, count, d->dtype);
}

/* The next micro-batch's part of elements [at, at + count) of the sums. */
static void put(const td_dealing *d, td_partials *stack, int64_t m, const char *part, int64_t at,
                int64_t count)
{
    size_t offset = (size_t)at * d->width, bytes = (size_t)count * d->width;
    int    merges = td_partials_push(stack, (td_partial){ m, m + 1 }), top = stack->depth - 1;
    if (!d->exact && m)
        add(d, d->sums[0] + offset, part, count);
    else if (!d->exact || !merges)
        memcpy(d->sums[d->exact ? top : 0] + offset, part, bytes);
    else
        add(d, d->sums[top + merges - 1] + offset, part, count);
    while (d->exact && --merges > 0)
        add(d, d->sums[top + merges - 1] + offset, d->sums[top + merges] + offset, count);
}

/* Elements first, first + 1 .. for rank r: `count`, of which `left` exist; the rest is zeros. */
static void pack(const td_dealing *d, int r, const char *from, int64_t first, int64_t left,
                 int64_t count)
{
    size_t bytes = (size_t)count * d->width;
    size_t used = (size_t)(left < 0 ? 0 : left < count ? left : count) * d->width;
    char  *to = d->send + (size_t)r * bytes;
    if (used)
        memcpy(to, from + (size_t)first * d->width, used);
    memset(to + used, 0, bytes - used);
}

/* Elements [at, at + count) of slice r of the gradient to rank r. */
static void pack_slices(const td_dealing *d, const td_variable *x, const char *from, int64_t at,
                        int64_t count)
{
    for (int r = 0; r < td_team_size(d->team); r++) {
        int64_t first = r * slice_of(d, x) + at;
        pack(d, r, from, first, x->count - first, count);
    }
}

int td_dealing_deliver(td_dealing *d, const td_variable *x, const void *from, td_error *error)
{
    int64_t slice = slice_of(d, x), room = d->room, first, end;
    round_of(d, &first, &end);
    for (int64_t at = 0; at < slice; at += room) {
        int64_t     count = slice - at < room ? slice - at : room;
        size_t      bytes = (size_t)count * d->width;
        td_partials stack = d->stack; /* as it was before the round, for every piece */
        pack_slices(d, x, from, at, count);
        if (td_team_all_to_all(d->team, d->send, d->receive, bytes, error))
            return td_failed(error, TD_EIO);
        /* ranks that only serve have sent nothing of use */
        for (int64_t m = first; m < end; m++)
            put(d, &stack, m, d->receive + (size_t)(m - first) * bytes, d->offset[x->index] + at,
                count);
    }
    return 0;
}

/* ---- to the owners --------------------------------------------------------------------------- */

/* Elements [at, at + count) of rank r's slices of own gradients, to where they belong. */
static void place(const td_dealing *d, int r, int64_t at, int64_t count, const char *from)
{
    int     own = td_team_rank(d->team);
    int64_t begin = d->bound[own] + at;
    for (size_t k = 0; k < d->n; k++) {
        const td_variable *x = d->gradients[k];
        int64_t            slice = slice_of(d, x), offset = d->offset[x->index];
        int64_t            first = offset > begin ? offset : begin;
        int64_t            end = offset + slice < begin + count ? offset + slice : begin + count;
        int64_t            element = r * slice + first - offset; /* of the gradient */
        if (x->owner != own || first >= end)
            continue;
        /* the last slices may reach beyond the end */
        if (end - first > x->count - element)
            end = first + x->count - element;
        if (end > first)
            memcpy((char *)x->memory + (size_t)element * d->width,
                   from + (size_t)(first - begin) * d->width, (size_t)(end - first) * d->width);
    }
}

static int64_t slices_of_owner(const td_dealing *d, int r) { return d->bound[r + 1] - d->bound[r]; }

/* Ranks exchange equal amounts, so all take part until the longest is done, even one that has failed:
 * the others would wait for it. */
int td_dealing_finish(td_dealing *d, td_error *error)
{
    int     size = td_team_size(d->team), own = td_team_rank(d->team);
    int     code = 0;
    int64_t longest = 0;
    for (int r = 0; r < size; r++)
        longest = slices_of_owner(d, r) > longest ? slices_of_owner(d, r) : longest;
    for (int64_t at = 0; at < longest && !td_team_is_lost(d->team); at += d->room) {
        int64_t count = longest - at < d->room ? longest - at : d->room;
        int64_t left = slices_of_owner(d, own) - at;
        size_t  bytes = (size_t)count * d->width;
        for (int r = 0; r < size; r++)
            pack(d, r, d->sums[0], d->bound[r] + at, slices_of_owner(d, r) - at, count);
        code |= td_team_all_to_all(d->team, d->send, d->receive, bytes, error);
        for (int r = 0; r < size && !code; r++)
            place(d, r, at, left < count ? left : count, d->receive + (size_t)r * bytes);
    }
    return td_team_settle(d->team, code, error);
}
