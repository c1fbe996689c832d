/* error.h - how anything in tandem says what went wrong.
 *
 * A function that can fail takes a td_error and returns 0 or a negative code; the message says what
 * was tried, on what, what was found and what to do. Nothing here needs a symbol of tandem at link
 * time.
 *
 *     if (!file)
 *         return td_fail(error, TD_EIO, "cannot open '%s' for reading: %s", path, strerror(errno));
 */
#ifndef TANDEM_ERROR_H
#define TANDEM_ERROR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* code, number, what it means. The tool turns ECONFIG, EPLUGIN and EGRAPH into exit code 2,
 * EDIVERGED into 3, the others into 1. */
#define TD_STATUSES(X)                                             \
    X(TD_EIO, -1, "a file, device or directory did not cooperate") \
    X(TD_ECONFIG, -2, "a config, option or argument is wrong")     \
    X(TD_EFORMAT, -3, "a file's content is malformed")             \
    X(TD_ENOMEM, -4, "memory does not suffice")                    \
    X(TD_EPLUGIN, -5, "a plugin cannot be found or used")          \
    X(TD_EGRAPH, -6, "a graph is built wrongly")                   \
    X(TD_EUNSUPPORTED, -7, "the backend cannot do this")           \
    X(TD_EDIVERGED, -8, "training diverged")                       \
    X(TD_EEND, -9, "there is no more of it")                       \
    X(TD_ERANGE, -10, "a number is out of range")

typedef enum td_status {
    TD_OK = 0,
#define X(name, number, text) name = number,
    TD_STATUSES(X)
#undef X
} td_status;

typedef struct td_error {
    int  code;       /* the first failure's td_status; 0: none yet */
    char text[2044]; /* its message, without a newline at the end */
} td_error;

#if defined(__GNUC__)
#define TD_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define TD_PRINTF(f, a)
#endif

/* Record a failure and return its code. `error` may be NULL. The first failure wins. [any] */
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

/* The code of what was recorded; `otherwise` if nothing was (a plugin that gave no message).
 * [any] */
static inline int td_failed(const td_error *error, int otherwise)
{
    return error && error->code ? error->code : otherwise;
}

#ifdef __cplusplus
}
#endif
#endif
