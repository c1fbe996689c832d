/* fit_results.h - fits for the groups of a table: the results of `tandem fit`, and its files.
 *
 *     {"form": "power", "x": "flops", "y": "nll", "fits": [{"group", "form", "method", "points", "a",
 *      "alpha", "e", "intervals": {"a": [low, high], ..}, "interval_method", "condition", ..}]}
 */
#ifndef TD_STUDY_FIT_RESULTS_H
#define TD_STUDY_FIT_RESULTS_H

#include <jansson.h>

#include "study/fit.h"
#include "study/fit_table.h"

typedef enum td_fit_form {
    TD_FIT_POWER,
    TD_FIT_JOINT,
    TD_FIT_ISOFLOP,
    TD_FIT_FRONTIER
} td_fit_form;

/* "power", "joint", "isoflop", "frontier". */
const char *td_fit_form_name(td_fit_form);

typedef struct td_fit_request {
    td_fit_form    form;
    const char    *x, *y;
    const char    *tokens; /* the second size of the joint form */
    const char    *flops;  /* the budget of isoFLOP profiles; for the joint form, NULL: 6 N D */
    const char    *by;     /* a column whose values are the groups; NULL: all rows are one group */
    td_fit_options options;
} td_fit_request;

/* The rows of one group, and what was fitted to them; the rest is zero. */
typedef struct td_fit_group {
    const char    *name;
    int64_t        n;
    int64_t       *rows;           /* [n], of the table */
    double        *x, *second, *y; /* [n]; second: tokens, or budgets */
    td_fit         fit;
    td_fit_optimum optimum;
    bool           has_optimum;
    td_isoflop     isoflop;
} td_fit_group;

/* A point on the frontier of all groups. */
typedef struct td_frontier_point {
    int64_t group, at; /* its index within the group */
} td_frontier_point;

typedef struct td_fit_results {
    td_fit_request     request; /* strings are the caller's */
    td_fit_group      *groups;  /* [count], in the order in which they appear */
    int64_t            count;
    td_frontier_point *frontier; /* [n_frontier], by x */
    int64_t            n_frontier;
    td_arena          *arena;
} td_fit_results;

/* Free `out` even after a failure. The table must outlive it. */
int     td_fit_table_fit(const td_fit_table *, const td_fit_request *, td_fit_results *out,
                         td_error *error);
void    td_fit_results_free(td_fit_results *);
/* Unknown numbers are null. */
json_t *td_fit_results_json(const td_fit_results *);
/* Write DIRECTORY/NAME.csv with points and curves and DIRECTORY/NAME.gnuplot, which draws NAME.svg. */
int     td_fit_results_write(const td_fit_results *, const char *directory, const char *name,
                             td_error *error);

#endif
