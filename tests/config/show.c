/* show.c - resolved configs as text: explain, diff and show, whose output is a config again. */
#include "config.h"

Test(show, explain_names_the_file)
{
    config_file("a.cfg", CONFIG_SMALL);
    config_file("b.cfg", "extends = \"a.cfg\";\n\ntrain = { steps = 13; };\n");
    config_says(0, "train.steps = 13\n", "explain", "train.steps", "-c", "b.cfg");
    config_says(0, "set by:  b.cfg:3", "explain", "train.steps", "-c", "b.cfg");
    config_says(0, "set by:  a.cfg:1", "explain", "model.ffn.d_ff", "-c", "b.cfg");
    config_says(0, "owner:   ffn 'swiglu'", "explain", "model.ffn.d_ff", "-c", "b.cfg");
    config_says(0, "set by:  command line", "explain", "train.steps", "-c", "b.cfg",
                "train.steps=17");
    config_says(2, "there is no key 'train.stesp'; did you mean 'train.steps'?", "explain",
                "train.stesp", "-c", "b.cfg");
    config_says(2, "`tandem config explain train` lists the keys of that group", "explain",
                "train.lr", "-c", "b.cfg");
    config_says(2, "'plugin_path'; `tandem config show` lists the keys of this config", "explain",
                "plugin_path", "-c", "b.cfg");
}

/* A group: its plugin or table, then a line for each key, group and list in it. */
Test(show, explain_takes_groups)
{
    config_file("a.cfg",
                CONFIG_SMALL "tokenizer = { plugin = \"bytes\"; };\n"
                             "data = { plugin = \"text\"; sources = ( { name = \"a\"; files "
                             "= ( \"f\" ); } ); };\ntrain = { steps = 13; };\n");
    config_says(0,
                "model.attention: attention 'softmax', multi-head softmax attention, with "
                "optional grouped heads and norms\n  set by:  default of attention 'softmax'\n\n"
                "  heads = 2                     query heads\n",
                "explain", "model.attention", "-c", "a.cfg");
    config_says(0, "\n  ffn = { .. }                  ffn 'swiglu'\n", "explain", "model", "-c",
                "a.cfg");
    config_says(0,
                "train: options of tandem itself, not of a plugin\n\n"
                "  steps = 13                    updates of the parameters\n",
                "explain", "train", "-c", "a.cfg");
    config_says(0, "\n  sources = ( .. )              sources to read\n", "explain", "data", "-c",
                "a.cfg");
    config_says(0, "data.sources: sources to read\n\n  [0] = { .. }\n", "explain", "data.sources",
                "-c", "a.cfg");
    config_says(0, "data.sources[0]: an item of the list\n\n  name = \"a\"  ", "explain",
                "data.sources[0]", "-c", "a.cfg");
    config_says(2, "there is no key 'model.atention'; did you mean 'model.attention'?", "explain",
                "model.atention", "-c", "a.cfg");
    child c = config_run("explain", (const char *[]){ "model.position", "-c", "a.cfg",
                                                      "model.position.plugin=none", NULL });
    cr_expect(strstr(c.out, "model.position: position 'none', ") && strstr(c.out, "  set by:  ") &&
                  !strstr(c.out, "\n\n"),
              "%s", c.out);
    child_free(&c);
}

Test(show, diff)
{
    config_file("a.cfg", CONFIG_SMALL "train = { steps = 3; };\n");
    config_file("b.cfg", "extends = \"a.cfg\"; train = { steps = 5; }; model = { position = { "
                         "plugin = \"none\"; }; };\n");
    config_says(0, "train.steps: 3 -> 5\n", "diff", "-c", "a.cfg", "-c", "b.cfg");
    config_says(0, "model.position.plugin: \"rope\" -> \"none\"\n", "diff", "-c", "a.cfg", "-c",
                "b.cfg");
    config_says(0, "model.position.base: 10000.0 -> (absent)\n", "diff", "-c", "a.cfg", "-c",
                "b.cfg");
    config_says(0, "model.position.base: (absent) -> 10000.0\n", "diff", "-c", "b.cfg", "-c",
                "a.cfg");
    config_says(2, "diff compares two configs", "diff", "-c", "a.cfg");
    child c = config_run("diff", (const char *[]){ "-c", "a.cfg", "-c", "a.cfg", NULL });
    cr_expect_str_eq(c.out, "");
    child_free(&c);
}

Test(show, origins)
{
    config_file("a.cfg", CONFIG_SMALL "train = { steps = 3; };\n");
    child       c = config_run("show", (const char *[]){ "--origins", "-c", "a.cfg", NULL });
    const char *line = strstr(c.out, "  steps = 3;");
    cr_assert(line, "%s", c.out);
    cr_expect_eq(strcspn(line, "#"), 48);
    cr_expect(!strncmp(line + 48, "# a.cfg:2\n", 10), "%s", line);
    child_free(&c);
}

/* Strings with everything that must be escaped, wide integers, floats of 17 digits, empty lists. */
Test(show, shown_configs_can_be_read_again)
{
    config_file("a.cfg", CONFIG_SMALL
                "run = { name = \"a\"; dir = \"tab\\t quote\\\" back\\\\slash\\n bell\\x07 "
                "\xc3\xa9\"; loggers "
                "= ( \"tensorboard\", { plugin = \"jsonl\"; file = \"m\"; } ); };\n"
                "optimizer = { plugin = \"sgd\"; groups = (); };\n"
                "tokenizer = { plugin = \"bytes\"; }; data = { plugin = \"text\"; "
                "sources = ({ name = \"a\"; files = (\"f\"); }); max_bad_lines = 5000000000L; };\n"
                "train = { clip = 0.30000000000000004; spike = 1e9; };\n");
    for (int origins = 0; origins < 2; origins++) {
        child once = config_run("show", (const char *[]){ "-c", "a.cfg",
                                                          origins ? "--origins" : NULL, NULL });
        cr_assert_eq(once.code, 0, "%s", once.err);
        config_file("b.cfg", once.out);
        child plain = config_run("show", (const char *[]){ "-c", "a.cfg", NULL });
        child twice = config_run("show", (const char *[]){ "-c", "b.cfg", NULL });
        cr_expect_str_eq(twice.out, plain.out, "%s", twice.err);
        cr_expect(strstr(plain.out, "max_bad_lines = 5000000000L;") &&
                      strstr(plain.out, "clip = 0.30000000000000004;"),
                  "%s", plain.out);
        for (const char *p = plain.out; *p; p++)
            cr_expect(*p == '\n' || (unsigned char)*p >= ' ', "a control character %d", *p);
        child_free(&once);
        child_free(&plain);
        child_free(&twice);
    }
}
