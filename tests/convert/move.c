/* move.c - tensors that are converted while they are written. */
#include "convert/move.h"

#include <criterion/criterion.h>

/* The bytes of a block of Q8_0 made from a row that begins with `first`, and is 0 otherwise. */
static void pack(float first, unsigned char out[TD_STORED_BLOCK_BYTES])
{
    float     row[TD_STORED_BLOCK] = { first };
    td_stored from = {
        .name = "x", .type = TD_STORED_F32, .rank = 1, .dim = { TD_STORED_BLOCK }, .data = row
    };
    td_move   move = { .from = &from, .scale = 1, .type = TD_STORED_Q8_0 };
    td_stored to = td_move_to("y", &move, 1, from.dim);
    td_error  e = { 0 };
    cr_assert(!to.stream(to.arg, 0, TD_STORED_BLOCK_BYTES, out, &e), "%s", e.text);
}

static void expect_block(float first, int low, int high, int byte)
{
    unsigned char out[TD_STORED_BLOCK_BYTES];
    pack(first, out);
    cr_expect(out[0] == low && out[1] == high, "%a: factor %02x %02x", first, out[0], out[1]);
    cr_expect_eq((signed char)out[2], byte, "%a: %d", first, (signed char)out[2]);
    for (int k = 1; k < TD_STORED_BLOCK; k++)
        cr_expect_eq(out[2 + k], 0, "%a: element %d", first, k);
}

/* Half precision has no factor below 2^-25; single precision has no inverse below 2^-128. */
Test(move, blocks_of_tiny_numbers)
{
    expect_block(127, 0x00, 0x3c, 127);
    expect_block(-127 * 0x1p-24f, 0x01, 0x00, -127);
    expect_block(0x1p-40f, 0, 0, 127);
    expect_block(0x1p-125f, 0, 0, 0);
    expect_block(-0x1p-149f, 0, 0, 0);
    expect_block(0, 0, 0, 0);
}

/* To the other program and back, a norm that it holds as what is added to 1. */
Test(move, what_is_shifted_comes_back)
{
    float     row[] = { 0.75f, 1, -2.5f }, there[3], here[3];
    td_stored from = { .name = "x", .type = TD_STORED_F32, .rank = 1, .dim = { 3 }, .data = row };
    td_move   to = { .from = &from, .scale = 4, .shift = 1, .type = TD_STORED_F32 };
    td_move   back = { .scale = 0.25, .shift = 1, .type = TD_STORED_F32, .back = true };
    td_stored other = td_move_to("y", &to, 1, from.dim), again;
    td_error  e = { 0 };
    cr_assert(!other.stream(other.arg, 0, sizeof there, there, &e), "%s", e.text);
    cr_expect(there[0] == 2 && there[1] == 3 && there[2] == -11, "%g %g %g", there[0], there[1],
              there[2]);
    from.data = there;
    back.from = &from;
    again = td_move_to("z", &back, 1, from.dim);
    cr_assert(!again.stream(again.arg, 0, sizeof here, here, &e), "%s", e.text);
    cr_expect(!memcmp(here, row, sizeof row), "%g %g %g", here[0], here[1], here[2]);
}

Test(move, blocks_of_numbers_that_are_too_large)
{
    unsigned char out[TD_STORED_BLOCK_BYTES];
    float         row[TD_STORED_BLOCK] = { 127 * 65504.f };
    td_stored     from = {
            .name = "x", .type = TD_STORED_F32, .rank = 1, .dim = { TD_STORED_BLOCK }, .data = row
    };
    td_move   move = { .from = &from, .scale = 1, .type = TD_STORED_Q8_0 };
    td_stored to = td_move_to("y", &move, 1, from.dim);
    td_error  e = { 0 };
    cr_expect_eq(to.stream(to.arg, 0, TD_STORED_BLOCK_BYTES, out, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, "use another --dtype"), "%s", e.text);
}
