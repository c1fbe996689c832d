/* benchmark.h - how fast a session's training steps are on this machine. */
#ifndef TD_RUN_BENCHMARK_H
#define TD_RUN_BENCHMARK_H

#include "run/session.h"

enum { TD_BENCHMARK_OPS = 128 };

/* Steps of train.micro_batch random sequences. */
typedef struct td_benchmark {
    double         seconds;  /* of a step: the median */
    int64_t        steps;    /* measured */
    int64_t        tokens;   /* of a step, inputs and targets, without padding */
    double         flops;    /* of a step's matrix products, scores that masks hide not counted */
    double         peak;     /* the machine's rate of matrix products, FLOP/s; 0: unknown */
    double         planning; /* seconds that building and planning took */
    size_t         plans;
    td_profile_row profile[TD_BENCHMARK_OPS]; /* sums over `profiled` steps, the slowest op first */
    size_t         n_profile;
    int64_t        profiled; /* 0: not asked for */
} td_benchmark;

/* Measure for about `seconds`; `profile`: then also time each op. Replaces the parameters that the
 * session holds. */
int td_session_benchmark(td_session *, double seconds, bool profile, td_benchmark *out,
                         td_error *error);

#endif
