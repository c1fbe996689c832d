/* models.c - requirements on every part of a model, in every model that it fits: correct gradients,
 * and examples that do not depend on their neighbours.
 *
 * Everything is computed in double, where rounding is far below any error of a plugin: tolerances
 * are tight, and a finding is never noise. Each test is run for the plugin's options as they are
 * and for variants of them (variant.c). What a token may see is in visibility.c; sizes, float and
 * threads are in sizes.c.
 */
#include "check/cases.h"
#include "check/subject.h"
#include "tandem/random.h"

/* ---- gradients ------------------------------------------------------------------------------- */

enum { PROBES = 3 }; /* entries tried per parameter: every entry would take minutes */

/* The loss with the number at `place` replaced by x; the number is restored. */
static double loss_at(td_subject *s, td_trial *t, td_variable *v, int64_t n, double x)
{
    double before = td_check_get(s->check, &s->device, v, n), loss;
    td_check_set(s->check, &s->device, v, n, x);
    td_trial_run(s, t);
    loss = td_plan_get_scalar(t->plan, t->built.loss);
    td_check_set(s->check, &s->device, v, n, before);
    return loss;
}

/* Compare a gradient with the slope around x, in double: a step of 1e-5 leaves ten good digits.
 * Where the function bends at x (a maximum, a router's choice), the slope to either side is
 * right. */
static bool slope_is(td_subject *s, td_trial *t, td_variable *v, int64_t n, double have,
                     double *want)
{
    const double step = 1e-5;
    double       x = td_check_get(s->check, &s->device, v, n), at = loss_at(s, t, v, n, x);
    double       up = (loss_at(s, t, v, n, x + step) - at) / step;
    double       down = (at - loss_at(s, t, v, n, x - step)) / step;
    *want = (up + down) / 2;
    if (td_check_near(up, down, 1e-2))
        return td_check_near(have, *want, 1e-6);
    return td_check_near(have, up, 1e-4) || td_check_near(have, down, 1e-4);
}

/* Entry n of one parameter. Whether the loss depends on it. */
static bool gradient_of_entry(td_subject *s, td_trial *t, td_variable *v, int64_t n)
{
    double have, want;
    td_trial_run(s, t); /* slope_is has overwritten the gradients with those of another point */
    have = td_check_get(s->check, &s->device, td_model_gradient(s->variables, v->name), n);
    if (!slope_is(s, t, v, n, have, &want))
        td_check_finding(s->check,
                         "%s: d loss / d %s[%lld] is %.10g, but central differences give %.10g",
                         s->label, v->name, (long long)n, have, want);
    return want != 0;
}

/* Random entries of a parameter, until enough of them matter: of a table, a short text reads few
 * rows, and a gradient of 0 is right for all others. */
static void gradient_of(td_subject *s, td_trial *t, td_variable *v)
{
    enum { MOST = 24 };
    /* a variant repeats all of this for one option: fewer entries will do */
    int      wanted = s->check->variant ? 1 : PROBES;
    uint64_t stream = td_random_stream(v->name), most = v->count < MOST ? (uint64_t)v->count : MOST;
    for (uint64_t k = 0; k < most && wanted; k++)
        wanted -= gradient_of_entry(s, t, v,
                                    (int64_t)td_random_below(9, stream, k, (uint64_t)v->count));
}

void td_gradients_of(td_subject *s)
{
    td_sentence two[2];
    td_trial    t;
    td_sentences(two);
    t = td_trial_new(s, td_subject_batch(s, two, 1, 1));
    for (size_t i = 0, count = td_variables_count(s->variables); i < count; i++)
        if (td_variables_at(s->variables, i)->kind == TD_VARIABLE_PARAM)
            gradient_of(s, &t, td_variables_at(s->variables, i));
    td_trial_free(s, &t);
}

/* Whether the model can be built for one short text: parts may refuse each other only then. */
static bool can_be_built(td_subject *s)
{
    td_sentence text = td_sentence_of(6, 7, 4);
    td_batch   *batch = td_subject_batch(s, &text, 1, 0);
    td_built    built;
    td_error    e = { 0 };
    bool built_it = !td_model_forward(&s->model, s->variables, TD_PHASE_TRAIN, batch, false, &built,
                                      &e);
    if (built_it)
        td_graph_free(built.graph);
    td_batch_free(batch);
    return built_it;
}

/* Put another scheme into the model, without parameters of the one before it; false if there is no
 * place for it, or parts refuse it. */
static bool use_scheme(td_subject *s, const td_plugin *position)
{
    td_part *slot = td_check_slot(&s->model.architecture, TD_POSITION_KIND);
    if (!slot)
        return false;
    *slot = td_check_default(s->check, TD_POSITION_KIND, position->name);
    td_variables_release(s->variables, &s->device);
    td_variables_free(s->variables);
    s->variables = td_variables_new();
    MUST(s->check, s->variables, "out of memory");
    return can_be_built(s);
}

/* A bias may be learned, and then has a gradient that goes through the attention. */
static void biased_gradients_of(td_subject *s)
{
    size_t label = strlen(s->label);
    for (size_t i = 0; i < td_registry_count(s->check->registry); i++) {
        const td_plugin *p = td_registry_plugin(s->check->registry, i);
        if (!td_check_is_kind(p, TD_POSITION_KIND) ||
            !((const td_position *)(const void *)p)->bias || !use_scheme(s, p))
            continue;
        snprintf(s->label + label, sizeof s->label - label, ", position '%s'", p->name);
        td_gradients_of(s);
    }
}

void td_check_gradients(td_check *c)
{
    td_check_in_double(c, td_gradients_of);
    if (td_check_is_kind(c->plugin, TD_ATTENTION_KIND)) {
        td_device d = td_check_device(c, TD_F64, 1);
        td_each_subject(c, &td_usual_sizes, &d, biased_gradients_of);
    }
}

/* ---- packing --------------------------------------------------------------------------------- */

/* Add the gradients of all parameters, one after the other, to `sum` (NULL: a new one); free()
 * it. */
static double *add_gradients(const td_subject *s, double *sum, size_t *count)
{
    size_t at = 0, room = 0;
    for (size_t i = 0; i < td_variables_count(s->variables); i++)
        room += (size_t)td_variables_at(s->variables, i)->count;
    sum = sum ? sum : calloc(room + 1, sizeof *sum);
    for (size_t i = 0; sum && i < td_variables_count(s->variables); i++) {
        /* gradients and states are variables too, but have no gradients */
        td_variable *v = td_variables_at(s->variables, i),
                    *g = td_model_gradient(s->variables, v->name);
        for (int64_t n = 0; v->kind == TD_VARIABLE_PARAM && n < v->count; n++)
            sum[at++] += td_check_get(s->check, &s->device, g, n);
    }
    *count = at;
    return sum;
}

/* Compare `have` with `want`, number by number; either is NULL if memory ran out. */
static void compare(const td_subject *s, const char *what, const double *have, const double *want,
                    size_t n)
{
    for (size_t i = 0; have && want && i < n; i++)
        if (!td_check_near(have[i], want[i], 1e-11))
            td_check_finding(s->check, "%s: %s %zu is %.15g; without the other example it is %.15g",
                             s->label, what, i, have[i], want[i]);
}

/* Two examples in one row, and each in a separate row: the same losses, and gradients that add
 * up. */
static void packing_of(td_subject *s)
{
    td_sentence two[2];
    double      a[TD_TOKENS], b[TD_TOKENS], *together, *apart = NULL;
    size_t      count, own;
    int         n, m = 0;
    td_sentences(two);
    s->bare = true;
    td_trial packed = td_trial_new(s, td_subject_batch(s, two, 2, 3));
    n = td_trial_losses(s, &packed, a);
    together = add_gradients(s, NULL, &count);
    for (int k = 0; k < 2; k++) {
        /* a different amount of padding from the packed row's, which must not matter */
        td_trial alone = td_trial_new(s, td_subject_batch(s, &two[k], 1, k));
        m += td_trial_losses(s, &alone, b + m);
        apart = add_gradients(s, apart, &own);
        td_trial_free(s, &alone);
    }
    MUST(s->check, n == m, "%s: %d losses packed, but %d one by one", s->label, n, m);
    compare(s, "in a row with another example, the loss of token", a, b, (size_t)n);
    compare(s, "in a row with another example, gradient", together, apart, count);
    free(together);
    free(apart);
    td_trial_free(s, &packed);
}

/* Most schemes see only how far two tokens are apart: one that sees positions themselves tells whether
 * they begin again with each example. */
static void packing_by_position_of(td_subject *s)
{
    size_t label = strlen(s->label);
    for (size_t i = 0; i < td_registry_count(s->check->registry); i++) {
        const td_plugin *p = td_registry_plugin(s->check->registry, i);
        if (!td_check_is_kind(p, TD_POSITION_KIND) ||
            !((const td_position *)(const void *)p)->embed || !use_scheme(s, p))
            continue;
        snprintf(s->label + label, sizeof s->label - label, ", position '%s'", p->name);
        packing_of(s);
    }
}

void td_check_packing(td_check *c)
{
    td_check_in_double(c, packing_of);
    if (td_check_is_kind(c->plugin, TD_ARCHITECTURE_KIND)) {
        td_device d = td_check_device(c, TD_F64, 1);
        td_each_subject(c, &td_usual_sizes, &d, packing_by_position_of);
    }
}

/* ---- order of rows --------------------------------------------------------------------------- */

/* Losses of the two sentences in the other order of rows; `first` tokens belong to the first
 * sentence. */
static void losses_swapped(td_subject *s, int first, double *out)
{
    td_sentence two[2], turned[2];
    double      found[TD_TOKENS];
    int         n;
    td_sentences(two);
    turned[0] = two[1];
    turned[1] = two[0];
    turned[1].row = 1;
    n = td_losses_of(s, turned, 2, 0, found);
    for (int i = 0; i < n; i++)
        out[i] = found[i < first ? n - first + i : i - first];
}

/* Two rows, the same rows swapped, and the first alone. */
static void permutation_of(td_subject *s)
{
    td_sentence two[2];
    double      a[TD_TOKENS], swapped[TD_TOKENS], own[TD_TOKENS];
    int         n, first;
    td_sentences(two);
    first = td_losses_of(s, two, 1, 0, own);
    two[1].row = 1;
    n = td_losses_of(s, two, 2, 0, a);
    losses_swapped(s, first, swapped);
    /* not bit for bit: a row's place decides how its sums are cut into pieces */
    for (int i = 0; i < n; i++) {
        if (!td_check_near(a[i], swapped[i], 1e-12))
            td_check_finding(s->check,
                             "%s: with the rows of the batch swapped, the loss of token %d is "
                             "%.15g, not %.15g",
                             s->label, i, swapped[i], a[i]);
        if (i < first && !td_check_near(a[i], own[i], 1e-12))
            td_check_finding(s->check,
                             "%s: the loss of token %d is %.15g with another row in the batch, but "
                             "%.15g without it: rows must not mix",
                             s->label, i, a[i], own[i]);
    }
}

void td_check_permutation(td_check *c) { td_check_in_double(c, permutation_of); }

/* ---- positions ------------------------------------------------------------------------------- */

enum { NEUTRAL, ROTATES, BIASES, SCHEMES };

/* The first scheme that does nothing, or only rotates, or only biases; NULL if there is none. */
static const td_plugin *scheme(const td_check *c, int which)
{
    for (size_t i = 0; i < td_registry_count(c->registry); i++) {
        const td_position *p = (const void *)td_registry_plugin(c->registry, i);
        if (td_check_is_kind(&p->plugin, TD_POSITION_KIND) && !p->embed &&
            !!p->rotate == (which == ROTATES) && !!p->bias == (which == BIASES))
            return &p->plugin;
    }
    return NULL;
}

/* Losses under a scheme; returns 0 if there is no such scheme, or the attention refuses it. */
static int losses_under(td_subject *s, const td_plugin *position, double *out)
{
    td_sentence text = td_sentence_of(6, 7, 4);
    td_part    *slot = td_check_slot(&s->model.architecture, TD_POSITION_KIND);
    if (!slot || !position)
        return 0;
    *slot = td_check_default(s->check, TD_POSITION_KIND, position->name);
    /* td_losses_of would report a refusal as a finding */
    return can_be_built(s) ? td_losses_of(s, &text, 1, 0, out) : 0;
}

/* An attention that forgets td_rotate, or in->position's bias, gives the same losses under all
 * schemes. */
static void positions_of(td_subject *s)
{
    static const char *const means[] = {
        "", "rotates queries and keys (td_rotate)",
        "biases the scores (td_attend_with, or the bias hook of in->position)"
    };
    double neutral[TD_TOKENS], other[TD_TOKENS];
    int    n = losses_under(s, scheme(s->check, NEUTRAL), neutral);
    /* without a neutral scheme there is nothing to compare with */
    for (int which = ROTATES; n && which < SCHEMES; which++) {
        const td_plugin *p = scheme(s->check, which);
        if (losses_under(s, p, other) == n && !memcmp(neutral, other, (size_t)n * sizeof *other))
            td_check_finding(s->check, "%s: position '%s', which %s, changes nothing", s->label,
                             p->name, means[which]);
    }
}

void td_check_positions(td_check *c)
{
    td_device d = td_check_device(c, TD_F64, 1);
    td_each_subject(c, &td_usual_sizes, &d, positions_of);
}

/* ---- windows --------------------------------------------------------------------------------- */

/* No shipped architecture has a window, but another may: the attention under test is wrapped in one
 * that narrows the mask of a decoder. Tests build one graph at a time. */
enum { WINDOW = 2 };
static const td_attention *wrapped;

static td_tensor *build_narrow(const void *config, const td_attention_in *in)
{
    td_attention_in narrow = *in;
    if (in->role == TD_ROLE_DECODER)
        narrow.mask.window = WINDOW;
    return wrapped->build(config, &narrow);
}

/* How many tokens back a token of the decoder sees through all layers. */
static int64_t reach_of(const td_subject *s)
{
    static const char *const names[] = { "layers", "decoder_layers" };
    int64_t                  layers = 0;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const int64_t *at = td_check_field(&s->model.architecture, names[k], TD_TYPE_INT);
        layers = at && *at > layers ? *at : layers;
    }
    return layers * (WINDOW - 1);
}

/* Change the first predicted token. Token j is predicted from token j - 1 and those that it sees. */
static void losses_beyond_window(td_subject *s)
{
    int64_t     reach = reach_of(s), beyond = reach + 2;
    td_sentence text = td_sentence_of(s->gives ? 3 : 0, beyond + 4, 5);
    double      before[TD_TOKENS], after[TD_TOKENS];
    int         n = td_losses_of(s, &text, 1, 0, before), first = n - 4;
    text.predicted[0] = text.predicted[0] == 2 ? 3 : 2;
    td_losses_of(s, &text, 1, 0, after);
    for (int i = first; i < n; i++)
        if (before[i] != after[i])
            td_check_finding(s->check,
                             "%s: in a mask with window = %d, token %d sees a token beyond it: "
                             "leave td_mask.window as it is or narrow it, or refuse it with "
                             "td_graph_fail",
                             s->label, WINDOW, i);
}

static void windows_of(td_subject *s)
{
    td_part     *slot = td_check_slot(&s->model.architecture, TD_ATTENTION_KIND);
    td_attention narrow;
    if (!slot || !slot->plugin || !reach_of(s))
        return;
    wrapped = (const void *)slot->plugin;
    narrow = *wrapped;
    narrow.build = build_narrow;
    slot->plugin = &narrow.plugin;
    if (can_be_built(s))
        losses_beyond_window(s);
    slot->plugin = &wrapped->plugin;
}

void td_check_windows(td_check *c)
{
    td_device d = td_check_device(c, TD_F64, 1);
    td_each_subject(c, &td_usual_sizes, &d, windows_of);
}

/* ---- leaks ----------------------------------------------------------------------------------- */

/* Build the forward graph and drop it: any other influence is a leak. */
static void build_once(td_check *c, void *argument)
{
    td_subject *s = argument;
    td_sentence two[2];
    td_built    built;
    td_error    e = { 0 };
    td_batch   *batch;
    td_sentences(two);
    batch = td_subject_batch(s, two, 1, 1);
    MUST(c, !td_model_forward(&s->model, s->variables, TD_PHASE_TRAIN, batch, false, &built, &e),
         "%s: %s", s->label, td_check_error(&e));
    td_graph_free(built.graph);
    td_batch_free(batch);
}

static void leak_of(td_subject *s) { td_check_leak(s->check, "building the graph", build_once, s); }

void td_check_model_leak(td_check *c) { td_check_in_double(c, leak_of); }
