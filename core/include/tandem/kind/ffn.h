/* kind/ffn.h - the feed-forward sublayer: x [B, T, D] to [B, T, D]. Stateless.
 *
 * Architectures build one per layer, on the normalized input, and add the result to the residual
 * stream. Each token is computed independently; `segment` tells which tokens are padding, for
 * plugins that count or route tokens (a mixture of experts must not spend capacity on padding). A
 * loss that balances experts is added with td_aux_loss. Weights are customarily named gate_proj,
 * up_proj and down_proj.
 *
 * Example:
 *
 *     // relu(x W1)^2 W2 with a fixed width of 4 D (So et al. 2021).
 *     static td_tensor *build(const void *config, const td_ffn_in *in)
 *     {
 *         int64_t    width = td_dim(in->x, -1);
 *         td_tensor *h = td_activate(td_linear("up_proj", in->x, 4 * width), TD_RELU2);
 *         (void)config;
 *         return td_linear("down_proj", td_drop(h, in->dropout, "inside", 1), width);
 *     }
 *
 *     static const td_ffn primer = {
 *         .plugin = TD_PLUGIN(td_ffn, TD_FFN_KIND, "primer", NULL, char,
 *                             .brief = "two matrices with a squared ReLU between"),
 *         .build = build,
 *     };
 */
#ifndef TANDEM_KIND_FFN_H
#define TANDEM_KIND_FFN_H

#include "dropout.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_FFN_KIND "ffn/1"

/* The architecture's arguments, valid during the call. */
typedef struct td_ffn_in {
    td_tensor        *x;       /* [B, T, D], normalized */
    td_tensor        *segment; /* i32 [B, T]: 0 for padding, else the example's number in its row */
    /* for td_drop inside the layer; the architecture applies it to the output */
    const td_dropout *dropout;
} td_ffn_in;

typedef struct td_ffn {
    td_plugin plugin;
    /* Emit the sublayer, without the residual connection. [build] */
    td_tensor *(*build)(const void *config, const td_ffn_in *in);
} td_ffn;

/* Build a part in the scope `name` below the current one; for the plugin that has it as an option.
 * [build] */
static inline td_tensor *td_ffn_build(const td_part *part, const char *name, const td_ffn_in *in)
{
    td_tensor *y;
    td_push(in->x->graph, name);
    td_hook_begin(in->x->graph, part->plugin, "build");
    y = ((const td_ffn *)(const void *)part->plugin)->build(part->config, in);
    td_hook_end(in->x->graph);
    y = td_hook_result(in->x->graph, part->plugin, "build", y);
    td_pop(in->x->graph);
    return y;
}

#ifdef __cplusplus
}
#endif
#endif
