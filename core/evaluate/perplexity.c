/* perplexity.c - the fair protocol: a prefix given, the rest scored.
 *
 * Models are compared by these numbers, so they must not depend on a model's training loss, on the
 * batch that a sequence is scored in, or on the seed of the run.
 */
#include "evaluate/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/statistics.h"
#include "plugin/hook.h"
#include "tandem/random.h"

/* An evaluation in progress. */
typedef struct job {
    td_engine              *engine;
    const td_evaluate_spec *spec;
    td_arena               *arena;
    td_batch               *batch;
    td_example             *examples;  /* of one batch */
    double                 *nll;       /* one batch: a value per label position */
    int64_t                 room;      /* allocated elements of nll */
    td_sequence_score      *sequences; /* [all] */
    int64_t                 all;
} job;

/* A batch: `count` sequences of a source from the one with index `first`; `at` sequences come before
 * it. */
typedef struct place {
    int64_t source, first, count, at;
} place;

/* The number of sequences of a source to score. */
static int64_t wanted(const td_evaluate_spec *s, int64_t source)
{
    int64_t n = TD_HOOK(s->feed.data, held_out, s->feed.data_state, source);
    if (n < 0) /* a source that does not know has none */
        n = 0;
    return s->sequences > 0 && s->sequences < n ? s->sequences : n;
}

/* The number of given tokens in a sequence of running text. */
static int64_t prefix_of(const td_evaluate_spec *s)
{
    return s->prefix ? s->prefix : s->feed.length / 2;
}

/* In an (inputs, targets) pair the inputs are given. */
static void take_pair(const td_record *r, td_example *x)
{
    x->given = r->inputs;
    x->n_given = r->n_inputs;
    x->predicted = r->targets;
    x->n_predicted = r->n_targets;
    x->weights = r->weights;
}

/* Cuts running text after k tokens. */
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

    in.seed = 0; /* a fixed seed, so that every run is scored on the same records */
    if (TD_HOOK(f->data, fetch_held_out, f->data_state, source, index, &in, &r, error))
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

/* The bytes of text that the scored tokens stand for; negative: unknown. */
static double scored_bytes(const job *j, int64_t source, int64_t index, const td_example *x)
{
    const td_arrange_spec *f = &j->spec->feed;
    return f->data->held_out_bytes && !j->spec->no_bytes
               ? (double)TD_HOOK(f->data, held_out_bytes, f->data_state, source, index, x->n_given)
               : -1;
}

/* Two models are compared on sequences with equal hashes, wherever these are in their data. */
static uint64_t hash_of(const td_example *x)
{
    uint64_t h = td_random_stream("sequence");
    h = td_hash(h, &x->n_given, sizeof x->n_given);
    h = td_hash(h, x->given, (size_t)x->n_given * sizeof *x->given);
    return td_hash(h, x->predicted, (size_t)x->n_predicted * sizeof *x->predicted);
}

static int fetch_batch(job *j, const place *p, td_error *error)
{
    td_sequence_score *out = j->sequences + p->at;
    td_arena_reset(j->arena);
    for (int64_t i = 0; i < p->count; i++) {
        td_example *x = &j->examples[i];
        if (fetch(j, p->source, p->first + i, x, error))
            return td_failed(error, TD_EFORMAT);
        x->row = i;
        out[i].bytes = scored_bytes(j, p->source, p->first + i, x);
        out[i].hash = hash_of(x);
    }
    return 0;
}

/* Makes sure that there is space for the NLL of each label position of the batch. */
static int reserve(job *j, td_error *error)
{
    const td_array *labels = td_batch_find(j->batch, "labels");
    int64_t         n = labels ? labels->dim[0] * labels->dim[1] : 0;
    double         *larger;
    if (n <= j->room)
        return 0;
    larger = realloc(j->nll, (size_t)n * sizeof *larger);
    if (!larger)
        return td_fail(error, TD_ENOMEM, "out of memory for the scores of %lld tokens",
                       (long long)n);
    j->nll = larger;
    j->room = n;
    return 0;
}

/* Sums each sequence separately, in double, so that its score does not depend on its batch. */
static void add_up(const job *j, const place *p)
{
    const td_array *weights = td_batch_find(j->batch, "loss_weights");
    const float    *w = weights->data;
    int64_t         columns = weights->dim[1];
    for (int64_t r = 0; r < p->count; r++) {
        td_sequence_score *s = &j->sequences[p->at + r];
        for (int64_t k = r * columns; k < (r + 1) * columns; k++) {
            if (w[k] == 0)
                continue;
            s->targets++;
            s->weight += (double)w[k];
            s->nll += (double)w[k] * j->nll[k];
        }
    }
}

static int make_batch(job *j, const place *p, td_error *error)
{
    if (fetch_batch(j, p, error) ||
        td_arrange_examples(&j->spec->feed, j->examples, p->count, j->batch, error))
        return td_failed(error, TD_EFORMAT);
    return reserve(j, error);
}

static int score_made(job *j, const place *p, td_error *error)
{
    double sum;
    if (td_engine_evaluate(j->engine, j->batch, &sum, j->nll, error))
        return td_failed(error, TD_EFORMAT);
    add_up(j, p);
    return 0;
}

static int score_batch(job *j, const place *p, td_error *error)
{
    int code = make_batch(j, p, error);
    return code ? code : score_made(j, p, error);
}

/* Parameters are sharded: all ranks compute at the same time, even those without a batch. */
static int score_together(job *j, const place *p, td_error *error)
{
    td_team *team = j->spec->team;
    int      code = td_team_agree(team, p->count ? make_batch(j, p, error) : 0, error);
    if (!code)
        code = td_team_meet(team, j->engine, p->count ? j->batch : NULL, true, error);
    if (code)
        return code;
    return p->count ? score_made(j, p, error) : td_engine_serve(j->engine, true, error);
}

/* ---- over batches and ranks ------------------------------------------------------------------ */

/* The next batch, of one source; false after the last. */
static bool advance(const job *j, place *p)
{
    const td_evaluate_spec *s = j->spec;
    int64_t                 sources = TD_HOOK(s->feed.data, sources, s->feed.data_state), left;
    p->at += p->count;
    p->first += p->count;
    p->count = 0;
    while (p->source < sources && p->first >= wanted(s, p->source)) {
        p->source++;
        p->first = 0;
    }
    if (p->source == sources)
        return false;
    left = wanted(s, p->source) - p->first;
    p->count = left < s->batch ? left : s->batch;
    for (int64_t i = 0; i < p->count; i++)
        j->sequences[p->at + i] = (td_sequence_score){ .source = p->source, .index = p->first + i };
    return true;
}

/* One batch for each rank, so that none gets far ahead of the others. The batches are those of a
 * single process, because rounding depends on them. */
static int score_round(job *j, place *p, td_evaluation_progress *progress, void *arg, bool *more,
                       td_error *error)
{
    td_team *team = j->spec->team;
    place    own = { 0 };
    int      code = 0;
    for (int r = 0; r < td_team_size(team) && *more; r++) {
        if (r == td_team_rank(team))
            own = *p;
        *more = advance(j, p);
    }
    code = td_engine_exchanges(j->engine) ? score_together(j, &own, error)
           : own.count                    ? score_batch(j, &own, error)
                                          : 0;
    if (code == TD_EEND) /* a data source's: a failure, unlike that of `progress` */
        code = td_team_failure(error, TD_EIO);
    if (!code && progress && progress(arg, p->at, j->all))
        code = TD_EEND; /* no message: this is not a failure */
    return td_team_agree(team, code, error);
}

/* What a sequence's score is made of. A rank has zeros for the sequences of others, so that sums over
 * the ranks collect them; the halves of the hash are integers that a double holds. */
enum { TARGETS, WEIGHT, NLL, BYTES, HIGH, LOW, PARTS };

static void put_parts(const td_sequence_score *s, double *out)
{
    out[TARGETS] = (double)s->targets;
    out[WEIGHT] = s->weight;
    out[NLL] = s->nll;
    out[BYTES] = s->bytes;
    out[HIGH] = (double)(s->hash >> 32);
    out[LOW] = (double)(s->hash & UINT32_MAX);
}

static void take_parts(td_sequence_score *s, const double *in)
{
    s->targets = (int64_t)in[TARGETS];
    s->weight = in[WEIGHT];
    s->nll = in[NLL];
    s->bytes = in[BYTES];
    s->hash = (uint64_t)in[HIGH] << 32 | (uint64_t)in[LOW];
}

static int collect(job *j, td_error *error)
{
    td_team *team = j->spec->team;
    double  *parts;
    int      code;
    if (td_team_size(team) == 1)
        return 0;
    parts = td_team_zeros(team, j->all * PARTS, error);
    code = parts ? 0 : td_failed(error, TD_ENOMEM);
    for (int64_t i = 0; !code && i < j->all; i++)
        put_parts(&j->sequences[i], parts + i * PARTS);
    if (!code)
        code = td_team_sum(team, parts, j->all * PARTS, error);
    for (int64_t i = 0; !code && i < j->all; i++)
        take_parts(&j->sequences[i], parts + i * PARTS);
    free(parts);
    return code;
}

static int score_all(job *j, td_evaluation_progress *progress, void *arg, td_error *error)
{
    place p = { 0 };
    bool  more = advance(j, &p);
    int   code = 0;
    while (more && !code)
        code = score_round(j, &p, progress, arg, &more, error);
    return code ? code : collect(j, error);
}

/* ---- over sequences -------------------------------------------------------------------------- */

/* The sums of a source are divided only once: a mean of means would give short sequences more
 * weight. */
static int sum_up(const td_sequence_score *s, int64_t n, td_score *out, td_error *error)
{
    double     *nll = calloc(2 * (size_t)n + 1, sizeof *nll), *weight, sum = 0, bytes = 0;
    td_estimate e;
    if (!nll)
        return td_fail(error, TD_ENOMEM, "out of memory for the scores of %lld sequences",
                       (long long)n);
    weight = nll + n;
    for (int64_t i = 0; i < n; i++) {
        nll[i] = s[i].nll;
        weight[i] = s[i].weight;
        out->targets += s[i].targets;
        sum += s[i].nll;
        /* unknown for one, so for all */
        bytes = s[i].bytes < 0 || bytes < 0 ? -1 : bytes + s[i].bytes;
    }
    e = td_ratio(nll, weight, n);
    out->nll = e.mean;
    out->nll_error = e.error;
    out->bits_per_byte = bytes > 0 ? sum / log(2) / bytes : -1;
    free(nll);
    return 0;
}

/* The scores of sources from those of their sequences, which are in the same order. */
static int sum_up_sources(const job *j, td_evaluation *out, td_error *error)
{
    const td_arrange_spec *f = &j->spec->feed;
    int64_t                at = 0;
    for (int64_t s = 0; s < out->count; s++) {
        int64_t n = wanted(j->spec, s);
        out->at[s].source = TD_HOOK(f->data, source_name, f->data_state, s);
        out->at[s].sequences = n;
        if (sum_up(j->sequences + at, n, &out->at[s], error))
            return td_failed(error, TD_ENOMEM);
        at += n;
    }
    return 0;
}

/* The unweighted mean over sources: each stands for one kind of text, whatever its length. */
static void average(td_evaluation *e)
{
    int64_t n = 0, known = 0;
    double  bits = 0, variance = 0;
    /* a source without held-out text has no score, and does not count in the mean */
    for (int64_t i = 0; i < e->count; i++) {
        if (e->at[i].targets) {
            e->nll += e->at[i].nll;
            variance += e->at[i].nll_error * e->at[i].nll_error;
            n++;
        }
        if (e->at[i].targets && e->at[i].bits_per_byte >= 0) {
            bits += e->at[i].bits_per_byte;
            known++;
        }
    }
    e->nll = n ? e->nll / (double)n : NAN;
    /* sources are independent; NaN if the error of one is unknown */
    e->nll_error = n ? sqrt(variance) / (double)n : NAN;
    /* a mean over only some sources would not be comparable with one over all */
    e->bits_per_byte = n && known == n ? bits / (double)known : -1;
}

/* The number of sequences in all sources. */
static int count_all(const td_evaluate_spec *spec, int64_t *all, td_error *error)
{
    *all = 0;
    for (int64_t s = 0; s < TD_HOOK(spec->feed.data, sources, spec->feed.data_state); s++)
        *all += wanted(spec, s);
    if (!*all && spec->feed.pair.inputs)
        return td_fail(error, TD_ECONFIG,
                       "there is nothing to evaluate on: no data source has held-out examples; add "
                       "some, or set train.evaluate_every = -1");
    return *all ? 0
                : td_fail(error, TD_ECONFIG,
                          "there is nothing to evaluate on: no data source has held-out text of "
                          "%lld tokens; add some, or set train.evaluate_every = -1",
                          (long long)spec->feed.length);
}

int td_evaluate_plan(td_engine *engine, const td_evaluate_spec *spec, td_footprint *footprint,
                     td_error *error)
{
    td_pair   pair = spec->feed.pair;
    int64_t   all = spec->batch, given = pair.inputs ? pair.inputs : prefix_of(spec);
    int64_t   scored = pair.inputs ? pair.targets : spec->feed.length - given;
    td_batch *shape = td_batch_new();
    int code = shape ? 0 : td_fail(error, TD_ENOMEM, "out of memory while planning an evaluation");
    /* a batch is never larger than the number of sequences to score */
    if (!code && spec->feed.data)
        code = count_all(spec, &all, error);
    if (!code)
        code = td_arrange_shape_of(&spec->feed, spec->batch < all ? spec->batch : all, given,
                                   scored, shape, error);
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
    /* td_evaluate frees whatever was allocated, even if that is not everything */
    out->count = TD_HOOK(f->data, sources, f->data_state);
    out->at = calloc((size_t)out->count + 1, sizeof *out->at);
    j->arena = td_arena_new();
    j->batch = td_batch_new();
    j->examples = calloc((size_t)batch + 1, sizeof *j->examples);
    j->sequences = out->sequences = calloc((size_t)j->all + 1, sizeof *out->sequences);
    out->n_sequences = j->all;
    return j->arena && j->batch && j->examples && out->at && out->sequences
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
    /* a process that fails alone would leave the others waiting for its sums */
    code = td_team_agree(spec->team, open_job(&j, out, error), error);
    if (!code)
        code = score_all(&j, progress, arg, error);
    if (!code)
        code = sum_up_sources(&j, out, error);
    if (!code)
        average(out);
    else
        td_evaluation_free(out);
    td_arena_free(j.arena);
    td_batch_free(j.batch);
    free(j.examples);
    free(j.nll);
    return code;
}

int td_evaluate_fetch(const td_evaluate_spec *spec, td_arena *arena, int64_t source, int64_t index,
                      td_example *out, td_error *error)
{
    return fetch(&(job){ .spec = spec, .arena = arena }, source, index, out, error);
}

void td_evaluation_free(td_evaluation *e)
{
    free(e->at);
    free(e->sequences);
    memset(e, 0, sizeof *e);
}
