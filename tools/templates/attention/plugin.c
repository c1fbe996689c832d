/* attention-@NAME@.c - multi-head cosine attention with a learned sharpness per head.
 * Paper: Henry et al., Query-Key Normalization for Transformers, 2020.
 *
 * The contract: tandem/kind/attention.h. A module links no tandem library: every function called
 * here is inline in the headers. */
#include "tandem/kind/attention.h"

/* The options, filled in from the config. The host owns the struct, and it never changes. */
struct @IDENT@_config {
    int64_t heads, head_dim;
    double  sharpness;
};

/* A row for each option: field, default, minimum, maximum, what it means. The host parses and
 * checks them. */
static const td_option options[] = {
    TD_OPTION_INT(struct @IDENT@_config, heads, 4, 1, 4096, "attention heads"),
    TD_OPTION_INT(struct @IDENT@_config, head_dim, 32, 1, 4096, "width of one head"),
    TD_OPTION_FLOAT(struct @IDENT@_config, sharpness, 10, 0.01, 1000,
                    "factor applied to the cosines; each head learns another one"),
    TD_OPTION_END
};

/* x [B, T, D] times the weight `name`, split into heads of unit length: [B, H, T, E]. */
static td_tensor *unit_heads(const struct @IDENT@_config *c, const char *name, td_tensor *x)
{
    td_tensor *h = td_split_heads(td_linear(name, x, c->heads * c->head_dim), c->heads);
    /* after an RMS norm a vector of width E has length sqrt(E) */
    return td_scale(td_rms_norm(h, NULL, 1e-6), 1 / sqrt((double)c->head_dim));
}

/* [build]: called while the graph is built, once per layer; it emits nodes and computes nothing.
 * Tensors belong to the graph. There is no gradient to write and no error to check: the graph keeps
 * the first error and reports it with its scope. Parameters are named within the current scope, so
 * "q_proj" becomes model.layers.0.self_attn.q_proj.weight.
 *
 * A query may depend only on the keys that in->mask shows. td_attend_with takes care of that: it
 * applies the mask, the position bias and dropout. Do not mix tokens in any other way, or a token
 * could read the future, padding, or another example in its row. */
static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct @IDENT@_config *c = config;
    const int64_t             per_head[] = { c->heads, 1, 1 };

    td_tensor *q = unit_heads(c, "q_proj", in->query); /* [B, H, T, E] */
    td_tensor *k = unit_heads(c, "k_proj", in->key);   /* [B, H, S, E] */
    td_tensor *v = td_split_heads(td_linear("v_proj", in->key, c->heads * c->head_dim), c->heads);
    td_tensor *o;

    /* the positional scheme's rotation; unchanged if the scheme has none */
    q = td_rotate(in, q, true);
    k = td_rotate(in, k, false);
    q = td_mul(q, td_param(q->graph, "sharpness", per_head, 3, td_ones()));
    /* in generation these are buffers with the keys and values of all tokens so far; in training k
     * and v themselves */
    k = td_remember(in, "k", k);
    v = td_remember(in, "v", v);

    o = td_attend_with(in, q, k, v, c->heads, c->sharpness);
    return td_linear("o_proj", td_merge_heads(o), td_dim(in->query, -1)); /* [B, T, D] */
}

/* The host asks the positional scheme whether it supports this width: rotation needs an even
 * one. */
static int64_t head_dim(const void *config)
{
    return ((const struct @IDENT@_config *)config)->head_dim;
}

static const td_attention @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "cosine attention with a learned sharpness per head",
                        .paper = "Henry et al., Query-Key Normalization for Transformers, 2020"),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS, /* in a stack, and over an encoder */
    .build = build,
    .head_dim = head_dim,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
