/* options.h - the config's group `train` as a struct. Its fields are the rows of options.def. */
#ifndef TD_TRAIN_OPTIONS_H
#define TD_TRAIN_OPTIONS_H

#include "tandem/plugin.h"

/* The values of train.guard, in the order of their names in run/experiment.c. */
typedef enum td_guard { TD_GUARD_NONE, TD_GUARD_SKIP, TD_GUARD_STOP } td_guard;

/* .. and of train.shard. */
typedef enum td_sharing { TD_SHARD_NONE, TD_SHARD_OPTIMIZER, TD_SHARD_PARAMETERS } td_sharing;

typedef struct td_train_options {
#define INT(name, value, least, most, doc) int64_t name;
#define FLOAT(name, value, least, most, doc) double name;
#define BOOL(name, value, doc) bool name;
#define CHOICE(name, value, names, doc) int64_t name; /* the index of the name */
#define STRING(name, value, doc) const char *name;
#define STRINGS(name, doc) td_strings name;
#include "train/options.def"
} td_train_options;

#endif
