/* comparison.h - compares runs: their different settings, their scores, and which differences are
 * significant.
 *
 * It reads what evaluations left in RUN/eval: heldout.json with heldout.jsonl, and for tasks
 * NAME.json with NAME.samples_TASK.jsonl. Runs that differ in nothing but their seed are a group,
 * whose scores are means over seeds. Two groups are tested on what all of their runs were scored
 * on: the same tokens, the same items. Nothing is computed with a model.
 */
#ifndef TD_RUN_COMPARISON_H
#define TD_RUN_COMPARISON_H

#include <jansson.h>
#include <stdbool.h>

#include "base/text.h"
#include "evaluate/statistics.h"

typedef struct td_comparison td_comparison;

typedef struct td_compare_options {
    const char *const *runs; /* [count]: directories of runs, or of their checkpoints */
    size_t             count;
    bool               by_run;   /* each run is a group of its own, however little it differs */
    bool               untested; /* scores and groups only, no pairs */
    int64_t            draws;    /* of a bootstrap; 0: 10000 */
    uint64_t           seed;
    /* [count]: runs of the same label are a group of that name; NULL: configs decide */
    const char *const *labels;
    bool               unscored; /* accept runs without results */
    /* Whether groups a and b are to be tested; NULL: all pairs. With many groups most tests would
     * answer no question, but would count in the adjusted p of the others. */
    bool (*tested)(void *arg, const td_comparison *, size_t a, size_t b);
    void *arg;
} td_compare_options;

typedef struct td_compared_run {
    const char *name;          /* as named in the spec */
    int64_t     step;          /* step of the parameters; -1: unknown */
    double      tokens, flops; /* tokens read and FLOPs computed in training; NaN: unknown */
    double      parameters;    /* NaN: unknown */
    td_text     differences;   /* "key: first run's -> this one's", one per line */
} td_compared_run;

/* A single run, or the runs of several seeds. */
typedef struct td_compared_group {
    const char *name; /* a single run's own; of several, what their names begin with */
    size_t     *runs; /* [count] their numbers */
    size_t      count;
    int64_t     step;          /* -1: unknown, or not the same for all */
    double      tokens, flops; /* means */
} td_compared_group;

/* The score of a run, or the mean over the seeds of a group; NaN: it has none. */
typedef struct td_measured {
    double  score;
    double  error; /* standard error: over items or, of a mean over several seeds, over the seeds */
    int64_t items;
    int64_t seeds;     /* of a group: how many have the score */
    double  deviation; /* standard deviation over seeds; NaN: of fewer than two */
} td_measured;

typedef struct td_measure {
    const char  *name; /* "heldout", "heldout facts", "boolq acc" */
    const char  *key;  /* distinguishes it from others of this name */
    bool         lower_is_better;
    bool         detail; /* too much for a table */
    td_measured *runs;   /* [n_runs] */
    td_measured *groups; /* [n_groups] */
} td_measure;

/* Group b less group a. */
typedef struct td_compared_pair {
    size_t        measure, a, b;
    const char   *method; /* "bootstrap", "McNemar", "t over seeds and items" */
    td_difference difference;
    double        adjusted; /* p adjusted for all tests of the comparison */
    double        spread;   /* standard deviation over seeds, pooled over both; NaN: unknown */
    /* If p is not below 0.05: how many seeds of each would show a difference of this size with a
     * power of 80 % (td_seeds_needed). 0: no number of seeds would, because of the items; -1: p is
     * below, or nothing is known about seeds. */
    int64_t       seeds;
} td_compared_pair;

struct td_comparison {
    td_compared_run   *runs;
    td_compared_group *groups;
    td_measure        *measures;
    td_compared_pair  *pairs;
    size_t             n_runs, n_groups, n_measures, n_pairs;
    td_text            notes; /* what was left out and why, a line each */
    struct td_arena   *arena;
};

/* Free `out` even after a failure. */
int         td_compare(const td_compare_options *, td_comparison *out, td_error *error);
void        td_comparison_free(td_comparison *);
/* A group's name for tables: the last part of its path, or the whole path if that is another's, too. */
const char *td_comparison_name(const td_comparison *, size_t group);
/* The whole comparison; unknown numbers are null. */
json_t     *td_comparison_json(const td_comparison *);
/* The pairs as a table, one per line, with the scores of both runs. */
void        td_comparison_csv(const td_comparison *, td_text *out);

#endif
