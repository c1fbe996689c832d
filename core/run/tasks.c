/* tasks.c - finds the requested tasks, and runs them on a session. */
#include "run/tasks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "run/results.h"
#include "run/seal.h"
#include "run/tasks_name.h"

struct td_tasks {
    td_session       *session;
    td_tasks_request  request;
    td_prompts_chat   chat;
    td_task         **tasks;
    size_t            count, room;
    td_answers       *answers; /* [count] */
    size_t            finished;
    char            **groups; /* those that were asked for */
    size_t            n_groups;
    td_task_progress *progress; /* of the running td_tasks_run */
    void             *arg;
    int64_t           done, all; /* items of the tasks before, of all */
};

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the tasks");
}

/* ---- which tasks ----------------------------------------------------------------------------- */

static td_task_spec spec_of(const td_session *s)
{
    return (td_task_spec){ s->registry, s->configs };
}

static int add_task(td_tasks *t, td_task *task)
{
    for (size_t k = 0; k < t->count; k++)
        /* a task named twice, say in a group and by name, is run once */
        if (!strcmp(t->tasks[k]->path, task->path)) {
            td_task_close(task);
            return 0;
        }
    if (t->count == t->room) {
        size_t    room = t->room ? 2 * t->room : 16;
        td_task **larger = realloc(t->tasks, room * sizeof *larger);
        if (!larger) {
            td_task_close(task);
            return TD_ENOMEM;
        }
        t->tasks = larger;
        t->room = room;
    }
    t->tasks[t->count++] = task;
    return 0;
}

static bool is_in(const td_task *t, const char *group)
{
    for (size_t k = 0; k < t->options.groups.count; k++)
        if (!strcmp(t->options.groups.at[k], group))
            return true;
    return false;
}

/* Adds the shipped tasks of a group; returns how many, or a negative code. */
static int64_t add_group(td_tasks *t, const char *group, td_errors *errors, td_error *error)
{
    td_task_spec spec = spec_of(t->session);
    char       **names = NULL;
    int64_t      n = td_task_names(&spec, &names, error), found = 0;
    int          code = 0;
    for (int64_t k = 0; k < n && !code; k++) {
        td_task *task = td_task_open(&spec, names[k], errors);
        /* a shipped task that cannot be opened is always an error */
        if (task && is_in(task, group)) {
            code = add_task(t, task);
            found++;
        } else
            td_task_close(task);
    }
    if (n >= 0)
        td_free_names(names, n);
    return n < 0 ? n : code ? out_of_memory(error) : found;
}

static int remember_group(td_tasks *t, const char *name, td_error *error)
{
    char **larger = realloc(t->groups, (t->n_groups + 1) * sizeof *larger);
    if (!larger)
        return out_of_memory(error);
    t->groups = larger;
    larger[t->n_groups] = strdup(name);
    return larger[t->n_groups++] ? 0 : out_of_memory(error);
}

/* A task takes precedence over a group of the same name. */
static bool is_task(const td_tasks *t, const char *name)
{
    td_text path = { 0 };
    bool    there;
    if (td_tasks_is_file(name))
        return true;
    td_text_print(&path, "%s/tasks/%s.cfg", t->session->configs, name);
    there = td_file_exists(td_text_get(&path));
    td_text_free(&path);
    return there;
}

static int add_name(td_tasks *t, const char *name, td_errors *errors, td_error *error)
{
    td_task_spec spec = spec_of(t->session);
    td_task     *task;
    int64_t      found = is_task(t, name) ? 0 : add_group(t, name, errors, error);
    if (found < 0)
        return (int)found;
    if (found)
        return remember_group(t, name, error);
    task = td_task_open(&spec, name, errors); /* reports that no such task exists */
    return task && add_task(t, task) ? out_of_memory(error) : 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int check_names(const td_tasks *t, td_error *error)
{
    for (size_t k = 0; k < t->count; k++)
        for (size_t i = 0; i < k; i++)
            if (!strcmp(t->tasks[k]->options.name, t->tasks[i]->options.name))
                return td_fail(error, TD_ECONFIG,
                               "'%s' and '%s' are both named '%s', the name of their scores: "
                               "change task.name in one of them",
                               t->tasks[i]->path, t->tasks[k]->path, t->tasks[k]->options.name);
    return 0;
}

/* All of them are read before the first is run: a missing file should not be noticed only after an
 * hour. */
static int read_all(td_tasks *t, td_error *error)
{
    /* the command line takes precedence over the config */
    const char *named = t->request.data, *data = named ? named : t->session->x->tasks.data;
    int         code = 0;
    for (size_t k = 0; k < t->count && !code; k++)
        code = td_task_read(t->tasks[k], data, error);
    return code;
}

/* The system's role goes by its name; the user's is the first other one that does not answer. */
static void find_roles(const td_data *d, const void *config, td_prompts_chat *out)
{
    td_chat_role role;
    bool         user = false, answer = false;
    for (int64_t k = 0; d->chat_role(config, k, &role); k++)
        if (role.answers && !answer) {
            out->answer = role;
            answer = true;
        } else if (!role.answers && !strcmp(role.role, "system")) {
            out->system = role;
            out->has_system = true;
        } else if (!role.answers && !user) {
            out->user = role;
            user = true;
        }
    out->on = user && answer;
}

/* How a prompt becomes a chat. A model that was not trained on chats has no template. */
static int find_chat(td_tasks *t, td_error *error)
{
    const td_part *part = &t->session->x->data;
    const td_data *d = (const void *)part->plugin;
    if (!t->request.chat)
        return 0;
    if (d && d->chat_role)
        find_roles(d, part->config, &t->chat);
    if (t->chat.on)
        return 0;
    return td_fail(
        error, TD_ECONFIG,
        "prompts cannot be written as a chat: %s%s%s has no chat template with a turn of "
        "the user and an answer; leave out --chat (tasks.chat), or score a model that was "
        "finetuned on chats",
        d ? "data '" : "the config", d ? d->plugin.name : "", d ? "'" : "");
}

td_tasks_request td_tasks_configured(const td_session *s)
{
    const td_tasks_options *o = &s->x->tasks;
    return (td_tasks_request){ .names = o->names.at,
                               .count = o->names.count,
                               .shots = o->shots,
                               .limit = o->limit,
                               .seed = o->seed,
                               .generate = o->generate,
                               .chat = o->chat };
}

/* Whether an answer is scored after the space that a task has by default. */
static bool adds_space(const td_task *t)
{
    return t->options.output_type != TD_GENERATE_UNTIL &&
           !td_config_get(t->config, "task.target_delimiter") &&
           !strcmp(t->options.target_delimiter, " ");
}

/* Pairs of inputs and targets are learnt as they are, so " blue" is not the answer that a run on
 * targets like "blue" has learnt. Whether they begin with a space only their author knows: the text
 * need not be here. */
static void warn_of_space(const td_tasks *t)
{
    const td_data *d = (const void *)t->session->x->data.plugin;
    const char    *first = NULL;
    size_t         n = 0;
    for (size_t k = 0; k < t->count; k++)
        if (adds_space(t->tasks[k]) && !n++)
            first = t->tasks[k]->options.name;
    if (!d || !d->pair || t->chat.on || !n)
        return;
    td_log_line(t->session->log, TD_LOG_WARN,
                "task '%s'%s scored with a space before each answer (\" answer\"), but this run "
                "learnt targets without one unless its data has it: set task.target_delimiter = "
                "\"\" if its targets begin without a space, or \" \" to keep it",
                first, n > 1 ? " and others are" : " is");
}

td_tasks *td_tasks_open(td_session *s, const td_tasks_request *request, td_errors *errors,
                        td_error *error)
{
    td_tasks *t = calloc(1, sizeof *t);
    int       code = t ? 0 : out_of_memory(error);
    if (!code && !s->x->tokenizer.plugin)
        code = td_fail(error, TD_ECONFIG, "tasks consist of text, and the config has no tokenizer");
    if (t) {
        t->session = s;
        t->request = *request;
    }
    if (!code)
        code = find_chat(t, error);
    for (size_t k = 0; k < request->count && !code; k++)
        code = add_name(t, request->names[k], errors, error);
    /* only after all names, so that all errors in task files are reported together */
    if (!code && errors->count)
        code = TD_ECONFIG;
    if (!code)
        code = check_names(t, error);
    if (!code)
        code = read_all(t, error);
    if (!code) {
        warn_of_space(t);
        t->answers = calloc(t->count + 1, sizeof *t->answers);
        code = t->answers ? 0 : out_of_memory(error);
    }
    if (!code)
        return t;
    td_tasks_close(t);
    return NULL;
}

void td_tasks_close(td_tasks *t)
{
    if (!t)
        return;
    for (size_t k = 0; k < t->count; k++) {
        td_task_close(t->tasks[k]);
        if (t->answers)
            td_answers_free(&t->answers[k]);
    }
    for (size_t k = 0; k < t->n_groups; k++)
        free(t->groups[k]);
    free(t->groups);
    free(t->tasks);
    free(t->answers);
    free(t);
}

/* ---- running --------------------------------------------------------------------------------- */

static td_answers_spec answers_spec(const td_tasks *t)
{
    const td_session *s = t->session;
    td_prompts_spec   prompts = { .tokenizer = (const void *)s->x->tokenizer.plugin,
                                  .state = s->tokenizer,
                                  .special = s->special,
                                  .max_length = s->x->tasks.max_length,
                                  .shots = t->request.shots,
                                  .seed = t->request.seed,
                                  .no_bytes = s->lossy,
                                  .append_eos = s->inputs_end,
                                  .chat = t->chat };
    return (td_answers_spec){ .engine = s->engine,
                              .score = { .feed = td_session_feed(s), .batch = t->request.batch },
                              .decoder = td_session_decoder(s),
                              .prompts = prompts,
                              .limit = t->request.limit,
                              .rows = t->request.batch,
                              .generate = t->request.generate };
}

size_t         td_tasks_opened(const td_tasks *t) { return t->count; }
const td_task *td_tasks_task(const td_tasks *t, size_t k) { return t->tasks[k]; }

int td_tasks_plan(const td_tasks *t, td_footprint *footprint, td_error *error)
{
    td_answers_spec spec = answers_spec(t);
    int             code = 0;
    for (size_t k = 0; k < t->count && !code; k++)
        code = td_answers_plan(t->tasks[k], &spec, footprint, error);
    return code;
}

int td_tasks_keys(const td_tasks *t, size_t k, td_answers_visit *visit, void *arg, td_error *error)
{
    td_answers_spec spec = { .generate = t->request.generate };
    return td_answers_keys(t->tasks[k], &spec, visit, arg, error);
}

static int on_progress(void *arg, const char *task, int64_t done, int64_t all)
{
    td_tasks *t = arg;
    return t->progress ? t->progress(t->arg, task, t->done + done, t->all) : 0;
}

int td_tasks_run(td_tasks *t, td_task_progress *progress, void *arg, td_error *error)
{
    td_answers_spec spec = answers_spec(t);
    int             code = 0;
    spec.score.team = t->session->team;
    /* while a model is trained, memory was planned for scores in batches */
    if (!(t->session->needs & TD_NEED_OPTIMIZER))
        spec.score.decoder = &spec.decoder;
    t->progress = progress;
    t->arg = arg;
    t->all = t->done = 0;
    for (size_t k = 0; k < t->count; k++)
        t->all += td_answers_items(t->tasks[k], &spec);
    for (t->finished = 0; t->finished < t->count && !code;) {
        td_answers *a = &t->answers[t->finished];
        /* drop the result of an earlier run of these tasks */
        td_answers_free(a);
        code = td_answers_get(t->tasks[t->finished], &spec, on_progress, t, a, error);
        if (!code) {
            t->done += a->items;
            t->finished++;
        }
    }
    return code == TD_EEND ? code : td_session_result(code, error);
}

size_t            td_tasks_count(const td_tasks *t) { return t->finished; }
const td_answers *td_tasks_at(const td_tasks *t, size_t k) { return &t->answers[k]; }

/* ---- groups ---------------------------------------------------------------------------------- */

size_t td_tasks_groups(const td_tasks *t) { return t->n_groups; }

/* Every task counts equally, however many items it has. The standard errors of tasks are
 * independent. */
td_group_score td_tasks_group(const td_tasks *t, size_t k)
{
    td_group_score g = { .name = t->groups[k] };
    double         variance = 0;
    for (size_t i = 0; i < t->finished; i++) {
        const td_score_line *own = t->answers[i].lines;
        /* ChrF is averaged with accuracies: all as fractions of one */
        double               scale = own->percent ? 0.01 : 1;
        if (!is_in(t->tasks[i], g.name))
            continue;
        g.score += scale * own->score;
        g.chance += scale * t->answers[i].chance;
        variance += scale * scale * own->error * own->error;
        g.tasks++;
    }
    g.score = g.tasks ? g.score / (double)g.tasks : (double)NAN;
    g.chance = g.tasks ? g.chance / (double)g.tasks : (double)NAN;
    g.error = g.tasks ? sqrt(variance) / (double)g.tasks : (double)NAN;
    return g;
}

const char *td_tasks_group_name(const td_tasks *t, size_t k) { return t->groups[k]; }

/* ---- results --------------------------------------------------------------------------------- */

static json_t *number_or_na(double x) { return isfinite(x) ? json_real(x) : json_string("N/A"); }

/* The settings of a task file that determine its scores. */
static json_t *config_of(const td_task *t, const td_answers *a)
{
    static const char *const types[] = { "multiple_choice", "generate_until", "loglikelihood" };
    const td_task_options   *o = &t->options;
    json_t                  *until = json_array(), *metrics = json_array();
    for (size_t k = 0; k < o->until.count; k++)
        json_array_append_new(until, json_string(o->until.at[k]));
    for (size_t k = 0; k < o->metrics.count; k++)
        json_array_append_new(metrics, json_string(o->metrics.at[k].plugin->name));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:o, s:{s:o, s:I, s:b}, "
                     "s:o, s:{s:I}}",
                     "task", o->name, "file", t->path, "test_split", o->split, "fewshot_split",
                     o->fewshot_split, "description", o->description, "doc_to_text", o->doc_to_text,
                     "doc_to_target", o->doc_to_target, "target_delimiter", o->target_delimiter,
                     "num_fewshot", (json_int_t)a->shots, "output_type", types[o->output_type],
                     "metric_list", metrics, "generation_kwargs", "until", until, "max_gen_toks",
                     (json_int_t)o->max_gen_toks, "do_sample", 0, "repeats", json_integer(1),
                     "metadata", "version", (json_int_t)o->version);
}

/* The settings for which lm-evaluation-harness has no key. */
static json_t *own_of(const td_answers *a)
{
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:f}", "chance", number_or_na(a->chance),
                     "unanswered", (json_int_t)a->unanswered, "exemplars_dropped",
                     (json_int_t)a->dropped, "items_shortened", (json_int_t)a->shortened,
                     "items_over_length", (json_int_t)a->over, "seconds", a->seconds);
}

static void put_groups(const td_tasks *t, json_t *all)
{
    json_t *groups = json_object();
    for (size_t k = 0; k < t->n_groups; k++) {
        td_group_score g = td_tasks_group(t, k);
        json_object_set_new(groups, g.name,
                            json_pack("{s:s, s:o, s:o, s:o, s:I}", "alias", g.name, "mean,none",
                                      number_or_na(g.score), "mean_stderr,none",
                                      number_or_na(g.error), "chance", number_or_na(g.chance),
                                      "tasks", (json_int_t)g.tasks));
    }
    json_object_set_new(all, "groups", groups);
}

/* Scores for each value of `by` are listed next to the task's, as "mmlu:anatomy". */
static void put_parts(const td_answers *a, json_t *results)
{
    const char *by;
    json_t     *scores;
    /* a single group is the task itself */
    if (json_object_size(a->groups) < 2)
        return;
    json_object_foreach(a->groups, by, scores)
    {
        char key[400];
        snprintf(key, sizeof key, "%.190s:%.190s", a->task, by);
        json_object_set(results, key, scores);
    }
}

static void put_task(const td_tasks *t, size_t k, json_t *all)
{
    const td_answers *a = &t->answers[k];
    json_t           *samples = json_pack("{s:I, s:I}", "original", (json_int_t)a->all, "effective",
                                          (json_int_t)a->items);
    json_object_set(json_object_get(all, "results"), a->task, a->results);
    put_parts(a, json_object_get(all, "results"));
    json_object_set_new(json_object_get(all, "configs"), a->task, config_of(t->tasks[k], a));
    json_object_set_new(json_object_get(all, "versions"), a->task,
                        json_integer(t->tasks[k]->options.version));
    json_object_set_new(json_object_get(all, "n-shot"), a->task, json_integer(a->shots));
    json_object_set_new(json_object_get(all, "n-samples"), a->task, samples);
    json_object_set_new(json_object_get(all, "tasks"), a->task, own_of(a));
}

/* The settings that the tasks were run with. */
static json_t *request_of(const td_tasks *t)
{
    const td_session       *s = t->session;
    const td_tasks_request *r = &t->request;
    return json_pack("{s:s, s:s?, s:I, s:o, s:o, s:I, s:b, s:b, s:I}", "model",
                     s->x->model.plugin->name, "model_args", s->loaded, "batch_size",
                     (json_int_t)r->batch, "limit", r->limit ? json_integer(r->limit) : json_null(),
                     "num_fewshot", r->shots >= 0 ? json_integer(r->shots) : json_null(),
                     "fewshot_seed", (json_int_t)r->seed, "generate", r->generate,
                     "fewshot_as_multiturn", r->chat, "filter_version",
                     (json_int_t)TD_FILTER_VERSION);
}

json_t *td_tasks_results(const td_tasks *t)
{
    static const char *const by_task[] = { "results", "configs",   "versions",
                                           "n-shot",  "n-samples", "tasks" };
    const td_session        *s = t->session;
    json_t                  *all = td_results_about(s, "tasks");
    json_object_del(all, "protocol"); /* these two describe held-out text */
    json_object_del(all, "records");
    for (size_t k = 0; k < sizeof by_task / sizeof *by_task; k++)
        json_object_set_new(all, by_task[k], json_object());
    for (size_t k = 0; k < t->finished; k++)
        put_task(t, k, all);
    put_groups(t, all);
    json_object_set_new(all, "config", request_of(t));
    json_object_set_new(all, "max_length", json_integer(s->x->tasks.max_length));
    json_object_set_new(all, "inputs_end", json_boolean(s->inputs_end));
    return all;
}

/* ---- as files -------------------------------------------------------------------------------- */

/* Their hash goes into `summary`. */
static int write_samples(const td_answers *a, const char *directory, const char *name,
                         json_t *summary, td_error *error)
{
    td_text        path = { 0 };
    td_atomic_file f;
    size_t         k;
    json_t        *sample;
    int            code;
    td_text_print(&path, "%s/%s.samples_", directory, name);
    td_tasks_append(&path, a->task);
    td_text_print(&path, ".jsonl");
    code = path.failed ? out_of_memory(error) : td_atomic_open(&f, td_text_get(&path), error);
    if (!code) {
        json_array_foreach(a->samples, k, sample)
        {
            json_dumpf(sample, f.file, JSON_COMPACT);
            fputc('\n', f.file);
        }
        code = td_atomic_commit(&f, error);
    }
    if (!code)
        code = td_seal_file(summary, td_text_get(&path), error);
    td_text_free(&path);
    return code;
}

int td_tasks_write(const td_tasks *t, const char *directory, const char *name, td_error *error)
{
    json_t *results = td_tasks_results(t);
    int     code = results ? td_make_directories(directory, error) : out_of_memory(error);
    for (size_t k = 0; k < t->finished && !code; k++)
        code = write_samples(&t->answers[k], directory, name, results, error);
    if (!code)
        code = td_results_save(results, directory, name, error);
    json_decref(results);
    return code;
}

/* ---- listing --------------------------------------------------------------------------------- */

int td_tasks_list(const td_task_spec *spec, td_tasks_visit *visit, void *arg, td_errors *errors,
                  td_error *error)
{
    char  **names = NULL;
    int64_t n = td_task_names(spec, &names, error);
    for (int64_t k = 0; k < n; k++) {
        /* one with errors is reported, and the others are listed */
        td_task *t = td_task_open(spec, names[k], errors);
        if (t)
            visit(arg, t);
        td_task_close(t);
    }
    if (n >= 0)
        td_free_names(names, n);
    return n < 0 ? (int)n : 0;
}
