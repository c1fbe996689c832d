/* mark.h - what a study's directory records about its cells besides their runs: which have ended
 * well, and whether a process is working there. */
#ifndef TD_STUDY_MARK_H
#define TD_STUDY_MARK_H

#include <stdbool.h>
#include <time.h>

#include "tandem/error.h"

/* DIRECTORY/done/NAME holds the key of a cell that ended well. It is written last: if the
 * process is killed before that, the cell is run again, with the same result. */
bool td_mark_is(const char *directory, const char *name, const char *key);
int  td_mark_set(const char *directory, const char *name, const char *key, td_error *error);

/* DIRECTORY/begun/NAME holds what a cell was begun with: two keys, one per line, and its config.
 * free() the result; NULL: the cell was not begun. */
char *td_begun_read(const char *directory, const char *name);
int   td_begun_write(const char *directory, const char *name, const char *text, td_error *error);

/* When it was begun; 0: it was not. */
time_t td_begun_time(const char *directory, const char *name);

/* DIRECTORY/texts/NAME holds the stamp (run/provenance.h) of the files of a cell's text, as it was
 * when they were last known to be what the cell was trained on. */
bool td_text_mark_is(const char *directory, const char *name, const char *stamp);
int  td_text_mark_set(const char *directory, const char *name, const char *stamp, td_error *error);

/* Remove done/NAME alone, because the cell runs again. */
int td_mark_unset(const char *directory, const char *name, td_error *error);
/* Remove all three files. */
int td_mark_clear(const char *directory, const char *name, td_error *error);

/* One process at a time works on a study. Its children also hold the lock, because they may
 * still be saving after it was killed. Returns the descriptor, to be closed, or TD_ECONFIG with a
 * message that names the process. */
int  td_study_lock(const char *directory, td_error *error);
bool td_study_is_running(const char *directory);

#endif
