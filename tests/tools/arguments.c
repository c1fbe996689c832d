/* arguments.c - no argument is ignored: an unknown, repeated or useless one is an error, with
 * exit code 2. */
#include "child.h"

static child run(const char *arguments)
{
    char command[16000];
    snprintf(command, sizeof command, "cd /tmp && '%s' %s", TANDEM_BINARY, arguments);
    return child_run((const char *[]){ "sh", "-c", command, NULL });
}

static void expect(int code, const char *arguments, const char *says)
{
    child c = run(arguments);
    cr_expect_eq(c.code, code, "%.200s: exit code %d: %s", arguments, c.code, c.err);
    cr_expect(strstr(c.err, says), "%.200s: expected '%s' in: %s", arguments, says, c.err);
    child_free(&c);
}

#define NANO "-c '" TANDEM_SOURCE "/configs/nano/decllm.cfg' "

Test(arguments, of_plugins)
{
    expect(2, "plugins matrix extra", "matrix takes no argument: unexpected 'extra'");
    expect(2, "plugins list norm extra", "list takes at most one kind: unexpected 'extra'");
    expect(2, "plugins show norm rms --json", "--json is for list only");
    expect(2, "plugins check", "no module given: tandem plugins check FILE.so");
    expect(2, "plugins check x.so --only nothing", "unknown test 'nothing'; --tests lists them");
    expect(2, "plugins check x.so --here", "--here needs exactly one file, --plugin and --only");
    expect(2, "plugins check x.so --time-limit soon",
           "--time-limit must be a number above 0 and at most 1000000000, not 'soon'");
    expect(2, "plugins nothing", "'nothing' is not one of list, show, matrix, check");
    expect(2, "plugins --plugin-path no-such", "cannot look for plugins in 'no-such': No such");
    expect(2, "plugins --plugin-path /dev/null", "cannot look for plugins in '/dev/null': Not a d");
}

Test(arguments, of_config)
{
    expect(2, "config " NANO "bogus", "'bogus' is not one of show, explain, diff, check");
    expect(2, "config " NANO "check bogus", "check takes no argument: unexpected 'bogus'");
    expect(2, "config " NANO "check --origins", "only show takes --origins");
    expect(2, "config " NANO "explain", "explain takes one key");
    expect(2, "config " NANO "check 'plugin_path=(\"no-such\", \"nor-this\")'",
           "cannot look for plugins in 'nor-this': No such file");
    expect(2, "config " NANO "check 'plugin_path=\"no-such\"'",
           "command line: plugin_path: cannot look for plugins in 'no-such': No such file");
    expect(2, "config " NANO "--plugin-path no-such", "cannot look for plugins in 'no-such'");
}

/* Other tools' names for our options, and keys written like options. */
Test(arguments, of_other_tools)
{
    expect(2, "train " NANO "--train.steps=10", "keys have no dashes: write train.steps=VALUE");
    expect(2, "train " NANO "--bf16", "the key for that is train.precision (bf16): write key=");
    expect(2, "train " NANO "--max-length 7", "the key for that is train.length: write key=VALUE");
    expect(2, "train " NANO "--resume_from_checkpoint x", "did you mean '--resume'?");
    expect(2, "generate x --max-length 7", "did you mean '--max-new-tokens'?");
    expect(2, "generate x --do_sample", "did you mean '--temperature'?");
}

Test(arguments, help_of_a_command)
{
    child a = run("help train"), b = run("train --help"), c = run("help plugins new"),
          d = run("plugins new --help"), e;
    cr_expect(a.code == 0 && !strcmp(a.out, b.out) && strstr(a.out, "usage: tandem train"), "%s",
              a.out);
    cr_expect(c.code == 0 && !strcmp(c.out, d.out) && strstr(c.out, "usage: tandem plugins new"),
              "%s", c.out);
    /* brackets within brackets are printed whole */
    e = run("evaluate --help");
    cr_expect(strstr(e.out, "[--extrapolate | --tasks NAMES [--shots N]]"), "%s", e.out);
    child_free(&e);
    expect(2, "help trian", "unknown command 'trian'; did you mean 'train'?");
    child_free(&a);
    child_free(&b);
    child_free(&c);
    child_free(&d);
}

/* Options of other tools are answered with keys, and --allow takes several values. */
Test(arguments, of_train)
{
    expect(2, "train quickstart/redllm", "did you mean the config 'quickstart/redllm.cfg'?");
    expect(2, "study run quick", "did you mean the config 'studies/quick.cfg'?");
    expect(2, "study run", "no config given: name one, as in `tandem study run");
    expect(2, "train " NANO "--lr 0.1", "unknown option '--lr'; the key for that is schedule.peak");
    expect(2, "train " NANO "--batch-size=3", "the key for that is train.batch: write key=VALUE");
    expect(2, "train " NANO "--allow model.position.* train.seed model run/x",
           "unexpected argument 'run/x'");
    expect(2, "train " NANO "--allow model word", "unexpected argument 'word'");
}

Test(arguments, of_evaluate)
{
    expect(2, "evaluate x --data y", "--data is for --tasks only");
    expect(2, "evaluate x --shots 2", "--shots is for --tasks only");
    expect(2, "evaluate x --chat", "--chat is for --tasks only");
    expect(2, "evaluate x --limit 3", "--limit is for --tasks only; otherwise set evaluate.sequ");
    expect(2, "evaluate x --lengths 64", "--lengths is for --extrapolate only");
    expect(2, "evaluate x --tasks sums --extrapolate", "--tasks and --extrapolate are two ways");
    expect(2, "evaluate tandem-no-such-run", "it does not exist");
}

/* After "--" nothing is an option. */
Test(arguments, after_the_options)
{
    expect(2, "evaluate -- -tandem-no-such", "'-tandem-no-such'");
    expect(2, "evaluate -- --", "'--'");
    expect(2, "config " NANO "-- --help", "'--help' is not one of show, explain, diff, check");
}

Test(arguments, of_generate)
{
    expect(2, "generate " NANO "--n-best 3 a",
           "--n-best 3 needs as many hypotheses: add --beams 3");
    expect(2, "generate " NANO "--top-k 5 a", "--top-k has no effect at temperature 0");
}

Test(arguments, of_report)
{
    expect(2, "report --diff a b --title x",
           "--diff writes no page, so --title has no effect with it");
    expect(2, "report --diff a b -o y", "--diff writes no page, so -o has no effect with it");
}

Test(arguments, names_of_commands)
{
    expect(2, "eval", "unknown command 'eval'; did you mean 'evaluate'?");
    expect(2, "finetune", "did you mean 'train'?");
    expect(2, "version", "did you mean '--version'?");
    expect(2, "help foo", "unknown command 'foo'\n");
    expect(2, "--help-me", "tandem: unknown option '--help-me'");
}

Test(arguments, of_describe)
{
    expect(2, "describe " NANO "--mask ''", "--mask is empty: it takes the path of an attention");
    expect(2, "describe " NANO "--mask x --json",
           "use only one of --graph, --mask, --precision and --json");
    expect(2, "describe " NANO "--graph dot --graph text", "--graph is given twice; give it once");
    expect(2, "describe " NANO "--mask model.layer.0.self_attn", "; did you mean 'model.");
    expect(2, "describe " NANO "--threads 1 --threads 2", "--threads is given twice");
}

Test(arguments, any_number_of_them)
{
    char arguments[12000] = "config check";
    for (int k = 0; k < 300; k++)
        strcat(arguments, " -c no-such.cfg");
    expect(2, arguments, "too many arguments: at most 254 of each kind");
}

/* A failure to write output is reported, whichever command wrote it. */
Test(arguments, a_full_disk)
{
    expect(1, "--help >/dev/full", "tandem: writing the output: ");
    expect(1, "--version >/dev/full", "tandem: writing the output: ");
    expect(1, "plugins --help >/dev/full", "tandem: writing the output: ");
    expect(1, "plugins list >/dev/full", "tandem: writing the output: ");
}
