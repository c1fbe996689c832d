/* attending.c - the attention weights of one text: what adds up, what is hidden, which tokens. */
#include "session.h"

TestSuite(attending, .init = setup, .fini = teardown);

static const int32_t given[] = { 70, 71, 72 }, target[] = { 80, 81, 82, 83 };

static const td_attended *attend(td_session *s, td_attending x)
{
    const td_attended *out;
    td_error           e = { 0 };
    x.size = sizeof x;
    cr_assert_eq(td_session_attend(s, &x, &out, &e), 0, "%s", e.text);
    return out;
}

#define TEXT .given = given, .n_given = 3, .target = target, .n_target = 4

/* The weights of a head and query add up to 1, and hidden keys get exactly 0. */
static void expect_rows(const td_attention_weights *a, bool causal)
{
    int64_t keys = a->own + a->memory;
    for (int64_t h = 0; h < a->heads; h++)
        for (int64_t q = 0; q < a->queries; q++) {
            const float *row = a->weights + (h * a->queries + q) * keys;
            double       sum = 0;
            for (int64_t k = 0; k < keys; k++) {
                sum += row[k];
                cr_expect(row[k] >= 0 && (!causal || k <= q || k >= a->own || row[k] == 0));
            }
            cr_expect_float_eq(sum, 1, 1e-6, "%s, head %lld, query %lld", a->name, (long long)h,
                               (long long)q);
        }
}

Test(attending, a_decoder_reads_what_came_before)
{
    td_session        *s = must_open(TD_PURPOSE_TRAIN, "a");
    const td_attended *all = attend(s, (td_attending){ TEXT });
    cr_assert_eq(all->n, 2);
    for (size_t k = 0; k < all->n; k++) {
        const td_attention_weights *a = &all->at[k];
        cr_expect(a->reads == TD_READS_SELF && a->heads == 2 && a->layer == (int64_t)k);
        cr_assert(a->memory == 0 && a->queries == a->own && a->query_ids && a->key_ids);
        /* the last target token is only a label */
        for (int64_t i = 1; i <= 3; i++)
            cr_expect_eq(a->query_ids[a->queries - i], target[3 - i]);
        cr_expect(!memcmp(a->query_ids, a->key_ids, (size_t)a->own * sizeof(int32_t)));
        expect_rows(a, true);
    }
    td_session_close(s);
}

/* Without queries all scores are equal: 1 / n for each of the n visible keys. */
Test(attending, equal_scores_are_equal_weights)
{
    td_session *s = must_open(TD_PURPOSE_TRAIN, "a");
    td_error    e = { 0 };
    for (int64_t k = 0, n = td_session_parameters(s, &e); k < n; k++) {
        td_parameter p;
        float       *zeros;
        cr_assert_eq(td_session_parameter(s, k, &p, &e), 0);
        if (!strstr(p.name, "q_proj"))
            continue;
        zeros = calloc((size_t)p.count, sizeof *zeros);
        cr_assert_eq(td_session_write(s, p.name, zeros, p.count, &e), 0, "%s", e.text);
        free(zeros);
    }
    const td_attended *all = attend(s, (td_attending){ TEXT });
    for (size_t k = 0; k < all->n; k++) {
        const td_attention_weights *a = &all->at[k];
        for (int64_t q = 0; q < a->queries; q++)
            for (int64_t i = 0; i <= q; i++)
                cr_expect_float_eq(a->weights[q * a->own + i], 1 / (double)(q + 1), 1e-6);
    }
    td_session_close(s);
}

static td_session *open_pair_model(void)
{
    static const char *const with_encoder[] = {
        "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 24;\n"
        "  encoder_layers = 1; decoder_layers = 1;\n"
        "  attention = { plugin = \"softmax\"; heads = 3; head_dim = 8; };\n"
        "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
        "  ffn = { plugin = \"swiglu\"; d_ff = 32; }; };\n",
        NULL
    };
    td_session_options o = { .size = sizeof o,
                             .purpose = TD_PURPOSE_GENERATE,
                             .texts = with_encoder };
    td_error           e = { 0 };
    td_session        *s = td_session_open(&o, &e);
    cr_assert(s, "%s", e.text);
    return s;
}

Test(attending, an_encoder_and_its_decoder)
{
    td_session        *s = open_pair_model();
    const td_attended *all = attend(s, (td_attending){ TEXT });
    bool               seen[TD_READS] = { false };
    for (size_t k = 0; k < all->n; k++) {
        const td_attention_weights *a = &all->at[k];
        seen[a->reads] = true;
        cr_expect_eq(a->queries, a->reads == TD_READS_ENCODER ? 3 : 4);
        expect_rows(a, a->reads == TD_READS_SELF);
        cr_assert(a->query_ids && a->key_ids);
        if (a->reads == TD_READS_SELF)
            cr_expect_eq(a->query_ids[3], target[2]);
        else /* both read the given tokens */
            cr_expect(a->own + a->memory == 3 && !memcmp(a->key_ids, given, sizeof given));
    }
    cr_expect(seen[TD_READS_ENCODER] && seen[TD_READS_SELF] && seen[TD_READS_CROSS]);
    td_session_close(s);
}

Test(attending, chosen_layers_and_heads)
{
    td_session        *s = open_pair_model();
    const char *const  layers[] = { "*.cross_attn" };
    const int64_t      heads[] = { 2, 0 };
    const td_attended *all = attend(s, (td_attending){ TEXT });
    float              last = 0;
    for (size_t k = 0; k < all->n; k++)
        if (all->at[k].reads == TD_READS_CROSS)
            last = all->at[k].weights[2 * 4 * 3]; /* head 2 */
    all = attend(s, (td_attending){ TEXT, .layers = layers, .n_layers = 1, .heads = heads,
                                    .n_heads = 2 });
    cr_assert(all->n == 1 && all->at[0].heads == 2 && all->at[0].reads == TD_READS_CROSS);
    cr_expect_eq(all->at[0].weights[0], last, "heads are in the order asked for");
    td_session_close(s);
}

static void expect_refused(td_session *s, td_attending x, const char *why)
{
    const td_attended *out;
    td_error           e = { 0 };
    cr_expect(td_session_attend(s, &x, &out, &e) && !out && strstr(e.text, why), "%s", e.text);
}

Test(attending, what_cannot_be_read)
{
    td_session       *s = open_pair_model();
    const int32_t     wrong[] = { 263 };
    const char *const layers[] = { "7" };
    const int64_t     heads[] = { 3 };
    enum { SIZE = sizeof(td_attending) };
    expect_refused(s, (td_attending){ TEXT }, "sizeof(td_attending)");
    expect_refused(s, (td_attending){ .size = SIZE, .given = given, .n_given = 3 }, "1 or more");
    expect_refused(s, (td_attending){ .size = SIZE, .target = target, .n_target = 1 },
                   "give at least one");
    expect_refused(s,
                   (td_attending){ .size = SIZE,
                                   .given = wrong,
                                   .n_given = 1,
                                   .target = target,
                                   .n_target = 1 },
                   "263");
    expect_refused(s, (td_attending){ .size = SIZE, TEXT, .layers = layers, .n_layers = 1 },
                   "there is no attention in layer '7'");
    expect_refused(s, (td_attending){ .size = SIZE, TEXT, .heads = heads, .n_heads = 1 },
                   "no head 3");
    td_session_close(s);
}
