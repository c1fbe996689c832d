/* gguf.c - GGUF files: values and tensors survive writing and reading; damaged and inconsistent files
 * are refused. */
#include "io/gguf.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"

static char folder[64], path[80];

static void setup(void)
{
    strcpy(folder, "/tmp/tandem-gguf-XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/f.gguf", folder);
}

static void teardown(void) { td_remove_tree(folder, NULL); }

TestSuite(gguf, .init = setup, .fini = teardown);

/* ---- a small file ---------------------------------------------------------------------------- */

static const float numbers[] = { 1, -2, 3.5f, 4, 5, 6, 7 };

static void put_keys(td_gguf_out *out)
{
    int16_t few[] = { -3, 30000 };
    td_gguf_put_text(out, "general.architecture", "odd");
    td_gguf_put_u32(out, "odd.count", 4000000000u);
    td_gguf_put_f32(out, "odd.ratio", 0.1f);
    td_gguf_put_bool(out, "odd.switch", true);
    td_gguf_put_list(out, "odd.few", TD_GGUF_I16, 2);
    td_gguf_item(out, few, sizeof few);
    td_gguf_put_list(out, "odd.words", TD_GGUF_TEXT, 3);
    td_gguf_item_text(out, "one", 3);
    td_gguf_item_text(out, "", 0);
    td_gguf_item_text(out, "three", 5);
}

/* Two tensors: x [7] and y [3, 2]. */
static void write_file(void)
{
    td_gguf_out out = { 0 };
    td_error    e = { 0 };
    td_stored   t[] = {
          { .name = "x", .type = TD_STORED_F32, .rank = 1, .dim = { 7 }, .data = numbers },
          { .name = "y", .type = TD_STORED_F32, .rank = 2, .dim = { 3, 2 }, .data = numbers },
    };
    put_keys(&out);
    cr_assert(!td_gguf_write(path, &out, t, 2, &e), "%s", e.text);
    td_gguf_out_free(&out);
}

Test(gguf, what_is_written_is_read)
{
    td_error             e = { 0 };
    td_gguf             *g;
    const unsigned char *at;
    const td_stored     *t;
    size_t               size;
    float                y[6];
    write_file();
    cr_assert(td_gguf_is(path));
    g = td_gguf_open(path, &e);
    cr_assert(g, "%s", e.text);
    cr_expect_eq(td_gguf_number(td_gguf_get(g, "odd.count"), 0), 4e9);
    cr_expect_eq(td_gguf_number(td_gguf_get(g, "odd.ratio"), 0), (double)0.1f);
    cr_expect_eq(td_gguf_number(td_gguf_get(g, "odd.switch"), 0), 1);
    cr_expect_eq(td_gguf_number(td_gguf_get(g, "odd.few"), 0), -3);
    cr_expect_eq(td_gguf_number(td_gguf_get(g, "odd.few"), 1), 30000);
    at = td_gguf_get(g, "odd.words")->data;
    td_gguf_text(&at, &size);
    td_gguf_text(&at, &size);
    cr_expect_eq(size, 0);
    cr_expect(!memcmp(td_gguf_text(&at, &size), "three", 5) && size == 5);
    cr_expect_str_eq(td_gguf_key(g, 5), "odd.words");
    cr_expect(!td_gguf_key(g, 6) && !td_gguf_at(g, 6) && !td_gguf_get(g, "odd.none"));
    cr_assert_eq(td_gguf_count(g), 2);
    t = td_gguf_tensor(g, 1);
    cr_expect(t->rank == 2 && t->dim[0] == 3 && t->dim[1] == 2);
    cr_expect(!td_stored_floats(t, y, 6, &e) && !memcmp(y, numbers, sizeof y), "%s", e.text);
    td_gguf_close(g);
}

/* A block is a factor in half precision, 1.5 or the smallest there is, and 32 bytes. */
Test(gguf, blocks_are_factors_times_bytes)
{
    unsigned char blocks[2][TD_STORED_BLOCK_BYTES] = { { 0x00, 0x3E }, { 0x01, 0x00 } };
    td_stored     t = {
            .name = "q", .type = TD_STORED_Q8_0, .rank = 2, .dim = { 2, 32 }, .data = blocks
    };
    td_gguf_out out = { 0 };
    td_error    e = { 0 };
    td_gguf    *g;
    double      x[64];
    for (int k = 0; k < 32; k++)
        blocks[0][2 + k] = blocks[1][2 + k] = (unsigned char)(signed char)(7 * k - 110);
    cr_assert(!td_gguf_write(path, &out, &t, 1, &e), "%s", e.text);
    g = td_gguf_open(path, &e);
    cr_assert(g, "%s", e.text);
    cr_assert(!td_stored_doubles(td_gguf_tensor(g, 0), x, 64, &e), "%s", e.text);
    for (int k = 0; k < 32; k++) {
        cr_expect_eq(x[k], 1.5 * (7 * k - 110));
        cr_expect_eq(x[32 + k], 0x1p-24 * (7 * k - 110));
    }
    td_gguf_close(g);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void expect_refused(const char *text)
{
    td_error e = { 0 };
    td_gguf *g = td_gguf_open(path, &e);
    cr_expect(!g, "it was read; expected: %s", text);
    cr_expect(e.code == TD_EFORMAT && strstr(e.text, text), "'%s' is not in: %s", text, e.text);
    td_gguf_close(g);
}

/* The small file, with `size` bytes replaced at `after` bytes behind the first `text`, of `n` bytes. */
static void damage_behind(const char *text, size_t n, size_t after, const void *bytes, size_t size)
{
    size_t   all;
    char    *data, *at;
    td_error e = { 0 };
    write_file();
    data = td_file_read(path, &all, &e);
    cr_assert(data, "%s", e.text);
    at = memmem(data, all, text, n);
    cr_assert(at && at + n + after + size <= data + all, "%s", text);
    memcpy(at + n + after, bytes, size);
    cr_assert(!td_file_write(path, data, all, &e), "%s", e.text);
    free(data);
}

static void damage(const char *text, size_t after, const void *bytes, size_t size)
{
    damage_behind(text, strlen(text), after, bytes, size);
}

/* In the description of y: its name is followed by the rank, dims 2 and 3, the type, and offset 32. */
static void damage_y(size_t after, const void *bytes, size_t size)
{
    static const char name[] = "\1\0\0\0\0\0\0\0y";
    damage_behind(name, sizeof name - 1, after, bytes, size);
}

Test(gguf, every_beginning_of_a_file_is_refused)
{
    td_error e = { 0 };
    size_t   all;
    char    *data;
    write_file();
    data = td_file_read(path, &all, &e);
    cr_assert(data && all > 64);
    /* the padding behind the last tensor, 8 bytes, is not needed */
    for (size_t n = 0; n < all - 8; n++) {
        cr_assert(!td_file_write(path, data, n, &e), "%s", e.text);
        expect_refused(path);
    }
    free(data);
}

Test(gguf, versions_and_counts_that_cannot_be_are_refused)
{
    damage("GGUF", 0, "\1", 1);
    expect_refused("it has version 1; versions 2 and 3, little-endian, can be read");
    damage("GGUF", 0, "\0\0\0\3", 4); /* of a machine with the other order of bytes */
    expect_refused("it has version 50331648");
    damage("", 0, "GGML", 4);
    expect_refused("it does not begin with GGUF");
    damage("GGUF", 4, "\377\377\377\377\377\377\377\377", 8);
    expect_refused("as GGUF: a tensor's name");
    damage("GGUF", 12, "\377\377\377\377\377\377\377\177", 8);
    expect_refused("as GGUF:");
}

Test(gguf, keys_that_lie_are_refused)
{
    damage("odd.few", 0, "\15", 1);
    expect_refused("the key 'odd.few' has type 13");
    damage("odd.few", 4, "\11", 1);
    expect_refused("the key 'odd.few' is a list of type 9");
    damage("odd.few", 8, "\0\0\0\0\0\0\0\100", 8); /* times two bytes overflows 64 bits */
    expect_refused("odd.few at byte");
    damage("odd.words", 8, "\377\377\377\377\377\377\377\377", 8);
    expect_refused("odd.words at byte");
    damage("odd.words", 16, "\377\377\377\377\377\377\377\377", 8);
    expect_refused("odd.words at byte");
    damage("odd.switch", 0, "\10", 1); /* the bytes that follow become its size */
    expect_refused("odd.switch at byte");
    damage("odd.coun", 0, "\0", 1);
    expect_refused("it must have from 1 to 65535, none of them 0");
    damage("odd.coun", 0, "\377", 1);
    expect_refused("is not UTF-8");
}

Test(gguf, names_that_occur_twice_are_refused)
{
    td_gguf_out out = { 0 };
    td_error    e = { 0 };
    td_stored   t[] = {
          { .name = "x", .type = TD_STORED_F32, .rank = 1, .dim = { 7 }, .data = numbers },
          { .name = "x", .type = TD_STORED_F32, .rank = 1, .dim = { 3 }, .data = numbers }
    };
    td_gguf_put_u32(&out, "a", 1);
    cr_assert(!td_gguf_write(path, &out, t, 2, &e), "%s", e.text);
    expect_refused("the tensor 'x' occurs twice");
    td_gguf_put_u32(&out, "a", 2);
    cr_assert(!td_gguf_write(path, &out, t, 1, &e), "%s", e.text);
    expect_refused("the key 'a' occurs twice");
    td_gguf_out_free(&out);
}

Test(gguf, tensors_that_lie_are_refused)
{
    damage_y(0, "\0", 1);
    expect_refused("tensor 'y' has 0 dims: it must have 1 to 4");
    damage_y(0, "\5", 1);
    expect_refused("tensor 'y' has 5 dims");
    damage_y(4, "\0\0\0\0\0\0\0\200", 8);
    expect_refused("tensor 'y': the size of its shape overflows 64 bits");
    damage_y(4, "\0\0\0\0\0\0\0\40", 8); /* times three and four bytes */
    expect_refused("tensor 'y': the size of its shape overflows 64 bits");
    damage_y(4, "\3", 1);
    expect_refused("tensor 'y': 36 bytes from byte 32 on lie outside the file's");
    damage_y(20, "\10", 1);
    expect_refused("its rows of 2 do not divide into blocks of 32");
    damage_y(24, "\4", 1);
    expect_refused("do not begin at a multiple of 32");
    damage_y(24, "\0", 1);
    expect_refused("overlap");
    damage_y(24, "\340\377\377\377\377\377\377\377", 8);
    expect_refused("lie outside the file's");
}

Test(gguf, types_that_cannot_be_read_are_named)
{
    static const struct {
        char        type;
        const char *name;
    } others[] = { { 9, "Q8_1" },    { 12, "Q4_K" },  { 15, "Q8_K" },  { 16, "IQ2_XXS" },
                   { 20, "IQ4_NL" }, { 29, "IQ1_M" }, { 34, "TQ1_0" }, { 39, "MXFP4" },
                   { 4, "4" } /* it was removed from the format */ };
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        td_error e = { 0 };
        td_gguf *g;
        double   x[6];
        damage_y(20, &others[k].type, 1);
        g = td_gguf_open(path, &e);
        cr_assert(g, "%s", e.text);
        cr_expect_str_eq(td_gguf_tensor(g, 1)->dtype, others[k].name);
        cr_expect(!td_stored_is_real(td_gguf_tensor(g, 1)));
        cr_expect_eq(td_stored_doubles(td_gguf_tensor(g, 1), x, 6, &e), TD_EFORMAT);
        td_gguf_close(g);
    }
}

Test(gguf, alignments_are_checked)
{
    static const uint32_t wrong[] = { 0, 4, 33 };
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        td_gguf_out out = { 0 };
        td_gguf_put_u32(&out, "general.alignment", wrong[k]);
        cr_assert(!td_gguf_write(path, &out, NULL, 0, NULL));
        td_gguf_out_free(&out);
        expect_refused("general.alignment must be a multiple of 8");
    }
}

/* The count of tensors, and all that follows the count of keys; without padding. */
static void write_raw(uint64_t tensors, const td_gguf_out *rest)
{
    uint64_t counts[] = { tensors, rest->count };
    td_text  all = { 0 };
    td_error e = { 0 };
    td_text_append(&all, "GGUF\3\0\0", 8);
    td_text_append(&all, (const char *)counts, sizeof counts);
    td_text_append(&all, rest->data.data, rest->data.size);
    cr_assert(!td_file_write(path, all.data, all.size, &e), "%s", e.text);
    td_text_free(&all);
}

/* Leave a place for one page, where the system puts the next one, before one that cannot be read. */
static void make_guard(size_t page)
{
    char *at = mmap(NULL, 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(at != MAP_FAILED && !munmap(at, page));
}

/* It ends where a page does, so that reading on ends the process. */
Test(gguf, an_empty_list_is_no_alignment)
{
    size_t            page = (size_t)sysconf(_SC_PAGESIZE);
    static const char key[] = "general.alignment";
    size_t            around = 24 + 8 + 1 + 4 + 8 + 8 + strlen(key) + 4 + 4 + 8;
    size_t            size = page - around;
    char             *filler = calloc(size + 1, 1);
    td_gguf_out       out = { 0 };
    memset(filler, 'x', size);
    td_gguf_put_text(&out, "a", filler);
    td_gguf_put_list(&out, key, TD_GGUF_U32, 0);
    write_raw(0, &out);
    make_guard(page);
    expect_refused("general.alignment must be a multiple of 8");
    td_gguf_out_free(&out);
    free(filler);
}

/* 2^40 times 2^40 rows without elements: whoever counts from the first dim on must not overflow. */
Test(gguf, shapes_overflow_in_any_order)
{
    uint64_t    dims[] = { 0, 1ull << 40, 1ull << 40 }, length = 1, offset = 0;
    uint32_t    rank = 3, type = 0;
    td_gguf_out out = { 0 };
    td_gguf_item(&out, &length, sizeof length);
    td_gguf_item(&out, "z", 1);
    td_gguf_item(&out, &rank, sizeof rank);
    td_gguf_item(&out, dims, sizeof dims);
    td_gguf_item(&out, &type, sizeof type);
    td_gguf_item(&out, &offset, sizeof offset);
    write_raw(1, &out);
    expect_refused("tensor 'z': the size of its shape overflows 64 bits");
    td_gguf_out_free(&out);
}

Test(gguf, tensors_that_could_not_be_read_are_not_written)
{
    td_gguf_out out = { 0 };
    td_error    e = { 0 };
    td_stored   t = { .name = "x", .type = TD_STORED_F64, .rank = 1, .dim = { 0 } };
    cr_expect_eq(td_gguf_write(path, &out, &t, 1, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, "it takes F32, BF16 and Q8_0"), "%s", e.text);
    cr_expect(!td_file_exists(path));
}
