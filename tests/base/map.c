/* map.c - maps from text to pointer, growing many times. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>

#include "base/map.h"

enum { KEYS = 10007 };

static const char *key(char out[32], int i)
{
    snprintf(out, 32, "key %d", i);
    return out;
}

Test(map, keeps_values_in_their_order)
{
    td_map *m = td_map_new();
    char    name[32];
    cr_expect_null(td_map_get(m, "key 0"));
    for (int i = 0; i < KEYS; i++)
        cr_assert(!td_map_set(m, key(name, i), (void *)(uintptr_t)(i + 1)));
    cr_expect_eq(td_map_count(m), KEYS);
    for (int i = 0; i < KEYS; i++) {
        cr_assert_eq((uintptr_t)td_map_get(m, key(name, i)), (uintptr_t)i + 1);
        cr_assert_str_eq(td_map_key(m, (size_t)i), name);
        cr_assert_eq((uintptr_t)td_map_value(m, (size_t)i), (uintptr_t)i + 1);
    }
    cr_expect_null(td_map_get(m, key(name, KEYS)));
    td_map_free(m);
}

Test(map, replaces_and_copies_keys)
{
    td_map *m = td_map_new();
    char    name[32] = "a";
    int     first, second;
    td_map_set(m, name, &first);
    td_map_set(m, "", &second);
    name[0] = 'b';
    cr_expect_eq(td_map_get(m, "a"), &first);
    cr_expect_null(td_map_get(m, "b"));
    cr_expect_eq(td_map_get(m, ""), &second);
    td_map_set(m, "a", &second);
    cr_expect_eq(td_map_get(m, "a"), &second);
    cr_expect_eq(td_map_count(m), 2);
    td_map_free(m);
    td_map_free(NULL);
}
