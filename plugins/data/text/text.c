/* text.c - data 'text': runs of tokens from text files, several sources mixed by rate. */
#include "text.h"

#include <stdlib.h>
#include <string.h>

#include "common/order.h"
#include "common/shard.h"
#include "common/utf8.h"

static const td_option source_options[] = {
    TD_OPTION_NEED_STRING(text_source, name, "name of the source, in metrics and shard files"),
    TD_OPTION_STRINGS(text_source, files,
                      "training files or patterns: .jsonl or .txt, plain, .gz or .zst"),
    TD_OPTION_STRINGS(text_source, held_out, "held-out files or patterns"),
    TD_OPTION_INT(text_source, held_out_every, 0, 0, 1e9,
                  "every n-th document of `files` is held out, instead of held_out; 0: none"),
    TD_OPTION_FLOAT(text_source, rate, 0, 0, 1e9,
                    "share of the training records, relative; 0 everywhere: by size"),
    TD_OPTION_END
};

static const td_option options[] = {
    TD_OPTION_LIST(text_config, sources, text_source, source_options, "what to read"),
    TD_OPTION_STRING(text_config, text, "text", "key of the text in a JSON line"),
    TD_OPTION_INT(text_config, max_bad_lines, 0, 0, 1e12,
                  "bad lines of a source that may be skipped"),
    TD_OPTION_BOOL(text_config, mask_documents, false,
                   "tokens attend only within their own document"),
    TD_OPTION_BOOL(text_config, shuffle, true,
                   "a new order in every epoch; otherwise that of the files"),
    TD_OPTION_END
};

typedef struct opened {
    const char *name;
    shard       train, held_out;
    int64_t     runs, held_runs; /* records of each */
    uint64_t    stream;
} opened;

typedef struct state {
    text_config   config;
    int64_t       length, held_length, count;
    uint64_t      seed;
    opened       *sources;
    int64_t      *ends, *counts; /* of each source in a block of records */
    order_pattern pattern;
} state;

static const text_source *source_at(const text_config *c, size_t i)
{
    return (const text_source *)c->sources.at + i;
}

/* It is part of file names and of what is printed. */
static int check_name(const char *name, size_t i, td_error *error)
{
    size_t size = strlen(name), at = 0;
    if (!size)
        return td_fail(error, TD_ECONFIG,
                       "source %zu has no name; it is part of file names: give it one", i + 1);
    for (size_t n; at < size; at += n) {
        const unsigned char *p = (const unsigned char *)name + at;
        n = *p < 32 || *p == 127 || *p == '/' ? 0 : utf8_character(p, size - at);
        if (!n)
            return td_fail(error, TD_ECONFIG,
                           "source %zu: its name has byte 0x%02X after '%.*s'; it is part of file "
                           "names: it must be UTF-8 without '/' and control characters",
                           i + 1, *p, (int)at, name);
    }
    return 0;
}

static int check_source(const text_config *c, size_t i, td_error *error)
{
    const text_source *s = source_at(c, i);
    if (check_name(s->name, i, error))
        return TD_ECONFIG;
    if (!s->files.count)
        return td_fail(error, TD_ECONFIG, "source %zu, '%s', has no 'files' to train on", i + 1,
                       s->name);
    if ((s->rate > 0) != (source_at(c, 0)->rate > 0))
        return td_fail(error, TD_ECONFIG,
                       "'%s' and '%s': either all sources have a rate above 0 or none has",
                       source_at(c, 0)->name, s->name);
    if (s->held_out.count && s->held_out_every)
        return td_fail(error, TD_ECONFIG,
                       "'%s' has held_out and held_out_every = %lld: hold out files, or "
                       "every n-th document, not both",
                       s->name, (long long)s->held_out_every);
    for (size_t k = 0; k < i; k++)
        if (!strcmp(s->name, source_at(c, k)->name))
            return td_fail(error, TD_ECONFIG,
                           "two sources are named '%s'; metrics and shards need a name for each",
                           s->name);
    return 0;
}

static int check(const void *config, td_error *error)
{
    const text_config *c = config;
    if (!c->sources.count)
        return td_fail(error, TD_ECONFIG,
                       "there is no source: give at least one group in 'sources'");
    for (size_t i = 0; i < c->sources.count; i++)
        if (check_source(c, i, error))
            return TD_ECONFIG;
    return 0;
}

static bool holds_out(const text_source *s) { return s->held_out.count || s->held_out_every; }

static int prepare(const void *config, const td_data_in *in, td_error *error)
{
    const text_config *c = config;
    char               path[4096];
    int                code = text_check_files(c, in->services, error);
    for (size_t i = 0; i < c->sources.count && !code; i++) {
        code = text_prepare(c, source_at(c, i), PART_TRAIN, in, path, error);
        if (!code && holds_out(source_at(c, i)))
            code = text_prepare(c, source_at(c, i), PART_HELD_OUT, in, path, error);
    }
    return code;
}

/* ---- open and close -------------------------------------------------------------------------- */

static int open_part(const text_config *c, const text_source *s, int part, const td_data_in *in,
                     shard *out, int64_t *runs, td_error *error)
{
    char    path[4096];
    bool    train = part == PART_TRAIN;
    int64_t length = train ? in->length : in->held_out_length;
    int     code = text_prepare(c, s, part, in, path, error);
    if (!code)
        code = shard_open(out, path, in->special.vocab_size, error);
    *runs = code ? 0 : out->tokens / length;
    if (!code && !*runs)
        code = td_fail(
            error, TD_ECONFIG,
            "data source '%s': its %s text has %lld tokens, one record needs %lld: give it more "
            "text or shorten %s",
            s->name, train ? "training" : "held-out", (long long)out->tokens, (long long)length,
            train ? "train.length" : "evaluate.length");
    return code;
}

static int open_source(state *s, size_t i, const td_data_in *in, td_error *error)
{
    const text_source *from = source_at(&s->config, i);
    opened            *to = &s->sources[i];
    to->name = from->name;
    to->stream = td_random_stream(from->name);
    int code = open_part(&s->config, from, PART_TRAIN, in, &to->train, &to->runs, error);
    if (!code && holds_out(from))
        code = open_part(&s->config, from, PART_HELD_OUT, in, &to->held_out, &to->held_runs, error);
    return code;
}

static double weight_of(const state *s, int64_t i)
{
    double rate = source_at(&s->config, (size_t)i)->rate;
    return rate > 0 ? rate : (double)s->sources[i].runs;
}

static int set_shares(state *s, td_error *error)
{
    double total = 0, sum = 0;
    for (int64_t i = 0; i < s->count; i++)
        total += weight_of(s, i);
    for (int64_t i = 0; i < s->count; i++) {
        sum += weight_of(s, i);
        s->ends[i] = i + 1 == s->count ? ORDER_BLOCK : (int64_t)(sum / total * ORDER_BLOCK + 0.5);
        if (s->ends[i] <= (i ? s->ends[i - 1] : 0))
            return td_fail(
                error, TD_ECONFIG,
                "data source '%s': its rate is below 1 of %d records: raise it or leave it out",
                s->sources[i].name, ORDER_BLOCK);
    }
    order_fill(&s->pattern, s->seed, s->ends, s->counts);
    return 0;
}

static void close_text(void *state_)
{
    state *s = state_;
    if (!s)
        return;
    for (int64_t i = 0; s->sources && i < s->count; i++) {
        shard_close(&s->sources[i].train);
        shard_close(&s->sources[i].held_out);
    }
    free(s->sources);
    free(s->ends);
    free(s->counts);
    free(s);
}

static int open_text(const void *config, const td_data_in *in, void **out, td_error *error)
{
    const text_config *c = config;
    state             *s = calloc(1, sizeof *s);
    int                code = 0;

    if (s) {
        *s = (state){ .config = *c,
                      .length = in->length,
                      .held_length = in->held_out_length,
                      .count = (int64_t)c->sources.count,
                      .seed = in->seed };
        s->sources = calloc(c->sources.count, sizeof *s->sources);
        s->ends = calloc(c->sources.count, sizeof *s->ends);
        s->counts = calloc(c->sources.count, sizeof *s->counts);
    }
    if (!s || !s->sources || !s->ends || !s->counts)
        code = td_fail(error, TD_ENOMEM, "no memory for %zu data sources", c->sources.count);
    if (!code && (in->length < 1 || in->held_out_length < 1))
        code = td_fail(error, TD_ECONFIG,
                       "data 'text' cannot cut records of %lld tokens, held-out ones of %lld",
                       (long long)in->length, (long long)in->held_out_length);
    if (!code)
        code = text_check_files(c, in->services, error);
    for (size_t i = 0; !code && i < c->sources.count; i++)
        code = open_source(s, i, in, error);
    if (!code)
        code = set_shares(s, error);
    if (!code)
        *out = s;
    else
        close_text(s);
    return code;
}

/* ---- records --------------------------------------------------------------------------------- */

/* Number the documents of a run from 1. */
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

static int read_run(const state *s, const shard *from, int64_t run, int64_t length,
                    const td_split_in *in, td_record *out, td_error *error)
{
    size_t   bytes = (size_t)length * sizeof(int32_t);
    int32_t *ids = in->allocate(in->arena, bytes);
    int32_t *documents = s->config.mask_documents ? in->allocate(in->arena, bytes) : NULL;

    if (!ids || (s->config.mask_documents && !documents))
        return td_fail(error, TD_ENOMEM, "no memory for a record of %lld tokens",
                       (long long)length);
    shard_tokens(from, run * length, length, ids);
    if (documents)
        number_documents(from, run * length, length, documents);
    out->targets = ids;
    out->n_targets = length;
    out->documents = documents;
    return 0;
}

static int fetch(void *state_, uint64_t index, const td_split_in *in, td_record *out,
                 td_error *error)
{
    const state *s = state_;
    uint64_t     ordinal;
    int64_t      source = order_source(&s->pattern, s->counts, index, &ordinal);
    opened      *from = &s->sources[source];
    uint64_t     runs = (uint64_t)from->runs, epoch = ordinal / runs, run = ordinal % runs;

    if (s->config.shuffle)
        run = order_permute(s->seed, from->stream + epoch, run, runs);
    *out = (td_record){ .source = (int32_t)source, .id = index };
    return read_run(s, &from->train, (int64_t)run, s->length, in, out, error);
}

static int fetch_held_out(void *state_, int64_t source, int64_t index, const td_split_in *in,
                          td_record *out, td_error *error)
{
    const state *s = state_;
    if (source < 0 || source >= s->count || index < 0 || index >= s->sources[source].held_runs)
        return td_fail(error, TD_EEND, "held-out record %lld of source %lld does not exist",
                       (long long)index, (long long)source);
    *out = (td_record){ .source = (int32_t)source, .id = (uint64_t)index };
    return read_run(s, &s->sources[source].held_out, index, s->held_length, in, out, error);
}

/* A document's bytes are spread evenly over its tokens; shares of all its runs sum to it
 * exactly. */
static int64_t held_out_bytes(void *state_, int64_t source, int64_t index, int64_t from_token)
{
    const state *s = state_;
    if (source < 0 || source >= s->count || index < 0 || index >= s->sources[source].held_runs ||
        from_token < 0 || from_token > s->held_length)
        return -1;
    const shard *h = &s->sources[source].held_out;
    int64_t      end = (index + 1) * s->held_length, begin = end - s->held_length + from_token,
            total = 0;
    for (int64_t d = shard_find(h, begin); d < h->documents && shard_document(h, d) < end; d++) {
        int64_t first = shard_document(h, d), tokens = shard_document(h, d + 1) - first;
        int64_t from = begin > first ? begin - first : 0,
                to = end - first < tokens ? end - first : tokens;
        double each = (double)shard_bytes(h, d) / (double)tokens;
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

static uint64_t fingerprint(void *state_)
{
    const state *s = state_;
    uint64_t     h = td_random_stream("text");
    for (int64_t i = 0; i < s->count; i++) {
        const opened *o = &s->sources[i];
        uint64_t      hashes[] = { o->stream, shard_hash(&o->train),
                              o->held_runs ? shard_hash(&o->held_out) : 0 };
        h = td_hash(h, hashes, sizeof hashes);
    }
    return h;
}

static int each_document(const void *config, const td_services                           *services,
                         int (*document)(void *arg, const char *text, size_t size), void *arg,
                         td_error *error)
{
    const text_config *c = config;
    int                code = text_check_files(c, services, error);
    for (size_t i = 0; i < c->sources.count && !code; i++) {
        int64_t bad = c->max_bad_lines;
        code = text_each(c, source_at(c, i), PART_TRAIN, services, &bad, document, arg, error);
    }
    return code;
}

static const td_data text = {
    .plugin = TD_PLUGIN(td_data, TD_DATA_KIND, "text", options, text_config, .check = check,
                        .brief = "running text from .jsonl and .txt files, tokenized once"),
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
};

TD_MODULE("text", "1.0", "tandem", "MIT", &text.plugin)
