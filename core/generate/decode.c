/* decode.c - passes over rows: chunks of prompts, single tokens, and the plans that they need. */
#include "generate/decode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "graph/cache.h"
#include "plan/rows.h"

enum { CHUNK = 256, MOST_PASSES = 64 };

/* The graph of one shape of pass over a cache, ready to run. */
typedef struct pass {
    const td_cache *cache; /* NULL: whole texts */
    int             phase;
    int64_t         rows, tokens, source;
    td_graph       *graph;
    td_plan        *plan;
    td_tensor      *logits; /* [rows, vocab] of each row's last column */
} pass;

typedef struct row {
    td_prompt prompt;
    bool      active;
    int64_t   read;   /* columns that the model has read */
    int64_t   answer; /* tokens of the answer so far */
} row;

struct td_decoder {
    td_decoder_options options;
    int64_t            vocab, capacity, chunk, source;
    /* A prompt is read in a cache of one row, then moved: the other rows do not take part in it. */
    td_cache          *cache, *intake;
    td_row_gather     *admit, *reorder; /* intake to cache; cache to itself */
    row               *rows;
    pass               passes[MOST_PASSES];
    size_t             n_passes;
    void              *arena;
    size_t             arena_size;
    td_batch          *batch;
    double            *values; /* [rows][vocab] */
    td_columns          *slices;
    int32_t           *lengths, *counts, *from;
};

static const td_architecture *architecture_of(const td_decoder *d)
{
    return (const void *)d->options.model->architecture.plugin;
}

int64_t td_decoder_vocab(const td_decoder *d) { return d->vocab; }
size_t  td_decoder_arena_bytes(const td_decoder *d) { return d->arena_size; }
size_t  td_decoder_plans(const td_decoder *d) { return d->n_passes; }

size_t td_decoder_cache_bytes(const td_decoder *d)
{
    const td_device *device = d->options.device;
    return (d->cache ? td_cache_bytes(d->cache, device) : 0) +
           (d->intake ? td_cache_bytes(d->intake, device) : 0);
}

/* ---- life ------------------------------------------------------------------------------------ */

static int64_t up_to_bucket(int64_t n)
{
    return (n + TD_CACHE_BUCKET - 1) / TD_CACHE_BUCKET * TD_CACHE_BUCKET;
}

/* Columns of what does not grow, an encoder's input; 0: there is none. */
static int64_t source_of(const td_prompt *p)
{
    for (int32_t k = 0; k < p->arrays->count; k++)
        if (!(p->grows >> k & 1) && p->arrays->at[k].rank > 1)
            return up_to_bucket(p->arrays->at[k].dim[1]);
    return 0;
}

/* What the longest text takes, by a prompt of that length. */
static int measure(td_decoder *d, td_error *error)
{
    const td_decoder_options *o = &d->options;
    int32_t                  *given = calloc((size_t)o->given + 1, sizeof *given);
    td_prompt                 p = { 0 };
    int code = given ? td_prompt_open(&p, o->model, &o->special, given, o->given, o->answer, error)
                     : td_fail(error, TD_ENOMEM, "out of memory for a decoder");

    if (!code) {
        int64_t chunk = o->chunk > 0 ? o->chunk : CHUNK;
        d->capacity = up_to_bucket(p.columns);
        /* tokens that see each other must be read in one pass */
        if (architecture_of(d)->flags & TD_ARCHITECTURE_WHOLE_PROMPT)
            chunk = p.first + 1;
        d->chunk = chunk < d->capacity ? chunk : d->capacity;
        d->source = source_of(&p);
    }
    td_prompt_close(&p);
    free(given);
    return code;
}

static int make_caches(td_decoder *d, td_error *error)
{
    const td_decoder_options *o = &d->options;
    if (o->whole)
        return 0;
    d->cache = td_cache_new(o->rows, d->capacity, d->chunk, d->source, error);
    if (d->cache && o->rows > 1)
        d->intake = td_cache_new(1, d->capacity, d->chunk, d->source, error);
    return d->cache && (o->rows == 1 || d->intake) ? 0 : td_failed(error, TD_ENOMEM);
}

td_decoder *td_decoder_open(const td_decoder_options *o, td_error *error)
{
    td_decoder *d = calloc(1, sizeof *d);
    size_t      rows = (size_t)o->rows;
    int         code = d ? 0 : td_fail(error, TD_ENOMEM, "out of memory for a decoder");

    assert(o->rows > 0 && o->given >= 0 && o->answer > 0);
    if (d) {
        d->options = *o;
        d->vocab = architecture_of(d)->vocab_size(o->model->architecture.config);
        d->rows = calloc(rows, sizeof *d->rows);
        d->batch = td_batch_new();
        d->values = calloc(rows * (size_t)d->vocab, sizeof *d->values);
        d->slices = calloc(rows, sizeof *d->slices);
        d->lengths = calloc(rows, sizeof *d->lengths);
        d->counts = calloc(rows, sizeof *d->counts);
        d->from = calloc(rows, sizeof *d->from);
        if (!d->rows || !d->batch || !d->values || !d->slices || !d->lengths || !d->counts ||
            !d->from)
            code = td_fail(error, TD_ENOMEM, "out of memory for a decoder of %lld rows",
                           (long long)o->rows);
    }
    if (!code)
        code = measure(d, error);
    if (!code)
        code = make_caches(d, error);
    if (!code)
        return d;
    td_decoder_close(d);
    return NULL;
}

static void close_cache(td_decoder *d, td_cache *c)
{
    if (c)
        td_cache_release(c, d->options.device);
    td_cache_free(c);
}

void td_decoder_close(td_decoder *d)
{
    if (!d)
        return;
    for (size_t k = 0; k < d->n_passes; k++) {
        td_plan_free(d->passes[k].plan);
        td_graph_free(d->passes[k].graph);
    }
    if (d->arena)
        d->options.device->backend->release(d->options.device->state, d->arena, d->arena_size);
    td_row_gather_free(d->admit);
    td_row_gather_free(d->reorder);
    close_cache(d, d->cache);
    close_cache(d, d->intake);
    for (int64_t r = 0; d->rows && r < d->options.rows; r++)
        td_prompt_close(&d->rows[r].prompt);
    td_batch_free(d->batch);
    free(d->rows);
    free(d->values);
    free(d->slices);
    free(d->lengths);
    free(d->counts);
    free(d->from);
    free(d);
}

int td_decoder_declare(const td_model *m, const td_special *special, td_variables *variables,
                       td_error *error)
{
    const td_architecture *a = (const void *)m->architecture.plugin;
    td_graph_options       options = { .phase = TD_PHASE_EVALUATE, .real = m->real };
    td_graph              *g = td_graph_new(m->registry, variables, &options);
    td_prompt              p;
    td_dropout             none = { 0 };
    td_architecture_out    out = { 0 };
    int                    code;

    if (!g)
        return td_fail(error, TD_ENOMEM, "out of memory while building the model");
    code = td_prompt_open(&p, m, special, NULL, 0, 1, error);
    if (!code) {
        a->build(m->architecture.config, &(td_architecture_in){ g, p.arrays, &none }, &out);
        code = td_graph_error(g, error);
    }
    td_prompt_close(&p);
    td_graph_free(g);
    return code;
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* Hidden states [B, T, D] at the last real column of each row: [B, D]. */
static td_tensor *last_column(td_graph *g, td_tensor *hidden)
{
    int64_t    rows = td_dim(hidden, 0), tokens = td_dim(hidden, 1), width = td_dim(hidden, 2);
    int64_t    flat[] = { rows * tokens, width };
    td_tensor *last = td_affine(td_cache_counts(g, rows), 1, -1); /* -1 in rows that rest */
    td_tensor *zero = td_full(g, TD_I32, NULL, 0, 0);
    td_tensor *start = td_affine(td_iota(g, TD_I32, rows), (double)tokens, 0);
    return td_gather(td_reshape(hidden, flat, 2), td_add(start, td_maximum(last, zero)));
}

static td_tensor *build(td_decoder *d, td_graph *g)
{
    const td_model     *m = d->options.model;
    td_dropout          none = { 0 };
    td_architecture_out out = { 0 };
    td_architecture_in  in = { g, d->batch, &none };
    architecture_of(d)->build(m->architecture.config, &in, &out);
    if (td_graph_error(g, NULL))
        return NULL;
    return td_scale(td_matmul(last_column(g, out.hidden), td_transpose(out.embedding, 0, 1)),
                    out.logit_scale);
}

/* All plans share one arena: the next pass overwrites it, as what outlives a pass is in the cache. */
static int bind(td_decoder *d, pass *p, td_error *error)
{
    const td_device *device = d->options.device;
    size_t           need = td_plan_arena(p->plan);
    if (need <= d->arena_size)
        return td_plan_bind(p->plan, d->arena, error);
    if (d->arena)
        device->backend->release(device->state, d->arena, d->arena_size);
    d->arena = device->backend->allocate(device->state, need);
    d->arena_size = d->arena ? need : 0;
    if (!d->arena)
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes to read %lld tokens of a text",
                       need, (long long)p->tokens);
    for (size_t k = 0; k < d->n_passes; k++)
        if (td_plan_bind(d->passes[k].plan, d->arena, error))
            return td_failed(error, TD_ENOMEM);
    return 0;
}

static int plan(td_decoder *d, pass *p, td_error *error)
{
    const td_decoder_options *o = &d->options;
    td_graph_options          options = { .phase = p->phase,
                                          .real = o->model->real,
                                          .cache = (td_cache *)(uintptr_t)p->cache };
    td_error                  e = { 0 };

    p->graph = td_graph_new(o->model->registry, o->variables, &options);
    if (!p->graph)
        return td_fail(error, TD_ENOMEM, "out of memory while planning a pass");
    p->logits = build(d, p->graph);
    if (td_graph_error(p->graph, error))
        return TD_EGRAPH;
    p->plan = td_plan_new(p->graph, &p->logits, 1, o->device, &e);
    if (!p->plan)
        return td_fail(error, e.code, "%s", e.text);
    return p->cache ? td_cache_allocate(options.cache, o->device, error) : 0;
}

/* The plan for the shape of d->batch, made when it is needed first. */
static pass *find_pass(td_decoder *d, pass shape, td_error *error)
{
    pass *p;
    for (size_t k = 0; k < d->n_passes; k++) {
        p = &d->passes[k];
        if (p->cache == shape.cache && p->phase == shape.phase && p->rows == shape.rows &&
            p->tokens == shape.tokens && p->source == shape.source)
            return p;
    }
    /* lengths are rounded up, so shapes are few; whole texts grow by a bucket at a time */
    if (d->n_passes == MOST_PASSES) {
        td_plan_free(d->passes[0].plan);
        td_graph_free(d->passes[0].graph);
        memmove(d->passes, d->passes + 1, --d->n_passes * sizeof *d->passes);
    }
    p = &d->passes[d->n_passes];
    *p = shape;
    if (plan(d, p, error)) {
        td_plan_free(p->plan);
        td_graph_free(p->graph);
        return NULL;
    }
    d->n_passes++;
    if (!bind(d, p, error))
        return p;
    return NULL;
}

static int place(td_decoder *d, const pass *p, td_error *error)
{
    if (p->cache)
        return td_cache_place(p->cache, p->plan, p->tokens, d->lengths, d->counts, error);
    return td_plan_set_ints(p->plan, "cache_counts", d->counts, p->rows, error);
}

/* Run d->slices in a pass of the given shape; the logits go to d->values. */
static int run(td_decoder *d, pass shape, const td_prompt *like, td_error *error)
{
    pass *p;
    if (td_prompt_pass(d->slices, shape.rows, shape.tokens, shape.source, like, d->batch, error))
        return td_failed(error, TD_ENOMEM);
    p = find_pass(d, shape, error);
    if (!p || td_plan_set_batch(p->plan, d->batch, error) || place(d, p, error) ||
        td_plan_run(p->plan, error))
        return td_failed(error, TD_EGRAPH);
    return td_plan_get(p->plan, p->logits, d->values, p->rows * d->vocab, error);
}

static void give(const td_decoder *d, int64_t from, float *logits)
{
    for (int64_t k = 0; k < d->vocab; k++)
        logits[k] = (float)d->values[from * d->vocab + k];
}

/* ---- whole texts ----------------------------------------------------------------------------- */

/* Every row from its first column to the one that predicts the next token. */
static int run_whole(td_decoder *d, td_error *error)
{
    int64_t          tokens = 1;
    pass             shape = { .phase = TD_PHASE_EVALUATE, .rows = d->options.rows };
    const td_prompt *like = NULL;
    for (int64_t r = 0; r < d->options.rows; r++) {
        row *x = &d->rows[r];
        d->slices[r] = (td_columns){ x->active ? &x->prompt : NULL, 0, x->read };
        d->counts[r] = x->active ? (int32_t)x->read : 0;
        d->lengths[r] = 0;
        tokens = x->active && x->read > tokens ? x->read : tokens;
        like = x->active ? &x->prompt : like;
    }
    if (!like)
        return 0;
    tokens = up_to_bucket(tokens);
    shape.tokens = tokens < d->capacity ? tokens : d->capacity;
    shape.source = d->source;
    return run(d, shape, like, error);
}

/* ---- prompts --------------------------------------------------------------------------------- */

/* A chunk's columns are padded to one of a few lengths, so that few plans serve all prompts. */
static int64_t pass_length(const td_decoder *d, int64_t count)
{
    int64_t tokens = 1;
    while (tokens < count)
        tokens *= 2;
    return tokens < d->chunk ? tokens : d->chunk;
}

static int read_prompt(td_decoder *d, row *x, td_error *error)
{
    pass shape = { .cache = d->intake ? d->intake : d->cache,
                   .phase = TD_PHASE_PREFILL,
                   .rows = 1,
                   .source = source_of(&x->prompt) };
    for (int64_t at = 0; at <= x->prompt.first;) {
        int64_t left = x->prompt.first + 1 - at, count = left < d->chunk ? left : d->chunk;
        d->slices[0] = (td_columns){ &x->prompt, at, count };
        d->lengths[0] = (int32_t)at;
        d->counts[0] = (int32_t)count;
        shape.tokens = pass_length(d, count);
        if (run(d, shape, &x->prompt, error))
            return td_failed(error, TD_EGRAPH);
        at += count;
        shape.phase = TD_PHASE_STEP;
    }
    return 0;
}

static int move_rows(td_row_gather **gather, td_cache *to, td_cache *from, const td_device *device,
                     const int32_t *rows, td_error *error)
{
    if (!*gather)
        *gather = td_row_gather_new(to, from, device, error);
    if (!*gather)
        return td_failed(error, TD_EGRAPH);
    return td_row_gather_run(*gather, rows, error);
}

/* The other rows stay where they are. */
static int admit(td_decoder *d, int64_t to, td_error *error)
{
    if (!d->intake)
        return 0;
    for (int64_t r = 0; r < d->options.rows; r++)
        d->from[r] = r == to ? 0 : -1;
    return move_rows(&d->admit, d->cache, d->intake, d->options.device, d->from, error);
}

int td_decoder_begin(td_decoder *d, int64_t r, const int32_t *given, int64_t n, int64_t answer,
                     float *logits, td_error *error)
{
    row *x = &d->rows[r];
    int  code;

    assert(r >= 0 && r < d->options.rows);
    if (n > d->options.given || answer > d->options.answer)
        return td_fail(error, TD_ERANGE,
                       "a prompt of %lld tokens with an answer of %lld: this decoder was opened for "
                       "%lld and %lld",
                       (long long)n, (long long)answer, (long long)d->options.given,
                       (long long)d->options.answer);
    td_prompt_close(&x->prompt);
    x->active = false;
    code = td_prompt_open(&x->prompt, d->options.model, &d->options.special, given, n, answer,
                          error);
    if (code)
        return code;
    x->read = x->prompt.first + 1;
    x->answer = 0;
    x->active = true;
    if (d->options.whole) {
        code = run_whole(d, error);
        give(d, r, logits);
        return code;
    }
    code = read_prompt(d, x, error);
    give(d, 0, logits);
    return code ? code : admit(d, r, error);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static int run_step(td_decoder *d, const int32_t *tokens, td_error *error)
{
    pass             shape = { .cache = d->cache,
                               .phase = TD_PHASE_STEP,
                               .rows = d->options.rows,
                               .tokens = 1,
                               .source = d->source };
    const td_prompt *like = NULL;
    for (int64_t r = 0; r < d->options.rows; r++) {
        row *x = &d->rows[r];
        bool moves = tokens[r] >= 0;
        d->slices[r] = (td_columns){ moves ? &x->prompt : NULL, x->read, 1 };
        d->lengths[r] = x->active ? (int32_t)x->read : 0;
        d->counts[r] = moves;
        like = moves ? &x->prompt : like;
    }
    if (!like)
        return 0;
    return run(d, shape, like, error);
}

int td_decoder_step(td_decoder *d, const int32_t *tokens, float *logits, td_error *error)
{
    int code;
    for (int64_t r = 0; r < d->options.rows; r++) {
        row *x = &d->rows[r];
        if (tokens[r] < 0)
            continue;
        assert(x->active && x->answer < x->prompt.answer);
        td_prompt_put(&x->prompt, x->answer++, tokens[r]);
        x->read += d->options.whole;
    }
    code = d->options.whole ? run_whole(d, error) : run_step(d, tokens, error);
    for (int64_t r = 0; !code && r < d->options.rows; r++)
        if (tokens[r] >= 0) {
            give(d, r, logits + r * d->vocab);
            d->rows[r].read += !d->options.whole;
        }
    return code;
}

/* ---- moving rows ----------------------------------------------------------------------------- */

/* Prompts move on the host. A row that is read by another may itself be overwritten: so all are
 * copied before any is replaced. */
static int gather_prompts(td_decoder *d, const int32_t *from, td_error *error)
{
    int64_t n = d->options.rows;
    row    *moved = calloc((size_t)n, sizeof *moved);
    int     code = moved ? 0 : td_fail(error, TD_ENOMEM, "out of memory while moving rows");
    for (int64_t r = 0; !code && r < n; r++)
        if (from[r] >= 0 && from[r] != r) {
            moved[r] = d->rows[from[r]];
            moved[r].prompt.arrays = NULL;
            code = td_prompt_copy(&moved[r].prompt, &d->rows[from[r]].prompt, error);
        }
    for (int64_t r = 0; r < n && moved; r++) {
        if (code)
            td_prompt_close(&moved[r].prompt);
        else if (moved[r].prompt.arrays) {
            td_prompt_close(&d->rows[r].prompt);
            d->rows[r] = moved[r];
        }
    }
    free(moved);
    return code;
}

int td_decoder_gather(td_decoder *d, const int32_t *from, td_error *error)
{
    int code = gather_prompts(d, from, error);
    if (code || d->options.whole)
        return code;
    return move_rows(&d->reorder, d->cache, d->cache, d->options.device, from, error);
}
