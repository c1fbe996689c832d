/* world.c - the processes that mpirun, or srun with PMIx, has started, connected by MPI.
 *
 * MPI can be initialized and finalized only once in a process, so it stays initialized from the first
 * `open` until the process exits. Each module that compiles this file defines COMM, the name of its
 * plugin.
 */
#include "world.h"

#include <mpi.h>
#include <stdbool.h>
#include <stdlib.h>

static int  opened; /* states that are not closed yet */
static bool lost;   /* a call failed: the other processes cannot be reached, or not all of them */

/* A process that exits in the middle of a run, because of a plugin, say, takes the others with it:
 * they wait for it, and MPI_Finalize would wait for them. */
static void finalize(void)
{
    int over = 0;
    MPI_Finalized(&over);
    if (!over && (opened || lost))
        MPI_Abort(MPI_COMM_WORLD, 1);
    if (!over)
        MPI_Finalize();
}

/* Otherwise Open MPI would install handlers for crashes, which tandem itself reports. */
static int initialize(td_error *error)
{
    int begun = 0, level;
    MPI_Initialized(&begun);
    if (begun)
        return 0;
    setenv("OMPI_MCA_opal_signal", "", 0);
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
        return td_fail(error, TD_EIO, "comm '" COMM "': MPI_Init_thread failed");
    atexit(finalize);
    /* a failure is reported like any other, and the host decides what is saved */
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return level >= MPI_THREAD_SERIALIZED
               ? 0
               : td_fail(error, TD_EUNSUPPORTED,
                         "comm '" COMM
                         "': this MPI does not support calls from several threads, one at "
                         "a time (MPI_THREAD_SERIALIZED)");
}

int td_world_open(const void *config, const td_services *services, void **out, td_error *error)
{
    td_world *s = calloc(1, sizeof *s);
    if (!s)
        return td_fail(error, TD_ENOMEM, "comm '" COMM "': out of memory");
    if (initialize(error)) {
        free(s);
        return TD_EIO;
    }
    s->services = services;
    MPI_Comm_rank(MPI_COMM_WORLD, &s->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &s->size);
    *out = s;
    opened++;
    return 0;
}

void td_world_close(void *s)
{
    opened--;
    free(s);
}

int td_world_rank(void *s) { return ((const td_world *)s)->rank; }

int td_world_size(void *s) { return ((const td_world *)s)->size; }

/* MPI counts are of type int. */
enum { MOST = 1 << 30 };

static int result(int code, const char *what, td_error *error)
{
    char why[MPI_MAX_ERROR_STRING] = "";
    int  n;
    if (code == MPI_SUCCESS)
        return 0;
    lost = true;
    MPI_Error_string(code, why, &n);
    return td_fail(error, TD_EIO, "comm '" COMM "': %s failed: %s", what, why);
}

/* Open MPI chooses the order of addition by size and number of ranks, and all ranks get the same
 * bits. */
int td_world_all_reduce(void *s, void *data, int64_t count, int dtype, td_error *error)
{
    MPI_Datatype type = dtype == TD_F64 ? MPI_DOUBLE : MPI_FLOAT;
    size_t       width = dtype == TD_F64 ? sizeof(double) : sizeof(float);
    int          code = MPI_SUCCESS;
    if (dtype != TD_F32 && dtype != TD_F64)
        return td_fail(error, TD_EUNSUPPORTED, "comm '" COMM "' cannot add numbers of dtype %d",
                       dtype);
    for (int64_t at = 0; at < count && code == MPI_SUCCESS; at += MOST) {
        int n = (int)(count - at < MOST ? count - at : MOST);
        code = MPI_Allreduce(MPI_IN_PLACE, (char *)data + (size_t)at * width, n, type, MPI_SUM,
                             MPI_COMM_WORLD);
    }
    return result(code, "MPI_Allreduce", error);
}

static int check_bytes(size_t bytes, td_error *error)
{
    return bytes <= MOST ? 0
                         : td_fail(error, TD_EUNSUPPORTED,
                                   "comm '" COMM "' cannot send %zu bytes at once; the limit is %d",
                                   bytes, MOST);
}

int td_world_all_to_all(void *s, const void *send, void *receive, size_t bytes, td_error *error)
{
    int n = (int)bytes;
    if (check_bytes(bytes, error))
        return TD_EUNSUPPORTED;
    return result(MPI_Alltoall(send, n, MPI_BYTE, receive, n, MPI_BYTE, MPI_COMM_WORLD),
                  "MPI_Alltoall", error);
}

int td_world_all_gather(void *s, const void *send, void *receive, size_t bytes, td_error *error)
{
    int n = (int)bytes;
    if (check_bytes(bytes, error))
        return TD_EUNSUPPORTED;
    return result(MPI_Allgather(send, n, MPI_BYTE, receive, n, MPI_BYTE, MPI_COMM_WORLD),
                  "MPI_Allgather", error);
}

int td_world_broadcast(void *s, void *data, size_t bytes, int root, td_error *error)
{
    int code = MPI_SUCCESS;
    for (size_t at = 0; at < bytes && code == MPI_SUCCESS; at += MOST)
        code = MPI_Bcast((char *)data + at, (int)(bytes - at < MOST ? bytes - at : MOST), MPI_BYTE,
                         root, MPI_COMM_WORLD);
    return result(code, "MPI_Bcast", error);
}
