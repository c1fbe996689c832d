/* times.h - how long the steps of a study's cells take, measured once and kept in its directory: a budget of
 * time must choose the same number of steps when the study is resumed. */
#ifndef TD_STUDY_TIMES_H
#define TD_STUDY_TIMES_H

#include <jansson.h>

#include "study/figures.h"

typedef struct td_times {
    char   *path;     /* DIRECTORY/times.json */
    json_t *all;      /* {KEY: seconds} */
    double  seconds;  /* how long to measure; 0: do not measure */
    int64_t threads;  /* number to measure on .. */
    bool    each;     /* .. for each process; otherwise its processes share them */
    bool    required; /* a length that depends on a time must be known */
    bool    changed;
    /* Called before each measurement, which takes a few seconds; may be NULL. */
    void (*begin)(void *arg, const char *cell);
    void *arg;
} td_times;

/* A damaged file is ignored: the times are measured again. */
int  td_times_open(td_times *, const char *directory, double seconds, int64_t threads,
                   td_error *error);
/* Write the times to the file, if there are new ones. */
int  td_times_save(td_times *, td_error *error);
void td_times_close(td_times *);

/* Seconds per step of the cell with this text at this point, known already or measured now; 0:
 * unknown, and not to be measured. `name` is for messages. */
int td_times_step(td_times *, const td_composer *, const td_point *, const char *text,
                  const char *name, double *out, td_error *error);

/* XXH3-64 as 16 hex digits. */
void td_text_key(const char *text, char key[17]);

#endif
