/* child.h - runs this program in a separate process, with limits on time and memory.
 *
 *     td_child c;
 *     td_child_start(&c, argv, directory, 0, &limits, error);
 *     while (!td_child_poll(&c, &limits))
 *         wait a little;
 *     .. c.end, c.code, and the files c.out and c.error ..
 *     td_child_free(&c);
 */
#ifndef TD_TOOLS_PLUGINS_CHILD_H
#define TD_TOOLS_PLUGINS_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tandem/error.h"

/* A child may write files of this share of its memory limit: a plugin that fills the disk is
 * stopped too. */
enum { TD_CHILD_FILE_SHARE = 8 };

typedef struct td_child_limits {
    double seconds;
    size_t bytes;    /* of address space */
    bool   reserves; /* it may reserve more: a GPU's driver maps terabytes that it never touches */
} td_child_limits;

typedef enum td_child_end {
    TD_CHILD_EXITED,
    TD_CHILD_CRASHED, /* by a signal */
    TD_CHILD_LATE,    /* stopped at the time limit */
    TD_CHILD_MEMORY   /* stopped at the memory limit, or crashed close to it */
} td_child_end;

typedef struct td_child {
    pid_t        pid;         /* 0: not running */
    char        *out, *error; /* files with its stdout and stderr */
    double       started, seconds;
    bool         reserves; /* of its limits */
    size_t       peak;     /* largest memory seen, in bytes */
    td_child_end end;
    int          code; /* exit code, or the signal if it crashed */
} td_child;

/* Start this program with other arguments (argv ends with NULL), or the program at the path
 * argv[0]. stdout and stderr go to files in `directory` whose names begin with `number`; they are
 * removed with the directory. */
int  td_child_start(td_child *, char *const argv[], const char *directory, size_t number,
                    const td_child_limits *, td_error *error);
/* Whether it has ended; ends it and its descendants if it exceeds a limit. */
bool td_child_poll(td_child *, const td_child_limits *);
/* Also ends it, if it is running. */
void td_child_free(td_child *);

/* To be called in the child: from then on a crash leaves a record of the memory in use, which
 * distinguishes a failed allocation from a plain crash. */
void  td_child_watch(void);
/* Where that record begins in the child's stderr; NULL if there is none. */
char *td_child_record(char *text);

#endif
