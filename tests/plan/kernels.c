/* kernels.c - which kernel computes a node if several modules have one. */
#include "plugin/scratch.h"

#include "graph/lab.h"

/* The calls, as "op op ..", for rms_norm of a matrix and of its transpose, and the number of
 * storages. `fixture`: a module of further kernels, or NULL. */
static void calls_with(const char *fixture, char out[256], int32_t *storages)
{
    scratch    dir = scratch_new();
    machine    m = machine_new("cpu", 1);
    sheet      s = sheet_new(&m);
    td_tensor *x, *y[2];

    /* a directory that is searched before the backend's own module is found */
    if (fixture)
        copy_to(&dir, fixture, "kernels.so");
    td_registry_add_path(m.registry, dir.path);
    td_registry_scan(m.registry);
    x = state_of(&s, "x", 7, 5, 1);
    y[0] = td_rms_norm(x, NULL, 1e-6);
    y[1] = td_rms_norm(td_transpose(x, 0, 1), NULL, 1e-6);
    sheet_plan(&s, y, 2);
    *out = 0;
    for (int32_t i = 0; i < s.plan->n_calls; i++)
        strcat(strcat(out, s.plan->calls[i]->kernel->op), " ");
    *storages = s.plan->n_storages;
    sheet_free(&s);
    machine_free(&m);
    scratch_free(&dir);
}

/* After a refusal the backend's own kernel is next, not the lowering; the refused call leaves
 * nothing behind. */
Test(kernels, one_that_refuses_hides_no_other)
{
    char    alone[256], beside[256];
    int32_t n_alone, n_beside;
    calls_with(NULL, alone, &n_alone);
    calls_with(FIXTURE("kernel-refuses.so"), beside, &n_beside);
    cr_expect(strstr(alone, "rms_norm"), "%s", alone);
    cr_expect_str_eq(beside, alone);
    cr_expect_eq(n_beside, n_alone, "%d storages, not %d", n_beside, n_alone);
}

/* An added module's kernel comes before the backend's own. */
Test(kernels, an_added_one_comes_first)
{
    scratch          dir = scratch_new();
    machine          m = machine_new("cpu", 1);
    sheet            s = sheet_new(&m);
    td_tensor       *y = td_rms_norm(state_of(&s, "x", 7, 5, 1), NULL, 1e-6);
    const td_plugin *added;

    copy_to(&dir, FIXTURE("kernel-accepts.so"), "kernels.so");
    td_registry_add_path(m.registry, dir.path);
    added = td_registry_find(m.registry, TD_KERNELS_KIND, "fixture", NULL);
    cr_assert(added);
    sheet_plan(&s, &y, 1);
    cr_expect_eq(s.plan->calls[0]->kernel, ((const td_kernels *)(const void *)added)->rows);
    sheet_free(&s);
    machine_free(&m);
    scratch_free(&dir);
}
