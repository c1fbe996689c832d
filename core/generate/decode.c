/* decode.c - passes over rows: chunks of prompts, single tokens, and the plans that they need. */
#include "generate/decoder.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "graph/cache.h"
#include "plan/prepared.h"
#include "plugin/hook.h"

enum { CHUNK = 256 };

static const td_architecture *architecture_of(const td_decoder *d)
{
    return (const void *)d->options.model->architecture.plugin;
}

int64_t td_decoder_vocab(const td_decoder *d) { return d->vocab; }
size_t  td_decoder_arena_bytes(const td_decoder *d) { return d->passes.arena_size; }
size_t  td_decoder_plans(const td_decoder *d) { return d->passes.count; }

size_t td_decoder_cache_bytes(const td_decoder *d)
{
    const td_device *device = d->options.device;
    return (d->cache ? td_cache_bytes(d->cache, device) : 0) +
           (d->intake ? td_cache_bytes(d->intake, device) : 0);
}

size_t td_decoder_layout_bytes(const td_decoder *d)
{
    return td_prepared_bytes(d->passes.device.prepared);
}

/* The share of the cache that the rows' tokens fill, as rows differ in length. */
static double filled(const td_decoder *d)
{
    double tokens = 0;
    for (int64_t r = 0; r < d->options.rows; r++)
        tokens += d->rows[r].active ? (double)d->rows[r].read : 0;
    return tokens / (double)(d->options.rows * d->capacity);
}

/* The plan of a step of all rows; NULL if there was no step yet. */
static const td_pass *step_of(const td_decoder *d)
{
    for (size_t k = 0; k < d->passes.count; k++) {
        const td_pass *p = &d->passes.at[k];
        if (p->cache == d->cache && p->phase == TD_PHASE_STEP && p->tokens == 1 && !p->scored)
            return p;
    }
    return NULL;
}

td_pass_cost td_decoder_step_cost(const td_decoder *d)
{
    const td_pass *p = step_of(d);
    td_pass_cost   c = { 0 };
    if (p)
        td_plan_products(p->plan, &c.flops, &c.parameters);
    if (d->cache)
        c.cache = (double)td_cache_bytes(d->cache, d->options.device) * filled(d);
    return c;
}

td_pass_cost td_decoder_prompt_cost(const td_decoder *d) { return d->prompt_cost; }

void td_decoder_profile(td_decoder *d, bool on)
{
    const td_pass *p = step_of(d);
    if (p)
        td_plan_profile(p->plan, on);
}

size_t td_decoder_profile_rows(const td_decoder *d, td_profile_row *rows, size_t room)
{
    const td_pass *p = step_of(d);
    return p ? td_plan_profile_rows(p->plan, rows, room) : 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int64_t up_to_bucket(int64_t n)
{
    return (n + TD_CACHE_BUCKET - 1) / TD_CACHE_BUCKET * TD_CACHE_BUCKET;
}

/* Columns of the encoder's input, which does not grow; 0 without an encoder. */
static int64_t source_of(const td_prompt *p)
{
    for (int32_t k = 0; k < p->arrays->count; k++)
        if (!(p->grows >> k & 1) && p->arrays->at[k].rank > 1)
            return p->arrays->at[k].dim[1];
    return 0;
}

/* Finds the sizes for the longest text, from a prompt of that length. */
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
        chunk = chunk > o->scored ? chunk : o->scored;
        d->chunk = chunk < d->capacity ? chunk : d->capacity;
        d->source = up_to_bucket(source_of(&p));
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
        d->passes.model = o->model;
        d->passes.variables = o->variables;
        d->passes.device = *o->device;
        d->passes.device.prepared = o->prepared ? o->prepared : td_prepared_new(o->device);
        d->vocab = TD_HOOK(architecture_of(d), vocab_size, o->model->architecture.config);
        d->rows = calloc(rows, sizeof *d->rows);
        d->passes.batch = td_batch_new();
        d->values = calloc(rows * (size_t)d->vocab, sizeof *d->values);
        d->slices = calloc(rows, sizeof *d->slices);
        d->lengths = calloc(rows, sizeof *d->lengths);
        d->counts = calloc(rows, sizeof *d->counts);
        d->from = calloc(rows, sizeof *d->from);
        if (!d->passes.device.prepared || !d->rows || !d->passes.batch || !d->values ||
            !d->slices || !d->lengths || !d->counts || !d->from)
            code = td_fail(error, TD_ENOMEM, "out of memory for a decoder of %lld rows",
                           (long long)o->rows);
    }
    /* capacities are those of the longest text allowed, so nothing grows later */
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
    td_passes_close(&d->passes);
    td_row_gather_free(d->admit);
    td_row_gather_free(d->reorder);
    close_cache(d, d->cache);
    close_cache(d, d->intake);
    for (int64_t r = 0; d->rows && r < d->options.rows; r++)
        td_prompt_close(&d->rows[r].prompt);
    /* layouts that were passed in outlive the decoder */
    if (!d->options.prepared)
        td_prepared_free(d->passes.device.prepared);
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
    td_graph_options options = { .phase = TD_PHASE_EVALUATE, .real = m->real, .narrow = m->narrow };
    td_graph        *g = td_graph_new(m->registry, variables, &options);
    td_prompt        p;
    td_dropout       none = { 0 };
    td_architecture_out out = { 0 };
    int                 code;

    if (!g)
        return td_fail(error, TD_ENOMEM, "out of memory while building the model");
    /* the shortest text will do, as parameters do not depend on lengths; the graph is discarded */
    code = td_prompt_open(&p, m, special, NULL, 0, 1, error);
    if (!code) {
        TD_HOOK(a, build, m->architecture.config, &(td_architecture_in){ g, p.arrays, &none },
                &out);
        code = td_graph_error(g, error);
    }
    td_prompt_close(&p);
    td_graph_free(g);
    return code;
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* Run d->slices in a pass of the given shape; the logits [shape.rows][vocab] go to `logits`. `ran`,
 * or NULL, is set to the pass. */
static int run(td_decoder *d, td_pass shape, const td_prompt *like, float *logits,
               const td_pass **ran, td_error *error)
{
    td_pass_input in = {
        .slices = d->slices, .like = like, .lengths = d->lengths, .counts = d->counts
    };
    td_pass *p = td_passes_run(&d->passes, shape, &in, error);
    if (!p)
        return td_failed(error, TD_EGRAPH);
    if (ran)
        *ran = p;
    return td_plan_get_floats(p->plan, p->outputs[0], logits, p->rows * d->vocab, error);
}

static void give(const td_decoder *d, int64_t from, float *logits)
{
    memcpy(logits, d->values + from * d->vocab, (size_t)d->vocab * sizeof *logits);
}

/* ---- whole texts ----------------------------------------------------------------------------- */

/* Runs every row from its first column to the one that predicts the next token. */
static int run_whole(td_decoder *d, td_error *error)
{
    int64_t          tokens = 1;
    td_pass          shape = { .phase = TD_PHASE_EVALUATE, .rows = d->options.rows };
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
    /* few different lengths, so that few plans are made */
    tokens = up_to_bucket(tokens);
    shape.tokens = tokens < d->capacity ? tokens : d->capacity;
    shape.source = d->source;
    return run(d, shape, like, d->values, NULL, error);
}

/* ---- prompts --------------------------------------------------------------------------------- */

/* Counted as if there were no padding. */
static void add_cost(td_decoder *d, const td_pass *p, int64_t real)
{
    double  flops, bytes;
    int64_t columns = p->tokens + (p->phase == TD_PHASE_PREFILL ? p->source : 0);
    td_plan_products(p->plan, &flops, &bytes);
    d->prompt_cost.flops += flops * (double)real / (double)columns;
    d->prompt_cost.parameters += bytes;
}

static int read_prompt(td_decoder *d, row *x, td_error *error)
{
    int64_t        source = source_of(&x->prompt);
    const td_pass *ran;
    td_pass        shape = { .cache = d->intake ? d->intake : d->cache,
                             .phase = TD_PHASE_PREFILL,
                             .rows = 1,
                             .source = td_pass_length(source, d->source) };
    d->prompt_cost = (td_pass_cost){ 0 };
    for (int64_t at = 0; at <= x->prompt.first;) {
        int64_t count = td_pass_share(x->prompt.first + 1 - at, d->chunk);
        d->slices[0] = (td_columns){ &x->prompt, at, count };
        d->lengths[0] = (int32_t)at;
        d->counts[0] = (int32_t)count;
        shape.tokens = td_pass_length(count, d->chunk);
        if (run(d, shape, &x->prompt, d->values, &ran, error))
            return td_failed(error, TD_EGRAPH);
        add_cost(d, ran, count + source);
        at += count;
        /* the encoder's output is in the cache now */
        shape.phase = TD_PHASE_STEP;
        source = 0;
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

/* Moves only this row. */
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
                       "a prompt of %lld tokens with an answer of %lld is too long: this decoder "
                       "was opened for %lld and %lld",
                       (long long)n, (long long)answer, (long long)d->options.given,
                       (long long)d->options.answer);
    td_prompt_close(&x->prompt);
    x->active = false;
    code = td_prompt_open(&x->prompt, d->options.model, &d->options.special, given, n, answer,
                          error);
    if (code)
        return code;
    /* the last column of the prompt predicts the answer's first token */
    x->read = x->prompt.first + 1;
    x->answer = 0;
    x->active = true;
    if (d->options.whole) {
        code = run_whole(d, error);
        give(d, r, logits);
        return code;
    }
    /* in a separate cache, so that the other rows are not involved */
    code = read_prompt(d, x, error);
    give(d, 0, logits);
    return code ? code : admit(d, r, error);
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* Idle rows take part as padding: one plan then serves every number of active rows. */
static int run_step(td_decoder *d, const int32_t *tokens, float *logits, td_error *error)
{
    td_pass          shape = { .cache = d->cache,
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
    return run(d, shape, like, logits, NULL, error);
}

int td_decoder_step(td_decoder *d, const int32_t *tokens, float *logits, td_error *error)
{
    bool whole = d->options.whole, all = !whole; /* whether all rows move, in a pass of steps */
    int  code;
    for (int64_t r = 0; r < d->options.rows; r++) {
        row *x = &d->rows[r];
        all = all && tokens[r] >= 0;
        if (tokens[r] < 0)
            continue;
        assert(x->active && x->answer < x->prompt.answer);
        td_prompt_put(&x->prompt, x->answer++, tokens[r]);
        x->read += whole;
    }
    /* logits of idle rows must not reach the caller */
    code = whole ? run_whole(d, error) : run_step(d, tokens, all ? logits : d->values, error);
    for (int64_t r = 0; !code && r < d->options.rows; r++)
        if (tokens[r] >= 0) {
            if (!all)
                give(d, r, logits + r * d->vocab);
            d->rows[r].read += !whole;
        }
    return code;
}

/* ---- moving rows ----------------------------------------------------------------------------- */

/* Prompts are moved on the host. A row that another one continues may itself be overwritten, so all
 * are copied before any is replaced. */
static int gather_prompts(td_decoder *d, const int32_t *from, td_error *error)
{
    int64_t n = d->options.rows;
    row    *moved = calloc((size_t)n, sizeof *moved);
    int     code = moved ? 0 : td_fail(error, TD_ENOMEM, "out of memory while moving rows");
    for (int64_t r = 0; !code && r < n; r++)
        if (from[r] >= 0 && from[r] != r) {
            moved[r] = d->rows[from[r]];
            /* if the copy fails, closing this must not free the arrays of the original */
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
