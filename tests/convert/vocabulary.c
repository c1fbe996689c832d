/* vocabulary.c - a tokenizer.json as keys of GGUF: texts that no tokenizer of ours would let through. */
#include <criterion/criterion.h>

#include "convert/gguf.h"

static void expect_refused(const char *added, const char *why)
{
    char        json[500];
    td_gguf_out out = { 0 };
    td_error    e = { 0 };
    int         code;
    snprintf(json, sizeof json,
             "{\"added_tokens\": [%s], \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
             "\"add_prefix_space\": false}, \"model\": {\"type\": \"BPE\", \"vocab\": {}, "
             "\"merges\": []}}",
             added);
    code = td_gguf_put_vocabulary(&out, json, strlen(json), 7, &e);
    cr_expect(code == TD_EUNSUPPORTED && !out.count, "code %d, %d keys", code, (int)out.count);
    cr_expect(strstr(e.text, why), "'%s' is not in: %s", why, e.text);
    td_gguf_out_free(&out);
}

Test(vocabulary, added_tokens_have_texts_and_ids)
{
    expect_refused("{\"id\": 1, \"content\": 5, \"special\": true}",
                   "an added token without content");
    expect_refused("{\"id\": 1, \"special\": false}", "an added token without content");
    expect_refused("5", "an added token without content");
    expect_refused("{\"id\": 7, \"content\": \"<a>\"}", "has the id 7, but the model has 7 ids");
    expect_refused("{\"content\": \"<a>\"}", "has the id -1");
    expect_refused("{\"id\": 6, \"content\": \"<a>\"}", "it has no tokens for all bytes");
}
