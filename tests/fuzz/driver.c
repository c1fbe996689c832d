/* driver.c - runs a fuzz target without libFuzzer: driver SECONDS SEED_FILE.. changes random bytes
 * of the seeds, in the same sequence each time. Build it with the target and
 * -fsanitize=address,undefined. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tandem/random.h"

enum { LIMIT = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t change(uint8_t *data, size_t size, uint64_t run)
{
    uint64_t changes = 1 + td_random_below(1, run, 0, 8);
    for (uint64_t i = 0; i < changes && size; i++) {
        size_t at = (size_t)td_random_below(2, run, i, size);
        switch (td_random_below(3, run, i, 4)) {
        case 0:
            data[at] = (uint8_t)td_random_bits(4, run, i);
            break;
        case 1:
            data[at] ^= (uint8_t)(1u << td_random_below(5, run, i, 8));
            break;
        case 2:
            data[at] = (uint8_t) "0123456789-[]{}\":,eE."[td_random_below(6, run, i, 22)];
            break;
        default:
            if (td_random_below(7, run, i, 4) == 0)
                size = at;
        }
    }
    return size;
}

int main(int count, char **arguments)
{
    static uint8_t seed[LIMIT], data[LIMIT];
    if (count < 3) {
        fputs("usage: driver SECONDS SEED_FILE..\n", stderr);
        return 2;
    }
    time_t   end = time(NULL) + atoi(arguments[1]);
    uint64_t runs = 0;
    for (; time(NULL) < end; runs++) {
        FILE  *f = fopen(arguments[2 + runs % (uint64_t)(count - 2)], "rb");
        size_t size = f ? fread(seed, 1, LIMIT, f) : 0;
        if (f)
            fclose(f);
        memcpy(data, seed, size);
        LLVMFuzzerTestOneInput(data, change(data, size, runs));
    }
    printf("%llu runs\n", (unsigned long long)runs);
    return 0;
}
