/* attention.h - the attentions of a graph: where they are, whose tokens they read, and which do not
 * have weights. */
#ifndef TD_GRAPH_ATTENTION_H
#define TD_GRAPH_ATTENTION_H

#include "graph/graph.h"
#include "tandem/ops.h"

/* One "attend" of the graph. An attention that compares two softmax maps has two such nodes. */
typedef struct td_attention_node {
    const char *path;                 /* "model.decoder.layers.0.self_attn" */
    int64_t     layer;                /* the last number in the path; -1 if it has none */
    int64_t     map;                  /* number of earlier nodes with the same path */
    td_tensor  *in[TD_ATTEND_INPUTS]; /* NULL: absent */
    td_tensor  *out;                  /* [B, H, Tq, F] */
    td_attrs    attrs;
    bool        predicts; /* its queries belong to the stack that predicts, not to an encoder */
    int64_t own; /* keys of the queries' own stack, which come first; the rest are an encoder's */
} td_attention_node;

typedef struct td_attentions {
    td_attention_node *at; /* [n], in the order of the graph */
    size_t             n;
    const char **without; /* [n_without]: paths of attentions without a softmax over their keys */
    size_t       n_without;
} td_attentions;

/* `generated`: the input whose tokens the model predicts from (td_architecture.generated);
 * tensors that do not depend on it belong to an encoder. NULL for models without an encoder. Call
 * this before the graph is planned, since planning appends nodes. Free `out` in any case; paths and
 * tensors belong to the graph. */
int  td_graph_attentions(const td_graph *, const char *generated, td_attentions *out,
                         td_error *error);
void td_attentions_free(td_attentions *);

#endif
