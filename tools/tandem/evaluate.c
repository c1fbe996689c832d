/* evaluate.c - `tandem evaluate`: held-out NLL of a checkpoint by the fair protocol. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run_directory.h"
#include "weights.h"

static int progress(void *arg, int64_t done, int64_t all)
{
    td_work *w = arg;
    td_log_progress(w->tool->log, done == all, "evaluating, %" PRId64 "/%" PRId64 " sequences",
                    done, all);
    return 0;
}

static void print_scores(const char *of, double nll, double bits_per_byte)
{
    printf("%-24s %10.4f %12.3f ", of, nll, exp(nll));
    if (bits_per_byte < 0)
        printf("%14s", "unknown");
    else
        printf("%14.4f", bits_per_byte);
}

static void print(const td_work *w, const td_evaluation *e, const char *weights)
{
    if (w->tool->json) {
        json_t *scores = td_work_scores(e);
        json_object_set_new(scores, "weights", json_string(weights));
        json_dumpf(scores, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(scores);
        return;
    }
    printf("%-24s %10s %12s %14s %10s\n", "source", "nll", "perplexity", "bits per byte",
           "sequences");
    for (int64_t i = 0; i < e->count; i++) {
        if (e->at[i].targets)
            print_scores(e->at[i].source, e->at[i].nll, e->at[i].bits_per_byte);
        else
            printf("%-24s %10s %12s %14s", e->at[i].source, "-", "-", "-");
        printf(" %10" PRId64 "\n", e->at[i].sequences);
    }
    print_scores("mean", e->nll, e->bits_per_byte);
    printf("\n\nof '%s'\n", weights);
}

/* --weights, or the newest checkpoint of the config's run; free() it. */
static char *find_weights(const td_work *w, const char *weights, td_error *error)
{
    char *latest = NULL, *path = NULL;
    if (weights)
        path = strdup(weights);
    else if (td_run_latest(w, &latest, error))
        return NULL;
    else if (!latest)
        td_fail(error, TD_ECONFIG,
                "there is no checkpoint under '%s/%s/checkpoints': train first, or say --weights "
                "FILE",
                w->x->run.dir, w->x->run.name);
    else if (!td_checkpoint_check(latest, error))
        path = td_path_join(latest, "model.safetensors");
    free(latest);
    if (!path)
        td_fail(error, TD_ENOMEM, "out of memory while looking for weights");
    return path;
}

static int evaluate(td_work *w, const char *weights, td_error *error)
{
    td_evaluate_spec spec;
    td_evaluation    e;
    int              code = td_work_data(w, error);

    if (!code)
        code = td_work_check_weights(w, weights, error);
    td_work_tell_idle_allows(w);
    if (!code)
        code = td_work_engine(w, error);
    spec = td_work_evaluate(w);
    if (!code)
        code = td_evaluate_plan(w->engine, &spec, NULL, error);
    if (!code)
        code = td_engine_allocate(w->engine, (uint64_t)w->x->train.seed_init, error);
    if (!code)
        code = td_weights_load(weights, td_engine_variables(w->engine), td_engine_device(w->engine),
                               error);
    if (!code)
        code = td_evaluate(w->engine, &spec, progress, w, &e, error);
    if (!code) {
        print(w, &e, weights);
        if (!isfinite(e.nll))
            code = td_fail(error, TD_EDIVERGED,
                           "the held-out NLL is %g: '%s' holds numbers that are none", e.nll,
                           weights);
        td_evaluation_free(&e);
    }
    return code;
}

static const td_flag flags[] = {
    { "--weights", "FILE", "parameters (safetensors); else the run's newest checkpoint" },
    { "--allow", "KEY ..", "a key in which the parameters' model may differ: model.position.*" },
    { 0, 0, 0 },
};

const td_usage td_usage_evaluate = {
    .name = "evaluate",
    .arguments = "[--weights W.safetensors] [--allow KEY ..]",
    .brief = "Held-out NLL per source: the first half of each sequence is given, the second half "
             "scored, for every model.",
    .example = "tandem evaluate -c quickstart/redllm.cfg run.name=first",
    .flags = flags,
    .config = true,
    .json = true,
};

int td_command_evaluate(td_tool *t, int argc, char **argv)
{
    td_work  w;
    td_error e = { 0 };
    char    *path;
    int      code;

    if (!td_tool_parse(t, &td_usage_evaluate, argc, argv, &code))
        return code;
    if (!td_work_open(&w, t, TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_TOKENIZER | TD_NEED_DATA,
                      &code))
        return code;
    w.x->optimizer.plugin = NULL;
    path = find_weights(&w, td_tool_option(t, "--weights"), &e);
    code = !path || evaluate(&w, path, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    free(path);
    td_work_close(&w);
    return code;
}
