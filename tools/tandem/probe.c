/* probe.c - `tandem probe`: runs one batch through a model, to compare with another framework. */
#include "run/probe.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "work.h"

/* Nine digits tell any two floats apart. */
static void print_losses(const td_tool *t, const td_probe *p)
{
    if (t->json)
        td_work_print_json(json_pack("{s:o, s:o}", "loss", td_tool_number(p->loss), "cross_entropy",
                                     td_tool_number(p->cross_entropy)),
                           JSON_REAL_PRECISION(9));
    else
        printf("loss %.9g\ncross-entropy %.9g\n", p->loss, p->cross_entropy);
}

static json_t *json_of_step(const td_probe *p)
{
    return json_pack("{s:o, s:o, s:o, s:f}", "loss", td_tool_number(p->loss), "cross_entropy",
                     td_tool_number(p->cross_entropy), "grad_norm", td_tool_number(p->norm), "lr",
                     p->rate);
}

static int run_once(td_tool *t, td_probe *p, td_error *error)
{
    const char *out = td_tool_option(t, "--out");
    int         code = td_probe_run(p, error);
    if (code)
        return code;
    print_losses(t, p);
    return out ? td_probe_write(p, out, error) : 0;
}

static int run_steps(td_tool *t, td_probe *p, int64_t steps, td_error *error)
{
    json_t *list = json_array(), *root = json_pack("{s:o}", "steps", list);
    int     code = 0;

    /* text is printed after each step; JSON is one document at the end, or none after a failure */
    for (int64_t k = 0; k < steps && !code; k++) {
        code = td_probe_step(p, k, error);
        if (code)
            break;
        json_array_append_new(list, json_of_step(p));
        if (!t->json)
            printf("step %lld  loss %.7g  cross-entropy %.7g  norm %.6g  lr %.6g\n",
                   (long long)k + 1, p->loss, p->cross_entropy, p->norm, p->rate);
    }
    if (!code && t->json)
        td_work_print_json(root, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    else
        json_decref(root);
    return code;
}

/* `steps` 0: computes loss, logits and gradients; otherwise makes that number of updates. */
static int probe(td_tool *t, td_session *s, const td_run_place *place, int64_t steps)
{
    td_probe p = { 0 };
    td_error e = { 0 };
    bool     trained = place->run || td_tool_option(t, "--weights");
    char    *weights = trained ? td_work_weights(t, place, s, TD_STEP_NEWEST, &e) : NULL;
    int      code = trained && !weights ? td_failed(&e, TD_EIO) : 0;
    if (!code)
        code = td_probe_open(&p, s, td_tool_option(t, "--batch"), weights, steps > 0, &e);
    if (!code)
        code = steps ? run_steps(t, &p, steps, &e) : run_once(t, &p, &e);
    td_probe_close(&p);
    free(weights);
    return code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return a && b && !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* False after a message: the exit code is TD_EXIT_USAGE. */
static bool check_files(td_tool *t)
{
    const char *out = td_tool_option(t, "--out"), *batch = td_tool_option(t, "--batch");
    if (!batch) {
        td_tool_usage_error(t, "--batch FILE is missing");
        return false;
    }
    if (same_file(out, batch) || same_file(out, td_tool_option(t, "--weights"))) {
        td_tool_usage_error(t, "--out '%s' would overwrite an input file", out);
        return false;
    }
    return true;
}

static bool parse_steps(td_tool *t, int64_t *out)
{
    const char *steps = td_tool_option(t, "--optimizer-steps");
    char       *end = NULL;
    *out = steps ? strtol(steps, &end, 10) : 0;
    if (steps && td_tool_option(t, "--out")) {
        td_tool_usage_error(
            t, "--out writes the results of one batch: it cannot be used with --optimizer-steps");
        return false;
    }
    /* strtol returns its largest number for what does not fit */
    if (steps && (*end || *out < 1 || *out > 1000000)) {
        td_tool_usage_error(t, "--optimizer-steps takes a number in 1 .. 1000000, not '%s'", steps);
        return false;
    }
    return true;
}

static const td_flag flags[] = {
    { "--weights", "PATH",
      "parameters: a safetensors file, a checkpoint or a run's directory; by default RUN's, or "
      "initial values" },
    { "--allow", "KEY ..", "a key that may differ from the parameters' model: model.position.*" },
    { "--batch", "FILE",
      "the batch (safetensors): ids, lengths or segments, labels, loss_weights" },
    { "--out", "FILE", "write logits, loss, cross_entropy and grad.* here (safetensors)" },
    { "--optimizer-steps", "N", "make N updates on the batch, and print their losses" },
    { 0, 0, 0 },
};

const td_usage td_usage_probe = {
    .name = "probe",
    .arguments = "[RUN] --batch B.safetensors [--weights W.safetensors] [--allow KEY ..] [--out "
                 "O.safetensors]",
    .brief =
        "Run one batch through a model, to compare its logits, loss and gradients with another "
        "framework.",
    .example = "tandem probe -c model.cfg --weights w.safetensors --batch b.safetensors --out "
               "o.safetensors",
    .flags = flags,
    .config = true,
    .optional = true,
    .run = true,
    .folders = 1,
    .json = true,
    .plain = 1,
};

int td_command_probe(td_tool *t, int argc, char **argv)
{
    td_run_place place;
    td_session  *s = NULL;
    int64_t      steps;
    int          code;

    if (!td_tool_parse(t, &td_usage_probe, argc, argv, &code))
        return code;
    if (!check_files(t) || !parse_steps(t, &steps))
        return TD_EXIT_USAGE;
    /* the groups `model` and `loss` suffice, unless updates are made */
    td_work_take_run(t, &place);
    if (td_work_has_model(t, &place, &code))
        s = td_work_open_run(t, &place,
                             TD_NEED_MODEL | TD_NEED_LOSS |
                                 (steps ? TD_NEED_OPTIMIZER | TD_NEED_SCHEDULE : 0u),
                             &code);
    if (s)
        code = probe(t, s, &place, steps);
    td_session_close(s);
    td_run_place_free(&place);
    return code;
}
