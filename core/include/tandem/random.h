/* random.h - counter-based random numbers (Philox4x32-10): each is a function of (seed, stream,
 * index).
 *
 * There is no generator with a state, and nothing is ever drawn "next". That makes exact resuming
 * and exact parallelism possible: example 7000 of a run sees the same numbers whichever thread
 * prepares it, on however many machines, today or after a restart. So choose a stream by purpose (a
 * record's id, a hashed name) and an index for the number within it, and keep no counter anywhere.
 * Two uses must not share a (seed, stream) pair, or they are correlated.
 *
 * Everything here is pure and [any]. Paper: Salmon et al., "Parallel random numbers: as easy as 1,
 * 2, 3", SC 2011.
 *
 * Example:
 *
 *     // Whether token n of record `id` is masked out, at a rate of 15 %.
 *     static int is_masked(uint64_t seed, uint64_t id, int64_t n)
 *     {
 *         uint64_t stream = td_hash(td_random_stream("mask"), &id, sizeof id);
 *         return td_random_uniform(seed, stream, (uint64_t)n) < 0.15;
 *     }
 */
#ifndef TANDEM_RANDOM_H
#define TANDEM_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Four independent, uniform 32-bit words. */
typedef struct td_random4 {
    uint32_t v[4];
} td_random4;

/* Four random words for the 128-bit counter (stream, index) under the key `seed`: ten rounds of two
 * 32 x 32 -> 64 bit products, as published. The constants are the paper's. */
static inline td_random4 td_philox(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        /* high halves are mixed with the key, low halves are swapped */
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u; /* Weyl sequences: golden ratio, sqrt(3) - 1 */
        k1 += 0xBB67AE85u;
    }
    td_random4 r = { { c0, c1, c2, c3 } };
    return r;
}

/* 64 random bits. */
static inline uint64_t td_random_bits(uint64_t seed, uint64_t stream, uint64_t index)
{
    td_random4 r = td_philox(seed, stream, index);
    return (uint64_t)r.v[1] << 32 | r.v[0];
}

/* Uniform in [0, 1): a multiple of 2^-53, so every value is exact and 1 never occurs. */
static inline double td_random_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (double)(td_random_bits(seed, stream, index) >> 11) * (1.0 / 9007199254740992.0);
}

/* A uniform integer in [0, n), n >= 1: the high word of the product of n and 64 random bits. The
 * probabilities of two values differ by at most 2^-64. Paper: Lemire, "Fast random integer
 * generation in an interval", 2019, without the rejection. */
static inline uint64_t td_random_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t n)
{
    uint64_t x = td_random_bits(seed, stream, index), lo = (uint32_t)n, hi = n >> 32;
    /* x * n in 32-bit digits: C has no 128-bit type */
    uint64_t xl = (uint32_t)x, xh = x >> 32;
    uint64_t m = xh * lo + (xl * lo >> 32), k = xl * hi + (uint32_t)m;
    return xh * hi + (m >> 32) + (k >> 32);
}

/* The stream for a name: FNV-1a of the text. Also the starting value of td_hash. */
static inline uint64_t td_random_stream(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

/* FNV-1a of `size` more bytes, continuing from `h`; start with td_random_stream(""). For streams
 * and fingerprints, not against an adversary. */
static inline uint64_t td_hash(uint64_t h, const void *data, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)data;
    for (size_t i = 0; i < size; i++)
        h = (h ^ bytes[i]) * 0x100000001B3u;
    return h;
}

#ifdef __cplusplus
}
#endif
#endif
