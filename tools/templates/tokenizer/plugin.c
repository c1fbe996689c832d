/* tokenizer-@NAME@.c - bytes, except that a run of spaces is one token. Lossless, with no model to
 * train.
 *
 * The contract: tandem/kind/tokenizer.h; special ids: tandem/kind/batch.h.
 *
 *     0 pad and bos, 1 eos, 2 unk, 3 + b byte b, 259 + k - 2 a run of k spaces (2 <= k <= spaces) */
#include <stdlib.h>
#include <string.h>

#include "tandem/kind/tokenizer.h"

enum { PAD, EOS, UNK, FIRST_BYTE, FIRST_RUN = FIRST_BYTE + 256 };

struct @IDENT@_config {
    int64_t spaces;
};

static const td_option options[] = { TD_OPTION_INT(struct @IDENT@_config, spaces, 8, 1, 32,
                                                   "longest run of spaces that becomes one "
                                                   "token; 1 for bytes only"),
                                     TD_OPTION_END };

/* Made by `open`, freed by `close`; several threads read it at the same time, so it never
 * changes. */
typedef struct state {
    int64_t spaces;
} state;

/* [main] */
static int open_@IDENT@(const void *config, const td_services *services, void **out, td_error *error)
{
    const struct @IDENT@_config *c = config;
    state                    *s = calloc(1, sizeof *s);
    (void)services;
    if (!s)
        return td_fail(error, TD_ENOMEM, "tokenizer '@NAME@': out of memory");
    s->spaces = c->spaces;
    *out = s;
    return 0;
}

static void close_@IDENT@(void *state_) { free(state_); }

static int64_t vocabulary(const state *s) { return FIRST_RUN + s->spaces - 1; }

/* [any]: ids that the tokenizer does not have stay -1. The host requires model.vocab_size to be at
 * least vocab_size. */
static void special(void *state_, td_special *out)
{
    out->pad = out->bos = PAD;
    out->eos = EOS;
    out->unk = UNK;
    out->vocab_size = (int32_t)vocabulary(state_);
}

/* [any]: called on several threads. Writes at most `room` ids and returns how many there are in
 * total; if that is more, the caller tries again with more room. The text is `size` bytes, may
 * contain zeros and is not 0-terminated. Do not add an eos. */
static int64_t encode(void *state_, const char *text, size_t size, int32_t *ids, int64_t room,
                      td_error *error)
{
    const state *s = state_;
    int64_t      n = 0;
    (void)error;
    /* the longest run first, so encoding is a function of the text alone */
    for (size_t at = 0, run; at < size; at += run, n++) {
        for (run = 0; at + run < size && text[at + run] == ' ' && (int64_t)run < s->spaces;)
            run++;
        run = run ? run : 1;
        if (n < room)
            ids[n] = run == 1 ? FIRST_BYTE + (unsigned char)text[at] : FIRST_RUN + (int32_t)run - 2;
    }
    return n;
}

/* [any]: the inverse. Special ids have no text; an id outside the vocabulary is an error. */
static int64_t decode(void *state_, const int32_t *ids, int64_t count, char *text, int64_t room,
                      td_error *error)
{
    const state *s = state_;
    int64_t      n = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t length = ids[i] < FIRST_BYTE ? 0 : ids[i] < FIRST_RUN ? 1 : ids[i] - FIRST_RUN + 2;
        if (ids[i] < 0 || ids[i] >= vocabulary(s))
            return td_fail(error, TD_EFORMAT,
                           "tokenizer '@NAME@' cannot decode token %lld: id %d is not in 0 .. %lld",
                           (long long)i, (int)ids[i], (long long)vocabulary(s) - 1);
        /* counted even where there is no room: the caller needs the total */
        for (int64_t k = 0; k < length; k++, n++)
            if (n < room)
                text[n] = ids[i] < FIRST_RUN ? (char)(unsigned char)(ids[i] - FIRST_BYTE) : ' ';
    }
    return n;
}

static const td_tokenizer @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_tokenizer, TD_TOKENIZER_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "bytes, with runs of spaces as one token"),
    /* a promise: decoding restores what was encoded, for every setting of the options */
    .flags = TD_TOKENIZER_LOSSLESS_BYTES | TD_TOKENIZER_LOSSLESS_UTF8,
    .open = open_@IDENT@,
    .close = close_@IDENT@,
    .special = special,
    .encode = encode,
    .decode = decode,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
