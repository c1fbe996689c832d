/* packing.c - documents of any length in rows of one length: by data 'text', whose runs cross
 * documents, and by train.pack. */
#include "tools/child.h"
#include "base/threads.h"
#include "run/experiment.h"
#include "train/feed.h"

enum { LENGTH = 13, BATCH = 3, BOS = 0, EOS = 1, FIRST = 3 };

/* of documents, not counting their ends */
static const int lengths[] = { 1, 2, 31, 5, 3, 1, 11, 12, 13, 7, 1, 1, 1, 17, 23, 4 };
enum { DOCUMENTS = sizeof lengths / sizeof *lengths };

static char directory[64];

static void put_file(const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    for (int d = 0; d < DOCUMENTS; d++) {
        fputs("{\"text\": \"", f);
        for (int i = 0; i < lengths[d]; i++)
            putc('a' + (d + i) % 26, f);
        fputs("\"}\n", f);
    }
    cr_assert(!fclose(f));
}

/* The held-out text is the same text in another file. */
static void put_documents(void)
{
    strcpy(directory, "/tmp/tandem-packing-XXXXXX");
    cr_assert(mkdtemp(directory));
    put_file("a.jsonl");
    put_file("held.jsonl");
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(packing, .init = put_documents, .fini = teardown);

/* The whole text as tokens, and the number of the document that each belongs to. */
static int64_t stream(int32_t *tokens, int32_t *documents)
{
    int64_t n = 0;
    for (int32_t d = 0; d < DOCUMENTS; d++)
        for (int i = 0; i <= lengths[d]; i++, n++) {
            tokens[n] = i < lengths[d] ? 'a' + (d + i) % 26 + FIRST : EOS;
            documents[n] = d;
        }
    return n;
}

/* ---- a config opened ------------------------------------------------------------------------- */

typedef struct bench {
    td_registry    *registry;
    td_experiment  *x;
    td_pool        *pool;
    void           *data;
    td_arrange_spec feed;
} bench;

static void write_config(const char *path, const char *architecture, const char *loss, bool mask,
                         bool shuffle)
{
    bool  two = !strcmp(architecture, "encoder-decoder");
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fprintf(
        f,
        "model = { plugin = \"%s\"; vocab_size = 263; d_model = 24; %s attention = { plugin = "
        "\"softmax\"; heads = 3;\n"
        "  head_dim = 8; }; position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; }; ffn = "
        "{ plugin = \"swiglu\"; d_ff = 41; }; };\n"
        "loss = { plugin = \"%s\"; };\n"
        "optimizer = { plugin = \"adamw\"; };\nschedule = { plugin = \"constant\"; peak = 0.01; "
        "};\n"
        "tokenizer = { plugin = \"bytes\"; };\n"
        "data = { plugin = \"text\"; mask_documents = %s; shuffle = %s; sources = ( { name = "
        "\"a\"; files = ( \"%s/a.jsonl\" );\n"
        "  held_out = ( \"%s/held.jsonl\" ); } ); };\n"
        "train = { steps = 3; length = %d; batch = %d; micro_batch = 1; evaluate_every = -1; };\n"
        "run = { dir = \"%s\"; name = \"run\"; };\n",
        architecture, two ? "encoder_layers = 1; decoder_layers = 1;" : "layers = 1;", loss,
        mask ? "true" : "false", shuffle ? "true" : "false", directory, directory, LENGTH, BATCH,
        directory);
    cr_assert(!fclose(f));
}

static bench open_bench(const char *architecture, const char *loss, bool mask)
{
    static const char *const paths[] = { TANDEM_PLUGINS, NULL };
    bench                    b = { 0 };
    td_error                 e = { 0 };
    td_errors                errors = { 0 };
    char                     config[96], cache[96];
    const char              *files[] = { config };

    snprintf(config, sizeof config, "%s/a.cfg", directory);
    snprintf(cache, sizeof cache, "%s/cache", directory);
    write_config(config, architecture, loss, mask, false);
    b.registry = td_registry_new(paths, NULL, &e);
    cr_assert(b.registry, "%s", e.text);
    b.x = td_experiment_open(b.registry, files, 1, NULL, 0, TANDEM_SOURCE "/configs",
                             TD_NEED_TRAINING, &errors);
    cr_assert(b.x, "%s", td_text_get(&errors.text));
    b.pool = td_pool_new(2, NULL, &e);
    cr_assert(b.pool, "%s", e.text);
    const td_data *d = (const void *)b.x->data.plugin;
    td_special     special = { .eos = 1, .unk = 2, .vocab_size = 259 };
    td_data_in     in = { .services = td_pool_services(b.pool),
                          .tokenizer = (const void *)b.x->tokenizer.plugin,
                          .special = special,
                          .tokenizer_id = "bytes",
                          .length = LENGTH,
                          .held_out_length = LENGTH,
                          .seed = 7,
                          .cache = cache };
    cr_assert_eq(d->open(b.x->data.config, &in, &b.data, &e), 0, "%s", e.text);
    b.feed = (td_arrange_spec){ b.x->model, b.x->loss, d, b.data, special, LENGTH,
                                BATCH,      1,         1, false,  7,       { 0 } };
    return b;
}

static void close_bench(bench *b)
{
    ((const td_data *)(const void *)b->x->data.plugin)->close(b->data);
    td_pool_free(b->pool);
    td_experiment_close(b->x);
    td_registry_free(b->registry);
}

static const int32_t *ints(const td_batch *b, const char *name)
{
    const td_array *a = td_batch_find(b, name);
    cr_assert(a && a->dtype == TD_I32, "no '%s'", name);
    return a->data;
}

/* ---- data 'text' ----------------------------------------------------------------------------- */

/* The row of record `record`: <s> and its tokens but the last; a segment for each document, from 1;
 * positions run on across documents. */
static void expect_run(const td_batch *b, int64_t record, const int32_t *tokens,
                       const int32_t *documents, bool mask)
{
    const int32_t *ids = ints(b, "input_ids"), *segments = ints(b, "segments"),
                  *positions = ints(b, "positions");
    const int32_t *labels = ints(b, "labels");
    int64_t        at = record * LENGTH;
    for (int64_t k = 0; k < LENGTH; k++) {
        int64_t read = at + (k ? k - 1 : 0);
        cr_assert_eq(ids[k], k ? tokens[read] : BOS, "record %lld, token %lld", (long long)record,
                     (long long)k);
        cr_assert_eq(labels[k], tokens[at + k]);
        cr_assert_eq(positions[k], k);
        cr_assert_eq(segments[k], mask ? 1 + documents[read] - documents[at] : 1,
                     "record %lld, token %lld: segment %d", (long long)record, (long long)k,
                     segments[k]);
    }
}

static void expect_epochs(bool mask)
{
    int32_t  tokens[400], documents[400];
    int64_t  runs = stream(tokens, documents) / LENGTH;
    bench    b = open_bench("decoder-only", "causal-lm", mask);
    td_error e = { 0 };
    td_feed *feed = td_feed_open(&b.feed, 0, &e);
    cr_assert(feed, "%s", e.text);
    for (int64_t step = 0; step < 2 * runs; step++) {
        const td_feed_batch *s = td_feed_next(feed, &e);
        cr_assert(s, "%s", e.text);
        cr_assert_eq(s->tokens, BATCH * LENGTH);
        for (int64_t m = 0; m < BATCH; m++)
            expect_run(s->micro[m], (BATCH * step + m) % runs, tokens, documents, mask);
    }
    td_feed_close(feed);
    close_bench(&b);
}

Test(packing, documents_in_a_run_are_segments) { expect_epochs(true); }
Test(packing, without_a_mask_a_run_is_one_segment) { expect_epochs(false); }

/* ---- train.pack ------------------------------------------------------------------------------ */

/* Pairs of uneven lengths that fit in a row of LENGTH: record i is a document of (i) tokens, cut
 * in two. */
static int fetch_pair(void *state, uint64_t index, const td_split_in *in, td_record *out,
                      td_error *error)
{
    int64_t  n = 2 + (int64_t)(index * 5 % 7), given = 1 + (int64_t)index % (n - 1);
    int32_t *ids = in->allocate(in->arena, (size_t)n * sizeof *ids);
    if (!ids)
        return td_fail(error, TD_ENOMEM, "no memory");
    for (int64_t k = 0; k < n; k++)
        ids[k] = (int32_t)(10 + (index * 31 + (uint64_t)k) % 200);
    *out = (td_record){
        .inputs = ids, .n_inputs = given, .targets = ids + given, .n_targets = n - given
    };
    return 0;
}

/* Every token of a row belongs to its segment's record and is in the right place there. Returns
 * the number of records found. */
static int64_t expect_packed_row(const td_batch *b)
{
    const int32_t *ids = ints(b, "input_ids"), *segments = ints(b, "segments"),
                  *positions = ints(b, "positions");
    const int32_t *labels = ints(b, "labels");
    int64_t        width = td_batch_find(b, "input_ids")->dim[1], found = 0;
    cr_assert_eq(width, LENGTH);
    for (int64_t k = 0; k < width; k++) {
        bool starts = segments[k] && (!k || segments[k] != segments[k - 1]);
        if (!segments[k]) { /* padding, to the end */
            cr_assert(!k || segments[k - 1] == found);
            for (; k < width; k++)
                cr_assert(!segments[k] && ids[k] == 0);
            break;
        }
        found += starts;
        cr_assert_eq(segments[k], found);
        cr_assert_eq(positions[k], starts ? 0 : positions[k - 1] + 1);
        cr_assert_eq(ids[k], starts ? BOS : labels[k - 1],
                     "a token reads its predecessor, in its own segment");
    }
    return found;
}

Test(packing, several_pairs_in_a_row)
{
    bench    b = open_bench("decoder-only", "causal-lm", false);
    td_data  pairs = *b.feed.data;
    td_error e = { 0 };
    int64_t  records = 0, rows = 0;
    pairs.fetch = fetch_pair;
    b.feed.data = &pairs;
    b.feed.pack = true;
    td_feed *feed = td_feed_open(&b.feed, 0, &e);
    cr_assert(feed, "%s", e.text);
    for (int step = 0; step < 11; step++) {
        const td_feed_batch *s = td_feed_next(feed, &e);
        int64_t              found = 0, tokens = 0;
        cr_assert(s, "%s", e.text);
        for (int64_t m = 0; m < BATCH; m++)
            found += expect_packed_row(s->micro[m]);
        for (uint64_t i = (uint64_t)records; i < s->next; i++)
            tokens += 2 + (int64_t)(i * 5 % 7);
        cr_assert_eq(found, s->records, "each record is in the batch once");
        cr_assert_eq(tokens, s->tokens);
        records += s->records;
        rows += BATCH;
        cr_assert_eq((uint64_t)records, s->next);
    }
    cr_assert_geq(records, 2 * rows, "%lld records in %lld rows", (long long)records,
                  (long long)rows);
    td_feed_close(feed);
    close_bench(&b);
}

/* Whether or not train.pack is set, evaluation has one example per row: one segment, then
 * padding. */
Test(packing, evaluation_never_packs)
{
    static const int32_t ids[] = { 11, 12, 13, 14, 15 };
    bench                b = open_bench("encoder-decoder", "prefix-lm", true);
    td_batch            *out = td_batch_new();
    td_error             e = { 0 };
    td_example           x[BATCH] = {
                  { .given = ids, .n_given = 1, .predicted = ids + 1, .n_predicted = 2, .row = 0 },
                  { .given = ids, .n_given = 2, .predicted = ids + 2, .n_predicted = 1, .row = 1 },
                  { .given = ids, .n_given = 1, .predicted = ids + 1, .n_predicted = 1, .row = 2 }
    };
    b.feed.pack = true;
    cr_assert_eq(td_arrange_examples(&b.feed, x, BATCH, out, &e), 0, "%s", e.text);
    const td_array *segments = td_batch_find(out, "encoder_segments"),
                   *decoder = td_batch_find(out, "decoder_segments");
    cr_assert(out->rows == BATCH && segments->dim[0] == BATCH && decoder->dim[0] == BATCH);
    for (int64_t r = 0; r < BATCH; r++) {
        for (int64_t k = 0; k < segments->dim[1]; k++)
            cr_assert_eq(((const int32_t *)segments->data)[r * segments->dim[1] + k],
                         k < x[r].n_given);
        for (int64_t k = 0; k < decoder->dim[1]; k++)
            cr_assert_eq(((const int32_t *)decoder->data)[r * decoder->dim[1] + k],
                         k < x[r].n_predicted);
    }
    td_batch_free(out);
    close_bench(&b);
}

/* A run trained with packed rows is evaluated like any other: the same numbers, from the same
 * held-out records. */
Test(packing, evaluation_by_the_command_is_the_same)
{
    char config[96], command[800];
    snprintf(config, sizeof config, "%s/a.cfg", directory);
    write_config(config, "encoder-decoder", "prefix-lm", true, true);
    snprintf(command, sizeof command,
             "cd %s && %s train -c a.cfg train.pack=true -q --threads 1 >/dev/null && for p in "
             "true false; do"
             " %s evaluate -c a.cfg train.pack=$p --threads 1 --json | sed 's/, "
             "\"[a-z_]*seconds\":[^,}]*//g' >$p || exit 5; done;"
             " cat true; cmp true false",
             directory, TANDEM_BINARY, TANDEM_BINARY);
    child c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert_eq(c.code, 0, "%s%s", c.out, c.err);
    cr_assert(strstr(c.out, "nll"), "%s", c.out);
    child_free(&c);
}

/* ---- pairs of a data source ------------------------------------------------------------------ */

/* Without packing a row is as long as the largest pair; packed rows are train.length tokens, divided
 * as that pair is. */
Test(packing, rows_are_sized_by_the_largest_pair)
{
    bench     two = open_bench("encoder-decoder", "prefix-lm", false);
    bench     one = open_bench("decoder-only", "prefix-lm", false);
    bench     all = open_bench("decoder-only", "causal-lm", false);
    bench    *benches[] = { &two, &one, &all };
    td_extent want[][2] = { { { 5, 3 }, { 25, 15 } },
                            { { 8, 0 }, { 40, 0 } },
                            { { 8, 0 }, { 40, 0 } } };
    for (int k = 0; k < 3; k++) {
        benches[k]->feed.pair = (td_pair){ .inputs = 5, .targets = 3 };
        benches[k]->feed.length = 40;
        for (int packed = 0; packed < 2; packed++) {
            benches[k]->feed.pack = packed;
            td_extent e = td_arrange_limit(&benches[k]->feed);
            cr_expect(e.first == want[k][packed].first && e.second == want[k][packed].second,
                      "%d, %d: %lld and %lld", k, packed, (long long)e.first, (long long)e.second);
        }
        close_bench(benches[k]);
    }
}

/* Packed pairs in an encoder-decoder: each decoder segment belongs to the encoder segment of the
 * same number, and only targets have weight. */
Test(packing, pairs_keep_apart_in_both_streams)
{
    bench    b = open_bench("encoder-decoder", "prefix-lm", false);
    td_data  pairs = *b.feed.data;
    td_error e = { 0 };
    pairs.fetch = fetch_pair;
    b.feed.data = &pairs;
    b.feed.pair = (td_pair){ .inputs = 8, .targets = 8 };
    b.feed.length = 48;
    b.feed.pack = true;
    td_feed *feed = td_feed_open(&b.feed, 0, &e);
    cr_assert(feed, "%s", e.text);
    const td_feed_batch *s = td_feed_next(feed, &e);
    cr_assert(s, "%s", e.text);
    int64_t record = 0;
    for (int64_t m = 0; m < BATCH; m++) {
        const int32_t *given = ints(s->micro[m], "encoder_ids"),
                      *of = ints(s->micro[m], "encoder_segments"),
                      *segments = ints(s->micro[m], "decoder_segments"),
                      *labels = ints(s->micro[m], "labels");
        const float *weights = td_batch_find(s->micro[m], "loss_weights")->data;
        int64_t      width = td_batch_find(s->micro[m], "encoder_ids")->dim[1], found = 0;
        cr_assert_eq(width, 24);
        for (int64_t k = 0; k < width; k++) {
            cr_expect(weights[k] == (segments[k] != 0));
            if (!segments[k] || (k && segments[k] == segments[k - 1]))
                continue;
            /* the first label follows the last given token of the encoder's segment with the
             * same number */
            int32_t last = -1;
            for (int64_t i = 0; i < width; i++)
                last = of[i] == segments[k] ? given[i] : last;
            cr_expect_eq(labels[k], 10 + (last - 10 + 1) % 200, "row %lld, segment %d",
                         (long long)m, segments[k]);
            found++;
        }
        cr_expect_gt(found, 1, "several pairs share a row");
        record += found;
    }
    cr_expect_eq(record, s->records);
    td_feed_close(feed);
    close_bench(&b);
}
