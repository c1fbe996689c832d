/* bytes.c - tokenizer 'bytes': one id per byte, as in ByT5. It needs no model and can represent any
 * text, so it is the default.
 *
 *     0 pad and bos, 1 eos, 2 unk; byte b is b + 3; from 259 on the sentinels, then R, S and X */
#include "tokenizer_json.h"

enum { FIRST = 3, VOCAB = 256 + FIRST };

struct bytes {
    int64_t sentinels;
    bool    modes;
};

static const td_option options[] = {
    TD_OPTION_INT(
        struct bytes, sentinels, 0, 0, 1 << 20,
        "sentinels that mark removed spans, from id 259 on; for the losses that remove spans"),
    TD_OPTION_BOOL(struct bytes, modes, false,
                   "three more ids, after the sentinels, for the modes R, S and X of UL2"),
    TD_OPTION_END
};

/* The state is the config, which outlives it. The cast drops const; nothing writes through it. */
static int open_bytes(const void *config, const td_services *services, void **state,
                      td_error *error)
{
    *state = (void *)(uintptr_t)config;
    return 0;
}

static void close_bytes(void *state) {}

/* The size of the vocabulary. NULL (a tokenizer that was not opened) means neither sentinels nor
 * modes. */
static int32_t ids_of(const struct bytes *c)
{
    return c ? VOCAB + (int32_t)c->sentinels + 3 * c->modes : VOCAB;
}

static void special(void *state, td_special *out)
{
    const struct bytes *c = state;
    out->pad = out->bos = 0;
    out->eos = 1;
    out->unk = 2;
    out->vocab_size = ids_of(c);
    out->sentinels = (int32_t)c->sentinels;
    out->sentinel = VOCAB;
    out->sentinel_step = 1;
    for (int k = 0; c->modes && k < 3; k++)
        out->mode[k] = VOCAB + (int32_t)c->sentinels + k;
}

/* Returns the full number of ids, even if it exceeds `room`. */
static int64_t encode(void *state, const char *text, size_t size, int32_t *ids, int64_t room,
                      td_error *error)
{
    for (size_t i = 0; i < size && (int64_t)i < room; i++)
        ids[i] = (unsigned char)text[i] + FIRST;
    return (int64_t)size;
}

/* Special ids, sentinels and modes have no text. Returns the bytes of the text, like
 * encode. */
static int64_t decode(void *state, const int32_t *ids, int64_t count, char *text, int64_t room,
                      td_error *error)
{
    int32_t vocab = ids_of(state);
    int64_t n = 0;
    /* check every id, even past `room`: the caller may only want the size */
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= vocab)
            return td_fail(error, TD_EFORMAT, "cannot decode token %lld: id %d is not in 0 .. %d",
                           (long long)i, (int)ids[i], vocab - 1);
        if (ids[i] < FIRST || ids[i] >= VOCAB)
            continue;
        if (n < room)
            text[n] = (char)(unsigned char)(ids[i] - FIRST);
        n++;
    }
    return n;
}

/* ---- for other programs ---------------------------------------------------------------------- */

/* The name of an id that stands for no byte, in `out`. */
static const char *name_of(const struct bytes *c, int32_t id, char out[32])
{
    static const char *const names[] = { "<pad>", "</s>", "<unk>" }, *const modes[] = { "[R]",
                                                                                        "[S]",
                                                                                        "[X]" };
    int32_t mark = id - VOCAB;
    if (id < FIRST)
        return names[id];
    if (mark >= c->sentinels)
        return modes[mark - (int32_t)c->sentinels];
    snprintf(out, 32, "<extra_id_%d>", (int)mark);
    return out;
}

static void write_added(const struct bytes *c, struct growing *j)
{
    char name[32];
    for (int32_t id = 0; id < ids_of(c); id++)
        if (id < FIRST || id >= VOCAB)
            emit_added(j, id, name_of(c, id, name), true, !id);
}

/* A model that merges nothing: each byte is the character that stands for it, which is a token. */
static void write_model(const struct bytes *c, struct growing *j)
{
    char name[32], text[3];
    emit_raw(j, "{\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null,\n"
                "    \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null,\n"
                "    \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false,\n"
                "    \"merges\": [], \"vocab\": {");
    for (int32_t id = 0; id < VOCAB; id++) {
        const char *token = id < FIRST ? name_of(c, id, name) : text;
        if (id >= FIRST)
            byte_text(id - FIRST, text);
        emit_raw(j, id ? ",\n      " : "\n      ");
        emit_string(j, token, strlen(token));
        emit_print(j, ": %d", (int)id);
    }
    emit_raw(j, "}}\n}\n");
}

static int write_files(void *state, const td_tokenizer_out *out, td_error *error)
{
    static const char   level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                                  "\"trim_offsets\": false, \"use_regex\": false}";
    const struct bytes *c = state;
    struct growing      j = { 0 };
    char                own[32];
    const char         *begin = out->begin >= 0 ? name_of(c, out->begin, own) : NULL;
    int                 code;
    emit_begin(&j);
    write_added(c, &j);
    emit_steps(&j, "null", level, level, out->begin, begin);
    write_model(c, &j);
    code = put_json(out, "tokenizer.json", &j, error);
    return code ? code : put_token_config(out, true, begin, "</s>", "<pad>", "<unk>", error);
}

static const td_tokenizer bytes = {
    .plugin = TD_PLUGIN(td_tokenizer, TD_TOKENIZER_KIND, "bytes", options, struct bytes,
                        .brief = "one token per byte: 259 ids, no model, lossless"),
    .flags = TD_TOKENIZER_LOSSLESS_BYTES | TD_TOKENIZER_LOSSLESS_UTF8,
    .open = open_bytes,
    .close = close_bytes,
    .special = special,
    .encode = encode,
    .decode = decode,
    .write_files = write_files,
};

TD_MODULE("bytes", "1.0", "tandem", "MIT", &bytes.plugin)
