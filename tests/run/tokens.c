/* tokens.c - texts as tokens and back, and the tokens of a prompt and its answer. */
#include "session.h"

TestSuite(tokens, .init = setup, .fini = teardown);

static const char encoder_decoder[] =
    "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 24; encoder_layers = 1;\n"
    "  decoder_layers = 1; attention = { plugin = \"softmax\"; heads = 2; head_dim = 12; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
    "  ffn = { plugin = \"swiglu\"; d_ff = 32; }; };\n";

Test(tokens, there_and_back)
{
    static const char text[] = "a\0b\xC3\xA9"; /* bytes, whatever they are */
    td_session       *s = must_open(TD_PURPOSE_TRAIN, "a");
    td_error          e = { 0 };
    const int32_t    *ids;
    int64_t           n;
    size_t            size;
    const char       *back;

    cr_assert_eq(td_session_encode(s, text, 5, &ids, &n, &e), 0, "%s", e.text);
    cr_assert_eq(n, 5, "the tokenizer 'bytes' has a token for each byte");
    back = td_session_decode(s, ids, n, &size, &e);
    cr_assert(back, "%s", e.text);
    cr_expect(size == 5 && !memcmp(back, text, 6), "with a 0 behind it");
    cr_assert_eq(td_session_encode(s, "", 0, &ids, &n, &e), 0, "%s", e.text);
    cr_expect_eq(n, 0);
    back = td_session_decode(s, ids, 0, &size, &e);
    cr_expect(back && !*back && size == 0);
    td_session_close(s);
}

Test(tokens, ids_outside_the_vocabulary)
{
    td_session *s = must_open(TD_PURPOSE_TRAIN, "a");
    td_error    e = { 0 };
    size_t      size;
    int32_t     id = 263;
    cr_expect(!td_session_decode(s, &id, 1, &size, &e) && e.code && *e.text);
    e = (td_error){ 0 };
    cr_expect(!td_session_decode(s, &id, -1, &size, &e) && e.code == TD_ECONFIG);
    td_session_close(s);
}

/* The answer has the white space before it, and is never empty. */
Test(tokens, a_prompt_and_its_answer)
{
    td_session *s = must_open(TD_PURPOSE_TRAIN, "a");
    td_error    e = { 0 };
    td_scored   pair;
    size_t      size;

    cr_assert_eq(td_session_encode_pair(s, "two plus two \n", "is", &pair, &e), 0, "%s", e.text);
    cr_expect_eq(pair.n_given, 12);
    cr_expect_eq(pair.n_target, 4);
    cr_expect_str_eq(td_session_decode(s, pair.target, pair.n_target, &size, &e), " \nis");
    cr_assert_eq(td_session_encode_pair(s, "", "is", &pair, &e), 0, "%s", e.text);
    cr_expect_eq(pair.n_given, 1, "the token that begins a text");
    cr_expect(td_session_encode_pair(s, "a", "", &pair, &e) == TD_ECONFIG && !pair.target);
    cr_expect(strstr(e.text, "has no tokens"), "%s", e.text);
    td_session_close(s);
}

Test(tokens, scores_of_a_pair)
{
    td_session *s = must_open(TD_PURPOSE_TRAIN, "a");
    td_error    e = { 0 };
    td_scored   pair;
    cr_assert_eq(td_session_encode_pair(s, "ab", "cde", &pair, &e), 0, "%s", e.text);
    cr_assert_eq(td_session_score(s, &pair, 1, NULL, NULL, &e), 0, "%s", e.text);
    cr_expect(pair.logprob < -3 * 4 && pair.logprob > -3 * 8, "three tokens near ln 263: %g",
              pair.logprob);
    td_session_close(s);
}

Test(tokens, without_a_tokenizer)
{
    const char *const  only[] = { encoder_decoder, NULL };
    td_session_options o = { .size = sizeof o, .purpose = TD_PURPOSE_GENERATE, .texts = only };
    td_error           e = { 0 };
    td_session        *s = td_session_open(&o, &e);
    const int32_t     *ids;
    int64_t            n;
    td_scored          pair;
    cr_assert(s, "%s", e.text);
    cr_expect_eq(td_session_encode(s, "a", 1, &ids, &n, &e), TD_ECONFIG);
    cr_expect(strstr(e.text, "add the group tokenizer") && !ids && !n, "%s", e.text);
    cr_expect_eq(td_session_encode_pair(s, "a", "b", &pair, NULL), TD_ECONFIG);
    td_session_close(s);
}
