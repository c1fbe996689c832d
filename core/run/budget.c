/* budget.c - the steps of a run whose length is a budget of loss targets or of FLOPs.
 *
 * A schedule needs the number of steps before the first one, so the budget is converted to steps
 * once, when the data is open, from the average number of tokens that a step of this config reads.
 * The sample is a function of config and data alone, so a resumed run finds the same number.
 */
#include <inttypes.h>
#include <math.h>

#include "run/session.h"
#include "train/feed.h"

enum { SAMPLE = 256 }; /* records: with drawn spans, their mean is within a percent */

typedef struct sample {
    double  targets, flops;
    int64_t records, steps;
} sample;

static int add_flops(td_engine *e, const td_feed_batch *b, double *sum, td_error *error)
{
    for (int64_t m = 0; m < b->n_micro; m++) {
        double flops;
        if (td_engine_flops(e, b->micro[m], &flops, error))
            return td_failed(error, TD_EGRAPH);
        *sum += flops;
    }
    return 0;
}

/* `e` NULL: FLOPs are not needed. */
static int read_sample(td_feed *feed, td_engine *e, sample *out, td_error *error)
{
    while (out->records < SAMPLE) {
        const td_feed_batch *b = td_feed_next(feed, error);
        if (!b)
            return td_failed(error, TD_EIO);
        out->targets += (double)b->targets;
        out->records += b->records;
        out->steps++;
        if (e && add_flops(e, b, &out->flops, error))
            return td_failed(error, TD_EGRAPH);
        if (!b->records) /* nothing more to read: step 1 will report it */
            break;
    }
    return 0;
}

static int take_sample(td_session *s, bool flops, sample *out, td_error *error)
{
    td_arrange_spec spec = td_session_feed(s);
    /* a separate engine: plans for these shapes are not part of the run's memory */
    td_engine      *e = flops ? td_session_engine(s, true, error) : NULL;
    td_feed        *feed = flops && !e ? NULL : td_feed_open(&spec, 0, error);
    int             code = feed ? read_sample(feed, e, out, error) : td_failed(error, TD_EIO);
    td_feed_close(feed);
    td_engine_close(e);
    return code;
}

/* Round up: a budget is used up, by the last step at the latest. */
static int steps_of(const char *key, double budget, double each, int64_t *steps, td_error *error)
{
    double n = each > 0 ? ceil(budget / each) : 0;
    if (n < 1 || n > 99999999)
        return td_fail(error, TD_ECONFIG,
                       "%s = %g at %g a step amounts to %g steps; a run can have 1 to 99999999",
                       key, budget, each, n);
    *steps = (int64_t)n;
    return 0;
}

static int apply(td_session *s, int64_t steps, const char *origin, td_error *error)
{
    td_errors errors = { 0 };
    int       code = td_experiment_set_steps(s->x, steps, origin, &errors);
    if (code)
        td_fail(error, code, "%" PRId64 " steps (%s): %s", steps, origin,
                td_text_get(&errors.text));
    td_errors_free(&errors);
    td_text_free(&s->config); /* it still has the old number of steps */
    return code;
}

int td_session_set_length(td_session *s, td_error *error)
{
    td_budget   by = td_experiment_budget(s->x);
    bool        flops = by == TD_BUDGET_FLOPS;
    const char *key = flops ? "train.flops" : "train.target_tokens";
    double      budget = flops ? s->x->train.flops : s->x->train.target_tokens, each;
    sample      out = { 0 };
    int64_t     steps = 0;
    char        origin[160];
    if (by == TD_BUDGET_STEPS)
        return 0;
    /* what a step costs depends on the text: lengths, padding, where the loss splits */
    if (take_sample(s, flops, &out, error))
        return td_failed(error, TD_EIO);
    each = (flops ? out.flops : out.targets) / (double)out.steps;
    if (steps_of(key, budget, each, &steps, error))
        return td_failed(error, TD_ECONFIG);
    snprintf(origin, sizeof origin, "%s = %g, at %.6g a step", key, budget, each);
    td_log_line(s->log, TD_LOG_INFO, "%" PRId64 " steps: %s", steps, origin);
    return apply(s, steps, origin, error);
}
