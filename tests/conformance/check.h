/* check.h - runs of `tandem plugins check`. */
#ifndef TESTS_CONFORMANCE_CHECK_H
#define TESTS_CONFORMANCE_CHECK_H

#include "tools/child.h"

/* Instrumented code takes several times as long. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define PATIENCE "240"
#else
#define PATIENCE "60"
#endif

/* The results for one module, as JSON. `more`: further arguments, then NULL; or NULL. */
static inline json_t *check_module(const char *path, const char *const *more, child *run)
{
    const char *argv[24] = { TANDEM_BINARY, "plugins", "check", "--json", "--jobs", "2", path };
    size_t      n = 7;
    bool        timed = false;
    for (; more && *more; more++) {
        timed |= !strcmp(*more, "--time-limit");
        argv[n++] = *more;
    }
    if (!timed) {
        argv[n++] = "--time-limit";
        argv[n++] = PATIENCE;
    }
    *run = child_run(argv);
    return child_json(run);
}

#endif
