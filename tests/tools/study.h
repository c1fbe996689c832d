/* study.h - what tests of `tandem study` share: a directory with a small study, and commands in it. */
#ifndef TESTS_TOOLS_STUDY_H
#define TESTS_TOOLS_STUDY_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/child.h"
#include "tools/run_files.h"
#include "tools/small_model.h"

static char directory[64];

static inline void put(const char *name, const char *text)
{
    char     path[200];
    td_error e = { 0 };
    snprintf(path, sizeof path, "%s/%s", directory, name);
    cr_assert(!td_file_write(path, text, strlen(text), &e), "%s", e.text);
}

/* Three variants; two of them share their pretraining. */
static const char study_text[] =
    "study = {\n"
    "  name = \"tiny\";\n"
    "  base = \"model.cfg\";\n"
    "  variants = {\n"
    "    plain = { };\n"
    "    wide = { keys = { model = { ffn = { d_ff = 53; }; }; }; };\n"
    "    tuned = { from = \"plain\"; finetune = { keys = { train = { dropout = 0.1; }; }; }; };\n"
    "  };\n"
    "  phases = {\n"
    "    pretrain = \"train.steps=40\";\n"
    "    finetune = [ \"train.steps=20\", \"schedule.peak=0.001\" ];\n"
    "    evaluate = { };\n"
    "    extrapolate = { lengths = [ 33, 66 ]; sequences = 2; };\n"
    "  };\n"
    "};\n";

static inline void setup(void)
{
    strcpy(directory, "/tmp/tandem-study-XXXXXX");
    cr_assert(mkdtemp(directory));
    put("model.cfg", SMALL_MODEL
        "train = { steps = 40; length = 33; batch = 2; log_every = 1; checkpoint_every = 4;\n"
        "  evaluate_every = 0; };\n"
        "evaluate = { sequences = 2; };\n"
        "run = { loggers = [ \"jsonl\" ]; };\n");
    put("tiny.cfg", study_text);
}

static inline void teardown(void) { td_remove_tree(directory, NULL); }

/* `tandem study WORDS` in DIRECTORY/PLACE, so that two studies have the same paths. */
static inline child study(const char *place, const char *words)
{
    char command[2000];
    snprintf(command, sizeof command, "mkdir -p '%s/%s' && cd '%s/%s' && exec %s study %s",
             directory, place, directory, place, TANDEM_BINARY, words);
    return child_run((const char *[]){ "sh", "-c", command, NULL });
}

static inline void expect(int code, const char *text, child c)
{
    cr_assert_eq(c.code, code, "exit code %d, not %d:\n%s%s", c.code, code, c.out, c.err);
    cr_assert(strstr(c.out, text) || strstr(c.err, text), "'%s' is not in:\n%s%s", text, c.out,
              c.err);
    child_free(&c);
}

/* Should the test end early, the study must not go on without it. */
static inline pid_t start(const char *place, const char *words)
{
    char        command[2000];
    const char *argv[] = { "sh", "-c", command, NULL };
    pid_t       pid;
    snprintf(command, sizeof command,
             "mkdir -p '%s/%s' && cd '%s/%s' && TANDEM_PARENT=%ld exec %s study %s >>out.txt 2>&1",
             directory, place, directory, place, (long)getpid(), TANDEM_BINARY, words);
    cr_assert(!posix_spawn(&pid, "/bin/sh", NULL, NULL, (char *const *)(uintptr_t)argv, environ));
    return pid;
}

static inline int finish(pid_t pid)
{
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline char *text_of(const char *place, const char *name)
{
    char run[200];
    snprintf(run, sizeof run, "%s/runs/tiny", place);
    return run_file(directory, run, name, NULL);
}

static inline bool is_there(const char *place, const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s/%s", directory, place, name);
    return td_file_exists(path);
}

static inline void wait_for(const char *place, const char *name)
{
    for (int k = 0; k < 30000 && !is_there(place, name); k++)
        usleep(1000);
    cr_assert(is_there(place, name), "%s", name);
}

#endif
