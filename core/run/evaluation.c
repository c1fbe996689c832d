/* evaluation.c - scoring the parameters that a session holds. */
#include <math.h>

#include "run/session.h"

int td_session_evaluate(td_session *s, td_evaluation_progress *progress, void *arg,
                        const td_evaluation **out, td_error *error)
{
    td_evaluate_spec spec;
    int              code;

    *out = NULL;
    if (!(s->needs & TD_NEED_DATA))
        return td_fail(error, TD_ECONFIG,
                       "this session was opened without data: evaluating needs TD_PURPOSE_EVALUATE "
                       "or TD_PURPOSE_TRAIN");
    /* a session that loaded its parameters by another way may not have read any data yet */
    code = td_session_open_data(s, error);
    if (!code)
        code = td_session_hold(s, error);
    if (code)
        return td_session_result(code, error);
    td_evaluation_free(&s->evaluation);
    spec = td_session_evaluation_spec(s);
    code = td_evaluate(s->engine, &spec, progress, arg, &s->evaluation, error);
    if (code == TD_EEND)
        return td_fail(error, TD_EEND, "the evaluation was stopped");
    if (code)
        return td_session_result(code, error);
    *out = &s->evaluation; /* NaN is a result, too: it says which sources are affected */
    return isfinite(s->evaluation.nll)
               ? 0
               : td_fail(error, TD_EDIVERGED,
                         "the held-out NLL is %g: the parameters%s%s%s contain NaN or infinity",
                         s->evaluation.nll, s->loaded ? " of '" : "", s->loaded ? s->loaded : "",
                         s->loaded ? "'" : "");
}
