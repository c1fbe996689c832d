/* differential.c - the difference of two softmax maps, in which noise common to both cancels.
 * Paper: Ye et al. 2024.
 *
 *     o = (softmax(q1 k1^T / sqrt(E)) - lambda softmax(q2 k2^T / sqrt(E))) v
 *     lambda = exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init
 *     each head: (1 - lambda_init) RMSNorm(o)
 *
 * A head has two queries and two keys of width head_dim, adjacent in the projections, and one value
 * of twice that width. It is as large as two heads of softmax attention, so a fair comparison
 * halves the number of heads. */
#include <stdlib.h>

#include "heads.h"

struct differential {
    struct heads heads;
    double       lambda_init;
};

HEADS_FIRST(struct differential, heads);

static const td_option options[] = {
    TD_OPTION_INT(struct heads, heads, 4, 1, 4096, "heads, each with two maps"),
    TD_OPTION_INT(struct heads, kv_heads, 0, 0, 4096,
                  "key and value heads; 0: as many as query heads"),
    TD_OPTION_INT(struct heads, head_dim, 128, 1, 4096,
                  "width of a query or key; values and outputs have twice that"),
    TD_OPTION_FLOAT(struct differential, lambda_init, 0, 0, 0.99,
                    "initial lambda; 0: 0.8 - 0.6 exp(-0.3 layer), which rises from 0.2 to 0.8"),
    HEADS_QKV_NORM,
    HEADS_BIAS_AND_EPS,
    TD_OPTION_END
};

/* The number after the last "layers." of a path such as "model.decoder.layers.3.self_attn", 0 if
 * there is none. An attention cannot find its depth in any other way. */
static long layer_of(const char *path)
{
    long layer = 0;
    for (const char *at = path; (at = strstr(at, "layers.")) != NULL; at += 7)
        layer = strtol(at + 7, NULL, 10);
    return layer;
}

/* The paper's schedule: deeper layers subtract more. */
static double first_lambda(const struct differential *c, td_graph *g)
{
    return c->lambda_init > 0 ? c->lambda_init
                              : 0.8 - 0.6 * exp(-0.3 * (double)layer_of(g->host->path(g)));
}

/* exp(q . k) of two parameters of width head_dim: a scalar. N(0, 0.1^2) is the paper's start. */
static td_tensor *exp_of_product(const struct heads *c, td_graph *g, const char *q, const char *k)
{
    td_tensor *x = td_mul(td_param(g, q, &c->head_dim, 1, td_normal(0.1)),
                          td_param(g, k, &c->head_dim, 1, td_normal(0.1)));
    return td_exp(td_sum_all(x));
}

/* exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init: one lambda for all heads of the layer */
static td_tensor *lambda_of(const struct differential *c, td_graph *g)
{
    return td_affine(td_sub(exp_of_product(&c->heads, g, "lambda_q1", "lambda_k1"),
                            exp_of_product(&c->heads, g, "lambda_q2", "lambda_k2")),
                     1, first_lambda(c, g));
}

/* The first or second of each pair of heads: [B, 2 H, T, E] -> [B, H, T, E] */
static td_tensor *of_pair(td_tensor *x, int64_t which)
{
    int64_t pairs[] = { td_dim(x, 0), td_dim(x, 1) / 2, 2, td_dim(x, 2), td_dim(x, 3) };
    int64_t dims[] = { pairs[0], pairs[1], pairs[3], pairs[4] };
    return td_reshape(td_slice(td_reshape(x, pairs, 5), 2, which, 1), dims, 4);
}

/* Two queries and two keys per head, treated as separate heads; one value of twice the width. */
static struct qkv pairs_of(const struct heads *c, const td_attention_in *in)
{
    int64_t    kv = kv_heads_of(c);
    struct qkv x;
    x.q = td_split_heads(project(c, "q_proj", in->query, 2 * c->heads * c->head_dim), 2 * c->heads);
    x.k = td_split_heads(project(c, "k_proj", in->key, 2 * kv * c->head_dim), 2 * kv);
    x.v = td_split_heads(project(c, "v_proj", in->key, 2 * kv * c->head_dim), kv);
    x.q = norm_queries(c, x.q);
    x.k = norm_keys(c, x.k);
    x.v = norm_values(c, x.v);
    return x;
}

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct differential *c = config;
    const struct heads        *h = &c->heads;
    td_graph                  *g = in->query->graph;
    int64_t                    width = 2 * h->head_dim;
    struct qkv                 x = pairs_of(h, in);
    td_tensor                 *o[2];

    rotate_heads(in, &x);
    remember_heads(in, &x);
    /* (S1 - lambda S2) v as S1 v - lambda S2 v: two calls of the fused op, no map in memory */
    for (int k = 0; k < 2; k++)
        o[k] = td_attend_with(in, of_pair(x.q, k), of_pair(x.k, k), x.v, h->heads, heads_scale(h));
    o[0] = td_sub(o[0], td_mul(lambda_of(c, g), o[1]));
    o[0] = td_rms_norm(o[0], td_param(g, "sub_norm.weight", &width, 1, td_ones()), h->eps);
    /* brings the gradient to the size it has in softmax attention, so that hyperparameters carry
     * over; by the initial lambda, which is a constant (section 2.1 of the paper) */
    return heads_joined(h, in, td_scale(o[0], 1 - first_lambda(c, g)));
}

static const td_attention differential = {
    .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "differential", options,
                        struct differential, .brief = "the difference of two softmax maps",
                        .paper = "Ye et al., Differential Transformer, 2024", .check = heads_check),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
    .build = build,
    .head_dim = heads_dim,
};

TD_MODULE("differential", "1.0", "tandem", "MIT", &differential.plugin)
