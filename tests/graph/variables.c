/* variables.c - reading a variable from a device with its own memory: a slice transfers only the
 * slice. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "plan/plan.h"

enum { COUNT = 701 };

static size_t downloaded;

static void *allocate(void *state, size_t bytes) { return calloc(1, bytes); }

static void release(void *state, void *memory, size_t bytes) { free(memory); }

static int download(void *state, void *host, const void *device, size_t bytes)
{
    memcpy(host, device, bytes);
    downloaded += bytes;
    return 0;
}

static void expect_slices(int real, bool far)
{
    static const int64_t dims[] = { COUNT };
    td_backend           b = { .allocate = allocate, .release = release };
    td_device            device = { .backend = &b };
    td_variables        *v = td_variables_new();
    td_variable         *x;
    td_error             error = { 0 };
    float                values[COUNT], all[COUNT];

    x = td_variables_add(v, "x", TD_VARIABLE_GRAD, dims, 1, (td_init){ TD_INIT_ZEROS, 0 }, 0);
    cr_assert_eq(td_variables_allocate(v, &device, real, &error), 0, "%s", error.text);
    for (int64_t k = 0; k < COUNT; k++)
        values[k] = (float)k / 3;
    cr_assert_eq(td_variable_set(x, &device, real, values, &error), 0);
    /* from here on the device has its own memory; td_variable_set has written to it as to the
     * host's */
    b.download = far ? download : NULL;
    downloaded = 0;
    for (int64_t first = 0; first < COUNT; first += 97) {
        int64_t n = COUNT - first < 97 ? COUNT - first : 97;
        cr_assert_eq(td_variable_slice(x, &device, real, first, n, all + first, &error), 0);
    }
    cr_expect(!memcmp(all, values, sizeof all));
    cr_expect_eq(downloaded, far ? COUNT * (real == TD_F64 ? sizeof(double) : sizeof(float)) : 0);
    memset(all, 0, sizeof all);
    cr_assert_eq(td_variable_get(x, &device, real, all, &error), 0);
    cr_expect(!memcmp(all, values, sizeof all));
    td_variables_release(v, &device);
    td_variables_free(v);
}

Test(variables, a_slice_costs_a_slice)
{
    expect_slices(TD_F32, true);
    expect_slices(TD_F64, true);
    expect_slices(TD_F32, false);
    expect_slices(TD_F64, false);
}
