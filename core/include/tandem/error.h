/* error.h - reporting of failures, everywhere in tandem and in its plugins.
 *
 * A function that can fail takes a td_error, returns 0 or a negative td_status, and describes a
 * failure with td_fail. The message is read by a user who knows neither the code nor the plugin: it
 * says what was tried, on what, what was found, and what to do about it. The owner of the td_error
 * decides where the text goes; library code and plugins print nothing.
 *
 * The first failure wins: a caller that fails because of it may call td_fail again, and the
 * original message is kept. So errors need no translation on their way up. Initialize with `= { 0
 * }`.
 *
 * Errors in building a graph are reported differently (td_graph_fail, graph.h), as build hooks
 * return tensors. Nothing here needs a symbol of tandem at link time.
 *
 * Example:
 *
 *     #include <errno.h>
 *     #include <string.h>
 *
 *     static int open_for_reading(const char *path, FILE **out, td_error *error)
 *     {
 *         *out = fopen(path, "r");
 *         if (!*out)
 *             return td_fail(error, TD_EIO, "cannot open '%s' for reading: %s", path,
 *                            strerror(errno));
 *         return 0;
 *     }
 */
#ifndef TANDEM_ERROR_H
#define TANDEM_ERROR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Name, number, meaning. The command `tandem` exits with 2 on TD_ECONFIG, TD_EPLUGIN and TD_EGRAPH,
 * which the user can correct in a config; with 3 on TD_EDIVERGED; with 1 on all others. */
#define TD_STATUSES(X)                                         \
    X(TD_EIO, -1, "a file, directory or device failed")        \
    X(TD_ECONFIG, -2, "a config, option or argument is wrong") \
    X(TD_EFORMAT, -3, "a file's content is malformed")         \
    X(TD_ENOMEM, -4, "out of memory")                          \
    X(TD_EPLUGIN, -5, "a plugin cannot be found or used")      \
    X(TD_EGRAPH, -6, "a graph was built incorrectly")          \
    X(TD_EUNSUPPORTED, -7, "the backend cannot do this")       \
    X(TD_EDIVERGED, -8, "training diverged")                   \
    X(TD_EEND, -9, "end of data")                              \
    X(TD_ERANGE, -10, "a number is out of range")

/* Return values of functions: 0 for success, else negative. */
typedef enum td_status {
    TD_OK = 0,
#define X(name, number, text) name = number,
    TD_STATUSES(X)
#undef X
} td_status;

typedef struct td_error {
    int  code;       /* the first failure's td_status; 0: none yet */
    char text[2044]; /* its message, without a trailing newline */
} td_error;

/* Lets the compiler check the arguments against the format. */
#if defined(__GNUC__)
#define TD_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define TD_PRINTF(f, a)
#endif

/* Record a failure and return `code`. If `error` is NULL, only the code is passed on. A
 * message too long for td_error.text is cut. [any] */
static inline int td_fail(td_error *error, int code, const char *format, ...) TD_PRINTF(3, 4);

static inline int td_fail(td_error *error, int code, const char *format, ...)
{
    if (error && !error->code) {
        va_list args;
        va_start(args, format);
        error->code = code;
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
    }
    return code;
}

/* The code of the recorded failure, or `otherwise` if there is none: for callers of hooks, which
 * may fail without a message. [any] */
static inline int td_failed(const td_error *error, int otherwise)
{
    return error && error->code ? error->code : otherwise;
}

#ifdef __cplusplus
}
#endif
#endif
