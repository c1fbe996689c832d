/* task.c - task files: options, rules across them, templates and filters parsed once. */
#include "evaluate/task.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char *const formats[] = { "by_name", "jsonl", "json",  "csv",
                                       "tsv",     "lines", "whole", NULL };
static const char *const output_types[] = { "multiple_choice", "generate_until", "loglikelihood",
                                            NULL };
static const char *const samplers[] = { "first_n", "random", NULL };
static const char *const metric_kind[] = { TD_METRIC_KIND, NULL };

static const td_option filter_table[] = {
    TD_OPTION_NEED_STRING(td_task_filter, name, "part of the name of its scores"),
    TD_OPTION_LIST(td_task_filter, steps, td_filter_step, td_filter_step_table,
                   "each is applied to the result of the one before it"),
    TD_OPTION_END
};

#define O td_task_options
const td_option td_task_table[] = {
    TD_OPTION_STRING(O, name, "", "the name in results; by default the name of the file"),
    TD_OPTION_STRING(O, brief, "", "one-line description"),
    TD_OPTION_INT(O, version, 1, 0, 1000000, "raise it when a change affects scores"),
    TD_OPTION_STRINGS(O, groups, "groups that the task belongs to"),

    TD_OPTION_STRINGS(O, files,
                      "files of items, relative to the data's directory; shell patterns are "
                      "allowed; .gz and .zst are decompressed"),
    TD_OPTION_CHOICE(O, format, TD_ITEMS_BY_NAME, formats,
                     "by_name: from the file's suffix; lines: files side by side, one for each of "
                     "`columns`; whole: a file is one item, with the field text"),
    TD_OPTION_STRINGS(O, columns, "names of a table's columns; if empty, its first line has them"),
    TD_OPTION_STRING(O, rows, "", "path of the list of items in a JSON file"),
    TD_OPTION_STRING(O, split_field, "split", "the field that names an item's split"),
    TD_OPTION_STRING(O, split, "", "read only items of this split; empty: all"),
    TD_OPTION_STRING(O, by, "",
                     "a template: items with different values are also scored separately, and have "
                     "separate exemplars"),
    TD_OPTION_STRING(O, by_regex, "",
                     "pattern for the part of `by` that counts: the match, or its "
                     "first group"),

    TD_OPTION_CHOICE(O, output_type, TD_MULTIPLE_CHOICE, output_types,
                     "multiple_choice: the most likely choice; generate_until: a text, generated "
                     "greedily; loglikelihood: how likely the target is, and whether it would be "
                     "generated"),
    TD_OPTION_STRING(O, description, "", "template of the text before everything else"),
    TD_OPTION_STRING(O, doc_to_text, "", "template of the question"),
    TD_OPTION_STRING(O, doc_to_target, "",
                     "template of the correct answer; by default the correct choice"),
    TD_OPTION_STRING(O, target_delimiter, " ", "between question and answer"),
    TD_OPTION_STRING(O, choices, "", "the field with the list of choices"),
    TD_OPTION_STRINGS(O, doc_to_choice,
                      "with `choices`: the template of each choice, in which {{.}} is the element; "
                      "without: the templates of all choices"),
    TD_OPTION_STRING(O, gold, "",
                     "template of the correct choice: its label or, without labels, its index from "
                     "0"),
    TD_OPTION_STRINGS(O, labels, "labels of the choices, in order"),
    TD_OPTION_STRING(O, label, "", "with `choices`: template of an element's label"),
    TD_OPTION_BOOL(O, multiple_inputs, false,
                   "choices take the place of the question, and the target is scored after each"),
    TD_OPTION_STRING(O, references, "",
                     "the field with the correct answers, a text or a list; by default the target"),
    TD_OPTION_LIST(O, reference_steps, td_filter_step, td_filter_step_table,
                   "applied to correct answers before they are compared"),
    TD_OPTION_STRINGS(O, until, "texts that end a generated answer"),
    TD_OPTION_INT(O, max_gen_toks, 64, 1, 1 << 20,
                  "maximum number of tokens of a generated answer"),

    TD_OPTION_INT(O, num_fewshot, 0, 0, 1000, "number of exemplars; --shots overrides it"),
    TD_OPTION_CHOICE(
        O, fewshot_sampler, TD_SAMPLER_FIRST, samplers,
        "first_n: the first ones, the same for all items; random: drawn for each item, "
        "from --seed"),
    TD_OPTION_STRINGS(O, fewshot_files, "files of exemplars; by default `files`"),
    TD_OPTION_STRINGS(O, fewshot_text, "exemplars as texts, in place of files"),
    TD_OPTION_STRINGS(O, fewshot_columns, "like `columns`, for fewshot_files; by default the same"),
    TD_OPTION_CHOICE(O, fewshot_format, TD_ITEMS_BY_NAME, formats,
                     "like `format`, for "
                     "fewshot_files"),
    TD_OPTION_STRING(O, fewshot_rows, "", "like `rows`, for fewshot_files"),
    TD_OPTION_STRING(O, fewshot_split, "", "take exemplars from this split"),
    TD_OPTION_STRING(O, fewshot_doc_to_text, "",
                     "template of an exemplar's question; by default "
                     "doc_to_text"),
    TD_OPTION_STRING(O, fewshot_doc_to_target, "",
                     "template of an exemplar's answer, such as a chain of thought; by default "
                     "doc_to_target"),
    TD_OPTION_STRING(O, fewshot_context, "",
                     "template of ready-made exemplars: the item of fewshot_files with the same "
                     "`by` has all of them in one text"),
    TD_OPTION_LIST(O, fewshot_steps, td_filter_step, td_filter_step_table,
                   "applied to the text of fewshot_context"),
    TD_OPTION_STRING(O, fewshot_begin, "",
                     "with fewshot_context: the text that begins an exemplar; the text before the "
                     "first is a description"),
    TD_OPTION_STRING(O, fewshot_delimiter, "\n\n", "between exemplars"),

    TD_OPTION_LIST(O, filters, td_task_filter, filter_table,
                   "ways to find the answer in a generated text; if empty, the whole text is the "
                   "answer"),
    TD_OPTION_PARTS(O, metrics, metric_kind,
                    "metrics for choices score the choices, the others generated text"),
    TD_OPTION_FLOAT(O, chance, -1, -1, 100,
                    "the score of random guessing; -1: computed from the number of choices"),
    TD_OPTION_END
};
#undef O

/* ---- rules ----------------------------------------------------------------------------------- */

static void wrong(const td_task *t, td_errors *errors, const char *option, const char *why)
{
    char              key[80];
    const td_setting *v;
    /* the line of the option if the file has it, else the file: a missing key has no line */
    snprintf(key, sizeof key, "task.%s", option);
    v = td_config_get(t->config, key);
    td_errors_add(errors, "%s: task.%s%s%s", v ? td_setting_origin(v) : t->path, option,
                  *why == ':' ? "" : " ", why);
}

/* Whether any metric reads choices, or generated text. */
static bool has_metric(const td_task_options *o, bool choices)
{
    for (size_t k = 0; k < o->metrics.count; k++) {
        const td_task_metric *m = (const void *)o->metrics.at[k].plugin;
        if ((m->flags & TD_METRIC_CHOICES ? true : false) == choices)
            return true;
    }
    return false;
}

static void check_choices(const td_task *t, td_errors *errors)
{
    const td_task_options *o = &t->options;
    /* all rules are tried, so that one opening reports every mistake */
    if (!*o->choices && !o->doc_to_choice.count)
        wrong(t, errors, "choices",
              "is missing: a multiple choice needs the field with the "
              "choices, or doc_to_choice");
    if (*o->choices && o->doc_to_choice.count > 1)
        wrong(t, errors, "doc_to_choice",
              "has several templates, and `choices` names a list: give "
              "one template for its elements");
    if (!*o->gold)
        wrong(t, errors, "gold", "is missing: name the correct choice, as in \"{{gold}}\"");
    if (*o->label && !*o->choices)
        wrong(t, errors, "label",
              "is a template for the elements of a list: name the list in "
              "`choices`");
    if (*o->label && o->labels.count)
        wrong(t, errors, "labels", "and task.label are both set: remove one");
    if (o->labels.count && !*o->choices && o->labels.count != o->doc_to_choice.count)
        wrong(t, errors, "labels", "and doc_to_choice have different lengths");
    if (!has_metric(o, true))
        wrong(t, errors, "metrics", "names no metric for choices, such as \"accuracy\"");
}

static void check_exemplars(const td_task *t, td_errors *errors)
{
    const td_task_options *o = &t->options;
    if (o->fewshot_text.count && (o->fewshot_files.count || *o->fewshot_split))
        wrong(t, errors, "fewshot_text",
              "and files or a split of exemplars are both set: remove one");
    if (*o->fewshot_context && !*o->fewshot_begin)
        wrong(t, errors, "fewshot_begin",
              "is missing: fewshot_context needs it to count exemplars");
    if (*o->fewshot_context && !o->fewshot_files.count)
        wrong(t, errors, "fewshot_files",
              "is missing: fewshot_context is a template for their items");
}

static void check_rules(const td_task *t, td_errors *errors)
{
    const td_task_options *o = &t->options;
    /* no rule ends the list: all mistakes are reported together */
    if (!o->files.count)
        wrong(t, errors, "files", "is missing: name the files of the items");
    if (!*o->doc_to_text && !o->multiple_inputs && o->output_type == TD_GENERATE_UNTIL)
        wrong(t, errors, "doc_to_text", "is missing: it is the template of the question");
    if (o->output_type == TD_MULTIPLE_CHOICE)
        check_choices(t, errors);
    else if (!*o->doc_to_target && !*o->gold)
        wrong(t, errors, "doc_to_target", "is missing: it is the template of the correct answer");
    if (o->multiple_inputs && (!*o->doc_to_target || o->output_type != TD_MULTIPLE_CHOICE))
        wrong(t, errors, "multiple_inputs",
              "needs output_type \"multiple_choice\", and the target "
              "in doc_to_target");
    if (o->output_type == TD_GENERATE_UNTIL && !has_metric(o, false))
        wrong(t, errors, "metrics", "names no metric for generated text, such as \"exact-match\"");
    if (*o->by_regex && !*o->by)
        wrong(t, errors, "by_regex", "needs task.by, which is not set");
    check_exemplars(t, errors);
}

/* ---- templates and filters ------------------------------------------------------------------- */

static void parse(td_task *t, const char *option, const char *text, td_template **out,
                  td_errors *errors)
{
    td_error e = { 0 };
    *out = *text ? td_template_parse(text, &e) : NULL;
    if (e.code)
        wrong(t, errors, option, td_arena_print(td_config_arena(t->config), ": %s", e.text));
}

static void parse_choices(td_task *t, td_errors *errors)
{
    const td_strings *s = &t->options.doc_to_choice;
    /* the element itself is the usual choice */
    t->n_choice = s->count ? s->count : 1;
    t->choice = calloc(t->n_choice, sizeof *t->choice);
    for (size_t k = 0; t->choice && k < t->n_choice; k++)
        parse(t, "doc_to_choice", s->count ? s->at[k] : "{{.}}", &t->choice[k], errors);
}

static td_filter *make_filter(td_task *t, const char *option, td_list steps, td_errors *errors)
{
    td_error   e = { 0 };
    td_filter *f = td_filter_new(steps, &e);
    if (!f)
        wrong(t, errors, option, td_arena_print(td_config_arena(t->config), ": %s", e.text));
    return f;
}

static void make_filters(td_task *t, td_errors *errors)
{
    const td_list *l = &t->options.filters;
    /* no filters are one filter without steps: the whole text */
    t->n_filters = l->count ? l->count : 1;
    t->filters = calloc(t->n_filters, sizeof *t->filters);
    for (size_t k = 0; t->filters && k < t->n_filters; k++) {
        const td_task_filter *f = l->count ? (const td_task_filter *)l->at + k : NULL;
        t->filters[k] = make_filter(t, "filters", f ? f->steps : (td_list){ 0 }, errors);
    }
    if (t->options.reference_steps.count)
        t->reference = make_filter(t, "reference_steps", t->options.reference_steps, errors);
    if (t->options.fewshot_steps.count)
        t->fewshot = make_filter(t, "fewshot_steps", t->options.fewshot_steps, errors);
    if (*t->options.by_regex) {
        /* a pattern alone is a filter of one step */
        td_filter_step *step = td_arena_alloc(td_config_arena(t->config), sizeof *step);
        if (!step) {
            td_errors_add(errors, "out of memory for the filters of '%s'", t->path);
            return;
        }
        *step = (td_filter_step){ .pattern = t->options.by_regex, .with = "" };
        t->by_filter = make_filter(t, "by_regex", (td_list){ step, 1 }, errors);
    }
}

static void prepare(td_task *t, td_errors *errors)
{
    const td_task_options *o = &t->options;
    /* parsed when the task is opened: a wrong template must be found before the model answers */
    parse(t, "description", o->description, &t->description, errors);
    parse(t, "doc_to_text", o->doc_to_text, &t->text, errors);
    parse(t, "doc_to_target", o->doc_to_target, &t->target, errors);
    parse(t, "gold", o->gold, &t->gold, errors);
    parse(t, "label", o->label, &t->label, errors);
    parse(t, "by", o->by, &t->by, errors);
    parse(t, "fewshot_doc_to_text", o->fewshot_doc_to_text, &t->fewshot_text, errors);
    parse(t, "fewshot_doc_to_target", o->fewshot_doc_to_target, &t->fewshot_target, errors);
    parse(t, "fewshot_context", o->fewshot_context, &t->fewshot_context, errors);
    parse_choices(t, errors);
    make_filters(t, errors);
}

const char *td_task_filter_name(const td_task *t, size_t filter)
{
    const td_list *l = &t->options.filters;
    return l->count ? ((const td_task_filter *)l->at)[filter].name : "none";
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool is_path(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".cfg");
}

static char *path_of(const td_task_spec *spec, const char *name)
{
    td_text path = { 0 };
    if (is_path(name))
        return strdup(name);
    td_text_print(&path, "%s/tasks/%s.cfg", spec->configs, name);
    return path.failed ? NULL : path.data;
}

/* The nearest name, for a task that does not exist. */
static void add_unknown(const td_task_spec *spec, const char *name, td_errors *errors)
{
    char      **names = NULL;
    int64_t     n = td_task_names(spec, &names, NULL);
    /* a task may be misspelt, or a file named without its ending */
    const char *nearest = n > 0 ? td_nearest(name, (const char *const *)names, (size_t)n) : NULL;
    td_errors_add(
        errors,
        "unknown task '%s'%s%s%s; `tandem evaluate --list` lists all tasks; name your own "
        "file by its path, as in ./%s.cfg",
        name, nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "", name);
    if (n > 0)
        td_free_names(names, n);
}

/* "boolq" of ".../boolq.cfg". */
static const char *name_of_file(td_task *t)
{
    const char *slash = strrchr(t->path, '/'), *name = slash ? slash + 1 : t->path;
    return td_arena_print(td_config_arena(t->config), "%.*s", (int)strlen(name) - 4, name);
}

static void bind(td_task *t, const td_task_spec *spec, const char *name, td_errors *errors)
{
    size_t before = errors->count;
    if (!td_config_get(t->config, "task")) {
        td_errors_add(errors, "%s: it has no group 'task', which every task file needs", t->path);
        return;
    }
    /* anybody's task can be scored, so it must not choose the code that is run */
    if (td_config_get(t->config, "plugin_path"))
        td_errors_add(errors,
                      "%s: a task may not set plugin_path: give the directory of its metrics with "
                      "--plugin-path DIR",
                      t->path);
    td_config_bind_table(t->config, spec->registry, "task", td_task_table, &t->options, errors);
    td_config_check_unused(t->config, errors);
    if (errors->count > before)
        return;
    if (!*t->options.name)
        t->options.name = is_path(name) ? name_of_file(t)
                                        : td_arena_copy(td_config_arena(t->config), name);
    /* templates of options that contradict each other would only add confusing errors */
    check_rules(t, errors);
    if (errors->count == before)
        prepare(t, errors);
}

td_task *td_task_open(const td_task_spec *spec, const char *name, td_errors *errors)
{
    size_t      before = errors->count;
    td_task    *t = calloc(1, sizeof *t);
    const char *file;
    if (t)
        t->path = path_of(spec, name);
    if (!t || !t->path) {
        free(t);
        td_errors_add(errors, "out of memory while opening task '%s'", name);
        return NULL;
    }
    file = t->path;
    /* for a path, the loader itself says why it cannot be read */
    if (!is_path(name) && !td_file_exists(file))
        add_unknown(spec, name, errors);
    else
        t->config = td_config_load(&file, 1, NULL, 0, spec->configs, errors);
    if (t->config)
        bind(t, spec, name, errors);
    if (errors->count == before && t->choice && t->filters)
        return t;
    if (errors->count == before)
        td_errors_add(errors, "out of memory while opening task '%s'", name);
    td_task_close(t);
    return NULL;
}

void td_task_close(td_task *t)
{
    if (!t)
        return;
    td_template *templates[] = { t->description,  t->text,           t->target,
                                 t->gold,         t->label,          t->by,
                                 t->fewshot_text, t->fewshot_target, t->fewshot_context };
    /* also called after opening failed half-way: parts that were not made are NULL */
    for (size_t k = 0; k < sizeof templates / sizeof *templates; k++)
        td_template_free(templates[k]);
    for (size_t k = 0; t->choice && k < t->n_choice; k++)
        td_template_free(t->choice[k]);
    for (size_t k = 0; t->filters && k < t->n_filters; k++)
        td_filter_free(t->filters[k]);
    td_filter_free(t->reference);
    td_filter_free(t->fewshot);
    td_filter_free(t->by_filter);
    td_items_free(&t->items);
    td_items_free(&t->exemplars);
    free(t->choice);
    free(t->filters);
    td_config_free(t->config);
    free(t->path);
    free(t);
}

/* ---- listing --------------------------------------------------------------------------------- */

/* Names that were found so far. */
typedef struct list {
    char  **at;
    int64_t count, room;
} list;

static int add_name(list *l, const char *folder, const char *file, td_error *error)
{
    td_text name = { 0 };
    if (l->count == l->room) {
        int64_t room = l->room ? 2 * l->room : 64;
        char  **larger = realloc(l->at, (size_t)room * sizeof *larger);
        if (!larger)
            return td_fail(error, TD_ENOMEM, "out of memory for the names of tasks");
        l->at = larger;
        l->room = room;
    }
    /* 4: ".cfg", which is_path has seen */
    td_text_print(&name, "%s%s%.*s", folder, *folder ? "/" : "", (int)strlen(file) - 4, file);
    if (name.failed)
        return td_fail(error, TD_ENOMEM, "out of memory for the names of tasks");
    l->at[l->count++] = name.data;
    return 0;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* Files of tasks/`folder` and its subfolders; those beginning with _ exist only for others to
 * extend. */
static int list_folder(const td_task_spec *spec, const char *folder, int depth, list *l,
                       td_error *error)
{
    td_text path = { 0 };
    char  **names = NULL;
    int64_t n;
    int     code = 0;
    td_text_print(&path, "%s/tasks%s%s", spec->configs, *folder ? "/" : "", folder);
    n = td_list_directory(td_text_get(&path), &names, error);
    for (int64_t k = 0; k < n && !code; k++) {
        char *inner = td_path_join(folder, names[k]), *full = td_path_join(path.data, names[k]);
        if (!inner || !full)
            code = td_fail(error, TD_ENOMEM, "out of memory for the names of tasks");
        else if (is_path(names[k]) && *names[k] != '_')
            code = add_name(l, folder, names[k], error);
        else if (depth < 3 && is_directory(full)) /* a link to a folder above would never end */
            code = list_folder(spec, inner, depth + 1, l, error);
        free(inner);
        free(full);
    }
    if (n >= 0)
        td_free_names(names, n);
    td_text_free(&path);
    return n < 0 ? (int)n : code;
}

int64_t td_task_names(const td_task_spec *spec, char ***names, td_error *error)
{
    list l = { 0 };
    int  code = list_folder(spec, "", 0, &l, error);
    if (code) {
        td_free_names(l.at, l.count);
        return code;
    }
    *names = l.at;
    return l.count;
}

/* ---- items ----------------------------------------------------------------------------------- */

static bool needs_exemplars(const td_task_options *o)
{
    return o->fewshot_files.count || *o->fewshot_split;
}

static td_items_spec exemplars_of(const td_task_options *o, const char *directory)
{
    /* exemplars of the same files are in the same layout; others may have their own */
    bool own = o->fewshot_files.count > 0;
    return (td_items_spec){ .directory = directory,
                            .files = own ? o->fewshot_files : o->files,
                            .format = own && o->fewshot_format ? o->fewshot_format : o->format,
                            .columns = o->fewshot_columns.count ? o->fewshot_columns : o->columns,
                            .rows = own && *o->fewshot_rows ? o->fewshot_rows : o->rows,
                            .split_field = o->split_field,
                            .split = o->fewshot_split };
}

int td_task_read(td_task *t, const char *directory, td_error *error)
{
    const td_task_options *o = &t->options;
    td_items_spec          spec = { directory, o->files,       o->format, o->columns,
                                    o->rows,   o->split_field, o->split };
    td_error               e = { 0 };
    int                    code = td_items_read(&spec, &t->items, &e);
    /* a split that is misspelt would otherwise give a score of no items */
    if (!code && !json_array_size(t->items.all))
        code = td_fail(&e, TD_EFORMAT, "'%s' has no items%s%s%s", o->files.at[0],
                       *o->split ? " of split '" : "", o->split, *o->split ? "'" : "");
    if (!code && needs_exemplars(o)) {
        spec = exemplars_of(o, directory);
        code = td_items_read(&spec, &t->exemplars, &e);
    }
    if (!code)
        return 0;
    /* the usual reason on a first try: the data's directory was not given */
    return td_fail(error, code, "task '%s': %s%s", o->name, e.text,
                   code == TD_EIO ? "; --data DIR (or tasks.data) says where the data sets are"
                                  : "");
}
