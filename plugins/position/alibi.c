/* alibi.c - scores fall linearly with distance, with one fixed slope per head. Paper: Press et al.
 * 2022. Nothing is learned, and nothing ends at the training length. */
#include <stdlib.h>

#include "tandem/kind/position.h"

struct alibi {
    bool unused;
};

/* The authors' slopes: 2^(-8(i+1)/k) for i < k, the largest power of two up to `heads`; the other
 * heads take every second slope of the series for 2k, which lie between those. */
static double slope(int64_t head, int64_t heads)
{
    int64_t k = 1;
    while (2 * k <= heads)
        k *= 2;
    return head < k ? exp2(-8.0 * (double)(head + 1) / (double)k)
                    : exp2(-8.0 * (double)(2 * (head - k) + 1) / (double)(2 * k));
}

/* table[h, distance] = -slope(h) |distance|: [H, 2 reach + 1] */
static void bias(const void *config, const td_bias_in *in, td_bias_out *out)
{
    int64_t longest = in->q_length > in->k_length ? in->q_length : in->k_length,
            reach = longest - 1;
    int64_t dims[] = { in->heads, 2 * reach + 1 };
    double *table;

    /* a distance from the decoder's text into the encoder's means nothing */
    if (in->role == TD_ROLE_CROSS)
        return;
    table = malloc((size_t)(dims[0] * dims[1]) * sizeof *table);
    if (!table) {
        td_graph_fail(in->graph, "position 'alibi': out of memory for a table of %lld distances",
                      (long long)dims[1]);
        return;
    }
    for (int64_t h = 0; h < dims[0]; h++)
        for (int64_t d = -reach; d <= reach; d++)
            table[h * dims[1] + d + reach] = -slope(h, in->heads) * (double)llabs(d);
    out->table = (td_bias){ td_constant(in->graph, TD_REAL, dims, 2, table), in->q_position,
                            in->k_position, reach };
    free(table);
}

static const td_position alibi = {
    .plugin = TD_PLUGIN(td_position, TD_POSITION_KIND, "alibi", NULL, struct alibi,
                        .brief = "scores fall linearly with distance, in self-attention",
                        .paper = "Press et al., Train Short, Test Long, 2022"),
    .bias = bias,
};

TD_MODULE("alibi", "1.0", "tandem", "MIT", &alibi.plugin)
