/* plugins_check.h - `tandem plugins check`. */
#ifndef TD_TOOLS_PLUGINS_CHECK_H
#define TD_TOOLS_PLUGINS_CHECK_H

#include <sys/types.h>

#include "command.h"

extern const td_usage td_usage_plugins_check;
int                   td_plugins_check(td_tool *, int argc, char **argv);

/* The test that loads the module; the others are td_check_cases'. */
#define TD_CHECK_LOAD "load"

/* One test of one plugin ("attention/mine") in this process (plugins_here.c): prints its findings as
 * JSON, of the test TD_CHECK_LOAD the module's plugins and what is wrong with the config too. */
int td_plugins_check_here(td_tool *, const char *path, const char *plugin, const char *only);

/* A test in a process of its own (plugins_child.c). */
enum { TD_CHILD_FILE_SHARE = 8 }; /* a file may be as long as this part of the memory */

typedef struct td_child_limits {
    double seconds;
    size_t bytes; /* of memory */
} td_child_limits;

typedef enum td_child_end {
    TD_CHILD_EXITED,
    TD_CHILD_CRASHED, /* by a signal */
    TD_CHILD_LATE,
    TD_CHILD_MEMORY
} td_child_end;

typedef struct td_child {
    pid_t  pid;         /* 0: not running */
    char  *out, *error; /* files: what it wrote */
    double started, seconds;
    size_t peak; /* bytes of memory that were seen */
    int    end;  /* td_child_end */
    int    code; /* exit code, or the signal */
} td_child;

/* Start this program with other arguments; what it writes goes to files in `directory`. */
int  td_child_start(td_child *, char *const argv[], const char *directory, size_t number,
                    const td_child_limits *, td_error *error);
/* Whether it has ended; one that is over its limits is ended. */
bool td_child_poll(td_child *, const td_child_limits *);
void td_child_free(td_child *);
/* In the child: say at a crash how much memory there was. */
void td_child_watch(void);

#endif
