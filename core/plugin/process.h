/* process.h - the state of the whole process that must survive a plugin's code: locale, signal
 * handlers and mask, umask, working directory, output, floating-point mode.
 *
 *     td_process before;
 *     td_process_record(&before);
 *     .. a plugin's code runs ..
 *     td_process_restore(&before, complain, argument);
 */
#ifndef TD_PLUGIN_PROCESS_H
#define TD_PLUGIN_PROCESS_H

#include <locale.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/float_mode.h"

enum { TD_PROCESS_SIGNALS = 14 };

typedef struct td_process {
    uint32_t         float_mode;
    locale_t         thread_locale;
    char             locale[256]; /* of all categories, as setlocale returns it */
    struct sigaction action[TD_PROCESS_SIGNALS];
    sigset_t         blocked; /* of this thread */
    mode_t           umask;
    dev_t            device; /* of the working directory .. */
    ino_t            inode;
    int              directory; /* .. and a descriptor of it; -1: there is none */
    struct {
        dev_t device;
        ino_t inode;
    } output[2]; /* stdout and stderr: the files of descriptors 1 and 2 */
} td_process;

/* One thing that has changed: "the locale", and the change, or "". */
typedef void td_process_complain(void *argument, const char *what, const char *detail);

/* Record the state. Takes microseconds. [any] */
void td_process_record(td_process *);
/* Undo the changes since then, and name them. [any] */
void td_process_restore(const td_process *, td_process_complain *, void *argument);

/* Descriptors 1 and 2 are restored, too, from these copies of them, which stay open from now on.
 * -1: none. A program that wants others to see the end of its output must not call it. [main] */
void td_process_keep_output(int out, int error);

/* "SIGSEGV"; "signal" for one without a name. [any, signal handlers too] */
const char *td_signal_name(int number);

#endif
