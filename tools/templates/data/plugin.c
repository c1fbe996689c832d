/* data-@NAME@.c - sums made up on the fly: lines such as "12 + 30 = 42".
 *
 * The contract: tandem/kind/data.h. A source returns record i for any i, in any order; it has no
 * position. So a run that is resumed, or split into other micro-batches, reads the same records.
 * Anything random is a function of (seed, stream, index), from tandem/random.h. */
#include <stdlib.h>
#include <string.h>

#include "tandem/kind/data.h"
#include "tandem/random.h"

struct @IDENT@_config {
    int64_t largest, held_out;
};

static const td_option options[] = {
    TD_OPTION_INT(struct @IDENT@_config, largest, 99, 1, 1000000, "largest number in a sum"),
    TD_OPTION_INT(struct @IDENT@_config, held_out, 64, 0, 1 << 20, "number of held-out records"),
    TD_OPTION_END
};

/* Held-out records must not depend on the training seed. */
enum { HELD_OUT_SEED = 20 };

typedef struct state {
    struct @IDENT@_config  config;
    const td_tokenizer *tokenizer; /* the host's; opened before this, closed after it */
    void               *tokenizer_state;
    int64_t             length, held_out_length; /* tokens of a record */
    uint64_t            seed;
} state;

/* [main]: prepare what is missing (nothing here; in->cache is a directory for it), then open it.
 * After an error `close` is not called: free everything here. */
static int open_@IDENT@(const void *config, const td_data_in *in, void **out, td_error *error)
{
    state *s;
    if (in->length < 1 || in->held_out_length < 1)
        return td_fail(error, TD_ECONFIG,
                       "data '@NAME@' cannot make records of %lld tokens and held-out records of %lld",
                       (long long)in->length, (long long)in->held_out_length);
    s = calloc(1, sizeof *s);
    if (!s)
        return td_fail(error, TD_ENOMEM, "data '@NAME@': out of memory");
    *s = (state){ .config = *(const struct @IDENT@_config *)config,
                  .tokenizer = in->tokenizer,
                  .tokenizer_state = in->tokenizer_state,
                  .length = in->length,
                  .held_out_length = in->held_out_length,
                  .seed = in->seed };
    *out = s;
    return 0;
}

static void close_@IDENT@(void *state_) { free(state_); }

static int64_t sources(void *state_)
{
    (void)state_;
    return 1;
}

static const char *source_name(void *state_, int64_t source)
{
    (void)state_;
    (void)source;
    return "sums";
}

/* ---- records --------------------------------------------------------------------------------- */

/* Line `n` of record `index`; a function of its arguments, with two random numbers to a line. */
static void write_line(const state *s, uint64_t seed, uint64_t index, uint64_t n, char line[80])
{
    uint64_t  range = (uint64_t)s->config.largest + 1;
    long long a = (long long)td_random_below(seed, index, 2 * n, range),
              b = (long long)td_random_below(seed, index, 2 * n + 1, range);
    snprintf(line, 80, "%lld + %lld = %lld\n", a, b, a + b);
}

/* Fills ids[length] with lines; the last one is cut off. */
static int fill(const state *s, uint64_t seed, uint64_t index, int32_t *ids, int64_t length,
                td_error *error)
{
    char line[80];
    for (int64_t n = 0, at = 0; at < length; n++) {
        int64_t count;
        write_line(s, seed, index, (uint64_t)n, line);
        /* writes no more than fits, but counts all of them: `at` may end past `length` */
        count = s->tokenizer->encode(s->tokenizer_state, line, strlen(line), ids + at, length - at,
                                     error);
        if (count < 1)
            return td_fail(error, count < 0 ? (int)count : TD_EFORMAT,
                           "data '@NAME@': the tokenizer returned no tokens for a line");
        at += count;
    }
    return 0;
}

/* Memory from in->allocate lives as long as the record. All tokens are targets: it is running
 * text. */
static int make(const state *s, uint64_t seed, uint64_t index, int64_t length,
                const td_split_in *in, td_record *out, td_error *error)
{
    int32_t *ids = in->allocate(in->arena, (size_t)length * sizeof *ids);
    if (!ids)
        return td_fail(error, TD_ENOMEM, "data '@NAME@': out of memory for a record of %lld tokens",
                       (long long)length);
    *out = (td_record){ .targets = ids, .n_targets = length, .id = index };
    return fill(s, seed, index, ids, length, error);
}

/* [worker]: training record `index`, from 0 on, without end. */
static int fetch(void *state_, uint64_t index, const td_split_in *in, td_record *out,
                 td_error *error)
{
    const state *s = state_;
    return make(s, s->seed, index, s->length, in, out, error);
}

/* [worker] */
static int64_t held_out(void *state_, int64_t source)
{
    (void)source;
    return ((const state *)state_)->config.held_out;
}

static int fetch_held_out(void *state_, int64_t source, int64_t index, const td_split_in *in,
                          td_record *out, td_error *error)
{
    const state *s = state_;
    if (source != 0 || index < 0 || index >= s->config.held_out)
        return td_fail(error, TD_EEND, "held-out record %lld of source %lld does not exist",
                       (long long)index, (long long)source);
    return make(s, td_random_stream("held out") + HELD_OUT_SEED, (uint64_t)index,
                s->held_out_length, in, out, error);
}

/* [main]: equal fingerprints mean equal records; a run is not resumed on other records. Leave the
 * tokenizer out: it has its own fingerprint. */
static uint64_t fingerprint(void *state_)
{
    const state *s = state_;
    return td_hash(td_random_stream("@NAME@ 1"), &s->config, sizeof s->config);
}

/* The hooks `tokens` and `held_out_bytes` are left out: an epoch has no end here, and bits per byte
 * are not reported for text that was never bytes. */
static const td_data @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_data, TD_DATA_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "sums made up on the fly"),
    .open = open_@IDENT@,
    .close = close_@IDENT@,
    .sources = sources,
    .source_name = source_name,
    .fetch = fetch,
    .held_out = held_out,
    .fetch_held_out = fetch_held_out,
    .fingerprint = fingerprint,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
