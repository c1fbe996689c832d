/* op_lab.c - building, running and reading a graph of one op, and the inputs for each op.
 *
 * Tandem's ops have test cases (op_cases.h). Other people's ops bring examples (td_op.example), or
 * are tried on inputs of equal dims, which suits elementwise ops. A graph has these roots: a random
 * weighted sum of all outputs, to differentiate; the outputs; the gradients of that sum.
 */
#include "check/op_lab.h"

#include "check/op_cases.h"
#include "tandem/kind/kernels.h"

const char *td_op_label(td_check *c, const attempt *a)
{
    if (a->ours)
        return td_arena_print(c->arena, "%s [%s, %lld]", a->op->plugin.name, a->ours->dims,
                              (long long)a->ours->option);
    if (a->inputs)
        return td_arena_print(c->arena, "%s of %d inputs [3, 5]", a->op->plugin.name, a->inputs);
    return td_arena_print(c->arena, "%s, example %d", a->op->plugin.name, a->example);
}

/* ---- building -------------------------------------------------------------------------------- */

/* The k-th group of "2x3,3,-", which has a scalar as its third; false after the last. */
static bool dims_of(const char *text, int k, int64_t *dims, int *rank)
{
    for (; k > 0; k--, text++)
        if (!(text = strchr(text, ',')))
            return false;
    *rank = 0;
    while (*text >= '0' && *text <= '9') {
        dims[(*rank)++] = strtoll(text, (char **)(uintptr_t)&text, 10);
        text += *text == 'x';
    }
    return true;
}

/* Inputs are parameters, so that autograd differentiates with respect to them. */
static void declare_inputs(lab *l, const attempt *a, td_tensor **x)
{
    int64_t dims[TD_MAX_RANK];
    int     rank;
    char    name[16];
    for (int n = 0; n < TD_MAX_INPUTS && dims_of(a->ours->dims, n, dims, &rank); n++) {
        snprintf(name, sizeof name, "x%d", n);
        x[n] = td_param(l->graph, name, dims, rank, (td_init){ 0 });
    }
}

/* The first node of the op. A case wraps it in others, and the graph may have simplified it
 * away. */
static const td_node *node_of(const lab *l, const attempt *a)
{
    const td_graph_full *g = td_full_of(l->graph);
    for (int32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->kind == TD_NODE_OP && td_node_is(g->nodes[i], a->op->plugin.name))
            return g->nodes[i];
    return NULL;
}

/* Emit the op; its outputs go to l->roots from 1 on. */
static void emit_op(lab *l, const attempt *a)
{
    td_tensor *x[TD_MAX_INPUTS] = { NULL }, *y;
    td_attrs   attrs;
    int64_t    dims[] = { 3, 5 };
    int        n;

    memset(&attrs, 0, sizeof attrs);
    if (a->ours) {
        declare_inputs(l, a, x);
        l->roots[1] = a->ours->build(l->graph, x, a->ours->option);
        l->n_outputs = 1;
        l->flat = a->ours->flat;
        return;
    }
    n = a->inputs ? a->inputs : a->op->example(l->graph, a->example, x, &attrs);
    for (int k = 0; k < a->inputs; k++)
        x[k] = td_param(l->graph, (char[]){ 'x', (char)('a' + k), 0 }, dims, 2, (td_init){ 0 });
    y = td_emit(l->graph, a->op->plugin.name, x, n, &attrs);
    l->flat = !a->op->vjp;
    /* an error tensor has no node of the op to count outputs of */
    if (td_graph_error(l->graph, NULL))
        return;
    l->n_outputs = (size_t)td_value_of(y)->node->n_out;
    for (size_t k = 0; k < l->n_outputs; k++)
        l->roots[1 + k] = td_output(y, (int)k);
}

/* sum(x y) as a product of matrices, which reads its operands in bf16: so an output is written in
 * bf16. */
static td_tensor *inner_product(td_tensor *x, td_tensor *y)
{
    int64_t row[] = { 1, td_count(x) }, column[] = { td_count(x), 1 };
    return td_sum_all(td_matmul(td_reshape(x, row, 2), td_reshape(y, column, 2)));
}

/* sum(y w) over all outputs, with a random w: every element counts differently, so that a gradient
 * which is merely permuted is found. */
static td_tensor *weighted_sum(lab *l, bool narrow)
{
    td_tensor *sum = NULL;
    for (size_t k = 1; k <= l->n_outputs; k++) {
        td_tensor *y = l->roots[k], *part;
        double    *w = td_arena_alloc(l->check->arena, ((size_t)td_count(y) + 1) * sizeof *w);
        MUST(l->check, w, "out of memory");
        for (int64_t n = 0; n < td_count(y); n++)
            w[n] = td_op_noise(70 + k, n, -1, 1);
        /* integers count too: they are cast, and get no gradient */
        part = td_constant(l->graph, TD_REAL, y->dim, y->rank, w);
        part = narrow ? inner_product(td_cast(y, TD_REAL), part)
                      : td_sum_all(td_mul(td_cast(y, TD_REAL), part));
        sum = sum ? td_add(sum, part) : part;
    }
    return sum;
}

/* Gradients of the weighted sum with respect to every input; more roots. */
static void differentiate(lab *l, const char *label)
{
    td_tensor *x[TD_MAX_INPUTS], *grads[TD_MAX_INPUTS] = { NULL };
    size_t     n = 0, count = td_variables_count(l->variables);
    td_error   e = { 0 };
    /* in the order of declaration, which is that of the inputs */
    for (size_t i = 0; i < count && n < TD_MAX_INPUTS; i++)
        if (td_variables_at(l->variables, i)->kind == TD_VARIABLE_PARAM)
            x[n++] = td_graph_variable(l->graph, td_variables_at(l->variables, i));
    MUST(l->check, !td_gradients(l->graph, l->roots[0], x, n, grads, &e), "%s: %s", label,
         td_check_error(&e));
    for (size_t k = 0; k < n; k++) {
        MUST(l->check, grads[k], "%s: no gradient flows to input %zu", label, k);
        l->roots[l->n_roots++] = grads[k];
    }
}

/* Inputs get numbers that float holds exactly, so that both precisions start from the same. */
static void fill(lab *l, const attempt *a)
{
    double low = a->ours ? a->ours->low : -0.75, high = a->ours ? a->ours->high : 1;
    for (size_t i = 0; i < td_variables_count(l->variables); i++) {
        td_variable *v = td_variables_at(l->variables, i);
        float   *values = td_arena_alloc(l->check->arena, ((size_t)v->count + 1) * sizeof *values);
        td_error e = { 0 };
        MUST(l->check, values, "out of memory");
        /* a stream for each input, or x - x would pass for x - y */
        for (int64_t n = 0; n < v->count; n++)
            values[n] = !i && !n && a->nan ? NAN : (float)td_op_noise(i, n, low, high);
        MUST(l->check, !td_variable_set(v, &l->device, td_device_real(&l->device), values, &e),
             "%s", td_check_error(&e));
    }
}

/* The graph, with all roots; an error of the op ends the test with its message. */
static void build(lab *l, const attempt *a, const char *label)
{
    td_error         e = { 0 };
    td_graph_options o = { .phase = TD_PHASE_TRAIN,
                           .real = td_device_real(&l->device),
                           .narrow = a->narrow ? TD_BF16 : 0,
                           .dropout_seed = 5 };
    l->graph = l->variables ? td_graph_new(l->check->registry, l->variables, &o) : NULL;
    MUST(l->check, l->graph, "out of memory");
    emit_op(l, a);
    MUST(l->check, !td_graph_error(l->graph, &e), "%s: %s", label, td_check_error(&e));
    /* a case that the graph has simplified away would test nothing */
    MUST(l->check, node_of(l, a), "%s: the graph contains no such node", label);
    l->roots[0] = weighted_sum(l, a->narrow);
    l->n_roots = 1 + l->n_outputs;
    if (!l->flat)
        differentiate(l, label);
    MUST(l->check, !td_graph_error(l->graph, &e), "%s: %s", label, td_check_error(&e));
    for (size_t i = 0; a->narrow && i < td_variables_count(l->variables); i++)
        td_variables_at(l->variables, i)->narrow = !td_variables_at(l->variables, i)->dtype;
}

/* In a run, memory holds what other plans left there: here, no numbers. */
static int soil(const td_device *d, void *memory, size_t bytes)
{
    char *dirt = malloc(bytes + 1);
    int   code = dirt ? 0 : TD_ENOMEM;
    if (dirt)
        memset(dirt, 0xff, bytes);
    if (dirt && d->backend->upload)
        code = d->backend->upload(d->state, memory, dirt, bytes);
    else if (dirt)
        memcpy(memory, dirt, bytes);
    free(dirt);
    return code;
}

void td_lab_open(lab *l, td_check *c, const attempt *a, const td_device *device)
{
    const char *label = td_op_label(c, a);
    td_error    e = { 0 };

    *l = (lab){ .check = c, .device = *device, .variables = td_variables_new() };
    build(l, a, label);
    l->plan = td_plan_new(l->graph, l->roots, l->n_roots, &l->device, &e);
    MUST(c, l->plan, "%s: %s", label, td_check_error(&e));
    MUST(c, !td_variables_allocate(l->variables, &l->device, td_device_real(device), &e), "%s",
         td_check_error(&e));
    fill(l, a);
    /* an arena may be empty, and NULL for 0 bytes would read as a failure: hence + 64 */
    l->memory = device->backend->allocate(device->state, td_plan_arena(l->plan) + 64);
    MUST(c,
         l->memory && !soil(device, l->memory, td_plan_arena(l->plan)) &&
             !td_plan_bind(l->plan, l->memory, &e),
         "%s: %s", label, td_check_error(&e));
}

void td_lab_close(lab *l)
{
    l->device.backend->release(l->device.state, l->memory, td_plan_arena(l->plan) + 64);
    td_plan_free(l->plan);
    td_graph_free(l->graph);
    td_variables_release(l->variables, &l->device);
    td_variables_free(l->variables);
}

/* ---- running --------------------------------------------------------------------------------- */

/* Whether the plan calls a kernel of the plugin under test; otherwise it was not tested. */
static bool uses_plugin(const lab *l)
{
    const td_kernels *k = (const void *)l->check->plugin;
    for (int32_t i = 0; i < l->plan->n_calls; i++)
        for (size_t j = 0; td_check_is_kind(l->check->plugin, TD_KERNELS_KIND) && j < k->count; j++)
            if (l->plan->calls[i]->kernel == &k->rows[j])
                return true;
    return false;
}

void td_lab_run(lab *l, const char *label)
{
    td_error e = { 0 };
    MUST(l->check, !td_plan_run(l->plan, &e), "%s: %s", label, td_check_error(&e));
}

result td_op_result(td_check *c, const attempt *a, const td_device *device)
{
    lab         l;
    result      r = { 0 };
    td_error    e = { 0 };
    const char *label = td_op_label(c, a);
    td_lab_open(&l, c, a, device);
    td_lab_run(&l, label);
    for (size_t k = 0; k < l.n_roots; k++) {
        r.first[k] = r.count;
        r.count += (size_t)td_count(l.roots[k]);
    }
    r.first[l.n_roots] = r.count;
    r.n_roots = l.n_roots;
    r.uses = uses_plugin(&l);
    /* in the arena: results are compared after their labs are closed */
    r.at = td_arena_alloc(c->arena, (r.count + 1) * sizeof *r.at);
    MUST(c, r.at, "out of memory");
    for (size_t k = 0; k < l.n_roots; k++)
        MUST(c, !td_plan_get(l.plan, l.roots[k], r.at + r.first[k], td_count(l.roots[k]), &e),
             "%s: %s", label, td_check_error(&e));
    td_lab_close(&l);
    return r;
}

/* ---- all attempts ---------------------------------------------------------------------------- */

/* Returns NULL if there is no such op. */
static const td_op *op_named(td_check *c, const char *name)
{
    return (const void *)td_registry_find(c->registry, TD_OP_KIND, name, NULL);
}

/* A graph just to see whether an op accepts its inputs. */
static lab scratch_lab(td_check *c)
{
    td_graph_options o = { .phase = TD_PHASE_TRAIN, .real = TD_F64 };
    lab              l = { .check = c, .variables = td_variables_new() };
    l.graph = l.variables ? td_graph_new(c->registry, l.variables, &o) : NULL;
    MUST(c, l.graph, "out of memory");
    return l;
}

/* A scratch lab has only these two: nothing was planned or allocated. */
static void scratch_free(lab *l)
{
    td_graph_free(l->graph);
    td_variables_free(l->variables);
}

/* The number of inputs of equal dims that the op accepts; 0: it cannot be tried without an
 * example. */
static int guess(td_check *c, const td_op *op)
{
    for (int n = op->min_inputs > 0 ? op->min_inputs : 1; n <= op->max_inputs && n < 8; n++) {
        lab  l = scratch_lab(c);
        bool taken;
        emit_op(&l, &(attempt){ .op = op, .inputs = n });
        taken = !td_graph_error(l.graph, NULL);
        scratch_free(&l);
        if (taken)
            return n;
    }
    return 0;
}

/* The number of examples that the op has. */
static int count_examples(td_check *c, const td_op *op)
{
    int n = 0;
    /* the bound is for an example hook that never returns 0 */
    for (bool more = true; more && n < 64;) {
        lab        l = scratch_lab(c);
        td_tensor *x[TD_MAX_INPUTS] = { NULL };
        td_attrs   attrs;
        memset(&attrs, 0, sizeof attrs);
        more = op->example(l.graph, n, x, &attrs) > 0;
        n += more;
        scratch_free(&l);
    }
    return n;
}

/* Visit the examples of an op that is not ours; returns how many there are. */
static int each_example(td_check *c, const td_op *op, devices *d, visit *f)
{
    int n = count_examples(c, op);
    MUST(c, n, "op '%s': hook 'example' returns 0 for example 0", op->plugin.name);
    for (int k = 0; k < n; k++)
        f(c, &(attempt){ .op = op, .example = k }, d);
    return n;
}

/* Visit everything that an op can be tried on. */
static void each_attempt(td_check *c, const td_op *op, devices *d, visit *f)
{
    /* the op under test must be tried; one that kernels name may be impossible to try */
    bool alone = td_check_is_kind(c->plugin, TD_OP_KIND);
    int  n = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(cases[i].op, op->plugin.name)) {
            f(c, &(attempt){ .op = op, .ours = &cases[i] }, d);
            n++;
        }
    if (!n && op->example)
        n = each_example(c, op, d, f);
    if (!n) {
        int inputs = guess(c, op);
        MUST(c, inputs || !alone,
             "op '%s' cannot be tried: it accepts no inputs of equal dims; give it the hook "
             "'example'",
             op->plugin.name);
        if (inputs)
            f(c, &(attempt){ .op = op, .inputs = inputs }, d);
        n = inputs > 0;
    }
    d->tried += n;
}

void td_each_op(td_check *c, devices *d, visit *f)
{
    const td_kernels *k = (const void *)c->plugin;
    if (td_check_is_kind(c->plugin, TD_OP_KIND))
        each_attempt(c, (const void *)c->plugin, d, f);
    for (size_t i = 0; td_check_is_kind(c->plugin, TD_KERNELS_KIND) && i < k->count; i++) {
        const td_op *op = op_named(c, k->rows[i].op);
        bool         again = false;
        MUST(c, op, "kernel row %zu is for op '%s', which does not exist", i, k->rows[i].op);
        /* several rows of one op, for other dtypes or calls, are tried together */
        for (size_t j = 0; j < i; j++)
            again = again || !strcmp(k->rows[j].op, k->rows[i].op);
        if (!again)
            each_attempt(c, op, d, f);
    }
    MUST(c, d->tried, "none of its ops can be tried: give them the hook 'example'");
}
