/* generation.c - continuing texts with a session: the same answers in any batch, options, stops,
 * errors. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tandem/embed.h"

enum { PROMPTS = 11, TOKENS = 9 };

/* Widths that do not fill a vector, and a vocabulary that does not fill a panel. */
static const char red[] =
    "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 24; encoder_layers = 2;\n"
    "  decoder_layers = 1; attention = { plugin = \"softmax\"; heads = 3; head_dim = 10; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
    "  ffn = { plugin = \"swiglu\"; d_ff = 37; }; };\n";
static const char dec[] =
    "model = { plugin = \"decoder-only\"; vocab_size = 263; d_model = 24; layers = 2;\n"
    "  attention = { plugin = \"softmax\"; heads = 3; head_dim = 10; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
    "  ffn = { plugin = \"swiglu\"; d_ff = 37; }; };\n";
static const char bf16[] = "train = { precision = \"bf16\"; };\n";
static const char bytes[] = "tokenizer = { plugin = \"bytes\"; };\n";

typedef struct answers {
    int32_t ids[PROMPTS][TOKENS];
    int64_t n[PROMPTS];
    double  logprob[PROMPTS];
    char    text[PROMPTS][64];
    bool    stopped[PROMPTS];
    int     count, streamed;
} answers;

static td_session *open_model(const char *model, const char *more, const char *threads)
{
    const char        *texts[] = { model, more, NULL }, *settings[] = { threads, NULL };
    td_session_options o = {
        .size = sizeof o, .purpose = TD_PURPOSE_GENERATE, .texts = texts, .settings = settings
    };
    td_error    e = { 0 };
    td_session *s = td_session_open(&o, &e);
    cr_assert(s, "%s", e.text);
    return s;
}

static void keep(void *arg, const td_answered *a)
{
    answers *out = arg;
    cr_assert(a->prompt >= 0 && a->prompt < PROMPTS && a->n <= TOKENS);
    if (a->n)
        memcpy(out->ids[a->prompt], a->ids, (size_t)a->n * sizeof *a->ids);
    out->n[a->prompt] = a->n;
    out->logprob[a->prompt] = a->logprob;
    out->stopped[a->prompt] = a->stopped;
    if (a->text)
        strncpy(out->text[a->prompt], a->text, 63);
    out->count++;
}

static void count_text(void *arg, int64_t prompt, const char *text, size_t size)
{
    ((answers *)arg)->streamed += (int)size;
}

/* Prompts of lengths 0, 1, 2, .. and a long one. */
static void generate(td_session *s, td_generation *g, answers *out)
{
    static int32_t ids[400];
    td_given       prompts[PROMPTS] = { 0 };
    td_error       e = { 0 };
    for (int k = 0; k < 400; k++)
        ids[k] = 3 + k * 37 % 256;
    for (int k = 0; k < PROMPTS; k++)
        prompts[k] = (td_given){ .ids = ids + 7 * k, .n = k + 1 == PROMPTS ? 300 : k };
    memset(out, 0, sizeof *out);
    g->size = sizeof *g;
    g->answer = keep;
    g->arg = out;
    cr_assert_eq(td_session_generate(s, g, prompts, PROMPTS, NULL, &e), 0, "%s", e.text);
    cr_assert_eq(out->count, PROMPTS);
}

/* To the last bit: neither the batch nor threads change an answer. */
static void check_company(const char *model, const char *more)
{
    td_session   *one = open_model(model, more, "backend.threads=1");
    td_session   *three = open_model(model, more, "backend.threads=3");
    td_generation g = { .max_tokens = TOKENS, .temperature = 1.3, .seed = 5, .batch = 1 };
    answers       alone, other;
    generate(one, &g, &alone);
    for (int k = 0; k < PROMPTS; k++)
        cr_expect_eq(alone.n[k], TOKENS, "without a tokenizer nothing ends an answer early");
    cr_expect(memcmp(alone.ids[0], alone.ids[1], sizeof alone.ids[0]),
              "two prompts get the same random numbers");
    for (int64_t batch = 2; batch <= 16; batch *= 2) {
        g.batch = batch;
        generate(batch & 2 ? one : three, &g, &other);
        cr_expect(!memcmp(alone.ids, other.ids, sizeof alone.ids), "batch %lld: different tokens",
                  (long long)batch);
        cr_expect(!memcmp(alone.logprob, other.logprob, sizeof alone.logprob),
                  "batch %lld: different log-probabilities", (long long)batch);
    }
    td_session_close(one);
    td_session_close(three);
}

Test(generation, same_answers_in_any_batch)
{
    check_company(dec, "");
    check_company(red, "");
}

Test(generation, same_answers_in_any_company_in_bf16)
{
    check_company(dec, bf16);
    check_company(red, bf16);
}

/* The cache holds what a whole pass computes, so only the order of sums differs. */
Test(generation, cached_is_whole_in_bf16)
{
    td_session   *s = open_model(red, bf16, "backend.threads=2");
    td_generation g = { .max_tokens = 1 };
    answers       cached, whole;
    generate(s, &g, &cached);
    g.no_cache = true;
    generate(s, &g, &whole);
    for (int k = 0; k < PROMPTS; k++)
        cr_expect_float_eq(cached.logprob[k], whole.logprob[k], 0.02);
    td_session_close(s);
}

Test(generation, cached_is_whole)
{
    td_session   *s = open_model(red, "", "backend.threads=2");
    td_generation g = { .max_tokens = TOKENS };
    answers       cached, whole;
    generate(s, &g, &cached);
    g.no_cache = true;
    generate(s, &g, &whole);
    cr_expect(!memcmp(cached.ids, whole.ids, sizeof cached.ids));
    for (int k = 0; k < PROMPTS; k++)
        cr_expect_float_eq(cached.logprob[k], whole.logprob[k], 1e-4);
    td_session_close(s);
}

/* The second call uses the layouts of the first, and a changed parameter makes them out of date. */
Test(generation, again_and_after_a_change)
{
    td_session   *s = open_model(dec, "", "backend.threads=1"), *fresh;
    td_generation g = { .max_tokens = TOKENS };
    answers       first, again, changed, expected;
    td_parameter  p;
    td_error      e = { 0 };
    float        *values;
    generate(s, &g, &first);
    generate(s, &g, &again);
    cr_expect(!memcmp(&first, &again, sizeof first));
    fresh = open_model(dec, "", "backend.threads=1");
    for (int64_t k = 0; k < td_session_parameters(s, &e); k++) {
        cr_assert_eq(td_session_parameter(s, k, &p, &e), 0);
        values = calloc((size_t)p.count, sizeof *values);
        cr_assert_eq(td_session_read(s, p.name, values, p.count, &e), 0);
        for (int64_t i = 0; i < p.count; i++)
            values[i] = -values[i] + 0.01f * (float)(i % 7);
        cr_assert_eq(td_session_write(s, p.name, values, p.count, &e), 0);
        cr_assert_eq(td_session_write(fresh, p.name, values, p.count, &e), 0);
        free(values);
    }
    generate(s, &g, &changed);
    generate(fresh, &g, &expected);
    cr_expect(memcmp(first.ids, changed.ids, sizeof first.ids), "the change changes nothing");
    cr_expect(!memcmp(changed.logprob, expected.logprob, sizeof changed.logprob));
    cr_expect(!memcmp(changed.ids, expected.ids, sizeof changed.ids));
    td_session_close(s);
    td_session_close(fresh);
}

Test(generation, stops)
{
    td_session   *s = open_model(dec, bytes, "backend.threads=2");
    td_generation g = { .max_tokens = TOKENS, .text = count_text, .temperature = 1, .seed = 1 };
    answers       all, cut;
    int32_t       end;
    generate(s, &g, &all);
    cr_expect_gt(all.streamed, 0);
    /* with the third token of prompt 5 as a stop, the answer is the two before it */
    cr_assert_geq(all.n[5], 3);
    end = all.ids[5][2];
    g.stop_ids = &end;
    g.n_stop_ids = 1;
    generate(s, &g, &cut);
    cr_expect(cut.stopped[5]);
    cr_expect_leq(cut.n[5], 2);
    cr_expect(!memcmp(cut.ids[5], all.ids[5], (size_t)cut.n[5] * sizeof(int32_t)));
    td_session_close(s);
}

static void refuse(td_session *s, td_generation g, const td_given *p, const char *what)
{
    td_error e = { 0 };
    answers  out;
    g.answer = keep;
    g.arg = &out;
    cr_expect_eq(td_session_generate(s, &g, p, 1, NULL, &e), TD_ECONFIG, "%s", what);
    cr_expect(strstr(e.text, what), "'%s' instead of '%s'", e.text, what);
}

Test(generation, errors)
{
    td_session   *s = open_model(dec, "", "backend.threads=1");
    int32_t       high = 263;
    td_generation g = { .size = sizeof g };
    refuse(s, (td_generation){ .size = 3 }, &(td_given){ .ids = &high, .n = 0 },
           "td_generation.size is 3");
    refuse(s, g, &(td_given){ .ids = &high, .n = 1 },
           "token 1 is 263; ids are integers from 0 to 262");
    refuse(s, g, &(td_given){ .text = "x" }, "needs a tokenizer");
    g.stop_ids = &high;
    g.n_stop_ids = 1;
    refuse(s, g, &(td_given){ .ids = &high, .n = 0 }, "stop id 263");
    g = (td_generation){ .size = sizeof g, .stops = (const char *const[]){ "x", NULL } };
    refuse(s, g, &(td_given){ .ids = &high, .n = 0 }, "stop strings need a tokenizer");
    g = (td_generation){ .size = sizeof g, .top_p = 2 };
    refuse(s, g, &(td_given){ .ids = &high, .n = 0 }, "top-p 2");
    td_session_close(s);
}
