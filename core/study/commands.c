/* commands.c - the commands of a cell. */
#include "study/commands.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "run/tasks_name.h"

/* ---- lists of arguments ---------------------------------------------------------------------- */

void td_arguments_add(td_arguments *a, const char *format, ...)
{
    char    text[4096];
    va_list list;
    int     n;
    va_start(list, format);
    n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (n < 0 || (size_t)n >= sizeof text) {
        a->text.failed = true;
        return;
    }
    /* with its 0, which ends the argument */
    td_text_append(&a->text, text, (size_t)n + 1);
    a->n++;
}

void td_arguments_free(td_arguments *a)
{
    td_text_free(&a->text);
    *a = (td_arguments){ .n = 0 };
}

char **td_arguments_list(const td_arguments *a, const char *program)
{
    char **list = a->text.failed ? NULL : calloc(a->n + 2, sizeof *list);
    char  *at = a->text.data;
    if (!list)
        return NULL;
    list[0] = (char *)(uintptr_t)program;
    for (size_t k = 0; k < a->n; k++, at += strlen(at) + 1)
        list[k + 1] = at;
    return list;
}

void td_quote(const char *word, td_text *out)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./=,:@%";
    if (*word && !word[strspn(word, plain)]) {
        td_text_print(out, "%s", word);
        return;
    }
    td_text_print(out, "'");
    for (; *word; word++)
        td_text_print(out, *word == '\'' ? "'\\''" : "%c", *word);
    td_text_print(out, "'");
}

void td_arguments_quote(const td_arguments *a, td_text *out)
{
    const char *at = a->text.data;
    for (size_t k = 0; k < a->n; k++, at += strlen(at) + 1) {
        td_text_print(out, "%s", k ? " " : "");
        td_quote(at, out);
    }
}

/* ---- what a phase asks ----------------------------------------------------------------------- */

static void add_number(td_arguments *a, const char *option, int64_t value)
{
    if (value < 0)
        return;
    td_arguments_add(a, "%s", option);
    td_arguments_add(a, "%" PRId64, value);
}

static void add_numbers(td_arguments *a, const char *option, const td_integers *list)
{
    td_text t = { 0 };
    for (size_t k = 0; k < list->count; k++)
        td_text_print(&t, "%s%" PRId64, k ? "," : "", list->at[k]);
    if (list->count) {
        td_arguments_add(a, "%s", option);
        td_arguments_add(a, "%s", td_text_get(&t));
    }
    td_text_free(&t);
}

/* As an absolute path if it is a file here: a command may run in another directory. */
static void print_path(const char *name, bool whole, td_text *out)
{
    char *path = whole ? realpath(name, NULL) : NULL;
    td_text_print(out, "%s", path ? path : name);
    free(path);
}

/* `whole`: items whose ending says that they are files become absolute paths. */
static void add_words(td_arguments *a, const char *option, const td_strings *list, bool whole)
{
    td_text t = { 0 };
    for (size_t k = 0; k < list->count; k++) {
        td_text_print(&t, "%s", k ? "," : "");
        print_path(list->at[k], whole && td_tasks_is_file(list->at[k]), &t);
    }
    if (list->count) {
        td_arguments_add(a, "%s", option);
        td_arguments_add(a, "%s", td_text_get(&t));
    }
    td_text_free(&t);
}

static void add_tasks(td_arguments *a, const td_phase_design *d, bool whole)
{
    td_text data = { 0 };
    add_words(a, "--tasks", &d->tasks, whole);
    if (d->data) {
        print_path(d->data, whole, &data);
        td_arguments_add(a, "--data");
        td_arguments_add(a, "%s", td_text_get(&data));
        td_text_free(&data);
    }
    add_number(a, "--shots", d->shots);
    add_number(a, "--limit", d->limit);
}

/* `whole`: with paths that hold in any directory, rather than as the study states them. */
static void add_asked(td_arguments *a, td_study_phase p, const td_phase_design *d, size_t k,
                      bool whole)
{
    /* an evaluation with tasks is two commands: held-out text, then these */
    if (p == TD_STUDY_EVALUATE && k == 1)
        add_tasks(a, d, whole);
    if (p == TD_STUDY_EXTRAPOLATE) {
        td_arguments_add(a, "--extrapolate");
        add_numbers(a, "--lengths", &d->lengths);
        add_numbers(a, "--prefixes", &d->prefixes);
        add_number(a, "--sequences", d->sequences);
    }
    if (p == TD_STUDY_ANALYZE) {
        add_number(a, "--length", d->length);
        add_number(a, "--prefix", d->prefix);
        add_number(a, "--sequences", d->sequences);
        add_words(a, "--layers", &d->layers, false);
    }
    if (p == TD_STUDY_BENCH) {
        td_arguments_add(a, "--generate");
        add_number(a, "--batch", d->batch);
        add_number(a, "--prompt-tokens", d->prompt_tokens);
        add_number(a, "--max-new-tokens", d->max_new_tokens);
    }
    if (d->best)
        td_arguments_add(a, "--best");
}

static size_t commands_of(const td_design *d, const td_point *p)
{
    return p->reads == TD_STUDY_EVALUATE && d->phases[p->reads].tasks.count ? 2 : 1;
}

void td_phase_arguments(const td_design *d, const td_point *p, td_text *out)
{
    for (size_t k = 0; p->reads != TD_STUDY_PHASES && k < commands_of(d, p); k++) {
        td_arguments a = { .n = 0 };
        add_asked(&a, p->reads, &d->phases[p->reads], k, false);
        td_arguments_quote(&a, out);
        td_text_print(out, "\n");
        td_arguments_free(&a);
    }
}

/* ---- the commands of a cell ------------------------------------------------------------------ */

size_t td_cell_commands(const td_matrix *m, const td_matrix_cell *c)
{
    return commands_of(m->design, &c->point);
}

/* The name of the directory of the cell's run. */
static const char *run_name(const td_cell *c) { return strrchr(c->run, '/') + 1; }

void td_arguments_add_paths(td_arguments *a, const td_matrix *m)
{
    for (const char *const *p = m->composer.plugin_paths; p && *p; p++) {
        td_arguments_add(a, "--plugin-path");
        td_arguments_add(a, "%s", *p);
    }
}

/* As a bare word where that means the same: a config reads anything that is not another value as
 * a string. */
static void add_setting(td_arguments *a, const char *key, const char *directory, const char *name)
{
    bool plain = isalpha((unsigned char)*directory) || strchr("./_", *directory);
    for (const char *c = directory; *c; c++)
        plain = plain && (isalnum((unsigned char)*c) || strchr("._-+=/", *c));
    if (plain && strcmp(directory, "true") && strcmp(directory, "false"))
        td_arguments_add(a, "%s=%s%s", key, directory, name);
    else
        td_arguments_add(a, "%s=\"%s%s\"", key, directory, name);
}

static const char *command_of(const td_point *p)
{
    switch (p->reads) {
    case TD_STUDY_PHASES:
        return "train";
    case TD_STUDY_ANALYZE:
        return "analyze";
    case TD_STUDY_BENCH:
        return "bench";
    default:
        return "evaluate";
    }
}

void td_cell_command(const td_matrix *m, const td_matrix_cell *c, size_t k, const char *directory,
                     int64_t threads, td_arguments *out)
{
    bool trains = c->point.reads == TD_STUDY_PHASES;
    td_arguments_add(out, "%s", command_of(&c->point));
    td_arguments_add(out, "-c");
    td_arguments_add(out, "%s/configs/%s.cfg", directory, c->cell.name);
    add_setting(out, "run.dir", directory, "/cells");
    add_setting(out, "run.name", run_name(&c->cell), "");
    if (threads)
        td_arguments_add(out, "backend.threads=%" PRId64, threads);
    if (trains)
        td_arguments_add(out, "--resume");
    /* with --resume these are used only if the run has no checkpoint yet */
    if (trains && c->of != TD_NO_CELL) {
        td_arguments_add(out, "--weights");
        td_arguments_add(out, "%s/cells/%s", directory, run_name(&m->cells[c->of].cell));
    }
    if (!trains)
        add_asked(out, c->point.reads, &m->design->phases[c->point.reads], k, true);
    if (c->point.reads == TD_STUDY_BENCH) {
        td_arguments_add(out, "--out");
        td_arguments_add(out, "%s/cells/%s/eval", directory, run_name(&c->cell));
    }
}
