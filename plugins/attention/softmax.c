/* softmax.c - multi-head softmax attention. Papers: Vaswani et al. 2017; grouped heads: Ainslie et
 * al. 2023. */
#include "tandem/kind/attention.h"

struct softmax {
    int64_t heads, kv_heads, head_dim, window;
    bool    qkv_norm, qk_norm_scale, output_norm, bias;
    double  eps;
};

static const td_option options[] = {
    TD_OPTION_INT(struct softmax, heads, 8, 1, 4096, "query heads"),
    TD_OPTION_INT(struct softmax, kv_heads, 0, 0, 4096,
                  "key and value heads; 0: as many as query heads"),
    TD_OPTION_INT(struct softmax, head_dim, 128, 1, 4096,
                  "width of one head; heads times head_dim need not be d_model"),
    TD_OPTION_INT(struct softmax, window, 0, 0, 1 << 30,
                  "self-attention sees only so many tokens back; 0: all"),
    TD_OPTION_BOOL(struct softmax, qkv_norm, true,
                   "RMS-normalise queries, keys and values per head"),
    TD_OPTION_BOOL(struct softmax, qk_norm_scale, false,
                   "give the norms of queries and keys learnable scales"),
    TD_OPTION_BOOL(struct softmax, output_norm, false,
                   "RMS-normalise the output per head, before o_proj"),
    TD_OPTION_BOOL(struct softmax, bias, false, "biases in the four projections"),
    TD_OPTION_FLOAT(struct softmax, eps, 1e-6, 0, 1,
                    "added to the mean square in the norms of this attention"),
    TD_OPTION_END
};

static td_tensor *project(const struct softmax *c, const char *name, td_tensor *x, int64_t out)
{
    return td_linear_with(name, x, out, c->bias, td_normal(1 / sqrt((double)td_dim(x, -1))));
}

/* `name`.weight [E], or NULL. */
static td_tensor *scale_of(const struct softmax *c, td_graph *g, const char *name)
{
    return c->qk_norm_scale ? td_param(g, name, &c->head_dim, 1, td_ones()) : NULL;
}

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct softmax *c = config;
    td_graph             *g = in->query->graph;
    int64_t               kv = c->kv_heads ? c->kv_heads : c->heads;
    td_attention_in       seen = *in;

    td_tensor *q = td_split_heads(project(c, "q_proj", in->query, c->heads * c->head_dim),
                                  c->heads); /* [B, H, T, E] */
    td_tensor *k = td_split_heads(project(c, "k_proj", in->key, kv * c->head_dim),
                                  kv); /* [B, K, S, E] */
    td_tensor *v = td_split_heads(project(c, "v_proj", in->key, kv * c->head_dim), kv);
    if (c->qkv_norm) {
        q = td_rms_norm(q, scale_of(c, g, "q_norm.weight"), c->eps);
        k = td_rms_norm(k, scale_of(c, g, "k_norm.weight"), c->eps);
        v = td_rms_norm(v, NULL, c->eps);
    }
    if (in->role != TD_ROLE_CROSS)
        seen.mask.window = c->window;
    q = td_rotate(in, q, true), k = td_rotate(in, k, false);
    /* the cache of generation; nothing in training */
    k = td_remember(&seen, "k", k), v = td_remember(&seen, "v", v);

    td_tensor *o = td_attend_with(&seen, q, k, v, c->heads, 1 / sqrt((double)c->head_dim));
    if (c->output_norm)
        o = td_rms_norm(o, NULL, c->eps);
    return project(c, "o_proj", td_merge_heads(o), td_dim(in->query, -1));
}

static int64_t head_dim(const void *config) { return ((const struct softmax *)config)->head_dim; }

static int check(const void *config, td_error *error)
{
    const struct softmax *c = config;
    if (c->kv_heads && c->heads % c->kv_heads)
        return td_fail(
            error, TD_ECONFIG,
            "kv_heads = %lld does not divide heads = %lld: each key head serves an equal "
            "group of query heads",
            (long long)c->kv_heads, (long long)c->heads);
    if (c->qk_norm_scale && !c->qkv_norm)
        return td_fail(error, TD_ECONFIG,
                       "qk_norm_scale = true needs qkv_norm = true: there is no norm to scale");
    return 0;
}

static const td_attention softmax = {
    .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "softmax", options, struct softmax,
                        .brief = "multi-head softmax attention, grouped heads and norms optional",
                        .paper = "Vaswani et al., Attention Is All You Need, 2017", .check = check),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
    .build = build,
    .head_dim = head_dim,
};

TD_MODULE("softmax", "1.0", "tandem", "MIT", &softmax.plugin)
