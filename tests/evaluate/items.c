/* items.c - data sets in their file formats, and the messages for malformed files. */
#include "evaluate/items.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static td_items_spec spec(int64_t format)
{
    return (td_items_spec){ .format = format, .rows = "", .split_field = "split", .split = "" };
}

/* The items as JSON, without @file, @folder and @place; free() it. */
static char *items_of(const td_items_spec *s, const char *name, const char *text)
{
    td_error e = { 0 };
    json_t  *all = json_array(), *item;
    size_t   k;
    char    *out;
    int      code = td_items_parse(s, name, text, strlen(text), all, &e);
    cr_assert_eq(code, 0, "%s", e.text);
    json_array_foreach(all, k, item)
    {
        cr_expect(json_object_get(item, "@file") && json_object_get(item, "@folder"));
        json_object_del(item, "@file");
        json_object_del(item, "@folder");
        /* "a.jsonl:7" */
        cr_expect(!strncmp(td_items_place(item), name, strlen(name)) &&
                      atoi(td_items_place(item) + strlen(name) + 1) > 0,
                  "%s", td_items_place(item));
        json_object_del(item, "@place");
    }
    out = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return out;
}

static void expect(const td_items_spec *s, const char *name, const char *text, const char *wanted)
{
    char *out = items_of(s, name, text);
    cr_expect_str_eq(out, wanted, "%s: %s", name, out);
    free(out);
}

Test(items, jsonl)
{
    td_items_spec s = spec(TD_ITEMS_BY_NAME);
    expect(&s, "a.jsonl", "{\"q\":1}\n\n \r\n{\"q\":[2]}", "[{\"q\":1},{\"q\":[2]}]");
    expect(&s, "a.jsonl.zst", "", "[]"); /* the name alone: it is decompressed before */
    s.split = "dev";
    expect(&s, "a.jsonl", "{\"q\":1,\"split\":\"dev\"}\n{\"q\":2,\"split\":\"test\"}\n",
           "[{\"q\":1,\"split\":\"dev\"}]");
    s.split_field = "meta.part";
    expect(&s, "a.jsonl", "{\"meta\":{\"part\":\"dev\"}}\n", "[{\"meta\":{\"part\":\"dev\"}}]");
}

Test(items, json)
{
    td_items_spec s = spec(TD_ITEMS_BY_NAME);
    expect(&s, "a.json", "[{\"q\":1},{\"q\":2}]", "[{\"q\":1},{\"q\":2}]");
    expect(&s, "a.json", "{\"b\":\"text\",\"a\":\"more\"}",
           "[{\"key\":\"b\",\"value\":\"text\"},{\"key\":\"a\",\"value\":\"more\"}]");
    s.rows = "Data.items";
    expect(&s, "a.json", "{\"Data\":{\"items\":[{\"q\":1}]},\"n\":1}", "[{\"q\":1}]");
}

Test(items, csv)
{
    td_items_spec     s = spec(TD_ITEMS_BY_NAME);
    const char *const names[] = { "q", "A" };
    expect(&s, "a.csv", "q,A\r\n\"a, \"\"b\"\"\nc\",d\r\n,\n",
           "[{\"q\":\"a, \\\"b\\\"\\nc\",\"A\":\"d\"},{\"q\":\"\",\"A\":\"\"}]");
    s.columns = (td_strings){ names, 2 };
    expect(&s, "a.csv", "q,A\nx,y", "[{\"q\":\"q\",\"A\":\"A\"},{\"q\":\"x\",\"A\":\"y\"}]");
}

Test(items, tsv_has_no_quotes)
{
    td_items_spec s = spec(TD_ITEMS_BY_NAME);
    expect(&s, "a.tsv", "q\tA\n\"x\ty, z\n\n1\t2\r\n",
           "[{\"q\":\"\\\"x\",\"A\":\"y, z\"},{\"q\":\"1\",\"A\":\"2\"}]");
}

Test(items, a_file_as_one_item)
{
    td_items_spec s = spec(TD_ITEMS_WHOLE);
    td_error      e = { 0 };
    json_t       *all = json_array(), *item;
    cr_assert_eq(td_items_parse(&s, "/data/cot/navigate.txt", "Q: x\n", 5, all, &e), 0, "%s",
                 e.text);
    item = json_array_get(all, 0);
    cr_expect_str_eq(json_string_value(json_object_get(item, "text")), "Q: x\n");
    cr_expect_str_eq(json_string_value(json_object_get(item, "@file")), "navigate");
    cr_expect_str_eq(json_string_value(json_object_get(item, "@folder")), "cot");
    json_decref(all);
}

static void refused(const td_items_spec *s, const char *name, const char *text, const char *says)
{
    td_error e = { 0 };
    json_t  *all = json_array();
    cr_expect(td_items_parse(s, name, text, strlen(text), all, &e) < 0, "%s is accepted", text);
    cr_expect(strstr(e.text, says), "'%s' is not in: %s", says, e.text);
    json_decref(all);
}

Test(items, mistakes_are_named_with_file_and_line)
{
    td_items_spec s = spec(TD_ITEMS_BY_NAME);
    refused(&s, "a.jsonl", "{}\n{\"q\":", "a.jsonl:2: not JSON: ");
    refused(&s, "a.jsonl", "{}\n[1]\n", "a.jsonl:2: an item must be an object");
    refused(&s, "a.jsonl", "{\"q\":\"\xff\"}", "a.jsonl:1: not JSON: unable to decode byte 0xff");
    refused(&s, "a.json", "[{}\n,]", "a.json:2: not JSON");
    refused(&s, "a.json", "3", "not JSON");
    refused(&s, "a.csv", "q,A\nx\n", "a.csv:2: a record has 1 fields, but there are 2 columns");
    refused(&s, "a.csv", "q,A\n\"x\ny,z\n", "a.csv:2: a quoted field is not closed");
    refused(&s, "a.csv", "q\n\xff\n", "a.csv:2: a field is not UTF-8");
    refused(&s, "a.txt", "x", "'a.txt' is not .jsonl, .json, .csv or .tsv");
    s.split = "dev";
    refused(&s, "a.jsonl", "{\"q\":1}",
            "has no field 'split', which the task needs to select split 'dev'; it has: q");
    s = spec(TD_ITEMS_BY_NAME);
    s.rows = "Data";
    refused(&s, "a.json", "{\"data\":[]}", "has no list of items at Data: set task.rows");
}

/* ---- files ----------------------------------------------------------------------------------- */

static char *directory;

static void setup(void)
{
    td_error e = { 0 };
    directory = td_temporary_directory("items", &e);
    cr_assert(directory, "%s", e.text);
}

static void teardown(void)
{
    td_remove_tree(directory, NULL);
    free(directory);
}

static void write_file(const char *name, const char *text)
{
    td_error e = { 0 };
    char    *path = td_path_join(directory, name), *above = td_path_directory(path);
    cr_assert(!td_make_directories(above, &e) && !td_file_write(path, text, strlen(text), &e), "%s",
              e.text);
    free(above);
    free(path);
}

static int read_all(td_items_spec *s, const char *const *files, size_t count, td_items *out,
                    td_error *e)
{
    s->directory = directory;
    s->files = (td_strings){ files, count };
    return td_items_read(s, out, e);
}

TestSuite(items_files, .init = setup, .fini = teardown);

Test(items_files, patterns_and_names)
{
    const char *const files[] = { "test/*_test.csv", "more.jsonl" }, *none[] = { "dev/*.csv" },
                      *missing[] = { "gone.jsonl" };
    td_items_spec s = spec(TD_ITEMS_BY_NAME);
    td_items      items = { 0 };
    td_error      e = { 0 };
    write_file("test/b_test.csv", "q\n2\n");
    write_file("test/a_test.csv", "q\n1\n");
    write_file("more.jsonl", "{\"q\":\"3\"}\n");
    cr_assert_eq(read_all(&s, files, 2, &items, &e), 0, "%s", e.text);
    cr_assert_eq(json_array_size(items.all), 3);
    for (size_t k = 0; k < 3; k++) /* sorted by name, then as listed */
        cr_expect_eq(*json_string_value(json_object_get(json_array_get(items.all, k), "q")),
                     '1' + (char)k);
    td_items_free(&items);
    cr_expect_eq(read_all(&s, none, 1, &items, &e), TD_EIO);
    cr_expect(strstr(e.text, "no file matches") && strstr(e.text, "dev/*.csv"), "%s", e.text);
    td_items_free(&items);
    e = (td_error){ 0 };
    cr_expect_eq(read_all(&s, missing, 1, &items, &e), TD_EIO);
    cr_expect(strstr(e.text, "gone.jsonl"), "%s", e.text);
    td_items_free(&items);
}

Test(items_files, side_by_side)
{
    const char *const files[] = { "a.en", "a.de" }, *const names[] = { "source", "target" };
    td_items_spec s = spec(TD_ITEMS_LINES);
    td_items      items = { 0 };
    td_error      e = { 0 };
    json_t       *second;
    write_file("a.en", "one\ntwo\n");
    write_file("a.de", "eins\nzwei\n");
    cr_expect_eq(read_all(&s, files, 2, &items, &e), TD_ECONFIG);
    cr_expect(strstr(e.text, "2 files side by side, but task.columns names 0"), "%s", e.text);
    td_items_free(&items);
    e = (td_error){ 0 };
    s.columns = (td_strings){ names, 2 };
    cr_assert_eq(read_all(&s, files, 2, &items, &e), 0, "%s", e.text);
    second = json_array_get(items.all, 1);
    cr_expect_str_eq(json_string_value(json_object_get(second, "source")), "two");
    cr_expect_str_eq(json_string_value(json_object_get(second, "target")), "zwei");
    td_items_free(&items);
    write_file("a.de", "eins\n");
    cr_expect_eq(read_all(&s, files, 2, &items, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, "a.de' has 1 lines, but the file before it has 2"), "%s", e.text);
    td_items_free(&items);
}

/* gzip and zstd by their own programs; a file cut short is an error. */
Test(items_files, compressed)
{
    const char *const files[] = { "x.jsonl.gz", "y.jsonl.zst" };
    td_items_spec     s = spec(TD_ITEMS_BY_NAME);
    td_items          items = { 0 };
    td_error          e = { 0 };
    char              command[1000];
    write_file("x.jsonl", "{\"q\":1}\n");
    write_file("y.jsonl", "{\"q\":2}\n{\"q\":3}\n");
    snprintf(command, sizeof command,
             "cd '%s' && gzip -c x.jsonl >x.jsonl.gz && gzip -c y.jsonl >>x.jsonl.gz && "
             "zstd -q y.jsonl -o y.jsonl.zst",
             directory);
    if (system(command))
        cr_skip_test("there is no gzip or zstd here");
    cr_assert_eq(read_all(&s, files, 2, &items, &e), 0, "%s", e.text);
    cr_expect_eq(json_array_size(items.all), 5, "two members, then one frame");
    td_items_free(&items);
    for (int k = 0; k < 2; k++) {
        snprintf(command, sizeof command, "cd '%s' && truncate -s -6 %s", directory, files[k]);
        cr_assert_eq(system(command), 0);
        e = (td_error){ 0 };
        cr_expect_eq(read_all(&s, &files[k], 1, &items, &e), TD_EFORMAT, "%s", files[k]);
        cr_expect(strstr(e.text, files[k]) && strstr(e.text, "it ends in the middle of"), "%s",
                  e.text);
        td_items_free(&items);
    }
}
