/* put.h - the bytes of a fuzzer as a file. Unlike td_file_write it does not sync, which would take most
 * of the time. */
#ifndef TESTS_FUZZ_PUT_H
#define TESTS_FUZZ_PUT_H

#include <stdio.h>
#include <stdlib.h>

static inline void put(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        abort();
}

#endif
