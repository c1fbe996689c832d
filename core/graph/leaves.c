/* leaves.c - nodes without inputs: variables, constants, inputs.
 *
 * Leaves are never duplicated: asking for a parameter by the same name is how layers share a
 * weight, and equal constants (masks, tables) of many layers are one node.
 */
#include <stdio.h>
#include <string.h>

#include "graph/internal.h"

/* The shape was checked before. */
static td_node *leaf(td_graph_full *g, int kind, int dtype, const int64_t *dims, int rank)
{
    td_node *n = td_node_new(g, kind, 0, 1);
    if (!n)
        return NULL;
    n->out[0].t.dtype = dtype ? dtype : g->options.real;
    n->out[0].t.rank = rank;
    if (rank) /* a scalar has no dims to point at */
        memcpy(n->out[0].t.dim, dims, (size_t)rank * sizeof *dims);
    return n;
}

/* Reports a name that was declared before with another shape. */
static td_tensor *refuse_other(td_graph *graph, const char *what, const char *name,
                               const td_shape *old, const td_shape *asked)
{
    td_text    was = { 0 }, now = { 0 };
    td_tensor *y;
    td_print_dims(&was, old->dtype, old->rank, old->dim);
    td_print_dims(&now, asked->dtype, asked->rank, asked->dim);
    y = td_graph_fail(
        graph,
        "%s '%.300s' was declared as %s and is requested as %s: use the same dims, or a different "
        "name",
        what, name, td_text_get(&was), td_text_get(&now));
    td_text_free(&was);
    td_text_free(&now);
    return y;
}

static td_shape shape_of(const td_graph *graph, int dtype, const int64_t *dims, int rank)
{
    td_shape s = { dtype ? dtype : td_full_of(graph)->options.real, rank, { 0 } };
    if (rank > 0 && rank <= TD_MAX_RANK) /* else td_check_shape refuses it */
        memcpy(s.dim, dims, (size_t)rank * sizeof *dims);
    return s;
}

/* Refuse a shape that no leaf can have, and return false. `what` and `name` (or NULL) are for the
 * message. */
static bool check_leaf(td_graph *graph, const char *what, const char *name, const td_shape *s)
{
    td_error e = { 0 };
    if (!td_check_shape(s, &e))
        return true;
    td_graph_fail(graph, "%s%s%.300s%s: %s", what, name ? " '" : "", name ? name : "",
                  name ? "'" : "", e.text);
    return false;
}

/* One node per variable, so that the gradients of all its uses are added up there. */
td_tensor *td_graph_variable(td_graph *graph, td_variable *v)
{
    return td_graph_leaf(graph, v->name, v);
}

td_tensor *td_graph_leaf(td_graph *graph, const char *key, td_variable *v)
{
    td_graph_full *g = td_full_of(graph);
    td_node       *n = td_map_get(g->leaves, key);
    if (!n) {
        n = leaf(g, TD_NODE_VARIABLE, v->dtype, v->dim, v->rank);
        if (!n || td_map_set(g->leaves, key, n))
            return td_graph_out_of_memory(g);
        n->variable = v;
    }
    return &n->out[0].t;
}

td_variable *td_graph_next_variable(const td_graph *graph, int32_t *at)
{
    const td_graph_full *g = td_full_of(graph);
    while (*at < g->n_nodes) {
        const td_node *n = g->nodes[(*at)++];
        if (n->kind == TD_NODE_VARIABLE)
            return n->variable;
    }
    return NULL;
}

/* A variable without elements would have no gradient to check and no bytes to save. */
static bool check_variable(td_graph *graph, const char *what, const char *name, const td_shape *s)
{
    if (!check_leaf(graph, what, name, s))
        return false;
    for (int k = 0; k < s->rank; k++)
        if (s->dim[k] < 1) {
            td_graph_fail(graph, "%s '%.300s' has no entries along axis %d; it needs at least 1",
                          what, name, k);
            return false;
        }
    return true;
}

/* Fetch or declare the variable `name` of the current scope. */
static td_tensor *variable(td_graph *graph, const char *name, int kind, const td_shape *s,
                           td_init init, double initial)
{
    const char    *what = kind == TD_VARIABLE_PARAM ? "parameter" : "state";
    td_graph_full *g = td_full_of(graph);
    const char    *scope = g->scopes[g->depth].scope;
    char           full[512];
    td_variable   *v;
    td_shape       old;

    /* parameters are named by scope, not by path: layers that share weights have one scope */
    if (snprintf(full, sizeof full, "%s%s%s", scope, *scope ? "." : "", name) >= (int)sizeof full)
        return td_graph_fail(graph,
                             "the name of %s '%.300s' is longer than %zu bytes with its scope",
                             what, name, sizeof full - 1);
    /* variables outlive the graph: a graph with an error must not leave any behind */
    if (g->error.code || !check_variable(graph, what, full, s))
        return &g->error_node->out[0].t;
    v = td_variables_add(g->variables, full, kind, s->dim, s->rank, init, initial);
    if (v) {
        /* vectors, which are weights of norms and biases, are read as they are */
        v->copied |= g->options.narrow && kind == TD_VARIABLE_PARAM && s->rank > 1;
        return td_graph_variable(graph, v);
    }
    /* it exists with other dims, or could not be made */
    v = td_variables_find(g->variables, full);
    if (!v)
        return td_graph_out_of_memory(g);
    old = shape_of(graph, TD_REAL, v->dim, v->rank);
    return refuse_other(graph, what, full, &old, s);
}

td_tensor *td_graph_param(td_graph *g, const char *name, const int64_t *dims, int rank,
                          td_init init)
{
    td_shape s = shape_of(g, TD_REAL, dims, rank);
    return variable(g, name, TD_VARIABLE_PARAM, &s, init, 0);
}

td_tensor *td_graph_state(td_graph *g, const char *name, const int64_t *dims, int rank,
                          double initial)
{
    td_init  zeros = { TD_INIT_ZEROS, 0 };
    td_shape s = shape_of(g, TD_REAL, dims, rank);
    return variable(g, name, TD_VARIABLE_STATE, &s, zeros, initial);
}

/* ---- constants and inputs -------------------------------------------------------------------- */

/* Searches all nodes: a graph has few constants, and each is requested at most once per layer. */
static td_node *find_constant(const td_graph_full *g, const td_shape *s, const double *elements,
                              size_t bytes)
{
    for (int32_t i = 0; i < g->n_nodes; i++) {
        td_node *x = g->nodes[i];
        if (x->kind == TD_NODE_CONSTANT && td_has_dims(&x->out[0].t, s->dtype, s->rank, s->dim) &&
            !memcmp(x->elements, elements, bytes))
            return x;
    }
    return NULL;
}

td_tensor *td_graph_constant(td_graph *graph, int dtype, const int64_t *dims, int rank,
                             const double *values)
{
    td_graph_full *g = td_full_of(graph);
    td_shape       s = shape_of(graph, dtype, dims, rank);
    size_t         bytes = sizeof *values;
    td_node       *n;
    double        *copy;

    if (!check_leaf(graph, "a constant", NULL, &s))
        return &g->error_node->out[0].t;
    for (int k = 0; k < rank; k++)
        bytes *= (size_t)dims[k];
    n = find_constant(g, &s, values, bytes);
    if (n)
        return &n->out[0].t;
    n = leaf(g, TD_NODE_CONSTANT, s.dtype, dims, rank);
    copy = n ? td_arena_alloc(g->arena, bytes ? bytes : 8) : NULL;
    if (!copy)
        return td_graph_out_of_memory(g);
    if (bytes) /* `values` may be NULL for a tensor without elements */
        memcpy(copy, values, bytes);
    n->elements = copy;
    return &n->out[0].t;
}

td_tensor *td_graph_input(td_graph *graph, const char *name, int dtype, const int64_t *dims,
                          int rank)
{
    td_graph_full *g = td_full_of(graph);
    td_shape       s = shape_of(graph, dtype, dims, rank), old;
    td_node       *n = td_map_get(g->inputs, name);

    if (!check_leaf(graph, "input", name, &s))
        return &g->error_node->out[0].t;
    /* one array of the batch serves all that request it */
    if (n && td_has_dims(&n->out[0].t, s.dtype, rank, dims))
        return &n->out[0].t;
    if (n) {
        old = shape_of(graph, n->out[0].t.dtype, n->out[0].t.dim, n->out[0].t.rank);
        return refuse_other(graph, "input", name, &old, &s);
    }
    n = leaf(g, TD_NODE_INPUT, s.dtype, dims, rank);
    if (!n || td_map_set(g->inputs, name, n))
        return td_graph_out_of_memory(g);
    n->input = td_arena_copy(g->arena, name);
    return n->input ? &n->out[0].t : td_graph_out_of_memory(g);
}

td_tensor *td_graph_find_input(const td_graph *g, const char *name)
{
    td_node *n = td_map_get(td_full_of(g)->inputs, name);
    return n ? &n->out[0].t : NULL;
}
