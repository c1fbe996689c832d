/* ops.c - requirements on ops and kernels: the right values and gradients, the same bits on any
 * number of threads, and NaN must propagate.
 *
 * Values are judged by the op's lowering in double: it computes the same numbers in another way,
 * and its rounding is negligible. A primitive has no lowering; the kernel of the backend in double
 * judges it.
 */
#include "check/cases.h"
#include "check/op_lab.h"
#include "plan/precision.h"
#include "plan/prepared.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/kernels.h"

/* The backend that the kernels under test are for; for an op the first that computes in `real`. */
static td_device device_of(td_check *c, int real, int threads)
{
    const td_kernels *k = (const void *)c->plugin;
    td_device         d;
    td_error          e = { 0 };
    td_part           part;
    if (!td_check_is_kind(c->plugin, TD_KERNELS_KIND))
        return td_check_device(c, real, threads);
    part = td_check_default(c, TD_BACKEND_KIND, k->backend);
    /* not the kernels' fault: this machine lacks the device */
    if (td_check_open_backend(c, &part, threads, &d, &e))
        td_check_skip(c, "backend '%s' cannot be opened here: %s", k->backend, td_check_error(&e));
    return d;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* The scale that errors are relative to; never 0, even if all values are. */
static double largest(const double *x, size_t n)
{
    double top = 1e-3;
    for (size_t i = 0; i < n; i++)
        top = isfinite(x[i]) ? fmax(top, fabs(x[i])) : top;
    return top;
}

/* Root k in words, in the arena. */
static const char *name_of_root(td_check *c, size_t k, size_t outputs)
{
    return !k ? "the sum of all outputs"
              : td_arena_print(c->arena, k <= outputs ? "output %zu" : "gradient %zu",
                               k <= outputs ? k - 1 : k - 1 - outputs);
}

/* Compare root by root, relative to the root's largest element. The sum cancels, so it is compared
 * with the length of a random walk of as many terms. */
static void compare(td_check *c, const attempt *a, const result *have, const result *want,
                    size_t outputs, double tolerance)
{
    for (size_t k = 0; k < want->n_roots; k++) {
        size_t of = k ? k : 1, count = want->first[of + 1] - want->first[of];
        double scale = largest(want->at + want->first[of], count) *
                       (k ? 1 : sqrt((double)count + 1));
        for (size_t i = want->first[k]; i < want->first[k + 1]; i++) {
            if (have->at[i] == want->at[i] || (isnan(have->at[i]) && isnan(want->at[i])) ||
                fabs(have->at[i] - want->at[i]) <= tolerance * scale)
                continue;
            td_check_finding(c,
                             "%s, kernel against double precision: %s, element %zu is %.10g, not "
                             "%.10g",
                             td_op_label(c, a), name_of_root(c, k, outputs), i - want->first[k],
                             have->at[i], want->at[i]);
            return; /* one line per attempt is enough */
        }
    }
}

/* The device under test against the lowering in double. */
static void compare_values(td_check *c, const attempt *a, devices *d)
{
    result want = td_op_result(c, a, &d->lowered), plain = td_op_result(c, a, &d->plain);
    /* relative to the root's largest element: 2e-5 is 200 roundings of float */
    double tolerance = td_device_real(&d->plain) == TD_F64 ? 1e-10 : 2e-5;
    lab    l;
    td_lab_open(&l, c, a, &d->lowered);
    compare(c, a, &plain, &want, l.n_outputs, tolerance);
    td_lab_close(&l);
    d->used = d->used || plain.uses;
}

/* Whether some of the kernels refuse some calls. */
static bool chooses(const td_kernels *k)
{
    for (size_t i = 0; i < k->count; i++)
        if (k->rows[i].accepts)
            return true;
    return false;
}

void td_check_values(td_check *c)
{
    devices d = { .plain = device_of(c, TD_F32, 2), .lowered = td_check_device(c, TD_F64, 1) };
    d.lowered
        .lower_all = true; /* lower whatever can be, so that kernels are not their own judges */
    td_each_op(c, &d, compare_values);
    if (!td_check_is_kind(c->plugin, TD_KERNELS_KIND) || d.used || c->n_findings)
        return;
    /* everything agreed, but nothing of this plugin ran */
    if (chooses((const void *)c->plugin))
        td_check_skip(c, "its kernels accept none of the calls that the tests make");
    td_check_finding(c,
                     "none of its kernels was used in any case: are their dtypes the backend's?");
}

/* ---- parameters laid out ahead of time ------------------------------------------------------- */

/* As in generation, whose plans may read parameters in layouts of the kernels' own. */
static void compare_prepared(td_check *c, const attempt *a, devices *d)
{
    double    tolerance = td_device_real(&d->plain) == TD_F64 ? 1e-10 : 2e-5;
    td_device ahead = d->plain;
    result    want = td_op_result(c, a, &d->lowered), have;
    lab       l;

    ahead.prepared = td_prepared_new(&ahead);
    MUST(c, ahead.prepared, "out of memory");
    have = td_op_result(c, a, &ahead);
    d->used = d->used || td_prepared_bytes(ahead.prepared) > 0;
    td_prepared_free(ahead.prepared);
    td_lab_open(&l, c, a, &d->lowered);
    compare(c, a, &have, &want, l.n_outputs, tolerance);
    td_lab_close(&l);
}

void td_check_prepared(td_check *c)
{
    devices d = { .plain = device_of(c, TD_F32, 2), .lowered = td_check_device(c, TD_F64, 1) };
    d.lowered.lower_all = true;
    td_each_op(c, &d, compare_prepared);
    if (!d.used && !c->n_findings)
        td_check_skip(c, "its kernels need no special layout of parameters");
}

/* ---- bf16 ------------------------------------------------------------------------------------ */

/* Both devices store the same values in bf16, so they differ where a sum in float and one in double
 * round to neighbours: by 1/128 of an element, and of the largest where these are summed. */
static void compare_narrow(td_check *c, const attempt *a, devices *d)
{
    attempt narrow = *a;
    result  want, have, again;
    lab     l;

    narrow.narrow = true;
    /* such an op is always computed in f32 */
    if (td_precision_of(a->op->plugin.name)->precision == TD_PRECISION_WIDE)
        return;
    want = td_op_result(c, &narrow, &d->lowered);
    have = td_op_result(c, &narrow, &d->plain);
    again = td_op_result(c, &narrow, &d->other);
    td_lab_open(&l, c, &narrow, &d->lowered);
    compare(c, &narrow, &have, &want, l.n_outputs, 0.012);
    td_lab_close(&l);
    if (memcmp(have.at, again.at, have.count * sizeof *have.at))
        td_check_finding(c, "%s, in bf16: the bits on 3 threads differ from those on 2",
                         td_op_label(c, a));
}

static bool has_narrow_row(const td_kernels *k)
{
    for (size_t i = 0; i < k->count; i++)
        if (k->rows[i].dtype == TD_BF16)
            return true;
    return false;
}

void td_check_bf16(td_check *c)
{
    devices d = { .plain = device_of(c, TD_F32, 2),
                  .other = device_of(c, TD_F32, 3),
                  .lowered = td_check_device(c, TD_F64, 1) };
    if (!has_narrow_row((const void *)c->plugin))
        td_check_skip(c, "it has no kernels for bf16");
    if (!td_device_has(&d.plain, TD_BF16) || !td_device_has(&d.lowered, TD_BF16))
        td_check_skip(c, "bf16 needs kernels 'cast' and 'copy'");
    td_each_op(c, &d, compare_narrow);
}

/* ---- threads --------------------------------------------------------------------------------- */

/* Once more, and on three threads. */
static void compare_threads(td_check *c, const attempt *a, devices *d)
{
    result one = td_op_result(c, a, &d->plain), again = td_op_result(c, a, &d->plain),
           three = td_op_result(c, a, &d->other);
    if (memcmp(one.at, again.at, one.count * sizeof *one.at))
        td_check_finding(c, "%s: the bits differ between two identical runs", td_op_label(c, a));
    else if (memcmp(one.at, three.at, one.count * sizeof *one.at))
        td_check_finding(c,
                         "%s: the bits on 3 threads differ from those on 1: divide the work by "
                         "size, not by the number of threads",
                         td_op_label(c, a));
}

void td_check_op_threads(td_check *c)
{
    devices d = { .plain = device_of(c, TD_F32, 1), .other = device_of(c, TD_F32, 3) };
    td_each_op(c, &d, compare_threads);
}

/* ---- NaN ------------------------------------------------------------------------------------- */

/* A NaN that goes in must come out where simpler ops have one: -ffast-math makes kernels drop it.
 * Only elementwise ops: elsewhere a NaN may well be masked, or lose a comparison. */
static void compare_nan(td_check *c, const attempt *a, devices *d)
{
    attempt nan = *a;
    result  want, have;
    nan.nan = true;
    if (!(a->op->flags & TD_OP_ELEMENTWISE))
        return;
    want = td_op_result(c, &nan, &d->lowered);
    have = td_op_result(c, &nan, &d->plain);
    /* root 1, which is output 0; the sum of all outputs is NaN in any case */
    for (size_t i = want.first[1]; i < want.first[2]; i++)
        if (isnan(want.at[i]) && !isnan(have.at[i])) {
            td_check_finding(c,
                             "%s: NaN becomes %g, which would hide that a run diverges; is it "
                             "compiled with -ffast-math?",
                             td_op_label(c, a), have.at[i]);
            return;
        }
}

void td_check_nan(td_check *c)
{
    devices d = { .plain = device_of(c, TD_F32, 1), .lowered = td_check_device(c, TD_F64, 1) };
    td_each_op(c, &d, compare_nan);
}

/* ---- gradients ------------------------------------------------------------------------------- */

/* The weighted sum with element n of the input, now x, `by` larger; it is put back. */
static double sum_at(lab *l, const char *label, td_variable *v, int64_t n, double x, double by)
{
    double sum;
    td_check_set(l->check, &l->device, v, n, x + by);
    td_lab_run(l, label);
    sum = td_plan_get_scalar(l->plan, l->roots[0]);
    td_check_set(l->check, &l->device, v, n, x);
    return sum;
}

/* The gradient with respect to one input, against central differences of the weighted sum. */
static void check_gradient_of(lab *l, const char *label, td_variable *v, size_t root,
                              const result *r)
{
    const double h = 1e-5; /* truncation is h^2, rounding 1e-16 / h: both below 1e-9 */
    for (int64_t n = 0; n < v->count && n < 40; n++) {
        double x = td_check_get(l->check, &l->device, v, n);
        double have = r->at[r->first[root] + (size_t)n];
        double want = (sum_at(l, label, v, n, x, h) - sum_at(l, label, v, n, x, -h)) / (2 * h);
        if (!td_check_near(have, want, 2e-6)) {
            td_check_finding(l->check,
                             "%s: the gradient of %s[%lld] is %.10g, but central differences give "
                             "%.10g",
                             label, v->name, (long long)n, have, want);
            return;
        }
    }
}

/* All inputs of one attempt. */
static void check_gradient(td_check *c, const attempt *a, devices *d)
{
    result r = td_op_result(c, a, &d->plain);
    lab    l;
    size_t root;
    td_lab_open(&l, c, a, &d->plain);
    root = 1 + l.n_outputs; /* gradients follow the outputs, in the order of the parameters */
    for (size_t i = 0; !l.flat && i < td_variables_count(l.variables); i++)
        if (td_variables_at(l.variables, i)->kind == TD_VARIABLE_PARAM)
            check_gradient_of(&l, td_op_label(c, a), td_variables_at(l.variables, i), root++, &r);
    td_lab_close(&l);
}

void td_check_op_gradients(td_check *c)
{
    devices d = { .plain = td_check_device(c, TD_F64, 1) };
    if (!((const td_op *)(const void *)c->plugin)->vjp)
        td_check_skip(c, "it has no gradient");
    td_each_op(c, &d, check_gradient);
}
