/* single.c - one process, rank 0 of 1. Every collective succeeds without doing anything, so the
 * trainer has one path for any number of processes. */
#include <string.h>

#include "tandem/kind/comm.h"

struct single {
    bool unused;
};

static int open_single(const void *config, const td_services *services, void **state,
                       td_error *error)
{
    *state = NULL;
    return 0;
}

static void close_single(void *state) {}

static int rank(void *state) { return 0; }

static int size(void *state) { return 1; }

/* The sum over one process is already in `data`. */
static int all_reduce(void *state, void *data, int64_t count, int dtype, td_error *error)
{
    return 0;
}

static int broadcast(void *state, void *data, size_t bytes, int root, td_error *error)
{
    return root == 0 ? 0
                     : td_fail(error, TD_ECONFIG,
                               "comm 'single': cannot broadcast from rank %d: the only process is "
                               "rank 0",
                               root);
}

/* Both all_to_all and all_gather: the one part that there is. */
static int copy(void *state, const void *send, void *receive, size_t bytes, td_error *error)
{
    memcpy(receive, send, bytes);
    return 0;
}

static const td_comm single = {
    .plugin = TD_PLUGIN(td_comm, TD_COMM_KIND, "single", NULL, struct single,
                        .brief = "one process"),
    .open = open_single,
    .close = close_single,
    .rank = rank,
    .size = size,
    .all_reduce = all_reduce,
    .all_to_all = copy,
    .all_gather = copy,
    .broadcast = broadcast,
};

TD_MODULE("single", "1.0", "tandem", "MIT", &single.plugin)
