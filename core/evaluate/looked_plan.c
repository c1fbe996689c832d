/* looked_plan.c - the inputs of the chosen attentions are additional roots of the plan. */
#include "evaluate/looked_plan.h"

#include <inttypes.h>
#include <stdlib.h>

#include "plugin/hook.h"

/* Layers share the inputs of their masks. */
static void add_root(td_looked_plan *p, td_tensor *t)
{
    for (size_t k = 0; k < p->n_roots; k++)
        if (p->roots[k] == t)
            return;
    p->roots[p->n_roots++] = t;
}

static int list_roots(td_looked_plan *p, td_tensor *root, td_error *error)
{
    const td_looked *l = &p->looked;
    p->roots = calloc(l->n * TD_ATTEND_INPUTS + 1, sizeof *p->roots);
    if (!p->roots)
        return td_fail(error, TD_ENOMEM, "out of memory while analyzing sequences");
    if (root)
        add_root(p, root);
    for (size_t k = 0; k < l->n; k++)
        for (int i = 0; i < TD_ATTEND_INPUTS; i++)
            if (td_looked_reads(&l->at[k], i))
                add_root(p, l->at[k].node->in[i]);
    return 0;
}

static int take_memory(td_looked_plan *p, td_error *error)
{
    const td_device *d = td_engine_device(p->engine);
    td_footprint     needed = { .activations = td_plan_arena(p->plan),
                                .inputs = td_plan_inputs(p->plan) };
    if (td_footprint_check(&needed, d, error))
        return td_failed(error, TD_ECONFIG);
    p->memory_size = needed.activations;
    p->memory = TD_HOOK_QUICK(d->backend, allocate, d->state, p->memory_size);
    if (!p->memory)
        return td_fail(error, TD_ENOMEM,
                       "cannot allocate %zu bytes for sequences of %" PRId64
                       " tokens: choose fewer "
                       "layers, or a smaller length",
                       p->memory_size, p->looked.length);
    return td_plan_bind(p->plan, p->memory, error);
}

int td_looked_plan_open(td_looked_plan *p, td_engine *engine, td_graph *graph, td_tensor *root,
                        const td_analyze_spec *spec, td_error *error)
{
    const td_architecture *a = (const void *)td_engine_model(engine)->architecture.plugin;
    int                    code;
    p->engine = engine;
    p->graph = graph;
    code = td_graph_attentions(graph, a->generated, &p->found, error);
    if (!code)
        code = td_looked_choose(&p->looked, &p->found, spec, error);
    if (!code)
        code = list_roots(p, root, error);
    if (code)
        return code;
    p->plan = td_plan_new(graph, p->roots, p->n_roots, td_engine_device(engine), error);
    return p->plan ? take_memory(p, error) : td_failed(error, TD_EGRAPH);
}

void td_looked_plan_close(td_looked_plan *p)
{
    const td_device *d = p->engine ? td_engine_device(p->engine) : NULL;
    td_plan_free(p->plan);
    if (p->memory)
        TD_HOOK_QUICK(d->backend, release, d->state, p->memory, p->memory_size);
    td_looked_free(&p->looked);
    td_attentions_free(&p->found);
    if (p->graph)
        td_graph_free(p->graph);
    free(p->roots);
    *p = (td_looked_plan){ 0 };
}
