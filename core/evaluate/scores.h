/* scores.h - computes a task's scores from the answers to its items: every metric after every
 * filter, with standard errors, for all items and for each value of `by`.
 *
 *     td_scores *s = td_scores_open(task, choices, items, &error);
 *     for (each item)
 *         td_scores_add(s, i, by, &answers[0], &error);      one answer per filter
 *     td_scores_of(s, NULL, results);                         {"acc,none": .., "acc_stderr,none": ..}
 */
#ifndef TD_EVALUATE_SCORES_H
#define TD_EVALUATE_SCORES_H

#include "evaluate/task.h"

typedef struct td_scores td_scores;

/* For the task's metrics for choices, or for those for generated text. */
td_scores *td_scores_open(const td_task *, bool choices, int64_t items, td_error *error);
void       td_scores_close(td_scores *);

/* Adds the answers to an item: one for choices, else one per filter. */
int td_scores_add(td_scores *, int64_t item, const char *by, const td_answer *answers,
                  td_error *error);

/* The score of a single item, as samples show it: "acc": 1. */
void td_scores_of_item(const td_scores *, int64_t item, json_t *into);

typedef struct td_score_line {
    const char *key;          /* "acc,none" */
    double      score, error; /* error: standard error; NaN for fewer than two items */
    int64_t     items;
    bool        percent;
} td_score_line;

/* The number of scores: the first is the task's own. */
size_t        td_scores_count(const td_scores *);
/* Score k over the items of a value of `by`, or over all if NULL. Means have the usual standard
 * error; for a corpus score it comes from 1000 bootstrap samples. */
td_score_line td_scores_line(const td_scores *, size_t k, const char *by);
/* TD_EPLUGIN if a metric's score over all items is not a number. */
int           td_scores_check(const td_scores *, td_error *error);
/* Append "key": score and "key's stderr" of all scores to an object. */
void          td_scores_put(const td_scores *, const char *by, json_t *into);

/* The values of `by`, in order of first appearance. */
size_t      td_scores_groups(const td_scores *);
const char *td_scores_group(const td_scores *, size_t k);

#endif
