/* evaluation.c - scores the parameters that a session holds. */
#include <inttypes.h>
#include <math.h>

#include "run/session.h"

/* NaN and infinity are reported as results, to show which sources are affected, but fail the
 * call. */
static int check_numbers(const td_session *s, td_error *error)
{
    if (isfinite(s->evaluation.nll))
        return 0;
    if (s->loaded)
        return td_fail(error, TD_EDIVERGED,
                       "the held-out NLL is %g: the parameters of '%s' contain NaN or infinity",
                       s->evaluation.nll, s->loaded);
    return td_fail(error, TD_EDIVERGED,
                   "the held-out NLL is %g: the parameters contain NaN or infinity",
                   s->evaluation.nll);
}

int td_session_compare_ranks(td_session *s, td_error *error)
{
    uint64_t hash = 0;
    char     text[32];
    int      code;
    if (td_team_size(s->team) == 1)
        return 0;
    code = td_team_same(s->team, td_session_config(s), "config", error);
    if (!code)
        code = td_team_agree(s->team,
                             td_variables_hash(td_engine_variables(s->engine),
                                               td_engine_device(s->engine), &hash, error),
                             error);
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    return code ? code : td_team_same(s->team, text, "checkpoint", error);
}

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
    /* a session with trained or loaded parameters may not have opened its data yet */
    code = td_session_open_data_together(s, error);
    if (!code)
        code = td_team_agree(s->team, td_session_hold(s, error), error);
    if (!code)
        code = td_session_compare_ranks(s, error);
    if (code)
        return td_session_result(code, error);
    td_evaluation_free(&s->evaluation);
    spec = td_session_evaluation_spec(s);
    spec.team = s->team;
    code = td_evaluate(s->engine, &spec, progress, arg, &s->evaluation, error);
    if (code == TD_EEND)
        return td_fail(error, TD_EEND, "the evaluation was stopped");
    if (code)
        return td_session_result(code, error);
    *out = &s->evaluation;
    return check_numbers(s, error);
}
