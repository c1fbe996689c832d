/* tokenizer.c - requirements on every tokenizer: ids in the vocabulary, lossless as declared, the
 * same on several threads, and no write beyond the buffer. */
#include "check/tokenizer.h"

#include "check/cases.h"
#include "tandem/random.h"

/* Written after a buffer's end. No tokenizer has this id, so a change there is an overrun. */
enum { CANARY = -77 };

/* ---- opening --------------------------------------------------------------------------------- */

td_check_tokenizer td_check_open_tokenizer(td_check *c, const td_part *part)
{
    td_check_tokenizer t = { .plugin = (const void *)part->plugin };
    td_error           e = { 0 };
    int                code = t.plugin->open(part->config, td_check_services(c, 1), &t.state, &e);
    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "tokenizer '%s' cannot be opened: %s", part->plugin->name, td_check_error(&e));
    /* as the host does: a hook fills in only the ids that it has */
    t.special = (td_special){ -1, -1, -1, -1, 0, 0, 0, 0, { -1, -1, -1 } };
    t.plugin->special(t.state, &t.special);
    return t;
}

/* Lines of made-up words to train a tokenizer on. Words recur, a few of them much more often than
 * others, or a subword model would find nothing to merge. */
static const char *text_file(td_check *c)
{
    char *path = td_arena_print(c->arena, "%s/text.txt", td_check_directory(c));
    FILE *f = path ? fopen(path, "w") : NULL;
    MUST(c, f, "cannot write a text to train the tokenizer on");
    /* the draw of a bound first: small numbers, and so few words, are drawn most often */
    for (uint64_t k = 0; k < 20000; k++) {
        uint64_t word = td_random_below(2, 2, k, 1 + td_random_below(2, 3, k, 700));
        for (uint64_t i = 0; i < 1 + td_random_below(2, 4, word, 3); i++)
            fprintf(f, "%c%c", "bdfgklmnprstvz"[td_random_below(2, word, 2 * i, 14)],
                    "aeiou"[td_random_below(2, word, 2 * i + 1, 5)]);
        fputs(k % 17 ? " " : ".\n", f);
    }
    MUST(c, !fclose(f), "cannot write a text to train the tokenizer on");
    return path;
}

/* The string option that names the model file of a tokenizer that is trained: its first. */
static const char **model_option(td_check *c, const td_part *part)
{
    td_option o;
    for (size_t i = 0;
         c->plugin->options && td_option_row(c->plugin->options, c->plugin->option_size, i, &o);
         i++) {
        const char **field = td_check_field(part, o.name, TD_TYPE_STRING);
        if (field)
            return field;
    }
    return NULL;
}

/* The tokenizer under test. One that needs a model file, and was not given any by a config, is
 * trained first: its author need not supply one to run the suite. */
static td_check_tokenizer tokenizer_under_test(td_check *c)
{
    const td_tokenizer *t = (const void *)c->plugin;
    td_part             part = td_check_part(c);
    bool                configured = c->n_files || c->n_overrides;
    const char        **field = t->train && !configured ? model_option(c, &part) : NULL;
    td_error            e = { 0 };
    /* trained on the spot, small: 400 pieces take a second */
    if (field) {
        const char *file = text_file(c), *model = td_arena_print(c->arena, "%s.model", file);
        td_train_in in = { &file, 1, 400, model };
        MUST(c, model && !t->train(part.config, &in, td_check_services(c, 1), &e), "train: %s",
             td_check_error(&e));
        *field = model;
    } else
        td_check_need_options(c);
    return td_check_open_tokenizer(c, &part);
}

/* ---- encoding and decoding ------------------------------------------------------------------- */

/* With too small a buffer it must return the full number of ids and not touch memory beyond it. */
static void check_short_room(td_check *c, const td_check_tokenizer *t, const char *text,
                             int64_t size, int64_t n)
{
    td_error e = { 0 };
    int32_t *some = td_arena_alloc(c->arena, (size_t)n * sizeof *some);
    int64_t  again;
    MUST(c, some, "out of memory");
    some[n - 1] = CANARY;
    /* one short: the commonest overrun is by one */
    again = t->plugin->encode(t->state, text, (size_t)size, some, n - 1, &e);
    MUST(c, again == n,
         "encode returns %lld with room for %lld ids; it must return %lld, the number of ids in "
         "the text",
         (long long)again, (long long)(n - 1), (long long)n);
    MUST(c, some[n - 1] == CANARY, "encode writes beyond the %lld ids that it has room for",
         (long long)(n - 1));
}

/* Encode as callers do: first without room, to learn the size. */
static int64_t encode(td_check *c, const td_check_tokenizer *t, const char *text, int64_t size,
                      int32_t **ids)
{
    td_error e = { 0 };
    int64_t  n = t->plugin->encode(t->state, text, (size_t)size, NULL, 0, &e), again;
    if (n < 0) {
        td_check_failure(c, "encode", (int)n, &e);
        return n;
    }
    *ids = td_arena_alloc(c->arena, ((size_t)n + 1) * sizeof **ids);
    MUST(c, *ids, "out of memory");
    (*ids)[n] = CANARY;
    /* exactly the room that it requested; one id more is guarded */
    again = t->plugin->encode(t->state, text, (size_t)size, *ids, n, &e);
    MUST(c, again == n, "encode returns %lld without room, but %lld with room", (long long)n,
         (long long)again);
    MUST(c, (*ids)[n] == CANARY, "encode writes beyond the %lld ids that it has room for",
         (long long)n);
    for (int64_t k = 0; k < n; k++)
        MUST(c, (*ids)[k] >= 0 && (*ids)[k] < t->special.vocab_size,
             "id %lld of a text is %d, outside the vocabulary of %d", (long long)k, (*ids)[k],
             t->special.vocab_size);
    if (n > 1)
        check_short_room(c, t, text, size, n);
    return n;
}

/* Decode in the same way; the text is in the arena. */
static char *decode(td_check *c, const td_check_tokenizer *t, const int32_t *ids, int64_t n,
                    int64_t *size)
{
    td_error e = { 0 };
    char    *text, last;
    *size = t->plugin->decode(t->state, ids, n, NULL, 0, &e);
    MUST(c, *size >= 0, "decode refuses ids that encode returned: %s", td_check_error(&e));
    text = td_arena_alloc(c->arena, (size_t)*size + 1);
    MUST(c, text, "out of memory");
    text[*size] = 77;
    MUST(c, t->plugin->decode(t->state, ids, n, text, *size, &e) == *size && text[*size] == 77,
         "decode returns %lld bytes without room, but returns or writes a different number with "
         "room",
         (long long)*size);
    if (*size < 1)
        return text;
    /* flip the last byte: with room for all but one it must stay flipped */
    last = text[*size - 1];
    text[*size - 1] = (char)~last;
    MUST(c,
         t->plugin->decode(t->state, ids, n, text, *size - 1, &e) == *size &&
             text[*size - 1] == (char)~last,
         "decode writes beyond the %lld bytes that it has room for, or does not return %lld, the "
         "full number",
         (long long)*size - 1, (long long)*size);
    text[*size - 1] = last;
    return text;
}

/* ---- round trips ----------------------------------------------------------------------------- */

/* Encode and decode; decoding must return the same bytes. */
static void round_trip(td_check *c, const td_check_tokenizer *t, const char *text, int64_t size,
                       const char *what)
{
    int32_t *ids = NULL;
    int64_t  length, n = encode(c, t, text, size, &ids);
    char    *back;
    if (n < 0) {
        td_check_finding(c,
                         "%s of %lld bytes is refused, although the tokenizer declares itself "
                         "lossless",
                         what, (long long)size);
        return;
    }
    back = decode(c, t, ids, n, &length);
    /* up to 40 bytes of both, to show the loss */
    if (length != size || memcmp(back, text, (size_t)size))
        td_check_finding(c, "%s: %lld bytes come back as %lld different ones ('%.*s' as '%.*s')",
                         what, (long long)size, (long long)length, (int)(size < 40 ? size : 40),
                         text, (int)(length < 40 ? length : 40), back);
}

/* Write one code point as UTF-8; returns the number of bytes. */
static int put_utf8(char *out, uint32_t x)
{
    /* 7, 11, 16 and 21 bits: the first byte counts those that follow, each of which has 6 */
    if (x < 0x80) {
        out[0] = (char)x;
        return 1;
    }
    if (x < 0x800) {
        out[0] = (char)(0xc0 | x >> 6);
        out[1] = (char)(0x80 | (x & 63));
        return 2;
    }
    if (x < 0x10000) {
        out[0] = (char)(0xe0 | x >> 12);
        out[1] = (char)(0x80 | (x >> 6 & 63));
        out[2] = (char)(0x80 | (x & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | x >> 18);
    out[1] = (char)(0x80 | (x >> 12 & 63));
    out[2] = (char)(0x80 | (x >> 6 & 63));
    out[3] = (char)(0x80 | (x & 63));
    return 4;
}

/* Random code points, a quarter of them of each length, without surrogates, zero and U+2581, which
 * SentencePiece takes for a space; returns the number of bytes. */
static int64_t random_utf8(char *out, uint64_t seed, int64_t count)
{
    static const uint32_t ranges[][2] = {
        { 32, 127 }, { 128, 0x7ff }, { 0x800, 0xd7ff }, { 0x10000, 0x10ffff }
    };
    char *p = out;
    for (int64_t k = 0; k < count; k++) {
        const uint32_t *range = ranges[td_random_below(seed, 1, (uint64_t)k, 4)];
        uint32_t        x = range[0] +
                     (uint32_t)td_random_below(seed, 2, (uint64_t)k, range[1] - range[0]);
        p += put_utf8(p, x == 0x2581 ? 'x' : x);
    }
    return p - out;
}

/* Random bytes of every length, mostly not UTF-8, and each byte alone. */
static void round_trip_bytes(td_check *c, const td_check_tokenizer *t)
{
    char text[256];
    for (int k = 0; k < 256; k++) {
        for (int i = 0; i < k; i++)
            text[i] = (char)td_random_below(4, (uint64_t)k, (uint64_t)i, 256);
        round_trip(c, t, text, k, "random bytes");
        /* after the run of k bytes, byte k alone */
        text[0] = (char)k;
        round_trip(c, t, text, 1, "one byte");
    }
}

void td_check_round_trip(td_check *c)
{
    /* where tokenizers tend to lose something: spaces at either end and in runs, line ends,
     * non-ASCII text */
    static const char *const texts[] = { "",
                                         " ",
                                         "  two  spaces ",
                                         "a",
                                         "\n\n\tx\n",
                                         "Straße, naïve",
                                         "the river falls slowly.",
                                         "\xe2\x82\xac\xf0\x9f\x98\x80" };
    td_check_tokenizer       t = tokenizer_under_test(c);
    char                     text[1300];
    /* a tokenizer may lose things (case, say), as long as it does not claim otherwise */
    if (!(t.plugin->flags & (TD_TOKENIZER_LOSSLESS_BYTES | TD_TOKENIZER_LOSSLESS_UTF8))) {
        t.plugin->close(t.state);
        td_check_skip(c, "it does not declare itself lossless");
    }
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
        round_trip(c, &t, texts[k], (int64_t)strlen(texts[k]), "a text");
    /* strlen would stop at the zero: only the size counts */
    round_trip(c, &t, "zero\0byte", 9, "a text with a zero byte");
    for (uint64_t k = 0; k < 200; k++)
        round_trip(c, &t, text, random_utf8(text, k, (int64_t)k), "random UTF-8");
    if (t.plugin->flags & TD_TOKENIZER_LOSSLESS_BYTES)
        round_trip_bytes(c, &t);
    t.plugin->close(t.state);
}

/* ---- ids ------------------------------------------------------------------------------------- */

/* Every id has a piece, and the fingerprint is the same each time. */
static void check_names(td_check *c, const td_check_tokenizer *t)
{
    uint64_t one = 0, two = 1;
    td_error e = { 0 };
    /* `tandem data show` prints pieces for whatever ids a batch holds */
    for (int32_t id = 0; t->plugin->piece && id < t->special.vocab_size; id++)
        MUST(c, t->plugin->piece(t->state, id), "piece returns NULL for id %d of %d", id,
             t->special.vocab_size);
    if (t->plugin->fingerprint)
        MUST(c,
             !t->plugin->fingerprint(t->state, &one, &e) &&
                 !t->plugin->fingerprint(t->state, &two, &e) && one == two,
             "fingerprint fails, or returns a different number the second time: %s", e.text);
}

/* ---- files of other programs ----------------------------------------------------------------- */

static int take_file(const td_tokenizer_out *out, const char *name, const void *data, size_t size,
                     td_error *error)
{
    td_check *c = out->host;
    if (!*name || *name == '.' || strchr(name, '/'))
        td_check_finding(c, "write_files puts '%s', which is not the name of a file in a folder",
                         name);
    if (!data && size)
        td_check_finding(c, "write_files puts '%s' without its %zu bytes", name, size);
    return 0;
}

/* Options of files, of which the host makes a config. */
static void check_folder_files(td_check *c, const td_tokenizer *t)
{
    td_part part = td_check_part(c);
    for (size_t k = 0; t->folder_files && t->folder_files[k]; k++) {
        const char *equals = strchr(t->folder_files[k], '=');
        char       *name = td_arena_print(c->arena, "%.*s", (int)strcspn(t->folder_files[k], "="),
                                          t->folder_files[k]);
        if (!equals || !equals[1] || !name || !td_check_field(&part, name, TD_TYPE_STRING))
            td_check_finding(
                c, "folder_files has '%s', which is not OPTION=NAME with an option of a file",
                t->folder_files[k]);
    }
}

static void check_files(td_check *c, const td_check_tokenizer *t)
{
    td_error         e = { 0 };
    td_tokenizer_out out = {
        .size = sizeof out, .begin = t->special.bos, .put = take_file, .host = c
    };
    int code = t->plugin->write_files ? t->plugin->write_files(t->state, &out, &e) : 0;
    if (code)
        td_check_failure(c, "write_files", code, &e);
    if (code && code != TD_EUNSUPPORTED)
        td_check_finding(c, "write_files fails: %s", td_check_error(&e));
    check_folder_files(c, t->plugin);
}

/* ---- special ids ------------------------------------------------------------------------------ */

/* Ids that losses and architectures put into batches. */
static void check_special(td_check *c, const td_special *s)
{
    int32_t special[] = { s->pad, s->bos, s->eos, s->unk };
    /* a loss indexes the vocabulary with these without checking again */
    MUST(c, s->vocab_size > 0, "special sets a vocab_size of %d", s->vocab_size);
    for (int k = 0; k < 4; k++)
        if (special[k] < -1 || special[k] >= s->vocab_size)
            td_check_finding(c, "a special id is %d, outside the vocabulary of %d", special[k],
                             s->vocab_size);
    for (int32_t k = 0; k < s->sentinels; k++) {
        int32_t id = s->sentinel + k * s->sentinel_step;
        if (id < 0 || id >= s->vocab_size)
            td_check_finding(c, "sentinel %d is id %d, outside the vocabulary of %d", k, id,
                             s->vocab_size);
    }
}

void td_check_ids(td_check *c)
{
    td_check_tokenizer t = tokenizer_under_test(c);
    int32_t           *ids, outside[] = { t.special.vocab_size, -1 };
    char               text[64];

    check_special(c, &t.special);
    /* not UTF-8: either ids, or an error with a message */
    encode(c, &t, "the river\xff\xfe falls", 17, &ids);
    for (int k = 0; k < 2; k++) {
        td_error e = { 0 };
        int64_t  n = t.plugin->decode(t.state, &outside[k], 1, text, sizeof text, &e);
        if (n >= 0)
            td_check_finding(c, "decode accepts id %d, which is outside the vocabulary",
                             outside[k]);
        else
            td_check_failure(c, "decode", (int)n, &e);
    }
    check_names(c, &t);
    check_files(c, &t);
    t.plugin->close(t.state);
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { CALLS = 64, TEXTS = 8 };

typedef struct race {
    td_check_tokenizer *t;
    uint64_t            hash[CALLS];
} race;

/* Encode one of TEXTS texts, so that several threads meet on each. */
static void encode_one(void *argument, int64_t i, int thread)
{
    race    *r = argument;
    char     text[400];
    int32_t  ids[2000];
    int64_t  size = random_utf8(text, (uint64_t)i % TEXTS, 90), n;
    td_error e = { 0 };
    n = r->t->plugin->encode(r->t->state, text, (size_t)size, ids, 2000, &e);
    /* a refusal is an answer too, as long as it is the same one */
    r->hash[i] = n < 0 || n > 2000 ? 1
                                   : td_hash(td_random_stream(""), ids, (size_t)n * sizeof *ids);
}

void td_check_tokenizer_threads(td_check *c)
{
    td_check_tokenizer t = tokenizer_under_test(c);
    race               r = { .t = &t };
    td_parallel(td_check_services(c, 4), CALLS, encode_one, &r);
    for (int k = TEXTS; k < CALLS; k++)
        if (r.hash[k] != r.hash[k % TEXTS]) {
            td_check_finding(c, "one text gets different ids while four threads encode: keep no "
                                "buffers in the state");
            break;
        }
    t.plugin->close(t.state);
}

/* ---- leaks ----------------------------------------------------------------------------------- */

static void open_and_close(td_check *c, void *argument)
{
    td_check_tokenizer t = td_check_open_tokenizer(c, argument);
    t.plugin->close(t.state);
}

static void use_tokenizer(td_check *c, void *argument)
{
    const td_check_tokenizer *t = argument;
    int32_t                   ids[200];
    char                      text[400];
    td_error                  e = { 0 };
    int64_t                   n = t->plugin->encode(t->state, "the river falls", 15, ids, 200, &e);
    if (n > 0 && n <= 200)
        t->plugin->decode(t->state, ids, n, text, sizeof text, &e);
}

void td_check_tokenizer_leak(td_check *c)
{
    td_part            part = td_check_part(c);
    td_check_tokenizer t = tokenizer_under_test(c);
    td_check_leak(c, "encoding and decoding", use_tokenizer, &t);
    t.plugin->close(t.state);
    /* a tokenizer that was trained above has no model in its defaults, so `part` cannot be
     * opened */
    if (!((const td_tokenizer *)(const void *)c->plugin)->train)
        td_check_leak(c, "opening and closing", open_and_close, &part);
}
