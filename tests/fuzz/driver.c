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

/* Every other change is near the front, where formats have their tables. */
static size_t place(size_t size, uint64_t run, uint64_t i)
{
    enum { FRONT = 1024 };
    return (size_t)td_random_below(2, run, i, i % 2 && size > FRONT ? FRONT : size);
}

/* Offsets and sizes at their limits. */
static void put_word(uint8_t *data, size_t room, uint64_t choice)
{
    static const uint64_t words[] = { 0, UINT64_MAX, INT64_MAX, UINT32_MAX, INT32_MAX, 1 << 20 };
    memcpy(data, &words[choice % 6], room < 8 ? room : 8);
}

static void copy_within(uint8_t *data, size_t size, size_t at, uint64_t run, uint64_t i)
{
    size_t from = (size_t)td_random_below(8, run, i, size),
           n = (size_t)td_random_below(9, run, i, 64);
    size_t most = size - (from > at ? from : at);
    memmove(data + at, data + from, n < most ? n : most);
}

static size_t change(uint8_t *data, size_t size, uint64_t run)
{
    uint64_t changes = 1 + td_random_below(1, run, 0, 8);
    for (uint64_t i = 0; i < changes && size; i++) {
        size_t at = place(size, run, i);
        switch (td_random_below(3, run, i, 6)) {
        case 0:
            data[at] = (uint8_t)td_random_bits(4, run, i);
            break;
        case 1:
            data[at] ^= (uint8_t)(1u << td_random_below(5, run, i, 8));
            break;
        case 2:
            data[at] = (uint8_t) "0123456789-[]{}\":,eE."[td_random_below(6, run, i, 22)];
            break;
        case 3:
            put_word(data + at, size - at, td_random_bits(10, run, i));
            break;
        case 4:
            copy_within(data, size, at, run, i);
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
