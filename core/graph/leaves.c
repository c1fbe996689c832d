/* leaves.c - nodes without inputs: variables, constants, inputs. */
#include <stdio.h>
#include <string.h>

#include "graph/internal.h"

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

/* Whether there can be such a leaf; a mistake if not. */
static bool check_leaf(td_graph *graph, const char *what, int dtype, const int64_t *dims, int rank)
{
    td_shape s = { dtype ? dtype : td_full_of(graph)->options.real, rank, { 0 } };
    td_error e = { 0 };
    char     text[2200];
    if (rank > 0 && rank <= TD_MAX_RANK)
        memcpy(s.dim, dims, (size_t)rank * sizeof *dims);
    if (!td_check_shape(&s, 0, &e))
        return true;
    snprintf(text, sizeof text, "%s: %s", what, e.text);
    td_graph_refuse(graph, text);
    return false;
}

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

static td_tensor *variable(td_graph *graph, const char *name, int kind, const int64_t *dims,
                           int rank, td_init init, double initial)
{
    td_graph_full *g = td_full_of(graph);
    const char    *scope = g->scopes[g->depth].scope;
    char           full[512], text[700];
    td_variable   *v;

    if (rank < 0 || rank > TD_MAX_RANK ||
        snprintf(full, sizeof full, "%s%s%s", scope, *scope ? "." : "", name) >= (int)sizeof full)
        return td_graph_refuse(graph, "a parameter's rank or name is too large");
    if (g->error.code)
        return &g->error_node->out[0].t;
    for (int k = 0; k < rank; k++)
        if (dims[k] < 1) {
            snprintf(text, sizeof text, "parameter '%s' would have %lld entries along axis %d",
                     full, (long long)dims[k], k);
            return td_graph_refuse(graph, text);
        }
    v = td_variables_add(g->variables, full, kind, dims, rank, init, initial);
    if (v)
        return td_graph_variable(graph, v);
    snprintf(text, sizeof text, "parameter '%s' is asked for with other dims than before", full);
    return td_graph_refuse(graph, text);
}

td_tensor *td_graph_param(td_graph *g, const char *name, const int64_t *dims, int rank,
                          td_init init)
{
    return variable(g, name, TD_VARIABLE_PARAM, dims, rank, init, 0);
}

td_tensor *td_graph_state(td_graph *g, const char *name, const int64_t *dims, int rank,
                          double initial)
{
    td_init zero = { TD_INIT_ZEROS, 0 };
    return variable(g, name, TD_VARIABLE_STATE, dims, rank, zero, initial);
}

/* One of equal constants. */
static td_node *find_constant(td_graph_full *g, int dtype, const int64_t *dims, int rank,
                              const double *values, size_t bytes)
{
    for (int32_t i = 0; i < g->n_nodes; i++) {
        td_node         *x = g->nodes[i];
        const td_tensor *t = &x->out[0].t;
        if (x->kind == TD_NODE_CONSTANT && td_has_dims(t, dtype, rank, dims) &&
            !memcmp(x->values, values, bytes))
            return x;
    }
    return NULL;
}

td_tensor *td_graph_constant(td_graph *graph, int dtype, const int64_t *dims, int rank,
                             const double *values)
{
    td_graph_full *g = td_full_of(graph);
    size_t         bytes = sizeof *values;
    td_node       *n;
    double        *copy;

    if (!check_leaf(graph, "a constant", dtype, dims, rank))
        return &g->error_node->out[0].t;
    dtype = dtype ? dtype : g->options.real;
    for (int k = 0; k < rank; k++)
        bytes *= (size_t)dims[k];
    n = find_constant(g, dtype, dims, rank, values, bytes);
    if (n)
        return &n->out[0].t;
    n = leaf(g, TD_NODE_CONSTANT, dtype, dims, rank);
    copy = n ? td_arena_alloc(g->arena, bytes ? bytes : 8) : NULL;
    if (!copy)
        return td_graph_out_of_memory(g);
    if (bytes)
        memcpy(copy, values, bytes);
    n->values = copy;
    return &n->out[0].t;
}

td_tensor *td_graph_input(td_graph *graph, const char *name, int dtype, const int64_t *dims,
                          int rank)
{
    td_graph_full *g = td_full_of(graph);
    td_node       *n = td_map_get(g->inputs, name);
    char           text[400];

    snprintf(text, sizeof text, "input '%.200s'", name);
    if (!check_leaf(graph, text, dtype, dims, rank))
        return &g->error_node->out[0].t;
    dtype = dtype ? dtype : g->options.real;
    if (n && td_has_dims(&n->out[0].t, dtype, rank, dims))
        return &n->out[0].t;
    if (n) {
        snprintf(text, sizeof text,
                 "input '%.200s' is asked for with other dims or another dtype than before", name);
        return td_graph_refuse(graph, text);
    }
    n = leaf(g, TD_NODE_INPUT, dtype, dims, rank);
    if (!n || td_map_set(g->inputs, name, n))
        return td_graph_out_of_memory(g);
    n->input = td_arena_copy(g->arena, name);
    return &n->out[0].t;
}

td_tensor *td_graph_find_input(const td_graph *g, const char *name)
{
    td_node *n = td_map_get(td_full_of(g)->inputs, name);
    return n ? &n->out[0].t : NULL;
}
