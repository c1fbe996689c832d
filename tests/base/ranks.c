/* ranks.c - what launchers put into the environment. */
#include "base/ranks.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Criterion runs each test in a process of its own, whose environment begins like ours. */
static void setup(void)
{
    static const char *const known[] = { "OMPI_COMM_WORLD_RANK",
                                         "OMPI_COMM_WORLD_SIZE",
                                         "OMPI_COMM_WORLD_LOCAL_SIZE",
                                         "OMPI_COMM_WORLD_LOCAL_RANK",
                                         "PMI_RANK",
                                         "PMI_SIZE",
                                         "MPI_LOCALNRANKS",
                                         "MPI_LOCALRANKID",
                                         "RANK",
                                         "WORLD_SIZE",
                                         "LOCAL_WORLD_SIZE",
                                         "LOCAL_RANK",
                                         "SLURM_PROCID",
                                         "SLURM_STEP_NUM_TASKS",
                                         "SLURM_NTASKS_PER_NODE",
                                         "SLURM_STEP_TASKS_PER_NODE",
                                         "SLURM_NODEID",
                                         "SLURM_LOCALID" };
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        unsetenv(known[k]);
}

TestSuite(ranks, .init = setup);

static void expect(int rank, int size, int local, int place, const char *launcher)
{
    td_ranks r = td_ranks_of_environment();
    cr_expect(r.rank == rank && r.size == size && r.local == local && r.place == place,
              "rank %d of %d, %d of %d here", r.rank, r.size, r.place, r.local);
    cr_expect_str_eq(r.launcher ? r.launcher : "", launcher);
}

/* "NAME=value NAME=value .." */
static void put(const char *text)
{
    char *all = strdup(text), *save, *at = strtok_r(all, " ", &save);
    for (; at; at = strtok_r(NULL, " ", &save))
        cr_assert_eq(putenv(strdup(at)), 0);
    free(all);
}

Test(ranks, without_a_launcher)
{
    expect(0, 1, 1, 0, "");
    put("SLURM_NTASKS=8 SLURM_NTASKS_PER_NODE=8 SLURM_PROCID=0"); /* a batch script */
    expect(0, 1, 1, 0, "");
}

Test(ranks, of_open_mpi)
{
    put("OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=7 OMPI_COMM_WORLD_LOCAL_SIZE=3 "
        "OMPI_COMM_WORLD_LOCAL_RANK=2");
    expect(5, 7, 3, 2, "mpirun");
    /* in a job of Slurm */
    put("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_TASKS_PER_NODE=1(x2) SLURM_NODEID=0 "
        "SLURM_LOCALID=0");
    expect(5, 7, 3, 2, "mpirun");
}

Test(ranks, of_another_mpi)
{
    put("PMI_RANK=4 PMI_SIZE=5");
    expect(4, 5, 0, -1, "mpirun");
    put("MPI_LOCALNRANKS=2 MPI_LOCALRANKID=1");
    expect(4, 5, 2, 1, "mpirun");
}

Test(ranks, of_torchrun)
{
    put("RANK=3 WORLD_SIZE=11 LOCAL_WORLD_SIZE=5 LOCAL_RANK=3");
    expect(3, 11, 5, 3, "torchrun");
    put("LOCAL_WORLD_SIZE=13"); /* more than there are */
    expect(3, 11, 0, 3, "torchrun");
}

/* A step is part of a job, which may have more tasks per host. */
Test(ranks, of_a_step_of_slurm)
{
    put("SLURM_NTASKS_PER_NODE=8 SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=3 "
        "SLURM_NODEID=0 SLURM_STEP_TASKS_PER_NODE=4");
    expect(3, 4, 4, 3, "srun");
    put("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_LOCALID=0 SLURM_STEP_TASKS_PER_NODE=1");
    expect(0, 1, 1, 0, "srun");
}

Test(ranks, of_a_step_on_several_hosts)
{
    static const int of_host[] = { 4, 4, 3, 5, 5, 0 };
    put("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=21 SLURM_LOCALID=1 "
        "SLURM_STEP_TASKS_PER_NODE=4(x2),3,5(x2)");
    expect(1, 21, 0, 1, "srun");
    for (int host = 0; host < 6; host++) {
        char text[40];
        snprintf(text, sizeof text, "SLURM_NODEID=%d", host);
        put(text);
        expect(1, 21, of_host[host], 1, "srun");
    }
}

/* What cannot be read is unknown, not wrong. */
Test(ranks, of_a_step_that_says_something_else)
{
    static const char *const odd[] = {
        "", ",", "x", "(x2)", "-3", "4(x0),3", "4(x-1),3", "4;3", "4(x2", "99999999999", "22(x2)",
    };
    put("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=21 SLURM_LOCALID=1 SLURM_NODEID=1");
    for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
        setenv("SLURM_STEP_TASKS_PER_NODE", odd[k], 1);
        expect(1, 21, 0, 1, "srun");
    }
}
