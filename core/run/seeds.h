/* seeds.h - runs that differ in nothing but their seed, as groups of a comparison. */
#ifndef TD_RUN_SEEDS_H
#define TD_RUN_SEEDS_H

#include "run/comparison.h"
#include "run/experiment.h"

/* Set the groups of a comparison whose runs were read; `configs` [n_runs], NULL where one cannot be
 * read. A run belongs to the first group from whose first run it differs in its seed, and otherwise
 * only in names and places; two runs with the same seed are never in one group. Each may have begun
 * with the parameters of another run (train.weights), if those runs, in turn, differ in nothing but
 * their seed; they are read in place. If the options have labels, these alone decide. */
int td_seeds_group(td_comparison *, td_config *const *configs, const td_compare_options *,
                   td_error *error);

/* Whether a config's key is the seed, a name or a place, or changes no number but its last bits. */
bool  td_seeds_incidental(const char *key);
/* The common beginning of the names of runs: "runs/red" of "runs/red-1" and "runs/red-12", leaving
 * out a number that would be cut in two, and the character before it; the first name if nothing is
 * left of the last part of the path. NULL when out of memory. */
char *td_seeds_name(td_arena *, const char *const *names, size_t count);

/* The mean of a score over the runs of a group, and its spread. */
td_measured td_seeds_mean(const td_compared_group *, const td_measured *runs);

#endif
