/* kernels.c - kernels against each other: fused against lowered, 'cpu' against 'reference', one thread against two. */
#include "ops/cases.h"

static size_t roots_of(const op_case *c)
{
    int64_t dims[TD_MAX_RANK];
    int     rank, n = 0;
    while (dims_of(c->dims, n, dims, &rank))
        n++;
    return c->flat ? 2 : 2 + (size_t)n;
}

static void compare(const machine *a, const machine *b, const char *what, double tolerance)
{
    for (int i = 0; i < CASES; i++) {
        result have = case_result(&cases[i], a), want = case_result(&cases[i], b);
        expect_close(&cases[i], what, &have, &want, roots_of(&cases[i]), tolerance);
        free(have.at), free(want.at);
    }
}

static void fused_against_lowered(const char *backend, double tolerance)
{
    machine m = machine_new(backend, 2), lowered = m;
    lowered.device.fallback = true;
    compare(&m, &lowered, "fused against lowered", tolerance);
    machine_free(&m);
}

Test(kernels, reference_fused_is_lowered) { fused_against_lowered("reference", 1e-11); }
Test(kernels, cpu_fused_is_lowered) { fused_against_lowered("cpu", 2e-5); }

Test(kernels, cpu_is_reference)
{
    machine cpu = machine_new("cpu", 2), reference = machine_new("reference", 1);
    compare(&cpu, &reference, "cpu against reference", 1e-5);
    machine_free(&cpu), machine_free(&reference);
}

Test(kernels, threads_change_no_bit)
{
    machine one = machine_new("cpu", 1), two = machine_new("cpu", 2);
    compare(&two, &one, "two threads against one", 0);
    machine_free(&one), machine_free(&two);
}
