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

/* One line changes the plugin, and nothing else that the new one knows in the same way. */
Test(bind, another_plugin_keeps_what_both_declare_the_same)
{
    config_file("base.cfg",
                "model = { plugin = \"decoder-only\"; vocab_size = 11; layers = 1; d_model = 8;"
                " attention = { plugin = \"softmax\"; heads = 2; head_dim = 4; window = 3; };"
                " ffn = { d_ff = 7; }; };\n"
                "loss = { plugin = \"causal-lm\"; z_loss = 0.5; };\n"
                "optimizer = { plugin = \"adafactor\"; clip_threshold = 2.0; groups = ( { match = "
                "\"*\"; } ); };\n");
    config_file("linear.cfg", "model = { attention = { plugin = \"linear\"; }; };\n");
    config_file("window.cfg",
                "model = { attention = { plugin = \"sliding-window\"; window = 2; }; };\n");
    config_file("loss.cfg", "loss = { plugin = \"prefix-lm\"; };\n");
    config_file("adamw.cfg", "optimizer = { plugin = \"adamw\"; };\n");

    config_says(0, "head_dim = 4;", "show", "-c", "base.cfg", "-c", "linear.cfg");
    config_says(0, "z_loss = 0.5;", "show", "-c", "base.cfg", "-c", "loss.cfg");
    /* the host's keys mean the same for every plugin */
    config_says(0, "match = \"*\";", "show", "-c", "base.cfg", "-c", "adamw.cfg");
    config_says(0, "window = 2;", "show", "-c", "base.cfg", "-c", "window.cfg");
    /* what another plugin was given between counts as the first's */
    config_says(0, "head_dim = 4;", "show", "-c", "base.cfg", "-c", "linear.cfg", "-c",
                "window.cfg");
}

static void expect_note(const char *overlay, const char *note)
{
    child c = config_run("show", (const char *[]){ "-c", "base.cfg", "-c", overlay, NULL });
    cr_expect_eq(c.code, 0, "%s", c.err);
    cr_expect(*note ? strstr(c.err, note) != NULL : !*c.err, "wanted '%s' in:\n%s", note, c.err);
    child_free(&c);
}

Test(bind, a_change_of_plugin_is_reported)
{
    config_file("base.cfg", CONFIG_SMALL);
    config_file("linear.cfg", "\nmodel = { attention = { plugin = \"linear\"; heads = 1; }; };\n");
    config_file("encoder.cfg", "model = { plugin = \"encoder-decoder\"; encoder_layers = 1;"
                               " decoder_layers = 1; };\nloss = { plugin = \"prefix-lm\"; };\n");
    config_file("same.cfg", "model = { attention = { plugin = \"softmax\"; heads = 1; }; };\n");
    expect_note("linear.cfg",
                "linear.cfg:2: model.attention: 'linear' in place of 'softmax' keeps head_dim\n");
    expect_note("encoder.cfg", "encoder.cfg:1: model: 'encoder-decoder' in place of 'decoder-only' "
                               "keeps vocab_size, d_model, attention, ffn; drops layers\n");
    expect_note("same.cfg", "");
    /* a file that changes what it extends says so, one that puts others together does not */
    config_file("small.cfg", CONFIG_SMALL);
    config_file("empty.cfg", "");
    config_file("base.cfg", "extends = [ \"small.cfg\", \"linear.cfg\" ];\n");
    expect_note("empty.cfg", "");
    config_file("base.cfg", "extends = \"small.cfg\";\nmodel = { attention = { plugin = "
                            "\"linear\"; }; };\n");
    expect_note("empty.cfg",
                "base.cfg:2: model.attention: 'linear' in place of 'softmax' keeps heads, "
                "head_dim\n");
}

/* A value that was written is meant, whatever the two plugins have by default; it goes only where the
 * new one cannot take it. */
Test(bind, what_was_set_stays_whatever_the_default)
{
    config_file("small.cfg", CONFIG_SMALL);
    config_file("base.cfg", "extends = \"small.cfg\";\nmodel = { attention = { window = 0; }; };\n"
                            "optimizer = { plugin = \"adafactor\"; beta1 = 0.7; };\n");
    config_file("differential.cfg", "model = { attention = { plugin = \"differential\"; }; };\n");
    config_file("window.cfg", "model = { attention = { plugin = \"sliding-window\"; }; };\n");
    config_file("adamw.cfg", "optimizer = { plugin = \"adamw\"; };\n");
    config_says(0, "heads = 2;", "show", "-c", "base.cfg", "-c", "differential.cfg");
    expect_note("differential.cfg", "keeps heads = 2 (its default: 4)");
    config_says(0, "beta1 = 0.7;", "show", "-c", "base.cfg", "-c", "adamw.cfg");
    expect_note("adamw.cfg",
                "'adamw' in place of 'adafactor' keeps beta1 = 0.7 (its default: 0.9)");
    expect_note("window.cfg", "keeps heads, head_dim; drops window (now 4096)");
    /* a mistake stays one */
    config_file("base.cfg",
                "extends = \"small.cfg\";\nmodel = { attention = { heads = \"many\"; }; };\n");
    config_says(2, "attention 'differential': option 'heads' is a string", "check", "-c",
                "base.cfg", "-c", "differential.cfg");
}

/* Looking at a config loads nothing that only the config names. */
Test(bind, a_plugin_path_is_followed_only_if_trusted)
{
    config_file("a.cfg", CONFIG_SMALL "plugin_path = \"" TANDEM_FIXTURES "/parts\";\n"
                                      "run = { loggers = ( \"older\" ); };\n");
    config_says(2, "there is no logger 'older'", "check", "-c", "a.cfg");
    config_says(2, "plugin_path is followed only with --trust", "explain", "run", "-c", "a.cfg");
    config_says(0, "plugin = \"older\";", "show", "--trust", "-c", "a.cfg");
    config_says(0, "all is well", "check", "--plugin-path", TANDEM_FIXTURES "/parts", "-c",
                "a.cfg");
    child c = config_run("check", (const char *[]){ "--trust", "-c", "a.cfg", NULL });
    cr_expect(strstr(c.err, "loading module '" TANDEM_FIXTURES "/parts/logger-older.so' ("), "%s",
              c.err);
    child_free(&c);
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

/* The rows of a list's table are as long as those of the table that contains the list. */
Test(bind, lists_of_a_module_of_older_headers)
{
    config_file("none.cfg", CONFIG_SMALL "plugin_path = [ \"" TANDEM_FIXTURES "/parts\" ];\n");
    config_says(0, "b = 2.5;", "show", "--trust", "-c", "none.cfg",
                "run.loggers=({plugin=\"older\";items=({a=3;},{a=4;b=2.5;});})");
    config_says(2, "option 'c' is unknown", "show", "--trust", "-c", "none.cfg",
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
    config_says(2, "group 'loggers' must name a plugin of kind logger:", "check", "-c", "a.cfg",
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

Test(bind, whole_numbers_in_either_form)
{
    config_file("base.cfg", CONFIG_SMALL);
    config_file("float.cfg", "extends = \"base.cfg\";\ntrain = { batch = 6.0; };\n");
    config_says(0, "clip = 3.0;", "show", "-c", "base.cfg", "train.clip=3");
    config_says(0, "steps = 3000;", "show", "-c", "base.cfg", "train.steps=3e3");
    config_says(0, "batch = 6;", "show", "-c", "float.cfg");
    config_says(2, "option 'steps' is a float", "check", "-c", "base.cfg", "train.steps=3.5");
    config_says(2, "option 'steps' is a float", "check", "-c", "base.cfg", "train.steps=1e17");
    config_says(2, "option 'batch' is 0, which is out of range", "check", "-c", "base.cfg",
                "train.batch=0.0");
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

/* ---- steps of the run ------------------------------------------------------------------------ */

#define COSINE                                                                                  \
    CONFIG_SMALL "schedule = { plugin = \"cosine\"; warmup = 0.29; };\ntrain = { steps = 100; " \
                 "};\n"

Test(bind, a_schedule_follows_the_steps_of_the_run)
{
    config_file("a.cfg", COSINE);
    config_says(0, "steps = 100;  ", "show", "--origins", "-c", "a.cfg");
    config_says(0, "set by:  train.steps", "explain", "schedule.steps", "-c", "a.cfg");
    /* 0.29 times 100 is a little less than 29 in binary */
    config_says(0, "warmup = 29;", "show", "-c", "a.cfg");
    config_says(0, "set by:  a.cfg:", "explain", "schedule.warmup", "-c", "a.cfg");
    config_says(0, "0.29 of train.steps", "explain", "schedule.warmup", "-c", "a.cfg");
    config_says(0, "warmup = 58;", "show", "-c", "a.cfg", "train.steps=200");
    config_says(0, "warmup = 7;", "show", "-c", "a.cfg", "schedule.warmup=7");
    config_says(0, "steps = 70;", "show", "-c", "a.cfg", "schedule.steps=70");
    config_says(0, "steps = 50;", "show", "-c", "a.cfg", "schedule.steps=0.5");
    config_says(2, "warmup = 100 leaves no step before steps = 100", "check", "-c", "a.cfg",
                "schedule.warmup=100");
    config_says(2, "option 'warmup' is a float", "check", "-c", "a.cfg", "schedule.warmup=1.5");
    config_says(2, "option 'warmup' is a float", "check", "-c", "a.cfg", "schedule.warmup=1.0");
    config_says(0, "warmup = 7;", "show", "-c", "a.cfg", "schedule.warmup=7.0");
    config_says(0, "warmup = 290;", "show", "-c", "a.cfg", "train.steps=1e3");
    config_says(0, "decay_steps = 10;", "show", "-c", "a.cfg", "schedule.plugin=wsd");
}

/* A run that is cut short or extended keeps the warm-up of a schedule with its own length. */
Test(bind, shares_of_a_schedule_with_its_own_length_are_of_that)
{
    config_file("a.cfg", COSINE);
    config_says(0, "warmup = 203;", "show", "-c", "a.cfg", "schedule.steps=700");
    config_says(0, "warmup = 203;", "show", "-c", "a.cfg", "schedule.steps=700", "train.steps=37");
    config_says(0, "0.29 of steps = 700", "explain", "schedule.warmup", "-c", "a.cfg",
                "schedule.steps=700");
    config_says(0, "steps = 50;", "show", "-c", "a.cfg", "schedule.steps=0.5");
    config_says(0, "warmup = 14;", "show", "-c", "a.cfg", "schedule.steps=0.5");
    config_says(0, "decay_steps = 70;", "show", "-c", "a.cfg", "schedule.plugin=wsd",
                "schedule.steps=700");
    /* also where a budget decides how long the run is */
    config_says(0, "0.29 of steps = 700", "show", "--origins", "-c", "a.cfg", "schedule.steps=700",
                "train.target_tokens=1e6");
    config_says(2, "option 'steps' is 0", "check", "-c", "a.cfg", "schedule.steps=0");
}

Test(bind, one_key_sets_the_length)
{
    config_file("a.cfg", COSINE);
    config_file("b.cfg", "extends = \"a.cfg\";\ntrain = { target_tokens = 1e6; };\n");
    config_file("c.cfg", "extends = \"b.cfg\";\ntrain = { steps = 40; };\n");
    /* a later file replaces an earlier one's key, whichever it is */
    config_says(0, "# steps = ?;", "show", "-c", "b.cfg");
    config_says(0, "warmup = 0.29;", "show", "-c", "b.cfg");
    config_says(0, "target_tokens = 0.0;", "show", "-c", "c.cfg");
    config_says(0, "warmup = 11;", "show", "-c", "c.cfg");
    config_says(0, "flops = 3.0;", "show", "-c", "b.cfg", "train.flops=3");
    config_says(0, "steps = 5;", "show", "-c", "b.cfg", "train.steps=5");
    config_says(0, "steps = 5;", "show", "-c", "a.cfg", "train.steps=5", "train.flops=0");
    config_says(2, "train.steps and train.target_tokens both set the length of the run", "check",
                "-c", "a.cfg", "train.steps=5", "train.target_tokens=5");
    config_says(2, "train.target_tokens and train.flops both set the length of the run", "check",
                "-c", "a.cfg", "train.flops=5", "train.target_tokens=5");
}

/* The printed config is equivalent to the original. */
Test(bind, a_budget_resolves_to_itself)
{
    config_file("a.cfg", COSINE);
    child c = config_run("show", (const char *[]){ "-c", "a.cfg", "train.target_tokens=9", NULL });
    child again;
    cr_assert_eq(c.code, 0, "%s", c.err);
    config_file("shown.cfg", c.out);
    again = config_run("show", (const char *[]){ "-c", "shown.cfg", NULL });
    cr_expect_str_eq(again.out, c.out);
    child_free(&c);
    child_free(&again);
}
