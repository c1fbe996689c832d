/* evaluate.c - `tandem evaluate`: held-out NLL of a checkpoint by the fair protocol. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "work.h"

static void progress(void *arg, int64_t done, int64_t all)
{
    td_work *w = arg;
    td_log_progress(w->tool->log, done == all, "evaluating, %" PRId64 "/%" PRId64 " sequences", done, all);
}

static void print(const td_work *w, const td_evaluation *e)
{
    json_t *sources = json_array(), *root;
    for (int64_t i = 0; i < e->count; i++)
        json_array_append_new(sources, json_pack("{s:s, s:f, s:f, s:f, s:I, s:I}", "source", e->at[i].source, "nll", e->at[i].nll,
                                                 "perplexity", exp(e->at[i].nll), "bits_per_byte", e->at[i].bits_per_byte, "sequences",
                                                 (json_int_t)e->at[i].sequences, "targets", (json_int_t)e->at[i].targets));
    root = json_pack("{s:f, s:f, s:f, s:O}", "nll", e->nll, "perplexity", exp(e->nll), "bits_per_byte", e->bits_per_byte, "sources", sources);
    if (w->tool->json)
        json_dumpf(root, stdout, JSON_INDENT(2)), putchar('\n');
    else {
        printf("%-24s %10s %12s %14s %10s\n", "source", "nll", "perplexity", "bits per byte", "sequences");
        for (int64_t i = 0; i < e->count; i++)
            printf("%-24s %10.4f %12.3f %14.4f %10" PRId64 "\n", e->at[i].source, e->at[i].nll, exp(e->at[i].nll),
                   e->at[i].bits_per_byte, e->at[i].sequences);
        printf("%-24s %10.4f %12.3f %14.4f\n", "mean", e->nll, exp(e->nll), e->bits_per_byte);
    }
    json_decref(root), json_decref(sources);
}

/* --weights, or the newest checkpoint of the config's run. */
static char *find_weights(const td_work *w, const char *weights, td_error *error)
{
    char *run = td_path_join(w->x->run.dir, w->x->run.name), *all = run ? td_path_join(run, "checkpoints") : NULL;
    char *latest = all && !weights ? td_checkpoint_latest(all) : NULL;
    char *path = weights ? td_path_join("", weights) : latest ? td_path_join(latest, "model.safetensors") : NULL;
    if (path && latest && td_checkpoint_check(latest, error)) {
        free(path);
        path = NULL;
    } else if (!path)
        td_fail(error, TD_ECONFIG, "there is no checkpoint under '%s': train first, or say --weights FILE", all ? all : "");
    free(run), free(all), free(latest);
    return path;
}

static int evaluate(td_work *w, const char *weights, td_error *error)
{
    td_evaluate_spec spec;
    td_evaluation    e;
    td_batch        *shape = NULL;
    char            *path = find_weights(w, weights, error);
    int              code = path ? td_work_data(w, error) : error->code;

    if (!code)
        code = td_work_engine(w, error);
    if (!code && !(shape = td_work_shape(w, 1, error)))
        code = error->code;
    if (!code)
        code = td_engine_plan(w->engine, shape, NULL, error);
    if (!code)
        code = td_engine_allocate(w->engine, (uint64_t)w->x->train.seed_init, error);
    if (!code)
        code = td_weights_load(path, td_engine_variables(w->engine), td_engine_device(w->engine), error);
    spec = td_work_evaluate(w);
    if (!code)
        code = td_evaluate(w->engine, &spec, progress, w, &e, error);
    if (!code) {
        print(w, &e);
        td_evaluation_free(&e);
    }
    td_batch_free(shape);
    free(path);
    return code;
}

int td_command_evaluate(td_tool *t, int argc, char **argv)
{
    const char    *weights = NULL;
    const td_flag  flags[] = { { "--weights", "FILE", "parameters (safetensors); else the run's newest checkpoint", &weights, 0 },
                               { 0, 0, 0, 0, 0 } };
    const td_usage usage = { "evaluate", "[--weights W.safetensors]",
                             "Held-out NLL per source: the first half of each sequence is given, the second half scored, for every model.",
                             "tandem evaluate -c configs/quickstart/redllm.cfg run.name=first", flags, true, .json = true };
    td_work  w;
    td_error e = { 0 };
    int      code;

    if (!td_tool_parse(t, &usage, argc, argv, &code))
        return code;
    if (!td_work_open(&w, t, TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_TOKENIZER | TD_NEED_DATA, &code))
        return code;
    w.x->optimizer.plugin = NULL;
    code = evaluate(&w, weights, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    td_work_close(&w);
    return code;
}
