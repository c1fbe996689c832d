/* mask.h - the mask rule of an attention (td_mask, tandem/ops.h) on the host, pair by pair. */
#ifndef TD_GRAPH_MASK_H
#define TD_GRAPH_MASK_H

#include <stdbool.h>
#include <stdint.h>

/* The rule's integers, [rows][q] of queries and [rows][k] of keys; NULL: absent. */
typedef struct td_mask_rule {
    const int32_t *q_segment, *k_segment, *q_input, *k_input, *q_index, *k_index;
    const int32_t *k_length; /* [rows]; NULL: all keys are present */
    int64_t        rows, q, k, causal, window, self;
} td_mask_rule;

/* Whether query i of a row sees key j. */
bool td_mask_sees(const td_mask_rule *, int64_t row, int64_t i, int64_t j);

#endif
