/* tasks.c - `tandem evaluate --tasks` from a trained model to its files: scores equal those
 * worked out from the stored answers, for every batch and number of threads. */
#include <math.h>
#include <stdarg.h>

#include "evaluate/published.h"
#include "open_mpi.h"
#include "tools/command.h"

static char directory[64];

static const char config[] =
    "model = { plugin = \"%s\"; vocab_size = 263; d_model = 32; %s\n"
    "  attention = { plugin = \"softmax\"; heads = 2; head_dim = 16; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
    "  ffn = { plugin = \"swiglu\"; d_ff = 48; }; };\n"
    "loss = { plugin = \"%s\"; }; optimizer = { plugin = \"adamw\"; };\n"
    "schedule = { plugin = \"constant\"; peak = 0.01; }; tokenizer = { plugin = \"bytes\"; };\n"
    "data = { plugin = \"text\"; sources = ( { name = \"sums\";\n"
    "  files = ( \"data/corpus/arithmetic.train.jsonl\" ); } ); };\n"
    "train = { steps = 12; length = 96; batch = 4; evaluate_every = -1; };\n";

static const char choices[] =
    "task = { version = 4; files = [ \"items.jsonl\" ]; split = \"test\"; fewshot_split = "
    "\"dev\";\n"
    "  num_fewshot = 2; by = \"{{kind}}\"; doc_to_text = \"{{q}}\"; choices = \"options\";\n"
    "  gold = \"{{gold}}\"; filters = ( { name = \"line\"; steps = ( { function = \"strip\"; } ); "
    "} );\n"
    "  metrics = ( \"accuracy\", { plugin = \"accuracy\"; per = \"byte\"; }, \"exact-match\" );\n"
    "  until = [ \"\\n\" ]; max_gen_toks = 5; };\n";

static const char generate[] =
    "task = { files = [ \"items.jsonl\" ]; split = \"test\"; output_type = \"generate_until\";\n"
    "  doc_to_text = \"{{q}}\"; doc_to_target = \"{{a}}\"; metrics = ( \"exact-match\", \"chrf\" "
    ");\n"
    "  filters = ( { name = \"number\"; steps = ( { function = \"last_number\"; } ); },\n"
    "              { name = \"line\"; steps = ( { function = \"first_line\"; } ); } );\n"
    "  until = [ \".\" ]; max_gen_toks = 7; };\n";

static const char likelihood[] =
    "task = { files = [ \"items.jsonl\" ]; split = \"test\"; output_type = \"loglikelihood\";\n"
    "  doc_to_text = \"{{q}}\"; doc_to_target = \"{{a}}\"; };\n";

static void write_file(const char *name, const char *format, ...) TD_PRINTF(2, 3);

static void write_file(const char *name, const char *format, ...)
{
    char    path[200];
    FILE   *f;
    va_list args;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    f = fopen(path, "w");
    cr_assert(f, "%s", path);
    va_start(args, format);
    vfprintf(f, format, args);
    va_end(args);
    cr_assert(!fclose(f));
}

/* Their lengths differ, so that they do not all fit into one batch. */
static void write_items(void)
{
    char  path[200];
    FILE *f;
    snprintf(path, sizeof path, "%s/items.jsonl", directory);
    f = fopen(path, "w");
    cr_assert(f);
    for (int k = 0; k < 23; k++)
        fprintf(
            f,
            "{\"q\": \"%.*s%d + %d =\", \"a\": \"%d\", \"options\": [\"%d\", \"%d\", \"%d too\"],"
            " \"gold\": %d, \"kind\": \"%s\", \"split\": \"%s\"}\n",
            k % 5 * 7, "Let us see. So what is it? Well", k, 2 * k, 3 * k, k, 3 * k, 5 * k, k % 3,
            k % 2 ? "odd" : "even", k < 4 ? "dev" : "test");
    cr_assert(!fclose(f));
}

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-tasks-XXXXXX");
    cr_assert(mkdtemp(directory));
    write_file("dec.cfg", config, "decoder-only", "layers = 1;", "causal-lm");
    write_file("red.cfg", config, "encoder-decoder", "encoder_layers = 1; decoder_layers = 1;",
               "prefix-lm");
    write_file("choices.cfg", "%s", choices);
    write_file("generate.cfg", "%s", generate);
    write_file("likelihood.cfg", "%s", likelihood);
    write_items();
    for (int k = 0; k < 2; k++) {
        const char *name = k ? "red" : "dec";
        child c = tandem("train -q -c %s/%s.cfg run.dir=%s run.name=%s", directory, name, directory,
                         name);
        cr_assert_eq(c.code, 0, "%s", c.err);
        child_free(&c);
    }
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(tasks, .init = setup, .fini = teardown);

/* ---- what it leaves ---------------------------------------------------------------------------- */

static json_t *read_json(const char *name)
{
    char         path[300];
    json_error_t e;
    json_t      *j;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    j = json_load_file(path, 0, &e);
    cr_assert(j, "%s: %s", path, e.text);
    return j;
}

/* The lines of a file as a list. */
static json_t *read_lines(const char *name)
{
    char    path[300], *line = NULL;
    size_t  room = 0;
    json_t *all = json_array();
    FILE   *f;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    f = fopen(path, "r");
    cr_assert(f, "%s", path);
    while (getline(&line, &room, f) > 0) {
        json_t *j = json_loads(line, 0, NULL);
        cr_assert(j, "%s", line);
        json_array_append_new(all, j);
    }
    free(line);
    fclose(f);
    return all;
}

static const json_t *at(const json_t *j, const char *path)
{
    char copy[200], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *key = strtok_r(copy, "/", &rest); key; key = strtok_r(NULL, "/", &rest)) {
        j = json_is_array(j) ? json_array_get(j, (size_t)atoi(key)) : json_object_get(j, key);
        cr_assert(j, "there is no %s", path);
    }
    return j;
}

static double number(const json_t *j, const char *path) { return json_number_value(at(j, path)); }
static const char *text(const json_t *j, const char *path)
{
    return json_string_value(at(j, path));
}

/* The choice with the largest of these numbers, divided by the choice's length if `by_length`. */
static int best_choice(const json_t *sample, bool by_length)
{
    int    best = 0;
    double most = -INFINITY;
    for (int k = 0; k < 3; k++) {
        char   path[60];
        double x;
        snprintf(path, sizeof path, "resps/%d/0/0", k);
        x = number(sample, path);
        snprintf(path, sizeof path, "doc/options/%d", k);
        x /= by_length ? (double)strlen(text(sample, path)) : 1;
        if (x > most + 1e-5) {
            most = x;
            best = k;
        }
    }
    return best;
}

/* Mean and standard error over the samples in the file. */
static void expect_mean(const json_t *results, const char *key, const char *error_key,
                        const double *right, int n)
{
    double sum = 0, square = 0, mean;
    for (int k = 0; k < n; k++)
        sum += right[k];
    mean = sum / n;
    for (int k = 0; k < n; k++)
        square += (right[k] - mean) * (right[k] - mean);
    cr_expect_float_eq(json_number_value(json_object_get(results, key)), mean, 1e-12, "%s", key);
    cr_expect_float_eq(json_number_value(json_object_get(results, error_key)),
                       sqrt(square / (n - 1) / n), 1e-12, "%s", error_key);
}

static void check_choices(const char *model)
{
    char    name[100];
    double  raw[19], by_length[19], odd = 0;
    json_t *all, *samples;
    expect(0, "choices ", "eval/choices.json",
           tandem("evaluate %s/%s --tasks %s/choices.cfg --data %s tasks.max_length=90", directory,
                  model, directory, directory));
    snprintf(name, sizeof name, "%s/eval/choices.json", model);
    all = read_json(name);
    snprintf(name, sizeof name, "%s/eval/choices.samples_choices.jsonl", model);
    samples = read_lines(name);
    cr_assert_eq(json_array_size(samples), 19);
    for (int k = 0; k < 19; k++) {
        const json_t *s = json_array_get(samples, (size_t)k);
        int           gold = (int)number(s, "doc/gold");
        raw[k] = best_choice(s, false) == gold;
        by_length[k] = best_choice(s, true) == gold;
        cr_expect_eq(number(s, "acc"), raw[k]);
        cr_expect_eq(number(s, "acc_norm"), by_length[k]);
        cr_expect(strstr(text(s, "arguments/gen_args_0/arg_0"), text(s, "doc/q")));
        odd += !strcmp(text(s, "doc/kind"), "odd") ? raw[k] : 0;
    }
    expect_mean(at(all, "results/choices"), "acc,none", "acc_stderr,none", raw, 19);
    expect_mean(at(all, "results/choices"), "acc_norm,none", "acc_norm_stderr,none", by_length, 19);
    /* 9 of the 19 items from 4 on are odd */
    cr_expect_float_eq(number(all, "results/choices:odd/acc,none"), odd / 9, 1e-12);
    cr_expect_eq(number(all, "versions/choices"), 4);
    cr_expect_eq(number(all, "n-shot/choices"), 2);
    cr_expect_eq(number(all, "n-samples/choices/original"), 19);
    cr_expect_eq(number(all, "max_length"), 90);
    cr_expect_float_eq(number(all, "tasks/choices/chance"), 1.0 / 3, 1e-12);
    cr_expect_str_eq(text(all, "configs/choices/output_type"), "multiple_choice");
    cr_expect_eq(number(all, "step"), 12);
    json_decref(all);
    json_decref(samples);
}

Test(tasks, choices_of_a_decoder) { check_choices("dec"); }
Test(tasks, choices_of_an_encoder_decoder) { check_choices("red"); }

Test(tasks, generated_answers)
{
    json_t *all, *samples;
    double  line[19];
    int     unanswered = 0;
    expect(0, "exact_match,number", "generate, 19/19 items",
           tandem("evaluate %s/red --tasks %s/generate.cfg --data %s "
                  "--name mine",
                  directory, directory, directory));
    all = read_json("red/eval/mine.json");
    samples = read_lines("red/eval/mine.samples_generate.jsonl");
    for (int k = 0; k < 19; k++) {
        const json_t *s = json_array_get(samples, (size_t)k);
        const char   *answer = text(s, "resps/0/0");
        size_t        n = strcspn(answer, "\n");
        cr_expect(!strchr(answer, '.'), "it does not end at a stop: %s", answer);
        cr_expect(!strncmp(text(s, "filtered_resps/1"), answer, n) &&
                  strlen(text(s, "filtered_resps/1")) == n);
        line[k] = strlen(text(s, "doc/a")) == n && !strncmp(answer, text(s, "doc/a"), n);
        unanswered += json_is_null(at(s, "filtered_resps/0"));
    }
    expect_mean(at(all, "results/generate"), "exact_match,line", "exact_match_stderr,line", line,
                19);
    cr_expect(number(all, "results/generate/chrf,line") >= 0);
    cr_expect(number(all, "results/generate/chrf_stderr,line") >= 0);
    cr_expect_eq(number(all, "tasks/generate/unanswered"), unanswered);
    json_decref(all);
    json_decref(samples);
}

Test(tasks, likelihood_of_the_target)
{
    json_t *all, *samples;
    double  sum = 0, greedy = 0;
    expect(0, "likelihood", "",
           tandem("evaluate %s/dec --tasks %s/likelihood.cfg --data %s --name l", directory,
                  directory, directory));
    all = read_json("dec/eval/l.json");
    samples = read_lines("dec/eval/l.samples_likelihood.jsonl");
    for (size_t k = 0; k < json_array_size(samples); k++) {
        sum += number(json_array_get(samples, k), "resps/0/0/0");
        greedy += json_is_true(at(json_array_get(samples, k), "resps/0/0/1"));
    }
    cr_expect_float_eq(number(all, "results/likelihood/perplexity,none"), exp(-sum / 19), 1e-9);
    cr_expect_float_eq(number(all, "results/likelihood/acc,none"), greedy / 19, 1e-12);
    json_decref(all);
    json_decref(samples);
}

/* ---- the same scores ---------------------------------------------------------------------------- */

/* Prompts, log-likelihoods to the last bit, generated texts. */
Test(tasks, do_not_depend_on_batch_and_threads)
{
    static const char *const ways[] = { "--batch 1 --threads 1", "--batch 5 --threads 2",
                                        "--threads 1" };
    char                     command[900];
    for (int m = 0; m < 2; m++) {
        for (int k = 0; k < 3; k++)
            expect(0, "", "",
                   tandem("evaluate -q %s/%s --tasks %s/choices.cfg,%s/generate.cfg --data %s "
                          "--out %s/out%d --name x %s",
                          directory, m ? "red" : "dec", directory, directory, directory, directory,
                          k, ways[k]));
        for (int k = 1; k < 3; k++)
            for (int i = 0; i < 2; i++) {
                snprintf(command, sizeof command,
                         "cmp %s/out0/x.samples_%s.jsonl %s/out%d/x.samples_%s.jsonl", directory,
                         i ? "generate" : "choices", directory, k, i ? "generate" : "choices");
                /* without AVX2 matrix products come from a library, which promises less */
                if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
                    cr_expect_eq(system(command), 0, "%s", command);
            }
    }
}

Test(tasks, some_items_generated_choices_and_json)
{
    json_t *all;
    child   c = tandem("evaluate -q %s/dec/checkpoints/step-00000012 --tasks %s/choices.cfg --data "
                         "%s --limit 5 --shots 0 --generate --json",
                       directory, directory, directory);
    cr_assert_eq(c.code, 0, "%s", c.err);
    all = json_loads(c.out, 0, NULL);
    cr_assert(all, "%s", c.out);
    cr_expect_eq(number(all, "n-samples/choices/effective"), 5);
    cr_expect_eq(number(all, "n-shot/choices"), 0);
    cr_expect(number(all, "results/choices/exact_match,line") >= 0);
    cr_expect(!json_object_get(at(all, "results/choices"), "acc,none"));
    json_decref(all);
    json_decref(read_json("dec/eval/choices-0-shot-generated-first-5-step-00000012.json"));
    child_free(&c);
}

/* Every task counts the same; percentages count as fractions. */
Test(tasks, the_paper_is_the_plain_mean_of_thirteen)
{
    json_t     *all, *results;
    const char *name;
    json_t     *group;
    double      sum = 0;
    published_write(directory);
    expect(
        0, "mean of 13", "",
        tandem("evaluate %s/red --tasks paper --shots 1 --limit 1 --data %s tasks.max_length=400 "
               "--name paper",
               directory, directory));
    all = read_json("red/eval/paper.json");
    results = json_object_get(all, "results");
    group = json_object_get(json_object_get(all, "groups"), "paper");
    cr_expect_eq(number(group, "tasks"), 13);
    json_object_foreach(json_object_get(all, "configs"), name, group)
    {
        const json_t *of = json_object_get(results, name);
        const char   *keys[] = { "acc,none", "exact_match,strip", "alias_match,strip",
                                 "exact_match,get-answer", "exact_match,strict-match" };
        const json_t *score = NULL;
        for (size_t k = 0; k < sizeof keys / sizeof *keys && !score; k++)
            score = json_object_get(of, keys[k]);
        sum += score ? json_number_value(score)
                     : json_number_value(json_object_get(of, "chrf,strip")) / 100;
    }
    cr_expect_float_eq(number(all, "groups/paper/mean,none"), sum / 13, 1e-12);
    cr_expect(number(all, "groups/paper/chance") > 0.2);
    json_decref(all);
}

/* ---- names of results ---------------------------------------------------------------------------- */

/* One's own file "boolq.cfg" keeps its ending, as the results of the shipped task are boolq.json. */
Test(tasks, a_file_with_the_name_of_a_shipped_task)
{
    char path[200];
    write_file("boolq.cfg", choices);
    expect(0, "boolq ", "has the name of a shipped task, so its results are called boolq.cfg",
           tandem("evaluate %s/dec --tasks %s/boolq.cfg --data %s --limit 2 tasks.max_length=90",
                  directory, directory, directory));
    snprintf(path, sizeof path, "%s/dec/eval/boolq.cfg-first-2.json", directory);
    cr_expect(td_file_exists(path));
}

/* ---- mistakes ----------------------------------------------------------------------------------- */

/* A score that is no number is not shown as one. */
Test(tasks, metrics_that_are_no_numbers)
{
    static const char *const says[][2] = {
        { "nan", "metric 'nan' measured nan as statistic 0 of item 0" },
        { "unscored", "metric 'unscored' scored nan on 19 items" },
    };
    char copy[400];
    snprintf(copy, sizeof copy, "mkdir %s/bad && cp " TANDEM_FIXTURES "/broken/opened.so %s/bad",
             directory, directory);
    cr_assert(!system(copy));
    for (size_t k = 0; k < 2; k++) {
        write_file("numbers.cfg",
                   "task = { files = [ \"items.jsonl\" ]; split = \"test\"; output_type = "
                   "\"generate_until\"; doc_to_text = \"{{q}}\"; doc_to_target = \"{{a}}\"; "
                   "filters = ( { name = \"none\"; steps = ( { function = \"regex\"; pattern = "
                   "\"zzzzz\"; } ); } ); metrics = ( \"%s\" ); max_gen_toks = 2; };\n",
                   says[k][0]);
        expect(2, "", says[k][1],
               tandem("evaluate %s/dec --tasks %s/numbers.cfg --data %s --plugin-path %s/bad",
                      directory, directory, directory, directory));
    }
}

Test(tasks, mistakes_are_named)
{
    expect(2, "", "unknown task 'small/bolq'; did you mean 'small/boolq'?",
           tandem("evaluate %s/dec --tasks small/bolq", directory));
    expect(1, "", "task 'choices': cannot open 'items.jsonl'",
           tandem("evaluate %s/dec --tasks %s/choices.cfg", directory, directory));
    expect(1, "", "task 'small/boolq': cannot open '/nowhere/boolq.jsonl.zst'",
           tandem("evaluate %s/dec --tasks small/boolq --data /nowhere", directory));
    write_file("broken.cfg", "task = { files = [ \"items.jsonl\" ]; docs = 1; };\n");
    expect(2, "", "broken.cfg:1: task: option 'docs' is unknown",
           tandem("evaluate %s/dec --tasks %s/broken.cfg", directory, directory));
    expect(0, "choices: 9 exemplars per prompt were asked for, and it has only 2", "",
           tandem("evaluate %s/dec --tasks %s/choices.cfg --data %s --shots 9 --limit 1", directory,
                  directory, directory));
    write_file("items.jsonl", "{\"q\": \"?\", \"options\": [\"a\"], \"gold\": 1, \"kind\": \"\", "
                              "\"split\": \"test\"}\n");
    expect(1, "", "items.jsonl:1)",
           tandem("evaluate %s/dec --tasks %s/choices.cfg --data %s --shots 0", directory,
                  directory, directory));
    expect(1, "", "task 'choices', item 1: task.gold is '1'",
           tandem("evaluate %s/dec --tasks %s/choices.cfg --data %s --shots 0", directory,
                  directory, directory));
    write_file("items.jsonl", "{\"q\": \"?\", \"options\": [\"a\"], \"gold\": 0, \"kind\": \"\", "
                              "\"split\": \"test\"}\n{\"split\": \"dev\"}\n");
    expect(1, "", "items.jsonl:2)",
           tandem("evaluate %s/dec --tasks %s/choices.cfg --data %s", directory, directory,
                  directory));
    expect(2, "", "--tasks is empty", tandem("evaluate %s/dec --tasks ,", directory));
    expect(2, "", "--shots", tandem("evaluate %s/dec --tasks x --shots many", directory));
}

/* Exemplars as turns, the description as the system's; the answer's tokens by themselves. */
Test(tasks, as_a_chat)
{
    static const char chats[] =
        "data = { plugin = \"instructions\"; max_inputs = 60; max_targets = 30; sources = ( { name "
        "= "
        "\"c\";\n  files = ( \"%s/chats.jsonl\" ); } ); };\n"
        "train = { steps = 2; length = 96; batch = 2; evaluate_every = -1; };\n";
    json_t *samples;
    child   c;
    char    base[sizeof config];
    size_t  n = (size_t)(strstr(config, "data = {") - config);
    snprintf(base, sizeof base, "%.*s", (int)n, config);
    write_file("chat.cfg", base, "decoder-only", "layers = 1;", "prefix-lm");
    write_file("chats.cfg", chats, directory);
    write_file("chats.jsonl", "{\"inputs\": \"a\", \"targets\": \"b\"}\n{\"inputs\": \"c\", "
                              "\"targets\": \"d\"}\n");
    c = tandem("train -q -c %s/chat.cfg -c %s/chats.cfg run.dir=%s run.name=chat", directory,
               directory, directory);
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
    write_file("polite.cfg",
               "extends = \"choices.cfg\"; task = { description = \"Be brief.\\n\\n\"; "
               "num_fewshot = 1; by = \"\"; };\n");
    expect(0, "polite", "polite-chat-first-3.json",
           tandem("evaluate %s/chat --tasks %s/polite.cfg --data %s --chat --limit 3 "
                  "tasks.max_length=200",
                  directory, directory, directory));
    samples = read_lines("chat/eval/polite-chat-first-3.samples_polite.jsonl");
    cr_expect_str_eq(
        text(json_array_get(samples, 0), "arguments/gen_args_0/arg_0"),
        "Be brief.\n\nUser: 0 + 0 =\nAssistant: 0\nUser: Let us see. So what is it? W4 + "
        "8 =\nAssistant: ");
    cr_expect_str_eq(text(json_array_get(samples, 0), "arguments/gen_args_0/arg_1"), "4");
    json_decref(samples);
    /* a space that nobody set is not what pairs teach */
    expect(0, "choices", "task 'choices' is scored with a space before each answer",
           tandem("evaluate %s/chat --tasks %s/choices.cfg --data %s --limit 3", directory,
                  directory, directory));
    write_file("close.cfg", "extends = \"choices.cfg\"; task = { target_delimiter = \"\"; };\n");
    c = tandem("evaluate %s/chat --tasks %s/close.cfg --data %s --limit 3", directory, directory,
               directory);
    cr_expect(!c.code && !strstr(c.err, "with a space"), "%s", c.err);
    child_free(&c);
    /* ready-made texts are no turns */
    write_file("told.cfg", "extends = \"polite.cfg\"; task = { fewshot_text = [ \"1 + 1 = 2\" ]; "
                           "fewshot_split = \"\"; "
                           "};\n");
    expect(0, "told", "",
           tandem("evaluate %s/chat --tasks %s/told.cfg --data %s --limit 1 "
                  "tasks.chat=true tasks.max_length=200 --name told",
                  directory, directory, directory));
    samples = read_lines("chat/eval/told.samples_told.jsonl");
    cr_expect(strstr(text(json_array_get(samples, 0), "arguments/gen_args_0/arg_0"),
                     "Be brief.\n\nUser: 1 + 1 = 2\n\n"),
              "%s", text(json_array_get(samples, 0), "arguments/gen_args_0/arg_0"));
    json_decref(samples);
    expect(2, "", "data 'text' has no chat template",
           tandem("evaluate %s/dec --tasks %s/choices.cfg --data %s --chat", directory, directory,
                  directory));
}

Test(tasks, the_list) { expect(0, "small/gsm8k", "", tandem("evaluate --list")); }

/* ---- several processes ------------------------------------------------------------------------- */

/* A shell command; %1$s is the scratch directory, %2$s a run there, %3$d the number of processes. */
static void expect_shell(const char *format, const char *run, int ranks, int code, const char *said)
{
    char  command[2000];
    child c;
    snprintf(command, sizeof command, format, directory, run, ranks);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert_eq(c.code, code, "exit code %d of %s: %s%s", c.code, command, c.out, c.err);
    cr_assert(strstr(c.err, said) || strstr(c.out, said), "'%s' is not in: %s%s", said, c.out,
              c.err);
    child_free(&c);
}

#define SCORE(out)                                                                            \
    TANDEM_BINARY " evaluate %1$s/%2$s --tasks %1$s/choices.cfg,%1$s/generate.cfg,"           \
                  "%1$s/likelihood.cfg --data %1$s --name all --out %1$s/" out " --generate " \
                  ">%1$s/" out ".table"

/* All that they write is the same, but for the seconds that it took. */
Test(tasks, have_the_same_scores_on_any_number_of_processes)
{
    open_mpi_setup();
    if (!there_is_mpi())
        return;
    for (int k = 0; k < 2; k++) {
        const char *run = k ? "red" : "dec";
        expect_shell("rm -rf %1$s/one && " SCORE("one"), run, 1, 0, "");
        for (int ranks = 2; ranks <= 3; ranks++)
            expect_shell("rm -rf %1$s/many && mpirun -np %3$d " SCORE(
                             "many") " && cmp %1$s/one.table %1$s/many.table && "
                                     "for d in one many; do "
                                     "sed -i 's/\"seconds\": [0-9.e-]*//; /^  \"hash\": /d' "
                                     "%1$s/$d/all.json; done && diff -r %1$s/one %1$s/many",
                         run, ranks, 0, "processes; one that waits");
    }
    /* another prompt on the second rank */
    expect_shell("mpirun -np 1 " SCORE("one") " : -np 1 " SCORE("two") " --shots 1", "dec", 2, 2,
                 "rank 1 has a different set of prompts from rank 0");
    expect_shell("mpirun -np %3$d " TANDEM_BINARY
                 " evaluate %1$s/%2$s --tasks %1$s/none.cfg --data %1$s 2>&1 | grep -c none.cfg",
                 "dec", 2, 0, "1");
}
