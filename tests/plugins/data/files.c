/* files.c - data 'text': no file is both held out and trained on, whatever names it is given by,
 * and none is read twice. */
#include "module.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "../plugins/data/text/text.h"
#include "base/file.h"

static char directory[64];

static void put(const char *name)
{
    FILE *f = fopen(name, "w");
    cr_assert(f && fputs("{\"text\": \"some words\"}\n", f) >= 0 && !fclose(f));
}

static void setup(void)
{
    strcpy(directory, "/tmp/test-files-XXXXXX");
    cr_assert(mkdtemp(directory) && !chdir(directory));
    put("a.train.jsonl");
    put("a.valid.jsonl");
    put("b.train.jsonl");
    put("b.valid.jsonl");
    cr_assert(!symlink("a.valid.jsonl", "soft.jsonl") && !link("a.valid.jsonl", "hard.jsonl"));
}

static void teardown(void)
{
    cr_assert(!chdir("/"));
    td_remove_tree(directory, NULL);
}

TestSuite(files, .init = setup, .fini = teardown);

/* One pattern each, or two with a space between. */
typedef struct names {
    const char *files, *held_out;
    int64_t     every;
} names;

static td_strings split(const char *text, char *copy, const char **two)
{
    size_t n = 0;
    strcpy(copy, text ? text : "");
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " "))
        two[n++] = p;
    return (td_strings){ two, n };
}

static int prepare(names a, names b, td_error *error)
{
    char        copies[4][128];
    const char *lists[4][2];
    text_source sources[] = {
        { { "a", split(a.files, copies[0], lists[0]), split(a.held_out, copies[1], lists[1]),
            a.every },
          0 },
        { { "b", split(b.files, copies[2], lists[2]), split(b.held_out, copies[3], lists[3]),
            b.every },
          0 },
    };
    text_config    config = { { sources, b.files ? 2 : 1 }, "text", 0, false, true };
    const td_data *d = module_plugin("data-text.so");
    td_data_in     in = { .services = &module_services,
                          .tokenizer = module_plugin("tokenizer-bytes.so"),
                          .special = { .eos = 1, .unk = 2, .vocab_size = 259 },
                          .tokenizer_id = "bytes",
                          .length = 3,
                          .held_out_length = 3,
                          .seed = 5,
                          .cache = "cache" };
    *error = (td_error){ 0 };
    return d->prepare(&config, &in, error);
}

static void refuses(names a, names b, const char *message)
{
    td_error error;
    cr_expect_eq(prepare(a, b, &error), TD_ECONFIG);
    cr_expect_str_eq(error.text, message);
    cr_expect(!td_file_exists("cache"));
}

static void takes(names a, names b)
{
    td_error error;
    cr_expect_eq(prepare(a, b, &error), 0, "%s", error.text);
}

static const names none;

Test(files, held_out_text_is_not_trained_on)
{
    refuses((names){ "a.*.jsonl", "a.valid.jsonl", 0 }, none,
            "'a.valid.jsonl' is held out by held_out \"a.valid.jsonl\" of data source 'a' and "
            "trained on by files \"a.*.jsonl\" of 'a': remove it from one of them");
    refuses((names){ "a.train.jsonl", "soft.jsonl", 0 }, (names){ "*.valid.jsonl", NULL, 0 },
            "'soft.jsonl' is held out by held_out \"soft.jsonl\" of data source 'a' and "
            "trained on by files \"*.valid.jsonl\" of 'b': remove it from one of them");
    refuses((names){ "b.train.jsonl hard.jsonl", NULL, 0 },
            (names){ "b.valid.jsonl", ".//a.valid.jsonl", 0 },
            "'.//a.valid.jsonl' is held out by held_out \".//a.valid.jsonl\" of data source 'b' "
            "and trained on by files \"hard.jsonl\" of 'a': remove it from one of them");
}

/* Every n-th document of a file is kept apart from its others, but not from the same file in
 * another source. */
Test(files, every_nth_document_neither)
{
    const char *message =
        "'a.train.jsonl' is held out by held_out_every, of files \"a.*.jsonl\" of data source "
        "'%s' and trained on by files \"a.train.jsonl\" of '%s': remove it from one of them";
    char text[300];
    snprintf(text, sizeof text, message, "a", "b");
    refuses((names){ "a.*.jsonl", NULL, 7 }, (names){ "a.train.jsonl", NULL, 0 }, text);
    refuses((names){ "a.*.jsonl", NULL, 7 }, (names){ "a.train.jsonl", NULL, 7 },
            "'a.train.jsonl' is held out by held_out_every, of files \"a.*.jsonl\" of data source "
            "'a' and trained on by files \"a.train.jsonl\" of 'b': remove it from one of them");
    snprintf(text, sizeof text, message, "b", "a");
    refuses((names){ "a.train.jsonl", NULL, 0 }, (names){ "a.*.jsonl", NULL, 7 }, text);
    takes((names){ "a.*.jsonl", NULL, 7 }, (names){ "b.*.jsonl", NULL, 7 });
}

Test(files, no_source_names_a_file_twice)
{
    refuses(
        (names){ "a.*.jsonl a.train.jsonl", NULL, 2 }, none,
        "data source 'a' names one file twice: files \"a.*.jsonl\" matches 'a.train.jsonl', and "
        "\"a.train.jsonl\" matches 'a.train.jsonl'; name it once");
    refuses((names){ "b.train.jsonl", "*.valid.jsonl soft.jsonl", 0 }, none,
            "data source 'a' names one file twice: held_out \"*.valid.jsonl\" matches "
            "'a.valid.jsonl', and \"soft.jsonl\" matches 'soft.jsonl'; name it once");
}

Test(files, other_files_and_other_sources_may_meet)
{
    takes((names){ "a.train.jsonl", "a.valid.jsonl", 0 },
          (names){ "a.train.jsonl b.train.jsonl", "*.valid.jsonl", 0 });
}

/* Brackets and backslashes in a name that exists mean nothing. */
Test(files, a_name_that_exists_is_no_pattern)
{
    put("d[1].jsonl");
    put("d1.jsonl");
    put("e\\*.jsonl");
    put("e*.jsonl");
    takes((names){ "d[1].jsonl", "d1.jsonl", 0 }, (names){ "e\\*.jsonl", "e*.jsonl", 0 });
}

/* Neither do they in the name of a directory, before a pattern or before a name. */
Test(files, nor_is_a_directory_that_exists)
{
    cr_assert(!mkdir("e[1]", 0700) && !mkdir("e1", 0700) && !mkdir("e[1]/sub\\7", 0700));
    put("e[1]/x.jsonl");
    put("e1/x.jsonl");
    put("e1/y.jsonl");
    put("e[1]/sub\\7/z.jsonl");
    refuses(
        (names){ "e[1]/*.jsonl", NULL, 2 }, (names){ "e[1]/x.json?", NULL, 0 },
        "'e[1]/x.jsonl' is held out by held_out_every, of files \"e[1]/*.jsonl\" of data source "
        "'a' and trained on by files \"e[1]/x.json?\" of 'b': remove it from one of them");
    takes((names){ "e[1]/*.jsonl", NULL, 2 }, (names){ "e1/x.jsonl e1/y.jsonl", NULL, 0 });
    takes((names){ "e[1]/s*/z.jsonl", NULL, 0 }, (names){ "e[1]/sub\\7/z.jsonl", NULL, 0 });
}

/* Where it does not exist, it is one. */
Test(files, a_pattern_that_matches_such_a_name)
{
    put("d[1].jsonl");
    refuses((names){ "d[1].jsonl d?1?.jsonl", NULL, 2 }, none,
            "data source 'a' names one file twice: files \"d[1].jsonl\" matches 'd[1].jsonl', and "
            "\"d?1?.jsonl\" matches 'd[1].jsonl'; name it once");
}

static int count(void *arg, const char *text, size_t size)
{
    ++*(int *)arg;
    return 0;
}

/* Nor is a tokenizer trained on held-out text. */
Test(files, text_for_tokenizers_is_checked_too)
{
    const char    *files = "a.*.jsonl", *held_out = "a.valid.jsonl";
    text_source    source = { { "a", { &files, 1 }, { &held_out, 1 }, 0 }, 0 };
    text_config    config = { { &source, 1 }, "text", 0, false, true };
    const td_data *d = module_plugin("data-text.so");
    td_error       error = { 0 };
    int            documents = 0;
    cr_expect_eq(d->each_document(&config, &module_services, count, &documents, &error),
                 TD_ECONFIG);
    cr_expect(documents == 0 && strstr(error.text, "remove it from one"), "%s", error.text);
}
