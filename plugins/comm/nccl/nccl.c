/* nccl.c - processes connected by MPI, and their GPUs by NCCL, whose transfers are queued on the stream of
 * the backend 'cuda'.
 *
 * The library is loaded when GPUs are connected, not linked: it is hundreds of megabytes large, and
 * without it the module must still load and be able to say what is missing.
 *
 * NCCL's sums depend on the number of GPUs, on how they are linked and on its version, but not on
 * chance: the same processes on the same machine get the same bits again.
 */
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nccl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/world.h"

/* Functions of the library, in the order of `names`. */
typedef struct library {
    ncclResult_t (*version)(int *);
    ncclResult_t (*make_id)(ncclUniqueId *);
    ncclResult_t (*init)(ncclComm_t *, int, ncclUniqueId, int);
    ncclResult_t (*destroy)(ncclComm_t);
    ncclResult_t (*abort)(ncclComm_t);
    ncclResult_t (*async_error)(ncclComm_t, ncclResult_t *);
    const char *(*error_string)(ncclResult_t);
    const char *(*last_error)(ncclComm_t);
    ncclResult_t (*group_start)(void);
    ncclResult_t (*group_end)(void);
    ncclResult_t (*all_reduce)(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t,
                               ncclComm_t, cudaStream_t);
    ncclResult_t (*all_gather)(const void *, void *, size_t, ncclDataType_t, ncclComm_t,
                               cudaStream_t);
    ncclResult_t (*broadcast)(const void *, void *, size_t, ncclDataType_t, int, ncclComm_t,
                              cudaStream_t);
    ncclResult_t (*send)(const void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
    ncclResult_t (*receive)(void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
} library;

static const char *const names[] = {
    "ncclGetVersion",     "ncclGetUniqueId",  "ncclCommInitRank",
    "ncclCommDestroy",    "ncclCommAbort",    "ncclCommGetAsyncError",
    "ncclGetErrorString", "ncclGetLastError", "ncclGroupStart",
    "ncclGroupEnd",       "ncclAllReduce",    "ncclAllGather",
    "ncclBroadcast",      "ncclSend",         "ncclRecv",
};

_Static_assert(sizeof(library) == sizeof names, "a name for each function");

typedef struct gpus {
    library      f;
    ncclComm_t   comm; /* NULL: not connected, or given up after a failure */
    cudaStream_t stream;
} gpus;

static gpus *gpus_of(void *state) { return ((td_world *)state)->device; }

/* ---- loading --------------------------------------------------------------------------------- */

/* By the dynamic linker's search, or where the toolkit is usually installed. It stays loaded. `why`
 * is the first reason why a library that exists cannot be loaded, if any. */
static void *open_library(char *why, size_t size)
{
    static const char *const paths[] = { "libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2" };
    void                    *module = NULL;
    /* NVLink multicast hangs or fails on hosts whose fabric manager or container does not allow it;
     * a user who knows better can set it */
    setenv("NCCL_NVLS_ENABLE", "0", 0);
    for (size_t k = 0; !module && k < sizeof paths / sizeof *paths; k++) {
        module = dlopen(paths[k], RTLD_NOW | RTLD_LOCAL);
        if (!module && (!k || strstr(why, "No such file")))
            snprintf(why, size, "%s", dlerror());
    }
    return module;
}

static int load(gpus *g, td_error *error)
{
    char  why[600] = "";
    void *module = open_library(why, sizeof why), **to = (void **)(void *)&g->f;
    if (!module)
        return td_fail(
            error, TD_EUNSUPPORTED,
            "comm 'nccl': NCCL cannot be loaded (%s): install libnccl2 2.18 or newer for "
            "the driver's CUDA, put its directory into LD_LIBRARY_PATH, or use "
            "comm.plugin = \"mpi\"",
            why);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        to[k] = dlsym(module, names[k]);
        if (!to[k])
            return td_fail(
                error, TD_EUNSUPPORTED,
                "comm 'nccl': libnccl.so.2 has no function %s: install NCCL 2.18 or newer",
                names[k]);
    }
    return 0;
}

/* ---- connecting ------------------------------------------------------------------------------ */

static int fail(const gpus *g, int status, ncclResult_t code, const char *what, td_error *error)
{
    return td_fail(error, status, "comm 'nccl': %s failed: %s: %s (NCCL_DEBUG=INFO says more)",
                   what, g->f.error_string(code), g->f.last_error(NULL));
}

/* Of a call in this process. TD_EIO would mean that the run may be resumed. */
static int result(const gpus *g, ncclResult_t code, const char *what, td_error *error)
{
    switch (code) {
    case ncclSuccess:
        return 0;
    case ncclSystemError: /* a socket, for instance */
    case ncclRemoteError:
        return fail(g, TD_EIO, code, what, error);
    case ncclUnhandledCudaError: /* connections take memory of the GPU when they are first used */
        return fail(g, TD_ENOMEM, code, what, error);
    default:
        return fail(g, TD_EUNSUPPORTED, code, what, error);
    }
}

/* Whether all ranks are ready: one that cannot go on must not leave the others waiting for it. */
static bool all_ready(td_world *w, int *code, td_error *error)
{
    double failures = *code != 0;
    if (td_world_all_reduce(w, &failures, 1, TD_F64, error))
        *code = TD_EIO;
    return !*code && failures == 0;
}

/* If only another rank fails, the host learns it from that one. */
static int connect_gpus(td_world *w, gpus *g, td_error *error)
{
    ncclUniqueId id;
    int          code = load(g, error);
    memset(&id, 0, sizeof id);
    if (!code && !w->rank)
        code = result(g, g->f.make_id(&id), "ncclGetUniqueId", error);
    if (!all_ready(w, &code, error))
        return code;
    if (td_world_broadcast(w, &id, sizeof id, 0, error))
        return TD_EIO;
    return result(g, g->f.init(&g->comm, w->size, id, w->rank), "ncclCommInitRank", error);
}

static void detach(void *state)
{
    gpus *g = gpus_of(state);
    if (g && g->comm)
        g->f.destroy(g->comm);
    free(g);
    ((td_world *)state)->device = NULL;
}

static int attach(void *state, void *queue, td_error *error)
{
    td_world *w = state;
    gpus     *g = calloc(1, sizeof *g);
    int       version = 0, code;
    if (!g) {
        code = td_fail(error, TD_ENOMEM, "comm 'nccl': out of memory");
        all_ready(w, &code, error); /* where the others are waiting */
        return code;
    }
    g->stream = queue;
    w->device = g;
    code = connect_gpus(w, g, error);
    if (code || !g->comm) {
        detach(w);
        return code;
    }
    g->f.version(&version);
    w->services->log(w->services, TD_LOG_INFO, "NCCL %d.%d.%d connects the GPUs of %d processes",
                     version / 10000, version / 100 % 100, version % 100, w->size);
    return 0;
}

static void close_nccl(void *state)
{
    detach(state);
    td_world_close(state);
}

/* ---- transfers ------------------------------------------------------------------------------- */

/* Another rank is lost: the comm would wait forever for what it has queued. */
static int give_up(gpus *g, ncclResult_t code, td_error *error)
{
    fail(g, TD_EIO, code, "a transfer between GPUs", error);
    g->f.abort(g->comm);
    g->comm = NULL;
    return TD_EIO;
}

static int check(const gpus *g, td_error *error)
{
    return g && g->comm
               ? 0
               : td_fail(error, TD_EIO,
                         "comm 'nccl': the GPUs are not connected, or no longer after a failure");
}

static int device_begin(void *state, td_error *error)
{
    gpus *g = gpus_of(state);
    return check(g, error) ? TD_EIO : result(g, g->f.group_start(), "ncclGroupStart", error);
}

static int device_end(void *state, td_error *error)
{
    gpus *g = gpus_of(state);
    return check(g, error) ? TD_EIO : result(g, g->f.group_end(), "ncclGroupEnd", error);
}

static int device_all_reduce(void *state, void *data, int64_t count, int dtype, td_error *error)
{
    gpus          *g = gpus_of(state);
    ncclDataType_t type = dtype == TD_F64 ? ncclDouble : ncclFloat;
    if (check(g, error))
        return TD_EIO;
    return result(g, g->f.all_reduce(data, data, (size_t)count, type, ncclSum, g->comm, g->stream),
                  "ncclAllReduce", error);
}

static int device_all_to_all(void *state, const void *send, void *receive, size_t bytes,
                             td_error *error)
{
    const td_world *w = state;
    gpus           *g = w->device;
    ncclResult_t    code, end;
    if (check(g, error))
        return TD_EIO;
    code = g->f.group_start();
    for (int r = 0; r < w->size && code == ncclSuccess; r++) {
        code = g->f.send((const char *)send + (size_t)r * bytes, bytes, ncclInt8, r, g->comm,
                         g->stream);
        if (code == ncclSuccess)
            code = g->f.receive((char *)receive + (size_t)r * bytes, bytes, ncclInt8, r, g->comm,
                                g->stream);
    }
    end = g->f.group_end();
    return result(g, code == ncclSuccess ? end : code, "ncclSend or ncclRecv", error);
}

static int device_all_gather(void *state, const void *send, void *receive, size_t bytes,
                             td_error *error)
{
    gpus *g = gpus_of(state);
    if (check(g, error))
        return TD_EIO;
    return result(g, g->f.all_gather(send, receive, bytes, ncclInt8, g->comm, g->stream),
                  "ncclAllGather", error);
}

static int device_broadcast(void *state, void *data, size_t bytes, int root, td_error *error)
{
    gpus *g = gpus_of(state);
    if (check(g, error))
        return TD_EIO;
    return result(g, g->f.broadcast(data, data, bytes, ncclInt8, root, g->comm, g->stream),
                  "ncclBroadcast", error);
}

/* Not cudaStreamSynchronize, which would wait forever for a rank that is lost. */
static int device_wait(void *state, td_error *error)
{
    gpus        *g = gpus_of(state);
    ncclResult_t async = ncclSuccess;
    cudaError_t  code = cudaErrorNotReady;
    if (check(g, error))
        return TD_EIO;
    while (async == ncclSuccess && (code = cudaStreamQuery(g->stream)) == cudaErrorNotReady)
        if (g->f.async_error(g->comm, &async) != ncclSuccess)
            async = ncclInternalError;
    if (async != ncclSuccess)
        return give_up(g, async, error);
    return code == cudaSuccess
               ? 0
               : td_fail(error, TD_EUNSUPPORTED,
                         "comm 'nccl': the GPU failed while it waited for others: %s",
                         cudaGetErrorString(code));
}

struct nccl {
    bool unused;
};

static const td_comm nccl = {
    .plugin =
        TD_PLUGIN(td_comm, TD_COMM_KIND, "nccl", NULL, struct nccl,
                  .brief = "the processes of mpirun or srun, over MPI, and their GPUs over NCCL"),
    .open = td_world_open,
    .close = close_nccl,
    TD_WORLD_HOOKS,
    .backend = "cuda",
    TD_WORLD_DEVICE_HOOKS,
};

TD_MODULE("nccl", "1.0", "tandem", "MIT", &nccl.plugin)
