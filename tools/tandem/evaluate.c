/* evaluate.c - `tandem evaluate`: held-out NLL of a checkpoint by the fair protocol, as a table; or,
 * with --tasks, downstream tasks (tasks.c). */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run/results.h"
#include "several.h"
#include "tasks.h"

static int show_progress(void *arg, int64_t done, int64_t all)
{
    const td_tool *t = arg;
    td_log_progress(t->log, done == all, "evaluating, %" PRId64 "/%" PRId64 " sequences", done,
                    all);
    return 0;
}

/* Prints the columns of one row. */
static void print_numbers(const char *of, double nll, double error, double bits_per_byte)
{
    printf("%-24s %10.4f ", of, nll);
    if (isfinite(error))
        printf("%8.4f ", error);
    else /* unknown for a single sequence */
        printf("%8s ", "-");
    printf("%12.3f ", exp(nll));
    if (bits_per_byte < 0)
        printf("%14s", "unknown");
    else
        printf("%14.4f", bits_per_byte);
}

static void print_table(const td_evaluation *e)
{
    printf("%-24s %10s %8s %12s %14s %10s\n", "source", "nll", "error", "perplexity",
           "bits per byte", "sequences");
    for (int64_t i = 0; i < e->count; i++) {
        const td_score *s = &e->at[i];
        if (s->targets)
            print_numbers(s->source, s->nll, s->nll_error, s->bits_per_byte);
        else /* no held-out text */
            printf("%-24s %10s %8s %12s %14s", s->source, "-", "-", "-", "-");
        printf(" %10" PRId64 "\n", s->sequences);
    }
    print_numbers("mean", e->nll, e->nll_error, e->bits_per_byte);
    putchar('\n');
}

/* Both outputs name the file: a reader must know which parameters the numbers belong to. */
static void print(td_tool *t, const td_evaluation *e, const char *weights)
{
    if (t->json) {
        json_t *scores = td_results_scores(e);
        json_object_set_new(scores, "weights", json_string(weights));
        td_work_result(t, scores);
        return;
    }
    print_table(e);
    printf("\nparameters: '%s'\n", weights);
    /* 1.96 standard errors of the difference of two such means */
    if (isfinite(e->nll_error))
        printf("another model's mean within %.4f of this one may differ by noise alone; `tandem "
               "compare` tests two runs sequence by sequence\n",
               1.96 * sqrt(2) * e->nll_error);
}

/* The directory and name of the results. */
typedef struct place {
    /* --out, or RUN/eval if the parameters are the run's own; NULL: they are not written */
    char *directory;
    char *name;
} place;

/* A checkpoint chosen by --best or --step counts as named, so its scores do not replace those of
 * the newest. */
static void name_checkpoint(td_run_place *run, int64_t step, const char *weights)
{
    if (step != TD_STEP_NEWEST && !run->checkpoint)
        run->checkpoint = td_path_directory(weights);
}

static int show(td_tool *t, td_session *s, const td_evaluation *result, int code, const place *p,
                td_error *error)
{
    /* results with NaN are printed too */
    if (result)
        print(t, result, td_session_loaded(s));
    if (!code && p->directory)
        code = td_results_write(s, result, p->directory, p->name, error);
    if (!code && p->directory)
        td_log_line(t->log, TD_LOG_INFO, "scores in %s/%s.json, of each sequence in %s.jsonl",
                    p->directory, p->name, p->name);
    return code;
}

/* All ranks compute, and fail together; the first one prints and writes. The others wait for that,
 * or they would go on to the next run although it failed. */
static int score(td_tool *t, td_session *s, const place *p)
{
    const td_evaluation *result = NULL;
    td_error             e = { 0 };
    int                  code = td_session_evaluate(s, show_progress, t, &result, &e);
    td_work_end_if_lost(t, s, &e);
    td_team_begin_solo(s->team);
    if (td_team_leads(s->team))
        code = show(t, s, result, code, p, &e);
    return td_work_end(t, s, td_team_end_solo(s->team, code, &e), &e);
}

/* With the other processes, if there are any. The data comes first, since the leader prepares what is
 * missing. */
static char *load(td_tool *t, td_session *s, const td_run_place *run, int64_t step, td_error *error)
{
    bool beyond = td_tool_option(t, "--extrapolate") != NULL; /* it opens data of its own */
    if (td_work_join(t, s, error) ||
        (s->team && !beyond && td_session_open_data_together(s, error)))
        return NULL;
    return td_work_load(t, run, s, step, error);
}

static int evaluate(td_tool *t, td_session *s, td_run_place *run, int64_t step)
{
    const char *out = td_tool_option(t, "--out");
    bool        beyond = td_tool_option(t, "--extrapolate") != NULL;
    td_error    e = { 0 };
    char       *weights = load(t, s, run, step, &e);
    int         code = weights ? 0 : td_failed(&e, TD_EIO);
    place       p = { 0 };
    td_work_end_if_lost(t, s, &e);
    code = td_team_agree(s->team, code, &e);
    if (!code)
        name_checkpoint(run, step, weights);
    free(weights);
    if (code)
        return td_work_end(t, s, code, &e);
    if (td_team_leads(s->team)) /* only it writes */
        p.directory = out ? strdup(out) : td_results_directory(s);
    p.name = td_results_name(beyond ? "extrapolate" : "heldout", run->checkpoint);
    code = beyond ? td_work_extrapolate(t, s, p.directory, p.name) : score(t, s, &p);
    free(p.directory);
    free(p.name);
    return code;
}

static const td_flag flags[] = {
    { "--weights", "PATH",
      "parameters: a safetensors file, a checkpoint or a run's directory; by default the config's "
      "run" },
    { "--best", 0, "use the run's best checkpoint (train.best), not the newest" },
    { "--step", "N", "use the run's checkpoint of this step" },
    { "--allow", "KEY ..",
      "a key that may differ from the parameters' model: model.position.*; data: other held-out "
      "text "
      "than the run's" },
    { "--out", "DIR", "directory for the results (default: eval in the run)" },
    { "--extrapolate", NULL,
      "measure the loss beyond the training length, by total length and by "
      "position" },
    { "--lengths", "N,N",
      "total lengths in tokens (train.length to 8 times that, in steps of "
      "half of it)" },
    { "--prefixes", "N,N", "given tokens (1, a quarter and half of train.length)" },
    { "--sequences", "N", "with --extrapolate: at most N long sequences per source (16)" },
    { "--tasks", "NAMES ..",
      "score these tasks instead: names, groups and files, boolq,mmlu,my.cfg" },
    { "--list", NULL, "list the shipped tasks with their groups" },
    { "--data", "DIR",
      "with --tasks: directory of the data sets (default: tasks.data of the "
      "config)" },
    { "--shots", "N", "with --tasks: exemplars per prompt (default: the task's number)" },
    { "--limit", "N", "with --tasks: only the first N items of each task; 0: all" },
    { "--generate", NULL, "with --tasks: also generate the answers to multiple-choice questions" },
    { "--chat", NULL,
      "with --tasks: prompts as turns of a chat, by the template of the run's data" },
    { "--batch", "N", "with --tasks: answers computed together; does not change scores" },
    { "--seed", "N", "with --tasks: seed for drawn exemplars (1234)" },
    { "--name", "NAME", "with --tasks: name of the results (default: from tasks and shots)" },
    { "--every-rank", NULL, "let every process write its log, not only the first" },
    { 0, 0, 0 },
};

const td_usage td_usage_evaluate = {
    .name = "evaluate",
    .arguments =
        "[RUN ..] [--extrapolate | --tasks NAMES [--shots N]] [--weights PATH] [--best | --step N]",
    .brief = "Score held-out text: NLL per source, given the first half of each sequence (or the "
             "inputs of a pair), for every model alike. Or score downstream tasks.",
    .example = "tandem evaluate runs/first",
    .flags = flags,
    .config = true,
    .optional = true,
    .run = true,
    .folders = 64,
    .json = true,
    .plain = 64,
    .notes =
        "RUN is the directory of a run, whose config and newest checkpoint are used, or one of its "
        "checkpoints, or a Hugging Face folder (`tandem convert`). Scores are written to "
        "RUN/eval/heldout.json, the scores of each sequence to heldout.jsonl; with --weights only "
        "if --out is given. Several runs are scored one after "
        "the "
        "other; for runs that differ only in their seed, means and deviations over seeds "
        "follow.\n\n"
        "Task scores are written to RUN/eval/NAME.json, with the keys of "
        "lm-evaluation-harness, and each prompt with its answer to "
        "NAME.samples_TASK.jsonl.\n\n"
        "--extrapolate reads long held-out documents and writes extrapolate.json, .csv, "
        "-position.csv and, if gnuplot is installed, .svg.",
};

/* An option of a way to evaluate that was not asked for must not be silently ignored. */
static bool options_fit(td_tool *t, int *code)
{
    static const struct {
        const char *name, *of, *advice;
    } own[] = {
        { "--lengths", "--extrapolate", "" },
        { "--prefixes", "--extrapolate", "" },
        { "--sequences", "--extrapolate", "; otherwise set evaluate.sequences=N" },
        { "--data", "--tasks", "" },
        { "--shots", "--tasks", "" },
        { "--limit", "--tasks", "; otherwise set evaluate.sequences=N" },
        { "--generate", "--tasks", "" },
        { "--chat", "--tasks", "" },
        { "--batch", "--tasks", "; otherwise set evaluate.batch=N" },
        { "--seed", "--tasks", "" },
        { "--name", "--tasks", "; --out DIR says where the scores are written" },
    };
    if (td_tool_option(t, "--tasks") && td_tool_option(t, "--extrapolate")) {
        *code = td_tool_usage_error(
            t, "--tasks and --extrapolate are two ways to evaluate: use one at a time");
        return false;
    }
    for (size_t k = 0; k < sizeof own / sizeof *own; k++)
        if (td_tool_option(t, own[k].name) && !td_tool_option(t, own[k].of)) {
            *code = td_tool_usage_error(t, "%s is for %s only%s", own[k].name, own[k].of,
                                        own[k].advice);
            return false;
        }
    return true;
}

/* The run that the first plain argument names, or the config of the arguments. */
static int evaluate_one(td_tool *t)
{
    td_run_place place;
    td_session  *s = NULL;
    int64_t      step;
    bool         tasks = td_tool_count(t, "--tasks") > 0;
    int          code = TD_EXIT_USAGE;

    if (!td_work_step(t, &step))
        return code;
    td_work_take_run(t, &place);
    if (td_work_has_model(t, &place, &code))
        s = td_work_open_run(
            t, &place,
            TD_NEED_MODEL | TD_NEED_TOKENIZER |
                /* a task brings its own text, so the run's data need not be here */
                (tasks ? 0 : TD_NEED_LOSS | TD_NEED_HELD_OUT),
            &code);
    if (s)
        code = tasks ? td_tool_run_tasks(t, s, &place, step) : evaluate(t, s, &place, step);
    td_session_close(s);
    td_run_place_free(&place);
    return code;
}

int td_command_evaluate(td_tool *t, int argc, char **argv)
{
    int code;
    if (!td_tool_parse(t, &td_usage_evaluate, argc, argv, &code) || !options_fit(t, &code))
        return code;
    if (td_work_follows(t) && !freopen("/dev/null", "w", stdout)) /* the first one prints tables */
        return TD_EXIT_FAILED;
    if (td_tool_option(t, "--list"))
        return td_tool_list_tasks(t);
    return t->n_plain > 1 ? td_tool_evaluate_runs(t, evaluate_one) : evaluate_one(t);
}
