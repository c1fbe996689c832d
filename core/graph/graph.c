/* graph.c - a graph's life and scopes, and the host's table behind tandem/graph.h.
 *
 * Plugins see a td_graph, which points to the table at the end of this file; every call goes
 * through that table, so a module needs no tandem symbol at link time.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"
#include "plugin/hook.h"
#include "tandem/ops.h"

td_graph *td_graph_new(td_registry *registry, td_variables *variables,
                       const td_graph_options *options)
{
    td_graph_full *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->base.host = &td_graph_host;
    g->registry = registry;
    g->variables = variables;
    g->options = *options;
    g->arena = td_arena_new();
    g->ops = td_map_new();
    g->leaves = td_map_new();
    g->inputs = td_map_new();
    g->scopes[0] = (td_scope){ "", "" };
    /* node 0: its output is what every failed call returns, so plugins need no checks */
    if (g->arena && g->ops && g->leaves && g->inputs)
        g->error_node = td_node_new(g, TD_NODE_ERROR, 0, 1);
    if (g->error_node)
        return &g->base;
    td_graph_free(&g->base);
    return NULL;
}

/* Nodes, their paths and constants are in the arena; variables belong to their set. */
void td_graph_free(td_graph *graph)
{
    td_graph_full *g = td_full_of(graph);
    if (!g)
        return;
    td_map_free(g->ops);
    td_map_free(g->leaves);
    td_map_free(g->inputs);
    td_arena_free(g->arena);
    free(g->nodes);
    free(g);
}

int td_graph_error(const td_graph *graph, td_error *error)
{
    const td_graph_full *g = td_full_of(graph);
    return g->error.code ? td_fail(error, g->error.code, "%s", g->error.text) : 0;
}

/* ---- scopes ---------------------------------------------------------------------------------- */

/* The scope names parameters, the path names the place in the model. The two differ in layers
 * that share weights: each such layer has its own cache, random stream and profile, but not its
 * own parameters. */

static const char *joined(td_graph_full *g, const char *left, const char *right)
{
    const char *text = *left && *right ? td_arena_print(g->arena, "%s.%s", left, right)
                                       : td_arena_copy(g->arena, *left ? left : right);
    return text ? text : ""; /* out of memory: the next node reports it */
}

/* Past the limit, td_pop leaves scopes too early; the graph has its error by then, so it does not
 * matter. */
static bool has_room(td_graph *graph)
{
    if (td_full_of(graph)->depth + 1 < TD_SCOPES)
        return true;
    td_graph_fail(graph, "scopes are nested %d deep: is a td_pop missing?", TD_SCOPES);
    return false;
}

static void push(td_graph *graph, const char *scope)
{
    td_graph_full *g = td_full_of(graph);
    td_scope      *top = &g->scopes[g->depth];
    if (!has_room(graph))
        return;
    top[1] = (td_scope){ joined(g, top->path, scope), joined(g, top->scope, scope) };
    g->depth++;
}

/* The path grows by `path`; the scope is `scope`, from the root. */
static void push_path(td_graph *graph, const char *path, const char *scope)
{
    td_graph_full *g = td_full_of(graph);
    td_scope      *top = &g->scopes[g->depth];
    if (!has_room(graph))
        return;
    top[1] = (td_scope){ joined(g, top->path, path), joined(g, scope, "") };
    g->depth++;
}

static void pop(td_graph *graph)
{
    td_graph_full *g = td_full_of(graph);
    assert(g->depth >= 0 && g->depth < TD_SCOPES);
    if (g->depth)
        g->depth--;
    else
        td_graph_fail(graph, "td_pop without a td_push before it");
}

static const char *path(td_graph *g) { return td_full_of(g)->scopes[td_full_of(g)->depth].path; }

/* Regions do not nest: a layer inside another ends the outer one's region. */
static void mark(td_graph *graph, int begin)
{
    td_graph_full *g = td_full_of(graph);
    g->region = begin ? ++g->regions : 0;
}

/* ---- auxiliary losses and logged scalars ----------------------------------------------------- */

/* The entry of a name: every layer adds its own, and they are logged as one number. In order of first
 * use, which is the order of emission: the same in every run. NULL after an error. */
static td_aux *entry(td_graph *graph, const char *name, bool logged)
{
    td_graph_full *g = td_full_of(graph);
    size_t         k = 0;
    while (k < g->n_aux && strcmp(g->aux[k].name, name))
        k++;
    if (k == TD_AUX)
        td_graph_fail(graph,
                      "cannot log '%s': auxiliary losses and logged scalars of a graph can have at "
                      "most %d names",
                      name, TD_AUX);
    else if (k < g->n_aux && logged != (g->aux[k].logged > 0))
        td_graph_fail(graph, "'%s' is an auxiliary loss and a logged scalar: choose another name",
                      name);
    else {
        if (k == g->n_aux)
            g->aux[g->n_aux++] = (td_aux){ .name = joined(g, name, "") };
        return &g->aux[k];
    }
    return NULL;
}

static void add(td_aux *a, td_tensor *scalar)
{
    if (a)
        a->loss = a->loss ? td_add(a->loss, scalar) : scalar;
}

static void aux_loss(td_graph *graph, const char *name, td_tensor *scalar, double weight)
{
    add(entry(graph, name, false), td_scale(scalar, weight));
}

static void log_scalar(td_graph *graph, const char *name, td_tensor *scalar)
{
    td_aux *a = entry(graph, name, true);
    add(a, scalar);
    if (a)
        a->logged++;
}

const td_aux *td_graph_aux(const td_graph *g, size_t *count)
{
    *count = td_full_of(g)->n_aux;
    return td_full_of(g)->aux;
}

/* ---- the host's table ------------------------------------------------------------------------ */

static int      phase(td_graph *g) { return td_full_of(g)->options.phase; }
static int      real(td_graph *g) { return td_full_of(g)->options.real; }
static uint64_t seed(td_graph *g) { return td_full_of(g)->options.dropout_seed; }

/* One plugin calls another. */
static void enter(td_graph *g, const td_plugin *p, const char *hook)
{
    (void)g;
    td_hook_push(p, hook);
}

static void leave(td_graph *g)
{
    (void)g;
    td_hook_pop();
}

const td_host td_graph_host = {
    .size = sizeof(td_host),
    .emit = td_graph_emit,
    .output = td_graph_output,
    .param = td_graph_param,
    .constant = td_graph_constant,
    .input = td_graph_input,
    .state = td_graph_state,
    .push = push,
    .push_path = push_path,
    .pop = pop,
    .path = path,
    .mark = mark,
    .remember = td_graph_remember,
    .carry = td_graph_carry,
    .aux_loss = aux_loss,
    .fail = td_graph_refuse,
    .phase = phase,
    .real = real,
    .seed = seed,
    .carry_on = td_graph_carry_on,
    .enter = enter,
    .leave = leave,
    .log_scalar = log_scalar,
};
