/* fuse.c - calls that are computed together: which, and what that means for their memory. */
#include "plugin/scratch.h"

#include "graph/lab.h"

#include "tandem/generation.h"

typedef struct desk {
    scratch dir;
    machine m;
    sheet   s;
} desk;

/* With a fusion: see the fixture. */
static desk *desk_with(const char *fixture)
{
    desk *b = calloc(1, sizeof *b);
    cr_assert(b);
    b->dir = scratch_new();
    b->m = machine_new("cpu", 1);
    copy_to(&b->dir, fixture, "kernels.so");
    td_registry_add_path(b->m.registry, b->dir.path);
    td_registry_scan(b->m.registry);
    b->s = sheet_new(&b->m);
    return b;
}

static void desk_free(desk *b)
{
    sheet_free(&b->s);
    machine_free(&b->m);
    scratch_free(&b->dir);
    free(b);
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
    desk      *b = desk_with(FIXTURE("fusion.so"));
    td_tensor *y, *root;
    y = td_neg(td_exp(td_neg(td_exp(state_of(&b->s, "x", 5, 7, 0.5)))));
    root = td_sum(y, -1);
    sheet_plan(&b->s, &root, 1);
    cr_assert_eq(b->s.plan->n_calls, 5);
    cr_expect_eq(b->s.plan->calls[0]->together, 4);
    cr_expect_eq(b->s.plan->calls[1]->together, 0);
    cr_expect_eq(b->s.plan->calls[4]->together, 1);
    cr_expect(!b->s.plan->calls[4]->fusion);
    sheet_run(&b->s);
    cr_expect_float_eq(root_at(&b->s, root, 3), -7 * exp(-exp(0.5)), 1e-5);
    desk_free(b);
}

/* Calls may run at the same time, so their operands all have memory of their own. */
Test(fuse, operands_have_their_own_memory)
{
    desk      *b = desk_with(FIXTURE("fusion.so"));
    td_tensor *root;
    td_plan   *p;
    root = td_sum(td_neg(td_exp(td_neg(td_exp(state_of(&b->s, "x", 5, 7, 0.5))))), -1);
    sheet_plan(&b->s, &root, 1);
    p = b->s.plan;
    for (int32_t i = 0; i < 4; i++)
        for (int32_t j = 0; j < i; j++)
            cr_expect(!overlap(p, p->calls[i]->out[0], p->calls[j]->out[0]), "%d and %d", i, j);
    desk_free(b);
}

/* Only what is read later must be written. */
Test(fuse, inner_values_are_marked)
{
    desk      *b = desk_with(FIXTURE("fusion.so"));
    td_tensor *e, *roots[2];
    e = td_exp(state_of(&b->s, "x", 5, 7, 0.5));
    roots[0] = td_neg(td_exp(td_neg(e)));
    roots[1] = td_sum(e, -1);
    sheet_plan(&b->s, roots, 2);
    cr_assert_eq(b->s.plan->calls[0]->together, 4);
    cr_expect_eq(b->s.plan->calls[0]->call.inner, 0u, "the sum reads it");
    cr_expect_eq(b->s.plan->calls[1]->call.inner, 1u);
    cr_expect_eq(b->s.plan->calls[2]->call.inner, 1u);
    cr_expect_eq(b->s.plan->calls[3]->call.inner, 0u, "a root");
    desk_free(b);
}

/* What a profile counts for a fusion: one call, with the work of all. */
Test(fuse, a_profile_has_its_name)
{
    desk          *b = desk_with(FIXTURE("fusion.so"));
    td_profile_row rows[8];
    td_tensor     *root;
    td_error       e = { 0 };
    size_t         n;
    root = td_neg(td_exp(state_of(&b->s, "x", 5, 7, 0.5)));
    sheet_plan(&b->s, &root, 1);
    sheet_run(&b->s);
    td_plan_profile(b->s.plan, true);
    cr_assert_eq(td_plan_run(b->s.plan, &e), 0, "%s", e.text);
    n = td_plan_profile_rows(b->s.plan, rows, 8);
    cr_assert_eq(n, 1);
    cr_expect_str_eq(rows[0].op, "exp and neg");
    cr_expect_eq(rows[0].calls, 1);
    cr_expect_eq(rows[0].flops, 70);
    desk_free(b);
}

/* ---- what is not computed together ------------------------------------------------------------
 *
 * Here the fusion takes all that it is offered.
 */

/* The ops of the plan's calls, and for each how many are computed there: "exp 2, neg 0". */
static void expect_calls(const td_plan *p, const char *wanted)
{
    td_text text = { 0 };
    for (int32_t i = 0; i < p->n_calls; i++)
        td_text_print(&text, "%s%s %d", i ? ", " : "", p->calls[i]->kernel->op,
                      (int)p->calls[i]->together);
    cr_expect_str_eq(td_text_get(&text), wanted);
    td_text_free(&text);
}

/* It may be dropped later. */
Test(fuse, an_assignment_is_between_calls)
{
    desk      *b = desk_with(FIXTURE("fusion-all.so"));
    td_tensor *roots[2], *x = state_of(&b->s, "x", 5, 7, 0.5), *y = state_of(&b->s, "y", 5, 7, 2);
    roots[0] = td_exp(x);
    td_assign(y, roots[0], NULL);
    roots[1] = td_neg(td_exp(roots[0]));
    sheet_plan(&b->s, roots, 2);
    expect_calls(b->s.plan, "exp 1, assign 1, exp 2, neg 0");
    sheet_run(&b->s);
    cr_expect_float_eq(state_at(&b->s, "y", 34), exp(0.5), 1e-6);
    cr_expect_float_eq(root_at(&b->s, roots[1], 34), -exp(exp(0.5)), 1e-5);
    desk_free(b);
}

/* The kernel of cumsum takes dense inputs. */
Test(fuse, a_copy_is_between_calls)
{
    desk      *b = desk_with(FIXTURE("fusion-all.so"));
    td_tensor *e = td_exp(state_of(&b->s, "x", 5, 7, 0.5));
    td_tensor *root = td_neg(td_cumsum(td_transpose(e, 0, 1), 0, false));
    sheet_plan(&b->s, &root, 1);
    expect_calls(b->s.plan, "exp 1, copy 1, cumsum 2, neg 0");
    sheet_run(&b->s);
    cr_expect_float_eq(root_at(&b->s, root, 34), -7 * exp(0.5), 1e-4);
    desk_free(b);
}

/* Append exp(0.5) to a buffer of threes; roots[0]: the negated buffer before or after that. */
static void append(sheet *s, bool reads_first, td_tensor **roots)
{
    const td_host *host = s->g->host;
    td_tensor     *buffer = host->state(s->g, "buffer", (int64_t[]){ 1, 5, 7 }, 3, 3);
    td_tensor     *x = host->state(s->g, "x", (int64_t[]){ 1, 1, 7 }, 3, 0.5);
    td_tensor     *length = td_full(s->g, TD_I32, (int64_t[]){ 1 }, 1, 2);
    td_tensor     *count = td_full(s->g, TD_I32, (int64_t[]){ 1 }, 1, 1);
    td_tensor *new = td_exp(x);
    if (reads_first)
        roots[0] = td_neg(buffer);
    td_append(buffer, new, length, count, 1, false);
    if (!reads_first)
        roots[0] = td_neg(buffer);
    roots[1] = td_exp(roots[0]);
    sheet_plan(s, roots, 2);
}

Test(fuse, a_state_is_read_after_it_was_written)
{
    desk      *b = desk_with(FIXTURE("fusion-all.so"));
    td_tensor *roots[2];
    append(&b->s, false, roots);
    expect_calls(b->s.plan, "full 4, full 0, exp 0, append 0, neg 2, exp 0");
    sheet_run(&b->s);
    cr_expect_float_eq(root_at(&b->s, roots[0], 13), -3, 1e-6);
    cr_expect_float_eq(root_at(&b->s, roots[0], 14), -exp(0.5), 1e-6);
    desk_free(b);
}

Test(fuse, a_state_is_written_after_it_was_read)
{
    desk      *b = desk_with(FIXTURE("fusion-all.so"));
    td_tensor *roots[2];
    append(&b->s, true, roots);
    expect_calls(b->s.plan, "full 4, full 0, exp 0, neg 0, append 2, exp 0");
    sheet_run(&b->s);
    cr_expect_float_eq(root_at(&b->s, roots[0], 14), -3, 1e-6);
    cr_expect_float_eq(state_at(&b->s, "buffer", 14), exp(0.5), 1e-6);
    desk_free(b);
}

/* Transfers come between the calls of a graph whose variables are sharded. */
Test(fuse, a_shared_graph_runs_call_by_call)
{
    desk            *b = desk_with(FIXTURE("fusion-all.so"));
    td_graph_options o = { .phase = TD_PHASE_TRAIN,
                           .real = td_device_real(&b->m.device),
                           .shared = true };
    td_tensor       *root;
    td_graph_free(b->s.g);
    b->s.g = td_graph_new(b->m.registry, b->s.variables, &o);
    root = td_neg(td_exp(state_of(&b->s, "x", 5, 7, 0.5)));
    sheet_plan(&b->s, &root, 1);
    expect_calls(b->s.plan, "exp 1, neg 1");
    desk_free(b);
}

/* ---- running --------------------------------------------------------------------------------- */

/* -z, which state x becomes, is not computed in the memory of x: exp(x) may be computed later. */
Test(fuse, a_value_is_not_computed_in_a_state_that_a_neighbour_reads)
{
    desk      *b = desk_with(FIXTURE("fusion-backwards.so"));
    td_tensor *x = state_of(&b->s, "x", 5, 7, 0.5), *root = td_exp(x);
    td_assign(x, td_neg(state_of(&b->s, "z", 5, 7, 3)), NULL);
    sheet_plan(&b->s, &root, 1);
    expect_calls(b->s.plan, "exp 2, neg 0, assign 1");
    sheet_run(&b->s);
    cr_expect_float_eq(root_at(&b->s, root, 34), exp(0.5), 1e-6);
    cr_expect_float_eq(state_at(&b->s, "x", 34), -3, 1e-6);
    desk_free(b);
}

Test(fuse, a_failure_names_the_fusion)
{
    desk      *b = desk_with(FIXTURE("fusion-fails.so"));
    td_error   e = { 0 };
    td_tensor *root = td_neg(td_exp(state_of(&b->s, "x", 5, 7, 0.5)));
    sheet_plan(&b->s, &root, 1);
    sheet_bind(&b->s);
    cr_expect_eq(td_plan_run(b->s.plan, &e), TD_EIO);
    cr_expect(strstr(e.text,
                     "fusion 'exp and neg' of 2 calls, the first of which is kernel 'exp', of "
                     "backend 'cpu' failed"),
              "%s", e.text);
    desk_free(b);
}
