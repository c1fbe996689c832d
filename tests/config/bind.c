/* bind.c - values to options: defaults, origins, ranges, changes of plugin, and errors that are
 * reported together. */
#include "config.h"

/* ---- options of another plugin --------------------------------------------------------------- */

Test(bind, a_plugin_named_later_drops_options_of_the_default)
{
    /* base.cfg relies on the defaults: attention softmax, position rope */
    config_file("base.cfg",
                "model = { plugin = \"decoder-only\"; vocab_size = 11; layers = 1; d_model = 8;"
                " position = { base = 50.0; };"
                " attention = { heads = 2; head_dim = 4; };"
                " ffn = { plugin = \"relu\"; d_ff = 7; }; };\n"
                "loss = { plugin = \"causal-lm\"; };\n");
    config_file("alibi.cfg",
                "extends = \"base.cfg\"; model = { position = { plugin = \"alibi\"; }; };\n");
    config_file("rope.cfg",
                "extends = \"base.cfg\"; model = { position = { plugin = \"rope\"; }; };\n");
    config_file("none.cfg",
                "extends = \"rope.cfg\"; model = { position = { plugin = \"none\"; }; };\n");
    config_file("t5.cfg", "extends = \"base.cfg\"; model = { position = { plugin = "
                          "\"t5-relative\"; buckets = 8; }; };\n");

    config_says(0, "plugin = \"alibi\";", "show", "-c", "alibi.cfg");
    config_says(0, "base = 50.0;", "show", "-c", "rope.cfg");
    config_says(0, "plugin = \"none\";", "show", "-c", "none.cfg");
    config_says(0, "buckets = 8;", "show", "-c", "t5.cfg");
    config_says(0, "plugin = \"alibi\";", "show", "-c", "base.cfg", "model.position.plugin=alibi");
    config_says(0, "base = 50.0;", "show", "-c", "base.cfg", "model.position.plugin=rope");
}

Test(bind, options_of_the_new_plugin_are_checked)
{
    config_file("base.cfg", CONFIG_SMALL);
    config_file(
        "bad.cfg",
        "extends = \"base.cfg\";\nmodel = { position = { plugin = \"alibi\"; base = 3.0; }; };\n");
    config_says(2, "bad.cfg:2: position 'alibi': option 'base' is unknown", "check", "-c",
                "bad.cfg");
    config_says(2, "command line: position 'alibi': option 'base' is unknown", "check", "-c",
                "base.cfg", "model.position.plugin=alibi", "model.position.base=3.0");
}

Test(bind, two_files_that_meet)
{
    /* a.cfg drops the default's options; b.cfg names the same plugin, and must not bring them
     * back */
    config_file("base.cfg", CONFIG_SMALL "model = { position = { base = 50.0; }; };\n");
    config_file("small.cfg", CONFIG_SMALL);
    config_file("part.cfg", "model = { position = { base = 50.0; }; };\n");
    config_file("a.cfg",
                "extends = \"part.cfg\"; model = { position = { plugin = \"alibi\"; }; };\n");
    config_file("b.cfg", "extends = ( \"small.cfg\", \"a.cfg\" ); model = { position = { plugin = "
                         "\"alibi\"; }; };\n");
    config_file("c.cfg", "extends = ( \"b.cfg\", \"a.cfg\" );\n");
    config_says(0, "plugin = \"alibi\";", "show", "-c", "b.cfg");
    config_says(0, "plugin = \"alibi\";", "show", "-c", "c.cfg");
    config_says(0, "plugin = \"alibi\";", "show", "-c", "small.cfg", "-c", "a.cfg");
}

/* ---- lists of plugins ------------------------------------------------------------------------ */

#define TENSORBOARD_AND_JSONL \
    "run = { loggers = ( \"tensorboard\",\n { plugin = \"jsonl\"; file = \"m.jsonl\"; } ); };\n"

Test(bind, plugins_by_name_or_as_groups)
{
    config_file("none.cfg", CONFIG_SMALL);
    config_file("both.cfg", CONFIG_SMALL TENSORBOARD_AND_JSONL);
    config_says(0, "loggers = ();", "show", "-c", "none.cfg");
    config_says(0, "file = \"metrics.jsonl\";", "show", "-c", "none.cfg",
                "run.loggers=[\"jsonl\"]");
    config_says(0, "folder = \"tensorboard\";", "show", "-c", "none.cfg",
                "run.loggers=tensorboard");
    config_says(0, "folder = \"tensorboard\";", "show", "-c", "both.cfg");
    config_says(0, "set by:  both.cfg:3", "explain", "run.loggers[1].file", "-c", "both.cfg");
    config_says(0, "set by:  default of logger 'tensorboard'", "explain", "run.loggers[0].folder",
                "-c", "both.cfg");
    config_says(0, "takes:   list of plugins of kind logger/1, each a name or a group", "explain",
                "run.loggers", "-c", "none.cfg");
}

/* Rows of a list's table have the size of those of the table that the list is in. */
Test(bind, lists_of_a_module_of_older_headers)
{
    config_file("none.cfg", CONFIG_SMALL "plugin_path = [ \"" TANDEM_FIXTURES "/parts\" ];\n");
    config_says(0, "b = 2.5;", "show", "-c", "none.cfg",
                "run.loggers=({plugin=\"older\";items=({a=3;},{a=4;b=2.5;});})");
    config_says(2, "option 'c' is unknown", "show", "-c", "none.cfg",
                "run.loggers=({plugin=\"older\";items=({a=3;c=1;});})");
}

Test(bind, wrong_lists_of_plugins)
{
    config_file("a.cfg", CONFIG_SMALL);
    config_says(2, "command line: there is no logger 'jsnol'", "check", "-c", "a.cfg",
                "run.loggers=[\"jsnol\"]");
    config_says(2, "logger 'jsonl': option 'flie' is unknown; did you mean 'file'?", "check", "-c",
                "a.cfg", "run.loggers=({plugin=\"jsonl\";flie=\"m\";})");
    config_says(2,
                "command line: run: option 'loggers' contains an integer; each item must be the "
                "name of a plugin, or a group",
                "check", "-c", "a.cfg", "run.loggers=(3)");
    config_says(2, "group 'loggers' must name a plugin of kind logger/1", "check", "-c", "a.cfg",
                "run.loggers=({file=\"m\";})");
    config_says(2, "command line: run.loggers names 'jsonl' twice", "check", "-c", "a.cfg",
                "run.loggers=(\"jsonl\",{plugin=\"jsonl\";file=\"m\";})");
}

/* ---- errors ---------------------------------------------------------------------------------- */

Test(bind, errors_are_reported_together)
{
    static const char *const wanted[] = {
        "bad.cfg:2: architecture 'decoder-only': option 'd_model' is a string",
        "bad.cfg:3: attention 'softmax': option 'head' is unknown; did you mean 'heads'?",
        "bad.cfg:4: train: option 'dropout' is 2, which is out of range",
        "bad.cfg:5: 'evalute' is unknown; did you mean 'evaluate'?",
        "command line: train: option 'steps' is a string",
    };
    config_file("base.cfg", CONFIG_SMALL);
    config_file("bad.cfg",
                "extends = \"base.cfg\";\nmodel = { d_model = \"wide\";\n"
                "attention = { head = 3; }; };\ntrain = { dropout = 2; };\nevalute = { };\n");
    child c = config_run("check", (const char *[]){ "-c", "bad.cfg", "train.steps=many", NULL });
    cr_expect_eq(c.code, 2);
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        cr_expect(strstr(c.err, wanted[k]), "wanted '%s' in:\n%s", wanted[k], c.err);
    child_free(&c);
}

Test(bind, integers_for_floats_but_not_the_other_way)
{
    config_file("base.cfg", CONFIG_SMALL);
    config_says(0, "clip = 3.0;", "show", "-c", "base.cfg", "train.clip=3");
    config_says(2, "option 'steps' is a float", "check", "-c", "base.cfg", "train.steps=3.0");
    config_says(2, "option 'pack' is an integer", "check", "-c", "base.cfg", "train.pack=1");
    config_says(2, "'train' is an integer; it must be a group", "check", "-c", "base.cfg",
                "train=1");
}

Test(bind, defaults_name_their_owner)
{
    config_file("base.cfg", CONFIG_SMALL);
    config_says(0, "set by:  default of position 'rope'", "explain", "model.position.base", "-c",
                "base.cfg");
    config_says(0, "takes:   ", "explain", "model.position.base", "-c", "base.cfg");
    config_says(0, "set by:  default of train", "explain", "train.clip", "-c", "base.cfg");
}
