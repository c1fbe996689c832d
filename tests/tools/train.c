/* train.c - runs of the real command: the same bits on 1 and 2 threads, after SIGKILL, and after
 * SIGTERM. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "tools/run_files.h"

extern char **environ;

static char        directory[256];
static const char *config_name = "model.cfg";

static void write_config(void)
{
    char  path[300];
    FILE *f;
    snprintf(path, sizeof path, "%s/model.cfg", directory);
    f = fopen(path, "w");
    cr_assert(f);
    fprintf(f,
            "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 48; "
            "encoder_layers = 1; decoder_layers = 2;\n"
            "  attention = { plugin = \"softmax\"; heads = 3; head_dim = 16; qkv_norm = true; "
            "output_norm = true; };\n"
            "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; }; ffn = { plugin = "
            "\"swiglu\"; d_ff = 80; }; };\n"
            "loss = { plugin = \"prefix-lm\"; split = \"random\"; };\n"
            "optimizer = { plugin = \"adafactor\"; beta1 = 0.9; };\n"
            "schedule = { plugin = \"cosine\"; peak = 0.01; warmup = 5; steps = 40; };\n"
            "tokenizer = { plugin = \"bytes\"; };\n"
            "data = { plugin = \"text\"; sources = ( { name = \"facts\"; files = ( \"" TANDEM_SOURCE
            "/data/corpus/facts.train.jsonl\" );\n"
            "  held_out = ( \"" TANDEM_SOURCE "/data/corpus/facts.valid.jsonl\" ); } ); };\n"
            "train = { steps = 40; length = 101; batch = 6; micro_batch = 3; dropout = 0.1; "
            "log_every = 3; checkpoint_every = 5; patience = 5;\n"
            "  evaluate_every = 20; };\n"
            "evaluate = { sequences = 5; };\n"
            "run = { dir = \"%s\"; };\n",
            directory);
    cr_assert(!fclose(f));
}

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/tandem-train-XXXXXX");
    cr_assert(mkdtemp(directory));
    write_config();
}

static void teardown(void) { td_remove_tree(directory, NULL); }

static pid_t start(const char *run, const char *threads, const char *more)
{
    char        config[300], name[64];
    const char *argv[] = { TANDEM_BINARY, "train",     "-c",    config, name, "--quiet",
                           "--resume",    "--threads", threads, more,   NULL };
    pid_t       pid;
    posix_spawn_file_actions_t quiet;

    snprintf(config, sizeof config, "%s/%s", directory, config_name);
    snprintf(name, sizeof name, "run.name=%s", run);
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    cr_assert(!posix_spawn(&pid, TANDEM_BINARY, &quiet, NULL, (char *const *)argv, environ));
    posix_spawn_file_actions_destroy(&quiet);
    return pid;
}

static int finish(pid_t pid)
{
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int64_t steps_saved(const char *run)
{
    char    path[400], **names = NULL;
    int64_t count, last = 0;
    snprintf(path, sizeof path, "%s/%s/checkpoints", directory, run);
    count = td_list_directory(path, &names, NULL);
    for (int64_t i = 0; i < count; i++)
        if (!strncmp(names[i], "step-", 5))
            last = atoll(names[i] + 5);
    if (count >= 0)
        td_free_names(names, count);
    return last;
}

/* Wait until the run has saved a checkpoint after step `after`, then a little longer. */
static void wait_for_checkpoint(const char *run, int64_t after, int more_us)
{
    for (int k = 0; k < 60000 && steps_saved(run) <= after; k++)
        usleep(1000);
    usleep((useconds_t)more_us);
}

/* metrics.jsonl without its time fields, which come last on each line. */
static char *metrics(const char *run)
{
    size_t size;
    char  *text = run_file(directory, run, "metrics.jsonl", &size), *to = text;
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n'), *time;
        cr_assert(end, "a torn last line");
        *end = 0;
        time = strstr(line, ", \"time/");
        if (time)
            *time = 0;
        memmove(to, line, strlen(line));
        to += strlen(line);
        *to++ = '\n';
        line = end + 1;
    }
    *to = 0;
    return text;
}

static void expect_same(const char *a, const char *b)
{
    static const char *const files[] = { "checkpoints/step-00000040/model.safetensors",
                                         "checkpoints/step-00000040/optimizer.safetensors" };
    char                    *x, *y;
    for (int k = 0; k < 2; k++) {
        size_t n, m;
        x = run_file(directory, a, files[k], &n);
        y = run_file(directory, b, files[k], &m);
        cr_assert_eq(n, m);
        cr_assert(!memcmp(x, y, n), "%s of '%s' and '%s' differ", files[k], a, b);
        free(x);
        free(y);
    }
    x = metrics(a);
    y = metrics(b);
    cr_assert_str_eq(x, y);
    free(x);
    free(y);
}

TestSuite(train, .init = setup, .fini = teardown);

/* The FLOPs so far in each line of metrics that has them. */
static int flops_of(const char *run, double *out, int room)
{
    char *text = metrics(run);
    int   n = 0;
    for (const char *p = text; (p = strstr(p, "\"train/flops\": ")) && n < room; p++)
        out[n++] = atof(p + strlen("\"train/flops\": "));
    free(text);
    return n;
}

/* Sequences are split at random, so no two steps cost the same. */
Test(train, flops_are_those_of_each_step)
{
    double at[9];
    cr_assert_eq(finish(start("counted", "2", "train.bucket=1")), 0);
    cr_assert_eq(flops_of("counted", at, 9), 9);
    for (int k = 2; k < 9; k++)
        cr_expect_neq(at[k] - at[k - 1], at[k - 1] - at[k - 2]);
}

Test(train, bits_do_not_depend_on_threads_or_kills)
{
    cr_assert_eq(finish(start("whole", "2", NULL)), 0);
    cr_assert_eq(finish(start("one", "1", NULL)), 0);
    expect_same("whole", "one");

    /* at arbitrary moments, some of them while a checkpoint is being written */
    for (int k = 0, last = 0; k < 3; k++) {
        pid_t pid = start("killed", k & 1 ? "1" : "2", NULL);
        wait_for_checkpoint("killed", last, 700 * (k + 1));
        kill(pid, SIGKILL);
        finish(pid);
        last = (int)steps_saved("killed");
    }
    cr_assert_eq(finish(start("killed", "2", NULL)), 0);
    expect_same("whole", "killed");
}

Test(train, sigterm_saves_and_says_requeue)
{
    pid_t pid;
    int   code;
    cr_assert_eq(finish(start("whole", "2", NULL)), 0);
    pid = start("stopped", "2", NULL);
    wait_for_checkpoint("stopped", 0, 0);
    kill(pid, SIGTERM);
    code = finish(pid);
    cr_assert(code == 75 || code == 0, "exit code %d", code); /* 0 if it had just finished */
    cr_assert_gt(steps_saved("stopped"), 0);
    cr_assert_eq(finish(start("stopped", "2", NULL)), 0);
    expect_same("whole", "stopped");
}

/* ---- tasks in the loop ------------------------------------------------------------------------- */

/* Choices and generated texts every 7 steps, which decide the best checkpoint; every 20 steps an
 * evaluation, at the end both. */
static void score_tasks(const char *best)
{
    char  path[300];
    FILE *f;
    snprintf(path, sizeof path, "%s/written.cfg", directory);
    f = fopen(path, "w");
    cr_assert(f);
    fputs("task = { files = [ \"sums.jsonl\" ]; split = \"test\"; output_type = "
          "\"generate_until\";\n"
          "  doc_to_text = \"{{question}}\"; doc_to_target = \"{{choices.0}}\"; metrics = ( "
          "\"chrf\" );\n"
          "  until = [ \" \" ]; max_gen_toks = 4; };\n",
          f);
    cr_assert(!fclose(f));
    snprintf(path, sizeof path, "%s/tasks.cfg", directory);
    f = fopen(path, "w");
    cr_assert(f);
    fprintf(f,
            "extends = \"model.cfg\"; train = { score_every = 7; best = \"%s\"; };\n"
            "tasks = { names = ( \"sums\", \"%s/written.cfg\" ); data = \"%s/data/tasks\"; "
            "limit = 12; };\n",
            best, directory, TANDEM_SOURCE);
    cr_assert(!fclose(f));
    config_name = "tasks.cfg";
}

/* The metrics of a run without the lines of tasks, and how many those are. */
static char *without_tasks(const char *run, int *lines)
{
    char *text = metrics(run), *to = text;
    *lines = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        bool task = strstr(line, ", \"tasks/") && strstr(line, ", \"tasks/") < end;
        *lines += task;
        if (task)
            continue;
        memmove(to, line, (size_t)(end + 1 - line));
        to += end + 1 - line;
    }
    *to = 0;
    return text;
}

/* "best": 0.25, and so on, of the last checkpoint. */
static double state(const char *run, const char *key)
{
    char   quoted[60], *text, *at;
    double x;
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    text = run_file(directory, run, "checkpoints/step-00000040/state.json", NULL);
    at = strstr(text, quoted);
    cr_assert(at, "%s", key);
    x = atof(at + strlen(quoted));
    free(text);
    return x;
}

static void expect_same_best(const char *a, const char *b)
{
    static const char *const keys[] = { "best", "best_step", "since_best", "evaluated", "scored" };
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        cr_expect_eq(state(a, keys[k]), state(b, keys[k]), "%s", keys[k]);
    expect_same(a, b);
}

Test(train, tasks_change_no_bit_of_the_training)
{
    size_t n, m;
    int    lines;
    char  *a, *b;
    cr_assert_eq(finish(start("plain", "2", NULL)), 0);
    score_tasks("tasks.written.chrf");
    cr_assert_eq(finish(start("scored", "1", NULL)), 0);
    a = metrics("plain");
    b = without_tasks("scored", &lines);
    cr_expect_str_eq(a, b);
    cr_expect_eq(lines, 6, "of steps 7, 14 .. 35 and of the last");
    free(a);
    free(b);
    a = run_file(directory, "plain", "checkpoints/step-00000040/model.safetensors", &n);
    b = run_file(directory, "scored", "checkpoints/step-00000040/model.safetensors", &m);
    cr_expect(n == m && !memcmp(a, b, n));
    free(a);
    free(b);
    cr_expect_eq(state("scored", "scored"), 40);
    cr_expect_eq((int)state("scored", "best_step") % 7, state("scored", "best_step") == 40 ? 5 : 0);
}

Test(train, tasks_survive_kills)
{
    score_tasks("tasks.sums");
    cr_assert_eq(finish(start("whole", "2", NULL)), 0);
    for (int k = 0, last = 0; k < 4; k++) {
        pid_t pid = start("killed", k & 1 ? "1" : "2", NULL);
        wait_for_checkpoint("killed", last, 5000 * (k + 1));
        kill(pid, SIGKILL);
        finish(pid);
        last = (int)steps_saved("killed");
    }
    cr_assert_eq(finish(start("killed", "2", NULL)), 0);
    expect_same_best("whole", "killed");
}

/* Wait until the program catches SIGTERM: before that, the signal simply kills it. */
static void wait_until_caught(pid_t pid)
{
    unsigned long long caught = 0;
    char               path[64], line[200];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    for (int k = 0; k < 20000 && !(caught >> (SIGTERM - 1) & 1); k++, usleep(1000)) {
        FILE *f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f))
            sscanf(line, "SigCgt: %llx", &caught);
        if (f)
            fclose(f);
    }
}

/* A signal interrupts an evaluation, which is made when the run is resumed. */
Test(train, sigterm_ends_an_evaluation)
{
    pid_t pid;
    cr_assert_eq(finish(start("whole", "2", "evaluate.sequences=0")), 0);
    pid = start("stopped", "2", "evaluate.sequences=0");
    for (int k = 0; k < 3; k++) { /* at arbitrary moments, some of them during an evaluation */
        wait_until_caught(pid);
        usleep(170000 * (useconds_t)k);
        kill(pid, SIGTERM);
        int code = finish(pid);
        cr_assert(code == 75 || code == 0, "exit code %d", code);
        pid = start("stopped", "2", "evaluate.sequences=0");
    }
    cr_assert_eq(finish(pid), 0);
    expect_same("whole", "stopped");
}

/* The same of tasks, which take most of the time here: some of the signals come while they run. */
Test(train, sigterm_ends_tasks)
{
    pid_t pid;
    score_tasks("tasks.sums.acc");
    cr_assert_eq(finish(start("whole", "2", "train.score_every=1")), 0);
    for (int k = 0; k < 4; k++) {
        int code;
        pid = start("stopped", "2", "train.score_every=1");
        wait_until_caught(pid);
        usleep(60000 * (useconds_t)(k + 1));
        kill(pid, SIGTERM);
        code = finish(pid);
        cr_assert(code == 75 || code == 0, "exit code %d", code);
    }
    cr_assert_eq(finish(start("stopped", "2", "train.score_every=1")), 0);
    expect_same_best("whole", "stopped");
}

/* Run a shell command, which must succeed; %1$s is the program, %2$s the scratch directory. */
static void sh(const char *format)
{
    char command[4096];
    snprintf(command, sizeof command, format, TANDEM_BINARY, directory);
    cr_assert_eq(system(command), 0, "%s", command);
}

/* Refused updates change nothing, and their count is saved: a resumed run diverges again at
 * once. */
Test(train, divergence_is_exit_code_3_and_saved)
{
    int64_t saved;
    cr_assert_eq(finish(start("wild", "2", "train.spike=0.0001")), 3);
    saved = steps_saved("wild");
    cr_assert_gt(saved, 20);
    cr_assert_eq(finish(start("wild", "2", "train.spike=0.0001")), 3);
    cr_assert_eq(steps_saved("wild"), saved + 1);
}

/* Only the loggers that the config names are used, with its options. */
Test(train, loggers_have_options)
{
    sh("%1$s train -c %2$s/model.cfg run.name=told -q train.steps=3 "
       "'run.loggers=({plugin=\"jsonl\";file=\"m.jsonl\";})' >%2$s/out && "
       "grep -q train/loss %2$s/told/m.jsonl && test ! -e %2$s/told/metrics.jsonl && "
       "test ! -e %2$s/told/tensorboard && test $(grep -c '^logger' %2$s/told/environment.txt) = "
       "1");
}

/* A loss that has become NaN is null in JSON, and the run has diverged, whatever the guard let
 * pass. */
Test(train, json_of_non_numbers)
{
    sh("%1$s train -c %2$s/model.cfg run.name=nan -q --json train.guard=none train.clip=0 "
       "schedule.peak=1e5 schedule.warmup=0 "
       "'optimizer.plugin=\"adamw\"' optimizer.weight_decay=0.9 train.keep_last=1 > %2$s/out; "
       "test $? = 3 && grep -q '\"nll\": null' %2$s/out && grep -q '\"source\": \"facts\"' "
       "%2$s/out");
    sh("%1$s evaluate -c %2$s/model.cfg run.name=nan -q > %2$s/out; test $? = 3");
}

/* A lack of memory is reported before any is allocated, and before anything is trained. */
Test(train, more_memory_than_there_is)
{
    sh("! %1$s train -c %2$s/model.cfg run.name=a model.d_model=65536 model.ffn.d_ff=262144 "
       "2>%2$s/err && grep -q 'of memory (parameters' %2$s/err && grep -q 'is available' %2$s/err");
    sh("! %1$s train -c %2$s/model.cfg run.name=b train.batch=1073741823 train.micro_batch=1 "
       "2>%2$s/err && grep -q 'of memory (parameters' %2$s/err");
    /* larger than the number of sequences: all of them */
    sh("%1$s train -c %2$s/model.cfg run.name=c -q train.steps=1 evaluate.batch=1073741823 "
       ">%2$s/out");
}

/* A damaged line does not affect other lines; with stdin, stdout and stderr closed, their output
 * does not end up in other files. */
Test(train, metrics_are_kept)
{
    cr_assert_eq(finish(start("kept", "2", "train.steps=12")), 0);
    sh("cd %2$s/kept && cp metrics.jsonl before && sed -i '1s/./x/' metrics.jsonl && "
       "%1$s train -c %2$s/model.cfg run.name=kept -q --resume train.steps=13 >%2$s/out && "
       "sed -n 2,4p before >../x && sed -n 2,4p metrics.jsonl | cmp - ../x");
    sh("%1$s train -c %2$s/model.cfg run.name=closed train.steps=9 0<&- 1>&- 2>&-; "
       "! grep -qv '^{.*}$' %2$s/closed/metrics.jsonl && test ! -s %2$s/closed/.lock");
}

/* A checkpoint must contain the step in its name; the newest has the largest number, however many
 * digits the name has. */
Test(train, checkpoints_that_were_renamed)
{
    cr_assert_eq(finish(start("kept", "2", "train.steps=5")), 0);
    sh("cd %2$s/kept/checkpoints && cp -r step-00000005 step-9 && cd %2$s && "
       "! %1$s train -c %2$s/model.cfg run.name=kept -q --resume train.steps=20 2>%2$s/err && "
       "grep -q \"step-9' contains step 5\" %2$s/err && grep -q \"remove the directory\" %2$s/err");
}

Test(train, a_resumed_run_is_the_same_run)
{
    cr_assert_eq(finish(start("kept", "2", "train.steps=5")), 0);
    sh("%1$s train -c %2$s/model.cfg run.name=kept -q --resume train.seed=7 train.steps=6 "
       "2>%2$s/err; test $? = 2 && "
       "grep -q 'train.seed: 1 -> 7' %2$s/err && ! grep -q 'train.steps' %2$s/err");
    sh("%1$s train -c %2$s/model.cfg run.name=kept --resume train.steps=6 2>%2$s/err && grep -q "
       "'with a different train.steps: 5 -> 6' %2$s/err");
    cr_assert_eq(steps_saved("kept"), 6);
    sh("grep -q '^attention/1 *softmax .*attention-softmax.so' %2$s/kept/environment.txt && grep "
       "-q '^logger/1' %2$s/kept/environment.txt");
}

/* A file with the same name and length, but different text. */
Test(train, other_text_is_refused)
{
    sh("cp " TANDEM_SOURCE
       "/data/corpus/facts.train.jsonl %2$s/t.jsonl; head -c 20000 %2$s/t.jsonl | head "
       "-n -1 >%2$s/x.jsonl; O='data.sources=({name=\"t\";files=(\"%2$s/x.jsonl\");})'; "
       "T='%1$s train -c %2$s/model.cfg -q run.name=kept --resume train.evaluate_every=-1'; "
       "$T train.steps=5 \"$O\" >%2$s/a.out && $T train.steps=6 \"$O\" >%2$s/a.out && "
       "touch %2$s/x.jsonl && $T train.steps=7 \"$O\" >%2$s/a.out && "
       "tac %2$s/x.jsonl >%2$s/y.jsonl && mv %2$s/y.jsonl %2$s/x.jsonl && "
       "{ $T train.steps=8 \"$O\" 2>%2$s/err; test $? = 2; } && grep -q 'text is not the run.s "
       "own' "
       "%2$s/err");
}

/* The weights that a run starts from are part of its config: resumed before its first checkpoint,
 * it starts from them again. */
Test(train, a_run_from_weights)
{
    cr_assert_eq(finish(start("first", "2", "train.steps=5")), 0);
    sh("W=%2$s/first/checkpoints/step-00000005/model.safetensors; T='%1$s train -c %2$s/model.cfg "
       "-q "
       "train.steps=5 --json';"
       "$T run.name=a train.weights=$W >%2$s/a.out && $T run.name=b --weights $W --resume "
       ">%2$s/b.out &&"
       "$T run.name=c >%2$s/c.out && grep '\"nll\"' %2$s/a.out >%2$s/x.out && grep '\"nll\"' "
       "%2$s/b.out >%2$s/y.out &&"
       "grep '\"nll\"' %2$s/c.out >%2$s/z.out && cmp %2$s/x.out %2$s/y.out && ! cmp -s %2$s/x.out "
       "%2$s/z.out");
    sh("%1$s train -c %2$s/model.cfg run.name=a -q train.steps=9 --resume 2>%2$s/err; test $? = 2 "
       "&& "
       "grep -q 'train.weights' %2$s/err");
    sh("! %1$s train -c %2$s/model.cfg run.name=d --weights %2$s/none 2>%2$s/err && grep -q "
       "\"'%2$s/none'\" %2$s/err");
}

/* A finished run that is resumed prints the same result again. */
Test(train, a_finished_run_shows_its_result)
{
    sh("T='%1$s train -c %2$s/model.cfg -q --json train.steps=6 run.name=done --resume'; $T "
       ">%2$s/a.out && "
       "$T >%2$s/b.out && grep -v tokens_per_second %2$s/a.out >%2$s/x.out && grep -v "
       "tokens_per_second %2$s/b.out "
       ">%2$s/y.out && cmp %2$s/x.out %2$s/y.out && test $(wc -l <%2$s/done/metrics.jsonl) = 3");
    sh("test $(grep -c '^started: ' %2$s/done/environment.txt) = 2 && grep -q '^processor: ' "
       "%2$s/done/environment.txt");
    sh("%1$s train -c %2$s/model.cfg -q --json train.steps=0 run.name=untrained >%2$s/a.out && "
       "grep -q "
       "evaluate/nll %2$s/untrained/metrics.jsonl");
}

/* The output names the file of the parameters, and parameters of another tokenizer are refused. */
Test(train, evaluation_names_its_parameters)
{
    cr_assert_eq(finish(start("kept", "2", "train.steps=5")), 0);
    sh("%1$s evaluate -c %2$s/model.cfg run.name=kept >%2$s/out && "
       "grep -q 'kept/checkpoints/step-00000005/model.safetensors' %2$s/out");
    sh("sed -i 's/\"tokenizer\": \"[^\"]*\"/\"tokenizer\": \"another\"/' "
       "%2$s/kept/checkpoints/step-00000005/state.json; W=%2$s/kept/checkpoints/step-00000005/"
       "model.safetensors; ! %1$s evaluate -c %2$s/model.cfg --weights $W 2>%2$s/err && grep -q "
       "'trained with another tokenizer (another' %2$s/err");
    sh("! %1$s evaluate -c %2$s/model.cfg run.name=none 2>%2$s/err && grep -q 'there is no "
       "checkpoint' %2$s/err");
}

Test(train, one_process_a_run)
{
    pid_t first = start("shared", "1", "train.steps=100000");
    wait_for_checkpoint("shared", 0, 0);
    sh("%1$s train -c %2$s/model.cfg run.name=shared -q --resume 2>%2$s/err; test $? = 2 && grep "
       "-q 'another process is training' %2$s/err");
    kill(first, SIGKILL);
    finish(first);
    /* one step beyond what it saved: an end that lies before that is refused */
    sh("n=$(ls %2$s/shared/checkpoints | tail -n 1 | sed 's/step-0*//') && %1$s train -c "
       "%2$s/model.cfg run.name=shared -q --resume train.steps=$((${n:-0} + 1)) > %2$s/out");
}

/* The first evaluation is the best so far; its checkpoint is kept although none was due. */
Test(train, the_best_evaluation_is_saved)
{
    char path[400];
    cr_assert_eq(finish(start("best", "2", "train.checkpoint_every=0")), 0);
    snprintf(path, sizeof path, "%s/best/checkpoints/step-00000020/model.safetensors", directory);
    cr_expect(td_file_exists(path));
}

/* A task's score decides, and ends the run; what it is, and what it cannot be. */
Test(train, the_best_by_a_task)
{
    score_tasks("tasks.sums");
    sh("T='%1$s train -c %2$s/tasks.cfg -q run.name=early'; $T train.score_every=1 "
       "train.early_stopping_patience=3 --json >%2$s/out && grep -q '\"tasks/sums/acc\": ' "
       "%2$s/out && "
       "grep -q '\"chrf,none\"\\|\"chrf\": ' %2$s/out && grep -q 'the run ends early: 3 "
       "evaluations since the "
       "best one, tasks/sums/acc' %2$s/early/log.txt");
    /* another judge: what was best until then no longer counts */
    sh("%1$s train -c %2$s/tasks.cfg -q run.name=early --resume train.score_every=1 "
       "train.best=tasks.written >/dev/null && grep -q 'what is scored has changed' "
       "%2$s/early/log.txt");
    sh("! %1$s train -c %2$s/tasks.cfg -q run.name=no train.best=tasks.sums.f1 2>%2$s/err && "
       "grep -q 'train.best = \"tasks.sums.f1\" is not a score of tasks.names; there are "
       "tasks.sums.acc, tasks.written.chrf' %2$s/err");
    sh("! %1$s train -c %2$s/tasks.cfg -q run.name=no 'tasks.names=(\"sum\")' 2>%2$s/err && grep "
       "-q "
       "\"unknown task 'sum'\" %2$s/err && test ! -e %2$s/no/config.cfg");
    sh("! %1$s train -c %2$s/tasks.cfg -q run.name=no train.best=nll 2>%2$s/err && grep -q 'names "
       "no "
       "score' %2$s/err");
}

/* Held-out text is cut by evaluate.length, not by train.length; the two have no common divisor. */
Test(train, evaluation_has_its_own_length)
{
    char command[4096];
    cr_assert_eq(finish(start("cut", "2", "train.steps=2")), 0);
    snprintf(command, sizeof command,
             "%1$s evaluate -c %2$s/model.cfg run.name=cut evaluate.length=37 evaluate.prefix=5 "
             "evaluate.sequences=7 --json -q > %2$s/e &&"
             "grep -q '\"sequences\": 7' %2$s/e && grep -q '\"targets\": 224' %2$s/e &&"
             "%1$s evaluate -c %2$s/model.cfg run.name=cut evaluate.length=149 "
             "evaluate.sequences=3 --json -q > %2$s/e &&"
             "grep -q '\"targets\": 225' %2$s/e",
             TANDEM_BINARY, directory);
    cr_assert_eq(system(command), 0);
}

Test(train, a_run_is_not_overwritten)
{
    char command[2000];
    cr_assert_eq(finish(start("kept", "2", "train.steps=5")), 0);
    snprintf(command, sizeof command,
             "%s train -c %s/model.cfg run.name=kept -q 2>%s/err; test $? = 2 && grep -q 'already "
             "contains a run' %s/err",
             TANDEM_BINARY, directory, directory, directory);
    cr_assert_eq(system(command), 0);
}
