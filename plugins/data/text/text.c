/* text.c - data 'text': runs of tokens from text files, several sources mixed by rate.
 *
 * The tokens of a source are one long run, cut into records of a fixed length regardless of
 * document borders; only held-out records can be limited to single documents. The order of records
 * is a function of the seed and the record's number (common/order.h), so there is no position to
 * save, and any number of workers can fetch at the same time. */
#include "text.h"

#include <stdlib.h>
#include <string.h>

#include "common/megatron.h"
#include "common/reader.h"
#include "common/shard.h"

static const td_option source_options[] = { MIXED_SOURCE_OPTIONS("Megatron's .bin; .jsonl or .txt"),
                                            TD_OPTION_END };

static const td_option options[] = {
    TD_OPTION_LIST(text_config, sources, text_source, source_options, "sources to read"),
    TD_OPTION_STRING(text_config, text, "text", "key of the text in a JSON line"),
    TD_OPTION_INT(text_config, max_bad_lines, 0, 0, 1e12,
                  "number of bad lines that may be skipped in each source"),
    TD_OPTION_BOOL(text_config, mask_documents, false,
                   "let tokens attend only to tokens of their own document"),
    TD_OPTION_BOOL(text_config, shuffle, true,
                   "a new order in every epoch; false: the order of the files"),
    TD_OPTION_END
};

typedef struct opened {
    const char *name;
    shard       train, held_out;
    int64_t     runs, held_runs; /* records of each */
    /* the first token of each held-out record; NULL: records are adjacent */
    int64_t    *held_begins;
    uint64_t    stream; /* random stream of its order */
} opened;

typedef struct state {
    text_config config;
    int64_t     length, held_length, count;
    uint64_t    seed;
    bool        held_out_only; /* no training text is open */
    opened     *sources;
    mixture     mixture;
} state;

static const text_source *source_at(const text_config *c, size_t i)
{
    return mixture_at(c->sources, sizeof(text_source), i);
}

static int check(const void *config, td_error *error)
{
    const text_config *c = config;
    return mixture_check(c->sources, sizeof(text_source), error);
}

static bool has_text(const void *config, const char *path, const td_services *services)
{
    const text_config *c = config;
    int64_t            bad = 0;
    const char        *text;
    size_t             size;
    td_error           e = { 0 };
    reader *r = megatron_is(path) ? NULL : reader_open(path, c->text, &bad, services, &e);
    bool    has = !r || reader_next(r, &text, &size, &e) != TD_EEND;
    reader_close(r);
    return has;
}

static int check_sources(const text_config *c, bool held_out_only, const td_services *services,
                         td_error *error)
{
    return source_check_files(c->sources.at, c->sources.count, sizeof(text_source), held_out_only,
                              (source_reads){ has_text, c }, services, error);
}

static int check_files(const void *config, const td_services *services, td_error *error)
{
    return check_sources(config, false, services, error);
}

static int prepare(const void *config, const td_data_in *in, td_error *error)
{
    const text_config *c = config;
    char               path[4096];
    int                code = check_files(c, in->services, error);
    for (size_t i = 0; i < c->sources.count && !code; i++) {
        const data_source *s = &source_at(c, i)->from;
        code = text_prepare(c, s, PART_TRAIN, in, path, error);
        if (!code && source_holds_out(s))
            code = text_prepare(c, s, PART_HELD_OUT, in, path, error);
    }
    return code;
}

/* ---- open and close -------------------------------------------------------------------------- */

/* Opens the shard of a part, after making it if necessary. *runs: how many records it has. */
static int open_part(const text_config *c, const data_source *s, int part, const td_data_in *in,
                     shard *out, int64_t *runs, td_error *error)
{
    char    path[4096];
    bool    train = part == PART_TRAIN;
    int64_t length = train ? in->length : in->held_out_length;
    int     code = text_prepare(c, s, part, in, path, error);
    if (!code)
        code = shard_open(out, path, in->special.vocab_size, error);
    /* the tokens after the last complete record are never read */
    *runs = code ? 0 : out->tokens / length;
    if (!code && !*runs)
        code = td_fail(
            error, TD_ECONFIG,
            "data source '%s': its %s text has %lld tokens, but a record needs %lld: add text or "
            "reduce %s",
            s->name, train ? "training" : "held-out", (long long)out->tokens, (long long)length,
            train ? "train.length" : "evaluate.length");
    return code;
}

/* Counts the records of `length` tokens that are within one document, in the order of the text, and
 * stores their first tokens in `begins` unless that is NULL. */
static int64_t within_documents(const shard *from, int64_t length, int64_t *begins)
{
    int64_t n = 0;
    for (int64_t d = 0; d < from->documents; d++) {
        int64_t end = shard_document(from, d + 1);
        for (int64_t at = shard_document(from, d); at + length <= end; at += length, n++)
            if (begins)
                begins[n] = at;
    }
    return n;
}

/* Opens the held-out part, of which only long documents are used: there may be none. */
static int open_documents(const text_config *c, const data_source *from, const td_data_in *in,
                          opened *to, td_error *error)
{
    char path[4096];
    int  code = text_prepare(c, from, PART_HELD_OUT, in, path, error);
    if (!code)
        code = shard_open(&to->held_out, path, in->special.vocab_size, error);
    if (code)
        return code;
    to->held_runs = within_documents(&to->held_out, in->held_out_length, NULL);
    to->held_begins = calloc((size_t)to->held_runs + 1, sizeof *to->held_begins);
    if (!to->held_begins)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld held-out records",
                       (long long)to->held_runs);
    within_documents(&to->held_out, in->held_out_length, to->held_begins);
    return 0;
}

static int open_source(state *s, size_t i, const td_data_in *in, td_error *error)
{
    const data_source *from = &source_at(&s->config, i)->from;
    opened            *to = &s->sources[i];
    to->name = from->name;
    to->stream = td_random_stream(from->name);
    int code = in->held_out_only
                   ? 0
                   : open_part(&s->config, from, PART_TRAIN, in, &to->train, &to->runs, error);
    if (code || !source_holds_out(from))
        return code;
    return in->whole_documents ? open_documents(&s->config, from, in, to, error)
                               : open_part(&s->config, from, PART_HELD_OUT, in, &to->held_out,
                                           &to->held_runs, error);
}

/* Without rates, sources are weighted by their number of records. */
static int mix(state *s, const td_services *services, td_error *error)
{
    double *sizes = calloc((size_t)s->count, sizeof *sizes);
    if (!sizes)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld data sources",
                       (long long)s->count);
    for (int64_t i = 0; i < s->count; i++)
        sizes[i] = (double)s->sources[i].runs;
    int code = mixture_open(&s->mixture, s->config.sources, sizeof(text_source), sizes, s->seed,
                            services, error);
    free(sizes);
    return code;
}

/* Also frees a state that open_text left incomplete. */
static void close_text(void *state_)
{
    state *s = state_;
    if (!s)
        return;
    for (int64_t i = 0; s->sources && i < s->count; i++) {
        shard_close(&s->sources[i].train);
        shard_close(&s->sources[i].held_out);
        free(s->sources[i].held_begins);
    }
    mixture_close(&s->mixture);
    free(s->sources);
    free(s);
}

/* NULL: no memory. */
static state *new_state(const text_config *c, const td_data_in *in)
{
    size_t count = c->sources.count;
    state *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    *s = (state){ .config = *c,
                  .length = in->length,
                  .held_length = in->held_out_length,
                  .count = (int64_t)count,
                  .seed = in->seed,
                  .held_out_only = in->held_out_only };
    s->sources = calloc(count, sizeof *s->sources);
    if (s->sources)
        return s;
    close_text(s);
    return NULL;
}

static int open_text(const void *config, const td_data_in *in, void **out, td_error *error)
{
    const text_config *c = config;
    state             *s = new_state(c, in);
    int                code = 0;

    if (!s)
        return td_fail(error, TD_ENOMEM, "out of memory for %zu data sources", c->sources.count);
    if (in->length < 1 || in->held_out_length < 1)
        code =
            td_fail(error, TD_ECONFIG,
                    "data 'text' cannot make records of %lld tokens and held-out records of %lld",
                    (long long)in->length, (long long)in->held_out_length);
    /* checked before any shard is made, which may take hours */
    if (!code)
        code = check_sources(c, in->held_out_only, in->services, error);
    for (size_t i = 0; !code && i < c->sources.count; i++)
        code = open_source(s, i, in, error);
    if (!code && !in->held_out_only)
        code = mix(s, in->services, error);
    if (!code)
        *out = s;
    else
        close_text(s);
    return code;
}

/* ---- records --------------------------------------------------------------------------------- */

/* Numbers the documents of a run from 1, for masks: out[i] is the document of token i. */
static void number_documents(const shard *from, int64_t begin, int64_t count, int32_t *out)
{
    int64_t document = shard_find(from, begin), next = shard_document(from, document + 1);
    int32_t number = 1;
    for (int64_t i = 0; i < count; i++) {
        while (begin + i >= next) {
            next = shard_document(from, ++document + 1);
            number++;
        }
        out[i] = number;
    }
}

/* The first token of a held-out record. */
static int64_t held_begin(const state *s, const opened *from, int64_t run)
{
    return from->held_begins ? from->held_begins[run] : run * s->held_length;
}

/* `length` tokens from `begin` on. Records live in the caller's arena. */
static int read_run(const state *s, const shard *from, int64_t begin, int64_t length,
                    const td_split_in *in, td_record *out, td_error *error)
{
    size_t   bytes = (size_t)length * sizeof(int32_t);
    int32_t *ids = in->allocate(in->arena, bytes);
    int32_t *documents = s->config.mask_documents ? in->allocate(in->arena, bytes) : NULL;

    if (!ids || (s->config.mask_documents && !documents))
        return td_fail(error, TD_ENOMEM, "out of memory for a record of %lld tokens",
                       (long long)length);
    /* before the tokens are read: a file that was replaced has other ones */
    int code = shard_unchanged(from, error);
    if (!code)
        code = shard_tokens(from, begin, length, ids, error);
    if (code)
        return code;
    if (documents)
        number_documents(from, begin, length, documents);
    out->targets = ids;
    out->n_targets = length;
    out->documents = documents;
    return 0;
}

/* Record `index` of the run: its source by the block's pattern, then that source's next record, in
 * an order that each epoch permutes anew. */
static int fetch(void *state_, uint64_t index, const td_split_in *in, td_record *out,
                 td_error *error)
{
    const state *s = state_;
    uint64_t     ordinal;
    int64_t      source;
    if (s->held_out_only)
        return td_fail(error, TD_ECONFIG, "the data was opened for its held-out records only");
    source = mixture_source(&s->mixture, index, &ordinal);
    opened  *from = &s->sources[source];
    uint64_t runs = (uint64_t)from->runs, epoch = ordinal / runs, run = ordinal % runs;

    if (s->config.shuffle)
        run = order_permute(s->seed, from->stream + epoch, run, runs);
    *out = (td_record){ .source = (int32_t)source, .id = index };
    /* records are adjacent */
    return read_run(s, &from->train, (int64_t)run * s->length, s->length, in, out, error);
}

/* Held-out records are never shuffled: an evaluation is the same every time. */
static int fetch_held_out(void *state_, int64_t source, int64_t index, const td_split_in *in,
                          td_record *out, td_error *error)
{
    const state *s = state_;
    if (source < 0 || source >= s->count || index < 0 || index >= s->sources[source].held_runs)
        return td_fail(error, TD_EEND, "held-out record %lld of source %lld does not exist",
                       (long long)index, (long long)source);
    *out = (td_record){ .source = (int32_t)source, .id = (uint64_t)index };
    return read_run(s, &s->sources[source].held_out, held_begin(s, &s->sources[source], index),
                    s->held_length, in, out, error);
}

/* The number of bytes of text that the record has from `from_token` on, for bits per byte; -1:
 * no such record. A document's bytes are spread evenly over its tokens. Shares are differences
 * of rounded sums, so that those of all records within a document add up exactly. */
static int64_t held_out_bytes(void *state_, int64_t source, int64_t index, int64_t from_token)
{
    const state *s = state_;
    if (source < 0 || source >= s->count || index < 0 || index >= s->sources[source].held_runs ||
        from_token < 0 || from_token > s->held_length ||
        shard_unchanged(&s->sources[source].held_out, NULL))
        return -1;
    /* only tokens from `begin` to `end` are scored */
    const shard *h = &s->sources[source].held_out;
    int64_t      first_token = held_begin(s, &s->sources[source], index);
    int64_t      begin = first_token + from_token, end = first_token + s->held_length, total = 0;
    for (int64_t d = shard_find(h, begin); d < h->documents && shard_document(h, d) < end; d++) {
        int64_t first = shard_document(h, d), tokens = shard_document(h, d + 1) - first;
        int64_t from = begin > first ? begin - first : 0;
        int64_t to = end - first < tokens ? end - first : tokens;
        double  each = (double)shard_bytes(h, d) / (double)tokens;
        total += (int64_t)(each * (double)to + 0.5) - (int64_t)(each * (double)from + 0.5);
    }
    return total;
}

static int64_t sources(void *state_) { return ((const state *)state_)->count; }

static const char *source_name(void *state_, int64_t source)
{
    return ((const state *)state_)->sources[source].name;
}

static int64_t held_out(void *state_, int64_t source)
{
    return ((const state *)state_)->sources[source].held_runs;
}

static int64_t tokens(void *state_)
{
    const state *s = state_;
    int64_t      sum = 0;
    for (int64_t i = 0; i < s->count; i++)
        sum += s->sources[i].train.tokens;
    return sum;
}

/* A resumed run must find the same tokens under the same names, because both determine record k. */
static uint64_t fingerprint(void *state_)
{
    const state *s = state_;
    uint64_t     h = td_random_stream("text");
    for (int64_t i = 0; i < s->count; i++) {
        const opened *o = &s->sources[i];
        uint64_t      hashes[] = { o->stream, o->runs ? shard_hash(&o->train) : 0,
                              o->held_runs ? shard_hash(&o->held_out) : 0 };
        h = td_hash(h, hashes, sizeof hashes);
    }
    return h;
}

typedef struct texts {
    int (*document)(void *arg, const char *text, size_t size);
    void     *arg;
    td_error *error;
} texts;

static int pass_text(void *arg, const piece *pieces, size_t count)
{
    const texts *t = arg;
    if (pieces->encoded)
        return td_fail(t->error, TD_ECONFIG,
                       "files of tokens (.bin) have no text: name the text that they were "
                       "made from");
    return t->document(t->arg, pieces->text, pieces->size);
}

/* Only training text: a tokenizer must not be trained on held-out text. */
static int each_document(const void *config, const td_services                           *services,
                         int (*document)(void *arg, const char *text, size_t size), void *arg,
                         td_error *error)
{
    const text_config *c = config;
    texts              t = { document, arg, error };
    int                code = check_files(c, services, error);
    for (size_t i = 0; i < c->sources.count && !code; i++) {
        int64_t bad = c->max_bad_lines;
        code = text_each(c, &source_at(c, i)->from, PART_TRAIN, services, &bad, pass_text, &t,
                         error);
    }
    return code;
}

static const td_data text = {
    .plugin = TD_PLUGIN(
        td_data, TD_DATA_KIND, "text", options, text_config, .check = check,
        .brief = "running text from .jsonl, .txt and Megatron's .bin files, tokenized once"),
    .open = open_text,
    .close = close_text,
    .sources = sources,
    .fingerprint = fingerprint,
    .source_name = source_name,
    .fetch = fetch,
    .held_out = held_out,
    .fetch_held_out = fetch_held_out,
    .held_out_bytes = held_out_bytes,
    .tokens = tokens,
    .prepare = prepare,
    .each_document = each_document,
    .check_files = check_files,
};

TD_MODULE("text", "1.0", "tandem", "MIT", &text.plugin)
