/* reader.c - documents of text files: messages name the fault in a line, its place, and the
 * remedy. */
#define LINE_LIMIT ((size_t)1 << 18)
#include "../plugins/data/common/lines.c"
#include "../plugins/data/common/object.c"
#include "../plugins/data/common/reader.c"

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
             "%s:2: cannot read 'text' from this line: %s; fix the line%s, or allow bad ones to be "
             "skipped with data.max_bad_lines",
             path, why, strncmp(why, "no key", 6) ? "" : " or set data.text");
    cr_expect_eq(error.code, TD_EFORMAT);
    cr_expect_str_eq(error.text, message);
}

Test(reader, wrong_lines)
{
    refuses("{\"text\": \"two", "not valid JSON: premature end of input near '\"two', at "
                                "column 13");
    refuses("{'text': \"two\"}", "not valid JSON: string or '}' expected near ''', at column 2");
    refuses("{\"text\": \"two\"} three", "not valid JSON: end of file expected near 'three', "
                                         "at column 21");
    refuses("{\"text\": \"two\", \"text\": \"three\"}",
            "not valid JSON: duplicate object key near '\"text\"', at column 22");
    refuses("{\"text\": \"two\", \"a\": 1e+}",
            "not valid JSON: invalid token near '1e+', at column "
            "24");
    refuses("{\"text\": NaN}", "the value of 'text' is not a string");
    /* of numbers of their own, only those that others write, too */
    refuses("{\"text\": \"two\", \"a\": nan}", "not valid JSON: invalid token near 'nan', at "
                                               "column 24");
    refuses(
        "{\"text\": \"two\", \"\\u0000\": 1}",
        "JSON that the library jansson does not support: NUL byte in object key not supported near "
        "'\"\\u0000\"', at column 24");
    refuses("[1, 2]", "not an object { }");
    refuses("{\"txet\": \"two\"}", "no key 'text' (keys: 'txet')");
    refuses("{\"txt\": \"two\", \"a\\n\": 2}", "no key 'text' (keys: 'txt', 'a?')");
    refuses("{}", "no key 'text' (keys: none)");
    refuses("{\"text\": 2}", "the value of 'text' is not a string");
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
                 "%s:%d: this %s is longer than 262144 bytes, the limit for a document: "
                 "split it into several %s",
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

/* Numbers under other keys are ignored. */
Test(reader, large_numbers_are_taken)
{
    td_error error = { 0 };
    FILE    *f = create("a.jsonl");
    cr_assert(fputs("{\"id\": 123456789012345678901234567890, \"text\": \"a\"}\n", f) >= 0 &&
              !fclose(f));
    cr_expect_eq(read_all(&error), 1, "%s", error.text);
}

Test(reader, deep_lines_are_reported)
{
    enum { DEPTH = 3000 };
    td_error error = { 0 };
    FILE    *f = create("a.jsonl");
    fputs("{\"text\": \"a\", \"deep\": ", f);
    for (int k = 0; k < 2 * DEPTH; k++)
        putc(k < DEPTH ? '[' : ']', f);
    cr_assert(fputs("}\n", f) >= 0 && !fclose(f));
    cr_expect_eq(read_all(&error), 0);
    cr_expect(strstr(error.text, "jansson does not support: maximum parsing depth"), "%s",
              error.text);
}

/* Expect that a file of these bytes is refused with `why`; NULL: that it is read. */
static void told(const char *name, const void *bytes, size_t size, const char *why)
{
    td_error error = { 0 };
    FILE    *f = create(name);
    cr_assert(fwrite(bytes, 1, size, f) == size && !fclose(f));
    read_all(&error);
    cr_expect_eq(error.code, why ? TD_EFORMAT : 0, "%s", error.text);
    cr_expect(!why || (strstr(error.text, why) && strstr(error.text, path)), "'%s': %s", why,
              error.text);
}

Test(reader, invalid_text)
{
    static const struct {
        const char *bytes, *why;
    } cases[] = { { "fine\n\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", NULL },
                  { "one\n\xFF", ":2: cannot read 'text' from this file: byte 4 of the file, "
                                 "0xFF, is not UTF-8 text" },
                  { "\xC0\x80", "byte 0" },
                  { "a\xE0\x80\x80", "byte 1" },
                  { "\xED\xA0\x80", "byte 0" },
                  { "\xF4\x90\x80\x80", "byte 0" },
                  { "\n\nab\xE2\x82", ":3: " },
                  { "\x80", "byte 0" },
                  { "\xF0\x8F\xBF\xBF", "byte 0" },
                  { "\xE2\x28\xA1", "byte 0" } };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        told("a.txt", cases[k].bytes, strlen(cases[k].bytes), cases[k].why);
    told("a.txt", "a\0b", 3, "byte 1 of the file is zero: it is not text");
    told("a.jsonl", "\0\0\n", 3, ":1: cannot read 'text' from this line");
}

/* ---- compression ----------------------------------------------------------------------------- */

static const char line[] = "{\"text\": \"some words\"}\n";

static size_t pack_gzip(unsigned char out[256])
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)line,
                   .avail_in = sizeof line - 1,
                   .next_out = out,
                   .avail_out = 256 };
    cr_assert(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK &&
              deflate(&z, Z_FINISH) == Z_STREAM_END && deflateEnd(&z) == Z_OK);
    return z.total_out;
}

static size_t pack_zstd(unsigned char out[256])
{
    size_t n = ZSTD_compress(out, 256, line, sizeof line - 1, 1);
    cr_assert(!ZSTD_isError(n));
    return n;
}

/* Several members in a row are read; anything else after a member is refused, and so is a
 * truncated member. */
static void check_members(const char *name, const unsigned char *member, size_t n)
{
    unsigned char all[600];
    memcpy(all, member, n);
    memcpy(all + n, member, n);
    told(name, all, 2 * n, NULL);
    for (size_t cut = 0; cut < 2 * n; cut++)
        told(name, all, cut, cut == n ? NULL : "a.jsonl.");
    for (size_t k = 0; k < 4; k++) {
        all[n + k] ^= 1;
        told(name, all, 2 * n, k < 3 || all[n] == 0x28 ? "before byte" : NULL);
        all[n + k] ^= 1;
    }
    memcpy(all + n, line, sizeof line);
    told(name, all, n + sizeof line, "before byte");
    for (size_t k = 1; k < sizeof line; k++)
        told(name, all, n + k, "a.jsonl.");
    told(name, line, sizeof line - 1, "cannot be read as ");
}

Test(reader, nothing_but_members)
{
    unsigned char member[256];
    check_members("a.jsonl.gz", member, pack_gzip(member));
    check_members("a.jsonl.zst", member, pack_zstd(member));
}

/* A frame without a checksum, whose blocks do not line up with the reader's buffer. */
Test(reader, whatever_the_blocks_of_a_frame)
{
    enum { BLOCK = 100000, BLOCKS = 7 };
    static char    text[BLOCK], packed[BLOCK];
    ZSTD_CCtx     *z = ZSTD_createCCtx();
    ZSTD_outBuffer out = { packed, sizeof packed, 0 };
    memset(text, '\n', sizeof text);
    for (int k = 0; k < BLOCKS; k++) {
        ZSTD_inBuffer in = { text, sizeof text, 0 };
        cr_assert(!ZSTD_compressStream2(z, &out, &in, k + 1 < BLOCKS ? ZSTD_e_flush : ZSTD_e_end));
    }
    ZSTD_freeCCtx(z);
    for (size_t cut = 0; cut < 2; cut++)
        told("a.jsonl.zst", packed, out.pos - cut, cut ? "truncated" : NULL);
}

static void takes(const char *name, const char *text, size_t size, int64_t documents)
{
    td_error error = { 0 };
    FILE    *f = create(name);
    cr_assert(fwrite(text, 1, size, f) == size && !fclose(f));
    cr_expect_eq(read_all(&error), documents, "%s: %s", text, error.text);
}

/* What programs write that are less strict than JSON, where it does not matter. */
Test(reader, keys_that_are_not_read_are_lenient)
{
    static const char *const lines[] = {
        "{\"a\": NaN, \"text\": \"two\"}",
        "{\"text\": \"-Infinity\", \"a\": [-Infinity, Infinity]}",
        "{\"a\": 1e999, \"text\": \"two\", \"b\": -1.5E-999}",
        "{\"a\": 1, \"a\": 2, \"text\": \"two\"}",
        "{\"a\": {\"text\": \"NaN\", \"b\": NaN}, \"text\": \"a \\\"quoted\\\" NaN, 1e999\"}",
        "\xEF\xBB\xBF{\"text\": \"two\"}",
        "\xEF\xBB\xBF",
    };
    for (int k = 0; k < 7; k++)
        takes("a.jsonl", lines[k], strlen(lines[k]), k < 6);
}

/* The text itself is not touched by what makes the rest readable. */
Test(reader, a_text_stays_as_it_is)
{
    static const char line[] = "{\"a\": NaN, \"text\": \"1e999, \\u00e9 \\\\ NaN\"}";
    char              why[OBJECT_WHY];
    json_t *object = object_read(line, sizeof line - 1, (const char *const[]){ "text", NULL }, why);
    cr_assert(object, "%s", why);
    cr_expect_str_eq(json_string_value(json_object_get(object, "text")), "1e999, \xC3\xA9 \\ NaN");
    json_decref(object);
}

Test(reader, suffixes_may_be_capitals)
{
    static const char *const names[] = { "A.JSONL.GZ", "A.Jsonl.ZST" };
    static const char        text[] = "{\"text\": \"two\"}\n";
    unsigned char            packed[256];
    size_t                   n = pack_gzip(packed);
    takes("A.TXT", text, sizeof text - 1, 1);
    told(names[0], packed, n, NULL);
    n = pack_zstd(packed);
    told(names[1], packed, n, NULL);
}

/* `zstd --long` needs a larger window than the library takes by itself. */
Test(reader, large_windows_are_read)
{
    enum { SIZE = 1 << 16 };
    static char    text[SIZE], packed[SIZE];
    ZSTD_CCtx     *z = ZSTD_createCCtx();
    ZSTD_outBuffer out = { packed, sizeof packed, 0 };
    ZSTD_inBuffer  in = { text, sizeof text, 0 };
    memset(text, '\n', sizeof text);
    ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, 28);
    while (ZSTD_compressStream2(z, &out, &in, ZSTD_e_flush) > 0)
        ;
    cr_assert(!ZSTD_isError(ZSTD_compressStream2(z, &out, &in, ZSTD_e_end)));
    ZSTD_freeCCtx(z);
    told("a.jsonl.zst", packed, out.pos, NULL);
}

Test(reader, non_files_are_refused)
{
    static const char *const names[] = { "a.jsonl", "a.jsonl.gz", "a.txt.zst" };
    for (int k = 0; k < 6; k++) {
        int64_t  bad = 0;
        td_error error = { 0 };
        snprintf(path, sizeof path, "%s/%s", directory, names[k % 3]);
        cr_assert(!(k < 3 ? mkfifo(path, 0600) : mkdir(path, 0700)));
        cr_expect_null(reader_open(path, "text", &bad, &module_services, &error));
        cr_expect(strstr(error.text, path) && strstr(error.text, "not a regular file"), "%s",
                  error.text);
        remove(path);
    }
}
