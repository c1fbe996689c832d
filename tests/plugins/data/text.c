/* text.c - data 'text': records are the text, each once per epoch, mixed by rate; damaged files are
 * errors. */
#include "module.h"

#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* Records within documents: contiguous, and none crosses the end of a document. */
Test(text, held_out_records_within_documents)
{
    char           cache[128];
    const char    *file = put("a.txt", "0123456789012345678");
    const char    *held = put("h.jsonl", "{\"text\": \"abcdefg\"}\n{\"text\": \"hi\"}\n"
                                            "{\"text\": \"jklm\"}\n");
    text_source    source = { { "a", { &file, 1 }, { &held, 1 }, 0 }, 0 };
    text_config    config = { { &source, 1 }, "text", 0, false, true };
    td_data_in     in = input(4, cache);
    td_split_in    split = { .allocate = take };
    const td_data *d = module_plugin("data-text.so");
    td_error       error = { 0 };
    void          *state;
    td_record      r;

    in.whole_documents = true;
    cr_assert_eq(d->open(&config, &in, &state, &error), 0, "%s", error.text);
    /* abcd efg. (hi.) jklm */
    cr_assert_eq(d->held_out(state, 0), 3);
    for (int64_t i = 0; i < 3; i++) {
        cr_assert_eq(d->fetch_held_out(state, 0, i, &split, &r, &error), 0);
        cr_assert_eq(r.targets[0], "aej"[i] + 3);
        cr_assert_eq(d->held_out_bytes(state, 0, i, 0), i == 1 ? 3 : i == 2 ? 3 : 4);
    }
    cr_expect_eq(d->fetch_held_out(state, 0, 3, &split, &r, &error), TD_EEND);
    d->close(state);
    in.held_out_length = 9; /* longer than every document */
    error = (td_error){ 0 };
    cr_assert_eq(d->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_expect_eq(d->held_out(state, 0), 0);
    d->close(state);
}

/* As an evaluation opens it: the training text may be on another machine. */
Test(text, held_out_text_alone)
{
    char           cache[128];
    const char    *file = put("a.txt", "0123456789");
    const char    *held = put("h.jsonl", "{\"text\": \"abcdefg\"}\n");
    text_source    source = { { "a", { &file, 1 }, { &held, 1 }, 0 }, 0 };
    text_config    config = { { &source, 1 }, "text", 0, false, true };
    td_data_in     in = input(4, cache);
    td_split_in    split = { .allocate = take };
    const td_data *d = module_plugin("data-text.so");
    td_error       error = { 0 }, refused = { 0 };
    void          *state;
    td_record      r;
    uint64_t       print;

    cr_assert_eq(unlink(file), 0);
    cr_assert_eq(d->open(&config, &in, &state, &refused), TD_ECONFIG, "without the text");
    in.held_out_only = true;
    cr_assert_eq(d->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_assert_eq(d->held_out(state, 0), 2);
    cr_assert_eq(d->fetch_held_out(state, 0, 1, &split, &r, &error), 0);
    cr_expect_eq(r.targets[0], 'e' + 3);
    cr_expect_eq(d->fetch(state, 0, &split, &r, &error), TD_ECONFIG);
    print = d->fingerprint(state);
    d->close(state);
    /* other held-out text is noticed */
    put("h.jsonl", "{\"text\": \"abcdefh\"}\n");
    error = (td_error){ 0 };
    cr_assert_eq(d->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_expect_neq(d->fingerprint(state), print);
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

static uint64_t fingerprint(const char *file)
{
    char           cache[128];
    text_source    source = { { "a", { &file, 1 }, { 0 }, 0 }, 0 };
    text_config    config = { { &source, 1 }, "text", 0, false, true };
    td_data_in     in = input(2, cache);
    const td_data *d = module_plugin("data-text.so");
    td_error       error = { 0 };
    void          *state;
    uint64_t       h;
    cr_assert_eq(d->open(&config, &in, &state, &error), 0, "%s", error.text);
    h = d->fingerprint(state);
    d->close(state);
    return h;
}

static int shards(void)
{
    glob_t found;
    char   pattern[128];
    int    n;
    snprintf(pattern, sizeof pattern, "%s/a/cache/*.idx", directory);
    n = glob(pattern, 0, NULL, &found) ? 0 : (int)found.gl_pathc;
    globfree(&found);
    return n;
}

/* Neither a name nor a size nor a time says what is in a file. */
Test(text, a_shard_is_of_a_content)
{
    const char           *file = put("a.jsonl", "{\"text\": \"abcdefg\"}\n");
    const struct timespec old[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
    uint64_t              first, other;
    cr_assert(!utimensat(AT_FDCWD, file, old, 0));
    first = fingerprint(file);
    cr_expect_eq(shards(), 1);
    cr_assert(!utimensat(AT_FDCWD, file, NULL, 0));
    cr_expect_eq(fingerprint(file), first);
    cr_expect_eq(shards(), 1, "only the time is another");
    put("a.jsonl", "{\"text\": \"abcdefh\"}\n");
    cr_assert(!utimensat(AT_FDCWD, file, old, 0));
    other = fingerprint(file);
    cr_expect_neq(other, first);
    cr_expect_eq(shards(), 2);
    /* the hashes that are kept are asked for a file that has not changed for some time */
    sleep(4);
    cr_expect_eq(fingerprint(file), other);
    cr_expect_eq(fingerprint(file), other);
    put("a.jsonl", "{\"text\": \"abcdefg\"}\n");
    cr_assert(!utimensat(AT_FDCWD, file, old, 0));
    cr_expect_eq(fingerprint(file), first);
    cr_expect_eq(shards(), 2);
}

/* Mixed by size, a source may be smaller than any share. */
Test(text, a_tiny_source_has_a_share)
{
    char       *large = malloc(200000), cache[128];
    size_t      n = (size_t)sprintf(large, "{\"text\": \"");
    const char *files[2];
    memset(large + n, 'x', 150000);
    strcpy(large + n + 150000, "\"}\n");
    files[0] = put("large.jsonl", large);
    files[1] = put("tiny.jsonl", "{\"text\": \"abcdefg\"}\n");
    text_source    sources[] = { { { "large", { &files[0], 1 }, { 0 }, 0 }, 0 },
                                 { { "tiny", { &files[1], 1 }, { 0 }, 0 }, 0 },
                                 { { "again", { &files[0], 1 }, { 0 }, 0 }, 0 } };
    text_config    config = { { sources, 3 }, "text", 0, false, true };
    td_data_in     in = input(4, cache);
    td_split_in    split = { .allocate = take };
    const td_data *d = module_plugin("data-text.so");
    td_error       error = { 0 };
    void          *state;
    int            seen[3] = { 0 };
    cr_assert_eq(d->open(&config, &in, &state, &error), 0, "%s", error.text);
    for (uint64_t i = 0; i < ORDER_BLOCK; i++) {
        td_record r;
        cr_assert_eq(d->fetch(state, i, &split, &r, &error), 0);
        seen[r.source]++;
    }
    cr_expect(seen[1] == 1 && abs(seen[0] - seen[2]) <= 1);
    d->close(state);
    /* a rate that is too small to be kept is refused, as before */
    sources[0].rate = sources[2].rate = 1;
    sources[1].rate = 1e-9;
    cr_expect_eq(d->open(&config, &in, &state, &error), TD_ECONFIG);
    free(large);
}

/* A shard that is cut short under a run is an error of the next record. */
Test(text, a_shard_that_changes_is_an_error)
{
    char           cache[128], command[200];
    const char    *file = put("a.jsonl", "{\"text\": \"abcdefg\"}\n");
    text_source    source = { { "a", { &file, 1 }, { 0 }, 0 }, 0 };
    text_config    config = { { &source, 1 }, "text", 0, true, true };
    td_data_in     in = input(2, cache);
    td_split_in    split = { .allocate = take };
    const td_data *d = module_plugin("data-text.so");
    td_error       error = { 0 };
    td_record      r;
    void          *state;
    cr_assert_eq(d->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_assert_eq(d->fetch(state, 0, &split, &r, &error), 0);
    snprintf(command, sizeof command, "truncate -s 0 %s/a/cache/*.idx", directory);
    cr_assert_eq(system(command), 0);
    cr_expect_eq(d->fetch(state, 1, &split, &r, &error), TD_EIO);
    cr_expect(strstr(error.text, ".idx' was changed"), "%s", error.text);
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
