/* load.c - composition: which files extend which, in what order, and where a value comes from. */
#include <sys/stat.h>

#include "config.h"
#include <sys/stat.h>

#include "config/config.h"

static td_errors  errors;
static td_config *config;

static const td_config *load(const char *file, const char *override)
{
    td_config_free(config);
    td_errors_free(&errors);
    config = td_config_load(&file, 1, &override, override ? 1 : 0, "shipped", &errors);
    return config;
}

static void teardown(void)
{
    td_config_free(config);
    td_errors_free(&errors);
}

TestSuite(load, .fini = teardown);

/* Expect an integer at a path, and where it comes from. */
static void holds(const char *path, int64_t integer, const char *origin)
{
    const td_setting *v = config ? td_config_get(config, path) : NULL;
    cr_assert(v, "%s: %s", path, td_text_get(&errors.text));
    cr_expect_eq(v->integer, integer, "%s = %lld", path, (long long)v->integer);
    cr_expect_str_eq(td_setting_origin(v), origin);
}

static void refuses(const char *file, const char *message)
{
    cr_expect_null(load(file, NULL));
    cr_expect(strstr(td_text_get(&errors.text), message), "wanted '%s': %s", message,
              td_text_get(&errors.text));
}

Test(load, a_chain_and_an_override)
{
    config_file("a.cfg", "g = { x = 1; y = 1; z = 1; w = 1; };\n");
    config_file("b.cfg", "extends = \"a.cfg\";\ng = { y = 2; z = 2; w = 2; };\n");
    config_file("c.cfg", "extends = \"b.cfg\";\n\ng = { z = 3; w = 3; };\n");
    cr_assert(load("c.cfg", "g.w=4"));
    holds("g.x", 1, "a.cfg:1");
    holds("g.y", 2, "b.cfg:2");
    holds("g.z", 3, "c.cfg:3");
    holds("g.w", 4, "command line");
    cr_expect_null(td_config_get(config, "extends"));
    cr_expect_null(td_config_get(config, "g.x.x"));
    cr_expect_null(td_config_get(config, "g.v"));
}

Test(load, the_last_of_a_list_wins)
{
    config_file("a.cfg", "x = 1; y = 1; l = ( 1, 2, 3 );");
    config_file("b.cfg", "y = 2; l = ( 4 );");
    config_file("c.cfg", "extends = ( \"a.cfg\", \"b.cfg\" ); z = 3;");
    config_file("d.cfg", "extends = [ \"b.cfg\", \"a.cfg\" ];");
    cr_assert(load("c.cfg", NULL));
    holds("x", 1, "a.cfg:1");
    holds("y", 2, "b.cfg:1");
    const td_setting *l = td_config_get(config, "l"); /* lists are replaced, not joined */
    cr_expect(l->first->integer == 4 && !l->first->next);
    cr_assert(load("d.cfg", NULL));
    holds("y", 1, "a.cfg:1");
}

Test(load, several_files_and_a_diamond)
{
    const char *const files[] = { "b.cfg", "c.cfg" };
    config_file("a.cfg", "x = 1; y = 1;");
    config_file("b.cfg", "extends = \"a.cfg\"; x = 2;");
    config_file("c.cfg", "extends = \"a.cfg\"; y = 3;");
    config = td_config_load(files, 2, NULL, 0, NULL, &errors);
    holds("x", 1, "a.cfg:1"); /* c.cfg comes later, with all files that it extends */
    holds("y", 3, "c.cfg:1");
}

Test(load, beside_the_file_then_among_the_shipped)
{
    config_file("base.cfg", "x = 1;");
    cr_assert(!mkdir("shipped", 0700) && !mkdir("own", 0700));
    config_file("shipped/base.cfg", "x = 2;");
    config_file("shipped/other.cfg", "x = 3;");
    config_file("own/base.cfg", "x = 4;");
    config_file("own/a.cfg", "extends = \"base.cfg\";");
    config_file("own/b.cfg", "extends = \"other.cfg\";");
    config_file("a.cfg", "extends = \"own/a.cfg\";");
    cr_assert(load("a.cfg", NULL));
    holds("x", 4, "own/base.cfg:1");
    cr_assert(load("own/b.cfg", NULL));
    holds("x", 3, "shipped/other.cfg:1");
}

Test(load, a_group_and_a_scalar_replace_each_other)
{
    config_file("a.cfg", "x = { y = 1; }; z = 1;");
    config_file("b.cfg", "extends = \"a.cfg\"; x = 2; z = { y = 3; };");
    cr_assert(load("b.cfg", NULL));
    holds("x", 2, "b.cfg:1");
    holds("z.y", 3, "b.cfg:1");
}

/* Which options another plugin keeps is decided when it is known: see bind.c. */
Test(load, a_group_continues)
{
    config_file("a.cfg", "g = { plugin = \"p\"; x = 1; h = { plugin = \"r\"; y = 1; }; };");
    config_file("b.cfg", "extends = \"a.cfg\"; g = { plugin = \"p\"; h = { plugin = \"s\"; }; };");
    cr_assert(load("b.cfg", NULL));
    holds("g.x", 1, "a.cfg:1");
    holds("g.h.y", 1, "a.cfg:1");
}

/* A config that lies in a run names no other file and no code. */
Test(load, what_a_run_kept_is_not_followed)
{
    config_file("base.cfg", "x = 1;");
    config_file("config.cfg", "extends = \"base.cfg\"; plugin_path = \"modules\"; y = 2;");
    cr_assert(load("config.cfg", NULL));
    holds("x", 1, "base.cfg:1");
    cr_expect(td_config_get(config, "plugin_path"));
    /* a directory of checkpoints may be anybody's */
    cr_assert(!mkdir("checkpoints", 0777) && load("config.cfg", NULL));
    holds("x", 1, "base.cfg:1");
    cr_expect_str_empty(td_config_notes(config));
    config_file("environment.txt", "");
    cr_assert(load("config.cfg", NULL));
    cr_expect(strstr(td_config_notes(config), "config.cfg:1: extends is not followed"));
    holds("y", 2, "config.cfg:1");
    cr_expect_null(td_config_get(config, "x"));
    cr_expect_null(td_config_get(config, "plugin_path"));
    /* the directory stands for it, with or without the mark */
    cr_assert(!mkdir("run", 0777) && !link("config.cfg", "run/config.cfg"));
    cr_assert(load("run", NULL));
    holds("y", 2, "run/config.cfg:1");
    cr_expect_null(td_config_get(config, "plugin_path"));
}

/* No part of a file is silently skipped: neither the text behind a zero byte nor UTF-16. */
Test(load, a_zero_byte_is_refused)
{
    static const char texts[][40] = { "x = 1;\n\0stpes = 3;\n", "x\0 \0=\0", "\0" };
    static const int  sizes[] = { 19, 6, 1 }, lines[] = { 2, 1, 1 };
    for (int k = 0; k < 3; k++) {
        char  message[96];
        FILE *f = (config_file("a.cfg", ""), fopen("a.cfg", "w"));
        cr_assert(f && fwrite(texts[k], (size_t)sizes[k], 1, f) == 1 && !fclose(f));
        config_file("b.cfg", "extends = \"a.cfg\";");
        snprintf(message, sizeof message, "a.cfg:%d: contains a zero byte", lines[k]);
        refuses("a.cfg", message);
        refuses("b.cfg", message);
    }
}

Test(load, a_byte_order_mark_is_skipped)
{
    config_file("a.cfg", "\xef\xbb\xbfx = 1;\ny = 2;\n");
    cr_assert(load("a.cfg", NULL), "%s", td_text_get(&errors.text));
    holds("x", 1, "a.cfg:1");
    holds("y", 2, "a.cfg:2");
}

/* Each file extends the next ten times, five deep: the last would be read a hundred thousand
 * times. */
Test(load, files_are_counted)
{
    for (int k = 0; k < 6; k++) {
        char name[16], text[400] = "extends = ( ", item[16];
        snprintf(name, sizeof name, "%d.cfg", k);
        snprintf(item, sizeof item, "\"%d.cfg\"", k + 1);
        for (int i = 0; i < 10; i++)
            strcat(strcat(text, i ? ", " : ""), item);
        config_file(name, strcat(text, " );"));
    }
    config_file("6.cfg", "x = 1;");
    refuses("0.cfg", "6.cfg: more than 1000 files are loaded: is one extended many times?");
    cr_expect_eq(errors.count, 1);
}

Test(load, a_chain_that_is_too_long)
{
    for (int k = 0; k < 17; k++) {
        char name[16], text[40];
        snprintf(name, sizeof name, "%d.cfg", k);
        snprintf(text, sizeof text, "extends = \"%d.cfg\";", k + 1);
        config_file(name, text);
    }
    config_file("17.cfg", "x = 1;");
    refuses("0.cfg", "16.cfg: extended through a chain of more than 16 files");
    cr_assert(load("2.cfg", NULL), "%s", td_text_get(&errors.text));
    holds("x", 1, "17.cfg:1");
}

Test(load, refused)
{
    config_file("self.cfg", "extends = \"self.cfg\";");
    config_file("one.cfg", "extends = \"two.cfg\";");
    config_file("two.cfg", "extends = \"one.cfg\";");
    config_file("none.cfg", "\nextends = \"nothing.cfg\";");
    config_file("type.cfg", "\n\nextends = 3;");
    config_file("types.cfg", "extends = ( \"x.cfg\", 3 );");
    config_file("x.cfg", "x = 1;");
    config_file("empty.cfg", "\nextends = \"\";");
    refuses("empty.cfg",
            "empty.cfg:2: extends takes a file name or a list of them, not an empty string");
    refuses("latin-\xe9.cfg", "is not valid UTF-8: rename it");
    refuses("line\nbreak.cfg", "has control characters: rename it");
    config_file("break.cfg", "\nextends = \"line\\nbreak.cfg\";");
    refuses("break.cfg", "break.cfg:2: extends: the file name has control characters");
    config_file("device.cfg", "\nextends = \"/dev/null\";");
    refuses("device.cfg", "device.cfg:2: extends: '/dev/null' is not a regular file");
    refuses("self.cfg", "self.cfg: extends itself");
    refuses("one.cfg", "one.cfg: extends itself: one.cfg -> two.cfg -> one.cfg");
    refuses("none.cfg",
            "none.cfg:2: extends: there is no file 'nothing.cfg' beside this one or in shipped");
    refuses("type.cfg", "type.cfg:3: extends takes a file name or a list of them, not an integer");
    refuses("types.cfg",
            "types.cfg:1: extends takes a file name or a list of them, not an integer");
    refuses("absent.cfg", "absent.cfg");
    cr_expect(load("x.cfg", "x"), "the rest can be checked");
    cr_expect(strstr(td_text_get(&errors.text),
                     "command line: 'x' is not key=value (without spaces around the =)"),
              "%s", td_text_get(&errors.text));
}
