/* log.h - lines for people, to stderr and to the run's log file.
 *
 * Library code logs; it never prints, and stdout is reserved for results. stderr gets lines from
 * the journal's level up; the file, once opened, gets all of them, dated.
 */
#ifndef TD_BASE_LOG_H
#define TD_BASE_LOG_H

#include <stdarg.h>

#include "tandem/error.h"
#include "tandem/host.h"

typedef struct td_journal td_journal;

/* Lines at `level` and above go to stderr. NULL when out of memory. [main] */
td_journal  *td_log_new(int level);
/* Begin every line on stderr with this prefix, to tell several processes' lines apart. [main] */
void         td_log_name(td_journal *, const char *name);
/* Nothing goes to stderr; every line goes to `sink`, unless that is NULL. It is called from the
 * thread that logs, one line at a time, and must not log. [main] */
typedef void td_log_sink(void *arg, int level, const char *line);
td_journal  *td_log_to(td_log_sink *, void *arg);
void         td_log_free(td_journal *);

/* Append every line, with its date, to this file from now on. [main] */
int td_log_open_file(td_journal *, const char *path, td_error *error);

/* One line; the newline is added. A NULL journal drops it. Lines are cut at 4 KiB. [any] */
void td_log_line(td_journal *, int level, const char *format, ...) TD_PRINTF(3, 4);
void td_log_lines(td_journal *, int level, const char *format, va_list);

/* A progress line: on a terminal it is redrawn in place, cut to the width, and erased by the next
 * log line; elsewhere it is a plain line every few seconds. `last` writes it regardless of when the
 * previous one was. Returns whether it was written. [main] */
bool td_log_progress(td_journal *, bool last, const char *format, ...) TD_PRINTF(3, 4);

#endif
