/* benchmark.h - how fast a session's model trains and generates on this machine. */
#ifndef TD_RUN_BENCHMARK_H
#define TD_RUN_BENCHMARK_H

#include "run/session.h"

enum { TD_BENCHMARK_OPS = 128 };

/* Steps of train.micro_batch random sequences on each process. */
typedef struct td_benchmark {
    int            processes; /* tokens, FLOPs and rates below are totals over all of them */
    double         seconds;   /* seconds per step, the median */
    int64_t        steps;     /* measured */
    int64_t        examples;  /* of a step */
    int64_t        tokens;    /* tokens per step, inputs and targets, without padding */
    double         flops;     /* of a step's matrix products, without masked scores */
    double         peak;      /* the machine's rate of matrix products, FLOP/s; 0: unknown */
    double         planning;  /* seconds that building and planning took */
    size_t         plans;
    double         launches;                  /* of a step, on the device; 0: it has no queue */
    td_profile_row profile[TD_BENCHMARK_OPS]; /* summed over `profiled` steps, slowest op first */
    size_t         n_profile;
    int64_t        profiled; /* 0: not requested */
} td_benchmark;

/* Measure for about `seconds`; `profile`: then also time each op. Replaces the parameters that the
 * session holds. All processes of the session's team take part. */
int td_session_benchmark(td_session *, double seconds, bool profile, td_benchmark *out,
                         td_error *error);

/* Random prompts, one per row, read one after the other and continued together. */
typedef struct td_generation_benchmark {
    int64_t        rows, given, answer; /* set by the caller: prompt tokens, maximum of new ones */
    double         prefill; /* seconds until the first token of one prompt: the median */
    double         step;    /* seconds of one token for all rows: the median */
    int64_t        steps;   /* measured */
    td_pass_cost   prefill_cost, step_cost;
    /* the machine's rates: FLOP/s of matrix products, bytes/s; 0: unknown */
    double         peak, read_rate;
    size_t         cache, arena, layouts; /* bytes */
    size_t         plans;
    td_profile_row profile[TD_BENCHMARK_OPS]; /* as for training, over `profiled` steps */
    size_t         n_profile;
    int64_t        profiled;
} td_generation_benchmark;

/* Measure for about `seconds`, with initial parameters. `answer` is at least 16. */
int td_session_benchmark_generation(td_session *, double seconds, bool profile,
                                    td_generation_benchmark *, td_error *error);

/* Sort slowest first, and drop ops that took no time. */
void td_benchmark_sort(td_profile_row *profile, size_t *n);

/* The median of n times, so that disturbed measurements do not matter. Sorts the times. */
double td_benchmark_median(double *times, int64_t n);

/* The device's rate of matrix products (td_device_peak), the best of several measurements. To be
 * measured after the steps, on an equally warm machine. */
double td_benchmark_peak(const td_device *, bool narrow);

#endif
