/* open_mpi.h - the environment in which tests start processes that use Open MPI. */
#ifndef TESTS_OPEN_MPI_H
#define TESTS_OPEN_MPI_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

/* Open MPI unloads its components before leaks are looked for, so what they leak can neither be
 * told from our leaks nor be named in leaks.supp. */
static inline void open_mpi_ignore_leaks(void)
{
    const char *before = getenv("ASAN_OPTIONS");
    char        after[1000];
    snprintf(after, sizeof after, "%s:detect_leaks=0", before ? before : "");
    setenv("ASAN_OPTIONS", after, 1);
}

/* CI runs as root, on fewer processors than ranks. */
static inline void open_mpi_setup(void)
{
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    /* tests that run at the same time would bind their ranks to the same processors */
    setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1);
    /* a rank that waits gives its processor to those that work */
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
    open_mpi_ignore_leaks();
}

/* Otherwise a test of several processes does nothing. */
static inline bool there_is_mpi(void)
{
    bool there = td_file_exists(TANDEM_PLUGINS "/comm-mpi.so") &&
                 !system("command -v mpirun >/dev/null");
    if (!there)
        cr_log_warn("no comm 'mpi', or no mpirun: nothing is tested");
    return there;
}

#endif
