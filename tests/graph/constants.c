/* constants.c - equal constants are one node, and requesting one again takes no memory. */
#include "graph/lab.h"

Test(constants, equal_ones_are_one)
{
    machine    m = machine_new("cpu", 1);
    sheet      s = sheet_new(&m);
    double     values[] = { 1, 2, 3, 4, 5, 6 }, other[] = { 1, 2, 3, 4, 5, 7 };
    int64_t    dims[] = { 2, 3 }, turned[] = { 3, 2 };
    td_tensor *x = td_constant(s.g, TD_REAL, dims, 2, values);
    int32_t    nodes = td_full_of(s.g)->n_nodes;

    cr_expect_eq(td_constant(s.g, TD_REAL, dims, 2, values), x);
    cr_expect_eq(td_constant(s.g, TD_F32, dims, 2, values), x);
    cr_expect_eq(td_full_of(s.g)->n_nodes, nodes, "a copy stayed in the graph");
    cr_expect_neq(td_constant(s.g, TD_REAL, dims, 2, other), x);
    cr_expect_neq(td_constant(s.g, TD_REAL, turned, 2, values), x);
    cr_expect_neq(td_constant(s.g, TD_I32, dims, 2, values), x);
    sheet_free(&s);
    machine_free(&m);
}
