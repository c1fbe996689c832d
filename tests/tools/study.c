/* study.c - `tandem study` from end to end: shared cells, kills at any moment, failures, locks, errors. */
#include "tools/study.h"

TestSuite(study, .init = setup, .fini = teardown);

/* ---- the matrix ------------------------------------------------------------------------------- */

Test(study, the_matrix_is_printed_and_nothing_is_written)
{
    child   c = study("a", "show ../tiny.cfg --no-measure --json");
    json_t *j, *cells;
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    cells = json_object_get(j, "cells");
    /* pretraining twice, with evaluation and extrapolation; finetuning three times, with evaluation */
    cr_expect_eq(json_array_size(cells), 2 * 3 + 3 * 2);
    cr_expect_eq(json_integer_value(json_object_get(json_object_get(j, "totals"), "trained")), 5);
    cr_expect_str_eq(json_string_value(json_object_get(json_array_get(cells, 0), "name")),
                     "plain-s1-pretrain");
    cr_expect_eq(json_array_size(json_object_get(json_array_get(cells, 0), "variants")), 2);
    json_decref(j);
    child_free(&c);
    cr_expect(!is_there("a", "runs"));
    expect(0, "plain-s1-pretrain is shared by plain, tuned",
           study("a", "run ../tiny.cfg --dry-run --no-measure"));
    cr_expect(!is_there("a", "runs"));
    expect(0, "model.ffn.d_ff: 41 -> 53", study("a", "diff ../tiny.cfg"));
    expect(0, "train.dropout: 0.0 -> 0.1", study("a", "diff ../tiny.cfg"));
}

/* Once, not for every seed and phase. */
Test(study, what_a_change_of_plugin_drops_is_reported)
{
    child       c;
    const char *at;
    put("other.cfg",
        "study = {\n  name = \"other\";\n  base = \"model.cfg\";\n  seeds = [ 1, 2 ];\n"
        "  variants = {\n    plain = { };\n    linear = { keys = { model = {\n"
        "      attention = { plugin = \"linear\"; }; }; }; };\n  };\n};\n");
    c = study("a", "show ../other.cfg --no-measure");
    cr_assert_eq(c.code, 0, "%s", c.err);
    at = strstr(c.err, "../other.cfg:8: model.attention: 'linear' in place of 'softmax' ");
    cr_assert(at, "%s", c.err);
    cr_expect(!strstr(strchr(at, '\n'), "in place of"), "%s", c.err);
    child_free(&c);
}

/* Nobody chose the name of a file for a directory. */
Test(study, a_file_of_any_name)
{
    put("does it help?.cfg", "study = {\n  base = \"model.cfg\";\n};\n");
    expect(0, "directory: runs/does-it-help-",
           study("a", "show '../does it help?.cfg' --no-measure"));
    put("-.cfg", "study = {\n  base = \"model.cfg\";\n};\n");
    expect(2, "study.name, by default the name of the file: '-' cannot be a part of",
           study("a", "show ../-.cfg --no-measure"));
    expect(2, "study.name: 'a b' cannot be a part of",
           study("a", "show ../-.cfg --no-measure 'study.name=a b'"));
}

/* The plugin is not the only difference: what the other one has no option for, and what match moved. */
Test(study, all_that_differs_is_reported)
{
    child c;
    put("mine.cfg",
        "study = {\n  name = \"mine\";\n  base = \"model.cfg\";\n  seeds = [ 1, 2 ];\n"
        "  variants = {\n    plain = { };\n    linear = { keys = { model = {\n"
        "      d_model = 16; attention = { plugin = \"linear\"; }; }; }; };\n  };\n"
        "  match = { what = \"parameters\"; to = \"plain\"; by = \"model.ffn.d_ff\"; within = 0.1; "
        "};\n};\n");
    c = study("a", "show ../mine.cfg --no-measure");
    cr_assert_eq(c.code, 0, "%s", c.err);
    cr_expect(strstr(c.out, "plain-s1-pretrain and linear-s1-pretrain differ in more than one "
                            "setting: "),
              "%s", c.out);
    cr_expect(strstr(c.out, "model.attention.plugin (\"softmax\" and \"linear\")"), "%s", c.out);
    cr_expect(strstr(c.err, "../mine.cfg:10: so that parameters agree with 'plain', model.ffn.d_ff "
                            "goes from 41 to "),
              "%s", c.err);
    cr_expect(strstr(c.err, "more than a factor of 2"), "%s", c.err);
    child_free(&c);
}

Test(study, errors_have_file_line_and_cell)
{
    put("bad.cfg", "study = {\n  base = \"model.cfg\";\n  variants = {\n    a = { };\n"
                   "    b = { keys = { model = { d_modl = 3; }; }; };\n  };\n};\n");
    expect(2,
           "../bad.cfg:5: architecture 'decoder-only': option 'd_modl' is unknown; did you mean "
           "'d_model'? (cell 'b-s1-pretrain' and 1 more)",
           study("a", "run ../bad.cfg"));
    cr_expect(!is_there("a", "runs/bad/cells"));
    put("bad.cfg", "study = {\n  base = \"model.cfg\";\n  varants = { a = { }; };\n};\n");
    expect(2, "../bad.cfg:3: study: 'varants' is unknown; did you mean 'variants'?",
           study("a", "show ../bad.cfg"));
    put("bad.cfg",
        "study = {\n  base = \"model.cfg\";\n  variants = { a = { from = \"c\"; }; };\n};\n");
    expect(2, "../bad.cfg:3: study.variants.a: there is no variant 'c'",
           study("a", "show ../bad.cfg"));
    /* what is not in the config, but would stop a cell after hours */
    put("bad.cfg", "study = {\n  base = \"model.cfg\";\n  phases = { pretrain = { };\n"
                   "    evaluate = { tasks = \"bolq\"; };\n  };\n};\n");
    expect(2, "'bolq'", study("a", "run ../bad.cfg"));
    expect(2, "(cell 'model-s1-pretrain-evaluate')", study("a", "run ../bad.cfg"));
    expect(2, "the seeds of a study are study.seeds", study("a", "show ../tiny.cfg train.seed=4"));
    expect(2, "has no group 'study'", study("a", "show ../model.cfg"));
}

/* ---- running ---------------------------------------------------------------------------------- */

static void expect_same(const char *name)
{
    char *x = text_of("whole", name), *y = text_of("killed", name);
    cr_assert_str_eq(x, y, "'%s' of the two studies differ:\n%s\n%s", name, x, y);
    free(x);
    free(y);
}

/* The signals come at moments that have nothing to do with what the study does. */
Test(study, a_killed_study_gives_the_same)
{
    static const char *const files[] = {
        "cells.json",
        "cells/plain-s1-pretrain/eval/heldout.json",
        "cells/plain-s1-pretrain/eval/extrapolate.json",
        "cells/wide-s1-finetune/eval/heldout.json",
        "cells/tuned-s1-finetune/eval/heldout.jsonl",
    };
    int code = 1, n = 0;
    expect(0, "12 of them now", study("whole", "run ../tiny.cfg --no-measure"));
    for (; n < 10 && code; n++) {
        pid_t pid = start("killed", "run ../tiny.cfg --no-measure --jobs 3");
        usleep((useconds_t)(300000 + 211000 * n));
        kill(pid, n & 1 ? SIGTERM : SIGKILL);
        code = finish(pid);
        cr_assert(!code || code == 75 || code == -SIGKILL || code == -SIGTERM, "exit code %d",
                  code);
    }
    expect(0, "done in", study("killed", "run ../tiny.cfg --no-measure"));
    for (size_t k = 0; k < sizeof files / sizeof *files; k++)
        expect_same(files[k]);
}

/* It says what a run would, shows the matrix, and removes nothing; `show` only shows. */
static void expect_dry_run(void)
{
    child c = study("a", "run ../tiny.cfg --dry-run --no-measure optimizer.beta1=0.5");
    cr_expect_eq(c.code, 2, "%d: %s", c.code, c.err);
    cr_expect(strstr(c.err, "cannot be continued") && strstr(c.out, "training FLOPs"), "%s%s",
              c.out, c.err);
    child_free(&c);
    expect(0, "cannot be continued",
           study("a", "show ../tiny.cfg --no-measure optimizer.beta1=0.5"));
    expect(0, "training FLOPs",
           study("a", "run ../tiny.cfg --dry-run --restart --no-measure optimizer.beta1=0.5"));
}

Test(study, a_second_call_does_nothing)
{
    char       *before, *after;
    struct stat first, second;
    char        path[200];
    snprintf(path, sizeof path, "%s/a/runs/tiny/cells.json", directory);
    /* the answer ends what is printed, before the page that says more */
    expect(0, "\nThe cost of ", study("a", "run ../tiny.cfg --no-measure"));
    cr_assert(!stat(path, &first));
    before = text_of("a", "log.txt");
    expect(0, "all 12 cells are done in 'runs/tiny'", study("a", "run ../tiny.cfg"));
    after = text_of("a", "log.txt");
    cr_expect_str_eq(before, after);
    cr_assert(!stat(path, &second));
    cr_expect_eq(first.st_ino, second.st_ino);
    free(before);
    free(after);
    expect(0, "12 cells in runs/tiny: 12 done", study("a", "status runs/tiny"));
    expect(0, "\"state\": \"done\"", study("a", "status ../tiny.cfg --json"));
    snprintf(path, sizeof path, "cd '%s/a' && exec %s compare runs/tiny", directory, TANDEM_BINARY);
    expect(0, "heldout", child_run((const char *[]){ "sh", "-c", path, NULL }));

    /* only what has changed is done again; a longer run continues */
    expect(0, "2 of them now",
           study("a", "run ../tiny.cfg --no-measure evaluate.sequences=2 "
                      "'study.phases.extrapolate.sequences=3'"));
    expect(
        2,
        "cell 'plain-s1-pretrain' cannot be continued in 'runs/tiny/cells/plain-s1-pretrain': its "
        "config has changed: optimizer.beta1",
        study("a", "run ../tiny.cfg --no-measure optimizer.beta1=0.5"));
    cr_expect(is_there("a", "runs/tiny/cells/plain-s1-pretrain/metrics.jsonl"));
    expect_dry_run();
    expect(0, "12 of them now",
           study("a", "run ../tiny.cfg --no-measure optimizer.beta1=0.5 --restart"));
}

Test(study, stopped_while_it_measures_it_leaves_nothing)
{
    char  path[200];
    char *said;
    pid_t pid = start("m", "run ../tiny.cfg");
    wait_for("m", "runs/tiny/.lock");
    usleep(200000);
    kill(pid, SIGINT);
    cr_assert_eq(finish(pid), 130);
    snprintf(path, sizeof path, "%s/m/out.txt", directory);
    said = td_file_read(path, NULL, &(td_error){ 0 });
    cr_expect(said && strstr(said, "stopped before a cell was started"), "%s", said);
    cr_expect(!is_there("m", "runs/tiny"));
    free(said);
}

Test(study, stopped_cells_are_called_that)
{
    pid_t pid = start("s", "run ../tiny.cfg --no-measure --jobs 1 "
                           "'study.phases.pretrain=\"train.steps=1000000\"'");
    wait_for("s", "runs/tiny/cells/plain-s1-pretrain/checkpoints/step-00000004");
    kill(pid, SIGTERM);
    cr_assert_eq(finish(pid), 75);
    expect(0, "plain-s1-pretrain             stopped ", study("s", "status runs/tiny"));
    expect(0, "12 cells in runs/tiny: 12 waiting (1 of them stopped)",
           study("s", "status runs/tiny"));
    expect(0, "0 end in a blank",
           study("s", "status runs/tiny | grep -c ' $' | sed 's/$/ end in a blank/'"));
}

Test(study, variants_with_other_text_are_named)
{
    put("texts.cfg", "study = {\n  name = \"texts\";\n  base = \"model.cfg\";\n"
                     "  variants = {\n    plain = { };\n    deep = \"model.layers=2\";\n"
                     "    other = \"data.sources.0.name=\\\"others\\\"\";\n  };\n};\n");
    expect(0,
           "other-s1-pretrain differs in its text or tokenizer from plain-s1-pretrain, so "
           "their losses are not over the same tokens: data.sources[0].name: \"facts\" -> "
           "\"others\"\n",
           study("a", "show ../texts.cfg --no-measure"));
    expect(0, "1 lines",
           study("a", "show ../texts.cfg --no-measure | grep -c 'its text or tokenizer' | "
                      "sed 's/$/ lines/'"));
}

/* A file that was only touched is the same text. */
Test(study, cells_that_were_trained_on_other_text_are_named)
{
    char text[400], touched[200];
    snprintf(text, sizeof text,
             "study = {\n  name = \"tiny\";\n  base = [ \"model.cfg\", "
             "\"data.sources.0.files=[\\\"%s/own.jsonl\\\"]\" ];\n"
             "  phases = { pretrain = \"train.steps=4\"; evaluate = { }; };\n};\n",
             directory);
    put("own.cfg", text);
    put("own.jsonl", "{\"text\": \"one text of several that are long enough for a record\"}\n"
                     "{\"text\": \"another text of several that are long enough for one\"}\n");
    snprintf(touched, sizeof touched, "touch -d '2001-01-01' %s/own.jsonl", directory);
    cr_assert(!system(touched));
    expect(0, "2 of them now", study("a", "run ../own.cfg --no-measure"));
    cr_expect(is_there("a", "runs/tiny/texts/model-s1-pretrain"));
    snprintf(touched, sizeof touched, "touch %s/own.jsonl", directory);
    cr_assert(!system(touched));
    expect(0, "all 2 cells are done", study("a", "run ../own.cfg --no-measure"));
    put("own.jsonl", "{\"text\": \"one text of several that are long enough for a record\"}\n"
                     "{\"text\": \"a third text of several that are long enough for one\"}\n");
    expect(2,
           "cell 'model-s1-pretrain' cannot be continued in 'runs/tiny/cells/model-s1-pretrain': "
           "it was trained on text that differs from the files that data names now; --restart",
           study("a", "run ../own.cfg --no-measure"));
    expect(0, "2 of them now", study("a", "run ../own.cfg --no-measure --restart"));
    expect(0, "all 2 cells are done", study("a", "run ../own.cfg --no-measure"));
}

/* Its models would have been trained longer than the study says. */
Test(study, a_run_is_made_longer_and_not_shorter)
{
    put("two.cfg", "study = {\n  name = \"tiny\";\n  base = \"model.cfg\";\n};\n");
    expect(0, "2 of them now", study("a", "run ../two.cfg --no-measure train.steps=13"));
    expect(
        2,
        "cell 'model-s1-pretrain' cannot be continued in 'runs/tiny/cells/model-s1-pretrain': its "
        "run is at step 13, past the end that train.steps = 12 sets now",
        study("a", "run ../two.cfg --no-measure train.steps=12"));
    expect(2, "past the end that train.target_tokens = 700 sets now",
           study("a", "run ../two.cfg --no-measure train.target_tokens=700"));
    expect(0, "all 2 cells are done", study("a", "run ../two.cfg train.steps=13"));
    expect(0, "2 of them now", study("a", "run ../two.cfg --no-measure train.steps=17"));
    expect(0, "2 of them now", study("a", "run ../two.cfg --no-measure train.steps=11 --restart"));
}

/* What the first call left for its results is none of the second one's. */
/* Latency is measured once, by a cell that has the machine to itself, and is in the report. */
Test(study, latency_is_measured_alone)
{
    expect(0, "5 cells",
           study("a", "show ../tiny.cfg --no-measure --json 'study.phases.bench.max_new_tokens=17' "
                      "'study.phases.bench.prompt_tokens=5' 'study.seeds=[1,2]' | grep -c "
                      "'pretrain-bench\\|finetune-bench' | sed 's/$/ cells/'"));
    expect(0, "plain-s1-pretrain-bench: done in",
           study("a",
                 "run ../tiny.cfg --no-measure --jobs 3 'study.phases.bench.max_new_tokens=17' "
                 "'study.phases.bench.prompt_tokens=5'"));
    expect(0, "5 alone",
           study("a", "status runs/tiny | awk '"
                      "/: started on/ { bad += alone || (/-bench:/ && n); alone = /-bench:/; n++ }"
                      "/: done/ { n--; benches += alone; alone = 0 }"
                      "END { print bad ? bad \" beside others\" : benches \" alone\" }' "
                      "runs/tiny/log.txt"));
    expect(0, "\"new_tokens\": 17",
           study("a", "status runs/tiny | cat "
                      "runs/tiny/cells/wide-s1-finetune/eval/bench-generate.json"));
    expect(0, "5 groups",
           study("a", "status runs/tiny | awk -F, 'NR > 1 && $NF > 0 { n++ } END { print n "
                      "\" groups\" }' runs/tiny/report/tables/sizes.csv"));
    expect(2, "there are pretrain, finetune, evaluate, extrapolate, analyze and bench",
           study("a", "show ../tiny.cfg 'study.phases.bensh.batch=2'"));
}

/* A cell ends soon after its study was killed. */
static void wait_for_status(const char *place, const char *text)
{
    bool found = false;
    for (int k = 0; k < 600 && !found; k++) {
        child c = study(place, "status runs/tiny");
        found = strstr(c.out, text) != NULL;
        child_free(&c);
        if (!found)
            usleep(100000);
    }
    cr_assert(found, "no status with '%s'", text);
}

Test(study, a_cell_that_runs_again_is_not_done_before_it_ends)
{
    char  run[200];
    pid_t pid;
    expect(0, "done in", study("again", "run ../tiny.cfg --no-measure"));
    snprintf(run, sizeof run, "%s/again/runs/tiny/cells/wide-s1-pretrain", directory);
    cr_assert(!td_remove_tree(run, NULL));
    pid = start("again", "run ../tiny.cfg --no-measure");
    wait_for("again", "runs/tiny/cells/wide-s1-pretrain/config.cfg");
    kill(pid, SIGKILL);
    finish(pid);
    wait_for_status("again", "3 waiting");
    expect(0, "3 of them now", study("again", "run ../tiny.cfg --no-measure"));
}

Test(study, a_failed_cell_is_named_and_the_others_run)
{
    child c;
    put("torn.jsonl", "{\"text\": \"good\"}\n{\"text\": \n");
    put("torn.cfg",
        "study = {\n  name = \"tiny\";\n  base = \"model.cfg\";\n  variants = {\n    torn = { keys "
        "= { "
        "data = { sources = ( { name = \"torn\"; files = ( \"../torn.jsonl\" ); held_out = ( "
        "\"../torn.jsonl\" ); } ); }; }; };\n"
        "    plain = { };\n  };\n"
        "  phases = { pretrain = \"train.steps=8\"; evaluate = { }; };\n};\n");
    put("other.jsonl",
        "{\"text\": \"a held-out text, which is long enough for two sequences or so of them\"}\n");
    c = study("a", "run ../torn.cfg --no-measure "
                   "'study.variants.torn.keys.data.sources=({name=\"torn\";files=(\"../"
                   "torn.jsonl\");held_out=(\"../other.jsonl\");})'");
    cr_expect_eq(c.code, 1, "%s", c.err);
    cr_expect(strstr(c.err, "torn-s1-pretrain: failed: exit code 1"), "%s", c.err);
    cr_expect(strstr(c.err, "torn.jsonl:2"), "the last lines are missing: %s", c.err);
    cr_expect(
        strstr(c.err, "torn-s1-pretrain-evaluate: skipped, because 'torn-s1-pretrain' has failed"));
    cr_expect(strstr(c.err, "1 of 4 cells failed, 1 were skipped"), "%s", c.err);
    child_free(&c);
    expect(0, "2 done 1 failed 1 skipped", study("a", "status runs/tiny"));
}

/* Until the file has the words so many times. */
static void wait_for_words(const char *place, const char *name, const char *words, int times)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s/%s", directory, place, name);
    for (int k = 0, n = 0; k < 3000 && n < times; k++) {
        char *text = td_file_read(path, NULL, NULL);
        n = 0;
        for (const char *at = text; at && (at = strstr(at, words)); at++)
            n++;
        free(text);
        usleep(10000);
    }
}

Test(study, two_at_once_are_refused_and_a_stop_saves)
{
    static const char long_run[] = "run ../tiny.cfg --no-measure --jobs 2 train.steps=1000000";
    pid_t             pid = start("a", long_run);
    char             *log;
    wait_for("a", "runs/tiny/cells/plain-s1-pretrain/metrics.jsonl");
    wait_for("a", "runs/tiny/cells/wide-s1-pretrain/metrics.jsonl");
    expect(2, "another process (", study("a", long_run));
    expect(0, "2 running", study("a", "status runs/tiny"));
    kill(pid, SIGTERM);
    cr_expect_eq(finish(pid), 75);
    expect(0, "12 waiting", study("a", "status runs/tiny"));
    pid = start("a", long_run);
    wait_for_words("a", "runs/tiny/logs/wide-s1-pretrain.log", "resuming from", 1);
    kill(pid, SIGINT);
    cr_expect_eq(finish(pid), 130);
    /* the first stop saved, and the second call continued from there */
    log = text_of("a", "logs/wide-s1-pretrain.log");
    cr_expect(strstr(log, "stopped at step"), "%s", log);
    cr_expect(strstr(log, "resuming from runs/tiny/cells/wide-s1-pretrain/checkpoints"), "%s", log);
    free(log);
}
