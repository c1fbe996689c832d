/* scoring.c - log-likelihoods of tokens under the parameters that a session holds. */
#include <math.h>

#include "evaluate/score.h"
#include "run/session.h"

static int check_scores(const td_session *s, const td_scored *items, int64_t count, td_error *error)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(items[i].logprob))
            return td_fail(
                error, TD_EDIVERGED,
                "the log-likelihood of item %lld is %g: the parameters%s%s%s contain NaN "
                "or infinity",
                (long long)i, items[i].logprob, s->loaded ? " of '" : "",
                s->loaded ? s->loaded : "", s->loaded ? "'" : "");
    return 0;
}

int td_session_score(td_session *s, td_scored *items, int64_t count,
                     td_evaluation_progress *progress, void *arg, td_error *error)
{
    td_score_spec spec = { 0 };
    int           code = td_session_open_special(s, error);
    if (!code)
        code = td_session_hold(s, error);
    if (code)
        return td_session_result(code, error);
    spec.feed = td_session_feed(s);
    code = td_score_items(s->engine, &spec, items, count, progress, arg, error);
    if (code == TD_EEND)
        return td_fail(error, TD_EEND, "the scoring was stopped");
    return code ? td_session_result(code, error) : check_scores(s, items, count, error);
}
