/* bytes.c - tokenizer 'bytes': byte b is id b + 3; pad and bos 0, eos 1, unk 2. Needs no model. */
#include "tandem/kind/tokenizer.h"

enum { FIRST = 3, VOCAB = 256 + FIRST };

struct bytes {
    int64_t unused;
};

static int open_bytes(const void *config, const td_services *services, void **state,
                      td_error *error)
{
    (void)config, (void)services, (void)error;
    *state = NULL;
    return 0;
}

static void close_bytes(void *state) { (void)state; }

static void special(void *state, td_special *out)
{
    (void)state;
    out->pad = out->bos = 0, out->eos = 1, out->unk = 2, out->vocab_size = VOCAB;
}

static int64_t encode(void *state, const char *text, size_t size, int32_t *ids, int64_t room,
                      td_error *error)
{
    (void)state, (void)error;
    for (size_t i = 0; i < size && (int64_t)i < room; i++)
        ids[i] = (unsigned char)text[i] + FIRST;
    return (int64_t)size;
}

static int64_t decode(void *state, const int32_t *ids, int64_t count, char *text, int64_t room,
                      td_error *error)
{
    int64_t n = 0;
    (void)state;
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= VOCAB)
            return td_fail(error, TD_EFORMAT, "cannot decode token %lld: id %d is not in 0 .. %d",
                           (long long)i, (int)ids[i], VOCAB - 1);
        if (ids[i] < FIRST)
            continue;
        if (n < room)
            text[n] = (char)(unsigned char)(ids[i] - FIRST);
        n++;
    }
    return n;
}

static const td_tokenizer bytes = {
    .plugin = TD_PLUGIN(td_tokenizer, TD_TOKENIZER_KIND, "bytes", NULL, struct bytes,
                        .brief = "one token per byte: 259 ids, no model, lossless"),
    .flags = TD_TOKENIZER_LOSSLESS_BYTES | TD_TOKENIZER_LOSSLESS_UTF8,
    .open = open_bytes,
    .close = close_bytes,
    .special = special,
    .encode = encode,
    .decode = decode,
};

TD_MODULE("bytes", "1.0", "tandem", "MIT", &bytes.plugin)
