/* optimizer.c - requirements on every optimizer: descend a convex function, survive saving and
 * restoring, obey rate, clip, gate and decay, and give the same bits on any number of threads.
 *
 * What depends on several parameters is in optimizer_parts.c. */
#include "check/cases.h"
#include "check/optimizer_lab.h"
#include "model/checkpoint.h"

/* ---- a convex function ------------------------------------------------------------------------ */

/* f after `steps` updates, divided by f before, with a rate that falls to 0. */
static double descend(td_check *c, double rate, int64_t steps)
{
    static const td_group_rule still = { "*", 1, 0, false }; /* no decay: it would pull towards 0 */
    lab                        l;
    double                     first, last;
    lab_open_with(&l, c, TD_F64, 1, 0, &still);
    first = bowl(&l, 1);
    for (int64_t k = 0; k < steps; k++) {
        /* a rate that falls to 0 lets optimizers settle whose steps have a fixed length (Lion) */
        bowl(&l, 1);
        update(&l, rate * (double)(steps - k) / (double)steps, k + 1, INFINITY);
    }
    last = bowl(&l, 1);
    lab_close(&l);
    return last / first;
}

void td_check_converges(td_check *c)
{
    /* the right rate depends on the optimizer; likely ones come first, as one success is enough */
    static const double rates[] = { 0.03, 0.1, 0.3, 0.01, 1, 0.003 };
    double              best = INFINITY;
    for (size_t k = 0; k < sizeof rates / sizeof *rates && !(best <= 0.01); k++)
        best = fmin(best, descend(c, rates[k], 400));
    if (!(best <= 0.01))
        td_check_finding(c,
                         "after 400 updates a convex function is still %.3g of its initial value, "
                         "at the best of several rates; expected 0.01 or less",
                         best);
}

/* ---- states ---------------------------------------------------------------------------------- */

/* A hash of everything that an update leaves behind: parameters and states, but not gradients. */
static uint64_t hash_of(lab *l)
{
    uint64_t h = td_random_stream("");
    for (size_t i = 0; i < td_variables_count(l->variables); i++) {
        const td_variable *v = td_variables_at(l->variables, i);
        if (v->kind != TD_VARIABLE_GRAD)
            h = td_check_hash(l->check, &l->device, v, h);
    }
    return h;
}

/* 9 updates must equal 4, a checkpoint, and 5 in a new lab, as in another process. */
void td_check_restored(td_check *c)
{
    const char *directory = td_check_directory(c), *path;
    td_error    e = { 0 };
    td_progress p = { .step = 4 }, q;
    lab         whole, first, second;
    uint64_t    want;

    /* in float, as a run would: rounding must be restored as well */
    lab_open(&whole, c, TD_F32, 1, 1);
    steps(&whole, 0, 9);
    want = hash_of(&whole);
    lab_open(&first, c, TD_F32, 1, 1);
    steps(&first, 0, 4);
    /* a real checkpoint, which contains only the state that came from td_moment */
    MUST(c, !td_checkpoint_save(directory, first.variables, &first.device, &p, "{}", &e), "%s",
         td_check_error(&e));
    path = td_arena_print(c->arena, "%s/step-%08d", directory, 4);
    lab_open(&second, c, TD_F32, 1, 1);
    MUST(c, path && !td_checkpoint_load(path, second.variables, &second.device, &q, &e), "%s",
         td_check_error(&e));
    steps(&second, 4, 9);
    if (hash_of(&second) != want)
        td_check_finding(
            c,
            "the bits after 4 updates, a checkpoint and 5 more differ from those after 9 updates: "
            "is all state a td_moment?");
    lab_close(&whole);
    lab_close(&first);
    lab_close(&second);
    td_remove_tree(directory, NULL);
}

void td_check_print_updates(td_check *c, td_text *out)
{
    lab l;
    lab_open(&l, c, TD_F64, 1, 0);
    steps(&l, 0, 6);
    td_text_print(out, "%016llx\n", (unsigned long long)hash_of(&l));
    lab_close(&l);
}

/* A NaN in a gradient makes the guard close the gate: nothing may change then. */
void td_check_gate(td_check *c)
{
    lab      l;
    float    nan[LARGEST];
    uint64_t before;
    lab_open(&l, c, TD_F32, 1, 1);
    steps(&l, 0, 3); /* moments that are 0 would stay 0 anyway */
    before = hash_of(&l);
    for (int n = 0; n < LARGEST; n++)
        nan[n] = NAN;
    set(&l, gradient(&l, 1), nan);
    update(&l, 0.02, 4, INFINITY);
    if (hash_of(&l) != before)
        td_check_finding(
            c, "with the gate at 0 (a gradient contains NaN) an update changes parameters "
               "or moments: assign moments with td_assign(m, next, in->gate)");
    lab_close(&l);
}

/* All parameters, one after the other. */
static void values_of(lab *l, float *out)
{
    for (int k = 0; k < SHAPES; k++) {
        get(l, parameter(l, k), out);
        out += parameter(l, k)->count;
    }
}

/* The norm of all gradients together. */
static double norm_of(lab *l)
{
    double total = 0;
    float  g[LARGEST];
    for (int k = 0; k < SHAPES; k++) {
        get(l, gradient(l, k), g);
        for (int64_t n = 0; n < gradient(l, k)->count; n++)
            total += (double)g[n] * (double)g[n];
    }
    return sqrt(total);
}

/* A gradient that is clipped to a norm must have the same effect as one that has this norm to begin
 * with. */
void td_check_clip(td_check *c)
{
    const double limit = 0.125;
    lab          clipped, scaled;
    float        a[SHAPES * LARGEST] = { 0 }, b[SHAPES * LARGEST] = { 0 };
    /* one lab clips; the other gets gradients that are scaled beforehand */
    lab_open(&clipped, c, TD_F64, 1, limit);
    lab_open(&scaled, c, TD_F64, 1, 0);
    /* three updates: an optimizer that forgets clip in one of its moments may hide it in the
     * first */
    for (int64_t k = 0; k < 3; k++) {
        bowl(&clipped, 4);
        bowl(&scaled, 4);
        bowl(&scaled, 4 * limit / norm_of(&scaled));
        update(&clipped, 0.02, k + 1, INFINITY);
        update(&scaled, 0.02, k + 1, INFINITY);
    }
    values_of(&clipped, a);
    values_of(&scaled, b);
    for (int n = 0; n < SHAPES * LARGEST; n++)
        if (!td_check_near((double)a[n], (double)b[n], 1e-4)) {
            td_check_finding(c,
                             "with clipped gradients a parameter becomes %.7g, but with gradients "
                             "of that norm %.7g: "
                             "multiply the gradient by in->clip",
                             (double)a[n], (double)b[n]);
            break;
        }
    lab_close(&clipped);
    lab_close(&scaled);
}

/* Without decay, neither a gradient of 0 nor a rate of 0 may move anything. */
void td_check_still(td_check *c)
{
    lab   l;
    float zero[LARGEST] = { 0 }, a[SHAPES * LARGEST] = { 0 }, b[SHAPES * LARGEST] = { 0 };
    static const td_group_rule still = { "*", 1, 0, false };
    /* with decay turned off by the group's rule, as a user would turn it off */
    lab_open_with(&l, c, TD_F64, 1, 1, &still);
    values_of(&l, a);
    for (int64_t k = 0; k < 2; k++) {
        for (int i = 0; i < SHAPES; i++)
            set(&l, gradient(&l, i), zero);
        update(&l, 0.02, k + 1, INFINITY);
    }
    values_of(&l, b);
    if (memcmp(a, b, sizeof a))
        td_check_finding(c, "without a gradient and without decay (decay_scale 0) parameters move: "
                            "multiply the decay by in->decay_scale");
    for (int64_t k = 2; k < 4; k++) {
        bowl(&l, 1);
        update(&l, 0, k + 1, INFINITY);
    }
    values_of(&l, a);
    if (memcmp(a, b, sizeof a))
        td_check_finding(c, "at a rate of 0 and without decay (decay_scale 0) parameters move: "
                            "multiply the change by in->rate");
    lab_close(&l);
}

void td_check_update_threads(td_check *c)
{
    uint64_t hash[3]; /* on 1 thread, on 1 again, on 2 */
    for (int k = 0; k < 3; k++) {
        lab l;
        lab_open(&l, c, TD_F32, k ? k : 1, 1);
        steps(&l, 0, 5);
        hash[k] = hash_of(&l);
        lab_close(&l);
    }
    if (hash[0] != hash[1])
        td_check_finding(c, "the bits differ between two identical runs of 5 updates");
    else if (hash[0] != hash[2])
        td_check_finding(c, "the bits on 2 threads differ from those on 1");
}

/* ---- float against double, leaks ------------------------------------------------------------- */

void td_check_update_shapes(td_check *c)
{
    lab   wide, narrow;
    float a[SHAPES * LARGEST] = { 0 }, b[SHAPES * LARGEST] = { 0 };
    /* float on 2 threads: odd shapes meet pieces here */
    lab_open(&wide, c, TD_F64, 1, 1);
    lab_open(&narrow, c, TD_F32, 2, 1);
    /* few steps: rounding errors of both precisions grow with each */
    steps(&wide, 0, 3);
    steps(&narrow, 0, 3);
    values_of(&wide, a);
    values_of(&narrow, b);
    /* wide enough for Adam's quotient, which amplifies rounding where a moment is near 0 */
    for (int n = 0; n < SHAPES * LARGEST; n++)
        if (!isfinite(a[n]) || !td_check_near((double)b[n], (double)a[n], 5e-3)) {
            td_check_finding(c, "after 3 updates a parameter is %.7g in float, but %.7g in double",
                             (double)b[n], (double)a[n]);
            break;
        }
    lab_close(&wide);
    lab_close(&narrow);
}

/* Build the graph of the update and drop it. */
static void build_update(td_check *c, void *argument)
{
    lab      *l = argument;
    td_update u;
    td_error  e = { 0 };
    MUST(c, !td_model_update(&l->model, l->variables, &u, &e), "%s", td_check_error(&e));
    td_graph_free(u.graph);
}

void td_check_update_leak(td_check *c)
{
    lab l;
    lab_open(&l, c, TD_F64, 1, 1);
    td_check_leak(c, "building the update", build_update, &l);
    lab_close(&l);
}
