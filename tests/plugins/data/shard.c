/* shard.c - token shards that are damaged are refused, with a message that says which and what to
 * do. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../plugins/data/text/shard.c"
#include "base/file.h"

enum { DOCUMENTS = 5, INDEX = HEADER + 20 * DOCUMENTS + 8, TOKENS = 1 + 7 + 13 + 2 + 101 };

static char directory[64], path[80];

static void setup(void)
{
    static const int64_t sizes[DOCUMENTS] = { 1, 7, 13, 2, 101 };
    shard_writer         w;
    td_error             error = { 0 };
    int32_t              ids[101];
    strcpy(directory, "/tmp/test-shard-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/a", directory);
    cr_assert_eq(shard_create(&w, path, true, &error), 0, "%s", error.text);
    for (int d = 0; d < DOCUMENTS; d++) {
        for (int64_t i = 0; i < sizes[d]; i++)
            ids[i] = (int32_t)(1000 * d + i);
        cr_assert_eq(shard_add(&w, ids, sizes[d], sizes[d] * 3, &error), 0);
    }
    w.skipped = 17;
    cr_assert_eq(shard_finish(&w, &error), 0, "%s", error.text);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(shard, .init = setup, .fini = teardown);

static char *read_part(const char *end, size_t *size)
{
    char     name[96];
    td_error error = { 0 };
    snprintf(name, sizeof name, "%s%s", path, end);
    char *data = td_file_read(name, size, &error);
    cr_assert(data, "%s", error.text);
    return data;
}

static void write_part(const char *end, const void *data, size_t size)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", path, end);
    FILE *f = fopen(name, "wb");
    cr_assert(f && fwrite(data, 1, size, f) == size && !fclose(f));
}

static void expect_refused(const char *what, size_t at)
{
    shard    s;
    td_error error = { 0 };
    int      code = shard_open(&s, path, &error);
    cr_assert(code < 0, "taken: %s at %zu", what, at);
    cr_assert(strstr(error.text, path), "%s", error.text);
    cr_assert(strstr(error.text, "prepare again"), "%s", error.text);
    cr_assert(!s.idx && !s.bin && !s.len);
}

Test(shard, is_read_as_written)
{
    shard    s;
    td_error error = { 0 };
    int32_t  ids[13];
    cr_assert_eq(shard_open(&s, path, &error), 0, "%s", error.text);
    cr_assert(s.documents == DOCUMENTS && s.tokens == TOKENS && s.idx_size == INDEX);
    shard_tokens(&s, shard_document(&s, 2), 13, ids);
    cr_assert(ids[0] == 2000 && ids[12] == 2012);
    cr_assert(shard_bytes(&s, 3) == 6 && shard_document(&s, DOCUMENTS) == TOKENS);
    cr_assert(shard_find(&s, 0) == 0 && shard_find(&s, 7) == 1 && shard_find(&s, 8) == 2 &&
              shard_find(&s, TOKENS - 1) == 4);
    shard_close(&s);
    cr_assert_eq(shard_skipped(path, &error), 17);
}

/* The number of bad lines comes last; it is asked for without the rest of the shard. */
Test(shard, skipped_lines_are_checked)
{
    size_t   size;
    char    *data = read_part(".len", &size);
    int64_t  wrong = -1;
    td_error error = { 0 }, none = { 0 };
    cr_assert_eq(size, 8 * DOCUMENTS + 16);
    for (size_t n = 0; n < 2; n++) {
        write_part(".len", data, n * 9);
        cr_assert_eq(shard_skipped(path, &error), TD_EFORMAT);
        cr_assert(strstr(error.text, "prepare again"), "%s", error.text);
    }
    memcpy(data + 8 * DOCUMENTS + 8, &wrong, 8);
    write_part(".len", data, size);
    cr_assert_eq(shard_skipped(path, &error), TD_EFORMAT);
    expect_refused("a negative number of bad lines", 0);
    snprintf(path, sizeof path, "%s/none", directory);
    cr_assert_eq(shard_skipped(path, &none), TD_EIO);
    cr_assert(strstr(none.text, "/none.len"), "%s", none.text);
    free(data);
}

/* Nothing but the three files is left, under their own names. */
Test(shard, leaves_no_temporary_files)
{
    char   **names;
    td_error error = { 0 };
    cr_assert_eq(td_list_directory(directory, &names, &error), 3);
    cr_assert(!strcmp(names[0], "a.bin") && !strcmp(names[1], "a.idx") &&
              !strcmp(names[2], "a.len"));
    td_free_names(names, 3);
}

Test(shard, every_truncation_is_refused)
{
    static const char *const parts[] = { ".idx", ".bin", ".len" };
    for (int k = 0; k < 3; k++) {
        size_t size;
        char  *data = read_part(parts[k], &size);
        for (size_t n = 0; n < size; n++) {
            write_part(parts[k], data, n);
            expect_refused(parts[k], n);
        }
        write_part(parts[k], data, size);
        free(data);
    }
}

Test(shard, more_bytes_than_there_should_be_are_refused)
{
    static const char *const parts[] = { ".idx", ".bin", ".len" };
    for (int k = 0; k < 3; k++) {
        size_t size;
        char  *data = read_part(parts[k], &size), *more = calloc(1, size + 20);
        memcpy(more, data, size);
        for (size_t n = 1; n <= 20; n++) {
            write_part(parts[k], more, size + n);
            expect_refused(parts[k], n);
        }
        write_part(parts[k], data, size);
        free(data), free(more);
    }
}

Test(shard, every_changed_bit_of_the_index_is_refused)
{
    size_t size;
    char  *data = read_part(".idx", &size);
    cr_assert_eq(size, INDEX);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        data[bit / 8] ^= (char)(1 << bit % 8);
        write_part(".idx", data, size);
        expect_refused("bit", bit);
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(data);
}

static void expect_refused_with(const char *data, size_t size, size_t at, int64_t value,
                                size_t width)
{
    char *copy = malloc(size);
    memcpy(copy, data, size);
    memcpy(copy + at, &value, width);
    write_part(".idx", copy, size);
    expect_refused("number", at);
    free(copy);
}

/* Counts whose products wrap, lengths and offsets that are negative or beyond the tokens. */
Test(shard, numbers_that_overflow_are_refused)
{
    static const int64_t counts[] = {
        -1, 0, 1, 4, 6, INT64_MAX, INT64_MIN, INT64_MAX / 20, (int64_t)1 << 62, INT64_MAX / 4 + 6
    };
    static const int64_t offsets[] = { -2, INT64_MAX - 1, 2 * TOKENS, 2 * TOKENS + 2,
                                       (int64_t)1 << 33 };
    size_t               size;
    char                *data = read_part(".idx", &size);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        expect_refused_with(data, size, 18, counts[k], 8);
    for (int64_t d = 0; d < DOCUMENTS; d++) {
        for (size_t k = 0; k < sizeof offsets / sizeof *offsets; k++)
            expect_refused_with(data, size, (size_t)(HEADER + 4 * DOCUMENTS + 8 * d), offsets[k],
                                8);
        expect_refused_with(data, size, (size_t)(HEADER + 4 * d), INT32_MAX, 4);
        expect_refused_with(data, size, (size_t)(HEADER + 4 * d), INT32_MIN, 4);
        expect_refused_with(data, size, (size_t)(HEADER + 4 * d), 0, 4);
    }
    free(data);
}

Test(shard, a_missing_part_is_named)
{
    static const char *const parts[] = { ".idx", ".bin", ".len" };
    for (int k = 0; k < 3; k++) {
        char     name[96];
        size_t   size;
        shard    s;
        td_error error = { 0 };
        char    *data = read_part(parts[k], &size);
        snprintf(name, sizeof name, "%s%s", path, parts[k]);
        unlink(name);
        cr_assert_eq(shard_open(&s, path, &error), TD_EIO);
        cr_assert(strstr(error.text, name) && strstr(error.text, "No such file"), "%s", error.text);
        write_part(parts[k], data, size);
        free(data);
    }
}

/* /dev/full takes no byte: no part gets its name, and no temporary file is left. */
Test(shard, a_full_disk_leaves_nothing)
{
    static const char *const parts[] = { ".bin", ".len", ".idx" };
    for (int k = 0; k < 3; k++) {
        char         other[80], link[96];
        shard_writer w;
        td_error     error = { 0 };
        int32_t      ids[3] = { 1, 2, 3 };
        struct stat  st;
        snprintf(other, sizeof other, "%s/full%d", directory, k);
        snprintf(link, sizeof link, "%s%s.tmp", other, parts[k]);
        cr_assert_eq(symlink("/dev/full", link), 0);
        cr_assert_eq(shard_create(&w, other, false, &error), 0);
        cr_assert_eq(shard_add(&w, ids, 3, 3, &error), 0);
        cr_assert_eq(shard_finish(&w, &error), TD_EIO);
        cr_assert(strstr(error.text, other) && strstr(error.text, "No space left"), "%s",
                  error.text);
        for (int j = 0; j < 6; j++) {
            snprintf(link, sizeof link, "%s%s%s", other, parts[j % 3], j < 3 ? "" : ".tmp");
            cr_assert(lstat(link, &st), "%s is left", link);
        }
    }
}
