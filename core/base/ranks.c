/* ranks.c - the environment variables of launchers. */
#include "base/ranks.h"

#include <stdio.h>
#include <stdlib.h>

/* In the order in which they are believed: mpirun within a Slurm job also sees Slurm's. */
static const struct {
    const char *launcher, *rank, *size;
    const char *local; /* NULL: see of_step */
    const char *place;
} launchers[] = {
    { "mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE",
      "OMPI_COMM_WORLD_LOCAL_RANK" },
    { "mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", "MPI_LOCALRANKID" },
    { "torchrun", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK" },
    /* SLURM_NTASKS alone is also set in the batch script, where one process runs */
    { "srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", NULL, "SLURM_LOCALID" },
};

/* A count from the environment; -1: not set, or not a number. */
static int number(const char *name)
{
    const char *text = getenv(name);
    char       *end;
    long        n = text ? strtol(text, &end, 10) : -1;
    return text && end != text && !*end && n >= 0 && n < 1 << 24 ? (int)n : -1;
}

/* How many processes srun has started on this host. Not SLURM_NTASKS_PER_NODE, which is that of the job,
 * of which a step may use a part. The step's is a list by host: "4(x2),3" is 4, 4 and 3. */
static int of_step(void)
{
    const char *at = getenv("SLURM_STEP_TASKS_PER_NODE");
    int         host = number("SLURM_NODEID");
    int         tasks, times, end;
    if (!at || host < 0)
        return -1;
    while (end = 0, times = 1, sscanf(at, "%8d%n(x%8d)%n", &tasks, &end, &times, &end) > 0) {
        if (times < 1 || (at[end] && at[end] != ','))
            return -1;
        host -= times;
        if (host < 0)
            return tasks;
        at += end + (at[end] == ',');
    }
    return -1;
}

td_ranks td_ranks_of_environment(void)
{
    for (size_t k = 0; k < sizeof launchers / sizeof *launchers; k++) {
        int rank = number(launchers[k].rank), size = number(launchers[k].size);
        int local = launchers[k].local ? number(launchers[k].local) : of_step();
        if (rank >= 0 && size > rank)
            return (td_ranks){ rank, size, local > 0 && local <= size ? local : 0,
                               size > 1 ? number(launchers[k].place) : 0, launchers[k].launcher };
    }
    return (td_ranks){ 0, 1, 1, 0, NULL };
}
