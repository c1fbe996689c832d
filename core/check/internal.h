/* internal.h - what the tests of the suite share: findings, the part under test, the cases of each
 * kind. */
#ifndef TD_CHECK_INTERNAL_H
#define TD_CHECK_INTERNAL_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/threads.h"
#include "check/check.h"
#include "plan/internal.h"
#include "plugin/options.h"

/* The test ends here. */
_Noreturn void td_check_stop(td_check *);
/* The test does not apply, and ends. */
_Noreturn void td_check_skip(td_check *, const char *format, ...) TD_PRINTF(2, 3);

/* Close and free all that a test took. */
void td_check_close(td_check *);

/* What must hold for the test to go on. */
#define MUST(c, condition, ...)                                 \
    do {                                                        \
        if (!(condition))                                       \
            td_check_finding(c, __VA_ARGS__), td_check_stop(c); \
    } while (0)

/* An error's message, for findings; says so if there is none. */
const char *td_check_error(const td_error *);
/* A hook failed: it must have a message and a negative code. */
void        td_check_failure(td_check *, const char *hook, int code, const td_error *);

/* The plugin under test with the options that the config gives, else defaults; its config struct
 * ends at a page that cannot be read, so that whoever reads on crashes. */
td_part     td_check_part(td_check *);
/* Ends the test, with a finding, if there are options that only the user can know (a path), or the
 * plugin refuses those that it would get. */
void        td_check_need_options(td_check *);
/* Zeroed memory, aligned to 8 bytes; what comes after it cannot be touched. Not freed: the process
 * is the test's. */
char       *td_check_guarded(td_check *, size_t bytes);
/* How many other settings there are to try, one option at a time: switches turned, other choices,
 * numbers that are 0 by default. */
int         td_check_variants(td_check *);
/* Change the part as c->variant says, and give what was changed ("output_norm = true"), "" for
 * nothing. */
const char *td_check_vary(td_check *, const td_part *);
/* Another plugin with defaults. */
td_part     td_check_default(td_check *, const char *kind, const char *name);
/* The field of an option, by name and type; NULL: there is none. */
void       *td_check_field(const td_part *, const char *name, int64_t type);
/* The field of the first part of a kind ("norm/1"); NULL. */
td_part    *td_check_slot(const td_part *, const char *kind);
bool        td_check_is_kind(const td_plugin *, const char *kind);

/* A pool of so many threads, for as long as the test runs. */
const td_services *td_check_services(td_check *, int threads);
/* The first backend of the registry that computes in `real` and can be opened; it is closed after the
 * test. */
td_device          td_check_device(td_check *, int real, int threads);
/* This one, opened; 0, or a code with `error`. */
int                td_check_open_backend(td_check *, const td_part *, int threads, td_device *out,
                                         td_error *error);
/* An empty directory; who runs the test removes it with its $TMPDIR. */
const char        *td_check_directory(td_check *);

/* Bytes that are allocated now; 0 where that cannot be told (sanitizers). */
size_t td_check_heap(void);
/* Call f(argument) often: what it allocates must be freed. */
void   td_check_leak(td_check *, const char *what, void (*f)(td_check *, void *), void *argument);

/* Whether two numbers are within `tolerance` of the larger of 1 and their size. */
static inline bool td_check_near(double x, double y, double tolerance)
{
    return x == y || fabs(x - y) <= tolerance * fmax(1, fabs(y));
}

#endif
