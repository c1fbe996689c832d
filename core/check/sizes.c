/* sizes.c - a part of a model at many sizes, in float and in double, and on several threads: it
 * must work everywhere, agree, and give the same bits.
 *
 * Double is the judge of float: both run the same graph from the same numbers, on backends that
 * share no kernel. Threads are compared bit for bit, as a run that is resumed, or moved to another
 * machine, must equal an uninterrupted one.
 */
#include "check/cases.h"
#include "check/subject.h"
#include "tandem/random.h"

/* ---- sizes ----------------------------------------------------------------------------------- */

/* 1, primes, odd numbers, one head and several, powers of two: sizes that tiles and vectors get
 * wrong. */
static const td_sizes sweep[] = {
    { 1, 1, 2, 1 }, { 5, 1, 1, 3 }, { 7, 3, 6, 11 }, { 16, 4, 8, 32 }, { 13, 2, 16, 17 },
};
/* given and predicted tokens */
static const int64_t lengths[][2] = { { 1, 1 }, { 2, 7 }, { 31, 2 }, { 37, 41 } };

enum { SIZES = sizeof sweep / sizeof *sweep, LENGTHS = sizeof lengths / sizeof *lengths };

/* The losses of all sizes and lengths, to compare one precision with the other. */
typedef struct shape_results {
    double *at;
    size_t  count, room;
} shape_results;

/* Append one number. */
static void keep_result(shape_results *r, double x)
{
    if (r->count == r->room) {
        size_t  room = r->room ? 2 * r->room : 1024;
        double *larger = realloc(r->at, room * sizeof *larger);
        if (!larger)
            return; /* the counts will differ, which is reported */
        r->at = larger;
        r->room = room;
    }
    r->at[r->count++] = x;
}

/* Every length with this subject; its losses are kept. */
static void shapes_of(td_subject *s)
{
    double loss[TD_TOKENS];
    for (int k = 0; k < LENGTHS; k++) {
        td_sentence text = td_sentence_of(lengths[k][0], lengths[k][1], (uint64_t)k);
        td_trial    t = td_trial_new(s, td_subject_batch(s, &text, 1, k));
        int         n = td_trial_losses(s, &t, loss);
        double      total = td_plan_get_scalar(t.plan, t.built.loss);
        if (n != lengths[k][1])
            td_check_finding(s->check, "%s: %lld tokens to predict, but %d losses", s->label,
                             (long long)lengths[k][1], n);
        /* the tokens' losses are finite by now; an auxiliary one may not be */
        MUST(s->check, isfinite(total), "%s: the loss is %g", s->label, total);
        for (int i = 0; i < n; i++)
            keep_result(s->check->collected, loss[i]);
        td_trial_free(s, &t);
    }
}

/* Everything once, on the first backend that computes in `real`. */
static shape_results losses_in(td_check *c, int real)
{
    shape_results r = { 0 };
    td_device     d = td_check_device(c, real, 2);
    c->collected = &r;
    for (int k = 0; k < SIZES; k++)
        td_each_subject(c, &sweep[k], &d, shapes_of);
    td_each_subject(c, &td_usual_sizes, &d, shapes_of);
    return r;
}

void td_check_shapes(td_check *c)
{
    shape_results wide = losses_in(c, TD_F64), narrow = losses_in(c, TD_F32);
    MUST(c, wide.count == narrow.count, "%zu losses in double, but %zu in float", wide.count,
         narrow.count);
    /* random parameters of the size of 1 amplify rounding: 2e-3 is far above it, and far below
     * the error of a wrong kernel */
    for (size_t i = 0; i < wide.count; i++)
        if (!td_check_near(narrow.at[i], wide.at[i], 2e-3))
            td_check_finding(c, "loss %zu is %.7g in float, but %.10g in double", i, narrow.at[i],
                             wide.at[i]);
    free(wide.at);
    free(narrow.at);
}

/* ---- determinism ----------------------------------------------------------------------------- */

/* A hash for each model that the part is tried in. */
typedef struct bits {
    uint64_t hash[8];
    int      count;
} bits;

/* A hash of the graph, the losses and all gradients. */
static void hash_of(td_subject *s)
{
    bits       *found = s->check->collected;
    /* long enough, and uneven, so that threads get pieces to share */
    td_sentence three[3] = { td_sentence_of(31, 40, 5), td_sentence_of(67, 13, 6),
                             td_sentence_of(3, 90, 7) };
    uint64_t    h = td_random_stream("");
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
    for (size_t i = 0; i < td_variables_count(s->variables); i++)
        h = td_check_hash(s->check, &s->device, td_variables_at(s->variables, i), h);
    if (found->count < 8)
        found->hash[found->count++] = h;
    td_text_free(&dump);
    td_trial_free(s, &t);
}

/* The hashes of all models on this number of threads. */
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
    MUST(c, one.count == again.count, "it accepts %d models the first time, and %d the second",
         one.count, again.count);
    /* two findings, since they have different causes: state that is kept, and threads */
    for (int k = 0; k < one.count; k++) {
        if (one.hash[k] != again.hash[k])
            td_check_finding(
                c,
                "graph, losses or gradients differ between two identical runs (model "
                "%d): keep nothing in static variables, and draw random numbers from random.h",
                k + 1);
        else if (one.hash[k] != two.hash[k] || one.hash[k] != three.hash[k])
            td_check_finding(c, "model %d: the bits on 2 or 3 threads differ from those on 1",
                             k + 1);
    }
}
