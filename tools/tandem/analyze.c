/* analyze.c - `tandem analyze`: attention weights and the log-probability of the text by position,
 * as a table, files and pictures. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run/maps.h"
#include "run/results.h"
#include "work.h"

static int show_progress(void *arg, int64_t done, int64_t all)
{
    const td_tool *t = arg;
    td_log_progress(t->log, done == all, "analyzing, %" PRId64 "/%" PRId64 " sequences", done, all);
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

static void print_number(double x, int width, int digits)
{
    if (isfinite(x))
        printf(" %*.*f", width, digits, x);
    else
        printf(" %*s", width, "-");
}

static void print_mean(const td_attention_mean *m)
{
    /* -1: the mean of several attentions */
    if (m->layer < 0) {
        char name[64];
        snprintf(name, sizeof name, "mean, %s", m->name);
        printf("%-44s", name);
    } else
        printf("%-44s", m->name);
    print_number(m->locality, 9, 4);
    print_number(m->entropy, 9, 3);
    print_number(m->distance, 10, 1);
    print_number(m->reads == TD_READS_CROSS || m->reads == TD_READS_BOTH ? m->memory : (double)NAN,
                 11, 4);
    printf("%s\n", m->map ? "  (its second map)" : "");
}

/* The mean over the queries in parts [from, to). */
static double locality_of(const td_attention_mean *m, int64_t from, int64_t to)
{
    double sum = 0;
    for (int64_t k = from; k < to; k++)
        sum += m->parts[k].locality;
    return to > from ? sum / (double)(to - from) : (double)NAN;
}

/* Prints how locality falls along the text. */
static void print_decay(const td_analysis *a)
{
    const td_attention_mean *both = &a->all[TD_READS_BOTH];
    const td_attention_mean *m = both->heads ? both : &a->all[TD_READS_SELF];
    int64_t                  quarter = m->n_parts / 4;
    if (quarter)
        printf("locality of self-attention: %.4f in the first quarter, %.4f in the last\n",
               locality_of(m, 0, quarter), locality_of(m, m->n_parts - quarter, m->n_parts));
}

static void print_logprobs(const td_analysis *a)
{
    const td_logprob_part *first = a->logprobs, *last = a->logprobs + a->n_logprobs - 1;
    double                 sum = 0;
    for (const td_logprob_part *p = first; p <= last; p++)
        sum += p->logprob * (double)(p->to - p->from);
    printf("log-probability per token: %.4f; tokens %" PRId64 " to %" PRId64 ": %.4f, %" PRId64
           " to %" PRId64 ": %.4f\n",
           sum / (double)(last->to - first->from), first->from, first->to - 1, first->logprob,
           last->from, last->to - 1, last->logprob);
}

static void print_table(const td_analysis *a)
{
    if (a->n_attentions)
        printf("%-44s %9s %9s %10s %11s\n", "attention", "locality", "entropy", "distance",
               "on encoder");
    for (size_t k = 0; k < a->n_attentions; k++)
        print_mean(&a->attentions[k]);
    for (int r = 0; r < TD_READS; r++)
        if (a->all[r].heads)
            print_mean(&a->all[r]);
    for (size_t k = 0; k < a->n_without; k++)
        printf("%-44s has no weights: it is not a softmax over keys\n", a->without[k]);
    putchar('\n');
    print_decay(a);
    print_logprobs(a);
}

static void print(const td_tool *t, const td_analysis *a, const char *weights)
{
    if (t->json) {
        json_t *j = td_maps_json(a);
        json_object_set_new(j, "weights", json_string(weights));
        td_work_print_json(j, JSON_INDENT(2));
        return;
    }
    print_table(a);
    printf("%" PRId64 " sequences %s, %" PRId64 " + %" PRId64 " tokens; trained at %" PRId64
           "\nparameters: '%s'\n",
           a->sequences, a->documents ? "of long documents" : "of joined text", a->prefix,
           a->length - a->prefix, a->trained, weights);
}

/* ---- the command ----------------------------------------------------------------------------- */

/* "0,3" or patterns, from all --layers options. */
typedef struct layers {
    char       *text; /* free() it; `at` points into it */
    const char *at[256];
    size_t      n;
} layers;

static bool read_layers(td_tool *t, layers *l)
{
    enum { MOST = sizeof l->at / sizeof *l->at };
    const char *given = td_tool_option(t, "--layers");
    char       *rest;
    *l = (layers){ .text = strdup(given ? given : "") };
    /* strtok_r cuts the copy up, and the words stay in it */
    for (char *word = l->text ? strtok_r(l->text, ",", &rest) : NULL; word;
         word = strtok_r(NULL, ",", &rest)) {
        if (l->n == MOST) {
            td_tool_usage_error(t, "--layers takes at most %d layers", (int)MOST);
            return false;
        }
        l->at[l->n++] = word;
    }
    if (given && !l->n)
        td_tool_usage_error(t, "--layers is empty: give layer numbers or path patterns");
    return l->text && (l->n || !given);
}

static int write_files(td_tool *t, td_session *s, const td_analysis *a, const char *directory,
                       const char *name, td_error *error)
{
    bool drawn;
    int  code = td_maps_write(s, a, directory, name, error);
    if (!code)
        code = td_work_draw(t, directory, name, &drawn, error);
    if (!code)
        td_log_line(t->log, TD_LOG_INFO, "numbers in %s/%s.json, maps and curves in %s-*.csv%s",
                    directory, name, name, drawn ? ", drawn in -maps.svg and -curves.svg" : "");
    return code;
}

static int analyze(td_tool *t, td_session *s, const td_analyzing *x, const char *checkpoint)
{
    const td_analysis *result = NULL;
    const char        *out = td_tool_option(t, "--out");
    td_error           e = { 0 };
    int                code = td_session_analyze(s, x, &result, &e);
    char              *directory = out ? strdup(out) : td_results_directory(s);
    char              *name = td_results_name("analyze", checkpoint);
    /* results with NaN are printed too */
    if (result)
        print(t, result, td_session_loaded(s));
    if (!code && directory)
        code = write_files(t, s, result, directory, name, &e);
    free(directory);
    free(name);
    return code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

/* A checkpoint chosen by --best or --step counts as named, so its results do not replace those of
 * the newest. */
static int load(td_tool *t, td_session *s, td_run_place *run, int64_t step, const td_analyzing *x)
{
    td_error e = { 0 };
    char    *weights = td_work_load(t, run, s, step, &e);
    int      code = weights ? 0 : e.code;
    if (!code && step != TD_STEP_NEWEST && !run->checkpoint)
        run->checkpoint = td_path_directory(weights);
    free(weights);
    return code ? td_tool_fail(t, &e) : analyze(t, s, x, run->checkpoint);
}

static const td_flag flags[] = {
    { "--layers", "N,N",
      "layers to analyze: numbers, or path patterns such as *.cross_attn "
      "(all)" },
    { "--heads", "N,N", "heads of each attention, from 0 (all)" },
    { "--sequences", "N", "at most N held-out sequences over all sources (8)" },
    { "--length", "N", "tokens per sequence (4 times train.length)" },
    { "--prefix", "N", "given tokens of each sequence (half of train.length)" },
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
    { 0, 0, 0 },
};

const td_usage td_usage_analyze = {
    .name = "analyze",
    .arguments = "[RUN] [--layers N,N] [--heads N,N] [--length N] [--prefix N] [--sequences N]",
    .brief = "Analyze attention by position: maps of 128 x 128 parts, locality (the weight on t-4 "
             ".. t), entropy, mean distance, the coverage of cross-attention, and the "
             "log-probability of the text.",
    .example = "tandem analyze runs/first --length 2048",
    .flags = flags,
    .config = true,
    .optional = true,
    .run = true,
    .folders = 1,
    .json = true,
    .plain = 1,
    .notes =
        "RUN is the directory of a run, or one of its checkpoints. Long held-out documents are "
        "used if there are any; otherwise sequences are joined from shorter ones.\n\n"
        "Results are in RUN/eval: analyze.json, analyze-locality.csv, -map-self.csv, "
        "-map-cross.csv, "
        "-map-encoder.csv, -coverage.csv, -logprob.csv and, if gnuplot is installed, -maps.svg and "
        "-curves.svg.\n\n"
        "Weights are computed from queries and keys a few rows at a time, so long sequences need "
        "no more memory than the model itself. Attentions that are not a softmax over keys are "
        "listed and left out.",
};

static int open_and_run(td_tool *t, td_analyzing *x, int64_t step)
{
    td_run_place place;
    td_session  *s = NULL;
    int          code;
    td_work_take_run(t, &place);
    if (td_work_has_model(t, &place, &code))
        s = td_work_open_run(t, &place,
                             TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_TOKENIZER | TD_NEED_HELD_OUT,
                             &code);
    if (s)
        code = load(t, s, &place, step, x);
    td_session_close(s);
    td_run_place_free(&place);
    return code;
}

int td_command_analyze(td_tool *t, int argc, char **argv)
{
    td_analyzing x = { .size = sizeof x, .progress = show_progress, .arg = t };
    td_numbers   heads;
    layers       chosen;
    int64_t      step;
    int          code;

    if (!td_tool_parse(t, &td_usage_analyze, argc, argv, &code))
        return code;
    if (!td_work_step(t, &step) || !td_work_numbers(t, "--heads", 0, &heads) ||
        !td_tool_integer(t, "--sequences", 0, 1, INT32_MAX, &x.sequences) ||
        !td_tool_integer(t, "--length", 0, 2, INT32_MAX, &x.length) ||
        !td_tool_integer(t, "--prefix", 0, 1, INT32_MAX, &x.prefix))
        return TD_EXIT_USAGE;
    code = TD_EXIT_USAGE;
    /* `chosen` owns the text that its layers point into, so it outlives the run */
    if (read_layers(t, &chosen)) {
        x.layers = chosen.at;
        x.n_layers = chosen.n;
        x.heads = heads.at;
        x.n_heads = heads.n;
        code = open_and_run(t, &x, step);
    }
    free(chosen.text);
    return code;
}
