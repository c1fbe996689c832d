/* man.c - the manual: it has every command and option, and roff reports no fault. */
#include "tools/child.h"

static char *scratch(void)
{
    static char path[] = "/tmp/tandem-man-XXXXXX";
    cr_assert(mkdtemp(path));
    return path;
}

static child tandem(const char *arguments)
{
    char command[512];
    snprintf(command, sizeof command, "'%s' %s", TANDEM_BINARY, arguments);
    return child_run((const char *[]){ "sh", "-c", command, NULL });
}

/* Words of --help that begin an entry: "  --weights FILE   ..." */
static void expect_entries(const char *command, const char *prefix, const char *page)
{
    char  arguments[64], word[64], roff[160];
    child help;
    int   n = 0;
    snprintf(arguments, sizeof arguments, "%s --help", command);
    help = tandem(arguments);
    for (const char *p = help.out; p; p = strstr(p + 1, "\n  ")) {
        size_t k = 0;
        if (sscanf(p, "\n  %63s", word) != 1 || strncmp(word, prefix, strlen(prefix)) != 0)
            continue;
        for (const char *c = word; *c; c++) {
            if (*c == '-')
                roff[k++] = '\\';
            roff[k++] = *c;
        }
        roff[k] = 0;
        cr_expect(strstr(page, roff), "%s: '%s' is not in the page", command, word);
        n++;
    }
    cr_expect(n, "%s --help has no '%s..'", command, prefix);
    child_free(&help);
}

Test(man, has_every_command_and_option)
{
    child main = tandem("man");
    expect_entries("", "", main.out);
    cr_expect(strstr(main.out, "TANDEM_PLUGIN_PATH"));
    child_free(&main);
    static const char *const commands[] = { "train",      "evaluate", "probe",  "config",
                                            "describe",   "bench",    "doctor", "plugins",
                                            "completion", "man" };
    for (size_t k = 0; k < sizeof commands / sizeof *commands; k++) {
        char  arguments[64];
        child c;
        snprintf(arguments, sizeof arguments, "man %s", commands[k]);
        c = tandem(arguments);
        cr_expect_eq(c.code, 0);
        expect_entries(commands[k], "--", c.out);
        child_free(&c);
    }
}

Test(man, of_data_has_the_options_of_its_commands)
{
    child                    c = tandem("man data");
    static const char *const commands[] = { "data make-corpus", "data train-tokenizer",
                                            "data prepare", "data show" };
    for (size_t k = 0; k < 4; k++)
        expect_entries(commands[k], "--", c.out);
    child_free(&c);
}

Test(man, of_configs_has_groups_and_plugins)
{
    child c = tandem("man cfg");
    cr_expect(strstr(c.out, ".TH TANDEM.CFG 5"));
    cr_expect(strstr(c.out, ".B checkpoint_every\nint 0 .. 1073741824, default 1000\n"));
    cr_expect(strstr(c.out, ".SS \"attention softmax\""));
    cr_expect(strstr(c.out, ".B kv_heads\n"));
    child_free(&c);
}

Test(man, is_the_same_on_a_day)
{
    child a, b;
    setenv("SOURCE_DATE_EPOCH", "86400", 1);
    a = tandem("man train");
    b = tandem("man train");
    cr_expect_str_eq(a.out, b.out);
    cr_expect(strstr(a.out, ".TH TANDEM-TRAIN 1 1970-01-02 \"tandem "), "%.120s", a.out);
    child_free(&a);
    child_free(&b);
}

/* The warnings of a formatter; "" if it is not installed. */
static void expect_clean(const char *directory, const char *command)
{
    char  line[512];
    child c;
    snprintf(line, sizeof line,
             "cd %s && command -v %.*s >/dev/null || exit 77; for f in man1/*.1 man5/*.5; do %s $f "
             "2>&1; done",
             directory, (int)strcspn(command, " "), command, command);
    c = child_run((const char *[]){ "sh", "-c", line, NULL });
    if (c.code != 77)
        cr_expect_str_empty(c.out, "%s", c.out);
    child_free(&c);
}

Test(man, roff_is_without_warnings)
{
    char *directory = scratch(), arguments[128];
    child c;
    snprintf(arguments, sizeof arguments, "man --dir %s", directory);
    c = tandem(arguments);
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
    expect_clean(directory, "mandoc -T lint");
    expect_clean(directory, "groff -man -ww -Tutf8 -z");
    cr_assert(!td_remove_tree(directory, NULL));
}

Test(man, of_an_unknown_command)
{
    child c = tandem("man no-such");
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "there is no page 'no-such'; name a command, or cfg"), "%s", c.err);
    child_free(&c);
    c = tandem("man train --dir /tmp");
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "--dir writes all pages; leave out 'train'"), "%s", c.err);
    child_free(&c);
}
