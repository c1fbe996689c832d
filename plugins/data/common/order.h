/* order.h - the order of records as a function of (seed, index): nothing is stored, so a resumed
 * run continues exactly, and workers need not agree on anything. */
#ifndef TD_DATA_COMMON_ORDER_H
#define TD_DATA_COMMON_ORDER_H

#include "tandem/random.h"

/* Where x of [0, n) goes in a permutation of [0, n) chosen by (seed, stream). A Feistel network
 * permutes [0, 4^k), the smallest such range that holds n; where it leads outside, it is applied
 * again until it leads back inside ("cycle walking", Black and Rogaway 2002), 4 times at most on
 * average. */
static inline uint64_t order_permute(uint64_t seed, uint64_t stream, uint64_t x, uint64_t n)
{
    int half = 1;
    while (half < 32 && (uint64_t)1 << (2 * half) < n)
        half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = x >> half, right = x & mask;
        /* four rounds look random even to an adversary who chooses x (Luby and Rackoff 1988) */
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t next = left ^ (td_random_bits(seed, stream, round << 60 ^ right) & mask);
            left = right;
            right = next;
        }
        x = left << half | right;
    } while (x >= n);
    return x;
}

/* Records come in blocks of this size; in each block every source has its exact share. */
enum { ORDER_BLOCK = 4096 };

/* The pattern of every block: the source of each place, and how many places before it belong to
 * that source. */
typedef struct order_pattern {
    int32_t source[ORDER_BLOCK], rank[ORDER_BLOCK];
} order_pattern;

/* ends[s]: where the share of source s ends in [0, ORDER_BLOCK), the last at ORDER_BLOCK.
 * counts[s]: receives the size of the share; must be 0 before. */
static inline void order_fill(order_pattern *p, uint64_t seed, const int64_t *ends, int64_t *counts)
{
    for (uint64_t i = 0; i < ORDER_BLOCK; i++) {
        int64_t at = (int64_t)order_permute(seed, td_random_stream("sources"), i, ORDER_BLOCK);
        int32_t source = 0;
        while (at >= ends[source])
            source++;
        p->source[i] = source;
        p->rank[i] = (int32_t)counts[source]++;
    }
}

/* The source of record `index`. *ordinal: how many records before it belong to that source,
 * including those in all earlier blocks. */
static inline int64_t order_source(const order_pattern *p, const int64_t *counts, uint64_t index,
                                   uint64_t *ordinal)
{
    int64_t source = p->source[index % ORDER_BLOCK];
    *ordinal = index / ORDER_BLOCK * (uint64_t)counts[source] +
               (uint64_t)p->rank[index % ORDER_BLOCK];
    return source;
}

#endif
