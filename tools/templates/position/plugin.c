/* position-@NAME@.c - scores fall with the logarithm of distance, at a learned strength per head.
 * Paper: Chi et al., KERPLE: Kernelized Relative Positional Embedding, 2022.
 *
 * The contract: tandem/kind/position.h. A scheme has up to three hooks, each optional: `embed` adds
 * to the embeddings, `rotate` turns queries and keys, `bias` adds to the scores, as here. */
#include <stdlib.h>

#include "tandem/kind/position.h"

struct @IDENT@_config {
    double strength, scale;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct @IDENT @_config, strength, 1, 0, 1000,
                    "the bias is minus this times log(1 + scale distance); a learned factor per "
                    "head follows"),
    TD_OPTION_FLOAT(struct @IDENT @_config, scale, 0.5, 0.0001, 1000, "of distances, in 1/tokens"),
    TD_OPTION_END
};

/* log(1 + scale |d|) for distances -reach .. reach: a constant [1, 2 reach + 1]. */
static td_tensor *log_distances(const struct @IDENT@_config *c, td_graph *g, int64_t reach)
{
    int64_t    dims[] = { 1, 2 * reach + 1 };
    double    *values = malloc((size_t)dims[1] * sizeof *values);
    td_tensor *t;
    if (!values)
        return td_graph_fail(g, "position '@NAME@': no memory for a table of %lld distances",
                             (long long)dims[1]);
    for (int64_t d = -reach; d <= reach; d++)
        values[d + reach] = log1p(c->scale * (double)llabs(d));
    t = td_constant(g, TD_REAL, dims, 2, values); /* copied */
    free(values);
    return t;
}

/* [build]: `out` comes zeroed, which is "no bias". A bias is a table [H, R]: what is added to the
 * score of a query and a key of head h is table[h, offset + key's position - query's position],
 * which the fused attention reads without ever making a matrix of T x T. It must reach as far as
 * positions can be apart: the longer of both lengths. */
static void bias(const void *config, const td_bias_in *in, td_bias_out *out)
{
    const struct @IDENT@_config *c = config;
    int64_t                   longest = in->q_length > in->k_length ? in->q_length : in->k_length;
    int64_t                   dims[] = { in->heads, 1 };
    td_tensor                *strength;

    if (in->role == TD_ROLE_CROSS) /* a decoder's token is no distance from an encoder's */
        return;
    /* one parameter for all layers of the stack: the scope is the stack's, not the layer's. exp
     * keeps the factor above 0; it is 1 at first. */
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
