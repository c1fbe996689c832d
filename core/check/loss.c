/* loss.c - the outputs of a loss: they agree with each other and with the logits that the model would
 * generate from. */
#include "check/cases.h"
#include "check/subject.h"

/* ---- sums ------------------------------------------------------------------------------------ */

/* Run the plan with a divisor of 4 and of 8: the loss times the divisor must not change. */
static void losses_times_divisor(td_subject *s, td_trial *t, td_plan *plan, double out[2])
{
    td_error e = { 0 };
    for (int k = 0; k < 2; k++) {
        double divisor = k ? 8 : 4;
        MUST(s->check,
             !td_plan_set_batch(plan, t->batch, &e) &&
                 !td_plan_set_scalar(plan, "loss_divisor", divisor, &e) && !td_plan_run(plan, &e),
             "%s: %s", s->label, td_check_error(&e));
        out[k] = td_plan_get_scalar(plan, t->built.loss) * divisor;
    }
}

/* Metrics and evaluation read `sum` and `nll`, training reads `loss`; they must agree. */
static void sums_of(td_subject *s)
{
    td_sentence       two[2];
    double            losses[TD_TOKENS], want = 0, sum, at[2];
    td_error          e = { 0 };
    const td_backend *b = s->device.backend;
    td_sentences(two);
    s->bare = true;
    td_trial t = td_trial_new(s, td_subject_batch(s, two, 1, 2));
    int      n = td_trial_losses(s, &t, losses);
    for (int i = 0; i < n; i++)
        want += losses[i];
    /* a separate plan, because the trial's does not compute `sum`, which nothing there reads */
    td_plan *plan = td_plan_new(t.built.graph, (td_tensor *[]){ t.built.loss, t.built.sum }, 2,
                                &s->device, &e);
    MUST(s->check, plan, "%s: %s", s->label, td_check_error(&e));
    void *memory = b->allocate(s->device.state, td_plan_arena(plan) + 64);
    MUST(s->check, memory && !td_plan_bind(plan, memory, &e), "%s", td_check_error(&e));
    losses_times_divisor(s, &t, plan, at);
    sum = td_plan_get_scalar(plan, t.built.sum);
    if (!td_check_near(sum, want, 1e-9))
        td_check_finding(s->check,
                         "%s: its sum is %.10g, but the cross-entropies of the tokens add up to "
                         "%.10g",
                         s->label, sum, want);
    if (!td_check_near(at[0], at[1], 1e-9))
        td_check_finding(s->check,
                         "%s: the loss is not divided by in->divisor: loss times divisor is %.10g "
                         "for 4 and %.10g for 8",
                         s->label, at[0], at[1]);
    b->release(s->device.state, memory, td_plan_arena(plan) + 64);
    td_plan_free(plan);
    td_trial_free(s, &t);
}

void td_check_sums(td_check *c) { td_check_in_double(c, sums_of); }

/* ---- caps ------------------------------------------------------------------------------------ */

/* A model's loss, and each token's cross-entropy by the loss and by the model's logits. */
typedef struct outcome {
    double loss, nll[TD_TOKENS], wanted[TD_TOKENS];
    int    n;
} outcome;

static double cross_entropy(const double *logits, int64_t n, int32_t label)
{
    double sum = 0; /* of few small numbers: it cannot overflow */
    for (int64_t k = 0; k < n; k++)
        sum += exp(logits[k]);
    return log(sum) - logits[label];
}

static void compare_with_logits(td_subject *s, td_trial *t, outcome *out)
{
    const float   *weights = td_batch_find(t->batch, "loss_weights")->data;
    const int32_t *labels = td_batch_find(t->batch, "labels")->data;
    int64_t        words = td_dim(t->built.logits, -1), count = td_count(t->built.logits);
    double        *logits = td_arena_alloc(s->check->arena, (size_t)count * sizeof *logits);
    td_error       e = { 0 };
    int            n = 0;
    MUST(s->check, logits && !td_plan_get(t->plan, t->built.logits, logits, count, &e), "%s: %s",
         s->label, td_check_error(&e));
    out->n = td_trial_losses(s, t, out->nll);
    for (int64_t k = 0; k < count / words; k++)
        if (weights[k] != 0)
            out->wanted[n++] = cross_entropy(logits + k * words, words, labels[k]);
    out->loss = td_plan_get_scalar(t->plan, t->built.loss);
}

static void run_with_logits(td_subject *s, outcome *out)
{
    td_sentence two[2];
    td_trial    t = { 0 };
    td_error    e = { 0 };
    td_sentences(two);
    t.batch = td_subject_batch(s, two, 1, 2);
    MUST(s->check,
         !td_model_forward(&s->model, s->variables, TD_PHASE_TRAIN, t.batch, true, &t.built, &e),
         "%s: %s", s->label, td_check_error(&e));
    td_trial_start(s, &t, (td_tensor *[]){ t.built.loss, t.built.nll, t.built.logits }, 3);
    compare_with_logits(s, &t, out);
    td_trial_free(s, &t);
}

/* If the flag were set and the loss did not cap, a capped model would be trained without its cap,
 * and generate with it. */
static void caps_of(td_subject *s)
{
    double *cap = td_check_field(&s->model.architecture, "logit_cap", TD_TYPE_FLOAT);
    outcome without, with;
    if (!cap) /* this architecture's logits have no caps */
        return;
    *cap = 0;
    run_with_logits(s, &without);
    *cap = 0.1; /* small, so that it bends every logit */
    run_with_logits(s, &with);
    *cap = 0;
    for (int k = 0; k < with.n; k++)
        if (!td_check_near(with.nll[k], with.wanted[k], 1e-9)) {
            td_check_finding(s->check,
                             "%s: with in->logit_cap 0.1 the cross-entropy of token %d is %.10g, "
                             "but that of the capped logits is %.10g: use td_cross_entropy_capped, "
                             "or leave out the flag TD_LOSS_CAPS",
                             s->label, k, with.nll[k], with.wanted[k]);
            return;
        }
    if (td_check_near(with.loss, without.loss, 1e-9))
        td_check_finding(s->check,
                         "%s: the loss is %.10g with in->logit_cap 0.1 and without a cap: "
                         "cap its logits, too",
                         s->label, with.loss);
}

void td_check_caps(td_check *c)
{
    if (!(((const td_loss *)(const void *)c->plugin)->flags & TD_LOSS_CAPS))
        td_check_skip(c, "it does not claim to cap logits (TD_LOSS_CAPS)");
    td_check_in_double(c, caps_of);
}
