/* report.h - the results of `tandem plugins check`: a table as they come, or JSON at the end. */
#ifndef TD_TOOLS_PLUGINS_REPORT_H
#define TD_TOOLS_PLUGINS_REPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/text.h"
#include "plugins/child.h"

/* One test of one plugin, or TD_CHECK_LOAD of a module (then `plugin` is ""). */
typedef struct td_check_job {
    td_child    child;
    const char *path;        /* the module; the arguments' */
    char        plugin[300]; /* "attention/mine" */
    const char *test;
    int         ranks; /* processes that run it together */
    char       *out;   /* of several: where their results are (ranks.h) */
    bool        started, done;
    bool        dropped; /* not run: other tests of the plugin ran out of time */
    json_t     *result;  /* the child's output; NULL if it did not get that far */
} td_check_job;

/* Zero-initialize, then set the first three. */
typedef struct td_report {
    bool            json;    /* print nothing until td_report_sum */
    bool            several; /* modules: passed tests are counted, not listed */
    td_child_limits limits;  /* for messages */
    size_t          n_ok, n_skipped, n_failed;
    json_t         *tests; /* all results, an array */
    /* of the plugin whose tests are being shown */
    char            title[400];
    size_t          passed;
    td_text         rows;
} td_report;

/* Add the result of a job that is done. The jobs of one plugin must come together. */
void td_report_job(td_report *, const td_check_job *);
/* Print the results of the last plugin that are still held back. */
void td_report_end_plugin(td_report *);
/* Print the totals, or all of the JSON. */
void td_report_sum(const td_report *);
void td_report_free(td_report *);

#endif
