/* perplexity.c - the fair protocol (first half given, second half scored). */
#include "evaluate/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    td_engine              *engine;
    const td_evaluate_spec *spec;
    td_arena               *arena;
    td_batch               *batch;
    td_example             *examples;
    int64_t                 done, all;
} job;

static int64_t wanted(const td_evaluate_spec *s, int64_t source)
{
    int64_t n = s->feed.data->held_out(s->feed.data_state, source);
    return s->sequences > 0 && s->sequences < n ? s->sequences : n;
}

/* A run of tokens cut at the prefix; a pair as it is. */
static int fetch(job *j, int64_t source, int64_t index, td_example *x, td_error *error)
{
    const td_arrange_spec *f = &j->spec->feed;
    td_split_in            in = td_arrange_split_in(f, j->arena);
    td_record           r = { 0 };
    int64_t             k = j->spec->prefix ? j->spec->prefix : f->length / 2;
    int                 code;

    in.seed = 0; /* the same records for every run */
    code = f->data->fetch_held_out(f->data_state, source, index, &in, &r, error);
    if (code)
        return error && error->code
                   ? code
                   : td_fail(error, TD_EIO,
                             "data '%s' cannot read held-out record %lld of source %lld",
                             f->data->plugin.name, (long long)index, (long long)source);
    memset(x, 0, sizeof *x);
    x->source = r.source;
    x->id = r.id;
    if (r.inputs) {
        x->given = r.inputs;
        x->n_given = r.n_inputs;
        x->predicted = r.targets;
        x->n_predicted = r.n_targets;
        x->weights = r.weights;
        return 0;
    }
    if (k >= r.n_targets)
        return td_fail(
            error, TD_EFORMAT,
            "held-out record %lld of source %lld has %lld tokens: %lld given leave none to score",
            (long long)index, (long long)source, (long long)r.n_targets, (long long)k);
    x->given = r.targets;
    x->n_given = k;
    x->given_documents = r.documents;
    x->predicted = r.targets + k;
    x->n_predicted = r.n_targets - k;
    x->predicted_documents = r.documents ? r.documents + k : NULL;
    x->weights = r.weights ? r.weights + k : NULL;
    return 0;
}

static double scored_bytes(const job *j, int64_t source, int64_t index, const td_example *x)
{
    const td_arrange_spec *f = &j->spec->feed;
    return f->data->held_out_bytes
               ? (double)f->data->held_out_bytes(f->data_state, source, index, x->n_given)
               : -1;
}

/* Over the records of a source. */
typedef struct sums {
    double nll, weight, bytes; /* bytes < 0: unknown */
} sums;

static int score_batch(job *j, int64_t source, int64_t first, int64_t count, sums *s, td_score *out,
                       td_error *error)
{
    double part = 0;
    td_arena_reset(j->arena);
    for (int64_t i = 0; i < count; i++) {
        double b;
        if (fetch(j, source, first + i, &j->examples[i], error))
            return td_failed(error, TD_EFORMAT);
        j->examples[i].row = i;
        b = scored_bytes(j, source, first + i, &j->examples[i]);
        s->bytes = b < 0 || s->bytes < 0 ? -1 : s->bytes + b;
    }
    if (td_arrange_examples(&j->spec->feed, j->examples, count, j->batch, error) ||
        td_engine_evaluate(j->engine, j->batch, &part, NULL, error))
        return td_failed(error, TD_EFORMAT);
    out->targets += td_batch_targets(j->batch);
    s->nll += part;
    s->weight += td_batch_weight(j->batch);
    return 0;
}

static int score_source(job *j, int64_t source, td_score *out, td_evaluate_progress *progress,
                        void *arg, td_error *error)
{
    int64_t n = wanted(j->spec, source);
    sums    s = { 0 };
    int     code = 0;
    out->source = j->spec->feed.data->source_name(j->spec->feed.data_state, source);
    out->sequences = n;
    for (int64_t first = 0; first < n && !code; first += j->spec->batch) {
        int64_t count = n - first < j->spec->batch ? n - first : j->spec->batch;
        if (score_batch(j, source, first, count, &s, out, error))
            return td_failed(error, TD_EFORMAT);
        j->done += count;
        if (progress)
            code = progress(arg, j->done, j->all);
    }
    out->nll = s.weight > 0 ? s.nll / s.weight : (double)NAN;
    out->bits_per_byte = s.bytes > 0 ? s.nll / log(2) / s.bytes : -1;
    return code;
}

static void average(td_evaluation *e)
{
    int64_t n = 0, known = 0;
    double  bits = 0;
    for (int64_t i = 0; i < e->count; i++) {
        if (e->at[i].targets) {
            e->nll += e->at[i].nll;
            n++;
        }
        if (e->at[i].targets && e->at[i].bits_per_byte >= 0) {
            bits += e->at[i].bits_per_byte;
            known++;
        }
    }
    e->nll = n ? e->nll / (double)n : NAN;
    e->bits_per_byte = n && known == n ? bits / (double)known : -1;
}

/* Sequences of all sources. */
static int count_all(const td_evaluate_spec *spec, int64_t *all, td_error *error)
{
    *all = 0;
    for (int64_t s = 0; s < spec->feed.data->sources(spec->feed.data_state); s++)
        *all += wanted(spec, s);
    return *all ? 0
                : td_fail(error, TD_ECONFIG,
                          "there is nothing to evaluate on: the data sources have no held-out text "
                          "of %lld "
                          "tokens; give them some, or set train.evaluate_every = -1",
                          (long long)spec->feed.length);
}

int td_evaluate_plan(td_engine *engine, const td_evaluate_spec *spec, td_memory *memory,
                     td_error *error)
{
    int64_t   all = spec->batch, given = spec->prefix ? spec->prefix : spec->feed.length / 2;
    td_batch *shape = td_batch_new();
    int code = shape ? 0 : td_fail(error, TD_ENOMEM, "out of memory while planning evaluation");
    if (!code && spec->feed.data)
        code = count_all(spec, &all, error);
    if (!code)
        code = td_arrange_shape_of(&spec->feed, spec->batch < all ? spec->batch : all, given,
                                   spec->feed.length - given, shape, error);
    if (!code)
        code = td_engine_plan_evaluation(engine, shape, memory, error);
    td_batch_free(shape);
    return code;
}

int td_evaluate(td_engine *engine, const td_evaluate_spec *spec, td_evaluate_progress *progress,
                void *arg, td_evaluation *out, td_error *error)
{
    job j = { .engine = engine, .spec = spec, .arena = td_arena_new(), .batch = td_batch_new() };
    int code = count_all(spec, &j.all, error);
    int64_t batch = spec->batch < j.all ? spec->batch : j.all;

    memset(out, 0, sizeof *out);
    out->count = spec->feed.data->sources(spec->feed.data_state);
    out->at = calloc((size_t)out->count + 1, sizeof *out->at);
    j.examples = calloc((size_t)batch + 1, sizeof *j.examples);
    if (!j.arena || !j.batch || !j.examples || !out->at)
        code = td_fail(error, TD_ENOMEM, "out of memory while evaluating %lld sequences at once",
                       (long long)batch);
    for (int64_t s = 0; !code && s < out->count; s++)
        code = score_source(&j, s, &out->at[s], progress, arg, error);
    if (!code)
        average(out);
    td_arena_free(j.arena);
    td_batch_free(j.batch);
    free(j.examples);
    if (code)
        td_evaluation_free(out);
    return code;
}

void td_evaluation_free(td_evaluation *e)
{
    free(e->at);
    memset(e, 0, sizeof *e);
}
