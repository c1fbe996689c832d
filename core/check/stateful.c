/* stateful.c - tokenizers, data sources and communicators: what is opened and closed. */
#include "check/cases.h"
#include "check/internal.h"
#include "tandem/kind/comm.h"
#include "tandem/kind/data.h"
#include "tandem/kind/tokenizer.h"
#include "tandem/random.h"

/* ---- tokenizers ------------------------------------------------------------------------------ */

typedef struct tokenizer {
    const td_tokenizer *plugin;
    void               *state;
    td_special          special;
} tokenizer;

static tokenizer opened(td_check *c, const td_part *part)
{
    tokenizer t = { .plugin = (const void *)part->plugin };
    td_error  e = { 0 };
    int       code = t.plugin->open(part->config, td_check_services(c, 1), &t.state, &e);
    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "tokenizer '%s' cannot be opened: %s", part->plugin->name, td_check_error(&e));
    t.special = (td_special){ -1, -1, -1, -1, 0, 0, 0, 0, { -1, -1, -1 } };
    t.plugin->special(t.state, &t.special);
    return t;
}

/* Lines of made-up words to train a tokenizer on. */
static const char *text_file(td_check *c)
{
    char *path = td_arena_print(c->arena, "%s/text.txt", td_check_directory(c));
    FILE *f = path ? fopen(path, "w") : NULL;
    MUST(c, f, "cannot write a text to train on");
    for (uint64_t k = 0; k < 20000; k++) {
        uint64_t word = td_random_below(2, 2, k, 1 + td_random_below(2, 3, k, 700));
        for (uint64_t i = 0; i < 1 + td_random_below(2, 4, word, 3); i++)
            fprintf(f, "%c%c", "bdfgklmnprstvz"[td_random_below(2, word, 2 * i, 14)],
                    "aeiou"[td_random_below(2, word, 2 * i + 1, 5)]);
        fputs(k % 17 ? " " : ".\n", f);
    }
    MUST(c, !fclose(f), "cannot write a text to train on");
    return path;
}

/* The tokenizer under test. One that is trained and wants a file gets a model of its own making. */
static tokenizer tokenizer_under_test(td_check *c)
{
    const td_tokenizer *t = (const void *)c->plugin;
    td_part             part = td_check_part(c);
    td_error            e = { 0 };
    td_option           o;
    for (size_t i = 0; !c->n_files && !c->n_overrides && t->train && c->plugin->options &&
                       td_option_row(c->plugin->options, c->plugin->option_size, i, &o);
         i++) {
        const char **field = td_check_field(&part, o.name, TD_TYPE_STRING);
        const char  *file, *model;
        if (!field)
            continue;
        file = text_file(c);
        model = td_arena_print(c->arena, "%s.model", file);
        td_train_in in = { &file, 1, 400, model };
        MUST(c, model && !t->train(part.config, &in, td_check_services(c, 1), &e), "train: %s",
             td_check_error(&e));
        *field = model;
        return opened(c, &part);
    }
    td_check_need_options(c);
    return opened(c, &part);
}

static int64_t encode(td_check *c, const tokenizer *t, const char *text, int64_t size,
                      int32_t **ids)
{
    td_error e = { 0 };
    int64_t  n = t->plugin->encode(t->state, text, (size_t)size, NULL, 0, &e), again;
    if (n < 0)
        td_check_failure(c, "encode", (int)n, &e);
    if (n < 0)
        return n;
    *ids = td_arena_alloc(c->arena, ((size_t)n + 2) * sizeof **ids);
    MUST(c, *ids, "out of memory");
    (*ids)[n] = (*ids)[n + 1] = -77;
    again = t->plugin->encode(t->state, text, (size_t)size, *ids, n, &e);
    MUST(c, again == n, "encode says %lld ids without room and %lld with it", (long long)n,
         (long long)again);
    MUST(c, (*ids)[n] == -77, "encode writes past its room of %lld", (long long)n);
    for (int64_t k = 0; k < n; k++)
        MUST(c, (*ids)[k] >= 0 && (*ids)[k] < t->special.vocab_size,
             "id %lld of a text is %d; the vocabulary has %d", (long long)k, (*ids)[k],
             t->special.vocab_size);
    if (n > 1) {
        int32_t *some = td_arena_alloc(c->arena, (size_t)n * sizeof *some);
        MUST(c, some, "out of memory");
        some[n - 1] = -77;
        again = t->plugin->encode(t->state, text, (size_t)size, some, n - 1, &e);
        MUST(c, again == n && some[n - 1] == -77,
             "with room for %lld of %lld ids encode gives %lld and %s", (long long)(n - 1),
             (long long)n, (long long)again, some[n - 1] == -77 ? "keeps to it" : "writes more");
    }
    return n;
}

static char *decode(td_check *c, const tokenizer *t, const int32_t *ids, int64_t n, int64_t *size)
{
    td_error e = { 0 };
    char    *text;
    *size = t->plugin->decode(t->state, ids, n, NULL, 0, &e);
    MUST(c, *size >= 0, "decode of what encode gave: %s", td_check_error(&e));
    text = td_arena_alloc(c->arena, (size_t)*size + 1);
    MUST(c, text, "out of memory");
    text[*size] = 77;
    MUST(c, t->plugin->decode(t->state, ids, n, text, *size, &e) == *size && text[*size] == 77,
         "decode says %lld bytes without room, and does otherwise with it", (long long)*size);
    if (*size > 0) {
        char last = text[*size - 1] = (char)~text[*size - 1];
        MUST(c,
             t->plugin->decode(t->state, ids, n, text, *size - 1, &e) == *size &&
                 text[*size - 1] == last,
             "with room for %lld of %lld bytes decode does not keep to it, or gives another number",
             (long long)*size - 1, (long long)*size);
        text[*size - 1] = (char)~last;
    }
    return text;
}

static void round_trip(td_check *c, const tokenizer *t, const char *text, int64_t size,
                       const char *what)
{
    int32_t *ids = NULL;
    int64_t  length, n = encode(c, t, text, size, &ids);
    char    *back;
    if (n < 0) {
        td_check_finding(c, "%s, %lld bytes: it is refused, though declared lossless", what,
                         (long long)size);
        return;
    }
    back = decode(c, t, ids, n, &length);
    if (length != size || memcmp(back, text, (size_t)size))
        td_check_finding(c, "%s: %lld bytes come back as %lld other ones ('%.*s' as '%.*s')", what,
                         (long long)size, (long long)length, (int)(size < 40 ? size : 40), text,
                         (int)(length < 40 ? length : 40), back);
}

/* Random code points as UTF-8, without U+2581 and 0; bytes written. */
static int64_t utf8(char *out, uint64_t seed, int64_t count)
{
    char *p = out;
    for (int64_t k = 0; k < count; k++) {
        static const uint32_t ranges[][2] = {
            { 32, 127 }, { 128, 0x7ff }, { 0x800, 0xd7ff }, { 0x10000, 0x10ffff }
        };
        uint64_t which = td_random_below(seed, 1, (uint64_t)k, 4);
        uint32_t low = ranges[which][0], x;
        x = low + (uint32_t)td_random_below(seed, 2, (uint64_t)k, ranges[which][1] - low);
        if (x == 0x2581)
            x = 'x';
        if (x < 0x80)
            *p++ = (char)x;
        else if (x < 0x800) {
            *p++ = (char)(0xc0 | x >> 6);
            *p++ = (char)(0x80 | (x & 63));
        } else if (x < 0x10000) {
            *p++ = (char)(0xe0 | x >> 12);
            *p++ = (char)(0x80 | (x >> 6 & 63));
            *p++ = (char)(0x80 | (x & 63));
        } else {
            *p++ = (char)(0xf0 | x >> 18);
            *p++ = (char)(0x80 | (x >> 12 & 63));
            *p++ = (char)(0x80 | (x >> 6 & 63));
            *p++ = (char)(0x80 | (x & 63));
        }
    }
    return p - out;
}

void td_check_round_trip(td_check *c)
{
    static const char *const texts[] = { "",
                                         " ",
                                         "  two  spaces ",
                                         "a",
                                         "\n\n\tx\n",
                                         "Straße, naïve",
                                         "the river falls slowly.",
                                         "\xe2\x82\xac\xf0\x9f\x98\x80" };
    tokenizer                t = tokenizer_under_test(c);
    char                     text[1300];
    if (!(t.plugin->flags & (TD_TOKENIZER_LOSSLESS_BYTES | TD_TOKENIZER_LOSSLESS_UTF8)))
        td_check_skip(c, "it declares nothing lossless");
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
        round_trip(c, &t, texts[k], (int64_t)strlen(texts[k]), "a text");
    round_trip(c, &t, "zero\0byte", 9, "a text with a zero byte");
    for (uint64_t k = 0; k < 200; k++)
        round_trip(c, &t, text, utf8(text, k, (int64_t)k), "random UTF-8");
    for (int k = 0; t.plugin->flags & TD_TOKENIZER_LOSSLESS_BYTES && k < 256; k++) {
        for (int i = 0; i < k; i++)
            text[i] = (char)td_random_below(4, (uint64_t)k, (uint64_t)i, 256);
        round_trip(c, &t, text, k, "random bytes");
        text[0] = (char)k;
        round_trip(c, &t, text, 1, "one byte");
    }
    t.plugin->close(t.state);
}

/* Every id has a piece, and what all of them depend on has a number, the same each time. */
static void check_names(td_check *c, const tokenizer *t)
{
    uint64_t one = 0, two = 1;
    td_error e = { 0 };
    for (int32_t id = 0; t->plugin->piece && id < t->special.vocab_size; id++)
        MUST(c, t->plugin->piece(t->state, id), "id %d of %d has no piece (NULL)", id,
             t->special.vocab_size);
    if (t->plugin->fingerprint)
        MUST(c,
             !t->plugin->fingerprint(t->state, &one, &e) &&
                 !t->plugin->fingerprint(t->state, &two, &e) && one == two,
             "fingerprint fails, or gives another number the second time: %s", e.text);
}

void td_check_ids(td_check *c)
{
    tokenizer t = tokenizer_under_test(c);
    int32_t  *ids, bad;
    td_error  e = { 0 };
    char      text[64];
    int32_t   special[] = { t.special.pad, t.special.bos, t.special.eos, t.special.unk };

    MUST(c, t.special.vocab_size > 0, "special gives a vocabulary of %d", t.special.vocab_size);
    for (int k = 0; k < 4; k++)
        if (special[k] < -1 || special[k] >= t.special.vocab_size)
            td_check_finding(c, "a special id is %d; the vocabulary has %d", special[k],
                             t.special.vocab_size);
    for (int32_t k = 0; k < t.special.sentinels; k++) {
        int32_t id = t.special.sentinel + k * t.special.sentinel_step;
        if (id < 0 || id >= t.special.vocab_size)
            td_check_finding(c, "sentinel %d is %d; the vocabulary has %d", k, id,
                             t.special.vocab_size);
    }
    encode(c, &t, "the river\xff\xfe falls", 17,
           &ids); /* no UTF-8: ids, or an error with a message */
    for (int k = 0; k < 2; k++) {
        int64_t n;
        bad = k ? -1 : t.special.vocab_size;
        e.code = 0;
        n = t.plugin->decode(t.state, &bad, 1, text, sizeof text, &e);
        if (n >= 0)
            td_check_finding(c, "decode takes id %d, which is outside of the vocabulary", bad);
        else
            td_check_failure(c, "decode", (int)n, &e);
    }
    check_names(c, &t);
    t.plugin->close(t.state);
}

typedef struct at_once {
    td_check  *c;
    tokenizer *t;
    uint64_t   hash[64];
} at_once;

static void encode_one(void *argument, int64_t i, int thread)
{
    at_once *a = argument;
    char     text[400];
    int32_t  ids[2000];
    int64_t  size = utf8(text, (uint64_t)i % 8, 90), n;
    td_error e = { 0 };
    n = a->t->plugin->encode(a->t->state, text, (size_t)size, ids, 2000, &e);
    a->hash[i] = n < 0 || n > 2000 ? 1
                                   : td_hash(td_random_stream(""), ids, (size_t)n * sizeof *ids);
}

void td_check_tokenizer_threads(td_check *c)
{
    tokenizer t = tokenizer_under_test(c);
    at_once   a = { .c = c, .t = &t };
    td_parallel(td_check_services(c, 4), 64, encode_one, &a);
    for (int k = 8; k < 64; k++)
        if (a.hash[k] != a.hash[k % 8]) {
            td_check_finding(c, "one text gives other ids when four threads encode at once");
            break;
        }
    t.plugin->close(t.state);
}

/* ---- data sources ---------------------------------------------------------------------------- */

typedef struct source {
    const td_data *plugin;
    void          *state;
    tokenizer      tokenizer;
    td_split_in    in;
} source;

enum { LENGTH = 64 };

/* The config's tokenizer, or the first that needs nothing. */
static tokenizer any_tokenizer(td_check *c)
{
    if (c->experiment && c->experiment->tokenizer.plugin)
        return opened(c, &c->experiment->tokenizer);
    td_registry_scan(c->registry);
    for (size_t i = 0; i < td_registry_count(c->registry); i++) {
        const td_plugin *p = td_registry_plugin(c->registry, i);
        td_part          part;
        if (!td_check_is_kind(p, TD_TOKENIZER_KIND) ||
            ((const td_tokenizer *)(const void *)p)->train)
            continue;
        part = td_check_default(c, TD_TOKENIZER_KIND, p->name);
        return opened(c, &part);
    }
    MUST(c, false, "there is no tokenizer to read text with");
    return (tokenizer){ 0 };
}

/* Behind what a plugin asks for comes memory that cannot be touched. */
static void *allocate(void *check, size_t bytes) { return td_check_guarded(check, bytes); }

static source source_opened_with(td_check *c, const char *cache, uint64_t seed)
{
    td_part    part = td_check_part(c);
    source     s = { .plugin = (const void *)part.plugin, .tokenizer = any_tokenizer(c) };
    td_data_in in = { .services = td_check_services(c, 2),
                      .tokenizer = s.tokenizer.plugin,
                      .tokenizer_state = s.tokenizer.state,
                      .special = s.tokenizer.special,
                      .tokenizer_id = "check",
                      .length = LENGTH,
                      .held_out_length = LENGTH,
                      .seed = seed,
                      .cache = cache };
    td_error   e = { 0 };
    int        code;
    td_check_need_options(c);
    code = s.plugin->open(part.config, &in, &s.state, &e);
    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "it cannot be opened: %s", td_check_error(&e));
    s.in = (td_split_in){ .special = in.special, .seed = 5, .allocate = allocate, .arena = c };
    return s;
}

static source source_opened(td_check *c, const char *cache)
{
    return source_opened_with(c, cache, 5);
}

static void source_close(source *s)
{
    s->plugin->close(s->state);
    s->tokenizer.plugin->close(s->tokenizer.state);
}

static uint64_t hash_record(const td_record *r)
{
    uint64_t h = td_hash(td_random_stream(""), &r->source, sizeof r->source);
    h = td_hash(h, &r->n_inputs, r->inputs ? sizeof r->n_inputs : 0);
    h = td_hash(h, r->inputs, r->inputs ? (size_t)r->n_inputs * sizeof *r->inputs : 0);
    h = td_hash(h, r->targets, (size_t)r->n_targets * sizeof *r->targets);
    return td_hash(h, &r->id, sizeof r->id);
}

static uint64_t check_record(td_check *c, const source *s, const td_record *r, const char *what)
{
    const int32_t *of[] = { r->inputs, r->targets };
    int64_t        n[] = { r->inputs ? r->n_inputs : 0, r->n_targets };
    MUST(c, n[0] >= 0 && n[1] >= 0 && n[0] + n[1] > 0, "%s has %lld inputs and %lld targets", what,
         (long long)n[0], (long long)n[1]);
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < n[k]; i++)
            MUST(c, of[k][i] >= 0 && of[k][i] < s->tokenizer.special.vocab_size,
                 "%s: token %lld is %d; the vocabulary has %d", what, (long long)i, of[k][i],
                 s->tokenizer.special.vocab_size);
    MUST(c, r->source >= 0 && r->source < s->plugin->sources(s->state),
         "%s says it is of source %d", what, r->source);
    return hash_record(r);
}

static uint64_t fetched(td_check *c, const source *s, uint64_t index)
{
    td_record r = { 0 };
    td_error  e = { 0 };
    int       code = s->plugin->fetch(s->state, index, &s->in, &r, &e);
    if (code)
        td_check_failure(c, "fetch", code, &e);
    MUST(c, !code, "training record %llu: %s", (unsigned long long)index, td_check_error(&e));
    return check_record(c, s, &r, "a training record");
}

/* Records of a batch are all fetched before the first one is looked at. */
static void check_kept(td_check *c, const source *s)
{
    td_record first = { 0 };
    td_error  e = { 0 };
    uint64_t  before;
    MUST(c, !s->plugin->fetch(s->state, 0, &s->in, &first, &e), "training record 0: %s",
         td_check_error(&e));
    before = hash_record(&first);
    for (uint64_t k = 1; k < 8; k++)
        fetched(c, s, k);
    if (hash_record(&first) != before)
        td_check_finding(c, "a record is overwritten by those fetched after it: take its memory "
                            "from in->allocate, or point to what stays as it is");
}

enum { RECORDS = 200 };

void td_check_data(td_check *c)
{
    source   s = source_opened(c, td_check_directory(c));
    td_error e = { 0 };
    int64_t  sources = s.plugin->sources(s.state);
    MUST(c, sources > 0, "it has %lld sources", (long long)sources);
    for (int64_t k = 0; k < sources; k++) {
        const char *name = s.plugin->source_name(s.state, k);
        int64_t     n = s.plugin->held_out(s.state, k);
        if (!name || !*name)
            td_check_finding(c, "source %lld has no name", (long long)k);
        for (int64_t i = 0; i < n && i < 20; i++) {
            td_record r = { 0 };
            MUST(c, !s.plugin->fetch_held_out(s.state, k, i, &s.in, &r, &e),
                 "held-out record %lld: %s", (long long)i, td_check_error(&e));
            check_record(c, &s, &r, "a held-out record");
        }
    }
    check_kept(c, &s);
    for (uint64_t k = 0; k < RECORDS; k++)
        fetched(c, &s, k);
    fetched(c, &s, (uint64_t)1 << 33); /* without end */
    source_close(&s);
}

static uint64_t tokens_of(const td_record *r)
{
    uint64_t h = td_random_stream("");
    if (r->inputs)
        h = td_hash(h, r->inputs, (size_t)r->n_inputs * sizeof *r->inputs);
    return td_hash(h, r->targets, (size_t)r->n_targets * sizeof *r->targets);
}

/* How many of the held-out records are among the first of training. */
static int64_t seen_in_training(td_check *c, const source *s, int64_t which, int64_t count)
{
    td_error e = { 0 };
    int64_t  seen = 0;
    for (int64_t i = 0; i < count; i++) {
        td_record r = { 0 }, t = { 0 };
        MUST(c, !s->plugin->fetch_held_out(s->state, which, i, &s->in, &r, &e), "%s",
             td_check_error(&e));
        uint64_t want = tokens_of(&r);
        for (uint64_t k = 0; k < RECORDS; k++)
            if (!s->plugin->fetch(s->state, k, &s->in, &t, &e) && tokens_of(&t) == want) {
                seen++;
                break;
            }
    }
    return seen;
}

void td_check_data_seed(td_check *c)
{
    const char *cache = td_check_directory(c);
    source      s = source_opened(c, cache);
    uint64_t    first[RECORDS];
    bool        differs = false;
    td_error    e = { 0 };
    for (int64_t k = 0; k < s.plugin->sources(s.state); k++) {
        td_record r = { 0 };
        int64_t   n = s.plugin->held_out(s.state, k), some = n < 8 ? n : 8;
        if (some > 2 && seen_in_training(c, &s, k, some) == some)
            td_check_finding(c, "the held-out records of source %lld are records of training",
                             (long long)k);
        if (!s.plugin->fetch_held_out(s.state, k, n, &s.in, &r, &e))
            td_check_finding(c, "source %lld has %lld held-out records, and gives one more",
                             (long long)k, (long long)n);
    }
    for (uint64_t k = 0; k < RECORDS; k++)
        first[k] = fetched(c, &s, k);
    source_close(&s);
    s = source_opened_with(c, cache, 77);
    for (uint64_t k = 0; k < RECORDS; k++)
        differs = differs || fetched(c, &s, k) != first[k];
    if (!differs)
        td_check_finding(c, "another seed gives the same %d records in the same order", RECORDS);
    source_close(&s);
}

static void fetch_some(td_check *c, void *argument)
{
    for (uint64_t k = 0; k < 3; k++)
        fetched(c, argument, 7 * k);
}

void td_check_data_leak(td_check *c)
{
    source s = source_opened(c, td_check_directory(c));
    td_check_leak(c, "fetching records", fetch_some, &s);
    source_close(&s);
}

/* Opened again, and asked from any record on, it gives the same. */
void td_check_data_resumed(td_check *c)
{
    const char *cache = td_check_directory(c);
    source      s = source_opened(c, cache);
    uint64_t    want[RECORDS], print = s.plugin->fingerprint ? s.plugin->fingerprint(s.state) : 0;
    for (uint64_t k = 0; k < RECORDS; k++)
        want[k] = fetched(c, &s, k);
    source_close(&s);
    s = source_opened(c, cache);
    if (s.plugin->fingerprint && s.plugin->fingerprint(s.state) != print)
        td_check_finding(c, "opened again, its fingerprint is another: a run could not be resumed");
    for (uint64_t k = RECORDS; k-- > 0;)
        if (fetched(c, &s, k) != want[k]) {
            td_check_finding(c,
                             "record %llu is another one when it is asked for after others: draw "
                             "numbers from (seed, index), keep no cursor",
                             (unsigned long long)k);
            break;
        }
    source_close(&s);
}

/* ---- communicators --------------------------------------------------------------------------- */

static void join_and_leave(td_check *c, void *argument)
{
    const td_part *part = argument;
    const td_comm *m = (const void *)part->plugin;
    void          *state = NULL;
    td_error       e = { 0 };
    MUST(c, !m->open(part->config, td_check_services(c, 1), &state, &e), "open: %s",
         td_check_error(&e));
    m->close(state);
}

void td_check_comm_leak(td_check *c)
{
    td_part part = td_check_part(c);
    td_check_need_options(c);
    td_check_leak(c, "opening and closing", join_and_leave, &part);
}

void td_check_comm(td_check *c)
{
    td_part        part = td_check_part(c);
    const td_comm *m = (const void *)part.plugin;
    void          *state = NULL;
    td_error       e = { 0 };
    float          narrow[] = { 1, -2, 0.5f };
    double         wide[] = { 1, -2, 0.5 };
    int            size, rank, code = m->open(part.config, td_check_services(c, 1), &state, &e);

    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "it cannot be opened: %s", td_check_error(&e));
    size = m->size ? m->size(state) : 1;
    rank = m->rank ? m->rank(state) : 0;
    MUST(c, size >= 1 && rank >= 0 && rank < size, "it says rank %d of %d", rank, size);
    MUST(c,
         !m->all_reduce(state, narrow, 3, TD_F32, &e) &&
             !m->all_reduce(state, wide, 3, TD_F64, &e) &&
             !m->all_reduce(state, wide, 0, TD_F64, &e),
         "all_reduce: %s", td_check_error(&e));
    for (int k = 0; k < 3; k++)
        if (narrow[k] != (float)(size * (k == 0   ? 1
                                         : k == 1 ? -2
                                                  : 0.5)) ||
            (double)narrow[k] != wide[k])
            td_check_finding(c, "all_reduce over %d processes that all have %g gives %g", size,
                             k == 0   ? 1
                             : k == 1 ? -2
                                      : 0.5,
                             (double)narrow[k]);
    if (m->broadcast)
        MUST(c, !m->broadcast(state, wide, sizeof wide, 0, &e) && wide[0] == size, "broadcast: %s",
             td_check_error(&e));
    if (m->barrier)
        MUST(c, !m->barrier(state, &e), "barrier: %s", td_check_error(&e));
    m->close(state);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void open_and_close(td_check *c, void *argument)
{
    tokenizer t = opened(c, argument);
    t.plugin->close(t.state);
}

/* Encoding and decoding again and again. */
static void use_tokenizer(td_check *c, void *argument)
{
    const tokenizer *t = argument;
    int32_t          ids[200];
    char             text[400];
    td_error         e = { 0 };
    int64_t          n = t->plugin->encode(t->state, "the river falls", 15, ids, 200, &e);
    if (n > 0 && n <= 200)
        t->plugin->decode(t->state, ids, n, text, sizeof text, &e);
}

void td_check_tokenizer_leak(td_check *c)
{
    td_part   part = td_check_part(c);
    tokenizer t = tokenizer_under_test(c);
    td_check_leak(c, "encoding and decoding", use_tokenizer, &t);
    t.plugin->close(t.state);
    if (!((const td_tokenizer *)(const void *)c->plugin)->train)
        td_check_leak(c, "opening and closing", open_and_close, &part);
}
