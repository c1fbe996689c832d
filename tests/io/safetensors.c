/* safetensors.c - round trips; every truncation and many kinds of damaged headers are errors. */
#include "io/safetensors.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];

static void make_path(void)
{
    strcpy(path, "/tmp/test-safetensors-XXXXXX");
    close(mkstemp(path));
}

static void remove_path(void) { unlink(path); }

TestSuite(safetensors, .init = make_path, .fini = remove_path);

static int count_stream(void *arg, size_t offset, size_t size, void *out, td_error *error)
{
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)out)[i] = (unsigned char)((offset + i) % 251);
    return 0;
}

static void put_header(const char *header, size_t data)
{
    FILE    *f = fopen(path, "wb");
    uint64_t n = strlen(header);
    fwrite(&n, 8, 1, f);
    fwrite(header, 1, n, f);
    for (size_t i = 0; i < data; i++)
        putc(0, f);
    fclose(f);
}

Test(safetensors, round_trip)
{
    const float   numbers[] = { 1, -2, 3, 4, 5.5f, 6 };
    const int32_t seven = 7;
    const char   *metadata[] = { "format", "pt", NULL };
    float         floats[6];
    int32_t       back;
    td_error      error = { 0 };
    td_stored     list[] = {
            { .name = "a.weight", .type = TD_STORED_F32, .rank = 2, .dim = { 2, 3 }, .data = numbers },
            { .name = "step", .type = TD_STORED_I32, .rank = 0, .data = &seven },
            { .name = "none", .type = TD_STORED_F64, .rank = 2, .dim = { 0, 5 } },
            { .name = "long",
              .type = TD_STORED_U8,
              .rank = 1,
              .dim = { 2500003 },
              .stream = count_stream },
    };
    cr_assert_eq(td_safetensors_write(path, list, 4, metadata, &error), 0, "%s", error.text);
    td_safetensors *s = td_safetensors_open(path, &error);
    cr_assert(s, "%s", error.text);
    cr_assert_eq(td_safetensors_count(s), 4);
    cr_assert_str_eq(td_safetensors_metadata(s, "format"), "pt");
    cr_assert_eq(td_stored_floats(td_safetensors_find(s, "a.weight"), floats, 6, &error), 0);
    cr_assert_eq(memcmp(floats, numbers, sizeof floats), 0);
    cr_assert_eq(td_stored_ints(td_safetensors_find(s, "step"), &back, 1, &error), 0);
    cr_assert_eq(back, 7);
    const unsigned char *u = td_safetensors_find(s, "long")->data;
    for (size_t i = 0; i < 2500003; i++)
        if (u[i] != i % 251)
            cr_assert_fail("byte %zu", i);
    cr_assert_null(td_safetensors_find(s, "absent"));
    td_safetensors_close(s);
}

Test(safetensors, half_precision)
{
    const uint16_t half[] = { 0x3C00, 0xC000, 0x0001, 0x7BFF }, brain[] = { 0x3F80, 0xC040 };
    td_stored h = { .name = "h", .type = TD_STORED_F16, .rank = 1, .dim = { 4 }, .data = half };
    td_stored b = { .name = "b", .type = TD_STORED_BF16, .rank = 1, .dim = { 2 }, .data = brain };
    double    x[4];
    cr_assert_eq(td_stored_doubles(&h, x, 4, NULL), 0);
    cr_assert(x[0] == 1 && x[1] == -2 && x[2] == 0x1p-24 && x[3] == 65504);
    cr_assert_eq(td_stored_doubles(&b, x, 2, NULL), 0);
    cr_assert(x[0] == 1 && x[1] == -3);
}

/* Tensors that could not be read again are not written, and the old file stays. */
Test(safetensors, wrong_tensors_are_not_written)
{
    const float one = 1;
    td_stored   x = { .name = "x", .type = TD_STORED_F32, .data = &one };
    td_stored   wrong[] = { x, x, x, x };
    const char *says[] = { "two tensors have this name", "unknown type 99", "rank 9 is above 8",
                           "name is not valid UTF-8" };
    wrong[1].name = wrong[2].name = "y";
    wrong[1].type = 99;
    wrong[2].rank = 9;
    wrong[3].name = "caf\xe9";
    cr_assert_eq(td_safetensors_write(path, &x, 1, NULL, NULL), 0);
    for (int k = 0; k < 4; k++) {
        td_stored list[] = { x, wrong[k] };
        td_error  error = { 0 };
        cr_expect_eq(td_safetensors_write(path, list, 2, NULL, &error), TD_EFORMAT);
        cr_expect(strstr(error.text, says[k]), "'%s' does not say '%s'", error.text, says[k]);
    }
    td_safetensors *s = td_safetensors_open(path, NULL);
    cr_expect(s && td_safetensors_count(s) == 1);
    td_safetensors_close(s);
}

Test(safetensors, every_truncation_is_an_error)
{
    const float numbers[] = { 1, 2, 3 };
    td_stored   one = {
          .name = "x", .type = TD_STORED_F32, .rank = 1, .dim = { 3 }, .data = numbers
    };
    cr_assert_eq(td_safetensors_write(path, &one, 1, NULL, NULL), 0);
    FILE *f = fopen(path, "rb");
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    fclose(f);
    for (long cut = size - 1; cut >= 0; cut--) {
        td_error error = { 0 };
        cr_assert_eq(truncate(path, cut), 0);
        cr_assert_null(td_safetensors_open(path, &error), "%ld bytes", cut);
        cr_assert(error.code && strstr(error.text, path));
    }
}

Test(safetensors, damaged_headers_are_errors)
{
    static const char *const headers[] = {
        "[]",
        "{",
        "{\"x\":3}",
        "{\"x\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,12]}}",
        "{\"x\":{\"dtype\":\"U16\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"x\":{\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-8,8]}}",
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}",
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}",
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"y\":{\"dtype\":\"F32\","
        "\"shape\":[1],\"data_offsets\":[2,6]}}",
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"x\":{\"dtype\":\"F32\","
        "\"shape\":[1],\"data_offsets\":[4,8]}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        td_error error = { 0 };
        put_header(headers[i], 8);
        cr_assert_null(td_safetensors_open(path, &error), "header %zu", i);
        cr_assert_neq(error.code, 0);
    }
}

/* A type that is not known does not hide the tensors beside it. */
Test(safetensors, other_types_are_refused_where_they_are_read)
{
    td_error        error = { 0 };
    float           numbers[2];
    int32_t         whole[1];
    td_safetensors *s;
    put_header("{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[0,2]},"
               "\"y\":{\"dtype\":\"U16\",\"shape\":[1],\"data_offsets\":[2,4]},"
               "\"z\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
               8);
    s = td_safetensors_open(path, &error);
    cr_assert(s, "%s", error.text);
    cr_expect_eq(td_safetensors_count(s), 3);
    cr_expect_eq(td_stored_ints(td_safetensors_find(s, "y"), whole, 1, &error), 0);
    cr_expect_eq(td_stored_floats(td_safetensors_find(s, "x"), numbers, 2, &error), TD_EFORMAT);
    cr_expect(strstr(error.text, "'x'") && strstr(error.text, "'F8_E4M3'"), "%s", error.text);
    td_safetensors_close(s);
}

Test(safetensors, what_is_named_by_mistake)
{
    static const struct {
        const char *text, *says;
    } files[] = {
        { "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull" },
        { "PK\3\4 and so on, and so on", "PyTorch" },
        { "GGUF and so on, and so on", "llama.cpp" },
        { "some text, and so on", "not a safetensors file" },
    };
    for (int k = 0; k < 4; k++) {
        td_error error = { 0 };
        FILE    *f = fopen(path, "wb");
        cr_assert(f && fputs(files[k].text, f) >= 0 && !fclose(f));
        cr_assert_null(td_safetensors_open(path, &error));
        cr_expect(strstr(error.text, files[k].says) && strstr(error.text, path), "%s", error.text);
    }
}
