/* describe.c - `tandem describe`: parameters, FLOPs and memory of a config's model, before anything is allocated. */
#include <jansson.h>
#include <string.h>

#include "work.h"

typedef struct facts {
    td_memory       memory;
    td_flops_phases flops; /* of one sequence */
    double          paper;
    int64_t         total, embedding, attention, ffn, norm;
    int64_t         length;
} facts;

/* ---- counting ---------------------------------------------------------------------------------------------------------------------- */

static void count_parameters(td_variables *v, facts *f)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        if (x->kind != TD_VARIABLE_PARAM)
            continue;
        f->total += x->count;
        if (td_match("*embed*", x->name) || td_match("*lm_head*", x->name))
            f->embedding += x->count;
        else if (td_match("*norm*", x->name))
            f->norm += x->count;
        else if (td_match("*attn*", x->name) || td_match("*attention*", x->name))
            f->attention += x->count;
        else if (td_match("*mlp*", x->name))
            f->ffn += x->count;
    }
}

/* The paper counts an embedding lookup as a product with a one-hot matrix. */
static double lookup_flops(td_variables *v, const td_batch *b)
{
    double tokens = 0, table = 0;
    for (int32_t k = 0; k < b->count; k++)
        if (td_match("*_ids", b->at[k].name))
            tokens += (double)(b->at[k].dim[0] * b->at[k].dim[1]);
    for (size_t i = 0; i < td_variables_count(v); i++)
        if (td_match("*embed_tokens.weight", td_variables_at(v, i)->name) && td_variables_at(v, i)->kind == TD_VARIABLE_PARAM)
            table = (double)td_variables_at(v, i)->count;
    return 2 * tokens * table;
}

static int count_flops(td_work *w, facts *f, td_error *error)
{
    td_batch         *one = td_work_random(w, 1, error);
    td_tensor *const *roots;
    size_t            n;
    td_graph         *g;
    int               code = one ? td_engine_plan(w->engine, one, NULL, error) : error->code;
    if (!code) {
        g = td_engine_graph(w->engine, &roots, &n);
        td_graph_flops(g, roots, n, one, &f->flops);
        f->paper = f->flops.forward.matmul + lookup_flops(td_engine_variables(w->engine), one);
        count_parameters(td_engine_variables(w->engine), f);
    }
    td_batch_free(one);
    return code;
}

static int collect(td_work *w, facts *f, td_error *error)
{
    td_batch *shape = NULL;
    int       code = td_work_engine(w, error);
    f->length = w->x->train.length;
    if (!code)
        code = count_flops(w, f, error);
    if (!code && !(shape = td_work_shape(w, w->x->train.micro_batch, error)))
        code = error->code;
    if (!code)
        code = td_engine_plan(w->engine, shape, &f->memory, error);
    td_batch_free(shape);
    return code;
}

/* ---- printing ---------------------------------------------------------------------------------------------------------------------- */

static void print_json(const facts *f)
{
    json_t *j = json_pack(
        "{s:{s:I, s:I, s:I, s:I, s:I}, s:{s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f}}, s:{s:I, s:I, s:I, s:I, s:I}, s:I}", "parameters",
        "total", (json_int_t)f->total, "embedding", (json_int_t)f->embedding, "attention", (json_int_t)f->attention, "ffn",
        (json_int_t)f->ffn, "norm", (json_int_t)f->norm, "flops", "paper", f->paper, "dense", f->flops.forward.matmul, "visible",
        f->flops.forward.visible, "elementwise", f->flops.forward.elementwise, "backward", "dense", f->flops.backward.matmul, "visible",
        f->flops.backward.visible, "elementwise", f->flops.backward.elementwise, "memory", "parameters", (json_int_t)f->memory.parameters,
        "gradients", (json_int_t)f->memory.gradients, "optimizer", (json_int_t)f->memory.states, "activations",
        (json_int_t)f->memory.activations, "inputs", (json_int_t)f->memory.inputs, "length", (json_int_t)f->length);
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(j);
}

static void print_text(const facts *f)
{
    char a[5][32];
    printf("parameters   %lld: embedding %lld, attention %lld, ffn %lld, norm %lld\n", (long long)f->total, (long long)f->embedding,
           (long long)f->attention, (long long)f->ffn, (long long)f->norm);
    printf("FLOPs of one sequence of %lld tokens\n", (long long)f->length);
    printf("  forward    %.4g dense, %.4g visible, elementwise %.4g\n", f->flops.forward.matmul, f->flops.forward.visible,
           f->flops.forward.elementwise);
    printf("  backward   %.4g dense, %.4g visible, elementwise %.4g\n", f->flops.backward.matmul, f->flops.backward.visible,
           f->flops.backward.elementwise);
    printf("  as the paper counts (forward, dense, lookups as products)  %.4g\n", f->paper);
    printf("memory       parameters %s, gradients %s, optimizer %s, activations %s, inputs %s\n",
           td_human_bytes(a[0], (double)f->memory.parameters), td_human_bytes(a[1], (double)f->memory.gradients),
           td_human_bytes(a[2], (double)f->memory.states), td_human_bytes(a[3], (double)f->memory.activations),
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
    td_batch         *one = td_work_random(w, 1, error);
    td_text           text = { 0 };
    int code = one ? td_graph_dump_mask(td_engine_graph(w->engine, &roots, &n), one, path, 0, &text, error) : error->code;
    fputs(td_text_get(&text), stdout);
    td_text_free(&text);
    td_batch_free(one);
    return code;
}

/* ---- the command --------------------------------------------------------------------------------------------------------------------- */

int td_command_describe(td_tool *t, int argc, char **argv)
{
    const char    *graph = NULL, *mask = NULL;
    const td_flag  flags[] = { { "--graph", "text|dot", "print the graph of a training step on one sequence", &graph, 0 },
                               { "--mask", "PATH", "print the mask of the attention at a path, a # for each pair that is seen", &mask, 0 },
                               { 0, 0, 0, 0, 0 } };
    const td_usage usage = { "describe", "[--json] [--graph text|dot] [--mask PATH]",
                             "Parameters, FLOPs per sequence of train.length, and memory. Nothing of the model is allocated.",
                             "tandem describe -c configs/paper/redllm-8b.cfg --json", flags, true };
    td_work  w;
    td_error e = { 0 };
    facts    f = { 0 };
    int      code;

    if (!td_tool_parse(t, &usage, argc, argv, &code))
        return code;
    if (t->n_plain || (graph && strcmp(graph, "text") && strcmp(graph, "dot")))
        return td_tool_usage_error(t, t->n_plain ? "'%s' is no option" : "--graph takes text or dot, not '%s'", t->n_plain ? t->plain[0] : graph);
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
