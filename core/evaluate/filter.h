/* filter.h - finds the answer in a generated text: a sequence of steps, each of which receives the
 * result of the previous one. Steps are named as in lm-evaluation-harness where it has them. */
#ifndef TD_EVALUATE_FILTER_H
#define TD_EVALUATE_FILTER_H

#include "tandem/plugin.h"

/* Recorded in every result; raised when a step changes its behaviour. */
#define TD_FILTER_VERSION 1

typedef struct td_filter_step {
    int64_t     function;
    const char *pattern; /* for regex, replace and until */
    const char *with;    /* for replace */
    int64_t     group_select;
} td_filter_step;

/* The option table of one filter step, for the tables of task files. */
extern const td_option td_filter_step_table[];

typedef struct td_filter td_filter;

/* `steps` are td_filter_step; they outlive the filter. NULL with `error` if a pattern is missing,
 * or if PCRE2 refuses it; the message has the reason and place. */
td_filter *td_filter_new(td_list steps, td_error *error);
void       td_filter_free(td_filter *);

/* The answer; free() it. NULL without an error: a step found no match. */
char *td_filter_apply(const td_filter *, const char *text, td_error *error);

#endif
