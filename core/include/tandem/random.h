/* random.h - counter-based randomness (Philox4x32-10): a number is a function of (seed, stream,
 * index).
 *
 * Nothing is ever drawn "next", so no number depends on threads, ranks or order of arrival.
 * Paper: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 */
#ifndef TANDEM_RANDOM_H
#define TANDEM_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct td_random4 {
    uint32_t v[4];
} td_random4;

/* Four random words for the 128-bit counter (stream, index) under `seed`. [any] */
static inline td_random4 td_philox(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    td_random4 r = { { c0, c1, c2, c3 } };
    return r;
}

/* One random 64-bit word. [any] */
static inline uint64_t td_random_bits(uint64_t seed, uint64_t stream, uint64_t index)
{
    td_random4 r = td_philox(seed, stream, index);
    return (uint64_t)r.v[1] << 32 | r.v[0];
}

/* Uniform in [0, 1), 53 bits. [any] */
static inline double td_random_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (double)(td_random_bits(seed, stream, index) >> 11) * (1.0 / 9007199254740992.0);
}

/* Uniform integer in [0, n), n >= 1; without modulo bias beyond 2^-64 n. [any] */
static inline uint64_t td_random_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t n)
{
    uint64_t x = td_random_bits(seed, stream, index), lo = (uint32_t)n, hi = n >> 32;
    uint64_t xl = (uint32_t)x, xh = x >> 32; /* the high word of the 128-bit product x * n */
    uint64_t m = xh * lo + (xl * lo >> 32), k = xl * hi + (uint32_t)m;
    return xh * hi + (m >> 32) + (k >> 32);
}

/* FNV-1a of a text: the stream of what has a name. [any] */
static inline uint64_t td_random_stream(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

/* FNV-1a going on from `h` with these bytes; it begins with td_random_stream(""). [any] */
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
