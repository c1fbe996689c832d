/* tokens.c - texts as the tokens of a session's tokenizer, and back. */
#include <stdlib.h>
#include <string.h>

#include "plugin/hook.h"
#include "run/session.h"

td_encoder td_session_encoder(const td_session *s)
{
    return (td_encoder){ (const void *)s->x->tokenizer.plugin, s->tokenizer };
}

static int open_tokenizer(td_session *s, td_error *error)
{
    return s->x->tokenizer.plugin
               ? td_session_open_tokenizer(s, error)
               : td_fail(error, TD_ECONFIG,
                         "a text needs a tokenizer, and the config has none: add the group "
                         "tokenizer, or use token ids");
}

int td_session_encode(td_session *s, const char *text, size_t size, const int32_t **ids, int64_t *n,
                      td_error *error)
{
    td_encoder e;
    int        code = open_tokenizer(s, error);
    *ids = NULL;
    *n = 0;
    if (code)
        return td_session_result(code, error);
    free(s->ids);
    e = td_session_encoder(s);
    code = td_encode(&e, text, size, &s->ids, n, error);
    *ids = s->ids;
    return td_session_result(code, error);
}

/* ---- a prompt and its answer ----------------------------------------------------------------- */

static int encode_both(td_session *s, const char *given, const char *target, int64_t *n_given,
                       int64_t *n_target, td_error *error)
{
    td_encoder e = td_session_encoder(s);
    td_text    both = { 0 };
    size_t     keep = td_encode_kept(given);
    int        code;
    td_text_append(&both, given, strlen(given));
    td_text_append(&both, target, strlen(target));
    code = both.failed ? td_fail(error, TD_ENOMEM, "out of memory for a prompt and its answer")
                       : td_encode(&e, given, keep, &s->given, n_given, error);
    if (!code)
        code = td_encode_answer(&e, td_text_get(&both), both.size, keep, s->given, *n_given,
                                &s->target, n_target, error);
    /* its log-likelihood would be 0, as if it were certain */
    if (!code && !*n_target)
        code = td_fail(error, TD_ECONFIG, "the answer '%.100s' has no tokens: give a text to score",
                       target);
    td_text_free(&both);
    return code;
}

int td_session_encode_pair(td_session *s, const char *given, const char *target, td_scored *out,
                           td_error *error)
{
    int64_t n_given = 0, n_target = 0;
    int     code = open_tokenizer(s, error);
    *out = (td_scored){ 0 };
    free(s->given);
    free(s->target);
    s->given = s->target = NULL;
    if (!code)
        code = encode_both(s, given, target, &n_given, &n_target, error);
    if (code)
        return td_session_result(code, error);
    td_encode_end(&s->special, s->inputs_end, s->given, &n_given);
    *out = (td_scored){
        .given = s->given, .n_given = n_given, .target = s->target, .n_target = n_target
    };
    return 0;
}

/* ---- back to text ---------------------------------------------------------------------------- */

/* Into the session's text. The tokenizer returns how many bytes there are, which may be more than fit. */
static int decode(td_session *s, const int32_t *ids, int64_t n, td_error *error)
{
    td_encoder e = td_session_encoder(s);
    for (int64_t room = 4 * n + 16, size;; room = size) {
        char *bytes = malloc((size_t)room + 1);
        if (!bytes)
            return td_fail(error, TD_ENOMEM, "out of memory for the text of %lld tokens",
                           (long long)n);
        size = TD_HOOK(e.tokenizer, decode, e.state, ids, n, bytes, room, error);
        if (size >= 0 && size <= room) {
            td_text_free(&s->text);
            td_text_append(&s->text, bytes, (size_t)size);
        }
        free(bytes);
        if (size <= room)
            return size < 0 ? (int)size : 0;
    }
}

const char *td_session_decode(td_session *s, const int32_t *ids, int64_t n, size_t *size,
                              td_error *error)
{
    int code = open_tokenizer(s, error);
    if (!code && (n < 0 || n > INT32_MAX / 4))
        code = td_fail(error, TD_ECONFIG, "%lld tokens cannot be decoded at once: at most %d can",
                       (long long)n, INT32_MAX / 4);
    if (!code)
        code = decode(s, ids, n, error);
    if (!code && s->text.failed)
        code = td_fail(error, TD_ENOMEM, "out of memory for the text of %lld tokens", (long long)n);
    if (td_session_result(code, error))
        return NULL;
    *size = s->text.size;
    return td_text_get(&s->text);
}
