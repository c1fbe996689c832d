/* order.h - the order of records as a function of (seed, index): nothing is stored, so resuming is exact. */
#ifndef TD_DATA_TEXT_ORDER_H
#define TD_DATA_TEXT_ORDER_H

#include "tandem/random.h"

/* Where x of [0, n) goes in a permutation of [0, n) chosen by (seed, stream): a Feistel network on the next even power of two,
 * walked until it is back inside. */
static inline uint64_t order_permute(uint64_t seed, uint64_t stream, uint64_t x, uint64_t n)
{
    int half = 1;
    while (half < 32 && (uint64_t)1 << (2 * half) < n)
        half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t next = left ^ (td_random_bits(seed, stream, round << 60 ^ right) & mask);
            left = right, right = next;
        }
        x = left << half | right;
    } while (x >= n);
    return x;
}

/* Records come in blocks of this many; in each block every source has its share exactly. */
enum { ORDER_BLOCK = 4096 };

/* `ends[s]`: end of the share of source s in [0, ORDER_BLOCK). Gives the source of record `index`, and in `ordinal` how
 * many-th record of that source it is. */
static inline int64_t order_source(uint64_t seed, const int64_t *ends, uint64_t index, uint64_t *ordinal)
{
    uint64_t block = index / ORDER_BLOCK;
    int64_t  at = (int64_t)order_permute(seed, td_random_stream("sources") + block, index % ORDER_BLOCK, ORDER_BLOCK);
    int64_t  source = 0;
    while (at >= ends[source])
        source++;
    int64_t begin = source ? ends[source - 1] : 0;
    *ordinal = block * (uint64_t)(ends[source] - begin) + (uint64_t)(at - begin);
    return source;
}

#endif
