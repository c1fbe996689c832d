/* csv.c - logger 'csv': what it writes exactly, names that need quotes, and resuming. */
#include "module.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tandem/kind/logger.h"

static char             directory[64], path[100];
static const char      *config = "metrics.csv"; /* the config struct is this one field */
static const td_logger *logger;

static void setup(void)
{
    strcpy(directory, "/tmp/test-csv-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/metrics.csv", directory);
    logger = module_plugin("logger-csv.so");
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(csv, .init = setup, .fini = teardown);

/* Opens the log, writes steps [from, to] of these metrics, and closes it. */
static void write_steps(td_logger_in in, int64_t from, int64_t to, const td_metric *m, size_t n)
{
    td_error error = { 0 };
    void    *state;
    in.services = &module_services;
    in.directory = directory;
    cr_assert_eq(logger->open(&config, &in, &state, &error), 0, "%s", error.text);
    for (int64_t step = from; step <= to; step++)
        cr_assert_eq(logger->write(state, step, m, n, &error), 0, "%s", error.text);
    cr_assert_eq(logger->flush(state, &error), 0, "%s", error.text);
    logger->close(state);
}

static void expect_file(const char *expected)
{
    td_error error = { 0 };
    char    *text = td_file_read(path, NULL, &error);
    cr_assert(text, "%s", error.text);
    cr_expect_str_eq(text, expected);
    free(text);
}

Test(csv, what_it_writes)
{
    td_metric m[] = { { "time/seconds", 2, true },
                      { "train/loss", 0.1, false },
                      { "evaluate/a \"b\", c\nd/nll", NAN, false },
                      { "x", -INFINITY, false } };
    write_steps((td_logger_in){ 0 }, 7, 7, m, 4);
    expect_file("step,name,value\n"
                "7,train/loss,0.10000000000000001\n"
                "7,\"evaluate/a \"\"b\"\", c d/nll\",nan\n"
                "7,x,-inf\n"
                "7,time/seconds,2\n");
    /* a new run begins a new file */
    write_steps((td_logger_in){ 0 }, 1, 1, m + 3, 1);
    expect_file("step,name,value\n1,x,-inf\n");
}

Test(csv, a_resumed_run_writes_its_lines_once)
{
    td_metric m[] = { { "train/loss", 1, false }, { "time/seconds", 2, true } };
    td_metric again = { "evaluate/a,b/nll", 3, false }, task = { "tasks/sums/acc", 4, false };
    FILE     *f;
    write_steps((td_logger_in){ 0 }, 1, 3, m, 1);
    f = fopen(path, "a");
    cr_assert(f && fputs("3,train/lo", f) >= 0 && !fclose(f)); /* a crash in the middle of a line */
    write_steps((td_logger_in){ .resume = 2, .written = 3 }, 2, 2, m, 2);
    expect_file("step,name,value\n1,train/loss,1\n2,train/loss,1\n2,time/seconds,2\n");
    /* a repeated evaluation, and then tasks, replace only themselves */
    write_steps((td_logger_in){ .resume = 3 }, 2, 2, &again, 1);
    write_steps((td_logger_in){ .resume = 3, .evaluate_again = true }, 2, 2, &again, 1);
    write_steps((td_logger_in){ .resume = 3 }, 2, 2, &task, 1);
    write_steps((td_logger_in){ .resume = 3, .score_again = true }, 2, 2, &task, 1);
    expect_file("step,name,value\n1,train/loss,1\n2,train/loss,1\n2,time/seconds,2\n"
                "2,\"evaluate/a,b/nll\",3\n2,tasks/sums/acc,4\n");
}

/* A file that was removed while the run writes begins anew, with its head. */
Test(csv, a_file_that_was_removed)
{
    td_metric    m = { "x", 1, false };
    td_logger_in in = { .services = &module_services, .directory = directory };
    td_error     error = { 0 };
    void        *state;
    cr_assert_eq(logger->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_assert_eq(logger->write(state, 1, &m, 1, &error), 0);
    cr_assert_eq(remove(path), 0);
    cr_assert_eq(logger->flush(state, &error), 0, "%s", error.text);
    cr_assert_eq(logger->write(state, 2, &m, 1, &error), 0);
    logger->close(state);
    expect_file("step,name,value\n2,x,1\n");
}

Test(csv, names_within_the_run)
{
    const char *wrong = "../metrics.csv";
    td_error    error = { 0 };
    cr_expect_eq(logger->plugin.check(&wrong, &error), TD_ECONFIG);
}
