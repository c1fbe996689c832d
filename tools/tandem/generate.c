/* generate.c - `tandem generate`: continues prompts with a trained model, or holds a
 * conversation. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ranks.h"
#include "prompts.h"
#include "work.h"

typedef struct job {
    td_tool      *tool;
    td_session   *s;
    td_prompts    prompts;
    json_t      **waiting;       /* answers to later prompts, until earlier ones are printed */
    int64_t       printed, best; /* best: how many answers to print per prompt */
    int64_t       step;          /* the checkpoint's step, or a TD_STEP_ */
    bool          streams;       /* text is shown as it is generated */
    td_text       said;          /* the answer to the last turn of a conversation */
    td_generation how;
    td_generated  out;
    const char  **stops;
    int32_t      *stop_ids;
} job;

/* ---- answers --------------------------------------------------------------------------------- */

static void show(void *arg, int64_t prompt, const char *text, size_t size)
{
    fwrite(text, 1, size, stdout);
    fflush(stdout);
}

static json_t *json_of_ids(const int32_t *ids, int64_t n)
{
    json_t *list = json_array();
    for (int64_t k = 0; k < n; k++)
        json_array_append_new(list, json_integer(ids[k]));
    return list;
}

static json_t *json_of(const job *j, const td_answered *a)
{
    const td_given *p = &j->prompts.at[a->prompt];
    json_t         *o = json_object();
    if (p->text)
        json_object_set_new(o, "prompt", json_string(p->text));
    else
        json_object_set_new(o, "prompt_ids", json_of_ids(p->ids, p->n));
    json_object_set_new(o, "ids", json_of_ids(a->ids, a->n));
    json_object_set_new(o, "text", a->text ? json_string(a->text) : json_null());
    json_object_set_new(o, "finish", json_string(a->stopped ? "stop" : "length"));
    json_object_set_new(o, "logprob", td_tool_number(a->logprob));
    return o;
}

static void print_ids(const json_t *ids)
{
    size_t  k;
    json_t *id;
    json_array_foreach(ids, k, id)
        printf("%s%" JSON_INTEGER_FORMAT, k ? " " : "", json_integer_value(id));
    putchar('\n');
}

/* On a terminal several answers would run together, so they are separated; a pipe gets them bare,
 * even a launcher's, which may look like a terminal. */
static void print_heading(const job *j, const json_t *answer)
{
    const char *prompt = json_string_value(json_object_get(answer, "prompt"));
    if (j->tool->json || j->streams || j->s->team || !isatty(1))
        return;
    if (prompt)
        printf("--- %" PRId64 ": %.60s%s\n", j->printed + 1, prompt,
               strlen(prompt) > 60 ? " .." : "");
    else
        printf("--- %" PRId64 "\n", j->printed + 1);
}

static void print(const job *j, const json_t *answers)
{
    size_t  k;
    json_t *o;
    if (j->prompts.count > 1)
        print_heading(j, json_array_get(answers, 0));
    json_array_foreach(answers, k, o)
    {
        const char *text = json_string_value(json_object_get(o, "text"));
        if (j->tool->json) {
            json_dumpf(o, stdout, JSON_COMPACT);
            putchar('\n');
        } else if (j->streams)
            putchar('\n'); /* the text has been printed already */
        else if (text)
            puts(text);
        else
            print_ids(json_object_get(o, "ids"));
    }
    fflush(stdout);
}

/* Answers arrive when they are complete, but are printed in the order of their prompts. */
static void keep(void *arg, const td_answered *a)
{
    job *j = arg;
    if (!j->waiting[a->prompt])
        j->waiting[a->prompt] = json_array();
    if (a->rank < j->best)
        json_array_append_new(j->waiting[a->prompt], json_of(j, a));
    if (a->rank + 1 < a->ranks)
        return;
    while (j->printed < j->prompts.count && j->waiting[j->printed]) {
        print(j, j->waiting[j->printed]);
        json_decref(j->waiting[j->printed]);
        j->waiting[j->printed++] = NULL;
    }
}

/* ---- options --------------------------------------------------------------------------------- */

static const td_flag flags[] = {
    { "--ids", "IDS ..", "a prompt as token ids, \"51 3\"; needs no tokenizer" },
    { "--file", "FILE ..",
      "prompts, one per line; .jsonl: objects with 'prompt' or 'inputs'; -: standard input" },
    { "--interactive", NULL, "answer line after line in a terminal" },
    { "--template", "TEXT",
      "with --interactive: the form of a turn, in which {} stands for what you type; earlier turns "
      "are read too" },
    { "--max-new-tokens", "N", "generate at most N new tokens (128)" },
    { "--min-new-tokens", "N", "generate at least N before an answer may end (0)" },
    { "--temperature", "X", "0: the most likely token (0)" },
    { "--top-k", "N", "draw only from the N most likely tokens (0: off)" },
    { "--top-p", "X",
      "draw only from the most likely tokens that together reach this probability "
      "(1: off)" },
    { "--min-p", "X", "drop tokens less likely than X times the most likely one (0: off)" },
    { "--repetition-penalty", "X", "above 1: makes earlier tokens less likely (1: off)" },
    { "--beams", "N", "beam search over N hypotheses (1: off)" },
    { "--length-penalty", "X", "for beam search: above 0 favours long answers (1)" },
    { "--n-best", "N", "for beam search: print the N best answers (1)" },
    { "--stop", "TEXT ..", "end an answer before this text" },
    { "--stop-ids", "IDS ..", "end an answer at these token ids" },
    { "--ignore-eos", NULL, "do not end answers at the end-of-text token" },
    { "--seed", "N", "seed for drawn tokens (1)" },
    { "--batch", "N", "prompts answered at the same time (8); does not change answers" },
    { "--no-cache", NULL, "read the whole text again for each token: slow, for comparison" },
    { "--weights", "PATH", "parameters: a safetensors file, a checkpoint or a run's directory" },
    { "--best", NULL, "use the run's best checkpoint (train.best), not the newest" },
    { "--step", "N", "use the run's checkpoint of this step" },
    { "--allow", "KEY ..", "a key that may differ from the parameters' model: model.position.*" },
    { "--every-rank", NULL, "let every process write its log, not only the first" },
    { 0, 0, 0 },
};

const td_usage td_usage_generate = {
    .name = "generate",
    .arguments = "[RUN] [PROMPT ..] [--ids IDS ..] [--file FILE ..] [--interactive]",
    .brief = "Continue prompts with a trained model.",
    .example = "tandem generate runs/first \"Once upon a time\" --temperature 0.8 --seed 7",
    .flags = flags,
    .config = true,
    .optional = true,
    .run = true,
    .folders = 1,
    .json = true,
    .plain = TD_ARGUMENTS,
    .notes =
        "RUN is the directory of a run, whose config and newest checkpoint are used, or one of "
        "its checkpoints, or a Hugging Face folder (`tandem convert`). Answers are printed in "
        "the order of their prompts. In --interactive, "
        "/reset forgets the conversation, /quit or the end of input ends it, and Ctrl-C stops "
        "an answer.",
};

/* Collects stop texts and ids; the job owns both lists. */
static bool find_stops(job *j)
{
    td_tool *t = j->tool;
    size_t   n = td_tool_count(t, "--stop"), n_ids = td_tool_count(t, "--stop-ids");
    j->stops = calloc(n + 1, sizeof *j->stops);
    j->stop_ids = calloc(n_ids + 1, sizeof *j->stop_ids);
    if (!j->stops || !j->stop_ids) {
        td_tool_usage_error(t, "out of memory for stop strings");
        return false;
    }
    for (size_t k = 0; k < n; k++)
        j->stops[k] = td_tool_option_at(t, "--stop", k);
    for (size_t k = 0; k < n_ids; k++) {
        const char *text = td_tool_option_at(t, "--stop-ids", k);
        char       *end;
        long        id;
        errno = 0; /* the only sign of an overflow */
        id = strtol(text, &end, 10);
        if (end == text || *end || errno || id < 0 || id > INT32_MAX) {
            td_tool_usage_error(t, "--stop-ids must be token ids, not '%.40s'", text);
            return false;
        }
        j->stop_ids[k] = (int32_t)id;
    }
    j->how.stops = j->stops;
    j->how.stop_ids = j->stop_ids;
    j->how.n_stop_ids = n_ids;
    return true;
}

/* False after an error: an option would have no effect beside the others. */
static bool options_fit(const job *j)
{
    static const char *const drawing[] = { "--top-k", "--top-p", "--min-p" };
    td_tool                 *t = j->tool;
    if (j->best > j->how.beams) {
        td_tool_usage_error(t,
                            "--n-best %" PRId64 " needs as many hypotheses: add --beams %" PRId64,
                            j->best, j->best);
        return false;
    }
    for (size_t k = 0; k < sizeof drawing / sizeof *drawing; k++)
        if (j->how.temperature == 0 && td_tool_option(t, drawing[k])) {
            td_tool_usage_error(t,
                                "%s has no effect at temperature 0, which always takes the most "
                                "likely token: add --temperature 1",
                                drawing[k]);
            return false;
        }
    return true;
}

static bool read_options(job *j)
{
    td_tool       *t = j->tool;
    td_generation *g = &j->how;
    int64_t        seed;
    g->size = sizeof *g;
    g->ignore_eos = td_tool_option(t, "--ignore-eos") != NULL;
    g->no_cache = td_tool_option(t, "--no-cache") != NULL;
    /* the library checks the ranges */
    if (!td_tool_integer(t, "--max-new-tokens", 128, 1, INT32_MAX, &g->max_tokens) ||
        !td_tool_integer(t, "--min-new-tokens", 0, 0, INT32_MAX, &g->min_tokens) ||
        !td_tool_real(t, "--temperature", 0, &g->temperature) ||
        !td_tool_integer(t, "--top-k", 0, 0, INT32_MAX, &g->top_k) ||
        !td_tool_positive(t, "--top-p", 1, &g->top_p) ||
        !td_tool_real(t, "--min-p", 0, &g->min_p) ||
        !td_tool_positive(t, "--repetition-penalty", 1, &g->repetition_penalty) ||
        !td_tool_integer(t, "--beams", 1, 1, 4096, &g->beams) ||
        !td_tool_real(t, "--length-penalty", 1, &g->length_penalty) ||
        !td_tool_integer(t, "--n-best", 1, 1, 4096, &j->best) ||
        !td_tool_integer(t, "--seed", 1, 0, INT64_MAX, &seed) ||
        !td_tool_integer(t, "--batch", 8, 1, 1 << 20, &g->batch))
        return false;
    g->seed = (uint64_t)seed;
    return options_fit(j) && find_stops(j);
}

/* ---- prompts that are there ------------------------------------------------------------------ */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) { interrupted = number; }

static int stop(void *arg) { return interrupted != 0; }

/* Collects prompts from the arguments, from --ids and from files, in this order. */
static int collect(job *j, size_t first, td_error *error)
{
    td_tool *t = j->tool;
    int      code = 0;
    for (size_t k = first; k < t->n_plain && !code; k++)
        code = td_prompts_add_text(&j->prompts, t->plain[k], strlen(t->plain[k]), error);
    for (size_t k = 0; k < td_tool_count(t, "--ids") && !code; k++)
        code = td_prompts_add_ids(&j->prompts, td_tool_option_at(t, "--ids", k), error);
    for (size_t k = 0; k < td_tool_count(t, "--file") && !code; k++)
        code = td_prompts_add_file(&j->prompts, td_tool_option_at(t, "--file", k), error);
    /* a terminal would wait for input without saying so */
    if (!code && !j->prompts.count && !isatty(0) && !j->s->team)
        code = td_prompts_add_file(&j->prompts, "-", error);
    if (!code && !j->prompts.count)
        code = td_fail(error, TD_ECONFIG,
                       "no prompt: give one as an argument, with --ids or --file, on standard "
                       "input, or talk to the model with --interactive");
    return code;
}

static void report_speed(const job *j)
{
    const td_generated *o = &j->out;
    char                memory[32];
    if (o->decode <= 0 || !o->generated)
        return;
    td_log_line(j->tool->log, TD_LOG_INFO,
                "%" PRId64 " prompt tokens in %.2f s, %" PRId64
                " new tokens in %.2f s: %.1f per second; cache %s, %zu plans",
                o->given, o->prefill, o->generated, o->decode, (double)o->generated / o->decode,
                td_human_bytes(memory, (double)o->cache), o->plans);
}

static int answer_all(job *j, td_error *error)
{
    int code;
    j->waiting = calloc((size_t)j->prompts.count + 1, sizeof *j->waiting);
    if (!j->waiting)
        return td_fail(error, TD_ENOMEM, "out of memory for %" PRId64 " prompts", j->prompts.count);
    /* a single answer is shown as it is generated; several would be mixed up */
    j->streams = j->prompts.count == 1 && j->prompts.at[0].text && j->how.beams == 1 &&
                 !j->tool->json;
    j->how.text = j->streams ? show : NULL;
    j->how.answer = keep;
    j->how.stop = stop;
    j->how.arg = j;
    signal(SIGINT, on_interrupt);
    code = td_session_generate(j->s, &j->how, j->prompts.at, j->prompts.count, &j->out, error);
    report_speed(j);
    return code;
}

/* ---- a conversation -------------------------------------------------------------------------- */

static void remember(void *arg, const td_answered *a)
{
    job *j = arg;
    if (a->rank == 0 && a->text)
        td_text_print(&j->said, "%s", a->text);
}

/* The typed text inserted into the template. */
static void add_turn(td_text *history, const char *template, const char *typed)
{
    const char *hole = template ? strstr(template, "{}") : NULL;
    if (hole)
        td_text_print(history, "%.*s%s%s", (int)(hole - template), template, typed, hole + 2);
    else
        td_text_print(history, "%s", typed);
}

/* Generates an answer to the history so far, and appends it. */
static int reply(job *j, td_text *history, td_error *error)
{
    td_given prompt = { .text = td_text_get(history) };
    int      code;
    interrupted = 0;
    td_text_free(&j->said);
    code = td_session_generate(j->s, &j->how, &prompt, 1, &j->out, error);
    if (j->how.beams > 1) /* beam search shows nothing before the end */
        fputs(td_text_get(&j->said), stdout);
    putchar('\n');
    fflush(stdout);
    /* Ctrl-C ends the answer, not the conversation */
    if (code && interrupted)
        code = 0;
    td_text_print(history, "%s\n", td_text_get(&j->said));
    return code;
}

static void prompt_user(void)
{
    if (isatty(0)) {
        fputs("> ", stdout);
        fflush(stdout);
    }
}

static void greet(const char *template)
{
    if (isatty(0))
        printf("Type a prompt%s. /reset forgets the conversation, /quit or Ctrl-D ends the "
               "program, and Ctrl-C stops an answer.\n",
               template ? "; the conversation so far is read with it"
                        : "; each is answered separately (--template makes it a conversation)");
}

/* Handles a line that is not meant for the model. Text may begin with a slash, too. */
static bool is_command(const char *line, td_text *history)
{
    if (!strcmp(line, "/reset"))
        td_text_free(history);
    else if (*line == '/' && !line[1 + strspn(line + 1, "abcdefghijklmnopqrstuvwxyz")])
        printf("There is no command '%.60s': /reset forgets the conversation, /quit ends the "
               "program.\n",
               line);
    else
        return !*line;
    return true;
}

/* The next line; NULL at the end of input. Ctrl-C at a prompt discards the typed text. */
static char *read_line(char **line, size_t *room)
{
    for (;;) {
        prompt_user();
        if (getline(line, room, stdin) >= 0) {
            (*line)[strcspn(*line, "\r\n")] = 0;
            return *line;
        }
        if (!interrupted)
            return NULL;
        interrupted = 0;
        clearerr(stdin);
        putchar('\n');
    }
}

/* The signal interrupts reading a line, so that a new prompt can be shown. */
static void catch_interrupts(void)
{
    struct sigaction action = { .sa_handler = on_interrupt };
    sigaction(SIGINT, &action, NULL);
}

static int converse(job *j, td_error *error)
{
    const char *template = td_tool_option(j->tool, "--template");
    char   *line = NULL;
    size_t  room = 0;
    td_text history = { 0 };
    int     code = 0;

    j->how.text = j->how.beams == 1 ? show : NULL;
    j->how.answer = remember;
    j->how.stop = stop;
    j->how.arg = j;
    catch_interrupts();
    greet(template);
    while (!code && read_line(&line, &room) && strcmp(line, "/quit")) {
        if (is_command(line, &history))
            continue;
        if (!td_is_utf8(line)) {
            puts("that line is not UTF-8: it was ignored");
            continue;
        }
        /* without a template each line is a separate prompt */
        if (!template)
            td_text_free(&history);
        add_turn(&history, template, line);
        code = reply(j, &history, error);
    }
    td_text_free(&history);
    free(line);
    return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int run(job *j, const td_run_place *place, td_error *error)
{
    bool talks = td_tool_option(j->tool, "--interactive") != NULL;
    const char *template = td_tool_option(j->tool, "--template");
    char *weights = NULL;
    int   code = 0;

    if (template && !talks)
        return td_fail(error, TD_ECONFIG, "--template '%.200s' is for --interactive only",
                       template);
    if (template && (!strstr(template, "{}") || strstr(strstr(template, "{}") + 2, "{}")))
        return td_fail(error, TD_ECONFIG,
                       "--template '%.200s' must have one {}, which stands for the typed "
                       "text",
                       template);
    if (talks && (j->tool->n_plain > (place->run ? 1 : 0) || td_tool_count(j->tool, "--ids") ||
                  td_tool_count(j->tool, "--file")))
        return td_fail(error, TD_ECONFIG,
                       "--interactive reads prompts as they are typed: leave out all others");
    if (!talks)
        code = collect(j, place->run ? 1 : 0, error);
    /* checked before reading the parameters, which takes long */
    if (!code)
        code = td_session_check_generation(j->s, &j->how, error);
    if (!code && !(weights = td_work_load(j->tool, place, j->s, j->step, error)))
        code = td_failed(error, TD_EIO);
    free(weights);
    code = td_team_agree(j->s->team, code, error);
    if (code)
        return code;
    return talks ? converse(j, error) : answer_all(j, error);
}

/* Launchers give their own input to the first of several processes alone. */
static int join(job *j, td_error *error)
{
    td_tool *t = j->tool;
    bool     talks = td_tool_option(t, "--interactive") != NULL;
    bool     file = false;
    if (td_ranks_of_environment().size == 1)
        return 0;
    for (size_t k = 0; k < td_tool_count(t, "--file"); k++)
        file = file || !strcmp(td_tool_option_at(t, "--file", k), "-");
    if (talks || file)
        return td_fail(error, TD_ECONFIG,
                       "%s reads standard input, which only the first of several processes has: "
                       "put the prompts in a file",
                       talks ? "--interactive" : "--file -");
    return td_work_join(t, j->s, error);
}

static void close_job(job *j)
{
    for (int64_t k = 0; j->waiting && k < j->prompts.count; k++)
        json_decref(j->waiting[k]);
    td_prompts_free(&j->prompts);
    td_text_free(&j->said);
    free(j->waiting);
    free(j->stops);
    free(j->stop_ids);
    td_session_close(j->s);
}

int td_command_generate(td_tool *t, int argc, char **argv)
{
    td_error     e = { 0 };
    job          j = { .tool = t };
    td_run_place place;
    int          code;

    if (!td_tool_parse(t, &td_usage_generate, argc, argv, &code))
        return code;
    if (td_work_follows(t) && !freopen("/dev/null", "w", stdout)) /* the first one prints answers */
        return TD_EXIT_FAILED;
    td_work_take_run(t, &place);
    /* the first plain argument was not a run, so the user probably mistyped a path */
    if (!t->n_files && t->n_plain) {
        code = td_work_no_run(t, t->plain[0]);
    } else if (!t->n_files) {
        code = td_tool_usage_error(
            t, "no model: name the directory of a run, or a config with -c FILE.cfg");
    } else if (!read_options(&j) || !td_work_step(t, &j.step)) {
        code = TD_EXIT_USAGE;
    } else {
        j.s = td_work_open_run(t, &place, TD_NEED_MODEL, &code);
        if (j.s)
            code = join(&j, &e) || run(&j, &place, &e)
                       ? interrupted ? TD_EXIT_INTERRUPTED : td_work_end(t, j.s, e.code, &e)
                       : TD_EXIT_OK;
    }
    close_job(&j);
    td_run_place_free(&place);
    return code;
}
