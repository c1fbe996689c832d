/* arrange.c - examples in rows: shifted labels, packing, documents, completing batches, and
 * refusals. */
#include "plugins/part.h"
#include "tandem/kind/architecture.h"
#include "model/batch.h"

static const int32_t a_given[] = { 5, 6, 7 }, a_predicted[] = { 8, 9 };
static const int32_t b_given[] = { 10 }, b_predicted[] = { 11, 12, 13 };
static const float   b_weights[] = { 1, 0, 0.5f };

static const td_special special = { .pad = 0, .bos = -1, .eos = 1, .unk = 2, .vocab_size = 17 };

static const td_architecture *architecture_of(const td_part *p)
{
    return (const td_architecture *)(const void *)p->plugin;
}

static td_part load(const char *name)
{
    char file[64];
    snprintf(file, sizeof file, "architecture-%s", name);
    td_part p = load_part(file, name);
    set_option(&p, "vocab_size", 17);
    set_part(&p, "position", load_part("position-none", "none"));
    return p;
}

static int arrange(const td_part *p, const td_example *e, int64_t n, int64_t rows, td_extent extent,
                   td_batch *out, td_error *error)
{
    td_arrange_in in = { e, n, rows, extent, special };
    return architecture_of(p)->arrange(p->config, &in, out, error);
}

static void expect_ints(const td_batch *b, const char *name, const int32_t *want, int64_t n)
{
    const td_array *a = td_batch_find(b, name);
    cr_assert(a && a->dtype == TD_I32 && a->dim[0] * a->dim[1] == n,
              "%s is missing, or has another size", name);
    for (int64_t k = 0; k < n; k++)
        cr_expect(((int32_t *)a->data)[k] == want[k], "%s[%lld] is %d, not %d", name, (long long)k,
                  ((int32_t *)a->data)[k], want[k]);
}

static void expect_weights(const td_batch *b, const float *want, int64_t n)
{
    const td_array *a = td_batch_find(b, "loss_weights");
    cr_assert(a && a->dtype == TD_F32 && a->dim[0] * a->dim[1] == n);
    cr_expect(!memcmp(a->data, want, (size_t)n * sizeof *want));
}

#define INTS(b, name, ...)                           \
    expect_ints(b, name, (int32_t[]){ __VA_ARGS__ }, \
                sizeof((int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t))

static td_example example_a(int64_t row)
{
    return (td_example){
        .given = a_given, .n_given = 3, .predicted = a_predicted, .n_predicted = 2, .row = row
    };
}

static td_example example_b(int64_t row)
{
    return (td_example){ .given = b_given,
                         .n_given = 1,
                         .predicted = b_predicted,
                         .n_predicted = 3,
                         .weights = b_weights,
                         .row = row };
}

Test(decoder, rows_and_padding)
{
    td_part    p = load("decoder-only");
    td_batch  *b = td_batch_new();
    td_example e[] = { example_a(0), example_b(1) };
    cr_assert(arrange(&p, e, 2, 2, (td_extent){ 5, 0 }, b, NULL) == 0);
    INTS(b, "input_ids", 0, 5, 6, 7, 8, 0, 10, 11, 12, 0);
    INTS(b, "segments", 1, 1, 1, 1, 1, 1, 1, 1, 1, 0);
    INTS(b, "positions", 0, 1, 2, 3, 4, 0, 1, 2, 3, 0);
    INTS(b, "labels", 5, 6, 7, 8, 9, 10, 11, 12, 13, 0);
    expect_weights(b, (float[]){ 0, 0, 0, 1, 1, 0, 1, 0, 0.5f, 0 }, 10);
    cr_expect(!td_batch_find(b, "prefix_mask"));
    td_batch_free(b);
    free_part(&p);
}

Test(decoder, packing_and_the_bidirectional_prefix)
{
    td_part    p = load("decoder-biattn");
    td_batch  *b = td_batch_new();
    td_example e[] = { example_a(0), example_b(0) };
    cr_assert(arrange(&p, e, 2, 1, (td_extent){ 11, 0 }, b, NULL) == 0);
    INTS(b, "input_ids", 0, 5, 6, 7, 8, 0, 10, 11, 12, 0, 0);
    INTS(b, "segments", 1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0);
    INTS(b, "positions", 0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 0);
    INTS(b, "prefix_mask", 1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0);
    td_batch_free(b);
    free_part(&p);
}

/* <s> and x_1, x_2 | x_3, x_4 | ..: an input token belongs to its own document, the next example
 * starts a new segment. */
Test(decoder, documents_are_segments)
{
    static const int32_t given_documents[] = { 1, 1, 2 }, predicted_documents[] = { 2, 3 };
    td_part              p = load("decoder-only");
    td_batch            *b = td_batch_new();
    td_example           e[] = { example_a(0), example_b(0) };
    e[0].given_documents = given_documents;
    e[0].predicted_documents = predicted_documents;
    cr_assert(arrange(&p, e, 2, 1, (td_extent){ 9, 0 }, b, NULL) == 0);
    INTS(b, "segments", 1, 1, 1, 2, 2, 4, 4, 4, 4);
    td_batch_free(b);
    free_part(&p);
}

Test(encoder_decoder, continuous_positions_and_packing)
{
    td_part    p = load("encoder-decoder");
    td_batch  *b = td_batch_new();
    td_example e[] = { example_a(0), example_b(0) };
    cr_assert(arrange(&p, e, 2, 1, (td_extent){ 5, 7 }, b, NULL) == 0);
    INTS(b, "encoder_ids", 5, 6, 7, 10, 0);
    INTS(b, "encoder_segments", 1, 1, 1, 2, 0);
    INTS(b, "encoder_positions", 0, 1, 2, 0, 0);
    INTS(b, "decoder_ids", 0, 8, 0, 11, 12, 0, 0);
    INTS(b, "decoder_segments", 1, 1, 2, 2, 2, 0, 0);
    INTS(b, "decoder_positions", 3, 4, 1, 2, 3, 0, 0);
    INTS(b, "labels", 8, 9, 11, 12, 13, 0, 0);
    expect_weights(b, (float[]){ 1, 1, 1, 0, 0.5f, 0, 0 }, 7);
    td_batch_free(b);
    free_part(&p);
}

Test(encoder_decoder, positions_may_restart)
{
    td_part    p = load("encoder-decoder");
    td_batch  *b = td_batch_new();
    td_example e = example_a(0);
    set_option(&p, "continuous_positions", 0);
    cr_assert(arrange(&p, &e, 1, 1, (td_extent){ 3, 2 }, b, NULL) == 0);
    INTS(b, "decoder_positions", 0, 1);
    td_batch_free(b);
    free_part(&p);
}

/* The decoder's positions start after the real encoder tokens, not after the padding. */
Test(encoder_decoder, completes_from_lengths)
{
    td_part   p = load("encoder-decoder");
    td_batch *b = td_batch_new();
    td_batch_add(b, "encoder_ids", TD_I32, 2, 3);
    td_batch_add(b, "decoder_ids", TD_I32, 2, 2);
    td_batch_add(b, "labels", TD_I32, 2, 2);
    int32_t *n = b->add(b, "encoder_lengths", TD_I32, 1, (int64_t[]){ 2 });
    n[0] = 3;
    n[1] = 1;
    cr_assert(architecture_of(&p)->complete(p.config, b, NULL) == 0);
    INTS(b, "encoder_segments", 1, 1, 1, 1, 0, 0);
    INTS(b, "decoder_segments", 1, 1, 1, 1);
    INTS(b, "decoder_positions", 3, 4, 1, 2);
    expect_weights(b, (float[]){ 1, 1, 1, 1 }, 4);
    td_batch_free(b);
    free_part(&p);
}

static void expect_refused(const td_part *p, td_example e, td_extent extent, const char *says)
{
    td_batch *b = td_batch_new();
    td_error  error = { 0 };
    cr_expect(arrange(p, &e, 1, 1, extent, b, &error) == TD_EFORMAT);
    cr_expect(strstr(error.text, says), "'%s' does not say '%s'", error.text, says);
    td_batch_free(b);
}

Test(refusals, tokens_rows_and_lengths)
{
    static const int32_t large[] = { 16, 17 }, negative[] = { -1 };
    td_part              p = load("decoder-only");
    td_example           e = example_a(0);
    expect_refused(&p, e, (td_extent){ 4, 0 }, "do not fit");
    expect_refused(&p, example_a(1), (td_extent){ 5, 0 }, "row 1");
    expect_refused(&p, example_a(-1), (td_extent){ 5, 0 }, "row -1");
    e.predicted = large;
    expect_refused(&p, e, (td_extent){ 5, 0 }, "token 1 is 17");
    e = example_b(0);
    e.given = negative;
    expect_refused(&p, e, (td_extent){ 5, 0 }, "token 0 is -1");
    free_part(&p);
}

Test(refusals, batches_from_elsewhere)
{
    td_part   p = load("decoder-only");
    td_batch *b = td_batch_new();
    td_error  error = { 0 };
    cr_expect(architecture_of(&p)->complete(p.config, b, &error) == TD_EFORMAT &&
              strstr(error.text, "input_ids"));
    td_batch_add(b, "input_ids", TD_I32, 1, 3);
    td_batch_add(b, "labels", TD_I32, 1, 2);
    memset(&error, 0, sizeof error);
    cr_expect(architecture_of(&p)->complete(p.config, b, &error) == TD_EFORMAT &&
                  strstr(error.text, "labels"),
              "%s", error.text);
    td_batch_free(b);
    b = td_batch_new();
    memset(&error, 0, sizeof error);
    td_batch_add(b, "input_ids", TD_I32, 1, 3);
    *(int32_t *)b->add(b, "lengths", TD_I32, 1, (int64_t[]){ 1 }) = 4;
    cr_expect(architecture_of(&p)->complete(p.config, b, &error) == TD_EFORMAT &&
                  strstr(error.text, "length 4"),
              "%s", error.text);
    td_batch_free(b);
    free_part(&p);
}

/* A batch of one row for `name` with these segments, positions, labels and weights. */
static int complete(td_part *p, const int32_t *segments, const int32_t *positions,
                    const int32_t *labels, const float *weights, td_batch *b, td_error *error)
{
    memset(error, 0, sizeof *error);
    td_batch_add(b, "input_ids", TD_I32, 1, 4);
    memcpy(td_batch_add(b, "segments", TD_I32, 1, 4), segments, 4 * sizeof *segments);
    memcpy(td_batch_add(b, "labels", TD_I32, 1, 4), labels, 4 * sizeof *labels);
    memcpy(td_batch_add(b, "loss_weights", TD_F32, 1, 4), weights, 4 * sizeof *weights);
    if (positions)
        memcpy(td_batch_add(b, "positions", TD_I32, 1, 4), positions, 4 * sizeof *positions);
    return architecture_of(p)->complete(p->config, b, error);
}

static void expect_incomplete(td_part *p, const int32_t *segments, const int32_t *positions,
                              const float *weights, const char *says)
{
    static const int32_t labels[] = { 1, 2, 3, 4 };
    td_batch            *b = td_batch_new();
    td_error             error;
    cr_expect(complete(p, segments, positions, labels, weights, b, &error) < 0 &&
                  strstr(error.text, says),
              "'%s' does not say '%s'", error.text, says);
    td_batch_free(b);
}

#define FOUR(...) ((const int32_t[]){ __VA_ARGS__ })

Test(refusals, positions_and_weights_from_elsewhere)
{
    static const float   weights[] = { 1, 0, 1, 0 }, on_padding[] = { 0, 0, 0, 1 };
    static const int32_t ignored[] = { 5, -100, 16, 17 };
    td_part              p = load("decoder-only");
    td_batch            *b = td_batch_new();
    td_error             error;

    expect_incomplete(&p, FOUR(1, 1, 2, 2), NULL, weights, "must also have array 'positions'");
    expect_incomplete(&p, FOUR(1, 1, 1, 0), NULL, on_padding,
                      "token 3 has weight 1, but it is padding");
    expect_incomplete(&p, FOUR(1, 1, 1, 1), FOUR(0, 1, -1, 2), weights,
                      "token 2 is at position -1");
    /* a place without weight may have any label */
    cr_expect_eq(complete(&p, FOUR(1, 1, 1, 0), NULL, ignored, weights, b, &error), 0, "%s",
                 error.text);
    INTS(b, "labels", 5, 0, 16, 0);
    td_batch_free(b);

    /* a table of biases reaches as far as a row is long; other examples do not matter */
    set_part(&p, "position", load_part("position-alibi", "alibi"));
    expect_incomplete(&p, FOUR(1, 1, 1, 1), FOUR(0, 1, 4, 5), weights, "positions 0 and 4");
    b = td_batch_new();
    cr_expect_eq(complete(&p, FOUR(1, 1, 2, 2), FOUR(0, 1, 7, 8), FOUR(1, 2, 3, 4), weights, b,
                          &error),
                 0, "%s", error.text);
    td_batch_free(b);
    set_part(&p, "position", load_part("position-learned", "learned"));
    expect_incomplete(&p, FOUR(1, 1, 1, 1), FOUR(0, 1, 2, 2048), weights, "max_positions = 2048");
    free_part(&p);
}
