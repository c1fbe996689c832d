/* golden.c - the tandem command against models that an independent implementation computed in
 * double precision.
 *
 * Each folder beside this file is a case. $TANDEM_GOLDEN names another directory of cases,
 * $TANDEM_GOLDEN_BACKEND the only backend to run them on. */
#include <math.h>

#include "golden/case.h"
#include "golden/safetensors.h"

static const struct run runs[] = {
    { "cpu", 1 }, { "cpu", 2 }, { "reference", 1 }, { "reference", 2 }
};
enum { RUNS = sizeof runs / sizeof *runs };

/* ---- one run and its comparison -------------------------------------------------------------- */

/* Run probe with `more` arguments; if it fails, report what it printed and return false. */
static bool probe(const struct golden *c, const struct run *r, const char *optimizer,
                  const char *more)
{
    char config[PATH + 16], command[8 * PATH], said[TEXT] = "", log[PATH + 16];
    write_config(c, r, optimizer, config);
    snprintf(log, sizeof log, "%s/log", c->scratch);
    snprintf(command, sizeof command,
             "'%s' probe -c '%s' --weights '%s/weights.safetensors' --batch '%s/batch.safetensors' "
             "--plugin-path '%s' %s 2> '%s'",
             TANDEM_BINARY, config, c->directory, c->directory, TANDEM_PLUGINS, more, log);
    int   status = system(command);
    FILE *f = status ? fopen(log, "r") : NULL;
    if (f) {
        said[fread(said, 1, sizeof said - 1, f)] = 0;
        fclose(f);
    }
    cr_expect(status == 0, "%s on %s, %d threads: probe failed (%d): %s", c->name, r->backend,
              r->threads, status, said);
    return status == 0;
}

/* The logits that count: those of real tokens. */
static bool *real_tokens(const struct golden *c, size_t *count)
{
    char           path[PATH + 32];
    struct tensors batch;
    snprintf(path, sizeof path, "%s/batch.safetensors", c->directory);
    cr_assert(tensors_open(&batch, path), "cannot read %s", path);
    struct values w = tensors_get(&batch, "loss_weights"), n = tensors_get(&batch, "lengths");
    bool         *real = malloc(w.count + 1);
    for (size_t i = 0; i < w.count; i++)
        real[i] = w.at[i] != 0 ||
                  (n.at && (double)(i % (size_t)w.dim[1]) < n.at[i / (size_t)w.dim[1]]);
    *count = w.count;
    free(w.at);
    free(n.at);
    tensors_close(&batch);
    return real;
}

/* Largest difference over the tensor's largest entry; infinite if the tensor is missing or has
 * another size. */
static double distance(struct values want, struct values got, const bool *real, size_t tokens)
{
    double most = 0, far = 0;
    if (!want.at || !got.at || want.count != got.count)
        return INFINITY;
    for (size_t i = 0; i < want.count; i++) {
        if (real && !real[i / (want.count / tokens)])
            continue;
        most = fmax(most, fabs(want.at[i]));
        if (!(fabs(want.at[i] - got.at[i]) <= far))
            far = isnan(got.at[i]) ? INFINITY : fabs(want.at[i] - got.at[i]);
    }
    return most > 0 ? far / most : far;
}

static void compare_outputs(const struct golden *c, const struct run *r, const struct tensors *want,
                            const struct tensors *got)
{
    size_t      tokens, compared = 0;
    bool       *real = real_tokens(c, &tokens);
    const char *name;
    json_t     *entry;
    json_object_foreach(want->header, name, entry)
    {
        if (!strcmp(name, "__metadata__"))
            continue;
        struct values a = tensors_get(want, name), b = tensors_get(got, name);
        double        limit = strncmp(name, "grad.", 5) ? 5e-6 : 2e-5;
        double        d = distance(a, b, strcmp(name, "logits") ? NULL : real, tokens);
        cr_expect(d <= limit, "%s on %s, %d threads: %s is off by %.2e (limit %.0e)", c->name,
                  r->backend, r->threads, name, d, limit);
        free(a.at);
        free(b.at);
        compared++;
    }
    cr_expect(compared > 3, "%s: only %zu tensors to compare", c->name, compared);
    free(real);
}

static void check_outputs(const struct golden *c, const struct run *r)
{
    char           path[PATH + 32], out[PATH + 32], more[PATH + 64];
    struct tensors want, got;
    snprintf(path, sizeof path, "%s/expect.safetensors", c->directory);
    if (!tensors_open(&want, path))
        return; /* a case for optimizer steps only */
    snprintf(out, sizeof out, "%s/out.safetensors", c->scratch);
    snprintf(more, sizeof more, "--out '%s' > /dev/null", out);
    if (probe(c, r, NULL, more)) {
        bool there = tensors_open(&got, out);
        cr_expect(there, "%s: probe wrote no %s", c->name, out);
        if (there)
            compare_outputs(c, r, &want, &got);
        tensors_close(&got);
    }
    unlink(out);
    tensors_close(&want);
}

static void compare_steps(const struct golden *c, const struct run *r, const char *optimizer,
                          json_t *want, json_t *got)
{
    static const char *const keys[] = { "loss", "cross_entropy", "grad_norm", "lr" };
    cr_expect(json_array_size(got) == json_array_size(want), "%s: %s: %zu steps, not %zu", c->name,
              optimizer, json_array_size(got), json_array_size(want));
    for (size_t s = 0; s < json_array_size(want); s++)
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            json_t *found = json_object_get(json_array_get(got, s), keys[k]);
            double  a = json_number_value(json_object_get(json_array_get(want, s), keys[k])),
                   b = json_number_value(found);
            cr_expect(json_is_number(found) && fabs(a - b) <= 1e-4 * fabs(a),
                      "%s on %s, %d threads: %s, step %zu: %s is %.9g, "
                      "not %.9g",
                      c->name, r->backend, r->threads, optimizer, s, keys[k], b, a);
        }
}

static void check_training(const struct golden *c, const struct run *r)
{
    char        path[PATH + 32], out[PATH + 32], more[PATH + 128];
    json_t     *steps;
    const char *optimizer;
    snprintf(path, sizeof path, "%s/train.json", c->directory);
    snprintf(out, sizeof out, "%s/steps.json", c->scratch);
    json_t *train = json_load_file(path, 0, NULL);
    cr_assert(train, "cannot read %s", path);
    json_object_foreach(train, optimizer, steps)
    {
        snprintf(more, sizeof more, "--optimizer-steps %zu --json > '%s'", json_array_size(steps),
                 out);
        if (!probe(c, r, optimizer, more))
            continue;
        json_t *got = json_load_file(out, 0, NULL);
        compare_steps(c, r, optimizer, steps, json_object_get(got, "steps"));
        json_decref(got);
    }
    unlink(out);
    json_decref(train);
}

/* ---- generation ------------------------------------------------------------------------------ */

static const char *const ways[] = { "--batch 1", "--batch 2", "--batch 8", "--no-cache" };

/* The ids of a list as text, "51 3". */
static void ids_of(const json_t *list, char out[TEXT])
{
    size_t  k, n = 0;
    json_t *id;
    json_array_foreach(list, k, id)
        n += (size_t)snprintf(out + n, TEXT - n, "%s%" JSON_INTEGER_FORMAT, k ? " " : "",
                              json_integer_value(id));
}

/* Run all prompts of a case in one command; the answers are written to `path`, one JSON object
 * per line. */
static void generate(const struct golden *c, const struct run *r, const char *way,
                     const json_t *prompts, const char *path)
{
    char    config[PATH + 16], command[16 * PATH], ids[TEXT];
    size_t  k, n;
    json_t *prompt;
    write_config(c, r, NULL, config);
    n = (size_t)snprintf(command, sizeof command,
                         "'%s' generate -c '%s' --weights '%s/weights.safetensors' --plugin-path "
                         "'%s' --max-new-tokens 8 --json --quiet %s > '%s'",
                         TANDEM_BINARY, config, c->directory, TANDEM_PLUGINS, way, path);
    json_array_foreach(prompts, k, prompt)
    {
        ids_of(json_object_get(prompt, "prompt"), ids);
        n += (size_t)snprintf(command + n, sizeof command - n, " --ids '%s'", ids);
    }
    cr_assert(n < sizeof command);
    cr_expect_eq(system(command), 0, "%s on %s: %s", c->name, r->backend, command);
}

static void compare_answers(const struct golden *c, const struct run *r, const char *way,
                            const json_t *prompts, const char *path)
{
    FILE   *f = fopen(path, "r");
    size_t  k;
    json_t *prompt;
    json_array_foreach(prompts, k, prompt)
    {
        char    have[TEXT] = "", want[TEXT] = "";
        json_t *answer = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL);
        ids_of(json_object_get(prompt, "tokens"), want);
        ids_of(json_object_get(answer, "ids"), have);
        cr_expect_str_eq(have, want,
                         "%s on %s, %d threads, %s: prompt %zu is continued by '%s', "
                         "not '%s'",
                         c->name, r->backend, r->threads, way, k + 1, have, want);
        json_decref(answer);
    }
    fclose(f);
}

static void check_generation(const struct golden *c, const struct run *r)
{
    char    path[PATH + 32], out[PATH + 32];
    json_t *prompts;
    snprintf(path, sizeof path, "%s/generate.json", c->directory);
    snprintf(out, sizeof out, "%s/steps.json", c->scratch);
    prompts = json_load_file(path, 0, NULL);
    cr_assert(prompts, "cannot read %s", path);
    for (size_t k = 0; k < sizeof ways / sizeof *ways && json_array_size(prompts); k++) {
        generate(c, r, ways[k], prompts, out);
        compare_answers(c, r, ways[k], prompts, out);
    }
    unlink(out);
    json_decref(prompts);
}

/* ---- all cases ------------------------------------------------------------------------------- */

/* On every backend of `runs`, or on the one that the environment names. */
static void for_each_run(void (*check)(const struct golden *, const struct run *))
{
    const char *only = getenv("TANDEM_GOLDEN_BACKEND");
    struct run  r = { only, 1 };
    for (int k = 0; k < (only ? 1 : RUNS); k++)
        cr_assert(for_each_case(only ? &r : &runs[k], check) >= 11, "cases are missing in %s",
                  cases_directory());
}

Test(golden, outputs_and_gradients) { for_each_run(check_outputs); }
Test(golden, training) { for_each_run(check_training); }
Test(golden, generation) { for_each_run(check_generation); }
