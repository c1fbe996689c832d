/* perplexity.c - the fair protocol: a prefix given, the rest scored.
 *
 * Models are compared by these numbers, so nothing in them may depend on the model: not on its
 * loss, not on the batch that a sequence is scored in, not on the seed of the run.
 */
#include "evaluate/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One evaluation at work. */
typedef struct job {
    td_engine              *engine;
    const td_evaluate_spec *spec;
    td_arena               *arena;
    td_batch               *batch;
    td_example             *examples;  /* of one batch */
    int64_t                 done, all; /* sequences */
} job;

/* Sequences to score of a source. */
static int64_t wanted(const td_evaluate_spec *s, int64_t source)
{
    int64_t n = s->feed.data->held_out(s->feed.data_state, source);
    return s->sequences > 0 && s->sequences < n ? s->sequences : n;
}

/* The tokens given of a sequence. */
static int64_t prefix_of(const td_evaluate_spec *s)
{
    return s->prefix ? s->prefix : s->feed.length / 2;
}

/* An (inputs, targets) pair says itself what is given. */
static void take_pair(const td_record *r, td_example *x)
{
    x->given = r->inputs;
    x->n_given = r->n_inputs;
    x->predicted = r->targets;
    x->n_predicted = r->n_targets;
    x->weights = r->weights;
}

/* Running text is cut after k tokens. */
static void cut(const td_record *r, int64_t k, td_example *x)
{
    x->given = r->targets;
    x->n_given = k;
    x->given_documents = r->documents;
    x->predicted = r->targets + k;
    x->n_predicted = r->n_targets - k;
    x->predicted_documents = r->documents ? r->documents + k : NULL;
    x->weights = r->weights ? r->weights + k : NULL;
}

static int fetch(job *j, int64_t source, int64_t index, td_example *x, td_error *error)
{
    const td_arrange_spec *f = &j->spec->feed;
    td_split_in            in = td_arrange_split_in(f, j->arena);
    td_record              r = { 0 };
    int64_t                k = prefix_of(j->spec);

    in.seed = 0; /* not the run's: every run is scored on the same records */
    if (f->data->fetch_held_out(f->data_state, source, index, &in, &r, error))
        return td_fail(error, td_failed(error, TD_EIO),
                       "data '%s' cannot read held-out record %lld of source %lld",
                       f->data->plugin.name, (long long)index, (long long)source);
    *x = (td_example){ .source = r.source, .id = r.id };
    if (r.inputs)
        take_pair(&r, x);
    else if (k < r.n_targets)
        cut(&r, k, x);
    else
        return td_fail(error, TD_EFORMAT,
                       "held-out record %lld of source %lld has %lld tokens: with a prefix of %lld "
                       "there is nothing left to score",
                       (long long)index, (long long)source, (long long)r.n_targets, (long long)k);
    return 0;
}

/* Bytes of text behind the tokens scored; negative: unknown. */
static double scored_bytes(const job *j, int64_t source, int64_t index, const td_example *x)
{
    const td_arrange_spec *f = &j->spec->feed;
    return f->data->held_out_bytes
               ? (double)f->data->held_out_bytes(f->data_state, source, index, x->n_given)
               : -1;
}

/* Over the records of a source. */
typedef struct sums {
    double nll, weight, bytes; /* bytes < 0: unknown of one, so of all */
} sums;

static int fetch_batch(job *j, int64_t source, int64_t first, int64_t count, sums *s,
                       td_error *error)
{
    td_arena_reset(j->arena);
    for (int64_t i = 0; i < count; i++) {
        double bytes;
        if (fetch(j, source, first + i, &j->examples[i], error))
            return td_failed(error, TD_EFORMAT);
        j->examples[i].row = i;
        bytes = scored_bytes(j, source, first + i, &j->examples[i]);
        s->bytes = bytes < 0 || s->bytes < 0 ? -1 : s->bytes + bytes;
    }
    return 0;
}

/* Adds a batch to the sums of its source. */
static int score_batch(job *j, int64_t source, int64_t first, int64_t count, sums *s, td_score *out,
                       td_error *error)
{
    double nll = 0;
    if (fetch_batch(j, source, first, count, s, error) ||
        td_arrange_examples(&j->spec->feed, j->examples, count, j->batch, error) ||
        td_engine_evaluate(j->engine, j->batch, &nll, NULL, error))
        return td_failed(error, TD_EFORMAT);
    out->targets += td_batch_targets(j->batch);
    s->nll += nll;
    s->weight += td_batch_weight(j->batch);
    return 0;
}

static int score_source(job *j, int64_t source, td_score *out, td_evaluation_progress *progress,
                        void *arg, td_error *error)
{
    int64_t n = wanted(j->spec, source);
    sums    s = { 0 };
    out->source = j->spec->feed.data->source_name(j->spec->feed.data_state, source);
    out->sequences = n;
    for (int64_t first = 0; first < n; first += j->spec->batch) {
        int64_t count = n - first < j->spec->batch ? n - first : j->spec->batch;
        if (score_batch(j, source, first, count, &s, out, error))
            return td_failed(error, TD_EFORMAT);
        j->done += count;
        if (progress && progress(arg, j->done, j->all))
            return TD_EEND; /* without a message: it is no failure */
    }
    /* sums over the source, divided once: a mean of means would weigh short batches more */
    out->nll = s.weight > 0 ? s.nll / s.weight : (double)NAN;
    out->bits_per_byte = s.bytes > 0 ? s.nll / log(2) / s.bytes : -1;
    return 0;
}

/* The plain mean over sources, however long they are: each counts as one kind of text. */
static void average(td_evaluation *e)
{
    int64_t n = 0, known = 0;
    double  bits = 0;
    /* a source without held-out text has no score, and no part in the mean */
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
    /* a mean over some of the sources would not be comparable with one over all */
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
                          "there is nothing to evaluate on: no data source has held-out text of "
                          "%lld tokens; add some, or set train.evaluate_every = -1",
                          (long long)spec->feed.length);
}

int td_evaluate_plan(td_engine *engine, const td_evaluate_spec *spec, td_footprint *footprint,
                     td_error *error)
{
    int64_t   all = spec->batch, given = prefix_of(spec);
    td_batch *shape = td_batch_new();
    int code = shape ? 0 : td_fail(error, TD_ENOMEM, "out of memory while planning an evaluation");
    /* a batch is never larger than what there is to score */
    if (!code && spec->feed.data)
        code = count_all(spec, &all, error);
    if (!code)
        code = td_arrange_shape_of(&spec->feed, spec->batch < all ? spec->batch : all, given,
                                   spec->feed.length - given, shape, error);
    if (!code)
        code = td_engine_plan_evaluation(engine, shape, footprint, error);
    td_batch_free(shape);
    return code;
}

static int open_job(job *j, td_evaluation *out, td_error *error)
{
    const td_arrange_spec *f = &j->spec->feed;
    int                    code = count_all(j->spec, &j->all, error);
    int64_t                batch = j->spec->batch < j->all ? j->spec->batch : j->all;
    if (code)
        return code;
    /* what is allocated is freed by td_evaluate, whether all of it was or not */
    out->count = f->data->sources(f->data_state);
    out->at = calloc((size_t)out->count + 1, sizeof *out->at);
    j->arena = td_arena_new();
    j->batch = td_batch_new();
    j->examples = calloc((size_t)batch + 1, sizeof *j->examples);
    return j->arena && j->batch && j->examples && out->at
               ? 0
               : td_fail(error, TD_ENOMEM,
                         "out of memory while evaluating batches of %lld sequences",
                         (long long)batch);
}

int td_evaluate(td_engine *engine, const td_evaluate_spec *spec, td_evaluation_progress *progress,
                void *arg, td_evaluation *out, td_error *error)
{
    job j = { .engine = engine, .spec = spec };
    int code;

    memset(out, 0, sizeof *out);
    code = open_job(&j, out, error);
    /* sources in their order: the sum of a mean must not depend on timing */
    for (int64_t s = 0; !code && s < out->count; s++)
        code = score_source(&j, s, &out->at[s], progress, arg, error);
    if (!code)
        average(out);
    else
        td_evaluation_free(out);
    td_arena_free(j.arena);
    td_batch_free(j.batch);
    free(j.examples);
    return code;
}

void td_evaluation_free(td_evaluation *e)
{
    free(e->at);
    memset(e, 0, sizeof *e);
}
