/* moe.c - a mixture of experts: each token goes through the few of many feed-forward layers that a
 * router chooses. Papers: Shazeer et al. 2017; Fedus et al. 2021; Zoph et al. 2022; Jiang et al.
 * 2024; Dai et al. 2024 (shared experts). */
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
    TD_OPTION_INT(struct moe, top_k, 2, 1, 4096, "experts that a token goes through"),
    TD_OPTION_INT(struct moe, shared, 0, 0, 64,
                  "experts more that every token goes through, as one layer of their joint width"),
    TD_OPTION_CHOICE(struct moe, activation, 0, activations, "the experts' gated linear unit"),
    TD_OPTION_CHOICE(struct moe, weights, CHOSEN, weightings,
                     "what the chosen experts' results weigh: softmax over their logits alone "
                     "(Mixtral), or over all experts' (Switch)"),
    TD_OPTION_FLOAT(struct moe, balance, 0.01, 0, 100,
                    "weight of the loss that spreads tokens evenly over experts, moe_balance"),
    TD_OPTION_FLOAT(struct moe, router_z, 0, 0, 100,
                    "weight of the mean squared log Z of the router, moe_z; ST-MoE takes 0.001"),
    TD_OPTION_END
};

/* What the router says of N tokens. */
struct routes {
    td_tensor *logits;  /* [N, experts] */
    td_tensor *real;    /* [N, 1]: 1, or 0 of padding */
    td_tensor *tokens;  /* real ones, at least 1 */
    td_tensor *weights; /* [N, top_k] */
    td_tensor *counts;  /* i32 [1, experts]: tokens of each */
    /* N * top_k rows, a token's one after the other. position: i32, where each is among all in the
     * order of their experts, padding last; group: i32, the expert of each there */
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

/* Sort rows by expert [N, top_k] without comparing any: a row comes after all of lower experts, and
 * after those of its own that are before it. */
static void sort(struct routes *r, td_tensor *expert, int64_t experts)
{
    td_graph  *g = expert->graph;
    int64_t    rows = td_count(expert);
    td_tensor *mine = td_equal(reshape2(expert, rows, 1),
                               reshape2(td_iota(g, TD_I32, experts + 1), 1, experts + 1));
    td_tensor *counts = td_sum(mine, 0), *ends = td_cumsum(counts, 1, false);
    td_tensor *before = td_affine(td_sub(ends, counts), 1, -1);
    td_tensor *place = td_affine(reshape2(td_iota(g, TD_I32, rows), rows, 1), 1, 1);

    r->position = flat(td_sum(td_mul(mine, td_add(td_cumsum(mine, 0, false), before)), 1));
    r->counts = td_slice(counts, 1, 0, experts);
    r->group = flat(td_sum(td_less(td_slice(ends, 1, 0, experts), place), 1));
}

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
    expert = td_where(padding, td_full(g, TD_I32, 0, 0, (double)c->experts), expert);
    sort(&r, expert, c->experts);
    return r;
}

/* ---- auxiliary losses ------------------------------------------------------------------------ */

/* experts sum_e f_e p_e: the share of choices that fell on e times its mean probability, 1 if they
 * are even. Only p has a gradient. */
static void balance(const struct moe *c, const struct routes *r)
{
    td_tensor *chosen = td_div(td_cast(r->counts, TD_REAL), r->tokens);
    td_tensor *probable = td_div(td_sum(td_mul(td_softmax(r->logits), r->real), 0), r->tokens);
    double     scale = (double)c->experts / (double)c->top_k;
    td_aux_loss(r->logits->graph, "moe_balance",
                td_scale(td_sum_all(td_mul(chosen, probable)), scale), c->balance);
}

/* mean (log Z)^2 */
static void router_z(const struct moe *c, const struct routes *r)
{
    td_tensor *largest = td_detach(td_max(r->logits, 1));
    td_tensor *z = td_add(td_log(td_sum(td_exp(td_sub(r->logits, largest)), 1)), largest);
    td_aux_loss(r->logits->graph, "moe_z",
                td_div(td_sum_all(td_mul(td_mul(z, z), r->real)), r->tokens), c->router_z);
}

/* ---- experts --------------------------------------------------------------------------------- */

/* Rows by the matrix `name` [experts, out, in] of their expert. */
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

static td_activation activation_of(const struct moe *c)
{
    return c->activation ? TD_GELU : TD_SILU;
}

/* Dropout goes by example, so rows go back to their tokens for it. */
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

/* sum_k weight_k expert_k(x), [N, D] */
static td_tensor *mixture(const struct moe *c, const td_ffn_in *in, const struct routes *r,
                          td_tensor *x)
{
    int64_t    n = td_dim(x, 0), width = td_dim(x, 1), rows = n * c->top_k;
    int64_t    one[] = { n, 1, width }, copies[] = { n, c->top_k, width };
    int64_t    each[] = { n, c->top_k, 1 };
    td_tensor *gate, *up, *y;

    x = reshape2(td_expand(td_reshape(x, one, 3), copies), rows, width);
    x = td_scatter_add(r->position, x, 0, rows); /* every place once: a permutation */
    td_push(x->graph, "experts");
    gate = by_expert(c, r, "gate_proj", x, c->d_ff);
    up = by_expert(c, r, "up_proj", x, c->d_ff);
    y = dropped(c, in, r, td_glu(gate, up, activation_of(c)));
    y = by_expert(c, r, "down_proj", y, width);
    td_pop(x->graph);
    y = td_reshape(td_gather(y, r->position), copies, 3);
    return reshape2(td_sum(td_mul(y, td_reshape(r->weights, each, 3)), 1), n, width);
}

static td_tensor *linear(const char *name, td_tensor *x, int64_t out)
{
    return td_linear_with(name, x, out, false, td_truncated(1 / sqrt((double)td_dim(x, -1))));
}

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
        return td_fail(error, TD_ECONFIG, "top_k = %lld of experts = %lld: there are not as many",
                       (long long)c->top_k, (long long)c->experts);
    if (c->top_k == 1 && c->weights == CHOSEN)
        return td_fail(
            error, TD_ECONFIG,
            "top_k = 1 with weights = \"chosen\": the one expert always weighs 1, so the "
            "router would not learn from the loss; take weights = \"all\"");
    return 0;
}

static const td_ffn moe = {
    .plugin =
        TD_PLUGIN(td_ffn, TD_FFN_KIND, "moe", options, struct moe,
                  .brief = "a mixture of experts, of which a router chooses for each token",
                  .doc = "Every token goes through all of its experts: none is dropped, so "
                         "packing and order change nothing but rounding. Padding goes through "
                         "none. FLOPs are those of the chosen experts, padding included.",
                  .paper = "Shazeer et al., Outrageously Large Neural Networks: The "
                           "Sparsely-Gated Mixture-of-Experts Layer, 2017; Fedus et al., "
                           "Switch Transformers, 2021",
                  .check = check),
    .build = build,
};

TD_MODULE("moe", "1.0", "tandem", "MIT", &moe.plugin)
