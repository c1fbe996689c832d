/* data.c - gathers the data of a report. */
#include "report/data.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run/keep.h"
#include "run/place.h"
#include "run/results.h"
#include "study/study.h"

/* With more groups, each is tested against the first of its class and against the one that it is made
 * from, only. */
enum { FULL_MATRIX = 6 };

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while gathering a report");
}

static void say(const td_report_data *d, const char *what)
{
    td_log_line(d->options->log, TD_LOG_INFO, "%s", what);
}

bool td_report_is_study(const char *name)
{
    char *path = td_path_join(name, "cells.json");
    bool  is = path && td_file_exists(path);
    free(path);
    return is;
}

/* ---- a study's runs -------------------------------------------------------------------------- */

/* The labels in which the cells to report differ: names need not mention the others. */
typedef struct naming {
    bool sizes, phases;
} naming;

static bool is_reported(const td_cell *c)
{
    return td_phase_trains(c->phase) && c->state == TD_CELL_DONE;
}

static naming compare_cells(const td_study *s)
{
    const td_cell *first = NULL;
    naming         n = { 0 };
    for (size_t k = 0; k < s->n_cells; k++) {
        const td_cell *c = &s->cells[k];
        if (!is_reported(c))
            continue;
        first = first ? first : c;
        n.sizes = n.sizes || strcmp(c->size, first->size);
        n.phases = n.phases || strcmp(c->phase, first->phase);
    }
    return n;
}

/* "decllm, decllm-biattn": a pretraining that two variants share belongs to both. */
static const char *variants_of(td_report_data *d, const td_cell *c)
{
    td_text     t = { 0 };
    const char *text;
    for (size_t k = 0; k < c->n_variants; k++)
        td_text_print(&t, "%s%s", k ? ", " : "", c->variants[k]);
    text = td_arena_copy(d->arena, t.size ? td_text_get(&t) : c->variant);
    td_text_free(&t);
    return text;
}

/* The name of the first variant of such a list stands for all of them. */
static int first_of(const char *variants) { return (int)strcspn(variants, ","); }

/* Noted once, not for every seed. */
static void note_sharing(td_report_data *d, const char *label, const char *variants)
{
    const char *others = variants + first_of(variants);
    const char *line = *others ? td_arena_print(d->arena, "'%s' is also the run of %s\n", label,
                                                others + strlen(", "))
                               : NULL;
    if (line && !strstr(td_text_get(&d->notes), line))
        td_text_print(&d->notes, "%s", line);
}

static void take_cell(td_report_data *d, const td_cell *c, naming n)
{
    size_t      k = d->count++;
    const char *size = n.sizes ? c->size : "", *phase = n.phases ? c->phase : "";
    d->directories[k] = td_arena_copy(d->arena, c->run);
    d->variants[k] = variants_of(d, c);
    d->from[k] = td_arena_copy(d->arena, c->from);
    d->sizes[k] = td_arena_copy(d->arena, size);
    d->phases[k] = td_arena_copy(d->arena, phase);
    const char *names = d->variants[k] ? d->variants[k] : "";
    d->labels[k] = td_arena_print(d->arena, "%.*s%s%s%s%s", first_of(names), names,
                                  *size ? " " : "", size, *phase ? ", " : "", phase);
    note_sharing(d, d->labels[k] ? d->labels[k] : "", names);
    d->classes[k] = td_arena_print(d->arena, "%s%s%s", size, *size && *phase ? ", " : "", phase);
}

static void note_missing_cells(td_report_data *d, const td_study *s)
{
    size_t missing = 0;
    for (size_t k = 0; k < s->n_cells; k++) {
        const td_cell *c = &s->cells[k];
        if (c->state == TD_CELL_DONE)
            continue;
        /* an unfinished study may lack hundreds, which would bury the other notes */
        if (missing++ < 10)
            td_text_print(&d->notes, "cell '%s' of the study is not in the report: it is %s\n",
                          c->name, td_cell_state_name(c->state));
    }
    if (missing > 10)
        td_text_print(&d->notes, "%zu more cells are not in it either: see `tandem study status`\n",
                      missing - 10);
}

static int allocate_lists(td_report_data *d, size_t n, td_error *error)
{
    const char ***lists[] = { &d->directories, &d->labels, &d->classes, &d->variants,
                              &d->from,        &d->sizes,  &d->phases };
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        if (!(*lists[k] = td_arena_alloc(d->arena, (n + 1) * sizeof **lists[k])))
            return out_of_memory(error);
    return 0;
}

static int take_study(td_report_data *d, td_error *error)
{
    td_study *s = td_study_open(d->options->study, error);
    naming    n;
    int       code = s ? allocate_lists(d, s->n_cells, error) : td_failed(error, TD_EIO);
    if (!code) {
        /* names of groups mention only the labels that differ between cells */
        n = compare_cells(s);
        d->study = td_arena_copy(d->arena, s->name);
        d->brief = td_arena_copy(d->arena, s->brief);
        for (size_t k = 0; k < s->n_cells; k++)
            if (is_reported(&s->cells[k]))
                take_cell(d, &s->cells[k], n);
        note_missing_cells(d, s);
        if (!d->count)
            code =
                td_fail(error, TD_ECONFIG,
                        "no run of the study '%s' is finished yet: `tandem study status %s` shows "
                        "how far it has got",
                        d->options->study, d->options->study);
    }
    td_study_close(s);
    return code;
}

static int take_runs(td_report_data *d, td_error *error)
{
    int code = allocate_lists(d, d->options->count, error);
    for (size_t k = 0; k < d->options->count && !code; k++) {
        d->directories[k] = d->options->runs[k];
        d->variants[k] = d->from[k] = d->sizes[k] = d->phases[k] = d->classes[k] = "";
    }
    d->labels = NULL; /* configs tell which runs are seeds of one */
    d->count = d->options->count;
    return code;
}

/* ---- the comparison -------------------------------------------------------------------------- */

static const char *class_of(const td_report_data *d, const td_comparison *c, size_t group)
{
    return d->classes[c->groups[group].runs[0]];
}

/* Whether the list "decllm, decllm-biattn" has the name. */
static bool has_name(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = list; at; at = strstr(at, ", ")) {
        at += at == list ? 0 : 2;
        if (!strncmp(at, name, length) && (!at[length] || at[length] == ','))
            return true;
    }
    return false;
}

/* Whether group b's variant is made from one of group a's. */
static bool is_made_from(const td_report_data *d, const td_comparison *c, size_t b, size_t a)
{
    const char *from = d->from[c->groups[b].runs[0]];
    return *from && has_name(d->variants[c->groups[a].runs[0]], from);
}

static bool is_tested(void *arg, const td_comparison *c, size_t a, size_t b)
{
    const td_report_data *d = arg;
    size_t                members = 0, first = a;
    if (strcmp(class_of(d, c, a), class_of(d, c, b)))
        return false;
    for (size_t k = c->n_groups; k--;)
        if (!strcmp(class_of(d, c, a), class_of(d, c, k))) {
            members++;
            first = k;
        }
    return members <= FULL_MATRIX || a == first || is_made_from(d, c, b, a) ||
           is_made_from(d, c, a, b);
}

static int compare(td_report_data *d, td_error *error)
{
    td_compare_options o = { .runs = d->directories,
                             .count = d->count,
                             .draws = d->options->draws,
                             .seed = 1,
                             .labels = d->labels,
                             .unscored = true,
                             .tested = is_tested,
                             .arg = d };
    say(d, "comparing the runs");
    return td_compare(&o, &d->comparison, error);
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* A file of RUN/eval; NULL if it cannot be read. */
static json_t *load_result(const char *run, const char *name)
{
    char   *folder = td_path_join(run, "eval"), *path = folder ? td_path_join(folder, name) : NULL;
    json_t *j = path ? json_load_file(path, 0, NULL) : NULL;
    free(path);
    free(folder);
    return j;
}

static double number(const json_t *j, const char *key)
{
    const json_t *x = json_object_get(j, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

static td_latency read_latency(const char *run)
{
    json_t    *j = load_result(run, "bench-generate.json");
    td_latency l = { .prefill = number(json_object_get(j, "prefill"), "seconds_per_prompt"),
                     .step = number(json_object_get(j, "decode"), "seconds_per_step"),
                     .prompt = number(j, "prompt_tokens"),
                     .memory = number(j, "peak_memory") };
    json_decref(j);
    return l;
}

static const char *read_tokenizer(td_report_data *d, const char *run)
{
    json_t     *j = load_result(run, "heldout.json");
    const char *text = json_string_value(json_object_get(j, "tokenizer"));
    text = td_arena_copy(d->arena, text ? text : "");
    json_decref(j);
    return text ? text : "";
}

static int read_run(td_report_data *d, size_t k, td_error *error)
{
    td_report_run *r = &d->runs[k];
    td_run_place   place;
    int            code;
    if (!td_run_place_find(&place, d->directories[k]))
        return td_fail(error, TD_ECONFIG,
                       "'%s' was a run when the report began, and has been removed since: run the "
                       "command again",
                       d->directories[k]);
    r->directory = td_arena_copy(d->arena, place.run);
    td_run_place_free(&place);
    if (!r->directory)
        return out_of_memory(error);
    /* what a run lacks is left out of the report; only unreadable metrics are an error */
    r->tokenizer = read_tokenizer(d, r->directory);
    r->latency = read_latency(r->directory);
    code = td_history_read(r->directory, &r->history, error);
    if (r->history.damaged)
        td_text_print(&d->notes,
                      "%" PRId64 " damaged lines of '%s/metrics.jsonl' are left out; the first is "
                      "line %" PRId64 "\n",
                      r->history.damaged, r->directory, r->history.first_damaged);
    if (!code && !r->history.n_training)
        td_text_print(
            &d->notes,
            "'%s' has no metrics.jsonl with a loss, so it is missing from the training curves\n",
            r->directory);
    return code;
}

static int read_runs(td_report_data *d, td_error *error)
{
    int code = 0;
    d->runs = td_arena_alloc(d->arena, (d->count + 1) * sizeof *d->runs);
    if (!d->runs)
        return out_of_memory(error);
    say(d, "reading the metrics of the runs");
    for (size_t k = 0; k < d->count && !code; k++)
        code = read_run(d, k, error);
    return code;
}

static void compare_tokenizers(td_report_data *d)
{
    const char *first = "";
    for (size_t k = 0; k < d->count; k++) {
        const char *own = d->runs[k].tokenizer;
        first = *first ? first : own;
        d->tokenizers_differ = d->tokenizers_differ || (*own && strcmp(own, first));
    }
    if (d->tokenizers_differ)
        td_text_print(&d->notes, "the runs have different tokenizers: losses per token cannot be "
                                 "compared between them, but bits per byte can\n");
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* Loading a module is announced, wherever it happens (docs/config.md), and so is what is wrong with its
 * directory: once, although each group's model has a session of its own. Errors become notes. */
static void announce(void *arg, int level, const char *line)
{
    td_report_data *d = arg;
    bool            module = !strncmp(line, "loading module", strlen("loading module"));
    /* each run has its own copy of a module: its name and hash, "mine.so' (..)", tell if it is new */
    const char     *name = module ? strrchr(line, '/') : NULL, *key = name ? name : line;
    if (strstr(td_text_get(&d->announced), key) || (level != TD_LOG_WARN && !module))
        return;
    td_text_print(&d->announced, "%s\n", key);
    td_log_line(d->options->log, level, "%s", line);
}

/* `first` before the caller's own paths, in d's arena; NULL when out of memory. */
static const char **paths_from(const td_report_data *d, const char *first)
{
    const char *const *own = d->options->plugin_paths;
    size_t             n = 0;
    while (own && own[n])
        n++;
    const char **paths = td_arena_alloc(d->arena, (n + 2) * sizeof *paths);
    if (!paths)
        return NULL;
    paths[0] = first;
    for (size_t k = 0; k < n; k++)
        paths[k + 1] = own[k];
    paths[n + 1] = NULL;
    return paths;
}

/* Opens the config that a run keeps, which does not choose code (td_session_options.kept). `modules`:
 * the run's own, if they are trusted; or NULL. */
static int describe(td_report_data *d, const char *run, const char *modules, td_description *out,
                    td_error *error)
{
    char                 *config = td_path_join(run, "config.cfg");
    const char           *files[] = { config, NULL };
    const char           *settings[] = { "backend.threads=1", NULL };
    const char *const    *paths = modules ? paths_from(d, modules) : d->options->plugin_paths;
    td_session_options    o = { .size = sizeof o,
                                .purpose = TD_PURPOSE_MODEL,
                                .files = files,
                                .settings = settings,
                                .kept = 1,
                                .plugin_paths = paths,
                                .log = announce,
                                .log_arg = d };
    td_session           *s = config && (paths || !modules) ? td_session_open(&o, error) : NULL;
    const td_description *found = s ? td_session_describe(s, error) : NULL;
    if (found)
        *out = *found;
    /* a text of the session, which ends here */
    if (found && found->unavailable)
        out->unavailable = td_arena_copy(d->arena, found->unavailable);
    td_session_close(s);
    free(config);
    return found ? 0 : td_failed(error, TD_ENOMEM);
}

/* Sizes and phases of one variant share it. */
static size_t colour_of(const td_report_data *d, size_t group)
{
    size_t next = 0;
    for (size_t k = 0; k < group; k++) {
        if (*d->groups[group].variant && !strcmp(d->groups[k].variant, d->groups[group].variant))
            return d->groups[k].colour;
        next = d->groups[k].colour >= next ? d->groups[k].colour + 1 : next;
    }
    return next;
}

/* The number of different sizes among the first `count` groups. */
static size_t count_sizes(const td_report_data *d, size_t count)
{
    size_t n = 0;
    for (size_t k = 0; k < count; k++) {
        size_t same = 0;
        while (strcmp(d->groups[same].size, d->groups[k].size))
            same++;
        n += same == k;
    }
    return n;
}

/* 1 on average. Studies list their sizes from the smallest on. */
static void set_widths(td_report_data *d)
{
    size_t sizes = count_sizes(d, d->comparison.n_groups);
    for (size_t k = 0; k < d->comparison.n_groups; k++) {
        size_t first = 0;
        while (strcmp(d->groups[first].size, d->groups[k].size))
            first++;
        d->groups[k].width = sizes < 2
                                 ? 1
                                 : 0.4 + 1.2 * (double)count_sizes(d, first) / (double)(sizes - 1);
    }
}

/* Once, however many runs need the backend. */
static void note_backend(td_report_data *d, const char *unavailable)
{
    if (!unavailable || strstr(td_text_get(&d->notes), unavailable))
        return;
    td_text_print(&d->notes,
                  "the memory of training is planned for the default backend, as this machine "
                  "lacks the one that was used: %s\n",
                  unavailable);
}

/* Describes the model of a group by its first run. */
static void describe_group(td_report_data *d, const char *run, td_report_group *out)
{
    char    *modules = td_run_modules(run);
    td_error why = { 0 };
    bool     trust = d->options->trust;
    out->described = !describe(d, run, trust ? modules : NULL, &out->model, &why);
    note_backend(d, out->model.unavailable);
    if (!out->described)
        td_text_print(
            &d->notes, "parameters and FLOPs of '%s' are unknown: %.*s%s\n", out->name,
            (int)strcspn(why.text, "\n"), why.text,
            modules && !trust
                ? "; that may be because the run's own modules were not loaded: --trust loads them"
                : "");
    free(modules);
}

static void fill_group(td_report_data *d, size_t k)
{
    const td_compared_group *g = &d->comparison.groups[k];
    td_report_group         *out = &d->groups[k];
    const char              *names = d->variants[g->runs[0]];
    const char              *variant = td_arena_print(d->arena, "%.*s", first_of(names), names);
    *out = (td_report_group){ .name = td_comparison_name(&d->comparison, k),
                              .class = d->classes[g->runs[0]],
                              .variant = variant ? variant : "",
                              .size = d->sizes[g->runs[0]],
                              .phase = d->phases[g->runs[0]] };
    /* a study labels its groups itself */
    if (d->labels)
        out->name = g->name;
    out->colour = colour_of(d, k);
    describe_group(d, d->runs[g->runs[0]].directory, out);
}

static int fill_groups(td_report_data *d, td_error *error)
{
    d->groups = td_arena_alloc(d->arena, (d->comparison.n_groups + 1) * sizeof *d->groups);
    if (!d->groups)
        return out_of_memory(error);
    say(d, "counting parameters and FLOPs");
    for (size_t k = 0; k < d->comparison.n_groups; k++)
        fill_group(d, k);
    set_widths(d);
    return 0;
}

/* ---- all ------------------------------------------------------------------------------------- */

int td_report_gather(const td_report_options *o, td_report_data *d, td_error *error)
{
    int code;
    *d = (td_report_data){ .options = o, .arena = td_arena_new() };
    if (!d->arena)
        return out_of_memory(error);
    code = o->study ? take_study(d, error) : take_runs(d, error);
    if (!code)
        code = compare(d, error);
    if (!code)
        code = read_runs(d, error);
    if (!code) {
        compare_tokenizers(d);
        code = fill_groups(d, error);
    }
    return code;
}

void td_report_data_free(td_report_data *d)
{
    for (size_t k = 0; d->runs && k < d->count; k++)
        td_history_free(&d->runs[k].history);
    td_comparison_free(&d->comparison);
    td_text_free(&d->notes);
    td_text_free(&d->announced);
    td_arena_free(d->arena);
    *d = (td_report_data){ 0 };
}

/* ---- questions ------------------------------------------------------------------------------- */

const td_measure *td_report_measure(const td_report_data *d, const char *name)
{
    for (size_t k = 0; k < d->comparison.n_measures; k++)
        if (!strcmp(d->comparison.measures[k].name, name))
            return &d->comparison.measures[k];
    return NULL;
}

const td_compared_pair *td_report_pair(const td_report_data *d, const td_measure *m, size_t a,
                                       size_t b, bool *reversed)
{
    for (size_t k = 0; k < d->comparison.n_pairs; k++) {
        const td_compared_pair *p = &d->comparison.pairs[k];
        *reversed = p->a == b && p->b == a;
        if (&d->comparison.measures[p->measure] == m && (*reversed || (p->a == a && p->b == b)))
            return p;
    }
    return NULL;
}

double td_report_half(const td_measured *m)
{
    if (m->seeds > 1)
        return td_student_quantile((double)(m->seeds - 1)) * m->error;
    return 1.959963984540054 * m->error;
}

bool td_report_begins_phase(const td_report_data *d, size_t group)
{
    for (size_t k = 0; k < group; k++)
        if (!strcmp(d->groups[k].phase, d->groups[group].phase))
            return false;
    return true;
}

size_t td_report_phases(const td_report_data *d)
{
    size_t n = 0;
    for (size_t g = 0; g < d->comparison.n_groups; g++)
        n += td_report_begins_phase(d, g);
    return n;
}

bool td_report_is_task(const td_measure *m) { return !m->detail && strncmp(m->name, "heldout", 7); }

/* "boolq acc (5-shot)" and "boolq acc_norm (5-shot)" measure the same answers. */
static bool same_answers(const char *a, const char *b)
{
    size_t      task = strcspn(a, " ");
    const char *setting_a = strchr(a, '('), *setting_b = strchr(b, '(');
    return strcspn(b, " ") == task && !strncmp(a, b, task) &&
           !strcmp(setting_a ? setting_a : "", setting_b ? setting_b : "");
}

bool td_report_is_main(const td_report_data *d, size_t k)
{
    const td_measure *m = d->comparison.measures;
    for (size_t before = 0; before < k; before++)
        if (td_report_is_task(&m[before]) && same_answers(m[before].name, m[k].name))
            return false;
    return td_report_is_task(&m[k]);
}
