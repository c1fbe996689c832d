/* describe.c - `tandem describe`: parameters, FLOPs and memory of a config's model, before anything
 * is allocated. */
#include <jansson.h>
#include <string.h>

#include "graph/describe.h"
#include "work.h"

/* Groups of parameters: the first pattern that matches a name says. */
enum { EMBEDDING, ATTENTION, FFN, NORM, OTHER, GROUPS };
static const char *const group_names[GROUPS] = { "embedding", "attention", "ffn", "norm", "other" };
static const struct {
    const char *pattern;
    int         group;
} patterns[] = {
    { "*embed*", EMBEDDING },
    { "*lm_head*", EMBEDDING },
    { "*norm*", NORM },
    { "*attn*", ATTENTION },
    { "*attention*", ATTENTION },
    { "*mlp*", FFN },
    { "*ffn*", FFN },
    { "*", OTHER },
};

typedef struct facts {
    td_memory       memory;
    td_flops_phases flops; /* of one sequence */
    double          paper;
    int64_t         total, group[GROUPS];
    int64_t         length, predicted; /* tokens of it */
    bool            varies;            /* other sequences are split elsewhere */
} facts;

/* ---- counting -------------------------------------------------------------------------------- */

static void count_parameters(td_variables *v, facts *f)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        size_t             k = 0;
        if (x->kind != TD_VARIABLE_PARAM)
            continue;
        while (!td_match(patterns[k].pattern, x->name))
            k++;
        f->group[patterns[k].group] += x->count;
        f->total += x->count;
    }
}

/* Of one sequence without padding. */
static td_batch *sequence(const td_work *w, td_error *error)
{
    return td_work_random(w, 1, 1, error);
}

static int count_flops(td_work *w, facts *f, td_error *error)
{
    const td_architecture *a = (const void *)w->x->model.plugin;
    td_batch              *one = sequence(w, error);
    td_tensor *const      *roots;
    size_t                 n;
    td_graph              *g;
    int                    code = one ? td_engine_plan(w->engine, one, NULL, error) : error->code;
    if (!code) {
        g = td_engine_graph(w->engine, &roots, &n);
        td_graph_flops(g, roots, n, one, &f->flops);
        f->predicted = td_batch_targets(one);
        /* The paper counts an embedding lookup as a product with a one-hot matrix. */
        f->paper = f->flops.forward.matmul + td_graph_lookups(g, a->vocab_size(w->x->model.config));
        count_parameters(td_engine_variables(w->engine), f);
    }
    td_batch_free(one);
    return code;
}

static int collect(td_work *w, facts *f, td_error *error)
{
    const td_loss *l = (const void *)w->x->loss.plugin;
    td_bounds      bounds = l->bounds(w->x->loss.config, w->x->train.length);
    int            code = td_work_engine(w, error);
    f->length = w->x->train.length;
    f->varies = bounds.given + bounds.predicted > bounds.total;
    if (!code)
        code = count_flops(w, f, error);
    return code ? code : td_work_plan(w, &f->memory, error);
}

/* ---- printing -------------------------------------------------------------------------------- */

static json_t *json_of_flops(const td_flops *f)
{
    return json_pack("{s:f, s:f, s:f}", "dense", f->matmul, "visible", f->visible, "elementwise",
                     f->elementwise);
}

static json_t *json_of_memory(const td_memory *m)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "parameters", (json_int_t)m->parameters,
                     "gradients", (json_int_t)m->gradients, "optimizer", (json_int_t)m->states,
                     "activations", (json_int_t)m->activations, "inputs", (json_int_t)m->inputs);
}

static void print_json(const facts *f)
{
    json_t *parameters = json_pack("{s:I}", "total", (json_int_t)f->total),
           *flops = json_of_flops(&f->flops.forward), *all;
    for (int k = 0; k < GROUPS; k++)
        json_object_set_new(parameters, group_names[k], json_integer((json_int_t)f->group[k]));
    json_object_set_new(flops, "paper", json_real(f->paper));
    json_object_set_new(flops, "backward", json_of_flops(&f->flops.backward));
    all = json_pack("{s:o, s:o, s:o, s:I, s:I}", "parameters", parameters, "flops", flops, "memory",
                    json_of_memory(&f->memory), "length", (json_int_t)f->length, "predicted",
                    (json_int_t)f->predicted);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

static void print_text(const facts *f)
{
    char a[5][32];
    printf("parameters   %lld:", (long long)f->total);
    for (int k = 0; k < GROUPS; k++)
        if (f->group[k] || k != OTHER)
            printf("%s %s %lld", k ? "," : "", group_names[k], (long long)f->group[k]);
    putchar('\n');
    printf("FLOPs of one sequence of %lld tokens, %lld of them predicted%s\n", (long long)f->length,
           (long long)f->predicted, f->varies ? " (the split varies)" : "");
    printf("  forward    %.4g dense, %.4g visible, elementwise %.4g\n", f->flops.forward.matmul,
           f->flops.forward.visible, f->flops.forward.elementwise);
    printf("  backward   %.4g dense, %.4g visible, elementwise %.4g\n", f->flops.backward.matmul,
           f->flops.backward.visible, f->flops.backward.elementwise);
    printf("  as the paper counts (forward, dense, lookups as products)  %.4g\n", f->paper);
    printf("memory       parameters %s, gradients %s, optimizer %s, activations %s, inputs %s\n",
           td_human_bytes(a[0], (double)f->memory.parameters),
           td_human_bytes(a[1], (double)f->memory.gradients),
           td_human_bytes(a[2], (double)f->memory.states),
           td_human_bytes(a[3], (double)f->memory.activations),
           td_human_bytes(a[4], (double)f->memory.inputs));
}

static int print_graph(td_work *w, const char *how)
{
    td_tensor *const *roots;
    size_t            n;
    td_graph         *g = td_engine_graph(w->engine, &roots, &n);
    td_text           text = { 0 };
    if (!strcmp(how, "dot"))
        td_graph_dump_dot(g, &text);
    else
        td_graph_dump_text(g, &text);
    fputs(td_text_get(&text), stdout);
    td_text_free(&text);
    return 0;
}

static int print_mask(td_work *w, const char *path, td_error *error)
{
    td_tensor *const *roots;
    size_t            n;
    td_batch         *one = sequence(w, error);
    td_text           text = { 0 };
    int code = one ? td_graph_dump_mask(td_engine_graph(w->engine, &roots, &n), one, path, 0, &text,
                                        error)
                   : error->code;
    fputs(td_text_get(&text), stdout);
    td_text_free(&text);
    td_batch_free(one);
    return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static const td_flag flags[] = {
    { "--graph", "text|dot", "print the graph of a training step on one sequence" },
    { "--mask", "PATH",
      "print the mask of the attention at a path, a # for each pair that is seen" },
    { 0, 0, 0 },
};

const td_usage td_usage_describe = {
    .name = "describe",
    .arguments = "[--json] [--graph text|dot] [--mask PATH]",
    .brief = "Parameters, FLOPs per sequence of train.length, and memory. Nothing of the model is "
             "allocated.",
    .example = "tandem describe -c paper/redllm-8b.cfg --json",
    .flags = flags,
    .config = true,
    .json = true,
    .notes = "--graph dot of a whole model is more than `dot` lays out in reasonable time: take "
             "model.layers=1, or\n"
             "model.encoder_layers=1 model.decoder_layers=1.\n",
};

int td_command_describe(td_tool *t, int argc, char **argv)
{
    const char *graph, *mask;
    td_work     w;
    td_error    e = { 0 };
    facts       f = { 0 };
    int         code;

    if (!td_tool_parse(t, &td_usage_describe, argc, argv, &code))
        return code;
    graph = td_tool_option(t, "--graph");
    mask = td_tool_option(t, "--mask");
    if (graph && strcmp(graph, "text") && strcmp(graph, "dot"))
        return td_tool_usage_error(t, "--graph takes text or dot, not '%s'", graph);
    if ((graph != NULL) + (mask != NULL) + t->json > 1)
        return td_tool_usage_error(t, "say one of --graph, --mask and --json");
    if (mask && !*mask)
        return td_tool_usage_error(t, "--mask takes the path of an attention; it is empty");
    if (!td_work_open(&w, t, TD_NEED_MODEL | TD_NEED_LOSS, &code))
        return code;
    code = collect(&w, &f, &e);
    if (!code && mask)
        code = print_mask(&w, mask, &e);
    else if (!code && graph)
        code = print_graph(&w, graph);
    else if (!code)
        t->json ? print_json(&f) : print_text(&f);
    code = code ? td_tool_fail(t, &e) : TD_EXIT_OK;
    td_work_close(&w);
    return code;
}
