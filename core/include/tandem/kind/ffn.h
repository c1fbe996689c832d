/* kind/ffn.h - the feed-forward sublayer, x [B, T, D] to [B, T, D]. Stateless. */
#ifndef TANDEM_KIND_FFN_H
#define TANDEM_KIND_FFN_H

#include "dropout.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_FFN_KIND "ffn/1"

typedef struct td_ffn_in {
    td_tensor        *x;       /* [B, T, D] */
    td_tensor        *segment; /* i32 [B, T], 0 = padding: which tokens are real */
    const td_dropout *dropout; /* inside, with td_drop */
} td_ffn_in;

typedef struct td_ffn {
    td_plugin plugin;
    /* Parameters in the current scope: gate_proj, up_proj, down_proj. [build] */
    td_tensor *(*build)(const void *config, const td_ffn_in *in);
} td_ffn;

static inline td_tensor *td_ffn_build(const td_part *part, const char *name, const td_ffn_in *in)
{
    td_tensor *y;
    td_push(in->x->graph, name);
    y = ((const td_ffn *)(const void *)part->plugin)->build(part->config, in);
    y = td_given(in->x->graph, part->plugin, "build", y);
    td_pop(in->x->graph);
    return y;
}

#ifdef __cplusplus
}
#endif
#endif
