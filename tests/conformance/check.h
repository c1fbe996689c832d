/* check.h - runs of `tandem plugins check`. */
#ifndef TESTS_CONFORMANCE_CHECK_H
#define TESTS_CONFORMANCE_CHECK_H

#include "tools/child.h"

/* The results for one module, as JSON. `more`: further arguments, then NULL; or NULL. */
static inline json_t *check_module(const char *path, const char *const *more, child *run)
{
    const char *argv[24] = { TANDEM_BINARY, "plugins", "check", "--json", "--jobs", "2", path };
    size_t      n = 7;
    while (more && *more)
        argv[n++] = *more++;
    *run = child_run(argv);
    return child_json(run);
}

#endif
