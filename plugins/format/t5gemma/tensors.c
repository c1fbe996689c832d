/* tensors.c - the names of T5Gemma's tensors, and what is computed from them on the way. */
#include "t5gemma.h"

#include <stdio.h>

/* All names but that of the matrix for the logits are ours, too. */
static void put_tensor(td_translation *t, const char *scope, const char *name, double scale)
{
    char path[200];
    snprintf(path, sizeof path, "%s%s", scope, name);
    td_put_tensor(t, path, path, scale);
}

static void put_norm(td_translation *t, const struct shape *s, const char *scope, const char *name,
                     double factor)
{
    char path[200];
    snprintf(path, sizeof path, "%s%s.weight", scope, name);
    if (s->scale)
        td_put_shifted(t, path, path, factor, 1);
    else
        td_put_filled(t, path, s->d_model, factor - 1);
}

static void put_attention(td_translation *t, const struct shape *s, const char *layer,
                          const char *name)
{
    static const char *const parts[] = { "q_proj", "k_proj", "v_proj", "o_proj" };
    char                     path[80];
    for (int n = 0; n < 4; n++) {
        snprintf(path, sizeof path, "%s.%s.weight", name, parts[n]);
        put_tensor(t, layer, path, n ? 1 : s->query);
        snprintf(path, sizeof path, "%s.%s.bias", name, parts[n]);
        if (s->bias)
            put_tensor(t, layer, path, n ? 1 : s->query);
    }
}

static void put_layer(td_translation *t, const struct shape *s, const char *layer, bool decoder)
{
    static const char *const norms[] = { "pre_self_attn_layernorm",   "post_self_attn_layernorm",
                                         "pre_feedforward_layernorm", "post_feedforward_layernorm",
                                         "pre_cross_attn_layernorm",  "post_cross_attn_layernorm" };
    put_attention(t, s, layer, "self_attn");
    if (decoder)
        put_attention(t, s, layer, "cross_attn");
    put_tensor(t, layer, "mlp.gate_proj.weight", 1);
    put_tensor(t, layer, "mlp.up_proj.weight", 1);
    put_tensor(t, layer, "mlp.down_proj.weight", 1);
    for (int n = 0; n < (decoder ? 6 : 4); n++)
        put_norm(t, s, layer, norms[n], 1);
}

static void put_stack(td_translation *t, const struct shape *s, bool decoder)
{
    const char *scope = decoder ? "model.decoder." : "model.encoder.";
    int64_t     layers = decoder ? s->decoder : s->encoder;
    char        layer[100];
    for (int64_t k = 0; k < layers; k++) {
        snprintf(layer, sizeof layer, "%slayers.%lld.", scope, (long long)k);
        put_layer(t, s, layer, decoder);
    }
    put_norm(t, s, scope, "norm", decoder ? s->last : 1);
}

/* A table that our stacks share is written for each. */
void put_tensors(td_translation *t, const struct shape *s)
{
    static const char own[] = "model.encoder.embed_tokens.weight",
                      table[] = "model.decoder.embed_tokens.weight";
    td_put_tensor(t, own, s->shared ? table : own, s->table);
    td_put_tensor(t, table, table, s->table);
    put_stack(t, s, false);
    put_stack(t, s, true);
    if (!s->tied)
        td_put_tensor(t, "lm_head.out_proj.weight", "lm_head.weight", s->head);
}
