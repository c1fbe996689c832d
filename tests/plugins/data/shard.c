/* shard.c - token shards that are damaged are refused, with a message that says which and what to
 * do. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../plugins/data/common/shard.c"
#include "base/file.h"

enum {
    DOCUMENTS = 5,
    INDEX = HEADER + 20 * DOCUMENTS + 8,
    TOKENS = 1 + 7 + 13 + 2 + 101,
    VOCABULARY = 4101
};

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
    int      code = shard_open(&s, path, VOCABULARY, &error);
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
    cr_assert_eq(shard_open(&s, path, VOCABULARY, &error), 0, "%s", error.text);
    cr_assert(s.documents == DOCUMENTS && s.tokens == TOKENS && s.idx_size == INDEX);
    shard_tokens(&s, shard_document(&s, 2), 13, ids);
    cr_assert(ids[0] == 2000 && ids[12] == 2012);
    cr_assert(shard_bytes(&s, 3) == 6 && shard_document(&s, DOCUMENTS) == TOKENS);
    cr_assert(shard_find(&s, 0) == 0 && shard_find(&s, 7) == 1 && shard_find(&s, 8) == 2 &&
              shard_find(&s, TOKENS - 1) == 4);
    shard_close(&s);
    bool empty = true;
    cr_assert(shard_skipped(path, &empty, &error) == 17 && !empty);
}

/* The number of bad lines comes last; it is asked for without the rest of the shard. */
Test(shard, skipped_lines_are_checked)
{
    size_t   size;
    char    *data = read_part(".len", &size);
    int64_t  wrong = -1;
    bool     empty;
    td_error error = { 0 }, none = { 0 };
    cr_assert_eq(size, 8 * DOCUMENTS + 16);
    for (size_t n = 0; n < 2; n++) {
        write_part(".len", data, n * 9);
        cr_assert_eq(shard_skipped(path, &empty, &error), TD_EFORMAT);
        cr_assert(strstr(error.text, "prepare again"), "%s", error.text);
    }
    memcpy(data + 8 * DOCUMENTS + 8, &wrong, 8);
    write_part(".len", data, size);
    cr_assert_eq(shard_skipped(path, &empty, &error), TD_EFORMAT);
    expect_refused("a negative number of bad lines", 0);
    snprintf(path, sizeof path, "%s/none", directory);
    cr_assert_eq(shard_skipped(path, &empty, &none), TD_EIO);
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
        free(data);
        free(more);
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

/* Bytes of text that no document has; sums of them would wrap. */
Test(shard, lengths_are_checked)
{
    static const int64_t wrong[] = { -1, INT64_MIN, INT64_MAX, (int64_t)1 << 62, (int64_t)1 << 31 };
    size_t               size;
    char                *data = read_part(".len", &size);
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++)
        for (int64_t d = 0; d < DOCUMENTS; d++) {
            char copy[8 * DOCUMENTS + 16];
            memcpy(copy, data, size);
            memcpy(copy + 8 * d, &wrong[k], 8);
            write_part(".len", copy, size);
            expect_refused("length", k);
        }
    free(data);
}

/* A .len that is cut ends with another number than that of bad lines. */
Test(shard, lengths_that_do_not_fit_say_nothing_of_skipped_lines)
{
    size_t   size;
    char    *data = read_part(".len", &size);
    int64_t  many = (int64_t)1 << 62;
    bool     empty;
    td_error error = { 0 };
    for (size_t n = 0; n < size; n += 8) {
        write_part(".len", data, n);
        cr_assert_eq(shard_skipped(path, &empty, &error), TD_EFORMAT);
    }
    memcpy(data + size - 8, &many, 8);
    write_part(".len", data, size);
    cr_assert_eq(shard_skipped(path, &empty, &error), TD_EFORMAT);
    free(data);
}

static void expect_bad_ids(const char *id)
{
    shard    s;
    td_error error = { 0 };
    char     message[160];
    snprintf(message, sizeof message, "'%s.bin' is damaged: it has id %s,", path, id);
    cr_assert_eq(shard_open(&s, path, VOCABULARY, &error), TD_EFORMAT);
    cr_assert(strstr(error.text, message) && strstr(error.text, "prepare again"), "%s", error.text);
}

Test(shard, ids_outside_the_vocabulary_are_refused)
{
    shard_writer w;
    td_error     error = { 0 };
    size_t       size;
    char        *data = read_part(".bin", &size);
    for (size_t k = 0; k < TOKENS; k++) {
        data[2 * k + 1] ^= 0x40;
        write_part(".bin", data, size);
        char id[16];
        snprintf(id, sizeof id, "%d", (data[2 * k] & 255) | (data[2 * k + 1] & 255) << 8);
        expect_bad_ids(id);
        data[2 * k + 1] ^= 0x40;
    }
    free(data);
    cr_assert(!shard_create(&w, path, false, &error) &&
              !shard_add(&w, (const int32_t[]){ 4100, -7, 3 }, 3, 9, &error) &&
              !shard_finish(&w, &error));
    expect_bad_ids("-7");
}

/* Neither is waited for nor mapped. */
Test(shard, what_is_no_file_is_refused)
{
    static const char *const parts[] = { ".idx", ".bin", ".len" };
    for (int k = 0; k < 6; k++) {
        char     name[96];
        size_t   size;
        shard    s;
        td_error error = { 0 };
        char    *data = read_part(parts[k / 2], &size);
        snprintf(name, sizeof name, "%s%s", path, parts[k / 2]);
        unlink(name);
        cr_assert(!(k % 2 ? mkfifo(name, 0600) : mkdir(name, 0700)));
        cr_assert_eq(shard_open(&s, path, VOCABULARY, &error), TD_EIO);
        cr_assert(strstr(error.text, "not a regular file; remove"), "%s", error.text);
        cr_assert(!remove(name));
        write_part(parts[k / 2], data, size);
        free(data);
    }
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
        cr_assert_eq(shard_open(&s, path, VOCABULARY, &error), TD_EIO);
        cr_assert(strstr(error.text, name) && strstr(error.text, "No such file") &&
                      strstr(error.text, "prepare again"),
                  "%s", error.text);
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
