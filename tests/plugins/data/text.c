/* text.c - data 'text': records are the text, each once per epoch, mixed by rate; broken files are
 * errors. */
#include "module.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../plugins/data/common/order.h"
#include "../plugins/data/text/text.h"

static char directory[64];

static void make_directory(void)
{
    strcpy(directory, "/tmp/test-text-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static void remove_directory(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(text, .init = make_directory, .fini = remove_directory);

static const char *put(const char *name, const char *content)
{
    char *path = malloc(4096);
    snprintf(path, 4096, "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    fputs(content, f);
    fclose(f);
    return path;
}

static void *take(void *arena, size_t bytes) { return malloc(bytes); }

static td_data_in input(int64_t length, char *cache)
{
    const td_tokenizer *t = module_plugin("tokenizer-bytes.so");
    td_data_in          in = { .services = &module_services,
                               .tokenizer = t,
                               .special = { .eos = 1, .unk = 2, .vocab_size = 259 },
                               .tokenizer_id = "bytes",
                               .length = length,
                               .held_out_length = length,
                               .seed = 5,
                               .cache = cache };
    snprintf(cache, 128, "%s/a/cache", directory);
    return in;
}

Test(text, permutation_is_a_bijection)
{
    const uint64_t sizes[] = { 1, 2, 3, 5, 17, 64, 1009 };
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        char seen[1009] = { 0 };
        for (uint64_t x = 0; x < sizes[k]; x++) {
            uint64_t y = order_permute(7, k, x, sizes[k]);
            cr_assert(y < sizes[k] && !seen[y]++);
        }
    }
}

Test(text, sources_have_their_rates_in_order)
{
    static order_pattern pattern;
    const int64_t        ends[] = { 1000, 1001, 4096 };
    int64_t              counts[3] = { 0 };
    uint64_t             next[3] = { 0 };
    order_fill(&pattern, 3, ends, counts);
    for (uint64_t i = 0; i < 3 * ORDER_BLOCK; i++) {
        uint64_t ordinal;
        int64_t  s = order_source(&pattern, counts, i, &ordinal);
        cr_assert_eq(ordinal, next[s]++);
    }
    cr_assert(next[0] == 3000 && next[1] == 3 && next[2] == 9285);
}

Test(text, an_epoch_is_the_text)
{
    char        cache[128], train[300];
    const char *file =
        put("a.jsonl", "{\"text\": \"abcdefg\"}\n\n{\"text\": \"hijk\"}\r\n{\"text\": \"lmnop\"}");
    text_source    source = { { "a", { &file, 1 }, { 0 }, 0 }, 0 };
    text_config    config = { { &source, 1 }, "text", 0, true, true };
    td_data_in     in = input(3, cache);
    td_split_in    split = { .allocate = take };
    const td_data *d = module_plugin("data-text.so");
    td_error       error = { 0 };
    void          *state;

    cr_assert_eq(d->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_assert_eq(d->tokens(state), 19); /* 16 letters and 3 ends */
    memset(train, 0, sizeof train);
    for (uint64_t i = 0; i < 6; i++) {
        td_record r;
        cr_assert_eq(d->fetch(state, i, &split, &r, &error), 0);
        cr_assert_eq(r.n_targets, 3);
        cr_assert_eq(r.documents[0], 1);
        train[r.targets[0]]++;
        train[r.targets[2]]++;
        if (r.targets[0] == 'g' + 3) /* g, its end, h */
            cr_assert(r.targets[1] == 1 && r.documents[1] == 1 && r.documents[2] == 2);
    }
    /* abc def g.h ijk .lm nop */
    for (const char *c = "acdfghikmnp"; *c; c++)
        cr_assert_eq(train[*c + 3], 1, "'%c'", *c);
    d->close(state);
}

Test(text, held_out_bytes_sum_to_the_text)
{
    char           cache[128];
    const char    *file = put("a.txt", "0123456789012345678");
    const char    *held = put("h.jsonl",
                              "{\"text\": \"abcdefg\"}\n{\"text\": \"hi\"}\n{\"text\": \"j\"}\n");
    text_source    source = { { "a", { &file, 1 }, { &held, 1 }, 0 }, 0 };
    text_config    config = { { &source, 1 }, "text", 0, false, true };
    td_data_in     in = input(1, cache);
    const td_data *d = module_plugin("data-text.so");
    td_error       error = { 0 };
    void          *state;
    int64_t        sum = 0;

    cr_assert_eq(d->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_assert_eq(d->held_out(state, 0), 13);
    for (int64_t i = 0; i < 13; i++)
        sum += d->held_out_bytes(state, 0, i, 0);
    cr_assert_eq(sum, 10);
    d->close(state);
}

Test(text, a_bad_line_is_named)
{
    char           cache[128];
    const char    *file = put("bad.jsonl",
                              "{\"text\": \"fine\"}\n{\"text\": 7}\n{\"text\": \"good\"}\n");
    text_source    source = { { "a", { &file, 1 }, { 0 }, 0 }, 0 };
    text_config    config = { { &source, 1 }, "text", 0, false, true };
    td_data_in     in = input(2, cache);
    const td_data *d = module_plugin("data-text.so");
    td_error       error = { 0 }, none = { 0 };
    void          *state;

    cr_assert_eq(d->open(&config, &in, &state, &error), TD_EFORMAT);
    cr_assert(strstr(error.text, "bad.jsonl:2"), "%s", error.text);
    config.max_bad_lines = 1;
    cr_assert_eq(d->open(&config, &in, &state, &none), 0, "%s", none.text);
    cr_assert_eq(d->tokens(state), 10);
    d->close(state);
}

Test(text, truncated_compression_is_an_error)
{
    const char *commands[] = { "gzip -c", "zstd -qc" }, *ends[] = { "gz", "zst" };
    put("a.jsonl", "{\"text\": \"some words that compress, some words that do, some words\"}\n");
    for (int k = 0; k < 2; k++) {
        for (int cut = 1; cut < 40; cut += 7) {
            char cache[128], command[512], path[128];
            snprintf(path, sizeof path, "%s/b%d.jsonl.%s", directory, cut, ends[k]);
            snprintf(command, sizeof command, "%s %s/a.jsonl | head -c %d > %s", commands[k],
                     directory, cut, path);
            cr_assert_eq(system(command), 0);
            const char *file = path;
            text_source source = { { "a", { &file, 1 }, { 0 }, 0 }, 0 };
            text_config config = { { &source, 1 }, "text", 0, false, true };
            td_data_in  in = input(2, cache);
            td_error    error = { 0 };
            void       *state;
            cr_assert(((const td_data *)module_plugin("data-text.so"))
                          ->open(&config, &in, &state, &error) < 0);
            cr_assert(error.code && *error.text);
        }
    }
}
