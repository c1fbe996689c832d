/* graph.c - building: the host's table behind tandem/graph.h. */
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"
#include "tandem/ops.h"

size_t td_dtype_size(int dtype) { return dtype == TD_F64 ? 8 : dtype == TD_BF16 ? 2 : 4; }

bool td_has_dims(const td_tensor *t, int dtype, int rank, const int64_t *dims)
{
    return t->dtype == dtype && t->rank == rank &&
           (!rank || !memcmp(t->dim, dims, (size_t)rank * sizeof *dims));
}

bool td_node_is(const td_node *n, const char *name)
{
    return n->kind == TD_NODE_OP && !strcmp(n->op->plugin.name, name);
}

/* ---- life ------------------------------------------------------------------------------------ */

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
    if (g->arena && g->ops && g->leaves && g->inputs)
        g->error_node = td_node_new(g, TD_NODE_ERROR, 0, 1);
    if (g->error_node)
        return &g->base;
    td_graph_free(&g->base);
    return NULL;
}

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

/* ---- nodes ----------------------------------------------------------------------------------- */

static bool append(td_graph_full *g, td_node *n)
{
    if (g->n_nodes == g->room) {
        int32_t   room = g->room ? 2 * g->room : 1024;
        td_node **nodes = realloc(g->nodes, (size_t)room * sizeof *nodes);
        if (!nodes)
            return false;
        g->nodes = nodes;
        g->room = room;
    }
    n->index = g->n_nodes;
    g->nodes[g->n_nodes++] = n;
    return true;
}

td_node *td_node_new(td_graph_full *g, int kind, int n_in, int n_out)
{
    size_t   values = (size_t)n_out * sizeof(td_value), inputs = (size_t)n_in * sizeof(td_value *);
    td_node *n = td_arena_alloc(g->arena, sizeof *n + values + inputs);
    if (!n || !append(g, n))
        return NULL;
    n->out = (td_value *)(void *)(n + 1);
    n->in = (td_value **)(void *)(n->out + n_out);
    n->kind = kind;
    n->n_in = n_in;
    n->n_out = n_out;
    n->region = g->region;
    n->backward = g->backward;
    n->path = g->scopes[g->depth].path;
    for (int k = 0; k < n_out; k++) {
        n->out[k].t.graph = &g->base;
        n->out[k].node = n;
        n->out[k].slot = k;
    }
    return n;
}

static td_tensor *fail(td_graph *graph, const char *message)
{
    td_graph_full *g = td_full_of(graph);
    const char    *path = g->scopes[g->depth].path;
    td_fail(&g->error, TD_EGRAPH, "%s%s%s", path, *path ? ": " : "", message);
    return &g->error_node->out[0].t;
}

static td_tensor *out_of_memory(td_graph_full *g)
{
    return fail(&g->base, "out of memory while building the graph");
}

static const td_op *find_op(td_graph_full *g, const char *name)
{
    td_error     e = { 0 };
    const td_op *op = td_map_get(g->ops, name);
    if (op)
        return op;
    op = (const td_op *)(const void *)td_registry_find(g->registry, TD_OP_KIND, name, &e);
    if (op)
        td_map_set(g->ops, name, (void *)(uintptr_t)op);
    else
        fail(&g->base, e.text);
    return op;
}

static uint64_t hash_of(const td_op *op, td_tensor *const *in, int n, const td_attrs *a)
{
    uint64_t             h = (uint64_t)(uintptr_t)op;
    const unsigned char *p = (const unsigned char *)a;
    for (int k = 0; k < n; k++)
        h = (h ^ (uint64_t)(uintptr_t)in[k]) * 0x9E3779B97F4A7C15u;
    for (size_t k = 0; k < sizeof *a; k += 8) {
        uint64_t word;
        memcpy(&word, p + k, 8);
        h = (h ^ word) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return h;
}

td_node *td_state_of(const td_value *v)
{
    while (v->node->kind == TD_NODE_OP) {
        const td_node *n = v->node;
        int            k = n->op->flags & TD_OP_VIEW ? 0 : n->op->inplace[v->slot] - 1;
        if (k < 0 || k >= n->n_in || !n->in[k])
            return NULL;
        v = n->in[k];
    }
    return v->node->kind == TD_NODE_VARIABLE ? v->node : NULL;
}

bool td_written_since(const td_node *n)
{
    for (int k = 0; k < n->n_in; k++) {
        const td_node *state = n->in[k] ? td_state_of(n->in[k]) : NULL;
        if (state && state->written > n->index)
            return true;
    }
    return false;
}

/* What the node writes in place is another state from here on. */
static void note_writes(const td_node *n)
{
    for (int k = 0; k < n->n_out; k++) {
        td_node *state = n->op->inplace[k] ? td_state_of(&n->out[k]) : NULL;
        if (state)
            state->written = n->index;
    }
}

/* An equal node that exists already: the same op on the same tensors, and on what states hold. */
static td_node *find_equal(td_graph_full *g, uint64_t hash, const td_op *op, td_tensor *const *in,
                           int n, const td_attrs *a)
{
    for (td_node *x = g->bucket[hash % TD_BUCKETS]; x; x = x->next) {
        bool same = x->hash == hash && x->op == op && x->n_in == n &&
                    !memcmp(&x->attrs, a, sizeof *a);
        for (int k = 0; same && k < n; k++)
            same = in[k] ? x->in[k] == td_value_of(in[k]) : !x->in[k];
        if (same && !td_written_since(x))
            return x;
    }
    return NULL;
}

/* What an op may not give, whoever wrote it: what follows relies on it. */
static int check_shape(const td_shape *s, int k, td_error *error)
{
    double count = 1;
    if (s->rank < 0 || s->rank > TD_MAX_RANK || s->dtype < TD_F32 || s->dtype > TD_I32)
        return td_fail(error, TD_EGRAPH, "output %d would have rank %d and dtype %d", k, s->rank,
                       s->dtype);
    for (int d = 0; d < s->rank; d++)
        count *= s->dim[d] < 0 ? 1e300 : (double)s->dim[d];
    return count > 1e15 ? td_fail(error, TD_EGRAPH,
                                  "output %d would have dims that are negative or too large", k)
                        : 0;
}

/* A state is written to in its own dims, and a sum is made in those of its summand. */
static int check_shared(const td_op *op, td_tensor *const *in, int n, const td_shape *shape,
                        int n_out, td_error *error)
{
    const td_shape *sum;
    int             from = op->accumulate_in - 1;
    for (int k = 0; k < n_out; k++) {
        int state = op->inplace[k] - 1;
        if (state >= 0 && state < n && in[state] &&
            !td_has_dims(in[state], shape[k].dtype, shape[k].rank, shape[k].dim))
            return td_fail(error, TD_EGRAPH,
                           "output %d has other dims or another dtype than input %d, in whose "
                           "memory it is",
                           k, state);
    }
    if (from >= 0 && op->accumulate_out >= n_out)
        return td_fail(error, TD_EGRAPH, "there is no output %d to add to", op->accumulate_out);
    sum = &shape[from >= 0 ? op->accumulate_out : 0];
    if (from >= 0 && from < n && in[from] &&
        !td_has_dims(in[from], sum->dtype, sum->rank, sum->dim))
        return td_fail(error, TD_EGRAPH,
                       "the summand has other dims or another dtype than the sum");
    return 0;
}

static int infer(td_graph_full *g, const td_op *op, td_tensor *const *in, int n, const td_attrs *a,
                 td_shape *shape)
{
    td_error e = { 0 };
    char     text[2200];
    int      n_out = op->infer(in, n, a, shape, &e), code = n_out < 0 ? n_out : 0;
    if (!code && (n_out == 0 || n_out > TD_MAX_OUTPUTS))
        code = td_fail(&e, TD_EGRAPH, "has %d outputs; an op may have 1 to %d", n_out,
                       TD_MAX_OUTPUTS);
    for (int k = 0; !code && k < n_out; k++)
        code = check_shape(&shape[k], k, &e);
    if (!code)
        code = check_shared(op, in, n, shape, n_out, &e);
    if (!code)
        return n_out;
    snprintf(text, sizeof text, "%s: %s", op->plugin.name, e.code ? e.text : "refused");
    fail(&g->base, text);
    return -1;
}

/* The error tensor if an input is one or is missing; NULL if all is well. */
static td_tensor *bad_input(td_graph_full *g, const td_op *op, td_tensor *const *in, int n)
{
    char text[200];
    if (n < op->min_inputs || n > op->max_inputs) {
        snprintf(text, sizeof text, "%s takes %d to %d inputs, not %d", op->plugin.name,
                 op->min_inputs, op->max_inputs, n);
        return fail(&g->base, text);
    }
    for (int k = 0; k < n; k++) {
        if (in[k] && td_value_of(in[k])->node->kind == TD_NODE_ERROR)
            return &g->error_node->out[0].t;
        if (in[k] && in[k]->graph != &g->base)
            return fail(&g->base, "a tensor of another graph");
    }
    if (op->min_inputs && !in[0]) {
        snprintf(text, sizeof text, "%s: the first input is missing", op->plugin.name);
        return fail(&g->base, text);
    }
    return NULL;
}

td_tensor *td_graph_emit(td_graph *graph, const char *name, td_tensor *const *in, int n,
                         const td_attrs *attrs)
{
    td_graph_full  *g = td_full_of(graph);
    td_attrs        none = { { 0 }, { 0 } };
    const td_attrs *a = attrs ? attrs : &none;
    const td_op    *op = find_op(g, name);
    td_shape        shape[TD_MAX_OUTPUTS] = { { 0 } };
    td_tensor      *other = op ? bad_input(g, op, in, n) : &g->error_node->out[0].t;
    uint64_t        hash;
    td_node        *node;
    int             n_out;

    if (other)
        return other;
    n_out = infer(g, op, in, n, a, shape);
    if (n_out < 0)
        return &g->error_node->out[0].t;
    other = g->unique ? NULL : td_simplify(g, op, in, n, a, shape);
    if (other)
        return other;
    hash = hash_of(op, in, n, a);
    node = g->unique || op->flags & TD_OP_EFFECT ? NULL : find_equal(g, hash, op, in, n, a);
    if (node)
        return &node->out[0].t;
    node = td_node_new(g, TD_NODE_OP, n, n_out);
    if (!node)
        return out_of_memory(g);
    node->op = op;
    node->attrs = *a;
    node->hash = hash;
    for (int k = 0; k < n; k++)
        node->in[k] = in[k] ? td_value_of(in[k]) : NULL;
    for (int k = 0; k < n_out; k++) {
        node->out[k].t.dtype = shape[k].dtype;
        node->out[k].t.rank = shape[k].rank;
        memcpy(node->out[k].t.dim, shape[k].dim, sizeof shape[k].dim);
    }
    note_writes(node);
    if (!g->unique) {
        node->next = g->bucket[hash % TD_BUCKETS];
        g->bucket[hash % TD_BUCKETS] = node;
    }
    return &node->out[0].t;
}

static td_tensor *output(td_tensor *first, int index)
{
    td_node *n = td_value_of(first)->node;
    if (n->kind == TD_NODE_ERROR)
        return first;
    return index >= 0 && index < n->n_out ? &n->out[index].t
                                          : fail(first->graph, "the op has no such output");
}

/* ---- leaves ---------------------------------------------------------------------------------- */

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
    if (!check_shape(&s, 0, &e))
        return true;
    snprintf(text, sizeof text, "%s: %s", what, e.text);
    fail(graph, text);
    return false;
}

td_tensor *td_graph_variable(td_graph *graph, td_variable *v)
{
    td_graph_full *g = td_full_of(graph);
    td_node       *n = td_map_get(g->leaves, v->name);
    if (!n) {
        n = leaf(g, TD_NODE_VARIABLE, 0, v->dim, v->rank);
        if (!n || td_map_set(g->leaves, v->name, n))
            return out_of_memory(g);
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
        return fail(graph, "a parameter's rank or name is too large");
    if (g->error.code)
        return &g->error_node->out[0].t;
    for (int k = 0; k < rank; k++)
        if (dims[k] < 1) {
            snprintf(text, sizeof text, "parameter '%s' would have %lld entries along axis %d",
                     full, (long long)dims[k], k);
            return fail(graph, text);
        }
    v = td_variables_add(g->variables, full, kind, dims, rank, init, initial);
    if (v)
        return td_graph_variable(graph, v);
    snprintf(text, sizeof text, "parameter '%s' is asked for with other dims than before", full);
    return fail(graph, text);
}

static td_tensor *param(td_graph *g, const char *name, const int64_t *dims, int rank, td_init init)
{
    return variable(g, name, TD_VARIABLE_PARAM, dims, rank, init, 0);
}

static td_tensor *state(td_graph *g, const char *name, const int64_t *dims, int rank,
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

static td_tensor *constant(td_graph *graph, int dtype, const int64_t *dims, int rank,
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
        return out_of_memory(g);
    if (bytes)
        memcpy(copy, values, bytes);
    n->values = copy;
    return &n->out[0].t;
}

static td_tensor *input(td_graph *graph, const char *name, int dtype, const int64_t *dims, int rank)
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
        return fail(graph, text);
    }
    n = leaf(g, TD_NODE_INPUT, dtype, dims, rank);
    if (!n || td_map_set(g->inputs, name, n))
        return out_of_memory(g);
    n->input = td_arena_copy(g->arena, name);
    return &n->out[0].t;
}

td_tensor *td_graph_find_input(const td_graph *g, const char *name)
{
    td_node *n = td_map_get(td_full_of(g)->inputs, name);
    return n ? &n->out[0].t : NULL;
}

/* ---- scopes ---------------------------------------------------------------------------------- */

static const char *joined(td_graph_full *g, const char *left, const char *right)
{
    const char *text = *left && *right ? td_arena_print(g->arena, "%s.%s", left, right)
                                       : td_arena_copy(g->arena, *left ? left : right);
    return text ? text : "";
}

static void push(td_graph *graph, const char *scope)
{
    td_graph_full *g = td_full_of(graph);
    td_scope      *top = &g->scopes[g->depth];
    if (g->depth + 1 == TD_SCOPES) {
        fail(graph, "scopes are nested too deeply: is a td_pop missing?");
        return;
    }
    top[1] = (td_scope){ joined(g, top->path, scope), joined(g, top->scope, scope) };
    g->depth++;
}

static void push_path(td_graph *graph, const char *path, const char *scope)
{
    td_graph_full *g = td_full_of(graph);
    int            before = g->depth;
    push(graph, path);
    if (g->depth > before)
        g->scopes[g->depth].scope = joined(g, scope, "");
}

static void pop(td_graph *graph)
{
    td_graph_full *g = td_full_of(graph);
    if (g->depth)
        g->depth--;
    else
        fail(graph, "td_pop without a td_push");
}

static const char *path(td_graph *g) { return td_full_of(g)->scopes[td_full_of(g)->depth].path; }

static void mark(td_graph *graph, int begin)
{
    td_graph_full *g = td_full_of(graph);
    g->region = begin ? ++g->regions : 0;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void aux_loss(td_graph *graph, const char *name, td_tensor *scalar, double weight)
{
    td_graph_full *g = td_full_of(graph);
    td_tensor     *loss = td_scale(scalar, weight);
    size_t         k = 0;
    while (k < g->n_aux && strcmp(g->aux[k].name, name))
        k++;
    if (k == TD_AUX)
        td_graph_fail(graph, "auxiliary losses have more than %d names; one more is '%s'", TD_AUX,
                      name);
    else if (k < g->n_aux)
        g->aux[k].loss = td_add(g->aux[k].loss, loss);
    else
        g->aux[g->n_aux++] = (td_aux){ td_arena_copy(g->arena, name), loss };
}

const td_aux *td_graph_aux(const td_graph *g, size_t *count)
{
    *count = td_full_of(g)->n_aux;
    return td_full_of(g)->aux;
}

static int      phase(td_graph *g) { return td_full_of(g)->options.phase; }
static int      real(td_graph *g) { return td_full_of(g)->options.real; }
static uint64_t seed(td_graph *g) { return td_full_of(g)->options.dropout_seed; }

const td_host td_graph_host = {
    .size = sizeof(td_host),
    .emit = td_graph_emit,
    .output = output,
    .param = param,
    .constant = constant,
    .input = input,
    .state = state,
    .push = push,
    .push_path = push_path,
    .pop = pop,
    .path = path,
    .mark = mark,
    .remember = td_graph_remember,
    .carry = td_graph_carry,
    .aux_loss = aux_loss,
    .fail = fail,
    .phase = phase,
    .real = real,
    .seed = seed,
};
