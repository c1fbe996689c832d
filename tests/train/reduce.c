/* reduce.c - the memory that sums of gradients take, before any is taken. */
#include "train/reduce.h"

#include <criterion/criterion.h>

/* Large enough for every buffer to have its limit of 256 MiB. */
static const size_t gradients = (size_t)1 << 33, limit = (size_t)1 << 28;

static size_t bytes(int size, td_reduce how, bool shared, bool attached)
{
    td_reduction_spec spec = {
        .how = how, .n_micro = size, .shared = shared, .attached = attached
    };
    return td_reduction_bytes(0, size, &spec, gradients);
}

/* With one micro-batch for each rank, so that none keeps copies. */
Test(reduce, counts_the_buffers_between_devices)
{
    cr_expect_eq(bytes(1, TD_REDUCE_EXACT, false, true), 0);
    cr_expect_eq(bytes(5, TD_REDUCE_FAST, false, true), 0);
    cr_expect_eq(bytes(5, TD_REDUCE_EXACT, true, false), 0);
    cr_expect_eq(bytes(5, TD_REDUCE_EXACT, false, true), 3 * limit);
    /* an owner keeps its sums: nothing is spread */
    cr_expect_eq(bytes(5, TD_REDUCE_EXACT, true, true), 2 * limit);
    cr_expect_eq(bytes(5, TD_REDUCE_FAST, true, true), 2 * limit);
}
