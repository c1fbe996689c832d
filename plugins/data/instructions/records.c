/* records.c - token shards of examples, and their records: which part is read, which tokens are
 * scored, and how many bytes these encode. */
#include "instructions.h"

#include <string.h>

/* ---- shards ---------------------------------------------------------------------------------- */

static uint64_t hash_text(uint64_t h, const char *text)
{
    return td_hash(h, text, strlen(text) + 1);
}

/* A hash of the options that change the tokens of a shard. */
static uint64_t hash_options(const instructions_config *c)
{
    const char *const   keys[] = { c->inputs, c->targets, c->messages, c->role, c->content };
    int64_t             choices[] = { c->turns, c->eos };
    td_list             roles = chat_roles(c);
    const td_chat_role *r = roles.at;
    uint64_t            h = td_hash(td_random_stream("instructions"), choices, sizeof choices);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        h = hash_text(h, keys[k]);
    for (size_t k = 0; k < roles.count; k++) {
        h = hash_text(hash_text(hash_text(h, r[k].role), r[k].prefix), r[k].suffix);
        h = td_hash(h, &r[k].answers, sizeof r[k].answers);
    }
    return h;
}

int instructions_prepare(const instructions_config *c, const data_source *s, int part,
                         const td_data_in *in, char *path, td_error *error)
{
    uint64_t    content = hash_options(c);
    preparation p = { .source = s,
                      .part = part,
                      .in = in,
                      .plugin = "instructions",
                      .content = &content,
                      .content_size = sizeof content,
                      .max_bad_lines = c->max_bad_lines,
                      .each = instructions_each,
                      .config = c };
    return prepare_shard(&p, path, error);
}

/* ---- records --------------------------------------------------------------------------------- */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

extent example_extent(const instructions_config *c, const shard *from, int64_t document)
{
    extent e = { .first = shard_first_piece(from, document),
                 .end = shard_first_piece(from, document + 1) };
    e.inputs = shard_piece(from, e.first);
    e.targets = shard_piece(from, e.first + 1);
    e.n_inputs = e.targets - e.inputs;
    /* everything after the inputs, in a chat the turns of both sides */
    e.n_targets = shard_piece(from, e.end) - e.targets;
    e.kept_inputs = smaller(e.n_inputs, c->max_inputs);
    e.kept_targets = smaller(e.n_targets, c->max_targets);
    return e;
}

/* Inputs cut on the right keep the final eos, which tells a decoder-only model where its answer
 * begins. Inputs cut on the left have it anyway. */
static int read_inputs(const instructions_config *c, int32_t eos, const shard *from,
                       const extent *e, int32_t *out, td_error *error)
{
    bool    cut = e->kept_inputs < e->n_inputs;
    /* a piece ends where the next one begins */
    int64_t begin = cut && c->truncation_side == CUT_LEFT ? e->targets - e->kept_inputs : e->inputs;
    int     code = shard_tokens(from, begin, e->kept_inputs, out, error);
    if (!code && cut && c->eos == EOS_BOTH && eos >= 0)
        out[e->kept_inputs - 1] = eos;
    return code;
}

/* 1 for tokens of answers, which are the odd pieces, and 0 for the turns between them. */
static void fill_weights(const shard *from, const extent *e, float *out)
{
    for (int64_t p = e->first + 1; p < e->end; p++) {
        int64_t begin = shard_piece(from, p) - e->targets;
        int64_t end = smaller(shard_piece(from, p + 1) - e->targets, e->kept_targets);
        for (int64_t k = begin; k < end; k++)
            out[k] = (float)((p - e->first) % 2);
    }
}

/* Records live in the caller's arena. */
int example_read(const instructions_config *c, int32_t eos, const shard *from, int64_t document,
                 const td_split_in *in, td_record *out, td_error *error)
{
    if (shard_unchanged(from, error))
        return TD_EIO;
    extent   e = example_extent(c, from, document);
    bool     chat = e.end - e.first > 2;
    size_t   n = (size_t)(e.kept_inputs + e.kept_targets);
    int32_t *ids = in->allocate(in->arena, n * sizeof *ids);
    float   *weights = chat ? in->allocate(in->arena, (size_t)e.kept_targets * sizeof *weights)
                            : NULL;
    if (!ids || (chat && !weights))
        return td_fail(error, TD_ENOMEM, "out of memory for an example of %zu tokens", n);
    int code = read_inputs(c, eos, from, &e, ids, error);
    /* one copy suffices, because the turns of a chat are adjacent in the shard */
    if (!code)
        code = shard_tokens(from, e.targets, e.kept_targets, ids + e.kept_inputs, error);
    if (code)
        return code;
    if (chat)
        fill_weights(from, &e, weights);
    out->inputs = ids;
    out->n_inputs = e.kept_inputs;
    out->targets = ids + e.kept_inputs;
    out->n_targets = e.kept_targets;
    out->weights = weights;
    return 0;
}

/* The bytes of the tokens [from, to) of a piece of `size` tokens, each of which gets an equal
 * share. */
static int64_t share(int64_t bytes, int64_t size, int64_t from, int64_t to)
{
    return to > from ? (int64_t)((double)bytes * (double)(to - from) / (double)size + 0.5) : 0;
}

/* Bytes of the scored tokens. A chat's turns between the answers have no weight, and a truncated
 * piece counts only the remaining part of its text. */
int64_t example_bytes(const instructions_config *c, const shard *h, int64_t document,
                      int64_t from_token)
{
    extent  e = example_extent(c, h, document);
    int64_t total = share(shard_piece_bytes(h, e.first), e.n_inputs, from_token, e.kept_inputs);
    /* answers are every second piece; `from_token` may be inside one */
    for (int64_t p = e.first + 1; p < e.end; p += 2) {
        int64_t begin = shard_piece(h, p) - e.targets, end = shard_piece(h, p + 1) - e.targets;
        int64_t from = from_token - e.kept_inputs > begin ? from_token - e.kept_inputs : begin;
        total += share(shard_piece_bytes(h, p), end - begin, from, smaller(end, e.kept_targets));
    }
    return total;
}
