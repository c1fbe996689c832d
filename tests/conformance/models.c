/* models.c - what every model must do, whatever plugins it is made of: right gradients, no leak
 * between packed examples, none from padding or from the future. */
#include "conformance/harness.h"

enum { PROBES = 3 }; /* entries tried per parameter */

static const double step = 1e-5;

static double loss_at(subject *s, trial *t, double *place, double x)
{
    double before = *place, loss;
    *place = x;
    run(s, t);
    loss = td_plan_get_scalar(t->plan, t->built.loss);
    *place = before;
    return loss;
}

static void gradient_of_entry(subject *s, trial *t, td_variable *v, int64_t n)
{
    double *x = (double *)v->memory + n, have, want;
    run(s, t);
    have = ((double *)td_model_gradient(s->variables, v->name)->memory)[n];
    want = (loss_at(s, t, x, *x + step) - loss_at(s, t, x, *x - step)) / (2 * step);
    cr_expect(fabs(have - want) <= 1e-6 * fmax(1, fabs(want)),
              "%s: d loss / d %s[%lld] is %.10g, not %.10g", label(s), v->name, (long long)n, have,
              want);
}

static void check_gradients(subject *s)
{
    trial  t = trial_new(s, sentences, 2, 1);
    size_t count = td_variables_count(s->variables);

    for (size_t i = 0; i < count; i++) {
        td_variable *v = td_variables_at(s->variables, i);
        for (uint64_t k = 0; v->kind == TD_VARIABLE_PARAM && k < PROBES; k++)
            gradient_of_entry(s, &t, v,
                              (int64_t)td_random_below(9, td_random_stream(v->name), k,
                                                       (uint64_t)v->count));
    }
    trial_free(s, &t);
}

Test(models, gradients_match_central_differences, .timeout = 120)
{
    lab l = lab_new();
    cr_assert_gt(each_model(&l, check_gradients), 20);
    lab_free(&l);
}

/* ---- packing --------------------------------------------------------------------------------- */

/* Add the gradients to `sum`, one parameter after the other. */
static size_t add_gradients(subject *s, double *sum)
{
    size_t at = 0;
    for (size_t i = 0; i < td_variables_count(s->variables); i++) {
        td_variable *v = td_variables_at(s->variables, i),
                    *g = td_model_gradient(s->variables, v->name);
        for (int64_t n = 0; v->kind == TD_VARIABLE_PARAM && n < v->count; n++)
            sum[at++] += ((double *)g->memory)[n];
    }
    return at;
}

static void check_packing(subject *s)
{
    s->bare = true;
    trial   packed = trial_new(s, sentences, 2, 3);
    double *together = calloc(1 << 14, sizeof *together), *apart = calloc(1 << 14, sizeof *apart);
    double  a[TOKENS], b[TOKENS];
    int     n = losses(&packed, a), m = 0;
    size_t  count = add_gradients(s, together);

    for (int k = 0; k < 2; k++) {
        trial alone = trial_new(s, &sentences[k], 1, k);
        m += losses(&alone, b + m);
        add_gradients(s, apart);
        trial_free(s, &alone);
    }
    cr_assert_eq(n, m, "%s: %d losses packed, %d alone", label(s), n, m);
    for (int i = 0; i < n; i++)
        cr_expect(fabs(a[i] - b[i]) <= 1e-12 * fmax(1, fabs(b[i])),
                  "%s: token %d: %.15g packed, %.15g alone", label(s), i, a[i], b[i]);
    for (size_t i = 0; i < count; i++)
        cr_expect(fabs(together[i] - apart[i]) <= 1e-12 * fmax(1, fabs(apart[i])),
                  "%s: gradient %zu: %.15g packed, %.15g alone", label(s), i, together[i],
                  apart[i]);
    free(together), free(apart);
    trial_free(s, &packed);
}

Test(models, packed_examples_are_as_alone, .timeout = 120)
{
    lab l = lab_new();
    cr_assert_gt(each_model(&l, check_packing), 20);
    lab_free(&l);
}

/* ---- what may not be seen -------------------------------------------------------------------- */

/* The losses of both sentences, packed. */
static int losses_of(subject *s, const sentence *texts, double *out)
{
    trial t = trial_new(s, texts, 2, 2);
    int   n = losses(&t, out);
    trial_free(s, &t);
    return n;
}

static int predicted_of(const subject *s, const sentence *text)
{
    double out[TOKENS];
    trial  t = trial_new((subject *)(uintptr_t)s, text, 1, 0);
    int    n = losses(&t, out);
    trial_free((subject *)(uintptr_t)s, &t);
    return n;
}

static void check_neighbours(subject *s)
{
    sentence changed[2] = { sentences[0], sentences[1] };
    double   before[TOKENS], after[TOKENS];
    int      n = losses_of(s, sentences, before), first = predicted_of(s, sentences);
    bool     differs = false;

    for (int k = 0; k < 4; k++)
        changed[0].given[k] = 10 - changed[0].given[k],
        changed[0].predicted[k % 3] = (int32_t)(2 + k);
    cr_assert_eq(losses_of(s, changed, after), n);
    for (int i = 0; i < first; i++)
        differs = differs || before[i] != after[i];
    cr_expect(differs, "%s: other tokens change no loss at all", label(s));
    for (int i = first; i < n; i++)
        cr_expect_eq(before[i], after[i], "%s: token %d sees the example before its own", label(s),
                     i);
}

Test(models, packed_examples_do_not_see_each_other, .timeout = 120)
{
    lab l = lab_new();
    cr_assert_gt(each_model(&l, check_neighbours), 20);
    lab_free(&l);
}

static void check_future(subject *s)
{
    sentence changed[2] = { sentences[0], sentences[1] };
    double   before[TOKENS], after[TOKENS];
    int      n = losses_of(s, sentences, before);

    changed[1].predicted[3] = 8; /* label of the last token but one, read by the last */
    cr_assert_eq(losses_of(s, changed, after), n);
    for (int i = 0; i < n - 2; i++)
        cr_expect_eq(before[i], after[i], "%s: token %d sees a token that it is to predict later",
                     label(s), i);
    cr_expect_neq(before[n - 2], after[n - 2], "%s: the label does not count", label(s));
    cr_expect_neq(before[n - 1], after[n - 1], "%s: the last token does not see the one before it",
                  label(s));
}

Test(models, the_future_is_hidden, .timeout = 120)
{
    lab l = lab_new();
    cr_assert_gt(each_model(&l, check_future), 20);
    lab_free(&l);
}
