/* differences.c - the settings in which two configs differ, in words. */
#include <criterion/criterion.h>
#include <string.h>

#include "run/differences.h"

static void expect(const char *lines, size_t n, const char *words)
{
    td_text out = { 0 };
    bool    less;
    cr_expect_eq(td_changed_say(lines, "a", &out, &less), n, "%s", lines);
    cr_expect_eq(less, strstr(words, "only 'a' has") != NULL, "%s", lines);
    cr_expect_str_eq(td_text_get(&out), words);
    td_text_free(&out);
}

Test(differences, one_setting_is_one)
{
    expect("", 0, "");
    expect("model.layers: 2 -> 3\n", 1, "model.layers (2 and 3)");
    /* values may have arrows' parts, colons and commas */
    expect("run.note: \"a: b\" -> \"c - d\"\n", 0, "");
    expect("data.files: ( \"a: b\", \"c\" ) -> ()\n", 1, "data.files (( \"a: b\", \"c\" ) and ())");
}

Test(differences, seeds_and_places_are_left_out)
{
    expect("run.name: \"x\" -> \"y\"\ntrain.seed: 1 -> 2\ntrain.weights: \"p\" -> \"q\"\n"
           "train.seed_data: 1 -> 2\n",
           0, "");
}

/* Options of the new plugin come with it; of the base, those that are off do nothing. */
Test(differences, a_plugin_in_place_of_another)
{
    expect("model.attention.plugin: \"softmax\" -> \"mine\"\n"
           "model.attention.window: 0 -> (absent)\n"
           "model.attention.bias: false -> (absent)\n"
           "model.attention.sharpness: (absent) -> 10.0\n",
           1, "model.attention.plugin (\"softmax\" and \"mine\")");
    expect("model.attention.plugin: \"softmax\" -> \"mine\"\n"
           "model.attention.qkv_norm: true -> (absent)\n"
           "model.attention.sharpness: (absent) -> 10.0\n"
           "model.ffn.d_ff: 128 -> 43\n",
           2,
           "model.attention.plugin (\"softmax\" and \"mine\"), model.ffn.d_ff (128 and 43); "
           "only 'a' has model.attention.qkv_norm = true");
    /* what the replaced plugin had is said, but is no setting of its own */
    expect("model.norm.plugin: \"rms\" -> \"mine\"\nmodel.norm.eps: 1e-06 -> (absent)\n", 1,
           "model.norm.plugin (\"rms\" and \"mine\"); only 'a' has model.norm.eps = 1e-06");
    cr_expect_str_eq(td_changed_summary(2, true), "differ in more than one setting");
    cr_expect_null(td_changed_summary(1, false));
    cr_expect(strstr(td_changed_summary(1, true), "in one plugin"));
    /* model.attentions is another group, and one without a plugin */
    expect("model.attention.plugin: \"softmax\" -> \"mine\"\nmodel.attentions.of: 0 -> (absent)\n",
           2,
           "model.attention.plugin (\"softmax\" and \"mine\"), "
           "model.attentions.of (0 and (absent))");
}

Test(differences, many_are_counted)
{
    expect("a.a: 1 -> 2\na.b: 1 -> 2\na.c: 1 -> 2\na.d: 1 -> 2\na.e: 1 -> 2\na.f: 1 -> 2\n"
           "a.g: 1 -> 2\na.h: 1 -> 2\n",
           8,
           "a.a (1 and 2), a.b (1 and 2), a.c (1 and 2), a.d (1 and 2), a.e (1 and 2), "
           "a.f (1 and 2) and 2 more");
}

/* Both were compared with a third, which has what they do not mention. */
Test(differences, between_two_that_were_compared_with_a_third)
{
    td_text out = { 0 };
    td_changed_between("a.same: 1 -> 2\na.one: 1 -> 3\na.both: 1 -> 4\n",
                       "a.same: 1 -> 2\na.both: 1 -> 5\na.other: 7 -> (absent)\n", &out);
    cr_expect_str_eq(td_text_get(&out), "a.one: 3 -> 1\na.both: 4 -> 5\na.other: 7 -> (absent)\n");
    td_text_free(&out);
}
