/* roots.c - results are read after a run: no later call reuses the memory of a root. */
#include "graph/lab.h"

enum { ROWS = 3, COLUMNS = 5 };

/* A root is copied if it is not dense. The copy of a later one reads a storage that is itself a
 * root, and must not end its lifetime. */
Test(roots, copies_leave_other_roots_alone)
{
    machine    m = machine_new("cpu", 1);
    sheet      sheet_ = sheet_new(&m), *s = &sheet_;
    td_tensor *x = state_of(s, "x", ROWS, COLUMNS, 1), *y = td_scale(x, 2), *z = td_scale(x, 3);
    td_tensor *roots[] = { y, td_transpose(y, 0, 1), td_transpose(z, 0, 1), z };
    double     wanted[] = { 2, 2, 3, 3 };

    sheet_plan(s, roots, 4);
    sheet_run(s);
    for (int k = 0; k < 4; k++)
        for (int64_t at = 0; at < ROWS * COLUMNS; at++)
            cr_expect_eq(root_at(s, roots[k], at), wanted[k], "root %d[%lld] is %g", k,
                         (long long)at, root_at(s, roots[k], at));
    sheet_free(s);
    machine_free(&m);
}
