/* check.c - `config check` of incomplete configs: what is present is checked, and what is missing
 * is reported only if something needs it. */
#include "base/text.h"
#include "config.h"

Test(check, a_part_alone_is_accepted)
{
    config_file("data.cfg", "tokenizer = { plugin = \"bytes\"; };\n"
                            "data = { plugin = \"text\"; sources = ( { name = \"a\"; files = ( "
                            "\"a.jsonl\" ); } ); };\n");
    config_file("train.cfg", "train = { steps = 7; };\n");
    config_file("empty.cfg", "# nothing\n");
    config_says(0, "all is well", "check", "-c", "data.cfg");
    config_says(0, "all is well", "check", "-c", "train.cfg");
    config_says(0, "all is well", "check", "-c", "empty.cfg");
    config_says(0, "name = \"a\";", "show", "-c", "data.cfg");
}

Test(check, a_part_alone_is_checked)
{
    config_file("data.cfg", "data = { plugin = \"text\"; sorces = 1; };\n");
    config_file("train.cfg", "train = { steps = -7; };\n");
    config_file("tokenizer.cfg", "tokenizer = { plugin = \"byte\"; };\n");
    config_says(2, "did you mean 'sources'?", "check", "-c", "data.cfg");
    config_says(2, "train.cfg:1: train: option 'steps' is -7, which is out of range", "check", "-c",
                "train.cfg");
    config_says(2, "did you mean 'bytes'?", "check", "-c", "tokenizer.cfg");
}

/* To the line of the option that a rule names, not of its group; rules of a part are reported
 * beside rules across parts. */
Test(check, rules_point_at_an_option)
{
    config_file("a.cfg", CONFIG_SMALL);
    config_file("b.cfg", "extends = \"a.cfg\";\nmodel = {\n  attention = {\n    head_dim = 15;\n"
                         "  };\n};\n");
    config_file("c.cfg", "extends = \"b.cfg\";\nmodel = { attention = {\n  heads = 4;\n"
                         "  kv_heads = 3; }; };\n");
    config_says(2, "b.cfg:4: architecture 'decoder-only': ", "check", "-c", "b.cfg");
    config_says(2, "b.cfg:4: architecture 'decoder-only': ", "check", "-c", "c.cfg");
    config_says(2, "c.cfg:", "check", "-c", "c.cfg");
    config_says(2, "kv_heads", "check", "-c", "c.cfg");
}

Test(check, a_wrong_override_hides_nothing)
{
    config_file("a.cfg", CONFIG_SMALL);
    const char *const wanted[] = { "command line: train.steps: 3000000000 does not fit in 32 bits",
                                   "command line: train: option 'length' is 1, which is out of" };
    for (int k = 0; k < 2; k++)
        config_says(2, wanted[k], "check", "-c", "a.cfg", "train.steps=3000000000",
                    "train.length=1");
    config_says(0, "name = \"5\";", "show", "-c", "a.cfg", "run.name=5");
    config_file("b.cfg", "run = { name = 5; };");
    config_says(2, "is an integer; it takes string, default \"run\": put it in quotes", "check",
                "-c", "b.cfg");
}

Test(check, unknown_keys_are_counted_from_100_on)
{
    td_text text = { 0 };
    td_text_print(&text, "train = {\n");
    for (int k = 0; k < 117; k++)
        td_text_print(&text, "k%d = 1;\n", k);
    td_text_print(&text, "};\n");
    config_file("a.cfg", td_text_get(&text));
    td_text_free(&text);
    config_says(2, "a.cfg:1: train: 17 more options are unknown", "check", "-c", "a.cfg");
    config_says(2, "option 'k99' is unknown", "check", "-c", "a.cfg");
}

Test(check, a_model_needs_a_loss_and_its_data_a_tokenizer)
{
    config_file("model.cfg",
                "model = { plugin = \"decoder-only\"; vocab_size = 11; layers = 1; d_model = 8;"
                " attention = { heads = 2; head_dim = 4; }; ffn = { d_ff = 7; }; };\n");
    config_file("data.cfg", "data = { plugin = \"text\"; sources = ( { name = \"a\"; files = ( "
                            "\"a.jsonl\" ); } ); };\n");
    config_file("loss.cfg", "loss = { plugin = \"causal-lm\"; };\n");
    config_says(2, "group 'loss' must name a plugin", "check", "-c", "model.cfg");
    config_says(2, "group 'tokenizer' must name a plugin", "check", "-c", "model.cfg", "-c",
                "loss.cfg", "-c", "data.cfg");
    config_says(0, "all is well", "check", "-c", "model.cfg", "-c", "loss.cfg");
    config_says(0, "all is well", "check", "-c", "model.cfg", "loss.plugin=causal-lm");
}
