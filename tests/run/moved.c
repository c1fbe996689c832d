/* moved.c - a run is read from anywhere, after it, its tokenizer or its modules were moved; and what a
 * stranger's run contains chooses no code. */
#include "tools/child.h"

static char directory[64];

static void write_file(const char *name, const char *text)
{
    char  path[200];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

#define MODEL(vocabulary, ffn)                                                                \
    "model = { plugin = \"decoder-only\"; vocab_size = " vocabulary                           \
    "; d_model = 24; layers = 1;\n"                                                           \
    "  attention = { heads = 2; head_dim = 12; }; ffn = { " ffn " }; };\n"                    \
    "loss = { plugin = \"causal-lm\"; };\n"                                                   \
    "optimizer = { plugin = \"adamw\"; };\n"                                                  \
    "schedule = { plugin = \"constant\"; peak = 0.01; };\n"                                   \
    "data = { plugin = \"text\"; sources = ( { name = \"a\"; files = ( \"text/*.jsonl\" );\n" \
    "  held_out_every = 3; } ); };\n"                                                         \
    "train = { steps = 4; length = 17; batch = 2; checkpoint_every = 2; keep_last = 0;"       \
    " evaluate_every = -1; };\n"                                                              \
    "evaluate = { sequences = 2; };\n"

/* A shell command in the scratch directory's w/, %1$s the program, %2$s the scratch directory: expect
 * that it ends with `code` and prints `text`. */
static void expect(int code, const char *text, const char *format)
{
    char  command[3000];
    int   n = snprintf(command, sizeof command, "cd %s/w && export XDG_CACHE_HOME=%s/xdg && ",
                       directory, directory);
    child c;
    snprintf(command + n, sizeof command - (size_t)n, format, TANDEM_BINARY, directory);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert_eq(c.code, code, "exit code %d, not %d, of: %s\n%s%s", c.code, code, command, c.out,
                 c.err);
    cr_assert(strstr(c.err, text) || strstr(c.out, text), "'%s' is not in:\n%s%s", text, c.out,
              c.err);
    child_free(&c);
}

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-moved-XXXXXX");
    cr_assert(mkdtemp(directory));
    write_file("a.cfg",
               MODEL("263",
                     "plugin = \"relu\"; d_ff = 32;") "tokenizer = { plugin = \"bytes\"; };\n"
                                                      "run = { name = \"a\"; };\n");
    write_file(
        "b.cfg",
        MODEL("420",
              "plugin = \"relu\"; d_ff = 32;") "tokenizer = { plugin = \"sentencepiece\"; model = "
                                               "\"b.model\"; };\nrun = { name = \"b\"; };\n");
    write_file("c.cfg",
               MODEL("263", "plugin = \"auxiliary\";") "tokenizer = { plugin = \"bytes\"; };\n"
                                                       "run = { name = \"c\"; };\n");
    cr_assert(!chdir(directory) && !system("mkdir -p w/text elsewhere && mv *.cfg w"));
    cr_assert(
        !system("head -n 60 '" TANDEM_SOURCE "/data/corpus/facts.valid.jsonl' >w/text/a.jsonl"));
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(moved, .init = setup, .fini = teardown);

#define ELSEWHERE "cd ../elsewhere && "

Test(moved, every_command_reads_a_run_from_anywhere)
{
    expect(0, "step 4", "%1$s train -c a.cfg");
    expect(0, "parameters: '../w/runs/a/checkpoints/step-00000004",
           ELSEWHERE "%1$s evaluate ../w/runs/a");
    expect(0, "parameters: '../w/runs/a/checkpoints/step-00000002",
           ELSEWHERE "%1$s evaluate ../w/runs/a/checkpoints/step-00000002");
    expect(0, "parameters", ELSEWHERE "%1$s describe ../w/runs/a");
    expect(0, "tokens/s", ELSEWHERE "%1$s bench ../w/runs/a --seconds 0.1");
    expect(0, "", ELSEWHERE "%1$s generate ../w/runs/a --max-new-tokens 2 The");
    expect(0, "self", ELSEWHERE "%1$s analyze ../w/runs/a");
    expect(0, "vocab_size = 263", ELSEWHERE "%1$s config show -c ../w/runs/a");
    expect(0, "", ELSEWHERE "%1$s compare ../w/runs/a ../w/runs/a/checkpoints/step-00000002");
    /* the cache that is beside the run is found, and none is left here */
    expect(0, "", "test -d runs/cache && test -z \"$(ls ../elsewhere)\"");
    /* with the whole tree: its text is found where it was, or the option is named */
    expect(0, "nll", "cp -r runs ../elsewhere/b && rm -r runs && " ELSEWHERE "%1$s evaluate b/a");
    expect(1 + 1, "data.sources",
           "mv text away && rm -r ../elsewhere/b/cache; " ELSEWHERE "%1$s evaluate b/a");
    expect(0, "", ELSEWHERE "%1$s generate b/a --max-new-tokens 2 The");
    expect(0, "nll",
           ELSEWHERE "%1$s evaluate b/a 'data.sources=({name=\"a\"; "
                     "files=\"../w/away/a.jsonl\"; held_out_every=3;})'");
}

/* On another machine, which has the held-out text and not the training text. */
Test(moved, an_evaluation_needs_only_held_out_text)
{
    expect(
        0, "step 4",
        "cp text/a.jsonl held.jsonl && head -n 10 text/a.jsonl >text/b.jsonl && rm text/a.jsonl && "
        "sed -i 's/held_out_every = 3/held_out = ( \"held.jsonl\" )/' a.cfg && "
        "sed 1,10d held.jsonl >h && mv h held.jsonl && %1$s train -c a.cfg");
    expect(0, "nll", "rm -r text runs/cache && %1$s evaluate runs/a");
    expect(0, "", "%1$s evaluate runs/a --extrapolate --lengths 17,34 --sequences 1");
    expect(2, "text/*.jsonl", "%1$s train runs/a --resume train.steps=5");
}

Test(moved, the_tokenizer_is_kept)
{
    expect(0, "", "%1$s data train-tokenizer -c b.cfg --vocab-size 400 --out b.model");
    expect(0, "step 4", "%1$s train -c b.cfg");
    expect(0, "model = \"tokenizer/", "cat runs/b/config.cfg");
    expect(0, "nll", "rm b.model && mv runs/b .. && " ELSEWHERE "%1$s evaluate ../b");
    expect(0, "", ELSEWHERE "%1$s generate ../b --max-new-tokens 2 The");
    /* and it goes on with its own copy */
    expect(0, "step 5", ELSEWHERE "%1$s train ../b --resume train.steps=5");
    expect(0, "1\n", "ls ../b/tokenizer | wc -l");
    expect(0, "nll", ELSEWHERE "%1$s evaluate ../b");
}

Test(moved, a_run_goes_on_anywhere_bit_for_bit)
{
    expect(0, "step 4", "%1$s train -c a.cfg run.name=whole");
    expect(0, "step 2", "%1$s train -c a.cfg train.steps=2");
    expect(0, "step 4", "mv runs/a ../a && " ELSEWHERE "%1$s train ../a --resume train.steps=4");
    expect(0, "",
           "cmp runs/whole/checkpoints/step-00000004/model.safetensors "
           "../a/checkpoints/step-00000004/model.safetensors");
    /* from a config of the user's own, too, wherever its text lies now */
    expect(0, "step 5",
           "mv ../a runs/a; mv text text2; %1$s train -c a.cfg --resume train.steps=5 "
           "'data.sources=({name=\"a\"; files=\"text2/a.jsonl\"; held_out_every=3;})'");
    expect(2, "text is not the run's own",
           "head -n 18 text2/a.jsonl >text2/b.jsonl; "
           "%1$s train -c a.cfg --resume train.steps=6 "
           "'data.sources=({name=\"a\"; files=\"text2/b.jsonl\"; held_out_every=3;})'");
}

/* Without one line, other documents are held out: ones that the run was trained on. */
Test(moved, other_held_out_text_is_refused)
{
    expect(0, "step 4", "%1$s train -c a.cfg && cp text/a.jsonl whole");
    expect(0, "nll", "%1$s evaluate runs/a && cp runs/a/eval/heldout.json before");
    expect(2, " has different held-out text (saved: ",
           "sed -i 1d text/a.jsonl && %1$s evaluate runs/a");
    expect(2, "score this text all the same (--allow data)",
           "%1$s evaluate runs/a --extrapolate --lengths 17 --sequences 1");
    expect(0, "", "cmp runs/a/eval/heldout.json before");
    expect(0, "may have been trained on it", "%1$s evaluate runs/a --allow data");
    expect(0, "", "! cmp -s runs/a/eval/heldout.json before");
    expect(0, "",
           "cp whole text/a.jsonl && %1$s evaluate runs/a && cmp runs/a/eval/heldout.json "
           "before");
}

/* What earlier versions left: paths as they were written, no copies. */
Test(moved, an_old_run_opens)
{
    expect(0, "step 2", "%1$s train -c a.cfg train.steps=2");
    expect(0, "", "sed -i \"s,$PWD/,,\" runs/a/config.cfg && ! grep -q \"$PWD\" runs/a/config.cfg");
    expect(0, "nll", "%1$s evaluate runs/a");
    expect(0, "step 4", "%1$s train -c a.cfg --resume");
}

Test(moved, a_cache_that_cannot_be_written)
{
    expect(0, "step 4", "%1$s train -c a.cfg");
    expect(0, "prepared text is kept in '",
           "rm -r runs/cache && touch runs/cache && " ELSEWHERE "%1$s evaluate ../w/runs/a");
    expect(0, "", "ls ../xdg/tandem/*.idx");
    /* scores are printed, though they cannot be kept */
    expect(0, "results are not saved",
           "rm -r runs/a/eval && touch runs/a/eval && %1$s evaluate "
           "runs/a | grep nll");
    expect(0, "scores in", "%1$s evaluate runs/a --out scores");
}

/* ---- modules ----------------------------------------------------------------------------------- */

#define PARTS " --plugin-path " TANDEM_FIXTURES "/parts "

Test(moved, modules_are_kept_and_loaded_if_trusted)
{
    expect(0, "loading module '" TANDEM_FIXTURES "/parts/ffn-auxiliary.so' (",
           "%1$s train -c c.cfg" PARTS);
    expect(0, "ffn-auxiliary.so " TANDEM_FIXTURES "/parts/ffn-auxiliary.so",
           "cmp runs/c/modules/ffn-auxiliary.so " TANDEM_FIXTURES "/parts/ffn-auxiliary.so && "
           "cat runs/c/modules/modules.txt");
    expect(2, "--trust loads them", "%1$s evaluate runs/c");
    expect(0, "loading module 'runs/c/modules/ffn-auxiliary.so' (", "%1$s evaluate runs/c --trust");
    expect(0, "loading module '" TANDEM_FIXTURES, "%1$s evaluate runs/c" PARTS);
    /* another build under that name is the user's own choice */
    expect(0, "another build of ffn/1 'auxiliary'",
           "mkdir own && cp " TANDEM_FIXTURES
           "/parts/ffn-auxiliary.so own && echo >>own/ffn-auxiliary.so"
           " && %1$s evaluate runs/c --plugin-path own");
    expect(0, "", "test -z \"$(%1$s evaluate runs/a 2>&1 | grep loading)\"");
}

/* A report opens configs of runs, to count parameters; a comparison opens none. */
Test(moved, modules_of_compared_and_reported_runs)
{
    expect(0, "step 4", "%1$s train -c c.cfg" PARTS);
    expect(0, "no difference",
           "%1$s evaluate runs/c --trust && cp -r runs/c runs/d && "
           "%1$s compare runs/c runs/d --trust");
    expect(0, "metrics: all", "%1$s report --diff runs/c runs/c --trust");
    expect(0, "parameters and FLOPs of 'c' are unknown: runs/c/config.cfg:",
           "%1$s report runs/c >page 2>&1 && cat page");
    expect(0, "may be because the run's own modules were not loaded: --trust loads them",
           "cat page");
    expect(0, "", "! grep 'loading module' page");
    expect(0, "loading module 'runs/c/modules/ffn-auxiliary.so' (",
           "%1$s report runs/c --trust >page 2>&1 && cat page");
    expect(0, "", "! grep 'are unknown' page");
    /* warnings are not lost, whatever else is */
    expect(0, "every user of this machine can write to the plugin directory 'runs/c/modules'",
           "chmod o+w runs/c/modules && %1$s report runs/c --trust --quiet && "
           "chmod o-w runs/c/modules");
    /* the run's own module is trusted, not what is on other paths */
    expect(0, "loading module 'runs/c/modules/ffn-auxiliary.so' (",
           "mkdir own && cp " TANDEM_FIXTURES "/parts/ffn-auxiliary.so own && "
           "%1$s report runs/c --trust --plugin-path own");
}

/* The report that a study ends with: the modules are those of its cells, and announced as such. */
Test(moved, modules_of_a_studys_report)
{
    write_file("w/s.cfg",
               "study = { name = \"s\"; base = \"c.cfg\"; phases = { pretrain = { }; };\n"
               "  variants = { one = { }; two = { keys = { train = { dropout = 0.1; }; }; }; }; };\n");
    expect(0, "report: runs/s/report/index.html",
           "%1$s study run s.cfg --no-measure --trust" PARTS " >page 2>&1 && cat page");
    expect(0, "ffn-auxiliary.so", "grep \"loading module 'runs/s/cells/.*/modules/\" page");
    /* each cell has a copy of the module, which is one module */
    expect(0, "1", "grep -c \"loading module 'runs/s/cells/\" page");
    expect(0, "", "! grep 'are unknown' runs/s/report/report.md");
}

/* None of these loads the module that only the run names, or says that it did. */
#define NOTHING_LOADED "2>&1; echo \"exit $?\") | tee log; ! grep -q 'loading module' log"

Test(moved, a_strangers_files_run_no_code)
{
    expect(0, "step 4", "%1$s train -c c.cfg" PARTS);
    expect(0, "",
           "mv runs/c stranger && for f in stranger/config.cfg extends.cfg; do printf "
           "'plugin_path = \"" TANDEM_FIXTURES "/parts\";\\nextends = \"x.cfg\";\\n' >>$f; done;"
           "printf 'plugin_path = \"" TANDEM_FIXTURES "/parts\";' >x.cfg;"
           "cp x.cfg stranger; mkdir loose; cp stranger/checkpoints/step-00000004/[ms]* loose;"
           "sed -i 's,\"config\": \",&plugin_path=\\\\\"" TANDEM_FIXTURES
           "/parts\\\\\";,' loose/state.json; "
           "grep -q 'config\": \"plugin_path' loose/state.json");
    expect(0, "exit 2", "(%1$s evaluate stranger " NOTHING_LOADED);
    expect(0, "exit 2", "(%1$s describe -c stranger " NOTHING_LOADED);
    expect(0, "exit 2", "(%1$s describe -c stranger/config.cfg " NOTHING_LOADED);
    expect(0, "exit 2", "(%1$s train stranger --resume " NOTHING_LOADED);
    expect(0, "exit 2",
           "(%1$s evaluate -c a.cfg --weights loose/model.safetensors " NOTHING_LOADED);
    expect(0, "exit 2", "(%1$s train -c a.cfg --weights stranger " NOTHING_LOADED);
    expect(0, "nll", "%1$s evaluate stranger --trust --quiet");
    expect(0, "exit 0", "cp -r stranger twin; (%1$s compare stranger twin " NOTHING_LOADED);
    expect(0, "exit 0", "(%1$s compare stranger twin --trust " NOTHING_LOADED);
    expect(0, "exit 0", "(%1$s report stranger " NOTHING_LOADED);
    /* to resume in its directory compares the config, and follows nothing */
    expect(0, "exit 2",
           "(%1$s train -c a.cfg run.dir=. run.name=stranger --resume " NOTHING_LOADED);
    /* nor without the file by which a run's config is known */
    expect(0, "exit 2", "rm stranger/environment.txt; (%1$s evaluate stranger " NOTHING_LOADED);
    /* a config that is only looked at */
    expect(0, "exit 2", "(%1$s config check -c c.cfg -c x.cfg " NOTHING_LOADED);
    expect(0, "exit 2", "(%1$s config explain model -c c.cfg -c x.cfg " NOTHING_LOADED);
    expect(0, "loading module", "%1$s config check -c c.cfg -c x.cfg --trust");
    /* one that is trained says so */
    expect(0, "loading module", "%1$s train -c c.cfg -c x.cfg run.name=d");
    expect(2, "a task may not set plugin_path",
           "printf 'task = { }; plugin_path = \"x\";' >t.cfg; %1$s evaluate stranger --trust "
           "--tasks ./t.cfg "
           "--data .");
}

Test(moved, a_directory_that_anybody_can_write)
{
    expect(0, "every user of this machine can write to the plugin directory 'open'",
           "mkdir open && chmod 777 open && %1$s describe -c a.cfg --plugin-path open");
}

/* ---- beginnings that fail ---------------------------------------------------------------------- */

Test(moved, a_failed_start_leaves_no_run)
{
    expect(2, "train.weights: there is no file, checkpoint or run 'gone'",
           "%1$s train -c a.cfg --weights gone");
    expect(2, "more than model.vocab_size", "%1$s train -c a.cfg model.vocab_size=100");
    expect(2, "no file matches",
           "%1$s train -c a.cfg 'data.sources=({name=\"a\"; files=\"no\";})'");
    expect(0, "", "! test -e runs/a");
    /* but never what was there before */
    expect(2, "there is no file",
           "mkdir -p runs/a && touch runs/a/notes && %1$s train -c a.cfg "
           "--weights gone");
    expect(0, "", "test -e runs/a/notes");
}

Test(moved, configs_by_near_names)
{
    expect(0, "parameters", "%1$s describe -c nano/redllm");
    expect(2, "did you mean 'nano/redllm.cfg'?", "%1$s describe -c nano/redlm.cfg");
    expect(2, "did you mean 'a.cfg'?", "%1$s describe -c aa.cfg");
    expect(2, "did you mean 'encoder_layers' or 'decoder_layers'?",
           "%1$s describe -c nano/redllm model.layers=2");
    expect(2, "--plugin-path DIR, or plugin_path in a config, adds a directory",
           "%1$s describe -c nano/redllm model.ffn.plugin=mine");
}
