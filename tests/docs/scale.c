/* scale.c - docs/scale.md shows the tables that its script makes, from figures of the models that
 * `tandem describe` gives. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define SCALE TANDEM_SOURCE "/docs/scale"

Test(scale, the_page_has_the_tables_of_the_script)
{
    td_error e = { 0 };
    char    *page = td_file_read(TANDEM_SOURCE "/docs/scale.md", NULL, &e), *line = NULL;
    FILE    *f = popen(SCALE "/predict", "r");
    size_t   room = 0;
    int      rows = 0;
    cr_assert(page && f, "%s", e.text);
    for (; getline(&line, &room, f) > 0; rows += *line == '|')
        cr_expect(strstr(page, line), "not in docs/scale.md: %s", line);
    cr_expect_eq(pclose(f), 0);
    cr_expect_eq(rows, 3 * (2 + 10));
    free(line);
    free(page);
}

/* The config of "DecLLM 150M" is paper/decllm-150m.cfg. */
static json_t *describe(const char *model)
{
    char    command[400], name[40];
    FILE   *f;
    json_t *j;
    snprintf(name, sizeof name, "%s", model);
    for (char *c = name; *c; c++)
        *c = *c == ' ' ? '-' : *c >= 'A' && *c <= 'Z' ? (char)(*c + 'a' - 'A') : *c;
    snprintf(command, sizeof command,
             TANDEM_BINARY " describe --json -c " TANDEM_SOURCE
                           "/configs/paper/%s.cfg train.micro_batch=1 evaluate.batch=1",
             name);
    f = popen(command, "r");
    cr_assert(f);
    j = json_loadf(f, 0, NULL);
    cr_assert(!pclose(f) && j, "%s", command);
    return j;
}

static double number(const json_t *j, const char *group, const char *key)
{
    return json_number_value(json_object_get(json_object_get(j, group), key));
}

Test(scale, the_models_are_those_of_the_configs)
{
    FILE  *f = fopen(SCALE "/models.csv", "r");
    char  *line = NULL;
    size_t room = 0;
    int    models = 0;
    cr_assert(f);
    cr_assert(getline(&line, &room, f) > 0); /* the names of columns */
    for (; getline(&line, &room, f) > 0; models++) {
        char    model[40];
        double  layers, parameters, flops, found;
        json_t *j, *backward;
        cr_assert_eq(sscanf(line, "%39[^,],%lf,%lf,%lf", model, &layers, &parameters, &flops), 4,
                     "%s", line);
        /* planning the large ones takes seconds */
        if (!strstr(model, "150M") && !strstr(model, "1B"))
            continue;
        j = describe(model);
        cr_expect_eq(number(j, "parameters", "total"), parameters, "%s", model);
        backward = json_object_get(json_object_get(j, "flops"), "backward");
        found = number(j, "flops", "visible") +
                json_number_value(json_object_get(backward, "visible"));
        found /= json_number_value(json_object_get(j, "length"));
        cr_expect(found > 0.999 * flops && found < 1.001 * flops, "%s: %g", model, found);
        json_decref(j);
    }
    cr_expect_eq(models, 10);
    free(line);
    fclose(f);
}
