/* comm_devices.c - requirements on a communicator that connects devices: several processes move numbers
 * between the memories of a backend, and look at what has arrived.
 *
 * A rank that finds a mistake continues, because the others wait for its calls.
 */
#include "base/ranks.h"
#include "tandem/kind/comm.h"

#include "check/cases.h"
#include "check/internal.h"

/* Odd, so that nothing is aligned. */
enum { COUNT = 30011 };

typedef struct group {
    td_check      *check;
    const td_comm *comm;
    void          *state;
    int            rank, size;
    td_device      device;
    int            dtype; /* of the backend's own kernels */
    size_t         width;
} group;

/* ---- memory ---------------------------------------------------------------------------------- */

/* Number k of what rank `from` has for rank `to`: small integers, whose sums are exact in any order. */
static double value_of(int from, int to, int64_t k)
{
    return (double)((7 * from + 31 * to + k) % 101 - 50);
}

static void *host_memory(const group *g, int64_t parts)
{
    void *memory = td_arena_alloc(g->check->arena, (size_t)parts * COUNT * g->width);
    MUST(g->check, memory, "out of memory");
    return memory;
}

static void put(const group *g, void *data, int64_t k, double x)
{
    if (g->dtype == TD_F64)
        ((double *)data)[k] = x;
    else
        ((float *)data)[k] = (float)x;
}

static double get(const group *g, const void *data, int64_t k)
{
    return g->dtype == TD_F64 ? ((const double *)data)[k] : (double)((const float *)data)[k];
}

/* Device memory of `parts` parts: part p is what this rank has for rank p. */
static void *take(const group *g, int parts)
{
    const td_backend *b = g->device.backend;
    size_t            bytes = (size_t)parts * COUNT * g->width;
    void             *host = host_memory(g, parts), *memory = b->allocate(g->device.state, bytes);
    for (int p = 0; p < parts; p++)
        for (int64_t k = 0; k < COUNT; k++)
            put(g, host, p * COUNT + k, value_of(g->rank, p, k));
    MUST(g->check, memory && !td_device_write(&g->device, memory, host, bytes),
         "backend '%s' cannot take %zu bytes", b->plugin.name, bytes);
    return memory;
}

/* After a wait, part p of device memory must be `expected`(p, k). */
static void expect(const group *g, const char *hook, const void *memory, int parts,
                   double (*expected)(const group *, int, int64_t))
{
    void   *host = host_memory(g, parts);
    int64_t wrong = -1;
    MUST(g->check, !td_device_read(&g->device, host, memory, (size_t)parts * COUNT * g->width),
         "the backend cannot read the memory that %s wrote", hook);
    for (int64_t k = (int64_t)parts * COUNT - 1; k >= 0; k--)
        if (get(g, host, k) != expected(g, (int)(k / COUNT), k % COUNT))
            wrong = k;
    if (wrong >= 0)
        td_check_finding(g->check, "%s: number %lld of part %lld is %g, not %g", hook,
                         (long long)(wrong % COUNT), (long long)(wrong / COUNT),
                         get(g, host, wrong), expected(g, (int)(wrong / COUNT), wrong % COUNT));
}

/* ---- transfers ------------------------------------------------------------------------------- */

static double sent_here(const group *g, int part, int64_t k) { return value_of(part, g->rank, k); }

static double sent_to_all(const group *g, int part, int64_t k) { return value_of(part, 0, k); }

static double sum_of_all(const group *g, int part, int64_t k)
{
    double sum = 0;
    for (int r = 0; r < g->size; r++)
        sum += value_of(r, 0, k);
    return sum;
}

static double of_the_last(const group *g, int part, int64_t k)
{
    return value_of(g->size - 1, 0, k);
}

static void wait_for(const group *g, int code, const char *hook, td_error *e)
{
    MUST(g->check, !code, "%s fails: %s", hook, td_check_error(e));
    MUST(g->check, !g->comm->device_wait(g->state, e), "device_wait fails after %s: %s", hook,
         td_check_error(e));
}

static void check_moves(const group *g)
{
    const td_comm *m = g->comm;
    td_error       e = { 0 };
    size_t         bytes = COUNT * g->width;
    void          *send = take(g, g->size), *receive = take(g, g->size);
    wait_for(g, m->device_all_to_all(g->state, send, receive, bytes, &e), "device_all_to_all", &e);
    expect(g, "device_all_to_all", receive, g->size, sent_here);
    wait_for(g, m->device_all_gather(g->state, send, receive, bytes, &e), "device_all_gather", &e);
    expect(g, "device_all_gather", receive, g->size, sent_to_all);
    g->device.backend->release(g->device.state, send, (size_t)g->size * bytes);
    g->device.backend->release(g->device.state, receive, (size_t)g->size * bytes);
}

/* As gradients and parameters move: several transfers at once. */
static void check_group(const group *g)
{
    const td_comm *m = g->comm;
    td_error       e = { 0 };
    size_t         bytes = COUNT * g->width;
    void          *sum = take(g, 1), *other = take(g, 1), *sent = take(g, 1);
    int            code = m->device_begin(g->state, &e);
    code |= m->device_all_reduce(g->state, sum, COUNT, g->dtype, &e);
    code |= m->device_all_reduce(g->state, other, COUNT, g->dtype, &e);
    code |= m->device_broadcast(g->state, sent, bytes, g->size - 1, &e);
    code |= m->device_end(g->state, &e);
    wait_for(g, code, "a group of device_all_reduce and device_broadcast", &e);
    expect(g, "device_all_reduce", sum, 1, sum_of_all);
    expect(g, "device_all_reduce", other, 1, sum_of_all);
    expect(g, "device_broadcast", sent, 1, of_the_last);
    g->device.backend->release(g->device.state, sum, bytes);
    g->device.backend->release(g->device.state, other, bytes);
    g->device.backend->release(g->device.state, sent, bytes);
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Whether every rank can go on: otherwise none does. */
static bool all_can(const group *g, bool own)
{
    double count = own;
    MUST(g->check, !g->comm->all_reduce(g->state, &count, 1, TD_F64, NULL), "all_reduce fails");
    return count == g->size;
}

static bool open_devices(group *g, td_error *e)
{
    td_part backend = td_check_default(g->check, TD_BACKEND_KIND, g->comm->backend);
    if (!all_can(g, !td_check_open_backend(g->check, &backend, 1, &g->device, e)))
        return false;
    g->dtype = td_device_real(&g->device);
    g->width = td_dtype_size(g->dtype);
    MUST(g->check, g->device.backend->queue && g->device.backend->copy && g->device.backend->add,
         "backend '%s' lacks queue, copy or add, without which its memory is not connected",
         g->comm->backend);
    return true;
}

static void check_devices(group *g)
{
    td_error e = { 0 };
    void    *queue = g->device.backend->queue(g->device.state);
    int      code = g->comm->attach(g->state, queue, &e);
    if (code)
        td_check_failure(g->check, "attach", code, &e);
    if (all_can(g, !code)) {
        check_moves(g);
        check_group(g);
    }
    MUST(g->check, !code, "attach fails: %s", td_check_error(&e));
    g->comm->detach(g->state);
}

void td_check_comm_devices(td_check *c)
{
    td_part  part = td_check_part(c);
    group    g = { .check = c, .comm = (const void *)part.plugin };
    td_error e = { 0 };
    bool     opened = false;
    if (!g.comm->backend)
        td_check_skip(c, "it connects no devices");
    if (td_ranks_of_environment().size == 1)
        td_check_skip(c, "it needs several processes: mpirun -np %d tandem plugins check .. --here",
                      TD_CHECK_RANKS);
    MUST(c, !g.comm->open(part.config, td_check_services(c, 1), &g.state, &e),
         "it cannot be opened: %s", td_check_error(&e));
    g.rank = g.comm->rank(g.state);
    g.size = g.comm->size(g.state);
    if (g.size > 1 && open_devices(&g, &e)) {
        opened = true;
        check_devices(&g);
    }
    /* before a skip, which does not return: the others may wait in their close */
    g.comm->close(g.state);
    if (!opened)
        td_check_skip(c, "not every process has a device of backend '%s': %s", g.comm->backend,
                      e.code ? td_check_error(&e) : "another one has none");
}
