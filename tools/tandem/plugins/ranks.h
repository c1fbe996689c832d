/* ranks.h - a test that several processes run together: how they are started, and what they found.
 *
 * mpirun starts them. Each writes its result to a file of its own, because their output on a shared
 * stream would be interleaved.
 */
#ifndef TD_TOOLS_PLUGINS_RANKS_H
#define TD_TOOLS_PLUGINS_RANKS_H

#include <jansson.h>
#include <stddef.h>

#include "tandem/error.h"

enum { TD_RANKS_WORDS = 8 }; /* arguments before the command */

/* The way to start `n` processes, whose results go to `out`.0, `out`.1, ..; free it. */
typedef struct td_ranks_start {
    char *mpirun, *program; /* paths; `mpirun` is NULL if it is not installed */
    char  number[16];
    char *out;
} td_ranks_start;

int  td_ranks_prepare(td_ranks_start *, int n, const char *directory, size_t test, td_error *error);
/* The first words of the command line, TD_RANKS_WORDS: the test's own, without the program, come after
 * them. */
void td_ranks_words(const td_ranks_start *, const char **argv);
void td_ranks_free(td_ranks_start *);

/* What all of `n` processes found, each finding with its rank; NULL if one of them ended without a
 * result and the others found nothing. */
json_t *td_ranks_result(const char *out, int n);

#endif
