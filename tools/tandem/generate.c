/* generate.c - `tandem generate`: a trained model continues prompts. */
#include "generate/generate.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "run/directory.h"
#include "tandem/kind/tokenizer.h"
#include "work.h"

/* ---- prompts --------------------------------------------------------------------------------- */

/* A prompt as it was given, and its tokens. */
typedef struct prompt {
    char    *text; /* NULL: only ids were given */
    int32_t *ids;
    int64_t  n;
} prompt;

typedef struct job {
    td_tool        *tool;
    td_session     *s;
    prompt         *prompts;
    td_request     *requests;
    int64_t         count, room;
    json_t        **waiting; /* answers of later prompts, until those before them are printed */
    int64_t         printed, best; /* best: answers to print of each prompt */
    bool            streams;       /* text is shown as it comes */
    td_generate_out out;
} job;

static int add_prompt(job *j, const char *text, size_t size, td_error *error)
{
    prompt *p;
    if (j->count == j->room) {
        int64_t room = j->room ? 2 * j->room : 16;
        prompt *larger = realloc(j->prompts, (size_t)room * sizeof *larger);
        if (!larger)
            return td_fail(error, TD_ENOMEM, "out of memory for %" PRId64 " prompts", room);
        j->prompts = larger;
        j->room = room;
    }
    p = &j->prompts[j->count++];
    *p = (prompt){ 0 };
    p->text = strndup(text, size);
    return p->text ? 0 : td_fail(error, TD_ENOMEM, "out of memory for a prompt");
}

/* --ids "51 3": the tokens themselves. */
static int add_ids(job *j, const char *list, td_error *error)
{
    int64_t vocab = ((const td_architecture *)(const void *)j->s->x->model.plugin)
                        ->vocab_size(j->s->x->model.config);
    prompt *p;
    if (add_prompt(j, "", 0, error))
        return error->code;
    p = &j->prompts[j->count - 1];
    free(p->text);
    p->text = NULL;
    p->ids = malloc((strlen(list) / 2 + 1) * sizeof *p->ids);
    if (!p->ids)
        return td_fail(error, TD_ENOMEM, "out of memory for a prompt");
    for (const char *at = list + strspn(list, " ,\t\n"); *at; at += strspn(at, " ,\t\n")) {
        char *end;
        long  id;
        errno = 0;
        id = strtol(at, &end, 10);
        if (end == at || errno || id < 0 || id >= vocab)
            return td_fail(error, TD_ECONFIG,
                           "--ids '%.200s': '%.20s' is not an id; ids are integers from 0 to "
                           "%" PRId64,
                           list, at, vocab - 1);
        p->ids[p->n++] = (int32_t)id;
        at = end;
    }
    return 0;
}

/* {"prompt": ..} or {"inputs": ..}, or the line itself as text. */
static int add_line(job *j, const char *file, int64_t line, const char *text, size_t size,
                    bool json, td_error *error)
{
    json_error_t why;
    json_t      *object;
    const char  *prompt;
    int          code;
    if (!json)
        return add_prompt(j, text, size, error);
    object = json_loadb(text, size, 0, &why);
    if (!object)
        return td_fail(error, TD_EFORMAT, "%s:%" PRId64 ": not JSON: %s", file, line, why.text);
    prompt = json_string_value(json_object_get(object, "prompt"));
    if (!prompt)
        prompt = json_string_value(json_object_get(object, "inputs"));
    code = prompt ? add_prompt(j, prompt, strlen(prompt), error)
                  : td_fail(error, TD_EFORMAT,
                            "%s:%" PRId64 ": the object has no text under 'prompt' or 'inputs'",
                            file, line);
    json_decref(object);
    return code;
}

/* One prompt a line; a file that ends in .jsonl holds objects, and so does standard input whose first
 * line begins with a brace. */
static int add_file(job *j, const char *path, td_error *error)
{
    bool    standard = !strcmp(path, "-");
    FILE   *f = standard ? stdin : fopen(path, "re");
    size_t  n = strlen(path), room = 0;
    bool    json = n > 6 && !strcmp(path + n - 6, ".jsonl");
    char   *line = NULL;
    ssize_t size;
    int64_t number = 0;
    int     code = f ? 0
                     : td_fail(error, TD_EIO, "cannot open prompts '%s': %s", path, strerror(errno));
    while (!code && (size = getline(&line, &room, f)) >= 0) {
        size -= size && line[size - 1] == '\n';
        if (!number++ && standard)
            json = *line == '{';
        if (size || !json) /* an empty line of text is an empty prompt */
            code = add_line(j, standard ? "standard input" : path, number, line, (size_t)size, json,
                            error);
    }
    if (f && !standard)
        fclose(f);
    free(line);
    return code;
}

static int tokenize(const td_session *w, prompt *p, td_error *error)
{
    const td_tokenizer *t = (const void *)w->x->tokenizer.plugin;
    size_t              size = strlen(p->text);
    int64_t             room = (int64_t)size + 8, n;
    for (;;) {
        int32_t *ids = realloc(p->ids, (size_t)room * sizeof *ids);
        if (!ids)
            return td_fail(error, TD_ENOMEM, "out of memory for the tokens of a prompt");
        p->ids = ids;
        n = t->encode(w->tokenizer, p->text, size, ids, room, error);
        if (n < 0)
            return (int)n;
        p->n = n;
        if (n <= room)
            return 0;
        room = n;
    }
}

static int make_requests(job *j, td_error *error)
{
    j->requests = calloc((size_t)j->count + 1, sizeof *j->requests);
    j->waiting = calloc((size_t)j->count + 1, sizeof *j->waiting);
    if (!j->requests || !j->waiting)
        return td_fail(error, TD_ENOMEM, "out of memory for %" PRId64 " prompts", j->count);
    for (int64_t k = 0; k < j->count; k++) {
        prompt *p = &j->prompts[k];
        if (p->text && tokenize(j->s, p, error))
            return error->code;
        j->requests[k] = (td_request){ p->ids, p->n, (uint64_t)k };
    }
    return 0;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void on_text(void *arg, int64_t request, const char *text, size_t size)
{
    fwrite(text, 1, size, stdout);
    fflush(stdout);
}

static json_t *json_of(const job *j, const td_reply *r)
{
    const prompt *p = &j->prompts[r->request];
    json_t       *ids = json_array(), *o = json_object();
    for (int64_t k = 0; k < r->n; k++)
        json_array_append_new(ids, json_integer(r->ids[k]));
    if (p->text)
        json_object_set_new(o, "prompt", json_string(p->text));
    else {
        json_t *given = json_array();
        for (int64_t k = 0; k < p->n; k++)
            json_array_append_new(given, json_integer(p->ids[k]));
        json_object_set_new(o, "prompt_ids", given);
    }
    json_object_set_new(o, "ids", ids);
    json_object_set_new(o, "text", r->text ? json_string(r->text) : json_null());
    json_object_set_new(o, "finish", json_string(r->finish == TD_FINISH_STOP ? "stop" : "length"));
    json_object_set_new(o, "logprob", td_tool_number(r->logprob));
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

static void print(const job *j, const json_t *answers)
{
    size_t  k;
    json_t *o;
    json_array_foreach(answers, k, o)
    {
        const char *text = json_string_value(json_object_get(o, "text"));
        if (j->tool->json) {
            json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII * 0);
            putchar('\n');
        } else if (j->streams)
            putchar('\n'); /* the text is there already */
        else if (text)
            puts(text);
        else
            print_ids(json_object_get(o, "ids"));
    }
    fflush(stdout);
}

/* Answers come as they are finished and are printed in the order of their prompts. */
static void on_done(void *arg, const td_reply *r)
{
    job *j = arg;
    if (!j->waiting[r->request])
        j->waiting[r->request] = json_array();
    if (r->rank < j->best)
        json_array_append_new(j->waiting[r->request], json_of(j, r));
    if (r->rank + 1 < r->ranks)
        return;
    while (j->printed < j->count && j->waiting[j->printed]) {
        print(j, j->waiting[j->printed]);
        json_decref(j->waiting[j->printed]);
        j->waiting[j->printed++] = NULL;
    }
}

/* ---- options --------------------------------------------------------------------------------- */

static const td_flag flags[] = {
    { "--ids", "IDS ..", "a prompt as token ids, \"51 3\": needs no tokenizer" },
    { "--file", "FILE ..",
      "prompts, one a line; .jsonl: objects with 'prompt' or 'inputs'; -: standard input" },
    { "--max-new-tokens", "N", "at most so many new tokens (128)" },
    { "--min-new-tokens", "N", "at least so many before an answer may end (0)" },
    { "--temperature", "X", "0: the most likely token (0)" },
    { "--top-k", "N", "draw from the N most likely tokens only (0: off)" },
    { "--top-p", "X", "draw from the fewest tokens that hold this share (1: off)" },
    { "--min-p", "X", "drop tokens less likely than X times the most likely one (0: off)" },
    { "--repetition-penalty", "X", "above 1: tokens seen before become less likely (1: off)" },
    { "--beams", "N", "beam search over N hypotheses (1: off)" },
    { "--length-penalty", "X", "of beam search: above 0 favors long answers (1)" },
    { "--n-best", "N", "of beam search: print the N best answers (1)" },
    { "--stop", "TEXT ..", "end an answer where this text begins" },
    { "--stop-ids", "IDS ..", "end an answer at these token ids" },
    { "--ignore-eos", NULL, "do not end an answer at the end-of-text token" },
    { "--seed", "N", "of drawn tokens (1)" },
    { "--batch", "N", "prompts answered at the same time (8)" },
    { "--no-cache", NULL, "read the whole text again for each token: slow, for comparison" },
    { "--weights", "FILE", "parameters (safetensors); else the run's newest checkpoint" },
    { "--allow", "KEY ..", "a key in which the parameters' model may differ: model.position.*" },
    { 0, 0, 0 },
};

const td_usage td_usage_generate = {
    .name = "generate",
    .arguments = "[RUN] [PROMPT ..] [--ids IDS ..] [--file FILE ..]",
    .brief = "Continue prompts with a trained model.",
    .example = "tandem generate runs/first \"Once upon a time\" --temperature 0.8 --seed 7",
    .flags = flags,
    .config = true,
    .optional = true,
    .json = true,
    .plain = TD_ARGUMENTS,
    .notes = "RUN is the directory of a run: its config and newest checkpoint are used. Answers are "
             "printed in the order of their prompts.",
};

/* A number of an option, or what it is by default. */
static bool number(const td_tool *t, const char *name, double *value, td_error *error)
{
    const char *text = td_tool_option(t, name);
    char       *end;
    double      x;
    if (!text)
        return true;
    x = strtod(text, &end);
    if (end == text || *end || isnan(x)) {
        td_fail(error, TD_ECONFIG, "%s '%.40s': not a number", name, text);
        return false;
    }
    *value = x;
    return true;
}

static bool whole_number(const td_tool *t, const char *name, int64_t *value, td_error *error)
{
    double x = (double)*value;
    if (!number(t, name, &x, error))
        return false;
    if (x != floor(x) || fabs(x) > 1e15) {
        td_fail(error, TD_ECONFIG, "%s %g: not an integer", name, x);
        return false;
    }
    *value = (int64_t)x;
    return true;
}

/* Stop strings and ids; free both lists. */
static int find_stops(const td_tool *t, td_generate_options *o, const char ***stops, int32_t **ids,
                      td_error *error)
{
    size_t n = td_tool_count(t, "--stop"), n_ids = td_tool_count(t, "--stop-ids");
    *stops = calloc(n + 1, sizeof **stops);
    *ids = calloc(n_ids + 1, sizeof **ids);
    if (!*stops || !*ids)
        return td_fail(error, TD_ENOMEM, "out of memory for stop strings");
    for (size_t k = 0; k < n; k++)
        (*stops)[k] = td_tool_option_at(t, "--stop", k);
    for (size_t k = 0; k < n_ids; k++) {
        const char *text = td_tool_option_at(t, "--stop-ids", k);
        char       *end;
        (*ids)[k] = (int32_t)strtol(text, &end, 10);
        if (end == text || *end)
            return td_fail(error, TD_ECONFIG, "--stop-ids '%.40s': not a token id", text);
    }
    o->stops = *stops;
    o->n_stops = n;
    o->stop_ids = *ids;
    o->n_stop_ids = n_ids;
    return 0;
}

static bool read_options(const td_tool *t, td_generate_options *o, int64_t *batch, int64_t *best,
                         td_error *error)
{
    int64_t seed = 1;
    *o = (td_generate_options){ .sampling = td_sampling_greedy(),
                                .max_tokens = 128,
                                .beams = 1,
                                .length_penalty = 1,
                                .ignore_eos = td_tool_option(t, "--ignore-eos") != NULL };
    if (!whole_number(t, "--max-new-tokens", &o->max_tokens, error) ||
        !whole_number(t, "--min-new-tokens", &o->min_tokens, error) ||
        !number(t, "--temperature", &o->sampling.temperature, error) ||
        !whole_number(t, "--top-k", &o->sampling.top_k, error) ||
        !number(t, "--top-p", &o->sampling.top_p, error) ||
        !number(t, "--min-p", &o->sampling.min_p, error) ||
        !number(t, "--repetition-penalty", &o->sampling.repetition_penalty, error) ||
        !whole_number(t, "--beams", &o->beams, error) ||
        !number(t, "--length-penalty", &o->length_penalty, error) ||
        !whole_number(t, "--n-best", best, error) || !whole_number(t, "--seed", &seed, error) ||
        !whole_number(t, "--batch", batch, error))
        return false;
    o->sampling.seed = (uint64_t)seed;
    if (*best >= 1 && *best <= o->beams && *batch >= 1)
        return true;
    if (*batch < 1)
        td_fail(error, TD_ECONFIG, "--batch %" PRId64 ": it must be 1 or more", *batch);
    else
        td_fail(error, TD_ECONFIG,
                "--n-best %" PRId64 ": it must lie between 1 and the %" PRId64 " of --beams", *best,
                o->beams);
    return false;
}

/* ---- running --------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_) { interrupted = signal_; }

static int stop(void *arg) { return interrupted ? TD_EEND : 0; }

static int answer(job *j, const td_generate_options *o, int64_t batch, td_error *error)
{
    td_decoder_options decoder = td_session_decoder(j->s);
    bool               texts = j->s->tokenizer_opened;
    td_generate_in     in = { .decoder = &decoder,
                              .options = o,
                              .tokenizer = texts ? (const void *)j->s->x->tokenizer.plugin : NULL,
                              .tokenizer_state = j->s->tokenizer,
                              .requests = j->requests,
                              .count = j->count,
                              .text = j->streams ? on_text : NULL,
                              .done = on_done,
                              .stop = stop,
                              .arg = j };
    decoder.rows = batch;
    decoder.whole = td_tool_option(j->tool, "--no-cache") != NULL;
    return td_generate(&in, &j->out, error);
}

static void report_speed(const job *j)
{
    const td_generate_out *o = &j->out;
    char                   memory[32];
    if (o->decode <= 0 || !o->generated)
        return;
    td_log_line(j->tool->log, TD_LOG_INFO,
                "%" PRId64 " prompt tokens in %.2f s, %" PRId64 " new tokens in %.2f s: %.1f a "
                "second; cache %s, %zu plans",
                o->given, o->prefill, o->generated, o->decode, (double)o->generated / o->decode,
                td_human_bytes(memory, (double)o->cache), o->plans);
}

/* Prompts from the arguments, from --ids and from files, in this order. */
static int collect(job *j, size_t first, td_error *error)
{
    td_tool *t = j->tool;
    int      code = 0;
    for (size_t k = first; k < t->n_plain && !code; k++)
        code = add_prompt(j, t->plain[k], strlen(t->plain[k]), error);
    for (size_t k = 0; k < td_tool_count(t, "--ids") && !code; k++)
        code = add_ids(j, td_tool_option_at(t, "--ids", k), error);
    for (size_t k = 0; k < td_tool_count(t, "--file") && !code; k++)
        code = add_file(j, td_tool_option_at(t, "--file", k), error);
    if (!code && !j->count && !isatty(0))
        code = add_file(j, "-", error);
    if (!code && !j->count)
        code = td_fail(error, TD_ECONFIG,
                       "no prompt: give one as an argument, with --ids or --file, or on standard "
                       "input");
    return code;
}

/* Ids need no tokenizer; text does. */
static int check_tokenizer(const job *j, td_error *error)
{
    for (int64_t k = 0; k < j->count; k++)
        if (j->prompts[k].text && !j->s->x->tokenizer.plugin)
            return td_fail(error, TD_ECONFIG,
                           "a prompt of text needs a tokenizer, and the config has none: add the "
                           "group tokenizer, or give ids with --ids");
    return 0;
}

static int generate(job *j, const char *weights, td_error *error)
{
    td_generate_options o;
    int64_t             batch = 8;
    const char        **stops = NULL;
    int32_t            *stop_ids = NULL;
    int                 code = 0;

    if (!read_options(j->tool, &o, &batch, &j->best, error) ||
        find_stops(j->tool, &o, &stops, &stop_ids, error))
        code = error->code;
    if (!code)
        code = check_tokenizer(j, error);
    /* before the parameters are read, which takes long */
    if (!code)
        code = td_generate_check(&o, j->s->x->tokenizer.plugin != NULL, error);
    if (!code)
        code = td_session_open_generation(j->s, weights, error);
    if (!code)
        code = make_requests(j, error);
    j->streams = j->count == 1 && o.beams == 1 && !j->tool->json && j->s->tokenizer_opened;
    if (!code) {
        signal(SIGINT, on_interrupt);
        code = answer(j, &o, batch, error);
        report_speed(j);
    }
    free(stops);
    free(stop_ids);
    return code;
}

static void close_job(job *j)
{
    for (int64_t k = 0; k < j->count; k++) {
        free(j->prompts[k].text);
        free(j->prompts[k].ids);
        if (j->waiting)
            json_decref(j->waiting[k]);
    }
    free(j->prompts);
    free(j->requests);
    free(j->waiting);
}

/* The first argument names a run if there is one of that name. */
static bool take_run(td_tool *t, char **config)
{
    *config = t->n_plain ? td_path_join(t->plain[0], "config.cfg") : NULL;
    if (!*config || !td_file_exists(*config)) {
        free(*config);
        *config = NULL;
        return false;
    }
    memmove(t->files + 1, t->files, t->n_files * sizeof *t->files);
    t->files[0] = *config;
    t->n_files++;
    return true;
}

/* --weights, or the newest checkpoint of the run; free() it. */
static char *find_weights(td_tool *t, td_session *s, const char *run, td_error *error)
{
    const char *weights = td_tool_option(t, "--weights");
    char       *latest = NULL, *path = NULL, *checkpoints = NULL;
    int         code = 0;
    if (weights)
        return strdup(weights);
    if (run) {
        checkpoints = td_path_join(run, "checkpoints");
        code = td_checkpoint_latest(checkpoints, &latest, error);
    } else
        code = td_run_latest(s, &latest, error);
    if (!code && !latest)
        td_fail(error, TD_ECONFIG,
                "there is no checkpoint of '%s': train first, or give parameters with --weights",
                run ? run : s->x->run.name);
    else if (!code && !td_checkpoint_check(latest, error))
        path = td_path_join(latest, "model.safetensors");
    free(checkpoints);
    free(latest);
    return path;
}

int td_command_generate(td_tool *t, int argc, char **argv)
{
    td_error    e = { 0 };
    job         j = { .tool = t, .best = 1 };
    char       *weights, *config;
    const char *run;
    int         code;

    if (!td_tool_parse(t, &td_usage_generate, argc, argv, &code))
        return code;
    run = take_run(t, &config) ? t->plain[0] : NULL;
    if (!t->n_files)
        return td_tool_usage_error(
            t, "no model: name the directory of a run, or a config with -c FILE.cfg");
    j.s = td_work_open(t, TD_NEED_MODEL, &code);
    if (!j.s) {
        free(config);
        return code;
    }
    weights = find_weights(t, j.s, run, &e);
    code = !weights || collect(&j, run ? 1 : 0, &e) || generate(&j, weights, &e) ? TD_EXIT_FAILED
                                                                                 : TD_EXIT_OK;
    if (code)
        code = e.code == 0 && interrupted ? TD_EXIT_INTERRUPTED : td_tool_fail(t, &e);
    close_job(&j);
    free(weights);
    free(config);
    td_session_close(j.s);
    return code;
}
