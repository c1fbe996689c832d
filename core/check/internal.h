/* internal.h - shared by the tests of the suite: how they end, the part under test, backends,
 * pools and the search for leaks. */
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

/* End the test. */
_Noreturn void td_check_stop(td_check *);
/* End the test as one that does not apply, unless it has findings already; the text says why. */
_Noreturn void td_check_skip(td_check *, const char *format, ...) TD_PRINTF(2, 3);

/* Close and free everything that a test opened through these functions. */
void td_check_close(td_check *);

/* From now on, any change that a plugin's code makes to the process is a finding. */
void td_check_listen(td_check *);

/* Unless the condition holds, end the test with a finding; the rest is its format and arguments. */
#define MUST(c, condition, ...)               \
    do {                                      \
        if (!(condition)) {                   \
            td_check_finding(c, __VA_ARGS__); \
            td_check_stop(c);                 \
        }                                     \
    } while (0)

/* The message of an error, or a text saying that there is none. */
const char *td_check_error(const td_error *);
/* A hook has failed with `code`: add a finding unless the code is negative and comes with a
 * message. */
void        td_check_failure(td_check *, const char *hook, int code, const td_error *);

/* The plugin under test with the options of the config, if there is one, else with defaults. Its
 * config struct ends at a page that cannot be read, so reading beyond it crashes. */
td_part td_check_part(td_check *);
/* End the test with a finding if a required option is missing that no test can make up (a path), or
 * if the plugin refuses the options that it has. */
void    td_check_need_options(td_check *);
/* Zeroed memory, aligned to 8 bytes, followed by a page that cannot be touched. Never freed: the
 * process belongs to the test. */
char   *td_check_guarded(td_check *, size_t bytes);
/* The number of other settings of the plugin's options to try, one option at a time. */
int     td_check_variants(td_check *);
/* Not one of these: every integer option has its least value. */
enum { TD_CHECK_LEAST = -1 };
/* Apply variant c->variant to the part; returns the change ("output_norm = true"), or "". */
const char *td_check_vary(td_check *, const td_part *);
/* Set the option that c->change names to another value of its range. */
void        td_check_change(td_check *, const td_part *);
/* Whether td_check_change can change the option. */
bool        td_check_can_change(const td_option *);
/* What the plugin computes, as text: the rates of a schedule, the examples of a loss, the parameters
 * after some updates of the optimizer under test. */
void        td_check_print_rates(const td_part *, td_text *out);
void        td_check_print_splits(td_check *, const td_part *, td_text *out);
void        td_check_print_updates(td_check *, td_text *out);
/* Any plugin with defaults; the one under test with the options of td_check_part. */
td_part     td_check_default(td_check *, const char *kind, const char *name);
/* The field of the option with this name and td_option_type; NULL if there is none. */
void       *td_check_field(const td_part *, const char *name, int64_t type);
/* The first field for a part of this kind ("norm/1"); NULL if there is none. */
td_part    *td_check_slot(const td_part *, const char *kind);
/* Whether the plugin is of the kind ("norm/1"); false for NULL. */
bool        td_check_is_kind(const td_plugin *, const char *kind);

/* The services of a pool with this many threads, valid until the test ends. */
const td_services *td_check_services(td_check *, int threads);
/* The first backend found that computes in `real` and can be opened, one in host memory before one
 * with memory of its own; it is closed when the test ends. */
td_device          td_check_device(td_check *, int real, int threads);
/* Devices are closed at the end of a test; tests that open many close them earlier. */
void               td_check_close_device(td_check *, const td_device *);
/* Open this backend, to be closed when the test ends: 0, or a code with `error`. */
int                td_check_open_backend(td_check *, const td_part *, int threads, td_device *out,
                                         td_error *error);
/* Element n of a variable, without rounding; a failure ends the test. */
double             td_check_get(td_check *, const td_device *, const td_variable *, int64_t n);
void               td_check_set(td_check *, const td_device *, td_variable *, int64_t n, double x);
/* Continue the hash h with all elements of a variable. */
uint64_t           td_check_hash(td_check *, const td_device *, const td_variable *, uint64_t h);
/* A new empty directory below $TMPDIR, which whoever runs the test removes. */
const char        *td_check_directory(td_check *);

/* The bytes allocated at present; 0 where that cannot be known (sanitizers). */
size_t td_check_heap(void);
/* Call f(argument) many times; a finding that begins with `what` if allocated memory keeps
 * growing. */
void   td_check_leak(td_check *, const char *what, void (*f)(td_check *, void *), void *argument);

/* Whether x is within `tolerance` of y, relative to |y| where that is above 1. Equal infinities are
 * near; NaN is near nothing. */
static inline bool td_check_near(double x, double y, double tolerance)
{
    return x == y || fabs(x - y) <= tolerance * fmax(1, fabs(y));
}

#endif
