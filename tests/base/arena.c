/* arena.c - arenas return zeroed, aligned, separate memory, and refuse impossible sizes. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"

static void expect_zero(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        cr_assert_eq(p[i], 0, "byte %zu of %zu", i, size);
}

Test(arena, pieces_are_zeroed_aligned_and_apart)
{
    static const size_t sizes[] = {
        1, 0, 7, 13, 16, 17, 1021, 16384, 16385, 65536, 65537, 300007, 3
    };
    td_arena      *a = td_arena_new();
    unsigned char *pieces[sizeof sizes / sizeof *sizes];
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        pieces[k] = td_arena_alloc(a, sizes[k]);
        cr_assert(pieces[k]);
        cr_assert_eq((uintptr_t)pieces[k] % 16, 0);
        expect_zero(pieces[k], sizes[k]);
        memset(pieces[k], (int)k + 1, sizes[k]);
    }
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (size_t i = 0; i < sizes[k]; i++)
            cr_assert_eq(pieces[k][i], k + 1, "piece %zu was written over", k);
    td_arena_free(a);
}

Test(arena, impossible_sizes_are_refused)
{
    td_arena *a = td_arena_new();
    cr_expect_null(td_arena_alloc(a, SIZE_MAX));
    cr_expect_null(td_arena_alloc(a, SIZE_MAX - 15));
    cr_expect_null(td_arena_alloc(a, SIZE_MAX - 31));
#ifndef TANDEM_SANITIZED /* which aborts at such a size instead of refusing it */
    cr_expect_null(td_arena_alloc(a, SIZE_MAX / 2));
#endif
    cr_expect(td_arena_alloc(a, 7), "the arena stays usable");
    td_arena_free(a);
}

Test(arena, memory_is_zeroed_again_after_a_reset)
{
    td_arena *a = td_arena_new();
    td_arena_reset(a);
    for (int round = 0; round < 5; round++) {
        unsigned char *small = td_arena_alloc(a, 1009), *large = td_arena_alloc(a, 100003);
        expect_zero(small, 1009);
        expect_zero(large, 100003);
        memset(small, 0xff, 1009);
        memset(large, 0xff, 100003);
        td_arena_reset(a);
    }
    td_arena_free(a);
    td_arena_free(NULL);
}

Test(arena, texts)
{
    td_arena *a = td_arena_new();
    char      original[] = "copied";
    char     *copy = td_arena_copy(a, original);
    original[0] = 'X';
    cr_expect_str_eq(copy, "copied");
    cr_expect_str_eq(td_arena_copy(a, ""), "");
    cr_expect_str_eq(td_arena_print(a, "%s-%d", "x", 7), "x-7");
    cr_expect_eq(strlen(td_arena_print(a, "%70001d", 1)), 70001);
    td_arena_free(a);
}
