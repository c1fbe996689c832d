/* ranks.h - the processes that a launcher started together with this one, according to the
 * environment: mpirun, srun (with PMI or PMIx) and torchrun. Nothing is connected here; that is a
 * comm's work. */
#ifndef TD_BASE_RANKS_H
#define TD_BASE_RANKS_H

typedef struct td_ranks {
    int         rank, size; /* 0 of 1 without a launcher */
    int         local;      /* processes on this host; 0: unknown */
    int         place;      /* of this process among them, from 0; -1: unknown */
    const char *launcher;   /* "mpirun", "srun", "torchrun"; NULL: none */
} td_ranks;

td_ranks td_ranks_of_environment(void);

#endif
