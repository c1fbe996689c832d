/* mistakes.c - graphs with errors made by a model or by an op: each is refused with a message
 * that names the place, and nothing is read or written out of bounds. */
#include "plugin/scratch.h"

#include "graph/lab.h"

/* A place to build a graph. Each attempt needs a new graph, since a graph keeps its first error. */
typedef struct site {
    machine    m;
    sheet      s;
    td_graph  *g;
    td_tensor *x, *wide, *ids; /* [3, 3], [1, 2, 5, 4], i32 [3] */
} site;

static site site_new(const char *module)
{
    scratch dir = scratch_new();
    site    a = { .m = machine_new("cpu", 1) };
    if (module)
        copy_to(&dir, module, "op-any.so");
    td_registry_add_path(a.m.registry, dir.path);
    td_registry_scan(a.m.registry);
    scratch_free(&dir);
    return a;
}

static void begin(site *a)
{
    a->s = sheet_new(&a->m);
    a->g = a->s.g;
    a->x = state_of(&a->s, "x", 3, 3, 1);
    a->wide = td_input(a->g, "wide", TD_REAL, (int64_t[]){ 1, 2, 5, 4 }, 4);
    a->ids = td_input(a->g, "ids", TD_I32, (int64_t[]){ 3 }, 1);
}

static void end(site *a, const char *says)
{
    td_error e = { 0 };
    td_graph_error(a->g, &e);
    cr_expect(*says ? strstr(e.text, says) != NULL : !e.code,
              "the message is '%s'; expected "
              "'%s'",
              e.text, says);
    sheet_free(&a->s);
}

#define EXPECT(says, expression) \
    do {                         \
        begin(&a);               \
        (void)(expression);      \
        end(&a, says);           \
    } while (0)

#define EMIT(op, attrs, ...)                         \
    td_emit(a.g, op, (td_tensor *[]){ __VA_ARGS__ }, \
            (int)(sizeof(td_tensor *[]){ __VA_ARGS__ } / sizeof(td_tensor *)), attrs)

static td_tensor *attend_with(site *a, td_mask mask, const td_bias *bias)
{
    return td_attend(a->wide, a->wide, a->wide, &mask, bias, 1);
}

static td_tensor *leaf(site *a, int dtype, int rank, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    return td_input(a->g, "leaf", dtype, (int64_t[]){ d0, d1, d2, d3 }, rank);
}

Test(mistakes, attention)
{
    site    a = site_new(NULL);
    td_bias bias = { 0 };

    EXPECT("", attend_with(&a, (td_mask){ .dense = leaf(&a, TD_REAL, 4, 1, 1, 5, 5) }, NULL));
    EXPECT("attend: takes 14 inputs, not 3", EMIT("attend", NULL, a.wide, a.wide, a.wide));
    EXPECT("a dense mask must be real [1 or 1, 2 or 1, 5 queries, 5 keys]",
           attend_with(&a, (td_mask){ .dense = leaf(&a, TD_REAL, 4, 1, 1, 2, 2) }, NULL));
    EXPECT("a dense mask must be real",
           attend_with(&a, (td_mask){ .dense = leaf(&a, TD_REAL, 2, 5, 5, 0, 0) }, NULL));
    EXPECT("a dense mask must be real",
           attend_with(&a, (td_mask){ .dense = leaf(&a, TD_I32, 4, 1, 1, 5, 5) }, NULL));
    EXPECT("reals of one dtype",
           td_attend(a.wide, leaf(&a, TD_I32, 4, 1, 2, 5, 4), a.wide, &(td_mask){ 0 }, NULL, 1));
    for (int k = 0; k < 3; k++) {
        begin(&a);
        bias.q_position = td_input(a.g, "at", TD_I32, (int64_t[]){ 1, 5 }, 2);
        bias.k_position = bias.q_position;
        bias.table = leaf(&a, k == 1 ? TD_I32 : TD_REAL, 2, 2, k ? 9 : 0, 0, 0);
        attend_with(&a, (td_mask){ 0 }, &bias);
        end(&a, k == 2 ? "" : "a bias table must be real [2 heads, distances], not empty");
    }
    machine_free(&a.m);
}

Test(mistakes, ranks)
{
    site     a = site_new(NULL);
    int64_t  nine[] = { 1, 1, 1, 1, 1, 1, 1, 3, 3 };
    td_attrs rank = { .i = { 9, 1, 1, 1, 1, 1, 1, 1, 3, 3 } };
    td_attrs huge = { .i = { 4, INT32_MAX, INT32_MAX, 4, 1 } }, rows = { .i = { 2 } };
    td_attrs far = { .i = { 0, INT64_MAX, 1 } };

    EXPECT("reshape: rank 9 is not in 0 .. 8", EMIT("reshape", &rank, a.x));
    EXPECT("reshape: 9 elements do not fit", EMIT("reshape", &huge, a.x));
    EXPECT("full: rank 9", EMIT("full", &rank));
    EXPECT("a constant: rank 9 is not in 0 .. 8",
           td_constant(a.g, TD_REAL, nine, 9, (double[9]){ 0 }));
    EXPECT("input 'y': rank 9 is not in 0 .. 8", td_input(a.g, "y", TD_REAL, nine, 9));
    EXPECT("scatter_add: cannot add a source of rank 8 at ids of rank 0",
           EMIT("scatter_add", &rows, td_full(a.g, TD_I32, 0, 0, 0),
                td_input(a.g, "deep", TD_REAL, nine, 8)));
    EXPECT("slice: cannot take 1 entries from 9223372036854775807 on", EMIT("slice", &far, a.x));
    EXPECT("pad: cannot pad axis 0 of 2 by 9223372036854775807", EMIT("pad", &far, a.x));
    machine_free(&a.m);
}

Test(mistakes, inputs_that_are_missing_or_of_another_kind)
{
    site a = site_new(NULL);
    EXPECT("add: input 1 is missing", td_add(a.x, NULL));
    EXPECT("concat: input 1 is missing", td_concat((td_tensor *[]){ a.x, NULL }, 2, 0));
    EXPECT("where: input 2 is missing", td_where(a.x, a.x, NULL));
    EXPECT("matmul: input 1 is missing", td_matmul(a.x, NULL));
    EXPECT("assign: input 1 is missing", td_assign(a.x, NULL, NULL));
    EXPECT("assign: cannot assign i32[3, 3] to a state of f32[3, 3]",
           td_assign(a.x, td_full(a.g, TD_I32, (int64_t[]){ 3, 3 }, 2, 1), NULL));
    EXPECT("assign: the gate must be a scalar of the state's dtype",
           td_assign(a.x, a.x, td_full(a.g, TD_I32, 0, 0, 1)));
    EXPECT("activation: operands must be reals", td_activate(a.ids, TD_SILU));
    EXPECT("matmul: the dims or dtype of the summand (input 2) differ from the sum's",
           EMIT("matmul", NULL, a.x, a.x, a.ids));
    EXPECT("rms_norm: parameter 1 must be real", td_rms_norm(a.x, a.ids, 1e-6));
    EXPECT("rms_norm_grad: statistic 0", EMIT("rms_norm_grad", NULL, a.x, a.x, NULL, a.x));
    EXPECT("softmax_grad: the dims or dtype of the gradient differ",
           EMIT("softmax_grad", NULL, a.x, a.wide));
    EXPECT("sum_squares: the input must be real", td_sum_squares(a.ids));
    EXPECT("adafactor_step: input 3 is missing",
           td_adafactor_step((td_tensor *[TD_FACTOR_INPUTS]){ a.x, a.x, a.x, NULL }, 0.9, 0, 1, 1));
    machine_free(&a.m);
}

Test(mistakes, an_input_has_one_shape)
{
    site a = site_new(NULL);
    EXPECT("", td_input(a.g, "ids", TD_I32, (int64_t[]){ 3 }, 1));
    EXPECT("input 'ids' was declared as i32[3] and is requested as i32[4]",
           td_input(a.g, "ids", TD_I32, (int64_t[]){ 4 }, 1));
    EXPECT("input 'ids' was declared as i32[3] and is requested as f32[3]",
           td_input(a.g, "ids", TD_REAL, (int64_t[]){ 3 }, 1));
    EXPECT("state 'x' was declared as f32[3, 3] and is requested as f32[3, 4]",
           state_of(&a.s, "x", 3, 4, 1));
    machine_free(&a.m);
}

/* ---- ops of others --------------------------------------------------------------------------- */

Test(mistakes, ops_with_mismatched_results)
{
    site       a = site_new(FIXTURE("wrong-ops.so"));
    td_error   e = { 0 };
    td_tensor *y, *grad;

    EXPECT("wrong_outputs: has 7 outputs; an op may have 1 to 6", EMIT("wrong_outputs", NULL, a.x));
    EXPECT("wrong_rank: output 0: rank 9 is not in 0 .. 8", EMIT("wrong_rank", NULL, a.x));
    EXPECT("wrong_place: output 0 shares the memory of input 0, but its dims or dtype differ",
           EMIT("wrong_place", NULL, a.x));
    EXPECT("wrong_sum: the dims or dtype of the summand (input 0) differ",
           EMIT("wrong_sum", NULL, a.x));
    begin(&a);
    y = EMIT("wrong_lowering", NULL, a.x);
    expect_no_plan(
        &a.s, &y, 1,
        "the lowering of 'wrong_lowering' computes output 0 with dims or a dtype that differ");
    sheet_free(&a.s);
    begin(&a);
    y = EMIT("no_lowering", NULL, a.x);
    expect_no_plan(&a.s, &y, 1, "the lowering of 'no_lowering' does not compute output 0");
    sheet_free(&a.s);
    begin(&a);
    y = td_sum_all(EMIT("wrong_gradient", NULL, a.x));
    cr_expect(td_gradients(a.g, y, &a.x, 1, &grad, &e));
    cr_expect(
        strstr(e.text,
               "wrong_gradient: the gradient of input 0 is f32[4, 3], but the input is f32[3, 3]"),
        "%s", e.text);
    sheet_free(&a.s);
    machine_free(&a.m);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static int run_with(sheet *s, const int32_t *ids, td_error *e)
{
    if (ids && td_plan_set_ints(s->plan, "ids", ids, 3, e))
        return e->code;
    return td_plan_run(s->plan, e);
}

/* An input that was not set is an error, not the last run's; an id out of range is reported with
 * its op, path and dims. */
Test(mistakes, runs)
{
    site       a = site_new(NULL);
    td_error   e = { 0 };
    int32_t    ids[] = { 0, 2, 1 };
    td_tensor *y;

    begin(&a);
    td_push(a.g, "embedding");
    y = td_gather(a.x, a.ids);
    td_pop(a.g);
    sheet_plan(&a.s, &y, 1);
    cr_assert(!td_variables_allocate(a.s.variables, &a.m.device, TD_F32, &e));
    a.s.arena = a.m.device.backend->allocate(a.m.device.state, td_plan_arena(a.s.plan) + 64);
    cr_assert(!td_plan_bind(a.s.plan, a.s.arena, &e));
    cr_expect(!run_with(&a.s, ids, &e), "%s", e.text);
    cr_expect(run_with(&a.s, NULL, &e));
    cr_expect(strstr(e.text, "input 'ids' was not set before the run"), "%s", e.text);
    e.code = 0;
    ids[1] = 3;
    cr_expect_eq(run_with(&a.s, ids, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, "embedding: kernel 'gather' of backend 'cpu' failed with code -3"),
              "%s", e.text);
    cr_expect(strstr(e.text, "input 0 f32[3, 3], input 1 i32[3]: is an id or a label outside"),
              "%s", e.text);
    sheet_free(&a.s);
    machine_free(&a.m);
}
