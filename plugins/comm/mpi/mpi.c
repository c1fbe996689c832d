/* mpi.c - processes connected by MPI, in host memory. */
#include "common/world.h"

struct mpi {
    bool unused;
};

static const td_comm mpi = {
    .plugin = TD_PLUGIN(td_comm, TD_COMM_KIND, "mpi", NULL, struct mpi,
                        .brief = "the processes of mpirun or srun, over MPI"),
    .open = td_world_open,
    .close = td_world_close,
    TD_WORLD_HOOKS,
};

TD_MODULE("mpi", "1.0", "tandem", "MIT", &mpi.plugin)
