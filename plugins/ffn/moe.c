/* moe.c - a mixture of experts: a router sends each token through a few of many feed-forward
 * layers. Papers: Shazeer et al. 2017; Fedus et al. 2021; Zoph et al. 2022; Jiang et al. 2024; Dai
 * et al. 2024 (shared experts).
 *
 *     y = sum_{e in top k} w_e expert_e(x),   w = softmax of the router's logits x Wr
 *
 * A token is copied once for each of its experts. The copies are sorted by expert, so that every
 * expert reads a contiguous run of rows, in one grouped product, and then sorted back. No expert
 * has a capacity, so no token is dropped. */
#include "tandem/kind/ffn.h"

struct moe {
    int64_t d_ff, experts, top_k, shared, activation, weights;
    double  balance, router_z;
};

enum { CHOSEN, ALL };

static const char *const activations[] = { "swiglu", "geglu", 0 };
static const char *const weightings[] = { "chosen", "all", 0 };

static const td_option options[] = {
    TD_OPTION_NEED_INT(struct moe, d_ff, 1, 1 << 24, "width inside an expert"),
    TD_OPTION_INT(struct moe, experts, 8, 2, 4096, "experts to choose from"),
    TD_OPTION_INT(struct moe, top_k, 2, 1, 4096, "experts that each token passes through"),
    TD_OPTION_INT(
        struct moe, shared, 0, 0, 64,
        "shared experts, which every token passes through, as one layer of their combined width"),
    TD_OPTION_CHOICE(struct moe, activation, 0, activations, "the experts' gated linear unit"),
    TD_OPTION_CHOICE(struct moe, weights, CHOSEN, weightings,
                     "weights of the chosen experts: chosen, softmax over their logits alone "
                     "(Mixtral); all, softmax over the logits of all experts (Switch)"),
    TD_OPTION_FLOAT(struct moe, balance, 0.01, 0, 100,
                    "weight of the loss moe_balance, which spreads tokens evenly over experts"),
    TD_OPTION_FLOAT(struct moe, router_z, 0, 0, 100,
                    "weight of the loss moe_z, the router's mean squared log Z; 0.001 in ST-MoE"),
    TD_OPTION_END
};

/* The router's decisions for N tokens. */
struct routes {
    td_tensor *logits;  /* [N, experts] */
    td_tensor *real;    /* [N, 1]: 1, or 0 for padding */
    td_tensor *tokens;  /* number of real tokens; at least 1, since it is a divisor */
    td_tensor *weights; /* [N, top_k] */
    td_tensor *counts;  /* i32 [1, experts]: number of tokens that chose each */
    /* Over the N * top_k copies, those of a token adjacent. position: i32, the place of each copy
     * when they are sorted by expert, padding last. group: i32, the expert at each of those
     * places. */
    td_tensor *position, *group;
};

static td_tensor *reshape2(td_tensor *x, int64_t rows, int64_t columns)
{
    int64_t dims[] = { rows, columns };
    return td_reshape(x, dims, 2);
}

static td_tensor *flat(td_tensor *x)
{
    int64_t n = td_count(x);
    return td_reshape(x, &n, 1);
}

/* ---- routing --------------------------------------------------------------------------------- */

/* Sort the copies by expert [N, top_k]: a counting sort, in ops. A copy comes after all those of
 * lower experts, and after earlier ones of the same expert. Padding has the expert number
 * `experts`, the last. */
static void sort(struct routes *r, td_tensor *expert, int64_t experts)
{
    td_graph  *g = expert->graph;
    int64_t    rows = td_count(expert);
    td_tensor *mine = td_equal(reshape2(expert, rows, 1),
                               reshape2(td_iota(g, TD_I32, experts + 1), 1, experts + 1));
    td_tensor *counts = td_sum(mine, 0), *ends = td_cumsum(counts, 1, false);
    td_tensor *before = td_affine(td_sub(ends, counts), 1, -1);
    td_tensor *place = td_affine(reshape2(td_iota(g, TD_I32, rows), rows, 1), 1, 1);

    /* row k of `mine` is one-hot, so the sum picks the rank of copy k among its expert's, from 1,
     * plus the start of that expert's run, minus 1 */
    r->position = flat(td_sum(td_mul(mine, td_add(td_cumsum(mine, 0, false), before)), 1));
    r->counts = td_slice(counts, 1, 0, experts);
    /* the expert at a place is the number of runs that end at it or before */
    r->group = flat(td_sum(td_less(td_slice(ends, 1, 0, experts), place), 1));
}

/* The router: logits of all experts, the best top_k of each token with their weights, and the
 * places of all copies when sorted by expert. */
static struct routes route(const struct moe *c, const td_ffn_in *in, td_tensor *x)
{
    td_graph     *g = x->graph;
    int64_t       n = td_dim(x, 0);
    struct routes r = { .logits = td_linear("gate", x, c->experts) };
    td_tensor    *segment = reshape2(in->segment, n, 1), *none = td_full(g, TD_I32, 0, 0, 0);
    td_tensor    *padding = td_equal(segment, none), *expert, *top;

    r.real = td_affine(td_cast(padding, TD_REAL), -1, 1);
    r.tokens = td_maximum(td_sum_all(r.real), td_scalar(g, 1));
    top = td_topk(c->weights == ALL ? td_softmax(r.logits) : r.logits, c->top_k, &expert);
    r.weights = c->weights == ALL ? top : td_softmax(top);
    /* padding must take part in no product and in no count */
    expert = td_where(padding, td_full(g, TD_I32, 0, 0, (double)c->experts), expert);
    sort(&r, expert, c->experts);
    return r;
}

/* ---- auxiliary losses ------------------------------------------------------------------------ */

/* experts sum_e f_e p_e, with f_e the share of choices that fell on expert e and p_e its mean
 * probability: 1 if tokens are spread evenly (Fedus et al., equation 4). Counts have no gradient,
 * so the router learns through p alone. */
static void balance(const struct moe *c, const struct routes *r)
{
    td_tensor *chosen = td_div(td_cast(r->counts, TD_REAL), r->tokens);
    td_tensor *probable = td_div(td_sum(td_mul(td_softmax(r->logits), r->real), 0), r->tokens);
    double     scale = (double)c->experts / (double)c->top_k;
    td_aux_loss(r->logits->graph, "moe_balance",
                td_scale(td_sum_all(td_mul(chosen, probable)), scale), c->balance);
}

/* The mean of (log Z)^2 over real tokens, Z the sum of the exponentials of a token's logits. The
 * largest is subtracted first, so that no exponential overflows; it is detached, as the result does
 * not depend on it. */
static void router_z(const struct moe *c, const struct routes *r)
{
    td_tensor *largest = td_detach(td_max(r->logits, 1));
    td_tensor *z = td_add(td_log(td_sum(td_exp(td_sub(r->logits, largest)), 1)), largest);
    td_aux_loss(r->logits->graph, "moe_z",
                td_div(td_sum_all(td_mul(td_mul(z, z), r->real)), r->tokens), c->router_z);
}

/* ---- experts --------------------------------------------------------------------------------- */

/* Multiply each row by the matrix of its expert in `name`.weight [experts, out, in]. */
static td_tensor *by_expert(const struct moe *c, const struct routes *r, const char *name,
                            td_tensor *x, int64_t out)
{
    int64_t    dims[] = { c->experts, out, td_dim(x, 1) };
    td_tensor *w, *y;
    td_push(x->graph, name);
    w = td_param(x->graph, "weight", dims, 3, td_truncated(1 / sqrt((double)td_dim(x, 1))));
    y = td_grouped_matmul(x, w, r->group, true);
    td_pop(x->graph);
    return y;
}

/* Index into `activations`. */
static td_activation activation_of(const struct moe *c)
{
    return c->activation ? TD_GELU : TD_SILU;
}

/* Random numbers of dropout belong to examples, so rows are sorted back to their tokens for it,
 * and then by expert again. Skipped if the rate is 0: it costs two passes over memory. */
static td_tensor *dropped(const struct moe *c, const td_ffn_in *in, const struct routes *r,
                          td_tensor *h)
{
    int64_t    rows = td_dim(h, 0), width = td_dim(h, 1);
    int64_t    dims[] = { td_dim(in->x, 0), td_dim(in->x, 1) * c->top_k, width };
    td_tensor *y;
    if (!in->dropout || in->dropout->rate <= 0 || !td_is_training(h->graph))
        return h;
    y = td_drop(td_reshape(td_gather(h, r->position), dims, 3), in->dropout, "inside", 1);
    return td_scatter_add(r->position, reshape2(y, rows, width), 0, rows);
}

/* sum_k weight_k expert_k(x): [N, D] */
static td_tensor *mixture(const struct moe *c, const td_ffn_in *in, const struct routes *r,
                          td_tensor *x)
{
    int64_t    n = td_dim(x, 0), width = td_dim(x, 1), rows = n * c->top_k;
    int64_t    one[] = { n, 1, width }, copies[] = { n, c->top_k, width };
    int64_t    each[] = { n, c->top_k, 1 };
    td_tensor *gate, *up, *y;

    x = reshape2(td_expand(td_reshape(x, one, 3), copies), rows, width);
    x = td_scatter_add(r->position, x, 0, rows); /* a permutation: each place once */
    td_push(x->graph, "experts");
    gate = by_expert(c, r, "gate_proj", x, c->d_ff);
    up = by_expert(c, r, "up_proj", x, c->d_ff);
    y = dropped(c, in, r, td_glu(gate, up, activation_of(c)));
    y = by_expert(c, r, "down_proj", y, width);
    td_pop(x->graph);
    y = td_reshape(td_gather(y, r->position), copies, 3);
    return reshape2(td_sum(td_mul(y, td_reshape(r->weights, each, 3)), 1), n, width);
}

/* A layer of the shared expert, initialized as in ffn.h. */
static td_tensor *linear(const char *name, td_tensor *x, int64_t out)
{
    return td_linear_with(name, x, out, false, td_truncated(1 / sqrt((double)td_dim(x, -1))));
}

/* Shared experts side by side are one gated layer `shared` times as wide. */
static td_tensor *shared(const struct moe *c, const td_ffn_in *in)
{
    int64_t    width = c->shared * c->d_ff;
    td_tensor *h, *gate, *up;
    td_push(in->x->graph, "shared_expert");
    gate = linear("gate_proj", in->x, width);
    up = linear("up_proj", in->x, width);
    h = td_drop(td_glu(gate, up, activation_of(c)), in->dropout, "inside", 1);
    h = linear("down_proj", h, td_dim(in->x, -1));
    td_pop(in->x->graph);
    return h;
}

static td_tensor *build(const void *config, const td_ffn_in *in)
{
    const struct moe *c = config;
    int64_t           width = td_dim(in->x, -1);
    /* routing is by token, whatever the batch's shape */
    td_tensor        *x = reshape2(in->x, width ? td_count(in->x) / width : 0, width), *y;
    struct routes     r = route(c, in, x);

    if (c->balance > 0)
        balance(c, &r);
    if (c->router_z > 0)
        router_z(c, &r);
    y = td_reshape(mixture(c, in, &r, x), in->x->dim, in->x->rank);
    return c->shared ? td_add(y, shared(c, in)) : y;
}

static int check(const void *config, td_error *error)
{
    const struct moe *c = config;
    if (c->top_k > c->experts)
        return td_fail(error, TD_ECONFIG, "top_k = %lld is more than experts = %lld",
                       (long long)c->top_k, (long long)c->experts);
    if (c->top_k == 1 && c->weights == CHOSEN)
        return td_fail(
            error, TD_ECONFIG,
            "top_k = 1 with weights = \"chosen\": the one expert always weighs 1, so the "
            "router would not learn from the loss; set weights = \"all\"");
    return 0;
}

static const td_ffn moe = {
    .plugin =
        TD_PLUGIN(td_ffn, TD_FFN_KIND, "moe", options, struct moe,
                  .brief = "a mixture of experts, chosen for each token by a router",
                  .doc = "Every token passes through all of its experts: none is dropped, so "
                         "packing and order change nothing but rounding. Padding passes through "
                         "none. FLOPs count the chosen experts only, padding included.",
                  .paper = "Shazeer et al., Outrageously Large Neural Networks: The "
                           "Sparsely-Gated Mixture-of-Experts Layer, 2017; Fedus et al., "
                           "Switch Transformers, 2021",
                  .check = check),
    .build = build,
};

TD_MODULE("moe", "1.0", "tandem", "MIT", &moe.plugin)
