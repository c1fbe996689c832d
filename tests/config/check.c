/* check.c - `config check` of incomplete configs: the parts that are present are checked, and a
 * missing one is reported only if something needs it. */
#include "base/text.h"
#include "config.h"

Test(check, a_part_alone_is_accepted)
{
    config_file("data.cfg", "tokenizer = { plugin = \"bytes\"; };\n"
                            "data = { plugin = \"text\"; sources = ( { name = \"a\"; files = ( "
                            "\"a.jsonl\" ); } ); };\n");
    config_file("train.cfg", "train = { steps = 7; };\n");
    config_file("empty.cfg", "# nothing\n");
    config_says(0, "all is well", "check", "--quick", "-c", "data.cfg");
    config_says(2, "data source 'a': no file matches 'a.jsonl'", "check", "-c", "data.cfg");
    config_file("a.jsonl", "{\"text\": \"one\"}\n");
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

/* A broken rule points to the line of the option that it names, not to its group; the rules of a
 * part are reported together with rules across parts. */
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

static void expect_all(const char *const *wanted, const char *const *arguments)
{
    child c = config_run("check", arguments);
    cr_expect_eq(c.code, 2, "%s%s", c.out, c.err);
    for (int k = 0; wanted[k]; k++)
        cr_expect(strstr(c.err, wanted[k]), "no '%s' in:\n%s", wanted[k], c.err);
    child_free(&c);
}

/* What only shows when files are opened and the model is built is reported together, too. */
Test(check, finds_what_train_would_refuse)
{
    config_file("a.cfg", CONFIG_SMALL
                "tokenizer = { plugin = \"bytes\"; };\n"
                "data = { plugin = \"text\"; sources = ( { name = \"a\"; files = ( \"a.jsonl\" );"
                " held_out = ( \"b.jsonl\" ); } ); };\n"
                "train = { weights = \"gone\"; };\n");
    config_file("a.jsonl", "{\"text\": \"one\"}\n");
    expect_all((const char *[]){ "tokenizer 'bytes' has 259 ids, more than model.vocab_size = 11",
                                 "data source 'a': no file matches 'b.jsonl'",
                                 "train.weights: there is no file, checkpoint or run 'gone'",
                                 NULL },
               (const char *[]){ "-c", "a.cfg", NULL });
    expect_all((const char *[]){ "'a.jsonl' is held out by held_out", NULL },
               (const char *[]){
                   "-c", "a.cfg",
                   "data.sources=({name=\"a\";files=\"a.jsonl\";held_out=\"a.jsonl\";})", NULL });
    config_file("empty.jsonl", "");
    expect_all((const char *[]){ "data source 'a' has no text: there is none in 'empty.jsonl'",
                                 NULL },
               (const char *[]){ "-c", "a.cfg",
                                 "data.sources=({name=\"a\";files=\"empty.jsonl\";})", NULL });
    /* no document in a file that is not empty */
    config_file("blank.jsonl", "\n{\"text\": \"\"}\n  \n");
    expect_all((const char *[]){ "data source 'a' has no text: there is none in 'blank.jsonl'",
                                 NULL },
               (const char *[]){ "-c", "a.cfg",
                                 "data.sources=({name=\"a\";files=\"blank.jsonl\";})", NULL });
    /* every source, not only the first */
    expect_all((const char *[]){ "data source 'a': no file matches 'no.jsonl' (searched from",
                                 "\ndata source 'a': no file matches 'nor*'\n",
                                 "data source 'c': no file matches 'never.txt'",
                                 "'a.jsonl' is held out by held_out", NULL },
               (const char *[]){
                   "-c", "a.cfg",
                   "data.sources=({name=\"a\";files=(\"no.jsonl\");held_out=\"nor*\";},"
                   "{name=\"b\";files=\"a.jsonl\";held_out=\"a.jsonl\";},"
                   "{name=\"c\";files=\"never.txt\";})",
                   NULL });
    /* not a model's: found by its names and shapes */
    config_file("gone", "no tensors");
    expect_all((const char *[]){ "gone", NULL }, (const char *[]){ "-c", "a.cfg", NULL });
    cr_expect(access("runs", F_OK), "it has written something");
}
