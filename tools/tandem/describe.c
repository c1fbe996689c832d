/* describe.c - `tandem describe`: prints the parameters, FLOPs and memory of a config's model, its
 * graph or its masks. */
#include <string.h>

#include "work.h"

static json_t *json_of_flops(const td_flop_counts *f)
{
    return json_pack("{s:f, s:f, s:f}", "dense", f->dense, "visible", f->visible, "elementwise",
                     f->elementwise);
}

static json_t *json_of_memory(const td_footprint *m)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "parameters", (json_int_t)m->parameters,
                     "gradients", (json_int_t)m->gradients, "optimizer", (json_int_t)m->states,
                     "activations", (json_int_t)m->activations, "inputs", (json_int_t)m->inputs);
}

static json_t *json_of_parameters(const td_description *d)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "total", (json_int_t)d->parameters,
                     "embedding", (json_int_t)d->embedding, "attention", (json_int_t)d->attention,
                     "ffn", (json_int_t)d->ffn, "norm", (json_int_t)d->norm, "other",
                     (json_int_t)d->other);
}

static void print_json(const td_description *d)
{
    json_t *flops = json_of_flops(&d->forward);
    json_object_set_new(flops, "paper", json_real(d->paper_flops));
    json_object_set_new(flops, "backward", json_of_flops(&d->backward));
    td_work_print_json(json_pack("{s:o, s:o, s:o, s:I, s:I}", "parameters", json_of_parameters(d),
                                 "flops", flops, "memory", json_of_memory(&d->memory), "length",
                                 (json_int_t)d->length, "predicted", (json_int_t)d->predicted),
                       JSON_INDENT(2));
}

/* Prints one of five things: JSON for programs, or text for people. */
static int describe(td_tool *t, td_session *s, const char *graph, const char *mask)
{
    bool                  precision = td_tool_option(t, "--precision") != NULL;
    const td_description *d = NULL;
    const char           *text = NULL;
    td_error              e = { 0 };
    /* checked before: at most one of these was asked for */
    if (t->json)
        d = td_session_describe(s, &e);
    else if (precision)
        text = td_session_precision(s, &e);
    else if (mask)
        text = td_session_mask(s, mask, &e);
    else if (graph)
        text = td_session_graph(s, !strcmp(graph, "dot"), &e);
    else
        text = td_session_describe_text(s, &e);
    if (!d && !text)
        return td_tool_fail(t, &e);
    if (d)
        print_json(d);
    else
        fputs(text, stdout);
    return TD_EXIT_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static const td_flag flags[] = {
    { "--graph", "text|dot", "print the graph of a training step on one sequence" },
    { "--mask", "PATH",
      "print the mask of the attention at a path of the graph, with a # for each visible pair" },
    { "--processes", "N", "memory of each of N processes that train together (mpirun)" },
    { "--precision", NULL, "print which ops compute in bf16 and which in f32, and the casts" },
    { 0, 0, 0 },
};

const td_usage td_usage_describe = {
    .name = "describe",
    .arguments = "[RUN] [--json] [--processes N] [--graph text|dot] [--mask PATH] [--precision]",
    .brief = "Print parameters, FLOPs per sequence of train.length, and memory, without "
             "allocating the model.",
    .example = "tandem describe -c paper/redllm-8b.cfg --json",
    .flags = flags,
    .config = true,
    .optional = true,
    .run = true,
    .folders = 1,
    .json = true,
    .plain = 1,
    .notes = "--graph dot of a whole model is more than `dot` can lay out in reasonable time: use "
             "model.layers=1, or\n"
             "model.encoder_layers=1 model.decoder_layers=1.\n",
};

int td_command_describe(td_tool *t, int argc, char **argv)
{
    const char  *graph, *mask;
    td_run_place place;
    td_session  *s = NULL;
    td_error     e = { 0 };
    int64_t      processes;
    int          code;

    if (!td_tool_parse(t, &td_usage_describe, argc, argv, &code))
        return code;
    graph = td_tool_option(t, "--graph");
    mask = td_tool_option(t, "--mask");
    if (graph && strcmp(graph, "text") && strcmp(graph, "dot"))
        return td_tool_usage_error(t, "--graph takes text or dot, not '%s'", graph);
    /* no option may be silently ignored */
    if ((graph != NULL) + (mask != NULL) + t->json + (td_tool_option(t, "--precision") != NULL) > 1)
        return td_tool_usage_error(t, "use only one of --graph, --mask, --precision and --json");
    if (mask && !*mask)
        return td_tool_usage_error(t, "--mask is empty: it takes the path of an attention");
    if (!td_tool_integer(t, "--processes", 0, 1, 1 << 20, &processes))
        return TD_EXIT_USAGE;
    if (processes && (graph || mask || td_tool_option(t, "--precision")))
        return td_tool_usage_error(t, "--processes is for the memory, which --graph, --mask and "
                                      "--precision do not show");
    td_work_take_run(t, &place);
    if (td_work_has_model(t, &place, &code))
        s = td_work_open_run(t, &place, TD_NEED_MODEL | TD_NEED_LOSS, &code);
    if (s && processes && td_session_imagine(s, processes, &e))
        code = td_tool_fail(t, &e);
    else if (s)
        code = describe(t, s, graph, mask);
    td_session_close(s);
    td_run_place_free(&place);
    return code;
}
