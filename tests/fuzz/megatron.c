/* megatron.c - fuzz target: any bytes as the index of a file of tokens. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "put.h"

#include "data/common/megatron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every document that is accepted has tokens, and they are there to be read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char           bin[64], idx[64];
    megatron      *m;
    const int32_t *ids;
    int64_t        n, sum = 0;
    td_error       error = { 0 };
    int            code = 0;
    snprintf(bin, sizeof bin, "/tmp/fuzz-megatron-%d.bin", (int)getpid());
    snprintf(idx, sizeof idx, "/tmp/fuzz-megatron-%d.idx", (int)getpid());
    put(idx, data, size);
    put(bin, data, size);
    m = megatron_open(bin, &error);
    if (!m && !error.code)
        abort();
    while (m && (code = megatron_next(m, &ids, &n, &error)) == 0) {
        if (n < 1)
            abort();
        for (int64_t k = 0; k < n; k++)
            sum += ids[k];
    }
    if (sum < 0 || (m && code != TD_EEND && !error.code))
        abort();
    megatron_close(m);
    unlink(bin);
    unlink(idx);
    return 0;
}
