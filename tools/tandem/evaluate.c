/* evaluate.c - `tandem evaluate`: held-out NLL of a checkpoint by the fair protocol, as a table. */
#include <inttypes.h>
#include <math.h>

#include "work.h"

static int show_progress(void *arg, int64_t done, int64_t all)
{
    const td_tool *t = arg;
    td_log_progress(t->log, done == all, "evaluating, %" PRId64 "/%" PRId64 " sequences", done,
                    all);
    return 0;
}

/* The columns of one row. */
static void print_numbers(const char *of, double nll, double bits_per_byte)
{
    printf("%-24s %10.4f %12.3f ", of, nll, exp(nll));
    if (bits_per_byte < 0)
        printf("%14s", "unknown");
    else
        printf("%14.4f", bits_per_byte);
}

static void print_table(const td_evaluation *e)
{
    printf("%-24s %10s %12s %14s %10s\n", "source", "nll", "perplexity", "bits per byte",
           "sequences");
    for (int64_t i = 0; i < e->count; i++) {
        if (e->at[i].targets)
            print_numbers(e->at[i].source, e->at[i].nll, e->at[i].bits_per_byte);
        else /* no held-out text */
            printf("%-24s %10s %12s %14s", e->at[i].source, "-", "-", "-");
        printf(" %10" PRId64 "\n", e->at[i].sequences);
    }
    print_numbers("mean", e->nll, e->bits_per_byte);
    putchar('\n');
}

/* The file is named in both: whoever reads the numbers must know what they are of. */
static void print(const td_tool *t, const td_evaluation *e, const char *weights)
{
    if (t->json) {
        json_t *scores = td_work_scores(e);
        json_object_set_new(scores, "weights", json_string(weights));
        td_work_print_json(scores, JSON_INDENT(2));
        return;
    }
    print_table(e);
    printf("\nof '%s'\n", weights);
}

static int evaluate(td_tool *t, td_session *s)
{
    const td_evaluation *result = NULL;
    td_error             e = { 0 };
    int                  code = td_session_load(s, td_tool_option(t, "--weights"), &e);
    if (!code)
        code = td_session_evaluate(s, show_progress, t, &result, &e);
    /* NaN is a result, too */
    if (result)
        print(t, result, td_session_loaded(s));
    return code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

static const td_flag flags[] = {
    { "--weights", "FILE", "parameters (safetensors); by default the run's newest checkpoint" },
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
    td_session *s;
    int         code;

    if (!td_tool_parse(t, &td_usage_evaluate, argc, argv, &code))
        return code;
    s = td_work_open(t, TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_TOKENIZER | TD_NEED_DATA, &code);
    if (!s)
        return code;
    code = evaluate(t, s);
    td_session_close(s);
    return code;
}
