/* open_mpi.h - the environment in which tests start processes that use Open MPI. */
#ifndef TESTS_OPEN_MPI_H
#define TESTS_OPEN_MPI_H

#include <stdio.h>
#include <stdlib.h>

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
    open_mpi_ignore_leaks();
}

#endif
