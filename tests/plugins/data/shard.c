/* shard.c - damaged token shards are refused, with a message that names the file and the remedy. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../plugins/data/common/shard.c"
#include "../plugins/data/common/shard_write.c"
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
    cr_assert(code < 0, "not refused: %s at %zu", what, at);
    cr_assert(strstr(error.text, path), "%s", error.text);
    cr_assert(strstr(error.text, "prepare again"), "%s", error.text);
    cr_assert(!s.idx && !s.path && !s.len);
}

Test(shard, is_read_as_written)
{
    shard    s;
    td_error error = { 0 };
    int32_t  ids[13];
    cr_assert_eq(shard_open(&s, path, VOCABULARY, &error), 0, "%s", error.text);
    cr_assert(s.documents == DOCUMENTS && s.tokens == TOKENS && s.idx_size == INDEX);
    cr_assert(!shard_tokens(&s, shard_document(&s, 2), 13, ids, &error), "%s", error.text);
    cr_assert(ids[0] == 2000 && ids[12] == 2012);
    cr_assert(shard_bytes(&s, 3) == 6 && shard_document(&s, DOCUMENTS) == TOKENS);
    cr_assert(shard_find(&s, 0) == 0 && shard_find(&s, 7) == 1 && shard_find(&s, 8) == 2 &&
              shard_find(&s, TOKENS - 1) == 4);
    shard_close(&s);
    bool empty = true;
    cr_assert(shard_skipped(path, &empty, &error) == 17 && !empty);
}

/* The number of bad lines is read without opening the shard. */
Test(shard, skipped_lines_are_checked)
{
    size_t   size;
    char    *data = read_part(".len", &size);
    int64_t  wrong = -1;
    bool     empty;
    td_error error = { 0 }, none = { 0 };
    cr_assert_eq(size, 8 * DOCUMENTS + TAIL);
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
    cr_assert(strstr(none.text, "/none.idx"), "%s", none.text);
    free(data);
}

/* Only the three files are left, under their final names. */
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

/* Also where the number that it makes would be possible: an id, or the bytes of a text. */
Test(shard, every_changed_bit_is_refused)
{
    static const char *const parts[] = { ".idx", ".bin", ".len" };
    for (int k = 0; k < 3; k++) {
        size_t size;
        char  *data = read_part(parts[k], &size);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            data[bit / 8] ^= (char)(1 << bit % 8);
            write_part(parts[k], data, size);
            expect_refused(parts[k], bit);
            data[bit / 8] ^= (char)(1 << bit % 8);
        }
        write_part(parts[k], data, size);
        free(data);
    }
}

/* A file that is cut short or written to under a reader is an error, not a signal. */
Test(shard, changes_are_noticed_while_it_is_read)
{
    for (int k = 0; k < SHARD_FILES; k++) {
        char     name[96];
        shard    s;
        td_error error = { 0 };
        size_t   size;
        int32_t  id;
        char    *data = read_part(shard_ends[k], &size);
        snprintf(name, sizeof name, "%s%s", path, shard_ends[k]);
        cr_assert_eq(shard_open(&s, path, VOCABULARY, &error), 0, "%s", error.text);
        cr_assert_eq(shard_unchanged(&s, &error), 0);
        cr_assert_eq(truncate(name, 0), 0);
        cr_assert_eq(shard_unchanged(&s, &error), TD_EIO);
        cr_assert(strstr(error.text, name) && strstr(error.text, "prepare again"), "%s",
                  error.text);
        if (k == SHARD_BIN)
            cr_assert_eq(shard_tokens(&s, 7, 1, &id, NULL), TD_EIO);
        write_part(shard_ends[k], data, size);
        cr_assert_eq(shard_unchanged(&s, NULL), TD_EIO, "the same size, but written again");
        shard_close(&s);
        free(data);
    }
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
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        expect_refused_with(data, size, 18, counts[k], 8);
        /* the start of each document, and the end of the last: one more than there are documents */
        if (counts[k] != DOCUMENTS + 1)
            expect_refused_with(data, size, 26, counts[k], 8);
    }
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

/* Numbers of bytes that no document can have; their sums would wrap. */
Test(shard, lengths_are_checked)
{
    static const int64_t wrong[] = { -1, INT64_MIN, INT64_MAX, (int64_t)1 << 62, (int64_t)1 << 31 };
    size_t               size;
    char                *data = read_part(".len", &size);
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++)
        for (int64_t d = 0; d < DOCUMENTS; d++) {
            char copy[8 * DOCUMENTS + TAIL];
            memcpy(copy, data, size);
            memcpy(copy + 8 * d, &wrong[k], 8);
            write_part(".len", copy, size);
            expect_refused("length", k);
        }
    free(data);
}

/* A truncated .len ends with a number that is not the count of bad lines. */
Test(shard, lengths_that_do_not_fit_do_not_count_as_skipped)
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
    memcpy(data + size - TAIL + 8, &many, 8);
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

/* A pipe must not block, nor a directory be mapped. */
Test(shard, non_files_are_refused)
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

/* Neither links nor files of foreseeable names are written through, and nothing is left after a
 * failure: here the limit on the size of files is in the way. */
Test(shard, a_failed_write_leaves_nothing)
{
    char           other[80], name[96];
    shard_writer   w;
    td_error       error = { 0 };
    static int32_t ids[9999];
    struct rlimit  limit = { 4096, 4096 };
    char         **names;
    snprintf(other, sizeof other, "%s/full", directory);
    snprintf(name, sizeof name, "%s.bin.tmp", other);
    cr_assert_eq(symlink("/dev/full", name), 0);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(shard_create(&w, other, false, &error), 0, "%s", error.text);
    int code = shard_add(&w, ids, 9999, 3, &error);
    code = code ? code : shard_finish(&w, &error);
    shard_abandon(&w);
    cr_assert_eq(code, TD_EIO);
    cr_assert(strstr(error.text, other) && strstr(error.text, "ulimit -f"), "%s", error.text);
    cr_assert_eq(td_list_directory(directory, &names, &error), 4); /* 'a', and the link */
    td_free_names(names, 4);
}

/* What a killed process left goes when the next one holds the lock; other files stay. */
Test(shard, what_was_left_is_removed)
{
    static const char *const mine[] = { ".bin.0123456789abcdef.tmp", ".idx.tmp" };
    static const char *const others[] = { "b.bin.0123456789abcdef.tmp", "a.tmp2", "ab.tmp" };
    char                     name[128];
    FILE                    *f;
    for (int k = 0; k < 5; k++) {
        snprintf(name, sizeof name, "%s%s%s", k < 2 ? path : directory, k < 2 ? "" : "/",
                 k < 2 ? mine[k] : others[k - 2]);
        f = fopen(name, "w");
        cr_assert(f && !fclose(f));
    }
    shard_remove_left(path);
    for (int k = 0; k < 5; k++) {
        snprintf(name, sizeof name, "%s%s%s", k < 2 ? path : directory, k < 2 ? "" : "/",
                 k < 2 ? mine[k] : others[k - 2]);
        cr_expect_eq(td_file_exists(name), k >= 2, "%s", name);
    }
}
