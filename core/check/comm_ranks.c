/* comm_ranks.c - requirements on a communicator that several processes test together: each runs this
 * test at the same time, and reports what it finds.
 *
 * A rank that finds a mistake continues, because the others wait for its calls.
 */
#include "base/ranks.h"
#include "tandem/kind/comm.h"

#include "check/cases.h"
#include "check/internal.h"

typedef struct group {
    td_check      *check;
    const td_comm *comm;
    void          *state;
    int            rank, size;
} group;

/* Odd, and large enough that a comm sends it in pieces, or by another algorithm. */
static const int64_t counts[] = { 1, 7, 1001, 300007 };
enum { COUNTS = sizeof counts / sizeof *counts };

static void *take(const group *g, size_t bytes)
{
    void *memory = td_arena_alloc(g->check->arena, bytes);
    MUST(g->check, memory, "out of memory");
    return memory;
}

/* Byte k of what rank `from` sends to rank `to`. */
static unsigned char byte_of(int from, int to, size_t k)
{
    return (unsigned char)(7 * from + 31 * to + 13 * (int)(k % 251) + (int)(k >> 8));
}

static void fill(unsigned char *out, size_t bytes, int from, int to)
{
    for (size_t k = 0; k < bytes; k++)
        out[k] = byte_of(from, to, k);
}

static bool is_filled(const unsigned char *in, size_t bytes, int from, int to)
{
    for (size_t k = 0; k < bytes; k++)
        if (in[k] != byte_of(from, to, k))
            return false;
    return true;
}

/* ---- moving bytes ---------------------------------------------------------------------------- */

static void check_broadcast(const group *g, size_t bytes)
{
    td_error       e = { 0 };
    unsigned char *data = take(g, bytes);
    for (int root = 0; root < g->size; root++) {
        fill(data, bytes, g->rank, 0);
        MUST(g->check, !g->comm->broadcast(g->state, data, bytes, root, &e),
             "broadcast of %zu bytes from rank %d fails: %s", bytes, root, td_check_error(&e));
        if (!is_filled(data, bytes, root, 0))
            td_check_finding(g->check,
                             "broadcast: %zu bytes differ from what the root, rank %d, sent", bytes,
                             root);
    }
}

static void check_all_gather(const group *g, size_t bytes)
{
    td_error       e = { 0 };
    unsigned char *send = take(g, bytes), *receive = take(g, (size_t)g->size * bytes);
    fill(send, bytes, g->rank, 0);
    MUST(g->check, !g->comm->all_gather(g->state, send, receive, bytes, &e),
         "all_gather of %zu bytes fails: %s", bytes, td_check_error(&e));
    for (int r = 0; r < g->size; r++)
        if (!is_filled(receive + (size_t)r * bytes, bytes, r, 0))
            td_check_finding(g->check, "all_gather: part %d is not the %zu bytes that rank %d sent",
                             r, bytes, r);
}

static void check_all_to_all(const group *g, size_t bytes)
{
    td_error       e = { 0 };
    unsigned char *send = take(g, (size_t)g->size * bytes);
    unsigned char *receive = take(g, (size_t)g->size * bytes);
    for (int d = 0; d < g->size; d++)
        fill(send + (size_t)d * bytes, bytes, g->rank, d);
    MUST(g->check, !g->comm->all_to_all(g->state, send, receive, bytes, &e),
         "all_to_all of %zu bytes fails: %s", bytes, td_check_error(&e));
    for (int r = 0; r < g->size; r++)
        if (!is_filled(receive + (size_t)r * bytes, bytes, r, g->rank))
            td_check_finding(g->check,
                             "all_to_all: part %d is not the %zu bytes that rank %d sent here", r,
                             bytes, r);
}

/* ---- adding ---------------------------------------------------------------------------------- */

static void put(void *data, int64_t k, int dtype, double x)
{
    if (dtype == TD_F64)
        ((double *)data)[k] = x;
    else
        ((float *)data)[k] = (float)x;
}

static double get(const void *data, int64_t k, int dtype)
{
    return dtype == TD_F64 ? ((const double *)data)[k] : (double)((const float *)data)[k];
}

static const char *name_of(int dtype) { return dtype == TD_F64 ? "double" : "float"; }

static void add(const group *g, void *data, int64_t count, int dtype)
{
    td_error e = { 0 };
    MUST(g->check, !g->comm->all_reduce(g->state, data, count, dtype, &e),
         "all_reduce of %lld numbers in %s fails: %s", (long long)count, name_of(dtype),
         td_check_error(&e));
}

/* Small integers, whose sums are exact in any order. */
static void check_sums(const group *g, int64_t count, int dtype)
{
    void   *data = take(g, (size_t)count * sizeof(double));
    int64_t wrong = -1;
    int     weight = g->size * (g->size + 1) / 2;
    for (int64_t k = 0; k < count; k++)
        put(data, k, dtype, (g->rank + 1) * (double)(k % 11 - 5));
    add(g, data, count, dtype);
    for (int64_t k = 0; k < count && wrong < 0; k++)
        if (get(data, k, dtype) != weight * (double)(k % 11 - 5))
            wrong = k;
    if (wrong >= 0)
        td_check_finding(g->check,
                         "all_reduce: the sum of number %lld of %lld over the ranks is %g in %s, "
                         "not %g",
                         (long long)wrong, (long long)count, get(data, wrong, dtype),
                         name_of(dtype), weight * (double)(wrong % 11 - 5));
}

/* Numbers of many sizes: each order of addition rounds differently. */
static void fill_uneven(const group *g, void *data, int64_t count, int dtype)
{
    for (int64_t k = 0; k < count; k++) {
        double x = 1 / (double)(3 + g->rank + k % 17);
        for (int64_t n = (5 * g->rank + 3 * k) % 7; n > 0; n--)
            x *= k % 2 ? -11 : 11;
        put(data, k, dtype, x);
    }
}

static void compare(const group *g, const char *all, int64_t count, int dtype)
{
    size_t width = dtype == TD_F64 ? sizeof(double) : sizeof(float);
    for (int r = 1; r < g->size; r++)
        for (int64_t k = 0; k < count; k++) {
            const char *own = all + ((size_t)r * (size_t)count + (size_t)k) * width;
            if (!memcmp(all + (size_t)k * width, own, width))
                continue;
            td_check_finding(
                g->check,
                "all_reduce: number %lld of %lld is %a on rank 0 and %a on rank %d, in "
                "%s: all ranks must add in the same order, or their parameters drift "
                "apart",
                (long long)k, (long long)count, get(all, k, dtype), get(own, 0, dtype), r,
                name_of(dtype));
            break;
        }
}

/* The same bits on all ranks, and again. Rank 0 compares, so that it is reported once. */
static void check_bits(const group *g, int64_t count, int dtype)
{
    size_t width = dtype == TD_F64 ? sizeof(double) : sizeof(float), bytes = (size_t)count * width;
    char  *first = take(g, bytes), *again = take(g, bytes), *all = take(g, (size_t)g->size * bytes);
    td_error e = { 0 };
    fill_uneven(g, first, count, dtype);
    add(g, first, count, dtype);
    fill_uneven(g, again, count, dtype);
    add(g, again, count, dtype);
    if (memcmp(first, again, bytes) != 0)
        td_check_finding(
            g->check, "all_reduce: the same %lld numbers in %s have different sums the second time",
            (long long)count, name_of(dtype));
    MUST(g->check, !g->comm->all_gather(g->state, first, all, bytes, &e), "all_gather fails: %s",
         td_check_error(&e));
    if (!g->rank)
        compare(g, all, count, dtype);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void check_all(const group *g)
{
    static const int dtypes[] = { TD_F32, TD_F64 };
    for (int k = 0; k < COUNTS; k++) {
        check_broadcast(g, (size_t)counts[k]);
        check_all_gather(g, (size_t)counts[k]);
        check_all_to_all(g, (size_t)counts[k]);
        for (int d = 0; d < 2; d++) {
            check_sums(g, counts[k], dtypes[d]);
            check_bits(g, counts[k], dtypes[d]);
        }
    }
}

void td_check_comm_ranks(td_check *c)
{
    td_part        part = td_check_part(c);
    const td_comm *m = (const void *)part.plugin;
    td_ranks       started = td_ranks_of_environment();
    group          g = { .check = c, .comm = m };
    td_error       e = { 0 };
    if (started.size == 1)
        td_check_skip(c, "it needs several processes: mpirun -np %d tandem plugins check .. --here",
                      TD_CHECK_RANKS);
    MUST(c, !m->open(part.config, td_check_services(c, 1), &g.state, &e), "it cannot be opened: %s",
         td_check_error(&e));
    g.rank = m->rank(g.state);
    g.size = m->size(g.state);
    if (g.size == 1) {
        m->close(g.state);
        td_check_skip(c, "it connects a single process, not the %d that %s started", started.size,
                      started.launcher);
    }
    if (g.size != started.size || g.rank != started.rank)
        td_check_finding(c, "it claims rank %d of %d, but %s started this process as rank %d of %d",
                         g.rank, g.size, started.launcher, started.rank, started.size);
    if (g.size ==
        started.size) /* the other ranks may have found nothing yet, and make their calls */
        check_all(&g);
    m->close(g.state);
}
