/* jsonl.c - logger 'jsonl': lines are JSON, clock readings come last, and resuming cuts off the
 * lines that will be written again. */
#include "module.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tandem/kind/logger.h"

Test(jsonl, writes_and_resumes)
{
    const td_logger *l = module_plugin("logger-jsonl.so");
    const char      *config = "metrics.jsonl"; /* the config struct is this one field */
    char             directory[] = "/tmp/test-jsonl-XXXXXX", path[64], command[64];
    td_metric        m[] = { { "time/step", 2, true },
                             { "train/\"x\"", 0.1, false },
                             { "bad", NAN, false } };
    td_error         error = { 0 };
    void            *state;

    cr_assert(mkdtemp(directory));
    td_logger_in in = { .services = &module_services, .directory = directory };
    snprintf(path, sizeof path, "%s/metrics.jsonl", directory);
    cr_assert_eq(l->open(&config, &in, &state, &error), 0, "%s", error.text);
    for (int64_t step = 1; step <= 5; step++)
        cr_assert_eq(l->write(state, step, m, 3, &error), 0);
    l->close(state);

    FILE *f = fopen(path, "a");
    fputs("{\"step\": 6, \"tra", f); /* a crash in the middle of a line */
    fclose(f);
    in.resume = 4;
    cr_assert_eq(l->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_assert_eq(l->write(state, 4, m, 3, &error), 0);
    l->close(state);

    f = fopen(path, "r");
    char line[256];
    for (int step = 1; step <= 4; step++) {
        cr_assert(fgets(line, sizeof line, f));
        json_t *o = json_loads(line, 0, NULL);
        cr_assert(o, "%s", line);
        cr_assert_eq(json_integer_value(json_object_get(o, "step")), step);
        cr_assert_eq(json_real_value(json_object_get(o, "train/\"x\"")), 0.1);
        cr_assert(json_is_null(json_object_get(o, "bad")));
        cr_assert(strstr(line, "time/step") > strstr(line, "bad"));
        json_decref(o);
    }
    cr_assert_null(fgets(line, sizeof line, f));
    fclose(f);

    /* a repeated evaluation replaces the first */
    td_metric e = { "evaluate/nll", 1, false };
    in.resume = 5;
    cr_assert_eq(l->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_assert_eq(l->write(state, 4, &e, 1, &error), 0);
    l->close(state);
    in.evaluate_again = true;
    cr_assert_eq(l->open(&config, &in, &state, &error), 0, "%s", error.text);
    cr_assert_eq(l->write(state, 4, &e, 1, &error), 0);
    l->close(state);
    /* tasks are repeated for themselves: the evaluation before them stays */
    td_metric task = { "tasks/sums/acc", 1, false };
    in.evaluate_again = false;
    for (int k = 0; k < 2; k++) {
        in.score_again = k;
        cr_assert_eq(l->open(&config, &in, &state, &error), 0, "%s", error.text);
        cr_assert_eq(l->write(state, 4, &task, 1, &error), 0);
        l->close(state);
    }
    f = fopen(path, "r");
    int lines = 0;
    while (fgets(line, sizeof line, f))
        lines++;
    cr_assert_eq(lines, 6);
    cr_assert(strstr(line, "\"step\": 4, \"tasks/sums/acc\""), "%s", line);
    fclose(f);
    snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}
