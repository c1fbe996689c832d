/* attending.c - the attention weights of a text under the parameters that a session holds. */
#include "evaluate/attend.h"
#include "run/session.h"

int td_session_attend(td_session *s, const td_attending *x, const td_attended **out,
                      td_error *error)
{
    td_arrange_spec feed;
    int             code;
    *out = NULL;
    if (x->size != sizeof *x)
        return td_fail(error, TD_ECONFIG,
                       "td_attending.size is %zu: set it to sizeof(td_attending), which is %zu in "
                       "this library",
                       x->size, sizeof *x);
    code = td_session_open_special(s, error);
    if (!code)
        code = td_session_hold(s, error);
    if (code)
        return td_session_result(code, error);
    /* the previous result was valid until this call */
    td_attended_free(&s->attended);
    feed = td_session_feed(s);
    code = td_attend_to(s->engine, &feed, x, &s->attended, error);
    if (!code)
        *out = &s->attended;
    return td_session_result(code, error);
}
