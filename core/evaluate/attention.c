/* attention.c - measures a model's attentions while it reads long sequences.
 *
 * The graph is the one that scores a batch. Its plan keeps the inputs of the chosen attentions
 * (looked_plan.c), and the weights are computed from these on the host (weights.c).
 */
#include "evaluate/attention.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/looked_plan.h"
#include "plugin/hook.h"

typedef struct job {
    td_engine             *engine;
    const td_analyze_spec *spec;
    td_arena              *arena;
    td_batch              *batch;
    td_built               built;
    td_looked_plan         at;   /* once the first sequence has been read */
    double                *nll;  /* one per label position */
    double                *text; /* [length]: sums of NLL by position */
    int64_t                done, all;
} job;

static int64_t length_of(const job *j) { return j->spec->evaluate.feed.length; }

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while analyzing sequences");
}

/* ---- the plan -------------------------------------------------------------------------------- */

/* Plans for the shapes of the batch, which are the same for all sequences. */
static int open_plan(job *j, td_error *error)
{
    int code = td_model_forward(td_engine_model(j->engine), td_engine_variables(j->engine),
                                TD_PHASE_EVALUATE, j->batch, false, &j->built, error);
    return code ? code
                : td_looked_plan_open(&j->at, j->engine, j->built.graph, j->built.nll, j->spec,
                                      error);
}

/* ---- sequences ------------------------------------------------------------------------------- */

static int read_sequence(job *j, int64_t source, int64_t index, td_error *error)
{
    const td_evaluate_spec *e = &j->spec->evaluate;
    td_example              x;
    td_arena_reset(j->arena);
    if (td_evaluate_fetch(e, j->arena, source, index, &x, error))
        return td_failed(error, TD_EFORMAT);
    if (x.n_given != e->prefix || x.n_given + x.n_predicted != length_of(j))
        return td_fail(error, TD_ECONFIG,
                       "held-out record %" PRId64 " of source %" PRId64 " is an (inputs, targets) "
                       "pair: only running text has sequences of any length",
                       index, source);
    return td_arrange_examples(&e->feed, &x, 1, j->batch, error);
}

static int add_nll(job *j, td_error *error)
{
    const td_array *weights = td_batch_find(j->batch, "loss_weights");
    const float    *w = weights->data;
    int64_t         n = td_count(j->built.nll), t = j->spec->evaluate.prefix;
    int             code = td_plan_get(j->at.plan, j->built.nll, j->nll, n, error);
    for (int64_t k = 0; k < n && k < weights->dim[1] && t < length_of(j) && !code; k++)
        if (w[k] != 0)
            j->text[t++] += j->nll[k];
    return code;
}

static int open_rest(job *j, td_error *error)
{
    int code = open_plan(j, error);
    if (code)
        return code;
    j->nll = calloc((size_t)td_count(j->built.nll) + 1, sizeof *j->nll);
    return j->nll ? 0 : out_of_memory(error);
}

static int look_at(job *j, int64_t source, int64_t index, td_error *error)
{
    int code = read_sequence(j, source, index, error);
    if (!code && !j->at.plan) /* all have the shapes of the first */
        code = open_rest(j, error);
    if (!code)
        code = td_plan_set_batch(j->at.plan, j->batch, error);
    if (!code)
        code = td_plan_set_scalar(j->at.plan, "loss_divisor", 1, error);
    if (!code)
        code = td_plan_run(j->at.plan, error);
    if (!code)
        code = add_nll(j, error);
    if (!code)
        code = td_looked_add(&j->at.looked, j->at.plan, td_engine_device(j->engine)->services,
                             error);
    return code;
}

/* Takes sequences from the sources in turn, until there are enough or none are left. */
static void share_out(job *j, int64_t *counts, int64_t sources)
{
    const td_arrange_spec *f = &j->spec->evaluate.feed;
    bool                   more = true;
    while (more && j->all < j->spec->evaluate.sequences) {
        more = false;
        for (int64_t s = 0; s < sources && j->all < j->spec->evaluate.sequences; s++) {
            if (counts[s] == TD_HOOK(f->data, held_out, f->data_state, s))
                continue;
            counts[s]++;
            j->all++;
            more = true;
        }
    }
}

static int look_at_source(job *j, int64_t source, int64_t n, td_evaluation_progress *progress,
                          void *arg, td_error *error)
{
    const td_arrange_spec *f = &j->spec->evaluate.feed;
    int64_t                records = TD_HOOK(f->data, held_out, f->data_state, source);
    for (int64_t k = 0; k < n; k++) {
        /* spread over the records: the first ones may all be of one document */
        int code = look_at(j, source, k * records / n, error);
        if (code)
            return code;
        j->done++;
        if (progress && progress(arg, j->done, j->all))
            return TD_EEND;
    }
    return 0;
}

static int look_at_all(job *j, td_evaluation_progress *progress, void *arg, td_error *error)
{
    const td_arrange_spec *f = &j->spec->evaluate.feed;
    int64_t                sources = TD_HOOK(f->data, sources, f->data_state);
    int64_t               *counts = calloc((size_t)sources + 1, sizeof *counts);
    int                    code = 0;
    if (!counts)
        return out_of_memory(error);
    /* all sources come before the first sequence, because progress reports the total */
    share_out(j, counts, sources);
    if (!j->all)
        code = td_fail(error, TD_ECONFIG, "no data source has held-out text of %" PRId64 " tokens",
                       length_of(j));
    for (int64_t s = 0; s < sources && !code; s++)
        code = look_at_source(j, s, counts[s], progress, arg, error);
    free(counts);
    return code;
}

/* ---- results --------------------------------------------------------------------------------- */

static int copy_without(const job *j, td_analysis *out, td_error *error)
{
    out->without = calloc(j->at.found.n_without + 1, sizeof *out->without);
    if (!out->without)
        return out_of_memory(error);
    for (size_t k = 0; k < j->at.found.n_without; k++) {
        out->without[k] = strdup(j->at.found.without[k]);
        if (!out->without[k])
            return out_of_memory(error);
        out->n_without++;
    }
    return 0;
}

static int average_text(const job *j, td_analysis *out, td_error *error)
{
    int64_t prefix = j->spec->evaluate.prefix, n = length_of(j) - prefix;
    int64_t parts = n < TD_WEIGHTS_PARTS ? n : TD_WEIGHTS_PARTS;
    out->logprobs = calloc((size_t)parts + 1, sizeof *out->logprobs);
    if (!out->logprobs)
        return out_of_memory(error);
    out->n_logprobs = (size_t)parts;
    for (int64_t k = 0; k < parts; k++) {
        td_logprob_part *p = &out->logprobs[k];
        p->from = prefix + td_weights_part(k, n, parts);
        p->to = prefix + td_weights_part(k + 1, n, parts);
        for (int64_t t = p->from; t < p->to; t++)
            /* text[] has the NLL of each position, summed over sequences */
            p->logprob -= j->text[t];
        p->logprob /= (double)(j->all * (p->to - p->from));
    }
    return 0;
}

static int average(job *j, td_analysis *out, td_error *error)
{
    int code = td_looked_average(&j->at.looked, out, error);
    if (!code)
        code = copy_without(j, out, error);
    if (!code)
        code = average_text(j, out, error);
    out->length = length_of(j);
    out->prefix = j->spec->evaluate.prefix;
    out->sequences = j->all;
    return code;
}

/* ---- the function ---------------------------------------------------------------------------- */

static int check(const td_analyze_spec *s, td_error *error)
{
    const td_part         *part = &s->evaluate.feed.architecture;
    const td_architecture *a = (const void *)part->plugin;
    int64_t                given = s->evaluate.prefix, all = s->evaluate.feed.length;
    td_bounds              bounds = { all, given, all - given, all };
    if (given < 1 || given >= all)
        return td_fail(error, TD_ECONFIG,
                       "a prefix of %" PRId64 " tokens in sequences of %" PRId64
                       ": it must be 1 or "
                       "more, and leave something to predict",
                       given, all);
    /* a position table may be too short */
    return a->check_bounds && a->check_bounds(part->config, &bounds, error)
               ? td_failed(error, TD_ECONFIG)
               : 0;
}

static void close_job(job *j)
{
    td_looked_plan_close(&j->at);
    td_arena_free(j->arena);
    td_batch_free(j->batch);
    free(j->nll);
    free(j->text);
}

int td_analyze(td_engine *engine, const td_analyze_spec *spec, td_evaluation_progress *progress,
               void *arg, td_analysis *out, td_error *error)
{
    job j = { .engine = engine, .spec = spec };
    int code;

    /* cleared first: the caller frees it even if nothing was done */
    memset(out, 0, sizeof *out);
    code = check(spec, error);
    if (code)
        return code;
    j.arena = td_arena_new();
    j.batch = td_batch_new();
    j.text = calloc((size_t)length_of(&j) + 1, sizeof *j.text);
    code = j.arena && j.batch && j.text ? 0 : out_of_memory(error);
    if (!code)
        code = look_at_all(&j, progress, arg, error);
    if (!code)
        code = average(&j, out, error);
    close_job(&j);
    return code;
}
