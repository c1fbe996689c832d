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
    td_log_progress(w->tool->log, done == all, "evaluating, %" PRId64 "/%" PRId64 " sequences",
                    done, all);
}

static void print_scores(const char *of, double nll, double bits_per_byte)
{
    printf("%-24s %10.4f %12.3f ", of, nll, exp(nll));
    if (bits_per_byte < 0)
        printf("%14s", "unknown");
    else
        printf("%14.4f", bits_per_byte);
}

static void print(const td_work *w, const td_evaluation *e)
{
    if (w->tool->json) {
        json_t *scores = td_work_scores(e);
        json_dumpf(scores, stdout, JSON_INDENT(2)), putchar('\n');
        json_decref(scores);
        return;
    }
    printf("%-24s %10s %12s %14s %10s\n", "source", "nll", "perplexity", "bits per byte",
           "sequences");
    for (int64_t i = 0; i < e->count; i++) {
        print_scores(e->at[i].source, e->at[i].nll, e->at[i].bits_per_byte);
        printf(" %10" PRId64 "\n", e->at[i].sequences);
    }
    print_scores("mean", e->nll, e->bits_per_byte);
    putchar('\n');
}

/* --weights, or the newest checkpoint of the config's run. */
static char *find_weights(const td_work *w, const char *weights, td_error *error)
{
    char *run = td_path_join(w->x->run.dir, w->x->run.name),
         *all = run ? td_path_join(run, "checkpoints") : NULL;
    char *latest = all && !weights ? td_checkpoint_latest(all) : NULL;
    char *path = weights  ? td_path_join("", weights)
                 : latest ? td_path_join(latest, "model.safetensors")
                          : NULL;
    if (path && latest && td_checkpoint_check(latest, error)) {
        free(path);
        path = NULL;
    } else if (!path)
        td_fail(error, TD_ECONFIG,
                "there is no checkpoint under '%s': train first, or say --weights FILE",
                all ? all : "");
    free(run), free(all), free(latest);
    return path;
}

static int evaluate(td_work *w, const char *weights, td_error *error)
{
    td_evaluate_spec spec;
    td_evaluation    e;
    char            *path = find_weights(w, weights, error);
    int              code = path ? td_work_data(w, error) : error->code;

    if (!code)
        code = td_work_engine(w, error);
    spec = td_work_evaluate(w);
    if (!code)
        code = td_evaluate_plan(w->engine, &spec, NULL, error);
    if (!code)
        code = td_engine_allocate(w->engine, (uint64_t)w->x->train.seed_init, error);
    if (!code)
        code = td_weights_load(path, td_engine_variables(w->engine), td_engine_device(w->engine),
                               error);
    if (!code)
        code = td_evaluate(w->engine, &spec, progress, w, &e, error);
    if (!code) {
        print(w, &e);
        td_evaluation_free(&e);
    }
    free(path);
    return code;
}

int td_command_evaluate(td_tool *t, int argc, char **argv)
{
    const char    *weights = NULL;
    const td_flag  flags[] = { { "--weights", "FILE",
                                 "parameters (safetensors); else the run's newest checkpoint",
                                 &weights, 0 },
                               { 0, 0, 0, 0, 0 } };
    const td_usage usage = { "evaluate",
                             "[--weights W.safetensors]",
                             "Held-out NLL per source: the first half of each sequence is given, "
                             "the second half scored, for every model.",
                             "tandem evaluate -c configs/quickstart/redllm.cfg run.name=first",
                             flags,
                             true,
                             .json = true };
    td_work        w;
    td_error       e = { 0 };
    int            code;

    if (!td_tool_parse(t, &usage, argc, argv, &code))
        return code;
    if (!td_work_open(&w, t, TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_TOKENIZER | TD_NEED_DATA,
                      &code))
        return code;
    w.x->optimizer.plugin = NULL;
    code = evaluate(&w, weights, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    td_work_close(&w);
    return code;
}
