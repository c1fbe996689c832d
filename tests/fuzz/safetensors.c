/* safetensors.c - fuzz target: any bytes as a safetensors file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "put.h"

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char     path[64];
    td_error error = { 0 };
    snprintf(path, sizeof path, "/tmp/fuzz-safetensors-%d", (int)getpid());
    put(path, data, size);
    td_safetensors *s = td_safetensors_open(path, &error);
    for (size_t i = 0; s && i < td_safetensors_count(s); i++) {
        const td_stored *t = td_safetensors_at(s, i);
        int64_t          n = td_stored_count(t);
        double          *out = malloc((size_t)n * sizeof *out + 1);
        td_stored_doubles(t, out, n, NULL);
        free(out);
    }
    td_safetensors_close(s);
    unlink(path);
    return 0;
}
