/* models.c - what every part of a model must do, in every model that can have it. */
#include "check/cases.h"
#include "check/subject.h"
#include "tandem/random.h"

static td_device checking(td_check *c) { return td_check_device(c, TD_F64, 1); }

/* With its options as they are in every model, and with others in one. */
static void in_double(td_check *c, void (*f)(td_subject *))
{
    td_device d = checking(c);
    int       n = td_check_variants(c);
    for (c->variant = 0; c->variant <= n; c->variant++)
        td_each_subject(c, &td_usual_sizes, &d, f);
    c->variant = 0;
}

/* ---- gradients ------------------------------------------------------------------------------- */

enum { PROBES = 3 }; /* entries tried per parameter */

static double loss_at(td_subject *s, td_trial *t, double *place, double x)
{
    double before = *place, loss;
    *place = x;
    td_trial_run(s, t);
    loss = td_plan_get_scalar(t->plan, t->built.loss);
    *place = before;
    return loss;
}

/* The slope around x; where the function bends at x (a maximum, a router's choice), the one to either
 * side is right too. */
static bool slope_is(td_subject *s, td_trial *t, double *x, double have, double *want)
{
    const double step = 1e-5;
    double       at = loss_at(s, t, x, *x);
    double       up = (loss_at(s, t, x, *x + step) - at) / step;
    double       down = (at - loss_at(s, t, x, *x - step)) / step;
    *want = (up + down) / 2;
    if (td_check_near(up, down, 1e-2))
        return td_check_near(have, *want, 1e-6);
    return td_check_near(have, up, 1e-4) || td_check_near(have, down, 1e-4);
}

static void gradient_of_entry(td_subject *s, td_trial *t, td_variable *v, int64_t n)
{
    double *x = (double *)v->memory + n, have, want;
    td_trial_run(s, t);
    have = ((double *)td_model_gradient(s->variables, v->name)->memory)[n];
    if (!slope_is(s, t, x, have, &want))
        td_check_finding(s->check,
                         "%s: d loss / d %s[%lld] is %.10g, but central differences give %.10g",
                         s->label, v->name, (long long)n, have, want);
}

static void gradients_of(td_subject *s)
{
    td_sentence two[2];
    td_trial    t;
    td_sentences(two);
    t = td_trial_new(s, td_subject_batch(s, two, 1, 1));
    for (size_t i = 0, count = td_variables_count(s->variables); i < count; i++) {
        td_variable *v = td_variables_at(s->variables, i);
        uint64_t     probes = s->check->variant ? 1 : PROBES;
        for (uint64_t k = 0; v->kind == TD_VARIABLE_PARAM && k < probes; k++)
            gradient_of_entry(s, &t, v,
                              (int64_t)td_random_below(9, td_random_stream(v->name), k,
                                                       (uint64_t)v->count));
    }
    td_trial_free(s, &t);
}

void td_check_gradients(td_check *c) { in_double(c, gradients_of); }

/* ---- packing --------------------------------------------------------------------------------- */

/* The gradients added up, one parameter after the other; free() it. */
static double *add_gradients(const td_subject *s, double *sum, size_t *count)
{
    size_t at = 0, room = 0;
    for (size_t i = 0; i < td_variables_count(s->variables); i++)
        room += (size_t)td_variables_at(s->variables, i)->count;
    sum = sum ? sum : calloc(room + 1, sizeof *sum);
    for (size_t i = 0; sum && i < td_variables_count(s->variables); i++) {
        td_variable *v = td_variables_at(s->variables, i),
                    *g = td_model_gradient(s->variables, v->name);
        for (int64_t n = 0; v->kind == TD_VARIABLE_PARAM && n < v->count; n++)
            sum[at++] += ((double *)g->memory)[n];
    }
    *count = at;
    return sum;
}

static void compare(const td_subject *s, const char *what, const double *have, const double *want,
                    size_t n)
{
    for (size_t i = 0; have && want && i < n; i++)
        if (!td_check_near(have[i], want[i], 1e-11))
            td_check_finding(s->check, "%s: %s %zu is %.15g, but %.15g alone", s->label, what, i,
                             have[i], want[i]);
}

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
        td_trial alone = td_trial_new(s, td_subject_batch(s, &two[k], 1, k));
        m += td_trial_losses(s, &alone, b + m);
        apart = add_gradients(s, apart, &own);
        td_trial_free(s, &alone);
    }
    MUST(s->check, n == m, "%s: %d losses packed, %d alone", s->label, n, m);
    compare(s, "in a row with another example, the loss of token", a, b, (size_t)n);
    compare(s, "in a row with another example, gradient", together, apart, count);
    free(together);
    free(apart);
    td_trial_free(s, &packed);
}

void td_check_packing(td_check *c) { in_double(c, packing_of); }

/* ---- what may not be seen -------------------------------------------------------------------- */

static void neighbours_of(td_subject *s)
{
    td_sentence two[2], changed[2];
    double      before[TD_TOKENS], after[TD_TOKENS], own[TD_TOKENS];
    int         n, first;
    bool        differs = false;

    td_sentences(two);
    td_sentences(changed);
    n = td_losses_of(s, two, 2, 2, before);
    first = td_losses_of(s, two, 1, 0, own);
    for (int k = 0; k < 4; k++) {
        changed[0].given[k] = 10 - changed[0].given[k];
        changed[0].predicted[k % 3] = (int32_t)(2 + k);
    }
    td_losses_of(s, changed, 2, 2, after);
    for (int i = 0; i < first; i++)
        differs = differs || before[i] != after[i];
    if (!differs)
        td_check_finding(s->check, "%s: other tokens change no loss at all", s->label);
    for (int i = first; i < n; i++)
        if (before[i] != after[i])
            td_check_finding(
                s->check,
                "%s: token %d sees the example before its own in the row: a masked key "
                "has influence",
                s->label, i - first);
}

void td_check_masked(td_check *c) { in_double(c, neighbours_of); }

/* Padding gets other ids: nothing may change. */
static void padding_of(td_subject *s)
{
    td_sentence two[2];
    double      before[TD_TOKENS], after[TD_TOKENS];
    int         n;
    td_sentences(two);
    td_trial t = td_trial_new(s, td_subject_batch(s, two, 1, 5));
    n = td_trial_losses(s, &t, before);
    for (int32_t k = 0; k < t.batch->count; k++) {
        td_array       *a = &t.batch->at[k];
        size_t          length = strlen(a->name);
        const char     *of = !strncmp(a->name, "encoder", 7)   ? "encoder_segments"
                             : !strncmp(a->name, "decoder", 7) ? "decoder_segments"
                                                               : "segments";
        const td_array *segment = td_batch_find(t.batch, of);
        if (length < 4 || strcmp(a->name + length - 4, "_ids") || !segment || a->rank != 2)
            continue;
        for (int64_t i = 0; i < a->dim[0] * a->dim[1]; i++)
            if (!((const int32_t *)segment->data)[i])
                ((int32_t *)a->data)[i] = (int32_t)(1 + i % 9);
    }
    td_trial_run(s, &t);
    td_trial_losses(s, &t, after);
    for (int i = 0; i < n; i++)
        if (before[i] != after[i])
            td_check_finding(s->check, "%s: token %d sees padding", s->label, i);
    td_trial_free(s, &t);
}

void td_check_padding(td_check *c) { in_double(c, padding_of); }

/* What is read where the last token is predicted, in arrays that run along with the labels. */
static bool change_last_input(td_batch *b)
{
    const td_array *weights = td_batch_find(b, "loss_weights");
    int64_t         last = weights->dim[1];
    bool            changed = false;
    while (last > 0 && ((const float *)weights->data)[last - 1] == 0)
        last--;
    for (int32_t k = 0; last > 0 && k < b->count; k++) {
        td_array *a = &b->at[k];
        size_t    n = strlen(a->name);
        if (n < 4 || strcmp(a->name + n - 4, "_ids") || strncmp(a->name, "encoder", 7) == 0 ||
            a->rank != 2 || a->dim[1] != weights->dim[1])
            continue;
        int32_t *id = (int32_t *)a->data + last - 1;
        *id = *id == 8 ? 9 : 8;
        changed = true;
    }
    return changed;
}

/* Labels as they are, but another input at the last place: who sees one place too far would find its
 * own label there. */
static void next_of(td_subject *s)
{
    td_sentence two[2];
    double      before[TD_TOKENS], after[TD_TOKENS];
    int         n;
    td_sentences(two);
    td_trial t = td_trial_new(s, td_subject_batch(s, &two[1], 1, 1));
    n = td_trial_losses(s, &t, before);
    if (change_last_input(t.batch)) {
        td_trial_run(s, &t);
        td_trial_losses(s, &t, after);
        for (int i = 0; i < n - 1; i++)
            if (before[i] != after[i])
                td_check_finding(s->check,
                                 "%s: token %d sees what is read after it: its own label, "
                                 "one place on",
                                 s->label, i);
    }
    td_trial_free(s, &t);
}

static void future_of(td_subject *s)
{
    td_sentence two[2], changed[2];
    double      before[TD_TOKENS], after[TD_TOKENS];
    int         n;
    td_sentences(two);
    td_sentences(changed);
    n = td_losses_of(s, &two[1], 1, 1, before);
    changed[1].predicted[3] = 8; /* label of the last token but one, read by the last */
    td_losses_of(s, &changed[1], 1, 1, after);
    for (int i = 0; i < n - 2; i++)
        if (before[i] != after[i])
            td_check_finding(s->check, "%s: token %d sees a token that is to be predicted after it",
                             s->label, i);
    if (before[n - 2] == after[n - 2])
        td_check_finding(s->check, "%s: another label does not change its loss", s->label);
    if (before[n - 1] == after[n - 1])
        td_check_finding(s->check, "%s: the last token does not see the one before it", s->label);
    next_of(s);
}

void td_check_causality(td_check *c) { in_double(c, future_of); }

/* ---- order of rows --------------------------------------------------------------------------- */

static void permutation_of(td_subject *s)
{
    td_sentence two[2], swapped[2];
    double      a[TD_TOKENS], b[TD_TOKENS], own[TD_TOKENS];
    int         n, first;
    td_sentences(two);
    td_sentences(swapped);
    two[1].row = 1;
    swapped[0].row = 1;
    n = td_losses_of(s, two, 2, 0, a);
    swapped[1].row = 0;
    td_sentence turned[2] = { swapped[1], swapped[0] };
    td_losses_of(s, turned, 2, 0, b);
    two[0].row = 0;
    first = td_losses_of(s, two, 1, 0, own);
    for (int i = 0; i < n; i++) {
        double other = b[i < first ? n - first + i : i - first];
        if (!td_check_near(a[i], other, 1e-12))
            td_check_finding(s->check,
                             "%s: with the rows of the batch swapped, the loss of token %d is "
                             "%.15g, not %.15g",
                             s->label, i, other, a[i]);
        if (i < first && !td_check_near(a[i], own[i], 1e-12))
            td_check_finding(
                s->check,
                "%s: the loss of token %d is %.15g beside another row of the batch and "
                "%.15g without: rows may not mix",
                s->label, i, a[i], own[i]);
    }
}

void td_check_permutation(td_check *c) { in_double(c, permutation_of); }

/* ---- positions ------------------------------------------------------------------------------- */

enum { NEUTRAL, ROTATES, BIASES, SCHEMES };

/* The first scheme that does nothing, that rotates only, that biases only; NULL: there is none. */
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

/* Losses under a scheme; 0 if the attention refuses it. */
static int under(td_subject *s, const td_plugin *position, double *out)
{
    td_sentence text = td_sentence_of(6, 7, 4);
    td_part    *slot = td_check_slot(&s->model.architecture, TD_POSITION_KIND);
    td_batch   *batch = td_subject_batch(s, &text, 1, 0);
    td_built    built;
    td_error    e = { 0 };
    if (!slot || !position) {
        td_batch_free(batch);
        return 0;
    }
    *slot = td_check_default(s->check, TD_POSITION_KIND, position->name);
    if (td_model_forward(&s->model, s->variables, TD_PHASE_TRAIN, batch, false, &built, &e)) {
        td_batch_free(batch);
        return 0;
    }
    td_graph_free(built.graph);
    td_batch_free(batch);
    return td_losses_of(s, &text, 1, 0, out);
}

/* A scheme that rotates, or biases, must matter. */
static void positions_of(td_subject *s)
{
    static const char *const said[] = {
        "", "rotates queries and keys (td_rotate)",
        "biases the scores (td_attend_with, or in->position's bias)"
    };
    double neutral[TD_TOKENS], other[TD_TOKENS];
    int    n = under(s, scheme(s->check, NEUTRAL), neutral);
    for (int which = ROTATES; n && which < SCHEMES; which++) {
        const td_plugin *p = scheme(s->check, which);
        if (under(s, p, other) == n && !memcmp(neutral, other, (size_t)n * sizeof *other))
            td_check_finding(s->check, "%s: position '%s', which %s, changes nothing", s->label,
                             p->name, said[which]);
    }
}

void td_check_positions(td_check *c)
{
    td_device d = checking(c);
    td_each_subject(c, &td_usual_sizes, &d, positions_of);
}

/* ---- what a loss gives ----------------------------------------------------------------------- */

/* sum is that of the tokens' cross-entropies, and loss is divided by the divisor. */
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
    td_plan *plan = td_plan_new(t.built.graph, (td_tensor *[]){ t.built.loss, t.built.sum }, 2,
                                &s->device, &e);
    MUST(s->check, plan, "%s: %s", s->label, td_check_error(&e));
    void *memory = b->allocate(s->device.state, td_plan_arena(plan) + 64);
    MUST(s->check, memory && !td_plan_bind(plan, memory, &e), "%s", td_check_error(&e));
    for (int k = 0; k < 2; k++) {
        MUST(s->check,
             !td_plan_set_batch(plan, t.batch, &e) &&
                 !td_plan_set_scalar(plan, "loss_divisor", k ? 8 : 4, &e) && !td_plan_run(plan, &e),
             "%s: %s", s->label, td_check_error(&e));
        at[k] = td_plan_get_scalar(plan, t.built.loss) * (k ? 8 : 4);
    }
    sum = td_plan_get_scalar(plan, t.built.sum);
    if (!td_check_near(sum, want, 1e-9))
        td_check_finding(
            s->check, "%s: its sum is %.10g, but the cross-entropies of the tokens come to %.10g",
            s->label, sum, want);
    if (!td_check_near(at[0], at[1], 1e-9))
        td_check_finding(s->check,
                         "%s: the loss is not divided by in->divisor: %.10g / 4 and %.10g / 8",
                         s->label, at[0], at[1]);
    b->release(s->device.state, memory, td_plan_arena(plan) + 64);
    td_plan_free(plan);
    td_trial_free(s, &t);
}

void td_check_sums(td_check *c) { in_double(c, sums_of); }

/* ---- sizes ----------------------------------------------------------------------------------- */

static const td_sizes sweep[] = {
    { 1, 1, 2, 1 }, { 5, 1, 1, 3 }, { 7, 3, 6, 11 }, { 16, 4, 8, 32 }, { 13, 2, 16, 17 },
};
static const int64_t lengths[][2] = { { 1, 1 }, { 2, 7 }, { 31, 2 }, { 37, 41 } };

enum { SIZES = sizeof sweep / sizeof *sweep, LENGTHS = sizeof lengths / sizeof *lengths };

typedef struct shape_results {
    double *at;
    size_t  count, room;
} shape_results;

/* Losses and all gradients of every length, for the other precision. */
static void keep_result(shape_results *r, double x)
{
    if (r->count == r->room) {
        size_t  room = r->room ? 2 * r->room : 1024;
        double *larger = realloc(r->at, room * sizeof *larger);
        if (!larger)
            return;
        r->at = larger;
        r->room = room;
    }
    r->at[r->count++] = x;
}

static void shapes_of(td_subject *s)
{
    double loss[TD_TOKENS];
    for (int k = 0; k < LENGTHS; k++) {
        td_sentence text = td_sentence_of(lengths[k][0], lengths[k][1], (uint64_t)k);
        td_trial    t = td_trial_new(s, td_subject_batch(s, &text, 1, k));
        int         n = td_trial_losses(s, &t, loss);
        double      total = td_plan_get_scalar(t.plan, t.built.loss);
        if (n != lengths[k][1])
            td_check_finding(s->check, "%s: %lld tokens to predict, %d losses", s->label,
                             (long long)lengths[k][1], n);
        MUST(s->check, isfinite(total), "%s: the loss is %g", s->label, total);
        for (int i = 0; i < n; i++)
            keep_result(s->check->collected, loss[i]);
        td_trial_free(s, &t);
    }
}

static shape_results pass(td_check *c, int real)
{
    shape_results r = { 0 };
    td_device     d = td_check_device(c, real, 2);
    c->collected = &r;
    for (int k = 0; k < SIZES; k++)
        td_each_subject(c, &sweep[k], &d, shapes_of);
    td_each_subject(c, &td_usual_sizes, &d, shapes_of);
    return r;
}

/* In float and in double the same, as far as float goes. */
void td_check_shapes(td_check *c)
{
    shape_results wide = pass(c, TD_F64), narrow = pass(c, TD_F32);
    MUST(c, wide.count == narrow.count, "%zu losses in double, %zu in float", wide.count,
         narrow.count);
    for (size_t i = 0; i < wide.count; i++)
        if (!td_check_near(narrow.at[i], wide.at[i], 2e-3))
            td_check_finding(c, "loss %zu is %.7g in float and %.10g in double", i, narrow.at[i],
                             wide.at[i]);
    free(wide.at);
    free(narrow.at);
}

/* ---- determinism ----------------------------------------------------------------------------- */

typedef struct bits {
    uint64_t hash[8];
    int      count;
} bits;

static void hash_of(td_subject *s)
{
    bits       *found = s->check->collected;
    td_sentence three[3] = { td_sentence_of(31, 40, 5), td_sentence_of(67, 13, 6),
                             td_sentence_of(3, 90, 7) };
    uint64_t    h = td_random_stream("");
    size_t      size = td_dtype_size(s->device.backend->real);
    double      loss[TD_TOKENS];
    int         n;
    for (int k = 0; k < 3; k++)
        three[k].row = k;
    td_trial t = td_trial_new(s, td_subject_batch(s, three, 3, 0));
    td_text  dump = { 0 };
    n = td_trial_losses(s, &t, loss);
    td_graph_dump_text(t.built.graph, &dump);
    h = td_hash(h, td_text_get(&dump), strlen(td_text_get(&dump)));
    h = td_hash(h, loss, (size_t)n * sizeof *loss);
    for (size_t i = 0; i < td_variables_count(s->variables); i++) {
        const td_variable *v = td_variables_at(s->variables, i);
        h = td_hash(h, v->memory, (size_t)v->count * size);
    }
    if (found->count < 8)
        found->hash[found->count++] = h;
    td_text_free(&dump);
    td_trial_free(s, &t);
}

static bits run_with(td_check *c, int threads)
{
    bits      b = { { 0 }, 0 };
    td_device d = td_check_device(c, TD_F32, threads);
    c->collected = &b;
    td_each_subject(c, &(td_sizes){ 24, 2, 16, 48 }, &d, hash_of);
    return b;
}

void td_check_determinism(td_check *c)
{
    bits one = run_with(c, 1), again = run_with(c, 1), two = run_with(c, 2), three = run_with(c, 3);
    MUST(c, one.count == again.count, "built twice, it takes part in other models");
    for (int k = 0; k < one.count; k++) {
        if (one.hash[k] != again.hash[k])
            td_check_finding(c, "the same graph, losses and gradients do not come twice (model %d)",
                             k + 1);
        else if (one.hash[k] != two.hash[k] || one.hash[k] != three.hash[k])
            td_check_finding(c, "other bits with 2 or 3 threads than with 1 (model %d)", k + 1);
    }
}

/* ---- leaks ----------------------------------------------------------------------------------- */

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

void td_check_model_leak(td_check *c) { in_double(c, leak_of); }
