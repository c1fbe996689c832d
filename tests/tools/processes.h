/* processes.h - commands that train with several processes, for tests of what they do together. */
#ifndef TESTS_TOOLS_PROCESSES_H
#define TESTS_TOOLS_PROCESSES_H

#include "open_mpi.h"
#include "tools/small_run.h"

static inline void processes_setup(void)
{
    open_mpi_setup();
    small_setup();
    /* in the directory that all launchers share, one that ends can remove what another is about to use */
    setenv("OMPI_MCA_orte_tmpdir_base", small_directory, 1);
}

#define RANKS(n) "mpirun -np " #n " "
/* 7 micro-batches, which neither 2 nor 3 nor 5 ranks can share evenly */
#define SEVEN " train.batch=7 train.micro_batch=1 train.reduce=exact train.dropout=0.1 "
#define SAME(step)                                                        \
    "cmp %1$s/one/checkpoints/step-000000" step "/model.safetensors "     \
    "%1$s/%3$s/checkpoints/step-000000" step "/model.safetensors && "     \
    "cmp %1$s/one/checkpoints/step-000000" step "/optimizer.safetensors " \
    "%1$s/%3$s/checkpoints/step-000000" step "/optimizer.safetensors"
/* metrics but for times and the name of the run */
#define METRICS(run) "sed 's/, \"time.*//' %1$s/" run "/metrics.jsonl"
#define SHARED SEVEN "train.shard=optimizer "
/* The process of the last rank. */
#define LAST_RANK "$(pgrep -a -x tandem | grep '%1$s/.* run.name=%3$s ' | tail -1 | cut -d' ' -f1)"
#define ENDLESS \
    "train.steps=1000000 train.checkpoint_every=5 train.keep_last=2 train.evaluate_every=-1"
#define UNTIL_SAVED                                                                           \
    "for k in $(seq 1200); do ls %1$s/%3$s/checkpoints 2>/dev/null | grep -q step && break; " \
    "sleep 0.1; done; "

#endif
