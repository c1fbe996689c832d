/* megatron.c - data 'text' on files of tokens that Megatron-LM's tools wrote: ids of every type,
 * documents of several pieces, gaps and empty documents; and files that lie. */
#include "module.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../plugins/data/text/text.h"
#include "base/file.h"

static char directory[64], path[100];

static void setup(void)
{
    strcpy(directory, "/tmp/test-megatron-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/a.bin", directory);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(megatron, .init = setup, .fini = teardown);

/* ---- writing, as Megatron-LM does ------------------------------------------------------------ */

/* An index: what is in its file, by field. */
typedef struct index_file {
    char     magic[9];
    uint64_t version;
    uint8_t  type;
    uint64_t pieces, boundaries;
    int32_t  size[8];
    int64_t  offset[8], boundary[8];
    size_t   modes; /* bytes behind the arrays */
} index_file;

static void write_index(const index_file *x)
{
    char  name[100];
    FILE *f;
    snprintf(name, sizeof name, "%s/a.idx", directory);
    f = fopen(name, "wb");
    cr_assert(f);
    fwrite(x->magic, 9, 1, f);
    fwrite(&x->version, 8, 1, f);
    fwrite(&x->type, 1, 1, f);
    fwrite(&x->pieces, 8, 1, f);
    fwrite(&x->boundaries, 8, 1, f);
    fwrite(x->size, 4, x->pieces < 8 ? x->pieces : 8, f);
    fwrite(x->offset, 8, x->pieces < 8 ? x->pieces : 8, f);
    fwrite(x->boundary, 8, x->boundaries < 8 ? x->boundaries : 8, f);
    for (size_t k = 0; k < x->modes; k++)
        fputc(0, f);
    cr_assert_eq(fclose(f), 0);
}

static void write_bin(const int64_t *ids, size_t n, int width)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f);
    for (size_t k = 0; k < n; k++)
        fwrite(&ids[k], (size_t)width, 1, f); /* the low bytes come first */
    cr_assert_eq(fclose(f), 0);
}

/* "abc", nothing, "de" in two pieces that lie the other way round, with a gap of one id. Ids of
 * the tokenizer 'bytes' are those of the bytes and 3. */
static const int64_t ids[] = { 'a' + 3, 'b' + 3, 'c' + 3, 99, 'e' + 3, 'd' + 3 };

static index_file index_of(int type, int width)
{
    return (index_file){ .magic = "MMIDIDX\0",
                         .version = 1,
                         .type = (uint8_t)type,
                         .pieces = 3,
                         .boundaries = 4,
                         .size = { 3, 1, 1 },
                         .offset = { 0, 5 * width, 4 * width },
                         .boundary = { 0, 1, 1, 3 } };
}

/* ---- reading --------------------------------------------------------------------------------- */

static void *take(void *arena, size_t bytes) { return malloc(bytes); }

static void *open_text(const char *const *files, td_error *error)
{
    static char        cache[128];
    static text_source source;
    static text_config config;
    static const char *file;
    td_data_in         in = { .services = &module_services,
                              .tokenizer = module_plugin("tokenizer-bytes.so"),
                              .special = { .eos = 1, .unk = 2, .vocab_size = 259 },
                              .tokenizer_id = "bytes",
                              .length = 1,
                              .held_out_length = 1,
                              .cache = cache };
    const td_data     *d = module_plugin("data-text.so");
    void              *state = NULL;
    snprintf(cache, sizeof cache, "%s/cache", directory);
    file = files[0];
    source = (text_source){ { "a", { &file, 1 }, { &file, 0 }, 0 }, 0 };
    config = (text_config){ { &source, 1 }, "text", 0, false, false };
    return d->open(&config, &in, &state, error) ? NULL : state;
}

/* The records of one token, in the order of the file. */
static void expect_tokens(const char *expected)
{
    const td_data *d = module_plugin("data-text.so");
    td_split_in    split = { .allocate = take };
    td_error       error = { 0 };
    const char    *file = path;
    void          *state = open_text(&file, &error);
    cr_assert(state, "%s", error.text);
    cr_assert_eq(d->tokens(state), (int64_t)strlen(expected));
    for (uint64_t k = 0; k < strlen(expected); k++) {
        td_record r;
        int32_t   id = expected[k] == '.' ? 1 : expected[k] + 3;
        cr_assert_eq(d->fetch(state, k, &split, &r, &error), 0, "%s", error.text);
        cr_expect_eq(r.targets[0], id, "token %d is %d", (int)k, r.targets[0]);
    }
    d->close(state);
}

Test(megatron, every_type_of_ids)
{
    static const struct {
        int type, width;
    } types[] = { { 1, 1 }, { 2, 1 }, { 3, 2 }, { 4, 4 }, { 5, 8 }, { 8, 2 } };
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        index_file x = index_of(types[k].type, types[k].width);
        write_bin(ids, 6, types[k].width);
        write_index(&x);
        expect_tokens("abc.de."); /* each document gets its end */
    }
}

Test(megatron, an_end_that_is_there_is_not_added)
{
    const int64_t with_end[] = { 'a' + 3, 'b' + 3, 1, 99, 1, 'd' + 3 };
    index_file    x = index_of(8, 2);
    write_bin(with_end, 6, 2);
    x.modes = 3; /* as in a file of several media */
    write_index(&x);
    expect_tokens("ab.d.");
}

/* The index alone says where documents begin: if it changes, so does the shard. */
Test(megatron, a_changed_index_is_noticed)
{
    index_file x = index_of(4, 4);
    write_bin(ids, 6, 4);
    write_index(&x);
    expect_tokens("abc.de.");
    x.boundary[1] = x.boundary[2] = 2;
    write_index(&x);
    expect_tokens("abcd.e.");
}

static void expect_refused(const index_file *x, const char *why)
{
    td_error    error = { 0 };
    const char *file = path;
    write_index(x);
    cr_expect(!open_text(&file, &error) && strstr(error.text, why), "'%s' is not in: %s", why,
              error.text);
}

#define REFUSED(type, width, change, why)     \
    do {                                      \
        index_file x = index_of(type, width); \
        change;                               \
        write_bin(ids, 6, width);             \
        expect_refused(&x, why);              \
    } while (0)

Test(megatron, files_that_lie)
{
    REFUSED(4, 4, x.magic[0] = 'X', "does not begin with MMIDIDX");
    REFUSED(4, 4, memcpy(x.magic, "TNTIDX\0\0", 9), "older fairseq");
    REFUSED(4, 4, x.version = 2, "is not version 1");
    REFUSED(7, 4, , "floats");
    REFUSED(6, 8, , "floats");
    REFUSED(9, 4, , "unknown type");
    REFUSED(0, 4, , "unknown type");
    REFUSED(4, 4, x.pieces = UINT64_MAX, "has a length that does not follow");
    REFUSED(4, 4, x.pieces = (uint64_t)1 << 62, "has a length that does not follow");
    REFUSED(4, 4, x.boundaries = 0, "has a length that does not follow");
    REFUSED(4, 4, x.boundaries = UINT64_MAX, "has a length that does not follow");
    REFUSED(4, 4, x.modes = 2, "has a length that does not follow");
    REFUSED(4, 4, x.size[1] = -1, "outside of it");
    REFUSED(4, 4, x.size[0] = 7, "outside of it");
    REFUSED(4, 4, x.offset[2] = -4, "outside of it");
    REFUSED(4, 4, x.offset[2] = INT64_MAX, "outside of it");
    REFUSED(4, 4, x.boundary[1] = 3, "out of order");
    REFUSED(4, 4, x.boundary[3] = 2, "outside of its documents");
    REFUSED(4, 4, x.boundary[0] = 1, "outside of its documents");
}

Test(megatron, tokens_of_another_tokenizer)
{
    const int64_t large[] = { 'a' + 3, 259, 'c' + 3, 0, 0, 0 }, negative[] = { -1, 0, 0, 0, 0, 0 };
    index_file    x = index_of(4, 4);
    write_bin(large, 6, 4);
    expect_refused(&x, "token 259, and the ids of the tokenizer are 0 to 258");
    write_bin(negative, 6, 4);
    expect_refused(&x, "has the token -1");
}

Test(megatron, without_an_index)
{
    td_error    error = { 0 };
    const char *file = path;
    write_bin(ids, 6, 4);
    cr_expect(!open_text(&file, &error) && strstr(error.text, "a.idx', which says where"), "%s",
              error.text);
}
