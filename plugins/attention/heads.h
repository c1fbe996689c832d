/* heads.h - shared by the attentions in this folder: the options of heads, their projections and
 * norms, and indices for masks.
 *
 * A plugin's config begins with `struct heads` and continues with the options that only it has:
 *
 *     struct softmax { struct heads heads; int64_t window; };
 *
 * An option row stores the offset of its field. A first member has offset 0, so the rows below hold
 * for every such config, and the functions below take it as a `struct heads`. */
#ifndef TANDEM_PLUGINS_HEADS_H
#define TANDEM_PLUGINS_HEADS_H

#include "tandem/kind/attention.h"

/* A plugin without a row for one of these leaves it zero: off. */
struct heads {
    int64_t heads, kv_heads, head_dim;
    bool    qkv_norm, v_norm, qk_norm_scale, output_norm, bias;
    double  eps, score_cap;
};

/* Stops the build if the rows below would store into the wrong field of S. */
#define HEADS_FIRST(S, member) \
    _Static_assert(offsetof(S, member) == 0, "struct heads must be the first member")

#define HEADS_SIZES                                                      \
    TD_OPTION_INT(struct heads, heads, 8, 1, 4096, "query heads"),       \
        TD_OPTION_INT(struct heads, kv_heads, 0, 0, 4096,                \
                      "key and value heads; 0: as many as query heads"), \
        TD_OPTION_INT(struct heads, head_dim, 128, 1, 4096,              \
                      "width of one head; heads times head_dim need not be d_model")

#define HEADS_QKV_NORM                                                                          \
    TD_OPTION_BOOL(struct heads, qkv_norm, true,                                                \
                   "RMS-normalize queries, keys and values per head"),                          \
        TD_OPTION_BOOL(struct heads, v_norm, true, "under qkv_norm, normalize values as well"), \
        TD_OPTION_BOOL(struct heads, qk_norm_scale, false,                                      \
                       "give the norms of queries and keys learnable scales")

#define HEADS_OUTPUT_NORM                            \
    TD_OPTION_BOOL(struct heads, output_norm, false, \
                   "RMS-normalize the output per head, before o_proj")

#define HEADS_BIAS_AND_EPS                                                       \
    TD_OPTION_BOOL(struct heads, bias, false, "biases in the four projections"), \
        TD_OPTION_FLOAT(struct heads, eps, 1e-6, 0, 1,                           \
                        "added to the mean square in the norms of this attention")

#define HEADS_SCORE_CAP                                 \
    TD_OPTION_FLOAT(struct heads, score_cap, 0, 0, 1e9, \
                    "scores s become cap tanh(s / cap), which is below cap; 0: no cap")

/* Queries [B, H, T, E], and what they read: keys [B, G, S, E], values [B, G, S, F]. */
struct qkv {
    td_tensor *q, *k, *v;
};

static inline int64_t kv_heads_of(const struct heads *c)
{
    return c->kv_heads ? c->kv_heads : c->heads;
}

static inline td_tensor *project(const struct heads *c, const char *name, td_tensor *x, int64_t out)
{
    return td_linear_with(name, x, out, c->bias, td_normal(1 / sqrt((double)td_dim(x, -1))));
}

/* The learnable scale `name` [E] of a norm, or NULL: normalize only. All heads share it. */
static inline td_tensor *scale_of(const struct heads *c, td_graph *g, const char *name)
{
    return c->qk_norm_scale ? td_param(g, name, &c->head_dim, 1, td_ones()) : NULL;
}

/* Parameters are fetched by name, so a second call shares those of the first. The names are as in
 * Hugging Face's Qwen3. */
static inline td_tensor *norm_queries(const struct heads *c, td_tensor *q)
{
    return c->qkv_norm ? td_rms_norm(q, scale_of(c, q->graph, "q_norm.weight"), c->eps) : q;
}

static inline td_tensor *norm_keys(const struct heads *c, td_tensor *k)
{
    return c->qkv_norm ? td_rms_norm(k, scale_of(c, k->graph, "k_norm.weight"), c->eps) : k;
}

/* No learnable scale: o_proj could absorb it. */
static inline td_tensor *norm_values(const struct heads *c, td_tensor *v)
{
    return c->qkv_norm && c->v_norm ? td_rms_norm(v, NULL, c->eps) : v;
}

/* Queries of `query`, keys and values of `key`: normalized, not yet rotated, since a rotation keeps
 * the length that the norm has set. */
static inline struct qkv heads_of(const struct heads *c, td_tensor *query, td_tensor *key)
{
    int64_t    kv = kv_heads_of(c);
    struct qkv x;
    x.q = td_split_heads(project(c, "q_proj", query, c->heads * c->head_dim), c->heads);
    x.k = td_split_heads(project(c, "k_proj", key, kv * c->head_dim), kv);
    x.v = td_split_heads(project(c, "v_proj", key, kv * c->head_dim), kv);
    x.q = norm_queries(c, x.q);
    x.k = norm_keys(c, x.k);
    x.v = norm_values(c, x.v);
    return x;
}

static inline void rotate_heads(const td_attention_in *in, struct qkv *x)
{
    x->q = td_rotate(in, x->q, true);
    x->k = td_rotate(in, x->k, false);
}

/* The cache of generation; nothing in training. */
static inline void remember_heads(const td_attention_in *in, struct qkv *x)
{
    x->k = td_remember(in, "k", x->k);
    x->v = td_remember(in, "v", x->v);
}

/* Concatenate the heads and project: [B, H, T, F] -> [B, T, D] */
static inline td_tensor *heads_joined(const struct heads *c, const td_attention_in *in,
                                      td_tensor *o)
{
    return project(c, "o_proj", td_merge_heads(o), td_dim(in->query, -1));
}

/* The same after the output norm, if the config has one. */
static inline td_tensor *heads_out(const struct heads *c, const td_attention_in *in, td_tensor *o)
{
    if (c->output_norm)
        o = td_rms_norm(o, NULL, c->eps);
    return heads_joined(c, in, o);
}

/* Keeps the variance of a score at 1 whatever the width of a head. */
static inline double heads_scale(const struct heads *c) { return 1 / sqrt((double)c->head_dim); }

/* Softmax attention over all keys that are remembered, under the mask and the cap. */
static inline td_tensor *heads_attend(const struct heads *c, const td_attention_in *in,
                                      const struct qkv *x)
{
    return td_attend_capped_with(in, x->q, x->k, x->v, c->heads, heads_scale(c), c->score_cap);
}

/* first, first + 1, .. in each row, one row for each of `like`: i32 [B, length] */
static inline td_tensor *count_from(const td_tensor *like, int64_t length, double first)
{
    int64_t one[] = { 1, length }, dims[] = { td_dim(like, 0), length };
    return td_expand(td_affine(td_reshape(td_iota(like->graph, TD_I32, length), one, 2), 1, first),
                     dims);
}

/* Attention dropout as in td_attend_with: whole rows of v [B, G, S, F], so a dropped key is dropped
 * for every query. `place` names the random stream; each source of keys has its own, so that one
 * source's length does not shift the draws of another. */
static inline td_tensor *drop_values(const td_attention_in *in, td_tensor *v, const char *place)
{
    const td_dropout *d = in->dropout;
    if (!d || d->rate <= 0)
        return v;
    /* numbered as [B, S, G, F], an element's draw does not depend on S, nor on padding; axis 3 is
     * shared, so that a row is dropped as a whole */
    v = td_dropout_at(td_transpose(v, 1, 2), d->step, d->example, d->rate, (int64_t)1 << 3, place);
    return td_transpose(v, 1, 2);
}

/* An architecture may have a window, and an attention another: the narrower of the two; 0: none. */
static inline int64_t narrower(int64_t a, int64_t b) { return a > 0 && (b <= 0 || a < b) ? a : b; }

static inline int64_t heads_dim(const void *config)
{
    return ((const struct heads *)config)->head_dim;
}

/* Rules between the shared options. */
static inline int heads_check(const void *config, td_error *error)
{
    const struct heads *c = (const struct heads *)config;
    if (c->kv_heads && c->heads % c->kv_heads)
        return td_fail(error, TD_ECONFIG,
                       "kv_heads = %lld does not divide heads = %lld: each key head serves the "
                       "same number of query heads",
                       (long long)c->kv_heads, (long long)c->heads);
    if (c->qk_norm_scale && !c->qkv_norm)
        return td_fail(error, TD_ECONFIG,
                       "qk_norm_scale = true needs qkv_norm = true: there is no norm to scale");
    if (!c->v_norm && !c->qkv_norm)
        return td_fail(error, TD_ECONFIG,
                       "v_norm = false needs qkv_norm = true: without it no values are normalized");
    return 0;
}

#endif
