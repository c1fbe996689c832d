/* kernels.c - kernels against each other: fused against lowered, 'cpu' against 'reference', one
 * thread against two. */
#include "plan/internal.h"
#include "check/op_cases.h"
#include "ops/harness.h"

static size_t roots_of(const op_case *c)
{
    int64_t dims[TD_MAX_RANK];
    int     rank, n = 0;
    while (dims_of(c->dims, n, dims, &rank))
        n++;
    return c->flat ? 2 : 2 + (size_t)n;
}

/* Row 2 has weight 0 and holds NaN. Option 0: the loss; 1: its rows; 2: the loss where every weight
 * is 0. */
BUILD(build_weightless)
{
    static const double labels[] = { 0, 6, -1, 3, 2 }, weights[] = { 1, 0.5, 0, 2, 1 }, none[5];
    static const double holes[] = { 0, 0, NAN, 0, 0 };
    int64_t             n[] = { 5 }, column[] = { 5, 1 };
    td_tensor          *hidden = td_add(x[0], td_constant(g, TD_REAL, column, 2, holes)), *loss;
    loss = td_cross_entropy(hidden, x[1], td_constant(g, TD_I32, n, 1, labels),
                            td_constant(g, TD_REAL, n, 1, o == 2 ? none : weights),
                            td_scalar(g, o == 2 ? 0 : 4.5), 1, 0.1, 0.2);
    return o == 1 ? td_output(loss, TD_CE_NLL) : loss;
}

/* A norm over columns. */
BUILD(build_rms_of_columns)
{
    td_tensor *turned[] = { td_transpose(x[0], 0, 1), x[1] };
    return build_rms(g, turned, o);
}
BUILD(build_layer_of_columns)
{
    td_tensor *turned[] = { td_transpose(x[0], 0, 1), x[1], x[2] };
    return build_layer(g, turned, o);
}

/* Longer than a vector, a tile or an item of work, so that tails and joins are reached; too large
 * for central differences. */
static const op_case large[] = {
    { "attend", "1x2x67x5,1x1x67x5,1x1x67x3", -1, 1, build_attend, 0, false },
    { "attend", "1x2x131x16,1x2x131x16,1x2x131x16", -1, 1, build_attend, CAUSAL, false },
    { "attend", "2x2x67x7,2x2x67x7,2x2x67x7", -1, 1, build_attend, CAUSAL | WINDOW, false },
    { "attend", "2x2x3x16,2x2x131x16,2x2x131x16", -1, 1, build_attend_held, 66131, false },
    { "attend", "2x2x3x16,2x2x131x16,2x2x131x16", -1, 1, build_attend, CAP, false },
    { "attend", "1x2x131x17,1x2x131x17,1x2x131x16", -1, 1, build_attend, CAUSAL | CAP, false },
    { "attend", "2x4x67x7,2x2x67x7,2x2x67x7", -1, 1, build_attend, CAUSAL | WINDOW | CAP, false },
    { "attend", "2x4x67x5,2x2x131x5,2x2x131x7", -1, 1, build_attend_held, 128063, false },
    { "matmul", "131x67,67x129", -1, 1, build_matmul, 0, false },
    { "matmul", "3x67x31,3x1x67", -1, 1, build_transposed, 0, false },
    { "grouped_matmul", "211x37,5x37x67", -1, 1, build_grouped_matmul, 0, false },
    { "grouped_matmul", "211x37,5x67x37", -1, 1, build_grouped_matmul, 3, false },
    { "grouped_outer", "211x37,211x67,5x37x67", -1, 1, build_grouped_outer, 1, false },
    { "grouped_outer", "211x37,211x67", -1, 1, build_grouped_outer, 2, false },
    { "softmax", "3x1031", -2, 2, build_softmax, 0, false },
    { "rms_norm", "37x259,259", -2, 2, build_rms, 1, false },
    { "layer_norm", "37x259,259,259", -2, 2, build_layer, 2, false },
    { "rms_norm", "17x5,17", -2, 2, build_rms_of_columns, 1, false },
    { "layer_norm", "17x5,17,17", -2, 2, build_layer_of_columns, 2, false },
    { "sum", "257x131", -2, 2, build_sum, 1, false },
    { "exp", "4099", -2, 2, build_exp, 0, false },
    { "dropout", "3x257x37", -2, 2, build_dropout, 0, false },
    { "sum_squares", "33331", -2, 2, build_sum_squares, 0, false },
    { "cross_entropy", "5x3,7x3", -1, 1, build_weightless, 0, false },
    { "cross_entropy", "5x3,7x3", -1, 1, build_weightless, 1, true },
    { "cross_entropy", "5x3,7x3", -1, 1, build_weightless, 2, false },
};

static void compare_one(const op_case *c, const machine *a, const machine *b, const char *what,
                        double tolerance)
{
    result have = case_result(c, a), want = case_result(c, b);
    expect_close(c, what, &have, &want, roots_of(c), tolerance);
    free(have.at);
    free(want.at);
}

static void compare(const machine *a, const machine *b, const char *what, double tolerance)
{
    for (int i = 0; i < CASES; i++)
        compare_one(&cases[i], a, b, what, tolerance);
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++)
        compare_one(&large[i], a, b, what, tolerance);
}

static void fused_against_lowered(const char *backend, double tolerance)
{
    machine m = machine_new(backend, 2), lowered = m;
    lowered.device.lower_all = true;
    compare(&m, &lowered, "fused against lowered", tolerance);
    machine_free(&m);
}

Test(kernels, reference_fused_is_lowered) { fused_against_lowered("reference", 1e-11); }
Test(kernels, cpu_fused_is_lowered) { fused_against_lowered("cpu", 2e-5); }

Test(kernels, cpu_is_reference)
{
    machine cpu = machine_new("cpu", 2), reference = machine_new("reference", 1);
    compare(&cpu, &reference, "cpu against reference", 1e-5);
    machine_free(&cpu);
    machine_free(&reference);
}

Test(kernels, threads_change_no_bit)
{
    machine one = machine_new("cpu", 1), two = machine_new("cpu", 2);
    compare(&two, &one, "two threads against one", 0);
    machine_free(&one);
    machine_free(&two);
}

/* ---- strides that a kernel does not take are copied; the op is not lowered ------------------- */

static const op_case columns[] = {
    { "rms_norm", "17x5,17", -2, 2, build_rms_of_columns, 1, false },
    { "layer_norm", "17x5,17,17", -2, 2, build_layer_of_columns, 2, false },
};

Test(kernels, a_norm_of_columns_is_copied)
{
    machine m = machine_new("cpu", 2);
    for (int i = 0; i < 2; i++) {
        bench b = bench_new(&columns[i], &m);
        int   whole = 0;
        for (int32_t k = 0; k < b.plan->n_calls; k++) {
            const td_node *node = b.plan->calls[k]->node;
            whole += node && td_node_is(node, columns[i].op);
        }
        cr_expect_eq(whole, 1, "%s was lowered", columns[i].op);
        bench_free(&b, &m);
    }
    machine_free(&m);
}

/* ---- NaN ------------------------------------------------------------------------------------- */

enum { FIRST, SECOND, LARGEST, UNIT };

/* x with a NaN at [0][1]: as first or second operand of a maximum, in a maximum over rows, or in a
 * ReLU. */
BUILD(build_nan)
{
    static const double hole[] = { 0, NAN, 0, 0, 0, 0 };
    int64_t             dims[] = { 2, 3 };
    td_tensor          *y = td_add(x[0], td_constant(g, TD_REAL, dims, 2, hole));
    td_tensor          *one = td_scalar(g, 1);
    return o == FIRST     ? td_maximum(y, one)
           : o == SECOND  ? td_maximum(one, y)
           : o == LARGEST ? td_max(y, -1)
                          : td_activate(y, o == UNIT ? TD_RELU : TD_RELU2);
}

static void expect_nan(const machine *m, const char *what)
{
    static const char *const ops[] = { "maximum", "maximum", "max", "activation", "activation" };
    for (int k = 0; k < 5; k++) {
        op_case c = { ops[k], "2x3", -1, 1, build_nan, k, true };
        result  r = case_result(&c, m);
        for (size_t i = r.first[1]; i < r.first[2]; i++)
            cr_expect_eq(!!isnan(r.at[i]), i - r.first[1] == (k == LARGEST ? 0 : 1),
                         "%s, %s %d: element %zu is %g", what, ops[k], k, i - r.first[1], r.at[i]);
        free(r.at);
    }
}

Test(kernels, nan_is_not_hidden)
{
    static const char *const backends[] = { "cpu", "reference" };
    for (int i = 0; i < 2; i++) {
        machine m = machine_new(backends[i], 2);
        expect_nan(&m, backends[i]);
        m.device.lower_all = true;
        expect_nan(&m, "lowered");
        machine_free(&m);
    }
}

/* ---- labels and ids that are out of range ---------------------------------------------------- */

/* Row 4 has weight 1, and its label is outside the vocabulary. */
BUILD(build_bad_label)
{
    static const double labels[] = { 0, 6, -1, 3, 99 }, weights[] = { 1, 0.5, 0, 2, 1 };
    int64_t             n[] = { 5 };
    return td_cross_entropy(x[0], x[1], td_constant(g, TD_I32, n, 1, labels),
                            td_constant(g, TD_REAL, n, 1, weights), td_scalar(g, 3.5), 1, 0, 0);
}

BUILD(build_bad_id) { return td_gather(x[0], ints(g, (const double[]){ 0, 5 }, 1, 2)); }
BUILD(build_bad_row)
{
    return td_scatter_add(ints(g, (const double[]){ 0, -1 }, 1, 2), x[0], 0, 5);
}

static void expect_refused(const char *backend)
{
    static const op_case bad[] = {
        { "cross_entropy", "5x3,7x3", -1, 1, build_bad_label, 0, true },
        { "gather", "5x3", -1, 1, build_bad_id, 0, true },
        { "scatter_add", "1x2x3", -1, 1, build_bad_row, 0, true },
    };
    machine m = machine_new(backend, 1);

    for (int i = 0; i < 3; i++) {
        td_error error = { 0, "" };
        bench    b = bench_new(&bad[i], &m);
        cr_expect_eq(td_plan_run(b.plan, &error), TD_EFORMAT,
                     "%s: '%s' accepted an index out of range", bad[i].op, backend);
        bench_free(&b, &m);
    }
    machine_free(&m);
}

Test(kernels, reference_refuses_bad_indices) { expect_refused("reference"); }
Test(kernels, cpu_refuses_bad_indices) { expect_refused("cpu"); }
