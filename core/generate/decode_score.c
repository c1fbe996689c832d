/* decode_score.c - scores given continuations of rows: choices of a question. */
#include <assert.h>
#include <stdlib.h>

#include "generate/decoder.h"

/* The columns that the longest continuation needs, and the number of tokens to score. */
static int64_t widest(const td_decoder *d, const td_continuation *rows, int64_t *scored)
{
    int64_t most = 0;
    *scored = 0;
    for (int64_t r = 0; r < d->options.rows; r++)
        if (rows[r].tokens) {
            *scored += rows[r].n - 1;
            most = rows[r].n - 1 > most ? rows[r].n - 1 : most;
        }
    return most;
}

/* Puts the tokens into the rows' columns; returns a prompt that gives the pass its arrays. */
static const td_prompt *put_tokens(td_decoder *d, const td_continuation *rows)
{
    const td_prompt *like = NULL;
    for (int64_t r = 0; r < d->options.rows; r++) {
        row    *x = &d->rows[r];
        int64_t n = rows[r].tokens ? rows[r].n - 1 : 0;
        assert(!n || (x->active && n < x->prompt.answer));
        for (int64_t k = 0; k < n; k++)
            td_prompt_put(&x->prompt, k, rows[r].tokens[k]);
        d->slices[r] = (td_columns){ n ? &x->prompt : NULL, x->read, n };
        d->lengths[r] = x->active ? (int32_t)x->read : 0;
        d->counts[r] = (int32_t)n;
        like = n ? &x->prompt : like;
    }
    return like;
}

/* Which tokens the pass scores, and where: then repetitions of the first up to a whole piece. */
static void name_tokens(const td_decoder *d, const td_continuation *rows, const td_pass *shape,
                        int32_t *scored, int32_t *labels)
{
    int64_t n = 0;
    for (int64_t r = 0; r < d->options.rows; r++)
        for (int64_t k = 0; rows[r].tokens && k + 1 < rows[r].n; k++, n++) {
            scored[n] = (int32_t)(r * shape->tokens + k);
            labels[n] = rows[r].tokens[k + 1];
        }
    for (int64_t k = n; k < shape->scored; k++) {
        scored[k] = scored[0];
        labels[k] = labels[0];
    }
}

static int read_scores(const td_decoder *d, const td_pass *p, const td_continuation *rows,
                       double *values, td_error *error)
{
    double *best = values + p->scored;
    int64_t n = 0;
    if (td_plan_get(p->plan, p->outputs[0], values, p->scored, error) ||
        td_plan_get(p->plan, p->outputs[1], best, p->scored, error))
        return td_failed(error, TD_EGRAPH);
    /* in the order of name_tokens; the repetitions at the end are not read */
    for (int64_t r = 0; r < d->options.rows; r++)
        for (int64_t k = 0; rows[r].tokens && k + 1 < rows[r].n; k++, n++) {
            rows[r].nll[k] = values[n];
            rows[r].best[k] = best[n];
        }
    return 0;
}

/* Fewer columns would mean products of fewer than 8 rows, which round differently. */
enum { FEWEST_COLUMNS = 8 };

int td_decoder_score(td_decoder *d, const td_continuation *rows, td_error *error)
{
    td_pass shape = {
        .cache = d->cache, .phase = TD_PHASE_STEP, .rows = d->options.rows, .source = d->source
    };
    int64_t          count, most = widest(d, rows, &count);
    const td_prompt *like = put_tokens(d, rows);
    int32_t         *scored;
    double          *values;
    int              code = TD_EGRAPH;

    assert(!d->options.whole && most <= d->chunk);
    if (!like) /* nothing but first tokens */
        return 0;
    shape.tokens = td_pass_length(most > FEWEST_COLUMNS ? most : FEWEST_COLUMNS, d->chunk);
    shape.scored = (count + TD_PASS_PIECE - 1) / TD_PASS_PIECE * TD_PASS_PIECE;
    scored = calloc(2 * (size_t)shape.scored, sizeof *scored);
    values = calloc(2 * (size_t)shape.scored, sizeof *values);
    if (scored && values) {
        td_pass_input  in = { .slices = d->slices,
                              .like = like,
                              .lengths = d->lengths,
                              .counts = d->counts,
                              .scored = scored,
                              .labels = scored + shape.scored };
        const td_pass *p;
        name_tokens(d, rows, &shape, scored, scored + shape.scored);
        p = td_passes_run(&d->passes, shape, &in, error);
        code = p ? read_scores(d, p, rows, values, error) : td_failed(error, TD_EGRAPH);
    } else
        code = td_fail(error, TD_ENOMEM, "out of memory while scoring %lld tokens",
                       (long long)count);
    free(scored);
    free(values);
    return code;
}
