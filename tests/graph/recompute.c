/* recompute.c - gradients of marked layers that are computed again: the same numbers, even if a
 * graph is differentiated twice. */
#include "graph/lab.h"

enum { ROWS = 3, COLUMNS = 5 };

/* Gradients of two losses of one layer with respect to its weight. */
static void gradients(machine *m, bool recompute, double out[2])
{
    sheet      sheet_ = sheet_new(m), *s = &sheet_;
    td_error   e = { 0 };
    td_tensor *w, *y, *grads[2];

    td_full_of(s->g)->options.recompute = recompute;
    w = state_of(s, "w", ROWS, COLUMNS, 0.7);
    td_layer_begin(s->g);
    y = td_mul(td_tanh(w), td_exp(w));
    td_layer_end(s->g);
    cr_assert_eq(td_gradients(s->g, td_sum_all(td_mul(y, y)), &w, 1, &grads[0], &e), 0, "%s",
                 e.text);
    cr_assert_eq(td_gradients(s->g, td_sum_all(y), &w, 1, &grads[1], &e), 0, "%s", e.text);
    for (int k = 0; k < 2; k++)
        cr_assert(grads[k], "nothing flows from loss %d", k);
    sheet_plan(s, grads, 2);
    sheet_run(s);
    for (int k = 0; k < 2; k++)
        out[k] = root_at(s, grads[k], 1);
    sheet_free(s);
}

Test(recompute, changes_no_gradient)
{
    machine m = machine_new("reference", 1);
    double  plain[2], again[2];
    gradients(&m, false, plain);
    gradients(&m, true, again);
    for (int k = 0; k < 2; k++) {
        cr_expect_neq(plain[k], 0);
        cr_expect_eq(again[k], plain[k], "loss %d: %g, not %g", k, again[k], plain[k]);
    }
    machine_free(&m);
}
