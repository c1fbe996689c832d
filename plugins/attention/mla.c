/* mla.c - multi-head latent attention. Paper: DeepSeek-AI 2024 (DeepSeek-V2).
 *
 * Keys and values of all heads are expanded from one narrow latent per token, RMSNorm(x Wa).
 * Positions are carried by `rope_dim` further dimensions, whose key all heads share:
 *
 *     c = RMSNorm(x Wa);  k_h = [c Uk_h; rotated(x Wr)];  v_h = c Uv_h
 *     q_h = [y Wq_h; rotated(y Wqr_h)],  y = x or RMSNorm(x Wqa)
 *
 * The rotation acts on separate dimensions because it would not commute with Uk: a rotated c Uk
 * could not be cached as c.
 *
 * Generation keeps c and the rotated key side by side: kv_rank + rope_dim numbers per token,
 * however many heads there are. A pass multiplies its queries by Uk and its outputs by Uv, and so
 * attends to the latents themselves. Parameters are named as in Hugging Face's DeepSeek-V2. */
#include "tandem/kind/attention.h"

struct mla {
    int64_t heads, head_dim, rope_dim, v_dim, kv_rank, q_rank;
    bool    output_norm, bias;
    double  eps;
};

static const td_option options[] = {
    TD_OPTION_INT(struct mla, heads, 8, 1, 4096, "heads"),
    TD_OPTION_INT(struct mla, head_dim, 128, 1, 4096,
                  "width of the part of a query or key that carries no position"),
    TD_OPTION_INT(struct mla, rope_dim, 0, 0, 4096,
                  "width of the rotated part; 0: half of head_dim, rounded up to even"),
    TD_OPTION_INT(struct mla, v_dim, 0, 0, 4096, "width of a value; 0: head_dim"),
    TD_OPTION_INT(struct mla, kv_rank, 0, 0, 1 << 16,
                  "width of the latent of keys and values; 0: four times head_dim"),
    TD_OPTION_INT(struct mla, q_rank, 0, 0, 1 << 16,
                  "width of the latent of queries; 0: queries are projected directly"),
    TD_OPTION_BOOL(struct mla, output_norm, false,
                   "RMS-normalize the output per head, before o_proj"),
    TD_OPTION_BOOL(struct mla, bias, false,
                   "biases in o_proj and the projections to latents, as in DeepSeek-V2"),
    TD_OPTION_FLOAT(struct mla, eps, 1e-6, 0, 1,
                    "added to the mean square in the norms of this attention"),
    TD_OPTION_END
};

static int64_t rope_dim(const void *config)
{
    const struct mla *c = config;
    return c->rope_dim ? c->rope_dim : (c->head_dim + 3) / 4 * 2;
}

/* 0 in the config stands for a size derived from head_dim; DeepSeek-V2 has 128, 64, 128 and 512. */
static int64_t value_dim(const struct mla *c) { return c->v_dim ? c->v_dim : c->head_dim; }
static int64_t kv_rank(const struct mla *c) { return c->kv_rank ? c->kv_rank : 4 * c->head_dim; }

static td_tensor *project(const struct mla *c, const char *name, td_tensor *x, int64_t out)
{
    return td_linear_with(name, x, out, c->bias, td_normal(1 / sqrt((double)td_dim(x, -1))));
}

/* RMSNorm with a learnable scale in its own scope, `name`.weight. */
static td_tensor *norm(const struct mla *c, const char *name, td_tensor *x)
{
    int64_t    width = td_dim(x, -1);
    td_tensor *y;
    td_push(x->graph, name);
    y = td_rms_norm(x, td_param(x->graph, "weight", &width, 1, td_ones()), c->eps);
    td_pop(x->graph);
    return y;
}

/* Both parts of the queries: q[0] [B, H, T, head_dim] and, rotated, q[1] [B, H, T, rope_dim]. */
static void queries(const struct mla *c, const td_attention_in *in, td_tensor *q[2])
{
    int64_t    rope = rope_dim(c), width = c->head_dim + rope;
    td_tensor *x = in->query, *all;
    if (c->q_rank) {
        x = norm(c, "q_a_layernorm", project(c, "q_a_proj", x, c->q_rank));
        all = td_linear("q_b_proj", x, c->heads * width);
    } else
        all = td_linear("q_proj", x, c->heads * width);
    all = td_split_heads(all, c->heads);
    q[0] = td_slice(all, -1, 0, c->head_dim);
    q[1] = td_rotate(in, td_slice(all, -1, c->head_dim, rope), true);
}

/* The latents [B, S, R] and the rotated key [B, 1, S, rope_dim] of this pass's tokens. */
static void latents(const struct mla *c, const td_attention_in *in, td_tensor **latent,
                    td_tensor **key)
{
    int64_t    rank = kv_rank(c), rope = rope_dim(c);
    td_tensor *x = project(c, "kv_a_proj_with_mqa", in->key, rank + rope);
    *latent = norm(c, "kv_a_layernorm", td_slice(x, -1, 0, rank));
    *key = td_rotate(in, td_split_heads(td_slice(x, -1, rank, rope), 1), false);
}

static td_tensor *side_by_side(td_tensor *x, td_tensor *y)
{
    return td_concat((td_tensor *[]){ x, y }, 2, -1);
}

/* Expand the latents to keys [B, H, S, head_dim + rope_dim] and values of every head: the
 * cheaper form if there are as many queries as keys. */
static td_tensor *attend_heads(const struct mla *c, const td_attention_in *in, td_tensor *q[2],
                               td_tensor *latent, td_tensor *key, double scale)
{
    int64_t    v_dim = value_dim(c);
    td_tensor *kv = td_split_heads(td_linear("kv_b_proj", latent, c->heads * (c->head_dim + v_dim)),
                                   c->heads);
    int64_t    every[] = { td_dim(key, 0), c->heads, td_dim(key, 2), td_dim(key, 3) };
    td_tensor *k = side_by_side(td_slice(kv, -1, 0, c->head_dim), td_expand(key, every));
    return td_attend_with(in, side_by_side(q[0], q[1]), k, td_slice(kv, -1, c->head_dim, v_dim),
                          c->heads, scale);
}

/* The weight of kv_b_proj, Uk over Uv in each head: [1, H, head_dim + v_dim, R]. */
static td_tensor *expansion(const struct mla *c, td_graph *g)
{
    int64_t    width = c->head_dim + value_dim(c), rank = kv_rank(c);
    int64_t    dims[] = { c->heads * width, rank }, by_heads[] = { 1, c->heads, width, rank };
    td_tensor *w;
    td_push(g, "kv_b_proj");
    w = td_param(g, "weight", dims, 2, td_normal(1 / sqrt((double)rank)));
    td_pop(g);
    return td_reshape(w, by_heads, 4);
}

/* The same by q . (U c) = (U^T q) . c: one key head of width R + rope_dim for all queries, whose
 * values are its first R numbers. Cheaper for few queries and many keys: those of earlier passes
 * need not be expanded again. */
static td_tensor *attend_latents(const struct mla *c, const td_attention_in *in, td_tensor *q[2],
                                 td_tensor *latent, td_tensor *key, double scale)
{
    td_tensor *w = expansion(c, latent->graph), *o;
    int64_t    dims[] = { td_dim(latent, 0), 1, td_dim(latent, 1), td_dim(latent, 2) };
    td_tensor *inner = td_matmul(q[0], td_slice(w, 2, 0, c->head_dim));
    td_tensor *kept = td_remember(in, "latent", side_by_side(td_reshape(latent, dims, 4), key));

    o = td_attend_with(in, side_by_side(inner, q[1]), kept, td_slice(kept, -1, 0, kv_rank(c)),
                       c->heads, scale);
    return td_matmul(o, td_transpose(td_slice(w, 2, c->head_dim, value_dim(c)), 2, 3));
}

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct mla *c = config;
    double            scale = 1 / sqrt((double)(c->head_dim + rope_dim(c)));
    td_tensor        *q[2], *latent, *key, *o;

    queries(c, in, q);
    latents(c, in, &latent, &key);
    /* equal except for rounding; the second is cheaper for long sequences of queries */
    if (td_keeps_keys(in))
        o = attend_latents(c, in, q, latent, key, scale);
    else
        o = attend_heads(c, in, q, latent, key, scale);
    if (c->output_norm)
        o = td_rms_norm(o, NULL, c->eps);
    return project(c, "o_proj", td_merge_heads(o), td_dim(in->query, -1));
}

static const td_attention mla = {
    .plugin =
        TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "mla", options, struct mla,
                  .brief = "multi-head latent attention: keys and values from one narrow latent",
                  .paper = "DeepSeek-AI, DeepSeek-V2, 2024"),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
    .build = build,
    .head_dim = rope_dim,
};

TD_MODULE("mla", "1.0", "tandem", "MIT", &mla.plugin)
