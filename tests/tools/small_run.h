/* small_run.h - a run that takes a second, in a scratch directory, for tests of what can happen to
 * runs. Criterion's hooks are the caller's. */
#ifndef TESTS_TOOLS_SMALL_RUN_H
#define TESTS_TOOLS_SMALL_RUN_H

#include <signal.h>
#include <sys/stat.h>

#include "tools/child.h"
#include "tools/small_model.h"

static char small_directory[64];

static inline void small_setup(void)
{
    char  path[128];
    FILE *f;
    strcpy(small_directory, "/tmp/tandem-small-XXXXXX");
    cr_assert(mkdtemp(small_directory));
    snprintf(path, sizeof path, "%s/model.cfg", small_directory);
    f = fopen(path, "w");
    cr_assert(f);
    fprintf(f,
            SMALL_MODEL
            "train = { steps = 12; length = 33; batch = 2; log_every = 1; checkpoint_every = 4;\n"
            "  evaluate_every = 6; keep_last = 0; };\n"
            "evaluate = { sequences = 2; };\n"
            "run = { dir = \"%s\"; loggers = [ \"jsonl\" ]; };\n",
            small_directory);
    cr_assert(!fclose(f));
}

static inline void small_teardown(void) { td_remove_tree(small_directory, NULL); }

/* A shell command; %1$s is the scratch directory, %2$s the command line that trains, or resumes,
 * the run %3$s. */
static inline child small_shell(const char *run, const char *format)
{
    char train[600], command[8000];
    snprintf(train, sizeof train, "%s train -c %s/model.cfg run.name=%s --resume backend.threads=1",
             TANDEM_BINARY, small_directory, run);
    snprintf(command, sizeof command, format, small_directory, train, run);
    return child_run((const char *[]){ "sh", "-c", command, NULL });
}

/* Expect that it ends with `code`, and that stderr or stdout has `text`. */
static inline void small_expect(const char *run, const char *format, int code, const char *text)
{
    child c = small_shell(run, format);
    cr_assert_eq(c.code, code, "exit code %d, not %d, of: %s\n%s%s", c.code, code, format, c.out,
                 c.err);
    cr_assert(strstr(c.err, text) || strstr(c.out, text), "'%s' is not in:\n%s%s", text, c.out,
              c.err);
    child_free(&c);
}

/* Begin a run that ends only by a signal or an error, and wait until it has trained some steps.
 * What it prints goes to the file RUN.out. */
static inline pid_t small_start(const char *run, const char *more)
{
    char        command[1000], metrics[160];
    const char *argv[] = { "sh", "-c", command, NULL };
    pid_t       pid;
    struct stat st;
    snprintf(command, sizeof command,
             "exec %s train -c %s/model.cfg run.name=%s --resume --threads 1 train.steps=1000000 "
             "train.evaluate_every=-1 %s >%s/%s.out 2>&1",
             TANDEM_BINARY, small_directory, run, more, small_directory, run);
    cr_assert(!posix_spawn(&pid, "/bin/sh", NULL, NULL, (char *const *)(uintptr_t)argv, environ));
    snprintf(metrics, sizeof metrics, "%s/%s/metrics.jsonl", small_directory, run);
    for (int k = 0; k < 20000 && (stat(metrics, &st) || st.st_size < 1000); k++)
        usleep(1000);
    return pid;
}

/* Its exit code, or minus the signal. */
static inline int small_end(pid_t pid)
{
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Expect what a run that was begun has printed. */
static inline void small_said(const char *run, const char *text)
{
    char     path[160];
    td_error e = { 0 };
    snprintf(path, sizeof path, "%s/%s.out", small_directory, run);
    char *all = td_file_read(path, NULL, &e);
    cr_assert(all, "%s", e.text);
    cr_expect(strstr(all, text), "'%s' is not in:\n%s", text, all);
    free(all);
}

#endif
