/* suite.h - the tests of modules, each in a separate process, several at a time. */
#ifndef TD_TOOLS_PLUGINS_SUITE_H
#define TD_TOOLS_PLUGINS_SUITE_H

#include <signal.h>

#include "command.h"
#include "plugins/report.h"

/* Zero-initialize, then set the first part; td_suite_free. */
typedef struct td_suite {
    td_tool        *tool;   /* its plain arguments are the modules */
    const char     *only;   /* the only test to run, or NULL */
    const char     *plugin; /* the only plugin to test, "attention/mine", or NULL */
    td_child_limits limits;
    size_t          together; /* tests to run at the same time */
    sigset_t        ends;     /* blocked signals that end the run */
    td_report       report;

    int           stopped;   /* by this signal; 0 or less: not */
    char         *directory; /* for the files of the children */
    td_check_job *jobs;      /* in the order in which they are shown .. */
    size_t        count, room;
    size_t        begun, shown; /* .. and the number shown so far */
} td_suite;

/* Run all tests of all modules and report them. 0, or an error: a config that the modules cannot
 * use, a plugin or test that does not exist, a signal. Sets $TMPDIR. */
int  td_suite_run(td_suite *, td_error *error);
/* Ends the children that still run and removes all their files. */
void td_suite_free(td_suite *);

#endif
