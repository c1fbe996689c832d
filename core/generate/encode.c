/* encode.c - texts as tokens. */
#include "generate/encode.h"

#include <stdlib.h>
#include <string.h>

#include "plugin/hook.h"

int td_encode(const td_encoder *e, const char *text, size_t size, int32_t **ids, int64_t *n,
              td_error *error)
{
    /* a token covers at least one byte, except for a few that tokenizers add */
    int64_t room = (int64_t)size + 8;
    *ids = NULL;
    for (;;) {
        int32_t *larger = realloc(*ids, (size_t)(room + 1) * sizeof *larger);
        if (!larger)
            return td_fail(error, TD_ENOMEM, "out of memory for the tokens of a text of %zu bytes",
                           size);
        *ids = larger;
        *n = TD_HOOK(e->tokenizer, encode, e->state, text, size, *ids, room, error);
        if (*n < 0)
            return (int)*n;
        if (*n <= room)
            return 0;
        /* the tokenizer returns the count; now the buffer is large enough */
        room = *n;
    }
}

size_t td_encode_kept(const char *prompt)
{
    size_t n = strlen(prompt);
    while (n && strchr(" \n\t\r", prompt[n - 1]))
        n--;
    return n;
}

int td_encode_answer(const td_encoder *e, const char *both, size_t size, size_t keep,
                     const int32_t *given, int64_t n_given, int32_t **ids, int64_t *n,
                     td_error *error)
{
    int code = td_encode(e, both, size, ids, n, error);
    if (code)
        return code;
    /* usually the tokens of both begin with the prompt's, and the rest is the answer */
    if (*n > n_given && (!n_given || !memcmp(*ids, given, (size_t)n_given * sizeof **ids))) {
        *n -= n_given;
        memmove(*ids, *ids + n_given, (size_t)*n * sizeof **ids);
        return 0;
    }
    free(*ids);
    return td_encode(e, both + keep, size - keep, ids, n, error);
}

void td_encode_end(const td_special *s, bool inputs_end, int32_t *ids, int64_t *n)
{
    int32_t begin = s->bos >= 0 ? s->bos : s->eos >= 0 ? s->eos : s->pad;
    if (inputs_end && s->eos >= 0)
        ids[(*n)++] = s->eos;
    else if (!*n)
        ids[(*n)++] = begin >= 0 ? begin : 0;
}
