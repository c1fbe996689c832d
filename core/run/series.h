/* series.h - the results of a run as series of items, for comparison.c: the score of each sequence,
 * or of each question of a task. */
#ifndef TD_RUN_SERIES_H
#define TD_RUN_SERIES_H

#include "base/arena.h"
#include "run/comparison.h"

/* One sequence or question. */
typedef struct td_series_item {
    const char *id;      /* the same for this item in every run */
    const char *stratum; /* the source of text; "" if there is only one */
    double      sum, weight;
} td_series_item;

typedef struct td_series {
    const char           *key;  /* the same in every run that has it */
    const char           *name; /* for people; two may have the same */
    bool                  lower_is_better;
    bool                  detail; /* too much for a table */
    td_measured           total;
    int64_t               step; /* step of the scored parameters; -1: unknown */
    /* [n], stratum by stratum; n is 0 if the items' scores are unknown */
    const td_series_item *items;
    int64_t               n;
} td_series;

typedef struct td_series_list {
    td_series *at;
    size_t     count, room;
} td_series_list;

/* Append the series of RUN/eval, for the newest checkpoint if `checkpoint` is NULL. Memory is in
 * the arena, except for the list: free(list->at). */
int td_series_read(const char *run, const char *checkpoint, td_arena *, td_series_list *out,
                   td_error *error);

#endif
