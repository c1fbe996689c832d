/* states.c - reads before a write to a state see the old content, reads after it the new: on
 * every backend, with its kernels and with lowerings. */
#include "graph/lab.h"

enum { ROWS = 3, COLUMNS = 3 };

/* On each backend, with fused kernels and without. */
static void everywhere(void (*test)(machine *))
{
    static const char *const backends[] = { "cpu", "reference" };
    for (int k = 0; k < 4; k++) {
        machine m = machine_new(backends[k / 2], 2);
        m.device.lower_all = k % 2;
        test(&m);
        machine_free(&m);
    }
}

#define SETTING(m)                                  \
    sheet      sheet_ = sheet_new(m), *s = &sheet_; \
    td_tensor *x = state_of(s, "x", ROWS, COLUMNS, 1)

static td_tensor *become(sheet *s, td_tensor *state, double value)
{
    return td_assign(state, all(s, ROWS, COLUMNS, value), NULL);
}

static void reads_around_a_write(machine *m)
{
    static const double wanted[] = { 2, 5, 20, 50, 30 };
    SETTING(m);
    td_tensor *view = td_transpose(x, 0, 1), *roots[5];
    /* the same nodes, emitted on both sides of a write */
    roots[0] = td_scale(x, 2);
    roots[1] = td_scale(view, 5);
    become(s, x, 10);
    roots[2] = td_scale(x, 2);
    roots[3] = td_scale(view, 5);
    roots[4] = td_scale(x, 3);
    sheet_plan(s, roots, 5);
    sheet_run(s);
    for (int k = 0; k < 5; k++)
        cr_expect_eq(root_at(s, roots[k], 1), wanted[k], "root %d is %g", k,
                     root_at(s, roots[k], 1));
    sheet_free(s);
}

/* Equal nodes are merged, unless there was a write between them. */
static void equal_reads_are_one(machine *m)
{
    SETTING(m);
    td_tensor *before = td_scale(x, 2);
    cr_expect_eq(td_scale(x, 2), before);
    become(s, x, 10);
    cr_expect_neq(td_scale(x, 2), before);
    cr_expect_eq(td_scale(x, 2), td_scale(x, 2));
    sheet_free(s);
}

/* A product may start from a state only if it runs after the write that the sum should see. */
static void a_sum_after_a_write(machine *m)
{
    SETTING(m);
    td_tensor *one = all(s, ROWS, COLUMNS, 1), *y = state_of(s, "y", ROWS, COLUMNS, 4);
    td_tensor *early = td_add(y, td_matmul(one, one)), *product = td_matmul(one, td_scale(one, 2)),
              *late;
    become(s, x, 10);
    late = td_add(x, product);
    sheet_plan(s, (td_tensor *[]){ early, late }, 2);
    sheet_run(s);
    cr_expect_eq(root_at(s, early, 4), 7);
    cr_expect_eq(root_at(s, late, 4), 16, "%g", root_at(s, late, 4));
    sheet_free(s);
}

/* Both values could be computed in the state: only the last one may. */
static void the_last_write_stays(machine *m)
{
    SETTING(m);
    td_tensor *y = state_of(s, "y", ROWS, COLUMNS, 3), *second = td_scale(y, 2),
              *first = td_scale(y, 5), *root;
    td_assign(x, first, NULL);
    td_assign(x, second, NULL);
    root = td_add(first, y);
    sheet_plan(s, &root, 1);
    sheet_run(s);
    cr_expect_eq(state_at(s, "x", 2), 6, "%g", state_at(s, "x", 2));
    cr_expect_eq(root_at(s, root, 2), 18);
    sheet_free(s);
}

/* `first` is read after the state that it was assigned to has been given another value: it cannot
 * be computed in the state's memory. */
static void a_value_outlives_its_state(machine *m)
{
    SETTING(m);
    td_tensor *y = state_of(s, "y", ROWS, COLUMNS, 3), *first = td_scale(y, 5),
              *second = td_scale(y, 2), *root;
    td_assign(x, first, NULL);
    root = td_add(first, y);
    td_assign(x, second, NULL);
    sheet_plan(s, &root, 1);
    sheet_run(s);
    cr_expect_eq(root_at(s, root, 2), 18, "%g", root_at(s, root, 2));
    cr_expect_eq(state_at(s, "x", 2), 6);
    sheet_free(s);
}

/* Reads and writes the same memory in two orders, so a copy must come in between. */
static void a_state_becomes_its_transpose(machine *m)
{
    double     values[ROWS * COLUMNS];
    td_tensor *root;
    SETTING(m);
    for (int k = 0; k < ROWS * COLUMNS; k++)
        values[k] = k;
    td_assign(x, td_constant(s->g, TD_REAL, (int64_t[]){ ROWS, COLUMNS }, 2, values), NULL);
    td_assign(x, td_transpose(x, 0, 1), NULL);
    root = td_scale(x, 1.5);
    sheet_plan(s, &root, 1);
    sheet_run(s);
    cr_expect_eq(state_at(s, "x", 1), 3);
    cr_expect_eq(state_at(s, "x", 5), 7);
    cr_expect_eq(root_at(s, root, 3), 1.5);
    sheet_free(s);
}

static void a_part_of_a_state(machine *m)
{
    SETTING(m);
    td_tensor *row = td_exp(all(s, 1, COLUMNS, 0)), *root;
    td_assign(td_slice(x, 0, 1, 1), td_scale(row, 7), NULL);
    root = td_scale(x, 2);
    sheet_plan(s, &root, 1);
    sheet_run(s);
    cr_expect_eq(state_at(s, "x", 0), 1);
    cr_expect_eq(state_at(s, "x", COLUMNS), 7);
    cr_expect_eq(root_at(s, root, COLUMNS), 14);
    sheet_free(s);
}

Test(states, reads_around_a_write) { everywhere(reads_around_a_write); }
Test(states, equal_reads_are_one) { everywhere(equal_reads_are_one); }
Test(states, a_sum_after_a_write) { everywhere(a_sum_after_a_write); }
Test(states, the_last_write_wins) { everywhere(the_last_write_stays); }
Test(states, a_value_outlives_its_state) { everywhere(a_value_outlives_its_state); }
Test(states, a_state_becomes_its_transpose) { everywhere(a_state_becomes_its_transpose); }
Test(states, a_part_of_a_state) { everywhere(a_part_of_a_state); }

/* ---- what cannot be exact is refused --------------------------------------------------------- */

Test(states, a_copied_view_is_not_read_after_a_write)
{
    machine    m = machine_new("cpu", 1);
    int64_t    flat[] = { ROWS * COLUMNS };
    td_tensor *before, *after;
    SETTING(&m);
    td_tensor *view = td_reshape(td_transpose(x, 0, 1), flat, 1);
    before = td_scale(view, 2);
    become(s, x, 10);
    sheet_plan(s, &before, 1);
    after = td_scale(view, 3);
    expect_no_plan(s, &after, 1, "'reshape' of state 'x' needed a copy");
    sheet_free(s);
    machine_free(&m);
}

Test(states, a_gradient_does_not_read_a_later_state)
{
    machine    m = machine_new("cpu", 1);
    td_error   e = { 0 };
    td_tensor *grad;
    SETTING(&m);
    td_tensor *w = state_of(s, "w", ROWS, COLUMNS, 1), *sum = td_add(td_mul(x, w), td_add(x, w));
    become(s, x, 10);
    cr_expect(td_gradients(s->g, td_sum_all(sum), &w, 1, &grad, &e));
    cr_expect(strstr(e.text, "the gradient of 'mul' needs the state 'x' as it was"), "%s", e.text);
    sheet_free(s);
    machine_free(&m);
}

/* ---- assignments that cost nothing ----------------------------------------------------------- */

Test(states, a_fused_step_is_not_copied_onto_itself)
{
    machine    m = machine_new("cpu", 2);
    td_tensor *root;
    SETTING(&m);
    td_tensor *g = state_of(s, "g", ROWS, COLUMNS, 1), *v = state_of(s, "v", ROWS, COLUMNS, 0),
              *one = td_scalar(s->g, 1), *gate = td_less(td_sum_squares(g), td_scalar(s->g, 99));
    td_tensor *moment = td_adafactor_moment((td_tensor *[]){ g, v, one, one, gate }, 0.8);
    td_tensor *in[] = {
        x, g, moment, NULL, td_output(moment, 1), td_sum_squares(x), one, one, gate
    };
    /* the step has already written to x, so assigning its result needs no call */
    td_assign(x, td_adafactor_step(in, 0, 0, 1, 1e-3), gate);
    root = td_sum_squares(g);
    sheet_plan(s, &root, 1);
    cr_expect_eq(calls_of(s->plan, "adafactor_step"), 1);
    cr_expect_eq(calls_of(s->plan, "assign"), 0);
    sheet_run(s);
    cr_expect_eq(state_at(s, "x", 0), 0, "%g", state_at(s, "x", 0));
    sheet_free(s);
    machine_free(&m);
}

/* Adafactor without a momentum: the output that would share its memory is not allocated. */
Test(states, an_absent_state_takes_no_memory)
{
    enum { MANY = 331 };
    machine    m = machine_new("cpu", 2);
    td_tensor *root;
    sheet      sheet_ = sheet_new(&m), *s = &sheet_;
    td_tensor *x = state_of(s, "x", MANY, MANY, 1), *g = state_of(s, "g", MANY, MANY, 1),
              *v = state_of(s, "v", MANY, MANY, 1), *one = td_scalar(s->g, 1);
    td_adafactor_step((td_tensor *[]){ x, g, v, NULL, one, one, one, one, one }, 0, 0, 1, 1e-3);
    root = td_sum_squares(g);
    sheet_plan(s, &root, 1);
    sheet_run(s);
    cr_expect_lt(td_plan_arena(s->plan), MANY * MANY * sizeof(float), "%zu bytes",
                 td_plan_arena(s->plan));
    sheet_free(s);
    machine_free(&m);
}
