/* analysis.c - the attention weights of a session's model. */
#include <math.h>

#include "evaluate/attention.h"
#include "run/session.h"

enum {
    SEQUENCES = 8,
    LONGER = 4 /* times the training length: 8192 tokens for a model trained at
                                  * 2048 */
};

static int check(const td_session *s, const td_analyzing *x, td_error *error)
{
    if (x->size != sizeof *x)
        return td_fail(error, TD_ECONFIG,
                       "td_analyzing.size is %zu: set it to sizeof(td_analyzing), which is %zu in "
                       "this library",
                       x->size, sizeof *x);
    return s->needs & TD_NEED_DATA
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "this session was opened without data: analyzing needs "
                         "TD_PURPOSE_EVALUATE or TD_PURPOSE_TRAIN");
}

static td_analyze_spec spec_of(const td_session *s, const td_analyzing *x)
{
    td_analyze_spec spec = { .evaluate = td_session_evaluation_spec(s),
                             .layers = x->layers,
                             .n_layers = x->n_layers,
                             .heads = x->heads,
                             .n_heads = x->n_heads };
    spec.evaluate.feed.length = x->length ? x->length : LONGER * s->x->train.length;
    /* no padding, whose weights mean nothing */
    spec.evaluate.feed.bucket = 1;
    spec.evaluate.prefix = x->prefix ? x->prefix : s->x->train.length / 2;
    spec.evaluate.sequences = x->sequences ? x->sequences : SEQUENCES;
    return spec;
}

static int check_numbers(const td_analysis *a, td_error *error)
{
    for (size_t k = 0; k < a->n_logprobs; k++)
        if (!isfinite(a->logprobs[k].logprob))
            return td_fail(error, TD_EDIVERGED,
                           "the log-probability at position %lld is %g: the parameters contain NaN "
                           "or infinity",
                           (long long)a->logprobs[k].from, a->logprobs[k].logprob);
    return 0;
}

static int analyze(td_session *s, td_analyze_spec *spec, const td_analyzing *x, td_error *error)
{
    bool        documents;
    td_own_data own;
    int         code = td_session_long_text(s, spec->evaluate.feed.length, &documents, &own, error);
    if (code)
        return code;
    /* the feed uses the data that is open now */
    spec->evaluate.feed.data = (const void *)s->x->data.plugin;
    spec->evaluate.feed.data_state = s->data;
    code = td_analyze(s->engine, spec, x->progress, x->arg, &s->analysis, error);
    s->analysis.documents = documents;
    s->analysis.trained = s->x->train.length;
    td_session_restore_data(s, &own);
    return code;
}

int td_session_analyze(td_session *s, const td_analyzing *x, const td_analysis **out,
                       td_error *error)
{
    td_analyze_spec spec;
    int             code = check(s, x, error);

    *out = NULL;
    if (!code)
        code = td_session_hold(s, error);
    if (code)
        return td_session_result(code, error);
    spec = spec_of(s, x);
    /* the previous result was valid until this call */
    td_analysis_free(&s->analysis);
    code = analyze(s, &spec, x, error);
    if (code == TD_EEND && !error->code)
        return td_fail(error, TD_EEND, "the analysis was stopped");
    if (code)
        return td_session_result(code, error);
    *out = &s->analysis;
    return check_numbers(*out, error);
}
