/* extrapolate.c - the loss of parts of a long sequence, from one pass per prefix.
 *
 * In every architecture a target sees the given tokens and the earlier targets. So the loss of a
 * token does not depend on where the sequence ends, and the scores of shorter total lengths are
 * part of those of the longest.
 */
#include "evaluate/extrapolate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/statistics.h"
#include "plugin/hook.h"
#include "team/pace.h"

typedef struct job {
    td_engine                 *engine;
    const td_extrapolate_spec *spec;
    td_arena                  *arena;
    td_batch                  *batch;
    double                    *nll;    /* one per label position */
    int64_t                    room;   /* allocated elements of nll */
    double                    *tokens; /* [longest + 1]: running sums of one sequence by position */
    double                 *values; /* [points][all]; 0 until they are collected from other ranks */
    double                 *counts; /* [most]: number of tokens that each value covers */
    int64_t                 most;   /* sequences per source */
    int64_t                 done, all; /* sequences: of this rank, of all sources */
    td_pace                 pace;
    td_evaluation_progress *progress;
    void                   *arg;
} job;

static int64_t longest(const td_extrapolate_spec *s) { return s->evaluate.feed.length; }

static int64_t sequences_of(const td_extrapolate_spec *s, int64_t source)
{
    const td_evaluate_spec *e = &s->evaluate;
    int64_t                 n = TD_HOOK(e->feed.data, held_out, e->feed.data_state, source);
    return e->sequences > 0 && e->sequences < n ? e->sequences : n;
}

static int64_t count_sources(const td_extrapolate_spec *s)
{
    return TD_HOOK(s->evaluate.feed.data, sources, s->evaluate.feed.data_state);
}

/* ---- points ---------------------------------------------------------------------------------- */

/* Adds every point of one prefix: total lengths, then bins by position. */
static size_t bins_of(const td_extrapolate_spec *s, int64_t prefix)
{
    return (size_t)((longest(s) - prefix + s->bin - 1) / s->bin);
}

/* Bins begin at multiples of their width, so that prefixes can be compared. The prefix cuts the
 * first bin; if little of it is left, it is merged into the second. */
static td_curve_point bin_at(const td_extrapolate_spec *s, int64_t prefix, int64_t k)
{
    int64_t first = (prefix + s->bin / 2) / s->bin, end = (first + k + 1) * s->bin;
    return (td_curve_point){ .prefix = prefix,
                             .from = k ? (first + k) * s->bin : prefix,
                             .to = end < longest(s) ? end : longest(s) };
}

static int lay_out(const td_extrapolate_spec *s, td_extrapolation *out, td_error *error)
{
    size_t bins = 0;
    /* bins begin at the prefix, so their number depends on it */
    for (size_t p = 0; p < s->n_prefixes; p++)
        bins += bins_of(s, s->prefixes[p]) + 1;
    out->trained = s->trained;
    out->lengths = calloc(s->n_lengths * s->n_prefixes + 1, sizeof *out->lengths);
    out->positions = calloc(bins + 1, sizeof *out->positions);
    if (!out->lengths || !out->positions)
        return td_fail(error, TD_ENOMEM, "out of memory for %zu points of a curve", bins);
    for (size_t p = 0; p < s->n_prefixes; p++) {
        for (size_t k = 0; k < s->n_lengths; k++)
            out->lengths[out->n_lengths++] = (td_curve_point){ .prefix = s->prefixes[p],
                                                               .from = s->prefixes[p],
                                                               .to = s->lengths[k] };
        for (int64_t k = 0;; k++) {
            td_curve_point b = bin_at(s, s->prefixes[p], k);
            if (b.from >= b.to)
                break;
            out->positions[out->n_positions++] = b;
        }
    }
    return 0;
}

static int check(const td_extrapolate_spec *s, td_error *error)
{
    const td_part         *part = &s->evaluate.feed.architecture;
    const td_architecture *a = (const void *)part->plugin;
    for (size_t p = 0; p < s->n_prefixes; p++) {
        int64_t   given = s->prefixes[p], all = longest(s);
        td_bounds bounds = { all, given, all - given, all };
        if (given < 1)
            return td_fail(error, TD_ECONFIG, "a prefix of %lld tokens: it must be 1 or more",
                           (long long)given);
        for (size_t k = 0; k < s->n_lengths; k++)
            if (s->lengths[k] <= given)
                return td_fail(error, TD_ECONFIG,
                               "a total length of %lld leaves nothing to score after a prefix of "
                               "%lld",
                               (long long)s->lengths[k], (long long)given);
        /* a position table may be too short */
        if (a->check_bounds && a->check_bounds(part->config, &bounds, error))
            return td_failed(error, TD_ECONFIG);
    }
    return 0;
}

/* ---- one sequence ---------------------------------------------------------------------------- */

/* tokens[t]: the sum over targets before position t. */
static void add_up(job *j, int64_t prefix)
{
    const td_array *weights = td_batch_find(j->batch, "loss_weights");
    const float    *w = weights->data;
    int64_t         t = prefix;
    for (int64_t k = 0; k <= prefix; k++)
        j->tokens[k] = 0;
    for (int64_t k = 0; k < weights->dim[1] && t < longest(j->spec); k++)
        if (w[k] != 0) {
            j->tokens[t + 1] = j->tokens[t] + j->nll[k];
            t++;
        }
}

static int reserve(job *j, td_error *error)
{
    const td_array *labels = td_batch_find(j->batch, "labels");
    /* padding has scores as well, so the batch's shape decides, not the number of tokens */
    int64_t         n = labels->dim[0] * labels->dim[1];
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

/* Alone in its batch, so that memory grows only with the length of one sequence. */
static int read_sequence(job *j, int64_t source, int64_t index, int64_t prefix, td_error *error)
{
    td_evaluate_spec cut = j->spec->evaluate;
    td_example       x;
    double           sum;
    cut.prefix = prefix;
    td_arena_reset(j->arena);
    if (td_evaluate_fetch(&cut, j->arena, source, index, &x, error))
        return td_failed(error, TD_EFORMAT);
    /* pairs come as they are, whatever length was asked for */
    if (x.n_given != prefix || x.n_given + x.n_predicted != longest(j->spec))
        return td_fail(error, TD_ECONFIG,
                       "held-out record %lld of source %lld is an (inputs, targets) pair: only "
                       "running text has sequences of any length",
                       (long long)index, (long long)source);
    if (td_arrange_examples(&cut.feed, &x, 1, j->batch, error) || reserve(j, error) ||
        td_engine_evaluate(j->engine, j->batch, &sum, j->nll, error))
        return td_failed(error, TD_EFORMAT);
    add_up(j, prefix);
    return 0;
}

/* ---- all sequences --------------------------------------------------------------------------- */

/* Stores the points of a prefix for a sequence. */
static void note_all(job *j, int64_t prefix, int64_t sequence, const td_extrapolation *out)
{
    size_t points = out->n_lengths + out->n_positions;
    for (size_t i = 0; i < points; i++) {
        const td_curve_point *c = i < out->n_lengths ? &out->lengths[i]
                                                     : &out->positions[i - out->n_lengths];
        if (c->prefix == prefix)
            j->values[i * (size_t)j->all + (size_t)sequence] = j->tokens[c->to] -
                                                               j->tokens[c->from];
    }
}

/* Tells the others how far this rank is, and learns whether one of them was asked to stop. */
static int tick(job *j)
{
    int64_t done;
    int     code = td_pace_tick(&j->pace, ++j->done, &done);
    if (!code && j->progress && j->progress(j->arg, done, j->all))
        code = TD_EEND;
    return code;
}

/* This rank's sequences of a source, whose first one is number `first` of all. */
static int score_source(job *j, int64_t source, int64_t first, const td_extrapolation *out,
                        td_error *error)
{
    const td_evaluate_spec *e = &j->spec->evaluate;
    int64_t                 n = sequences_of(j->spec, source);
    int64_t                 records = TD_HOOK(e->feed.data, held_out, e->feed.data_state, source);
    int                     code = 0;
    for (int64_t k = 0; k < n && !code; k++) {
        /* spread over the records: the first ones may all be of one document */
        int64_t index = k * records / n;
        if ((first + k) % td_team_size(e->team) != td_team_rank(e->team))
            continue;
        for (size_t p = 0; p < j->spec->n_prefixes && !code; p++) {
            code = read_sequence(j, source, index, j->spec->prefixes[p], error);
            if (!code)
                note_all(j, j->spec->prefixes[p], first + k, out);
        }
        if (!code)
            code = tick(j);
    }
    return code;
}

/* Each rank works at its own pace; then all get all values. */
static int score_all(job *j, const td_extrapolation *out, td_error *error)
{
    td_team *team = j->spec->evaluate.team;
    int64_t  first = 0;
    int      code = 0;
    for (int64_t s = 0; s < count_sources(j->spec) && !code; s++) {
        code = score_source(j, s, first, out, error);
        first += sequences_of(j->spec, s);
    }
    code = td_pace_end(&j->pace, j->done, code, error);
    if (code)
        return code;
    return td_team_sum(team, j->values, (int64_t)(out->n_lengths + out->n_positions) * j->all,
                       error);
}

/* ---- sources --------------------------------------------------------------------------------- */

/* Sums over sources, divided at the end; until then errors are kept as variances. `values`: those of
 * the first point and the source's first sequence. */
static void add_source(job *j, int64_t n, const double *values, td_curve_point *points,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        td_estimate e;
        for (int64_t k = 0; k < n; k++)
            j->counts[k] = (double)(points[i].to - points[i].from);
        e = td_ratio(values + i * (size_t)j->all, j->counts, n);
        points[i].nll += e.mean;
        points[i].error += e.error * e.error;
    }
}

static void add_sources(job *j, td_extrapolation *out)
{
    const double *values = j->values;
    for (int64_t s = 0; s < count_sources(j->spec); s++) {
        int64_t n = sequences_of(j->spec, s);
        if (n) {
            add_source(j, n, values, out->lengths, out->n_lengths);
            add_source(j, n, values + out->n_lengths * (size_t)j->all, out->positions,
                       out->n_positions);
        }
        values += n;
    }
}

/* The plain mean over sources, as in every evaluation. */
static void average(td_curve_point *points, size_t n, double sources)
{
    for (size_t i = 0; i < n; i++) {
        points[i].nll /= sources;
        points[i].error = sqrt(points[i].error) / sources;
    }
}

static int open_job(job *j, td_extrapolation *out, int64_t *sources, td_error *error)
{
    size_t points;
    *sources = 0;
    for (int64_t s = 0; s < count_sources(j->spec); s++) {
        int64_t n = sequences_of(j->spec, s);
        j->all += n;
        j->most = n > j->most ? n : j->most;
        *sources += n > 0;
    }
    if (!j->all)
        return td_fail(error, TD_ECONFIG, "no data source has held-out text of %lld tokens",
                       (long long)longest(j->spec));
    out->sequences = j->all;
    /* those of single sequences, to compute standard errors */
    points = out->n_lengths + out->n_positions;
    j->arena = td_arena_new();
    j->batch = td_batch_new();
    j->tokens = calloc((size_t)longest(j->spec) + 1, sizeof *j->tokens);
    j->values = calloc(points * (size_t)j->all, sizeof *j->values);
    j->counts = calloc((size_t)j->most, sizeof *j->counts);
    return j->arena && j->batch && j->tokens && j->values && j->counts
               ? 0
               : td_fail(error, TD_ENOMEM, "out of memory for sequences of %lld tokens",
                         (long long)longest(j->spec));
}

int td_extrapolate(td_engine *engine, const td_extrapolate_spec *spec,
                   td_evaluation_progress *progress, void *arg, td_extrapolation *out,
                   td_error *error)
{
    job     j = { .engine = engine,
                  .spec = spec,
                  .pace = { .team = spec->evaluate.team },
                  .progress = progress,
                  .arg = arg };
    int64_t sources = 0;
    int     code;

    memset(out, 0, sizeof *out);
    code = check(spec, error);
    if (!code)
        code = lay_out(spec, out, error);
    if (!code)
        code = open_job(&j, out, &sources, error);
    /* a process that fails alone would leave the others waiting */
    code = td_team_agree(spec->evaluate.team, code, error);
    if (!code)
        code = score_all(&j, out, error);
    /* every source counts equally, however many sequences it has */
    if (!code) {
        add_sources(&j, out);
        average(out->lengths, out->n_lengths, (double)sources);
        average(out->positions, out->n_positions, (double)sources);
    }
    td_arena_free(j.arena);
    td_batch_free(j.batch);
    free(j.nll);
    free(j.tokens);
    free(j.values);
    free(j.counts);
    return code;
}

void td_extrapolation_free(td_extrapolation *e)
{
    free(e->lengths);
    free(e->positions);
    memset(e, 0, sizeof *e);
}
