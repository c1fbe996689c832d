/* looked.h - the attentions that td_analyze measures, for attention.c. */
#ifndef TD_EVALUATE_LOOKED_H
#define TD_EVALUATE_LOOKED_H

#include "evaluate/attention.h"
#include "graph/attention.h"

typedef struct td_looked_at {
    const td_attention_node *node;
    td_weights               sums;
    int64_t                 *heads; /* [n_heads] */
    size_t                   n_heads;
    float                   *rows; /* [n_heads][queries][keys]: the weights themselves, or NULL */
} td_looked_at;

typedef struct td_looked {
    td_looked_at *at; /* [n] */
    size_t        n;
    int64_t       length; /* tokens per sequence */
    bool          keeps;  /* the weights of a single sequence, not just their sums */
} td_looked;

/* Selects the layers and heads that the spec names, which must exist. `l` must be zeroed, except for
 * `keeps`; always free it. */
int td_looked_choose(td_looked *l, const td_attentions *, const td_analyze_spec *, td_error *error);
/* Whether weights depend on this input, which then must be a root of the plan. */
bool     td_looked_reads(const td_looked_at *, int input);
/* Add the weights of the sequence that the plan just ran on. */
int      td_looked_add(td_looked *, td_plan *, const td_services *, td_error *error);
/* Computes the means of each attention, and of all that read the same tokens. Call it once: it
 * joins the sums. */
/* What an attention reads. */
td_reads td_looked_reads_of(const td_attention_node *);
int      td_looked_average(const td_looked *, td_analysis *out, td_error *error);
void     td_looked_free(td_looked *);

#endif
