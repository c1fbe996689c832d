/* huggingface.c - tokenizer 'huggingface': a tokenizer.json, the file of Hugging Face's library
 * 'tokenizers'.
 *
 * Exact or refused: a file that asks for something that this tokenizer lacks cannot be opened. Text
 * that looks like a special token is ordinary text, as in the library with split_special_tokens,
 * unless the option parse_special is set. */
#include <errno.h>
#include <sys/stat.h>

#include "../tokenizer_json.h"
#include "tandem/random.h"
#include "tokenizer.h"

enum { LARGEST_FILE = 1 << 28 }; /* bytes; files of the largest vocabularies have 40 million */

struct config {
    const char *file, *config;
    bool        parse_special;
    const char *pad, *bos, *eos, *unk;
};

static const td_option options[] = {
    TD_OPTION_FILE(struct config, file, "", "path of the tokenizer.json"),
    TD_OPTION_FILE(
        struct config, config, "",
        "path of the tokenizer_config.json, which names the special tokens; empty: none"),
    TD_OPTION_BOOL(struct config, parse_special, false,
                   "special tokens are found in texts, too, so whoever writes a text can end it"),
    TD_OPTION_STRING(struct config, pad, "", "the token for padding; empty: from 'config'"),
    TD_OPTION_STRING(struct config, bos, "", "the token before texts; empty: from 'config'"),
    TD_OPTION_STRING(struct config, eos, "", "the token after texts; empty: from 'config'"),
    TD_OPTION_STRING(struct config, unk, "", "the token for unknown text; empty: from 'file'"),
    TD_OPTION_END
};

struct opened {
    const struct config *config;
    struct tokenizer     tokenizer;
    td_special           special;
    uint64_t             hash; /* of the file */
};

/* ---- opening --------------------------------------------------------------------------------- */

static int read_stream(FILE *f, const char *path, size_t size, struct growing *out, td_error *error)
{
    if (!grow_room(out, size + 1))
        return td_fail(error, TD_ENOMEM, "out of memory for '%s'", path);
    out->size = fread(out->data, 1, size, f);
    return out->size == size ? 0
                             : td_fail(error, TD_EIO, "cannot read the tokenizer '%s': %s", path,
                                       ferror(f) ? strerror(errno) : "it became shorter");
}

/* A pipe would block, and a directory fail without saying why. */
static int read_file(const char *path, struct growing *out, td_error *error)
{
    struct stat st;
    FILE       *f;
    int         code;
    errno = 0; /* and stays that if only the kind of file is wrong */
    f = stat(path, &st) ? NULL : S_ISREG(st.st_mode) ? fopen(path, "rb") : NULL;
    if (!f)
        return td_fail(error, TD_EIO,
                       "cannot read the tokenizer '%s': %s; set tokenizer.file to another", path,
                       errno ? strerror(errno) : "not a regular file");
    if (st.st_size > LARGEST_FILE)
        code = td_fail(error, TD_EFORMAT, "'%s' has %lld bytes: a tokenizer.json has at most %d",
                       path, (long long)st.st_size, LARGEST_FILE);
    else
        code = read_stream(f, path, (size_t)st.st_size, out, error);
    fclose(f);
    return code;
}

static int32_t id_of(const struct tokenizer *x, const char *text)
{
    const struct vocabulary *v = &x->vocabulary;
    int32_t                  id = trie_get(&v->by_text, text, strlen(text));
    for (size_t k = v->count; id < 0 && k-- > 0;) /* added ones come last */
        if (v->at[k].text && !strcmp(v->at[k].text, text))
            id = (int32_t)k;
    return id;
}

/* The name of a special token: the option's, or that of tokenizer_config.json, which is a text or
 * an object with more about the token. "": there is none. */
static const char *name_in(const json_t *config, const char *key, const char *option)
{
    const json_t *token = json_object_get(config, key);
    const char   *name = json_string_value(json_is_object(token) ? json_object_get(token, "content")
                                                                 : token);
    return *option || !name ? option : name;
}

static int find_named(const struct opened *o, const json_t *config, const char *key,
                      const char *option, int32_t *out, td_error *error)
{
    const char *name = name_in(config, key, option);
    if (!*name)
        return 0;
    *out = id_of(&o->tokenizer, name);
    return *out >= 0
               ? 0
               : td_fail(error, TD_ECONFIG, "the %s '%.60s' of %s is not a token of '%s'", key,
                         name, *option ? "the config" : o->config->config, o->config->file);
}

static int32_t own_sentinel(const struct tokenizer *x, int32_t k)
{
    char name[40];
    snprintf(name, sizeof name, "<extra_id_%d>", (int)k);
    return id_of(x, name);
}

/* As many as have evenly spaced ids: td_special describes no others. */
static void find_sentinels(const struct tokenizer *x, td_special *out)
{
    int32_t first = own_sentinel(x, 0), second = own_sentinel(x, 1);
    if (first < 0)
        return;
    out->sentinel = first;
    out->sentinels = 1;
    out->sentinel_step = second >= 0 ? second - first : 1;
    while (own_sentinel(x, out->sentinels) == first + out->sentinels * out->sentinel_step)
        out->sentinels++;
}

static int find_ids(struct opened *o, const json_t *config, td_error *error)
{
    const struct config *c = o->config;
    td_special          *s = &o->special;
    int                  code = find_named(o, config, "pad_token", c->pad, &s->pad, error);
    if (!code)
        code = find_named(o, config, "bos_token", c->bos, &s->bos, error);
    if (!code)
        code = find_named(o, config, "eos_token", c->eos, &s->eos, error);
    return code ? code : find_named(o, NULL, "unk_token", c->unk, &s->unk, error);
}

static int find_special(struct opened *o, td_error *error)
{
    /* a model_max_length that is not known is an integer of 31 digits */
    static const size_t      flags = JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
    static const char *const modes[] = { "[R]", "[S]", "[X]" };
    td_special              *s = &o->special;
    struct growing           text = { 0 };
    json_t                  *config = NULL;
    int                      code = 0;
    *s = (td_special){ .pad = -1, .bos = -1, .eos = -1, .unk = o->tokenizer.vocabulary.unknown };
    s->vocab_size = (int32_t)o->tokenizer.vocabulary.count;
    find_sentinels(&o->tokenizer, s);
    for (int k = 0; k < 3; k++)
        s->mode[k] = id_of(&o->tokenizer, modes[k]);
    /* a run keeps both files, so the names stay with it */
    if (*o->config->config)
        code = read_file(o->config->config, &text, error);
    if (!code && text.data && !(config = json_loadb(text.data, text.size, flags, NULL)))
        code = td_fail(error, TD_EFORMAT, "'%s' is not valid JSON", o->config->config);
    if (!code)
        code = find_ids(o, config, error);
    json_decref(config);
    free(text.data);
    return code;
}

static void close_file(void *state)
{
    struct opened *o = state;
    tokenizer_free(&o->tokenizer);
    free(o);
}

static int open_file(const void *config, const td_services *services, void **state, td_error *error)
{
    const struct config *c = config;
    struct growing       text = { 0 };
    struct opened       *o;
    int                  code;
    if (!*c->file)
        return td_fail(error, TD_ECONFIG,
                       "tokenizer 'huggingface' needs 'file', the path of a tokenizer.json");
    o = calloc(1, sizeof *o);
    if (!o)
        return td_fail(error, TD_ENOMEM, "out of memory for the tokenizer '%s'", c->file);
    /* from here on close_file frees whatever was read */
    o->config = c;
    o->tokenizer.parses_special = c->parse_special;
    code = read_file(c->file, &text, error);
    if (!code)
        code = tokenizer_read(&o->tokenizer, c->file, text.data, text.size, error);
    if (!code)
        code = find_special(o, error);
    o->hash = td_hash(td_random_stream(""), text.data, text.size);
    free(text.data);
    if (code)
        close_file(o);
    else
        *state = o;
    return code;
}

/* ---- ids ------------------------------------------------------------------------------------- */

static void special(void *state, td_special *out) { *out = ((struct opened *)state)->special; }

static int64_t encode(void *state, const char *text, size_t size, int32_t *ids, int64_t room,
                      td_error *error)
{
    const struct opened *o = state;
    struct growing       found = { 0 };
    int                  code = tokenizer_encode(&o->tokenizer, text, size, &found, error);
    int64_t              n = (int64_t)(found.size / sizeof *ids), fits = n < room ? n : room;
    if (!code && fits > 0)
        memcpy(ids, found.data, (size_t)fits * sizeof *ids);
    free(found.data);
    return code ? code : n;
}

/* The texts of the tokens; special ones, and ids that no token has, have none. */
static int add_texts(const struct vocabulary *v, const int32_t *ids, int64_t count,
                     struct texts *out, td_error *error)
{
    for (int64_t k = 0; k < count; k++) {
        if (ids[k] < 0 || ids[k] >= (int64_t)v->count)
            return td_fail(error, TD_EFORMAT, "cannot decode token %lld: id %d is not in 0 .. %zu",
                           (long long)k, (int)ids[k], v->count - 1);
        if (v->at[ids[k]].text && !v->at[ids[k]].special)
            texts_add(out, v->at[ids[k]].text, v->at[ids[k]].size);
    }
    return 0;
}

static int64_t decode(void *state, const int32_t *ids, int64_t count, char *text, int64_t room,
                      td_error *error)
{
    const struct tokenizer *x = &((struct opened *)state)->tokenizer;
    const struct decoding  *d = (const void *)x->decodings.data;
    struct texts            t = { 0 };
    int64_t                 code = add_texts(&x->vocabulary, ids, count, &t, error);
    for (size_t k = 0; !code && k < x->decodings.size / sizeof *d; k++)
        decoding_run(&d[k], &t);
    if (!code && (t.text.failed || t.ends.failed))
        code = td_fail(error, TD_ENOMEM, "out of memory for the text of %lld ids",
                       (long long)count);
    if (!code && t.text.size && room > 0)
        memcpy(text, t.text.data, t.text.size < (size_t)room ? t.text.size : (size_t)room);
    if (!code)
        code = (int64_t)t.text.size;
    texts_free(&t);
    return code;
}

static const char *piece(void *state, int32_t id)
{
    const struct vocabulary *v = &((struct opened *)state)->tokenizer.vocabulary;
    return id >= 0 && id < (int64_t)v->count && v->at[id].text ? v->at[id].text : "";
}

/* What is found in a text depends on the option, too; what a text begins and ends with, on the special
 * ids, which may be from another file. */
static int fingerprint(void *state, uint64_t *out, td_error *error)
{
    const struct opened *o = state;
    const int32_t        ids[] = { o->special.pad, o->special.bos, o->special.eos, o->special.unk };
    *out = td_hash(td_random_bits(o->hash, o->config->parse_special, 0), ids, sizeof ids);
    return 0;
}

/* ---- for other programs ---------------------------------------------------------------------- */

static const char *name_of(const struct opened *o, int32_t id)
{
    const char *name = id < 0 ? "" : piece((void *)(uintptr_t)o, id);
    return *name ? name : NULL;
}

/* The post-processor is replaced by ours: it adds what our models begin a text with. */
static json_t *with_template(const struct opened *o, int32_t begin)
{
    struct growing text = { 0 };
    json_t        *j = json_copy(o->tokenizer.json), *processor = json_null();
    if (name_of(o, begin)) {
        emit_template(&text, begin, name_of(o, begin));
        processor = text.failed ? NULL : json_loadb(text.data, text.size, 0, NULL);
    }
    free(text.data);
    if (j && !json_object_set_new(j, "post_processor", processor))
        return j;
    json_decref(j);
    return NULL;
}

static int write_files(void *state, const td_tokenizer_out *out, td_error *error)
{
    const struct opened *o = state;
    const td_special    *s = &o->special;
    json_t              *j = with_template(o, out->begin);
    char                *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    int                  code = text ? out->put(out, "tokenizer.json", text, strlen(text), error)
                                     : td_fail(error, TD_ENOMEM, "out of memory while writing 'tokenizer.json'");
    free(text);
    json_decref(j);
    return code ? code
                : put_token_config(out, !o->config->parse_special,
                                   name_of(o, out->begin >= 0 ? out->begin : s->bos),
                                   name_of(o, s->eos), name_of(o, s->pad), name_of(o, s->unk),
                                   error);
}

static const char *const folder_files[] = { "file=tokenizer.json", "config=tokenizer_config.json",
                                            NULL };

static const td_tokenizer tokenizer = {
    .plugin = TD_PLUGIN(
        td_tokenizer, TD_TOKENIZER_KIND, "huggingface", options, struct config,
        .brief = "tokenizer.json of Hugging Face: BPE and unigram models",
        .doc = "It reads the models BPE and Unigram; the normalizers NFC, NFD, "
               "NFKC, NFKD, Lowercase, Precompiled, Prepend, Replace and Strip; the pre-tokenizers "
               "ByteLevel, Metaspace, Split, Digits and WhitespaceSplit; the "
               "decoders ByteLevel, ByteFallback, Fuse, Replace, Strip and "
               "Metaspace; and sequences of them. Anything else that a file asks for is refused, "
               "and named. Classes, forms and clusters of characters (which Precompiled maps) "
               "follow the Unicode versions of PCRE2 and utf8proc: before 15.1, Indic consonants "
               "joined by a virama are several clusters. "
               "The post-processor is not used: losses "
               "and architectures add what begins and ends a text."),
    .open = open_file,
    .close = close_file,
    .special = special,
    .encode = encode,
    .decode = decode,
    .piece = piece,
    .fingerprint = fingerprint,
    .write_files = write_files,
    .folder_files = folder_files,
};

TD_MODULE("huggingface", "1.0", "tandem", "MIT", &tokenizer.plugin)
