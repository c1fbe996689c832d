/* position-@NAME@.c - scores fall with the logarithm of distance, with a learned strength per head.
 * Paper: Chi et al., KERPLE: Kernelized Relative Positional Embedding, 2022.
 *
 * The contract: tandem/kind/position.h. A scheme has up to three hooks, each optional: `embed` adds
 * to the embeddings, `rotate` rotates queries and keys, and `bias`, used here, adds to the
 * scores. */
#include <stdlib.h>

#include "tandem/kind/position.h"

struct @IDENT@_config {
    double strength, scale;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct @IDENT@_config, strength, 1, 0, 1000,
                    "the bias is -strength * log(1 + scale * distance); each head also learns a factor"),
    TD_OPTION_FLOAT(struct @IDENT@_config, scale, 0.5, 0.0001, 1000,
                    "factor applied to distances, in 1/tokens"),
    TD_OPTION_END
};

/* log(1 + scale |d|) for distances d from -reach to reach: a constant [1, 2 reach + 1]. */
static td_tensor *log_distances(const struct @IDENT@_config *c, td_graph *g, int64_t reach)
{
    int64_t    dims[] = { 1, 2 * reach + 1 };
    double    *values = malloc((size_t)dims[1] * sizeof *values);
    td_tensor *t;
    if (!values)
        return td_graph_fail(g, "position '@NAME@': out of memory for a table of %lld distances",
                             (long long)dims[1]);
    for (int64_t d = -reach; d <= reach; d++)
        values[d + reach] = log1p(c->scale * (double)llabs(d));
    t = td_constant(g, TD_REAL, dims, 2, values); /* copies the values */
    free(values);
    return t;
}

/* [build]: `out` is zeroed at first, which means no bias. A bias is a table [H, R]: head h adds
 * table[h, offset + key's position - query's position] to the score of a query and a key. Fused
 * attention reads the table directly, so there is never a T x T matrix. It must cover the largest
 * distance between positions, which the longer of the two lengths bounds. */
static void bias(const void *config, const td_bias_in *in, td_bias_out *out)
{
    const struct @IDENT@_config *c = config;
    int64_t                   longest = in->q_length > in->k_length ? in->q_length : in->k_length;
    int64_t                   dims[] = { in->heads, 1 };
    td_tensor                *strength;

    if (in->role == TD_ROLE_CROSS) /* tokens of decoder and encoder have no distance */
        return;
    /* one parameter for all layers of the stack: the scope is the stack's, not the layer's. exp
     * keeps the factor positive; it starts at 1. */
    td_push_shared(in->graph, "log_strength", in->stack);
    strength = td_exp(td_param(in->graph, "log_strength", dims, 2, td_zeros())); /* [H, 1] */
    td_pop(in->graph);
    strength = td_scale(strength, -c->strength);

    out->table = (td_bias){ td_mul(strength, log_distances(c, in->graph, longest - 1)),
                            in->q_position, in->k_position, longest - 1 };
}

static const td_position @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_position, TD_POSITION_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "scores minus a learned strength times the logarithm of distance",
                        .paper = "Chi et al., KERPLE, 2022"),
    .bias = bias,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
