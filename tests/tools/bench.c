/* bench.c - `tandem bench` counts real tokens and no padding, wherever the loss splits. */
#include "child.h"

#include <math.h>

/* Tokens of a step of five sequences. */
static double tokens_of(const char *config, const char *split)
{
    char        path[500];
    const char *argv[] = { TANDEM_BINARY,
                           "bench",
                           "-c",
                           path,
                           "--json",
                           "--seconds",
                           "0.01",
                           "model.d_model=32",
                           "model.attention.heads=2",
                           "model.attention.head_dim=16",
                           "model.ffn.d_ff=41",
                           "model.vocab_size=211",
                           "train.length=77",
                           "train.batch=5",
                           "train.micro_batch=5",
                           split,
                           NULL };
    child       c;
    json_t     *j;
    double      tokens;

    snprintf(path, sizeof path, "%s/configs/nano/%s.cfg", TANDEM_SOURCE, config);
    c = child_run(argv);
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    tokens = json_real_value(json_object_get(j, "tokens_per_second")) *
             json_real_value(json_object_get(j, "seconds_per_step"));
    json_decref(j);
    child_free(&c);
    return tokens;
}

Test(bench, tokens_without_padding)
{
    cr_expect_float_eq(tokens_of("redllm", "loss.prefix=8"), 5 * 77, 1e-6);
    cr_expect_float_eq(tokens_of("redllm", "loss.split=random"), 5 * 77, 1e-6);
    cr_expect_float_eq(tokens_of("decllm", "train.bucket=64"), 5 * 77, 1e-6);
    cr_expect_float_eq(tokens_of("redllm", "loss.plugin=span-corruption"), 5 * 77, 1e-6);
}

/* Options that would have no effect are refused. */
Test(bench, options_of_generation_need_it)
{
    static const char *const options[] = { "--batch", "--prompt-tokens", "--max-new-tokens",
                                           "--out" };
    for (int k = 0; k < 4; k++) {
        child c = child_run((const char *[]){ TANDEM_BINARY, "bench", "-c",
                                              TANDEM_SOURCE "/configs/nano/redllm.cfg", options[k],
                                              "1", NULL });
        cr_expect_eq(c.code, 2);
        cr_expect(strstr(c.err, "is an option of `tandem bench --generate`"), "%s", c.err);
        child_free(&c);
    }
}
