/* text.c - growing strings, nearest names, patterns, and numbers for people. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "base/text.h"

Test(text, grows_piece_by_piece)
{
    td_text t = { 0 };
    cr_expect_str_eq(td_text_get(&t), "");
    for (int i = 0; i < 1009; i++)
        td_text_print(&t, "%d,", i % 10);
    td_text_append(&t, "a\0b", 3);
    cr_expect_eq(t.size, 2 * 1009 + 3);
    cr_expect_eq(memcmp(t.data + t.size - 3, "a\0b", 4), 0,
                 "any bytes are kept, and a 0 follows them");
    cr_expect(!t.failed);
    td_text_free(&t);
    cr_expect_str_eq(td_text_get(&t), "");
    td_text_print(&t, "%300d", 7);
    cr_expect_eq(t.size, 300);
    td_text_free(&t);
}

static const char *nearest(const char *name)
{
    static const char *const known[] = { "heads", "kv_heads", "head_dim", "qkv_norm",
                                         "output_norm" };
    const char              *found = td_nearest(name, known, sizeof known / sizeof *known);
    return found ? found : "(none)";
}

Test(text, nearest_names)
{
    char long_name[200];
    memset(long_name, 'x', sizeof long_name);
    long_name[199] = 0;
    cr_expect_str_eq(nearest("kv_head"), "kv_heads");
    cr_expect_str_eq(nearest("haeds"), "heads", "swapped neighbours are one edit");
    cr_expect_str_eq(nearest("outputnorm"), "output_norm");
    cr_expect_str_eq(nearest("heads"), "heads");
    cr_expect_str_eq(nearest("learning_rate"), "(none)");
    cr_expect_str_eq(nearest("x"), "(none)");
    cr_expect_str_eq(nearest(long_name), "(none)");
    cr_expect_null(td_nearest("a", NULL, 0));
}

Test(text, nearest_names_are_near)
{
    static const char *const commands[] = {
        "man", "fit", "data", "evaluate", "own.cfg", "plugins"
    };
    static const char *const far[] = { "run", "foo", "atn", "nope.cfg", "ev" };
    const size_t             n = sizeof commands / sizeof *commands;
    for (size_t k = 0; k < sizeof far / sizeof *far; k++)
        cr_expect_null(td_nearest(far[k], commands, n), "%s", far[k]);
    cr_expect_str_eq(td_nearest("eval", commands, n), "evaluate", "it begins so");
    cr_expect_str_eq(td_nearest("ft", commands, n), "fit");
    cr_expect_str_eq(nearest("head"), "heads", "one edit is nearer than a longer name");
    cr_expect_str_eq(nearest("out"), "output_norm");
    cr_expect_str_eq(nearest("qkv"), "qkv_norm");
}

Test(text, patterns)
{
    cr_expect(td_match("*.weight", "layers.0.q_proj.weight"));
    cr_expect(td_match("layers.?.*", "layers.7.norm"));
    cr_expect(td_match("*a*b*c", "xxaxbxbxc"));
    cr_expect(td_match("", "") && td_match("*", "") && td_match("**", "x"));
    cr_expect(!td_match("layers.?.*", "layers.17.norm"));
    cr_expect(!td_match("?", "") && !td_match("", "x") && !td_match("*b", "abc"));
}

static void expect_human(char *(*say)(char[32], double), double value, const char *want)
{
    char out[32];
    cr_expect_str_eq(say(out, value), want);
}

Test(text, numbers_for_people)
{
    expect_human(td_human_bytes, 0, "0 B");
    expect_human(td_human_bytes, 1023, "1023 B");
    expect_human(td_human_bytes, 1024, "1.0 KiB");
    expect_human(td_human_bytes, 12.3 * 1024 * 1024, "12.3 MiB");
    expect_human(td_human_count, 7, "7");
    expect_human(td_human_count, 12345, "12.3k");
    expect_human(td_human_count, -3e6, "-3M");
    expect_human(td_human_count, 4.1e16, "4.10e+04"); /* beyond the largest unit, T */
    expect_human(td_human_time, 7.25, "7.2s");
    expect_human(td_human_time, 200, "3m 20s");
    expect_human(td_human_time, 7 * 3600 + 5 * 60, "7h 05m");
    expect_human(td_human_time, 31 * 86400 + 3600, "31d 01h");
    expect_human(td_human_time, INFINITY, "?");
    expect_human(td_human_time, NAN, "?");
}

/* Escape sequences from names must not reach terminals. */
Test(text, printable)
{
    char text[] = "a\033[31m\n\tb\177\xc2\x9b"
                  "c\xc3\xa4\x01";
    td_text_printable(text);
    cr_expect_str_eq(text, "a?[31m\n\tb???c\xc3\xa4?");
}
