/* generation.c - a session that continues texts: its tokenizer and its parameters, no data and no
 * loss. */
#include <stdlib.h>

#include "generate/decode.h"
#include "run/session.h"
#include "run/weights.h"

/* Parameters are found by building a graph, and generation builds its own for every shape: so they are
 * declared first, then allocated and loaded. */
int td_session_open_generation(td_session *s, const char *weights, td_error *error)
{
    int code = s->x->tokenizer.plugin ? td_session_open_tokenizer(s, error) : 0;

    /* without a tokenizer, ids mean nothing: an answer ends only where the caller says */
    if (!s->x->tokenizer.plugin)
        s->special = (td_special){ .pad = 0, .bos = -1, .eos = -1, .unk = -1 };
    if (!code)
        code = td_session_check_weights(s, weights, error);
    td_session_warn_of_idle_allows(s);
    if (!code)
        code = td_session_replace(s, false, error);
    if (!code)
        code = td_decoder_declare(td_engine_model(s->engine), &s->special,
                                  td_engine_variables(s->engine), error);
    if (!code)
        code = td_engine_allocate(s->engine, (uint64_t)s->x->train.seed_init, error);
    return code ? code : td_session_take(s, weights, error);
}

td_decoder_options td_session_decoder(const td_session *s)
{
    return (td_decoder_options){ .model = td_engine_model(s->engine),
                                 .device = td_engine_device(s->engine),
                                 .variables = td_engine_variables(s->engine),
                                 .special = s->special };
}
