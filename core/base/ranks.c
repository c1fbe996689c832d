/* ranks.c - the environment variables of launchers. */
#include "base/ranks.h"

#include <stdlib.h>

/* In the order in which they are believed: mpirun within a Slurm job also sees Slurm's. */
static const struct {
    const char *launcher, *rank, *size, *local, *place;
} launchers[] = {
    { "mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE",
      "OMPI_COMM_WORLD_LOCAL_RANK" },
    { "mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", "MPI_LOCALRANKID" },
    { "torchrun", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK" },
    /* SLURM_NTASKS alone is also set in the batch script, where one process runs */
    { "srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE", "SLURM_LOCALID" },
};

/* A count from the environment; -1: not set, or not a number. */
static int number(const char *name)
{
    const char *text = getenv(name);
    char       *end;
    long        n = text ? strtol(text, &end, 10) : -1;
    return text && end != text && !*end && n >= 0 && n < 1 << 24 ? (int)n : -1;
}

td_ranks td_ranks_of_environment(void)
{
    for (size_t k = 0; k < sizeof launchers / sizeof *launchers; k++) {
        int rank = number(launchers[k].rank), size = number(launchers[k].size);
        int local = number(launchers[k].local);
        if (rank >= 0 && size > rank)
            return (td_ranks){ rank, size, local > 0 ? local : 0,
                               size > 1 ? number(launchers[k].place) : 0, launchers[k].launcher };
    }
    return (td_ranks){ 0, 1, 1, 0, NULL };
}
