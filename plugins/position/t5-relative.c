/* t5-relative.c - a learned bias per bucket of distances, one table for all layers of a stack.
 * Paper: Raffel et al. 2020; the buckets are those of its authors' code and of Hugging Face. */
#include <stdlib.h>

#include "tandem/kind/position.h"

struct t5 {
    int64_t buckets, max_distance;
};

static const td_option options[] = { TD_OPTION_INT(struct t5, buckets, 32, 4, 1 << 16,
                                                   "buckets that distances are sorted into"),
                                     TD_OPTION_INT(struct t5, max_distance, 128, 2, 1 << 24,
                                                   "distances from this on share the last bucket"),
                                     TD_OPTION_END };

/* The bucket of distance n >= 0 among b: the first half hold one distance each, the rest grow
 * logarithmically up to max_distance. */
static int64_t bucket_of(int64_t n, int64_t b, int64_t max_distance)
{
    int64_t exact = b / 2, far;
    if (n < exact)
        return n;
    far = exact + (int64_t)floor(log((double)n / (double)exact) /
                                 log((double)max_distance / (double)exact) * (double)(b - exact));
    return far < b - 1 ? far : b - 1;
}

/* r = key - query position. In an encoder the upper half of the buckets is for r > 0. A decoder
 * sees no r > 0 except among given tokens (BiAttn), which share bucket 0. */
static int64_t relative_bucket(const struct t5 *c, int64_t r, bool encoder)
{
    int64_t half = c->buckets / 2;
    if (!encoder)
        return bucket_of(r < 0 ? -r : 0, c->buckets, c->max_distance);
    return (r > 0 ? half : 0) + bucket_of(llabs(r), half, c->max_distance);
}

/* The bucket of every distance from -reach to reach: i32 [2 reach + 1] */
static td_tensor *bucket_ids(const struct t5 *c, td_graph *g, int64_t reach, bool encoder)
{
    int64_t    count = 2 * reach + 1;
    double    *ids = malloc((size_t)count * sizeof *ids);
    td_tensor *t;
    if (!ids)
        return td_graph_fail(g,
                             "position 't5-relative': out of memory for a table of %lld distances",
                             (long long)count);
    for (int64_t r = -reach; r <= reach; r++)
        ids[r + reach] = (double)relative_bucket(c, r, encoder);
    t = td_constant(g, TD_I32, &count, 1, ids);
    free(ids);
    return t;
}

/* table[h, distance] = weight[bucket(distance), h] */
static void bias(const void *config, const td_bias_in *in, td_bias_out *out)
{
    const struct t5 *c = config;
    int64_t          longest = in->q_length > in->k_length ? in->q_length : in->k_length;
    int64_t          dims[] = { c->buckets, in->heads };
    td_tensor       *weight, *ids;

    if (in->role == TD_ROLE_CROSS)
        return;
    /* the scope is the stack's, not the layer's: every layer fetches the same table */
    td_push_shared(in->graph, "relative_attention_bias", in->stack);
    weight = td_param(in->graph, "relative_attention_bias.weight", dims, 2,
                      td_normal(1 / sqrt((double)in->heads)));
    td_pop(in->graph);
    ids = bucket_ids(c, in->graph, longest - 1, in->role == TD_ROLE_ENCODER);
    out->table = (td_bias){ td_transpose(td_gather(weight, ids), 0, 1), in->q_position,
                            in->k_position, longest - 1 };
}

/* In an encoder, half of the buckets serve each direction; and the logarithm needs a max_distance
 * beyond the buckets that hold one distance each. */
static int check(const void *config, td_error *error)
{
    const struct t5 *c = config;
    if (c->buckets % 2)
        return td_fail(
            error, TD_ECONFIG,
            "buckets = %lld must be even: an encoder uses half of them for each direction",
            (long long)c->buckets);
    if (c->max_distance <= c->buckets / 2)
        return td_fail(error, TD_ECONFIG,
                       "max_distance = %lld must be greater than half of buckets = %lld",
                       (long long)c->max_distance, (long long)c->buckets);
    return 0;
}

static const td_position t5_relative = {
    .plugin = TD_PLUGIN(td_position, TD_POSITION_KIND, "t5-relative", options, struct t5,
                        .brief = "a learned bias per bucket of distances, in self-attention",
                        .paper = "Raffel et al., Exploring the Limits of Transfer Learning, 2020",
                        .check = check),
    .bias = bias,
    .by_role = true,
};

TD_MODULE("t5-relative", "1.0", "tandem", "MIT", &t5_relative.plugin)
