/* data.c - requirements on every data source: records by number, always the same, with held-out
 * ones kept separate from training.
 *
 * A source with a cursor works until the first restart, and then trains on different text from an
 * uninterrupted run. So each source is opened twice over one cache, and read in a different order.
 */
#include "tandem/kind/data.h"

#include "check/cases.h"
#include "check/tokenizer.h"
#include "tandem/random.h"

/* Tokens of a record, and how many training records a test looks at. */
enum { LENGTH = 64, RECORDS = 200 };

/* An opened source, with the tokenizer that it was opened with. */
typedef struct source {
    const td_data     *plugin;
    void              *state;
    td_check_tokenizer tokenizer;
    td_split_in        in;
    td_pair            pair; /* the promised size of pairs; zeros: running text */
} source;

/* ---- opening --------------------------------------------------------------------------------- */

/* The config's tokenizer, or the first that needs no model file. */
static td_check_tokenizer any_tokenizer(td_check *c)
{
    if (c->experiment && c->experiment->tokenizer.plugin)
        return td_check_open_tokenizer(c, &c->experiment->tokenizer);
    /* the source under test is loaded; tokenizers may not be yet */
    td_registry_scan(c->registry);
    for (size_t i = 0; i < td_registry_count(c->registry); i++) {
        const td_plugin *p = td_registry_plugin(c->registry, i);
        td_part          part;
        if (!td_check_is_kind(p, TD_TOKENIZER_KIND) ||
            ((const td_tokenizer *)(const void *)p)->train)
            continue;
        part = td_check_default(c, TD_TOKENIZER_KIND, p->name);
        return td_check_open_tokenizer(c, &part);
    }
    MUST(c, false,
         "no tokenizer was found to read text with: add its directory with --plugin-path");
    return (td_check_tokenizer){ 0 };
}

/* Guarded, so that a source which writes beyond its allocation crashes at once. */
static void *allocate(void *check, size_t bytes) { return td_check_guarded(check, bytes); }

/* Open the source under test for records of LENGTH tokens. */
static source source_opened_with(td_check *c, const char *cache, uint64_t seed, bool held_out_only)
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
                      .cache = cache,
                      .held_out_only = held_out_only };
    td_error   e = { 0 };
    int        code;
    /* sources nearly always need a path, which no test can make up */
    td_check_need_options(c);
    code = s.plugin->open(part.config, &in, &s.state, &e);
    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "it cannot be opened: %s", td_check_error(&e));
    /* not the seed that the order is drawn from: a source must not confuse the two */
    if (s.plugin->pair)
        s.pair = s.plugin->pair(part.config);
    s.in = (td_split_in){ .special = in.special, .seed = 5, .allocate = allocate, .arena = c };
    return s;
}

static source source_opened(td_check *c, const char *cache)
{
    return source_opened_with(c, cache, 5, false);
}

static void source_close(source *s)
{
    s->plugin->close(s->state);
    s->tokenizer.plugin->close(s->tokenizer.state);
}

/* ---- records --------------------------------------------------------------------------------- */

/* A hash of the tokens alone: two records with the same text are equal, whatever their numbers. */
static uint64_t hash_tokens(const td_record *r)
{
    uint64_t h = td_random_stream("");
    if (r->inputs)
        h = td_hash(h, r->inputs, (size_t)r->n_inputs * sizeof *r->inputs);
    return td_hash(h, r->targets, (size_t)r->n_targets * sizeof *r->targets);
}

/* A hash of everything that training depends on. */
static uint64_t hash_record(const td_record *r)
{
    /* absent inputs are hashed as nothing, and not as a run of length 0 */
    uint64_t h = td_hash(td_random_stream(""), &r->source, sizeof r->source);
    h = td_hash(h, &r->n_inputs, r->inputs ? sizeof r->n_inputs : 0);
    h = td_hash(h, r->inputs, r->inputs ? (size_t)r->n_inputs * sizeof *r->inputs : 0);
    h = td_hash(h, r->targets, (size_t)r->n_targets * sizeof *r->targets);
    return td_hash(h, &r->id, sizeof r->id);
}

/* Batches are sized by the result of `pair`, before any record is read. */
static void check_pair(td_check *c, const source *s, const td_record *r, const char *what)
{
    if (!s->plugin->pair)
        return;
    MUST(c, s->pair.inputs > 0 && s->pair.targets > 0,
         "pair returns %lld inputs and %lld targets; both must be 1 or more",
         (long long)s->pair.inputs, (long long)s->pair.targets);
    MUST(c, r->inputs, "%s is running text, though `pair` promises pairs", what);
    MUST(c, r->n_inputs <= s->pair.inputs && r->n_targets <= s->pair.targets,
         "%s has %lld inputs and %lld targets: larger than the pair of %lld and %lld that `pair` "
         "promises",
         what, (long long)r->n_inputs, (long long)r->n_targets, (long long)s->pair.inputs,
         (long long)s->pair.targets);
}

/* Check one record; returns its hash. */
static uint64_t check_record(td_check *c, const source *s, const td_record *r, const char *what)
{
    const int32_t *of[] = { r->inputs, r->targets };
    int64_t        n[] = { r->inputs ? r->n_inputs : 0, r->n_targets };
    MUST(c, n[0] >= 0 && n[1] >= 0 && n[0] + n[1] > 0, "%s has %lld inputs and %lld targets", what,
         (long long)n[0], (long long)n[1]);
    check_pair(c, s, r, what);
    /* an id beyond the vocabulary would read beyond the embedding table */
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < n[k]; i++)
            MUST(c, of[k][i] >= 0 && of[k][i] < s->tokenizer.special.vocab_size,
                 "%s: token %lld is %d, outside the vocabulary of %d", what, (long long)i, of[k][i],
                 s->tokenizer.special.vocab_size);
    MUST(c, r->source >= 0 && r->source < s->plugin->sources(s->state),
         "%s has source %d, but there are %lld sources", what, r->source,
         (long long)s->plugin->sources(s->state));
    return hash_record(r);
}

/* Fetch, check and hash a training record. */
static uint64_t fetched(td_check *c, const source *s, uint64_t index)
{
    td_record r = { 0 };
    td_error  e = { 0 };
    int       code = s->plugin->fetch(s->state, index, &s->in, &r, &e);
    /* a message that explains nothing is a separate finding */
    if (code)
        td_check_failure(c, "fetch", code, &e);
    MUST(c, !code, "training record %llu cannot be fetched: %s", (unsigned long long)index,
         td_check_error(&e));
    return check_record(c, s, &r, "a training record");
}

/* A batch's records are all fetched before the first one is read. */
static void check_kept(td_check *c, const source *s)
{
    td_record first = { 0 };
    td_error  e = { 0 };
    uint64_t  before;
    MUST(c, !s->plugin->fetch(s->state, 0, &s->in, &first, &e),
         "training record 0 cannot be fetched: %s", td_check_error(&e));
    /* hashed now, and again after others have been fetched, perhaps into the same buffer */
    before = hash_record(&first);
    for (uint64_t k = 1; k < 8; k++)
        fetched(c, s, k);
    if (hash_record(&first) != before)
        td_check_finding(c, "a record is overwritten by later ones: take its memory from "
                            "in->allocate, or point to memory that does not change");
}

/* The name and the first held-out records of source k. */
static void check_held_out(td_check *c, const source *s, int64_t k)
{
    const char *name = s->plugin->source_name(s->state, k);
    int64_t     n = s->plugin->held_out(s->state, k);
    if (!name || !*name)
        td_check_finding(c, "source %lld has no name", (long long)k);
    /* 20 are enough: held-out parts may be large, and all records are made the same way */
    for (int64_t i = 0; i < n && i < 20; i++) {
        td_record r = { 0 };
        td_error  e = { 0 };
        MUST(c, !s->plugin->fetch_held_out(s->state, k, i, &s->in, &r, &e),
             "held-out record %lld of source %lld cannot be fetched: %s", (long long)i,
             (long long)k, td_check_error(&e));
        check_record(c, s, &r, "a held-out record");
    }
}

void td_check_data(td_check *c)
{
    source  s = source_opened(c, td_check_directory(c));
    int64_t sources = s.plugin->sources(s.state);
    /* metrics are kept per source, so there must be one */
    MUST(c, sources > 0, "sources returns %lld; it must be at least 1", (long long)sources);
    for (int64_t k = 0; k < sources; k++)
        check_held_out(c, &s, k);
    check_kept(c, &s);
    for (uint64_t k = 0; k < RECORDS; k++)
        fetched(c, &s, k);
    /* far beyond one epoch, and beyond 32 bits */
    fetched(c, &s, (uint64_t)1 << 33);
    source_close(&s);
}

/* ---- order ----------------------------------------------------------------------------------- */

/* The number of the first `count` held-out records that also occur among the first training
 * records. */
static int64_t seen_in_training(td_check *c, const source *s, int64_t which, int64_t count)
{
    td_error e = { 0 };
    int64_t  seen = 0;
    for (int64_t i = 0; i < count; i++) {
        td_record r = { 0 }, t = { 0 };
        MUST(c, !s->plugin->fetch_held_out(s->state, which, i, &s->in, &r, &e), "%s",
             td_check_error(&e));
        /* compared by text: a copy counts, whatever its number */
        uint64_t want = hash_tokens(&r);
        for (uint64_t k = 0; k < RECORDS; k++)
            if (!s->plugin->fetch(s->state, k, &s->in, &t, &e) && hash_tokens(&t) == want) {
                seen++;
                break;
            }
    }
    return seen;
}

/* Held-out records of source k are finite in number, and are not training records. */
static void check_apart(td_check *c, const source *s, int64_t k)
{
    td_record r = { 0 };
    td_error  e = { 0 };
    int64_t   n = s->plugin->held_out(s->state, k), some = n < 8 ? n : 8;
    /* one or two may coincide by chance in a small corpus; all of them do not */
    if (some > 2 && seen_in_training(c, s, k, some) == some)
        td_check_finding(c, "the held-out records of source %lld are also training records",
                         (long long)k);
    if (!s->plugin->fetch_held_out(s->state, k, n, &s->in, &r, &e))
        td_check_finding(c,
                         "source %lld has %lld held-out records, but fetch_held_out returns one "
                         "more: fail with TD_EEND",
                         (long long)k, (long long)n);
}

void td_check_data_seed(td_check *c)
{
    const char *cache = td_check_directory(c);
    source      s = source_opened(c, cache);
    uint64_t    first[RECORDS];
    bool        differs = false;
    /* held-out records must not depend on the seed, but training records must */
    for (int64_t k = 0; k < s.plugin->sources(s.state); k++)
        check_apart(c, &s, k);
    for (uint64_t k = 0; k < RECORDS; k++)
        first[k] = fetched(c, &s, k);
    source_close(&s);
    s = source_opened_with(c, cache, 77, false);
    for (uint64_t k = 0; k < RECORDS; k++)
        differs = differs || fetched(c, &s, k) != first[k];
    if (!differs)
        td_check_finding(c,
                         "another seed yields the same %d records in the same order: shuffle by "
                         "in->seed",
                         RECORDS);
    source_close(&s);
}

/* Opened again and read backwards, which no resumed run does, but which exposes any cursor. */
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
        td_check_finding(c, "when opened again, it has a different fingerprint, so no run could be "
                            "resumed");
    /* backwards: no source can have read ahead in this order */
    for (uint64_t k = RECORDS; k-- > 0;)
        if (fetched(c, &s, k) != want[k]) {
            td_check_finding(c,
                             "record %llu differs when it is fetched after others: derive it from "
                             "(seed, index), and keep no cursor",
                             (unsigned long long)k);
            break;
        }
    source_close(&s);
}

/* ---- held-out records alone ------------------------------------------------------------------ */

/* One hash for the first held-out records of all sources, and their numbers. */
static uint64_t hash_held_out(td_check *c, const source *s)
{
    uint64_t h = td_random_stream("");
    for (int64_t k = 0; k < s->plugin->sources(s->state); k++) {
        int64_t n = s->plugin->held_out(s->state, k);
        h = td_hash(h, &n, sizeof n);
        for (int64_t i = 0; i < n && i < 20; i++) {
            td_record r = { 0 };
            td_error  e = { 0 };
            uint64_t  own;
            MUST(c, !s->plugin->fetch_held_out(s->state, k, i, &s->in, &r, &e),
                 "held-out record %lld of source %lld cannot be fetched: %s", (long long)i,
                 (long long)k, td_check_error(&e));
            own = hash_record(&r);
            h = td_hash(h, &own, sizeof own);
        }
    }
    return h;
}

/* An evaluation must score the same text as the training did. */
void td_check_data_held_out(td_check *c)
{
    const char *cache = td_check_directory(c);
    source      s = source_opened_with(c, cache, 5, true);
    uint64_t    alone = hash_held_out(c, &s), together;
    source_close(&s);
    s = source_opened_with(c, cache, 5, false);
    together = hash_held_out(c, &s);
    source_close(&s);
    if (alone != together)
        td_check_finding(c, "its held-out records differ when it is opened for them alone "
                            "(in->held_out_only)");
}

/* ---- leaks ----------------------------------------------------------------------------------- */

/* Not consecutive ones: a source may keep the last records it made. */
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
