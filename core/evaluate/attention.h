/* attention.h - which tokens attention weights fall on, by position, on held-out text (td_analysis,
 * tandem/embed.h). */
#ifndef TD_EVALUATE_ATTENTION_H
#define TD_EVALUATE_ATTENTION_H

#include "evaluate/perplexity.h"
#include "evaluate/weights.h"

typedef struct td_analyze_spec {
    td_evaluate_spec   evaluate; /* its length and prefix apply; sequences: over all sources */
    const char *const *layers;   /* layer numbers or path patterns; none: all */
    size_t             n_layers;
    const int64_t     *heads; /* none: all */
    size_t             n_heads;
} td_analyze_spec;

/* Always free `out`. TD_EEND: `progress` ended it. */
int  td_analyze(td_engine *, const td_analyze_spec *, td_evaluation_progress *, void *arg,
                td_analysis *out, td_error *error);
void td_analysis_free(td_analysis *);

/* Turns sums into means. In `out`, name, layer, map, reads and heads are already set; `before`:
 * tokens of the text before query 0. False: out of memory. */
bool td_attention_average(td_attention_mean *out, const td_weights *, int64_t before);

#endif
