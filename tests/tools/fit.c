/* fit.c - `tandem fit` on tables and on runs that the test itself writes. */
#include <math.h>
#include <stdarg.h>

#include "io/safetensors.h"
#include "tools/scratch.h"

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-fit-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(fit_command, .init = setup, .fini = teardown);

/* `tandem fit ARGUMENTS` in the scratch directory. */
static child fit(const char *arguments)
{
    char command[1000];
    snprintf(command, sizeof command, "cd %s && %s fit %s", directory, TANDEM_BINARY, arguments);
    return child_run((const char *[]){ "sh", "-c", command, NULL });
}

static json_t *fit_json(const char *arguments)
{
    child   c = fit(arguments);
    json_t *j;
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    child_free(&c);
    return j;
}

static const json_t *fit_at(const json_t *j, size_t k)
{
    return json_array_get(json_object_get(j, "fits"), k);
}

static double number(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

static void expect_error(const char *arguments, int code, const char *message)
{
    child c = fit(arguments);
    cr_expect_eq(c.code, code, "%s: %d", arguments, c.code);
    cr_expect(strstr(c.err, message), "'%s' does not say '%s'", c.err, message);
    child_free(&c);
}

/* ---- tables ---------------------------------------------------------------------------------- */

Test(fit_command, the_papers_points)
{
    json_t       *j = fit_json(TANDEM_SOURCE
                               "/data/scaling/paper.csv --x flops --y nll --by model --json");
    const json_t *red = fit_at(j, 0), *dec = fit_at(j, 1), *alpha;
    cr_assert_eq(json_array_size(json_object_get(j, "fits")), 2);
    cr_expect_str_eq(json_string_value(json_object_get(red, "group")), "RedLLM");
    cr_expect_str_eq(json_string_value(json_object_get(dec, "group")), "DecLLM");
    cr_expect_float_eq(number(red, "alpha"), 0.237, 0.003);
    cr_expect_float_eq(number(dec, "alpha"), 0.201, 0.003);
    cr_expect_float_eq(number(json_object_get(red, "huber"), "alpha"), 0.237, 0.001);
    cr_expect_float_eq(number(red, "a"), 11.47, 0.1);
    cr_expect_float_eq(number(red, "e"), 0, 0.01);
    cr_expect_eq(number(red, "points"), 5);
    alpha = json_object_get(json_object_get(red, "intervals"), "alpha");
    cr_expect(json_number_value(json_array_get(alpha, 0)) < 0.237 &&
              json_number_value(json_array_get(alpha, 1)) > 0.237);
    cr_expect(json_array_size(json_object_get(red, "warnings")) > 0);
    json_decref(j);
}

Test(fit_command, words)
{
    child c = fit(TANDEM_SOURCE "/data/scaling/paper.csv --by model");
    cr_assert_eq(c.code, 0, "%s", c.err);
    cr_expect(strstr(c.out, "RedLLM: ten times the parameters leaves 67.2 % (") &&
                  strstr(c.out, "of the nll above its floor; the floor of nll is 0.8095 (") &&
                  strstr(c.out, "warning: DecLLM: 5 points leave 2 degrees of freedom"),
              "%s", c.out);
    child_free(&c);
}

/* L = 1.7 + 400 / N^.34 + 410 / D^.28 on a grid, with FLOPs 5 N D. */
static void put_grid(void)
{
    put("grid.csv", "parameters,tokens,flops,nll\n");
    for (int k = 0; k < 16; k++) {
        double n = 1e7 * pow(8, k / 4), d = 1e9 * pow(8, k % 4);
        put("grid.csv", "%.17g,%.17g,%.17g,%.17g\n", n, d, 5 * n * d,
            1.7 + 400 / pow(n, 0.34) + 410 / pow(d, 0.28));
    }
}

Test(fit_command, joint)
{
    json_t       *j;
    const json_t *f, *o;
    put_grid();
    j = fit_json("grid.csv --form joint --flops flops --json");
    f = fit_at(j, 0);
    o = json_object_get(f, "optimum");
    cr_expect_float_eq(number(f, "alpha"), 0.34, 1e-6);
    cr_expect_float_eq(number(f, "beta"), 0.28, 1e-6);
    cr_expect_float_eq(number(f, "floor"), 1.7, 1e-6);
    cr_expect_float_eq(number(f, "a"), log(400), 1e-6);
    cr_expect_float_eq(number(f, "b"), log(410), 1e-6);
    cr_expect_float_eq(number(o, "flops_per_parameter_token"), 5, 1e-9);
    cr_expect_float_eq(number(json_object_get(o, "parameters"), "power"), 0.28 / 0.62, 1e-6);
    json_decref(j);
}

Test(fit_command, frontier_and_profiles)
{
    json_t *j;
    put_grid();
    j = fit_json("grid.csv --form frontier --x flops --json");
    cr_expect(json_array_size(json_object_get(j, "frontier")) > 3);
    json_decref(j);
    put("budgets.csv", "parameters,flops,nll\n");
    for (int b = 0; b < 3; b++)
        for (int k = -2; k <= 2; k++)
            put("budgets.csv", "%.17g,%.17g,%.17g\n", 1e8 * pow(3, b) * pow(2, k), 1e18 * pow(9, b),
                2.5 - 0.2 * b + 0.02 * k * k);
    j = fit_json("budgets.csv --form isoflop --json");
    cr_expect_float_eq(number(fit_at(j, 0), "power"), 0.5, 1e-6);
    json_decref(j);
}

Test(fit_command, picture)
{
    child c = fit(TANDEM_SOURCE
                  "/data/scaling/paper.csv --by model --draws 0 --plot here/loss.svg");
    char  path[100];
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
    snprintf(path, sizeof path, "%s/here/loss.svg", directory);
    char *svg = td_file_read(path, NULL, NULL);
    cr_assert(svg);
    cr_expect(strstr(svg, "RedLLM") && strstr(svg, "DecLLM"));
    free(svg);
    snprintf(path, sizeof path, "%s/here/loss.csv", directory);
    cr_expect(td_file_exists(path));
}

/* Names of groups are data, not commands of gnuplot. */
Test(fit_command, odd_names_in_a_picture)
{
    child c;
    put("odd.csv", "m,x,nll\n");
    for (int k = 1; k < 6; k++)
        put("odd.csv", "\"it's '`id`', %%d \"\"x\"\"\n\",%d,%g\n", 10 * k * k, 1 + 1. / k);
    for (int k = 0; k < 4; k++) {
        static const char *const forms[] = { "power", "frontier", "power", "frontier" };
        char                     arguments[100];
        snprintf(arguments, sizeof arguments, "odd.csv --x x --by m --draws 0 --form %s --plot p%d",
                 forms[k], k);
        c = fit(arguments);
        cr_expect_eq(c.code, 0, "%s", c.err);
        child_free(&c);
    }
}

Test(fit_command, refusals)
{
    put("p.csv", "parameters,nll,name\n1e6,3,a\n1e7,2.5,a\n1e8,,b\n1e9,2,b\n1e10,1.9,b\n");
    put("three.csv", "parameters,nll,name\n1e6,3,a\n1e7,2.5,a\n1e8,2.2,a\n");
    expect_error("p.csv", 1, "p.csv:4: column 'nll' is '': there must be a number");
    expect_error("p.csv --x paramters", 2, "no column 'paramters'; did you mean 'parameters'?");
    expect_error("p.csv --by group", 2, "p.csv has no column 'group'");
    expect_error("three.csv --by name", 2,
                 "group 'a': there are 3 points, but a curve of 3 parameters takes at least 4");
    expect_error("three.csv --form straight", 2, "it must be power, joint, isoflop or frontier");
    expect_error("missing.csv", 1, "missing.csv");
    expect_error("three.csv p.csv", 2, "'three.csv' is not a directory");
    expect_error("", 2, "name a CSV file, or runs");
    put("empty.csv", "parameters,nll\n");
    expect_error("empty.csv", 2, "has column names, but no rows");
}

Test(fit_command, standard_input)
{
    child c = fit("- --by model --draws 0 < " TANDEM_SOURCE "/data/scaling/paper.csv");
    cr_expect_eq(c.code, 0, "%s", c.err);
    cr_expect(strstr(c.out, "RedLLM"));
    child_free(&c);
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* A run of `plugin` with so many parameters, one seed of a size. */
static void put_run(const char *run, const char *plugin, int64_t size, int seed, double nll)
{
    char      name[200], path[300];
    float    *values = calloc((size_t)size, sizeof *values);
    td_stored tensor = {
        .name = "w", .type = TD_STORED_F32, .rank = 1, .dim = { size }, .data = values
    };
    snprintf(name, sizeof name, "%s/config.cfg", run);
    put(name,
        "model = { plugin = \"%s\"; d_model = %ld; };\ntrain = { seed = %d; };\nrun = { name = "
        "\"%s\"; };\n",
        plugin, (long)size, seed, run);
    snprintf(name, sizeof name, "%s/checkpoints/step-00000300/state.json", run);
    put(name, "{\"step\": 300, \"tokens\": 12000, \"flops\": %g}\n", 72000. * (double)size);
    snprintf(path, sizeof path, "%s/%s/checkpoints/step-00000300/model.safetensors", directory,
             run);
    cr_assert_eq(td_safetensors_write(path, &tensor, 1, NULL, NULL), 0);
    free(values);
    snprintf(name, sizeof name, "%s/eval/heldout.json", run);
    put(name,
        "{\"kind\":\"heldout\",\"step\":300,\"nll\":%.17g,\"nll_error\":0.1,\"sources\":[]}\n",
        nll);
    snprintf(name, sizeof name, "%s/eval/heldout.jsonl", run);
    put(name,
        "{\"source\":\"a\",\"index\":0,\"targets\":8,\"nll\":%.17g,\"weight\":8,\"hash\":\"1\"}\n",
        nll);
}

/* Two families of five sizes, one of them with two seeds of each. */
Test(fit_command, runs)
{
    char          arguments[900] = "";
    json_t       *j;
    const json_t *red, *dec;
    for (int k = 0; k < 5; k++) {
        char    name[3][40];
        int64_t size = 1000 << k;
        snprintf(name[0], sizeof name[0], "red-%ld-s1", (long)size);
        snprintf(name[1], sizeof name[1], "red-%ld-s2", (long)size);
        snprintf(name[2], sizeof name[2], "dec-%ld", (long)size);
        put_run(name[0], "red", size, 1, 1.5 + 9 / pow((double)size, 0.4));
        put_run(name[1], "red", size, 2, 1.5 + 9 / pow((double)size, 0.4));
        put_run(name[2], "dec", size, 1, 1.1 + 7 / pow((double)size, 0.3));
        for (int i = 0; i < 3; i++) {
            strcat(arguments, name[i]);
            strcat(arguments, " ");
        }
    }
    strcat(arguments, "--draws 0 --json");
    j = fit_json(arguments);
    cr_assert_eq(json_array_size(json_object_get(j, "fits")), 2);
    red = fit_at(j, 0);
    dec = fit_at(j, 1);
    cr_expect_str_eq(json_string_value(json_object_get(red, "group")), "red");
    cr_expect_str_eq(json_string_value(json_object_get(dec, "group")), "dec");
    cr_expect_eq(number(red, "points"), 10);
    cr_expect_eq(number(dec, "points"), 5);
    cr_expect_float_eq(number(red, "alpha"), 0.4, 1e-6);
    cr_expect_float_eq(number(dec, "alpha"), 0.3, 1e-6);
    cr_expect_float_eq(number(dec, "floor"), 1.1, 1e-6);
    json_decref(j);
    put_run("red-new", "red", 3000, 1, 2);
    expect_error("red-new nowhere", 2, "'nowhere' is neither a run nor a checkpoint");
    put("blind/config.cfg", "model = { plugin = \"red\"; };\n");
    expect_error("red-new blind", 2, "'blind' has no results in eval");
    put("blind/eval/heldout.json", "{\"kind\":\"heldout\",\"step\":1,\"nll\":2,\"sources\":[]}\n");
    put("blind/eval/heldout.jsonl", "\n");
    expect_error("red-new blind", 2, "'blind' has no 'parameters'");
}
