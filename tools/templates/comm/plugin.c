/* comm-@NAME@.c - a single process that counts what several would have to send.
 *
 * The contract: tandem/kind/comm.h. */
#include <stdlib.h>
#include <string.h>

#include "tandem/kind/comm.h"

struct @IDENT@_config {
    bool report;
};

static const td_option options[] = { TD_OPTION_BOOL(struct @IDENT@_config, report, true,
                                                    "log the amount sent at the end"),
                                     TD_OPTION_END };

/* Made by `open`, freed by `close`. */
typedef struct state {
    const td_services *services; /* outlives this */
    bool               report;
    long long          calls, bytes;
} state;

/* [main]: join the other processes. After an error `*out` is not read and `close` is not called. */
static int open_@IDENT@(const void *config, const td_services *services, void **out, td_error *error)
{
    const struct @IDENT@_config *c = config;
    state                    *s = calloc(1, sizeof *s);
    if (!s)
        return td_fail(error, TD_ENOMEM, "comm '@NAME@': out of memory");
    s->services = services;
    s->report = c->report;
    *out = s;
    return 0;
}

static void close_@IDENT@(void *state_)
{
    state *s = state_;
    if (s->report)
        s->services->log(s->services, TD_LOG_INFO, "comm '@NAME@': %lld calls, %lld bytes", s->calls,
                         s->bytes);
    free(s);
}

/* [any]: 0 <= rank < size; neither changes while the plugin is open. */
static int rank_of(void *state_)
{
    (void)state_;
    return 0;
}

static int size_of(void *state_)
{
    (void)state_;
    return 1;
}

/* [main]: sum `data`, `count` numbers of `dtype` (TD_F32 or TD_F64), over all ranks, in place. Every
 * rank must get the same bits, run after run. With a single rank the sum is the data itself. */
static int all_reduce(void *state_, void *data, int64_t count, int dtype, td_error *error)
{
    state *s = state_;
    (void)data;
    if (dtype != TD_F32 && dtype != TD_F64)
        return td_fail(error, TD_EUNSUPPORTED,
                       "comm '@NAME@' cannot sum numbers of dtype %d, only TD_F32 and TD_F64",
                       dtype);
    s->calls++;
    s->bytes += (long long)count * (dtype == TD_F32 ? 4 : 8);
    return 0;
}

/* [main]: copy the `data` of rank `root` to all ranks. */
static int broadcast(void *state_, void *data, size_t bytes, int root, td_error *error)
{
    state *s = state_;
    (void)data;
    if (root != 0)
        return td_fail(error, TD_ECONFIG,
                       "comm '@NAME@' cannot send from rank %d: the only rank is 0", root);
    s->calls++;
    s->bytes += (long long)bytes;
    return 0;
}

/* [main]: part r of `send` goes to rank r (all_to_all), or all of it to every rank (all_gather): the
 * same if there is one rank. */
static int copy(void *state_, const void *send, void *receive, size_t bytes, td_error *error)
{
    state *s = state_;
    (void)error;
    memcpy(receive, send, bytes);
    s->calls++;
    s->bytes += (long long)bytes;
    return 0;
}

static const td_comm @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_comm, TD_COMM_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "a single process that counts what several would send"),
    .open = open_@IDENT@,
    .close = close_@IDENT@,
    .rank = rank_of,
    .size = size_of,
    .all_reduce = all_reduce,
    .all_to_all = copy,
    .all_gather = copy,
    .broadcast = broadcast,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
