/* lab.h - for tests: task files in a fresh directory. */
#ifndef TESTS_EVALUATE_LAB_H
#define TESTS_EVALUATE_LAB_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "evaluate/task.h"

static char        *task_directory;
static td_registry *task_registry;

static void task_setup(void)
{
    static const char *paths[] = { TANDEM_PLUGINS, NULL };
    td_error           e = { 0 };
    task_directory = td_temporary_directory("task", &e);
    task_registry = td_registry_new(paths, NULL, &e);
    cr_assert(task_directory && task_registry, "%s", e.text);
}

static void task_teardown(void)
{
    td_registry_free(task_registry);
    td_remove_tree(task_directory, NULL);
    free(task_directory);
}

static inline void task_write(const char *name, const char *text)
{
    td_error e = { 0 };
    char    *path = td_path_join(task_directory, name);
    cr_assert(!td_file_write(path, text, strlen(text), &e), "%s", e.text);
    free(path);
}

static inline td_task_spec task_spec(void)
{
    return (td_task_spec){ task_registry, TANDEM_SOURCE "/configs" };
}

/* A task of these lines in its group; NULL with errors. */
static inline td_task *task_try(const char *lines, td_errors *errors)
{
    td_task_spec spec = task_spec();
    td_text      text = { 0 };
    char        *path = td_path_join(task_directory, "mine.cfg");
    td_task     *t;
    td_text_print(&text, "task = {\n%s\n};\n", lines);
    task_write("mine.cfg", td_text_get(&text));
    t = td_task_open(&spec, path, errors);
    td_text_free(&text);
    free(path);
    return t;
}

/* The same, with its items read. */
static inline td_task *task_open(const char *lines)
{
    td_errors errors = { 0 };
    td_error  e = { 0 };
    td_task  *t = task_try(lines, &errors);
    cr_assert(t, "%s", td_text_get(&errors.text));
    cr_assert_eq(td_task_read(t, task_directory, &e), 0, "%s", e.text);
    return t;
}

#endif
