/* parse.c - text to values: types, lines, widths, overrides, and refusals. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "config/parse.h"

static td_arena *arena;
static td_errors errors;

static void setup(void) { cr_assert((arena = td_arena_new()) != NULL); }

static void teardown(void)
{
    td_arena_free(arena);
    td_errors_free(&errors);
}

TestSuite(parse, .init = setup, .fini = teardown);

static const td_setting *value(const td_setting *root, const char *name, int type)
{
    const td_setting *v = td_setting_child(root, name);
    cr_assert(v, "no %s", name);
    cr_expect_eq(v->type, type, "%s has type %d", name, v->type);
    return v;
}

static void refuses(const char *text, const char *message)
{
    size_t before = errors.count;
    cr_expect_null(td_setting_parse(arena, text, "f.cfg", &errors), "%s", text);
    cr_expect_gt(errors.count, before, "%s", text);
    cr_expect(strstr(td_text_get(&errors.text), message), "wanted '%s': %s", message,
              td_text_get(&errors.text));
}

Test(parse, types_and_lines)
{
    const td_setting *root = td_setting_parse(
        arena,
        "a = 7;\nb = 0x7fffffff; # comment 99999999999\n/* 3000000000\n*/ c = 1.5;\n"
        "d = \"3000000000 { \\\" \";\ne = true;\nf = ( 1, ( 2 ), { g = 3L; } );\n",
        "f.cfg", &errors);
    cr_assert(root, "%s", td_text_get(&errors.text));
    cr_expect_eq(value(root, "a", TD_SETTING_INT)->integer, 7);
    cr_expect_eq(value(root, "a", TD_SETTING_INT)->number, 7.0);
    cr_expect_eq(value(root, "b", TD_SETTING_INT)->integer, INT32_MAX);
    cr_expect_eq(value(root, "c", TD_SETTING_FLOAT)->number, 1.5);
    cr_expect_str_eq(value(root, "d", TD_SETTING_STRING)->text, "3000000000 { \" ");
    cr_expect_eq(value(root, "e", TD_SETTING_BOOL)->integer, 1);
    cr_expect_str_eq(td_setting_origin(value(root, "a", TD_SETTING_INT)), "f.cfg:1");
    cr_expect_str_eq(td_setting_origin(value(root, "c", TD_SETTING_FLOAT)), "f.cfg:4");
    const td_setting *f = value(root, "f", TD_SETTING_LIST);
    cr_expect_eq(f->first->integer, 1);
    cr_expect_eq(f->first->next->type, TD_SETTING_LIST);
    cr_expect_eq(value(f->last, "g", TD_SETTING_INT)->integer, 3);
    cr_expect_eq(errors.count, 0);
}

Test(parse, edges_of_integers)
{
    const td_setting *root =
        td_setting_parse(arena,
                         "a = -2147483648; b = 9223372036854775807L; c = -9223372036854775808L;"
                         "d = 3e9; e = 3000000000.0;",
                         "f.cfg", &errors);
    cr_assert(root, "%s", td_text_get(&errors.text));
    cr_expect_eq(value(root, "a", TD_SETTING_INT)->integer, INT32_MIN);
    cr_expect_eq(value(root, "b", TD_SETTING_INT)->integer, INT64_MAX);
    cr_expect_eq(value(root, "c", TD_SETTING_INT)->integer, INT64_MIN);
    cr_expect_eq(value(root, "d", TD_SETTING_FLOAT)->number, 3e9);
    cr_expect_eq(value(root, "e", TD_SETTING_FLOAT)->number, 3e9);
    refuses("a = 2147483648;", "f.cfg:1: 2147483648 does not fit in 32 bits: write 2147483648L");
    refuses("\na = -2147483649;", "f.cfg:2: -2147483649 does not fit in 32 bits");
    refuses("a = 9223372036854775808L;", "9223372036854775808 does not fit in 64 bits");
    refuses("a = 3000000000; b = 4000000000;",
            "4000000000 does not fit in 32 bits"); /* both are reported */
}

Test(parse, refused)
{
    refuses("a = ;", "f.cfg:1: ");
    refuses("a = 1;\nb = { c = 2;", "f.cfg:2: ");
    refuses("a = 1;\na = 2;", "f.cfg:2: the same name appears twice in one group");
    refuses("a = [ 1, 2.0 ];", "an array [ ] holds values of one type only");
    refuses("@include \"x.cfg\"", "@include is not supported: use extends");
    refuses("a = 99999999999999999999;", "f.cfg:1: 99999999999999999999 does not fit in 64 bits");
    refuses("a = 1;\n/* b = 2;\nc = 3;", "f.cfg:2: the comment that begins here is not closed");
    refuses("a = 1;\nb = \"caf\xe9\";",
            "f.cfg:2: the string is not valid UTF-8: save the config as UTF-8");
    refuses("b = \"\\xe9\";", "f.cfg:1: the string is not valid UTF-8");
    refuses("b = \"\xc0\x80\";", "f.cfg:1: the string is not valid UTF-8");
}

/* libconfig reports the line on which it gives up, which is not where the error is. */
Test(parse, syntax_errors_say_where_to_look)
{
    refuses("\na = \"no end", "; the string that begins on line 2 does not end on it");
    refuses("a = \"x;\nb = \"y\";\n", "; the string that begins on line 1 does not end on it");
    refuses("a = 1;\nb = {\n c = { d = 1;\n};\ne = 2;\n", "; the '{' on line 2 is not closed");
    refuses("a = { b = 1; };\n};\n", "; the closing bracket on line 2 does not match");
    refuses("a = ( 1, 2 };\n", "; the closing bracket on line 1 does not match");
    refuses("a = x;\n", "; is a ';' missing before it, or quotes around a string?");
}

Test(parse, too_many_keys)
{
    td_text text = { 0 };
    for (int k = 0; k < 10001; k++)
        td_text_print(&text, "k%d = 1;\n", k);
    refuses(td_text_get(&text), "f.cfg:10001: more than 10000 keys in one file");
    td_text_free(&text);
}

Test(parse, depth)
{
    char text[400] = "a = ";
    for (int k = 0; k < 32; k++)
        strcat(text, "(");
    for (int k = 0; k < 32; k++)
        strcat(text, ")");
    cr_expect(td_setting_parse(arena, strcat(text, ";"), "f.cfg", &errors), "%s",
              td_text_get(&errors.text));
    memmove(text + 5, text + 4, strlen(text + 4) + 1);
    refuses(text, "f.cfg:1: groups and lists are nested deeper than 32 levels");
}

static const td_setting * override(const char *text)
{
    return td_setting_parse_override(arena, text, &errors);
}

Test(parse, override_types)
{
    cr_expect_eq(override("a=7")->type, TD_SETTING_INT);
    cr_expect_eq(override("a=7.0")->type, TD_SETTING_FLOAT);
    cr_expect_eq(override("a=1e-3")->type, TD_SETTING_FLOAT);
    cr_expect_eq(override("a=true")->type, TD_SETTING_BOOL);
    cr_expect_eq(override("a=\"7\"")->type, TD_SETTING_STRING);
    cr_expect_str_eq(override("a=adamw")->text, "adamw");
    cr_expect_str_eq(override("a=b=c")->text, "b=c");
    cr_expect_str_eq(override("a=data/*.jsonl")->text, "data/*.jsonl"); /* not a comment */
    cr_expect_str_eq(override("a=007")->text, "007"); /* for an option of type string */
    cr_expect_str_eq(override("a=data/x.jsonl")->text, "data/x.jsonl");
    cr_expect_str_eq(override("a=")->text, "");
    cr_expect_str_eq(override("a=1; b=2")->text, "1; b=2"); /* not a second key */
    const td_setting *v = override("a.b-1.c_2=( 1, 2, 3 )");
    cr_expect_str_eq(v->name, "a");
    cr_expect_str_eq(v->first->first->name, "c_2");
    cr_expect_eq(v->first->first->type, TD_SETTING_LIST);
    cr_expect_eq(v->first->first->last->integer, 3);
    cr_expect_str_eq(td_setting_origin(v->first->first), "command line");
    cr_expect_eq(errors.count, 0, "%s", td_text_get(&errors.text));
}

Test(parse, override_refused)
{
    static const char *const wrong[][2] = {
        { "steps", "'steps' is not key=value (without spaces around the =)" },
        { "=3", "'' is not a key: write path.to.key=value" },
        { "a..b=3", "'' is not a key: write path.to.key=value" },
        { "steps =3", "'steps ' is not a key: remove the spaces around '='" },
        { "1a=3", "'1a' is not a key: keys begin with a letter or _" },
        { "a b=3", "'a b' is not a key: keys consist of letters, digits, _ and -" },
        { "a=3000000000",
          "command line: a: 3000000000 does not fit in 32 bits: write 3000000000L" },
        { "a=99999999999999999999",
          "command line: a: 99999999999999999999 does not fit in 64 bits" },
        { "a=3 /* x", "command line: a: the value contains a comment that is not closed" },
        { "a=caf\xe9", "command line: a: the string is not valid UTF-8" },
        { "a=\"caf\xe9\"", "command line: a: the string is not valid UTF-8" },
        { "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=1",
          "deeper than 32 levels" },
    };
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        const td_setting *v = override(wrong[k][0]);
        cr_expect(!v || v->wrong, "%s", wrong[k][0]);
        cr_expect(strstr(td_text_get(&errors.text), wrong[k][1]), "wanted '%s': %s", wrong[k][1],
                  td_text_get(&errors.text));
        td_errors_free(&errors);
    }
}
