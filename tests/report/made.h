/* made.h - runs made by a test, of which every number is known: no model is trained. */
#ifndef TESTS_REPORT_MADE_H
#define TESTS_REPORT_MADE_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/report.h"

static char *made_directory;

static inline void made_begin(void)
{
    made_directory = td_temporary_directory("report", NULL);
    cr_assert(made_directory);
}

static inline void made_end(void)
{
    td_remove_tree(made_directory, NULL);
    free(made_directory);
}

/* "DIRECTORY/name"; free() it. */
static inline char *made_path(const char *name) { return td_path_join(made_directory, name); }

static inline void made_put(const char *run, const char *name, const char *format, ...)
    TD_PRINTF(3, 4);

/* Append to a file of a run. */
static inline void made_put(const char *run, const char *name, const char *format, ...)
{
    char   *of = made_path(run), *path = td_path_join(of, name), *above = td_path_directory(path);
    FILE   *f;
    va_list args;
    cr_assert_eq(td_make_directories(above, NULL), 0);
    f = fopen(path, "a");
    cr_assert(f);
    va_start(args, format);
    vfprintf(f, format, args);
    va_end(args);
    cr_assert_eq(fclose(f), 0);
    free(above);
    free(path);
    free(of);
}

/* What a run is: its variant is its schedule, so that others are another group. */
typedef struct made_run {
    const char *name, *schedule;
    int         seed;
    double      nll;       /* mean */
    double      shift;     /* of this seed, on every sequence */
    double      noise;     /* of the difference between variants, from sequence to sequence */
    const char *tokenizer; /* NULL: "bytes" */
    double      flops;     /* of its training; 0: 3e9, or 6e9 of the schedule wsd */
} made_run;

enum { MADE_SEQUENCES = 40 };

/* The sequences of two runs differ by their means, and by noise that sums to nearly 0. */
static inline double made_nll(const made_run *r, int k)
{
    return r->nll + r->shift + sin(k) + r->noise * cos(7.0 * k);
}

static inline void made_heldout(const made_run *r)
{
    const char *tokenizer = r->tokenizer ? r->tokenizer : "bytes";
    double      sum = 0;
    for (int k = 0; k < MADE_SEQUENCES; k++) {
        sum += made_nll(r, k) / MADE_SEQUENCES;
        made_put(r->name, "eval/heldout.jsonl",
                 "{\"source\":\"facts\",\"index\":%d,\"targets\":8,\"nll\":%.12f,\"weight\":8,"
                 "\"text_bytes\":9,\"hash\":\"%s-%d\"}\n",
                 k, made_nll(r, k), tokenizer, k);
    }
    made_put(
        r->name, "eval/heldout.json",
        "{\"kind\":\"heldout\",\"step\":300,\"tokenizer\":\"%s\",\"nll\":%.12f,\"nll_error\":0.1,"
        "\"bits_per_byte\":%.12f,\"sources\":[{\"source\":\"facts\",\"nll\":%.12f,"
        "\"nll_error\":0.1}]}\n",
        tokenizer, sum, sum * 1.2, sum);
}

/* Item k is right if bit k is set. */
static inline void made_task(const char *run, const char *task, unsigned right)
{
    char name[200];
    made_put(
        run, "eval/suite.json",
        "{\"kind\":\"tasks\",\"step\":300,\"results\":{\"%s\":{\"alias\":\"%s\",\"acc,none\":%g,"
        "\"acc_stderr,none\":0.05}}}\n",
        task, task, __builtin_popcount(right) / 30.);
    snprintf(name, sizeof name, "eval/suite.samples_%s.jsonl", task);
    for (int k = 0; k < 30; k++)
        made_put(run, name,
                 "{\"doc_id\":%d,\"doc\":{\"q\":\"question %d\"},\"target\":\"yes\",\"acc\":%d}\n",
                 k, k, right >> k & 1);
}

/* A config, a checkpoint's state and metrics: a run that was not evaluated. */
static inline void made_trained(const char *name, const char *schedule, int seed, double flops)
{
    made_put(name, "config.cfg",
             "schedule = { plugin = \"%s\"; peak = 0.01; };\ntrain = { seed = %d; };\n", schedule,
             seed);
    made_put(name, "checkpoints/step-00000300/state.json",
             "{\"step\": 300, \"tokens\": 12000, \"flops\": %g}\n",
             flops > 0                 ? flops
             : strcmp(schedule, "wsd") ? 3e9
                                       : 6e9);
    for (int k = 1; k <= 30; k++)
        made_put(name, "metrics.jsonl",
                 "{\"step\": %d, \"train/cross_entropy\": %g, \"train/tokens\": %d, "
                 "\"train/flops\": %g, "
                 "\"train/parameters_hash\": %d, \"time/tokens_per_second\": 1000}\n",
                 10 * k, 5.0 / k + 0.01 * seed, 400 * k, 1e8 * k, 1000 * seed + k);
}

static inline void made_bare(const char *name, const char *schedule, int seed)
{
    made_trained(name, schedule, seed, 0);
}

static inline void made(made_run r)
{
    made_trained(r.name, r.schedule, r.seed, r.flops);
    made_heldout(&r);
}

/* The report of some runs in DIRECTORY/out; names end with NULL. free() the results. */
typedef struct made_report {
    json_t *summary;
    char   *html, *markdown;
} made_report;

static inline char *made_read(const char *name)
{
    char    *path = made_path(name);
    td_error e = { 0 };
    char    *text = td_file_read(path, NULL, &e);
    cr_assert(text, "%s", e.text);
    free(path);
    return text;
}

static inline made_report made_write(const char *const *names, size_t n, const char *title)
{
    const char **runs = calloc(n + 1, sizeof *runs);
    char        *out = made_path("out");
    made_report  r;
    td_error     e = { 0 };
    for (size_t k = 0; k < n; k++)
        runs[k] = made_path(names[k]);
    cr_assert_eq(td_report_write(&(td_report_options){ .runs = runs,
                                                       .count = n,
                                                       .directory = out,
                                                       .title = title,
                                                       .draws = 1000 },
                                 &r.summary, &e),
                 0, "%s", e.text);
    r.html = made_read("out/index.html");
    r.markdown = made_read("out/report.md");
    cr_expect(!strstr(r.html, "gnuplot failed"), "%s", strstr(r.html, "gnuplot failed"));
    for (size_t k = 0; k < n; k++)
        free((char *)(uintptr_t)runs[k]);
    free(runs);
    free(out);
    return r;
}

static inline void made_free(made_report *r)
{
    json_decref(r->summary);
    free(r->html);
    free(r->markdown);
}

static inline const char *made_answer(const made_report *r, size_t k)
{
    const char *text = json_string_value(json_array_get(json_object_get(r->summary, "answer"), k));
    return text ? text : "";
}

#endif
