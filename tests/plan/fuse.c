/* fuse.c - calls that are computed together: which, and what that means for their memory. */
#include "plugin/scratch.h"

#include "graph/lab.h"

typedef struct desk {
    scratch dir;
    machine m;
    sheet   s;
} desk;

/* With the fixture's fusion of exp and neg. */
static desk desk_new(void)
{
    desk b = { .dir = scratch_new(), .m = machine_new("cpu", 1) };
    copy_to(&b.dir, FIXTURE("fusion.so"), "kernels.so");
    td_registry_add_path(b.m.registry, b.dir.path);
    td_registry_scan(b.m.registry);
    return b;
}

static void desk_free(desk *b)
{
    sheet_free(&b->s);
    machine_free(&b->m);
    scratch_free(&b->dir);
}

static bool overlap(const td_plan *p, int32_t a, int32_t b)
{
    const td_storage *x = &p->storages[td_storage_root(p, a)],
                     *y = &p->storages[td_storage_root(p, b)];
    return x->offset < y->offset + y->bytes && y->offset < x->offset + x->bytes;
}

/* -exp(-exp(x)), and the sum of its rows. */
Test(fuse, neighbours_are_computed_together)
{
    desk       b = desk_new();
    td_tensor *y, *root;
    b.s = sheet_new(&b.m);
    y = td_neg(td_exp(td_neg(td_exp(state_of(&b.s, "x", 5, 7, 0.5)))));
    root = td_sum(y, -1);
    sheet_plan(&b.s, &root, 1);
    cr_assert_eq(b.s.plan->n_calls, 5);
    cr_expect_eq(b.s.plan->calls[0]->together, 4);
    cr_expect_eq(b.s.plan->calls[1]->together, 0);
    cr_expect_eq(b.s.plan->calls[4]->together, 1);
    cr_expect(!b.s.plan->calls[4]->fusion);
    sheet_run(&b.s);
    cr_expect_float_eq(root_at(&b.s, root, 3), -7 * exp(-exp(0.5)), 1e-5);
    desk_free(&b);
}

/* Calls may run at the same time, so their operands all have memory of their own. */
Test(fuse, operands_have_their_own_memory)
{
    desk       b = desk_new();
    td_tensor *root;
    td_plan   *p;
    b.s = sheet_new(&b.m);
    root = td_sum(td_neg(td_exp(td_neg(td_exp(state_of(&b.s, "x", 5, 7, 0.5))))), -1);
    sheet_plan(&b.s, &root, 1);
    p = b.s.plan;
    for (int32_t i = 0; i < 4; i++)
        for (int32_t j = 0; j < i; j++)
            cr_expect(!overlap(p, p->calls[i]->out[0], p->calls[j]->out[0]), "%d and %d", i, j);
    desk_free(&b);
}

/* Only what is read later must be written. */
Test(fuse, inner_values_are_marked)
{
    desk       b = desk_new();
    td_tensor *e, *roots[2];
    b.s = sheet_new(&b.m);
    e = td_exp(state_of(&b.s, "x", 5, 7, 0.5));
    roots[0] = td_neg(td_exp(td_neg(e)));
    roots[1] = td_sum(e, -1);
    sheet_plan(&b.s, roots, 2);
    cr_assert_eq(b.s.plan->calls[0]->together, 4);
    cr_expect_eq(b.s.plan->calls[0]->call.inner, 0u, "the sum reads it");
    cr_expect_eq(b.s.plan->calls[1]->call.inner, 1u);
    cr_expect_eq(b.s.plan->calls[2]->call.inner, 1u);
    cr_expect_eq(b.s.plan->calls[3]->call.inner, 0u, "a root");
    desk_free(&b);
}

/* What a profile counts for a fusion: one call, with the work of all. */
Test(fuse, a_profile_has_its_name)
{
    desk           b = desk_new();
    td_profile_row rows[8];
    td_tensor     *root;
    td_error       e = { 0 };
    size_t         n;
    b.s = sheet_new(&b.m);
    root = td_neg(td_exp(state_of(&b.s, "x", 5, 7, 0.5)));
    sheet_plan(&b.s, &root, 1);
    sheet_run(&b.s);
    td_plan_profile(b.s.plan, true);
    cr_assert_eq(td_plan_run(b.s.plan, &e), 0, "%s", e.text);
    n = td_plan_profile_rows(b.s.plan, rows, 8);
    cr_assert_eq(n, 1);
    cr_expect_str_eq(rows[0].op, "exp and neg");
    cr_expect_eq(rows[0].calls, 1);
    cr_expect_eq(rows[0].flops, 70);
    desk_free(&b);
}
