/* tokens.c - the graph that scores single tokens: their cross-entropy, and the token that the model
   would have chosen in their place. It does not use the loss.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "plugin/hook.h"

/* The logits of a piece are 16 MiB, but at least 16 rows, as fewer make a slow product. Chosen by
 * the model alone: a product of a different size may round differently, and a score must not depend
 * on the other tokens of its batch. */
int64_t td_model_tokens_piece(const td_model *m)
{
    const td_architecture *a = (const void *)m->architecture.plugin;
    int64_t rows = ((int64_t)1 << 22) / TD_HOOK(a, vocab_size, m->architecture.config);
    return rows < 16 ? 16 : rows > 256 ? 256 : rows;
}

/* [n, V] -> the element at[k] of row k: [n, 1]. */
static td_tensor *pick(td_tensor *z, td_tensor *at)
{
    int64_t    n = td_dim(z, 0), width = td_dim(z, 1), column[] = { n * width, 1 };
    td_tensor *start = td_affine(td_iota(z->graph, TD_I32, n), (double)width, 0);
    return td_gather(td_reshape(z, column, 2), td_add(start, at));
}

/* The tokens `labels` i32 [n] at the places `at` i32 [n] of the hidden states:
 *
 *     z = td_cap(scale h E^T, cap);  nll = log sum_v e^(z_v - max z) - (z_y - max z)
 *
 * Pieces share memory: one's logits are dead before the next one's are made. */
static void score_piece(const td_architecture_out *a, td_tensor *labels, td_tensor *at,
                        td_tensor **nll, td_tensor **best)
{
    int64_t    width = td_dim(a->hidden, -1), flat[] = { td_count(a->hidden) / width, width };
    td_tensor *h = td_gather(td_reshape(a->hidden, flat, 2), at), *z, *top, *log_sum;

    /* scaled before the product, where there are fewer numbers */
    z = td_cap(td_matmul(td_scale(h, a->logit_scale), td_transpose(a->embedding, 0, 1)),
               a->logit_cap);
    top = td_topk(z, 1, best);
    log_sum = td_log(td_sum(td_exp(td_sub(z, top)), -1));
    *nll = td_sub(log_sum, td_sub(pick(z, labels), top));
}

/* Join n tensors along axis 0, in rounds, because one node takes a limited number. */
static td_tensor *join(td_tensor **x, int64_t n)
{
    while (n > 1) {
        int64_t groups = 0;
        for (int64_t k = 0; k < n; k += TD_MAX_INPUTS) {
            int64_t count = n - k < TD_MAX_INPUTS ? n - k : TD_MAX_INPUTS;
            x[groups++] = td_concat(x + k, (int)count, 0);
        }
        n = groups;
    }
    return x[0];
}

int td_model_score(const td_batch *batch, const td_architecture_out *a, td_graph *g, int64_t piece,
                   td_tensor **all_nll, td_tensor **all_best, td_error *error)
{
    td_tensor  *scored = td_batch_input(g, batch, "scored");
    td_tensor  *labels = td_batch_input(g, batch, "scored_labels");
    int64_t     pieces = td_count(scored) / piece;
    td_tensor **nll = calloc((size_t)pieces + 1, sizeof *nll);
    td_tensor **best = calloc((size_t)pieces + 1, sizeof *best);

    assert(pieces > 0 && td_count(scored) % piece == 0);
    if (nll && best) {
        /* in pieces, so that the logits of all tokens never exist at once */
        for (int64_t k = 0; k < pieces; k++)
            score_piece(a, td_slice(labels, 0, k * piece, piece),
                        td_slice(scored, 0, k * piece, piece), &nll[k], &best[k]);
        *all_nll = join(nll, pieces);
        *all_best = join(best, pieces);
    }
    free(nll);
    free(best);
    return nll && best ? 0 : td_fail(error, TD_ENOMEM, "out of memory while building the scores");
}

int td_model_read(const td_model *m, td_variables *variables, const td_batch *batch,
                  td_graph **graph, td_architecture_out *out, td_error *error)
{
    const td_architecture *architecture = (const void *)m->architecture.plugin;
    td_graph_options options = { .phase = TD_PHASE_EVALUATE, .real = m->real, .narrow = m->narrow };
    td_dropout       none = { 0 };

    *out = (td_architecture_out){ 0 };
    *graph = td_graph_new(m->registry, variables, &options);
    if (!*graph)
        return td_fail(error, TD_ENOMEM, "out of memory while building the model");
    TD_HOOK(architecture, build, m->architecture.config,
            &(td_architecture_in){ *graph, batch, &none }, out);
    if (!td_graph_error(*graph, error))
        return 0;
    td_graph_free(*graph);
    *graph = NULL;
    return TD_EGRAPH;
}

int td_model_tokens(const td_model *m, td_variables *variables, const td_batch *batch,
                    td_tokens *out, td_error *error)
{
    td_architecture_out a;
    int                 code;
    *out = (td_tokens){ 0 };
    code = td_model_read(m, variables, batch, &out->graph, &a, error);
    if (code)
        return code;
    code = td_model_score(batch, &a, out->graph, td_model_tokens_piece(m), &out->nll, &out->best,
                          error);
    if (!code && !td_graph_error(out->graph, error))
        return 0;
    td_graph_free(out->graph);
    out->graph = NULL;
    return td_failed(error, TD_EGRAPH);
}
