/* reader.c - documents of text files: what is wrong with a line is said where it is, with what to
 * do. */
#define LINE_LIMIT ((size_t)1 << 18)
#include "../plugins/data/text/reader.c"

#include "base/file.h"
#include "module.h"

static char directory[64], path[96];

static void setup(void)
{
    strcpy(directory, "/tmp/test-reader-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(reader, .init = setup, .fini = teardown);

static FILE *create(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    return f;
}

/* Documents until the end or the first error. */
static int64_t read_all(td_error *error)
{
    int64_t     bad = 0, documents = 0;
    const char *text;
    size_t      size;
    reader     *r = reader_open(path, "text", &bad, &module_services, error);
    int         code = r ? 0 : TD_EIO;
    cr_assert(r, "%s", error->text);
    while ((code = reader_next(r, &text, &size, error)) == 0)
        documents++;
    cr_assert_eq(error->code, code == TD_EEND ? 0 : code);
    reader_close(r);
    return documents;
}

/* The file's second line is wrong. */
static void refuses(const char *line, const char *why)
{
    char     message[600];
    td_error error = { 0 };
    FILE    *f = create("a.jsonl");
    cr_assert(fprintf(f, "{\"text\": \"fine\"}\n%s\n{\"text\": \"fine\"}\n", line) && !fclose(f));
    cr_expect_eq(read_all(&error), 1);
    snprintf(message, sizeof message,
             "%s:2: cannot take 'text' from this line: %s; mend it, or let some be skipped with "
             "data.max_bad_lines",
             path, why);
    cr_expect_eq(error.code, TD_EFORMAT);
    cr_expect_str_eq(error.text, message);
}

Test(reader, what_is_wrong_with_a_line)
{
    refuses("{\"text\": \"two", "it is no valid JSON: premature end of input near '\"two', at "
                                "column 13");
    refuses("{'text': \"two\"}",
            "it is no valid JSON: string or '}' expected near ''', at column 2");
    refuses("{\"text\": \"two\"} three", "it is no valid JSON: end of file expected near 'three', "
                                         "at column 21");
    refuses("[1, 2]", "it is no object { }");
    refuses("{\"txet\": \"two\"}", "it has no such text");
    refuses("{\"text\": 2}", "that is no string");
}

Test(reader, long_lines_are_told_apart_from_long_files)
{
    static const char *const names[] = { "a.jsonl", "a.txt" };
    for (int k = 0; k < 2; k++) {
        char     message[300];
        td_error error = { 0 };
        FILE    *f = create(names[k]);
        fputs("{\"text\": \"fine\"}\n{\"text\": \"", f);
        for (int i = 0; i < 500000; i++)
            putc('a', f);
        cr_assert(fputs("\"}\n", f) >= 0 && !fclose(f));
        cr_expect_eq(read_all(&error), k ? 0 : 1);
        snprintf(message, sizeof message,
                 "%s:%d: this %s is longer than 262144 bytes, the most that a document may have: "
                 "divide it into several %s",
                 path, k ? 1 : 2, k ? "file" : "line", k ? "files" : "lines");
        cr_expect_str_eq(error.text, message);
    }
}

Test(reader, many_lines_may_be_longer_together)
{
    td_error error = { 0 };
    FILE    *f = create("a.jsonl");
    for (int i = 0; i < 20000; i++)
        fputs("{\"text\": \"some words of a line\"}\n", f);
    cr_assert(!fclose(f));
    cr_expect_eq(read_all(&error), 20000, "%s", error.text);
}
