/* ops.c - what ops, kernels and backends must do: right values and gradients, on any number of
 * threads, and no NaN is hidden. */
#include "check/cases.h"
#include "check/internal.h"
#include "check/op_cases.h"
#include "plan/internal.h"
#include "tandem/random.h"

/* ---- what to try an op on -------------------------------------------------------------------- */

/* A case of ours, the n-th example of the op's own, or a guess. */
typedef struct attempt {
    const td_op      *op;
    const td_op_case *ours;
    int               example, inputs; /* inputs > 0: guess so many of equal dims */
    bool              nan;             /* the first entry of the first input is no number */
} attempt;

enum { MOST_RESULTS = TD_MAX_INPUTS + TD_MAX_OUTPUTS + 2 };

typedef struct lab {
    td_check     *check;
    td_device     device;
    td_graph     *graph;
    td_variables *variables;
    td_plan      *plan;
    void         *memory;
    td_tensor    *roots[MOST_RESULTS]; /* a scalar of all outputs, the outputs, gradients */
    size_t        n_roots, n_outputs;
    bool          flat; /* without gradients */
} lab;

static const char *label_of(td_check *c, const attempt *a)
{
    if (a->ours)
        return td_arena_print(c->arena, "%s [%s, %lld]", a->op->plugin.name, a->ours->dims,
                              (long long)a->ours->option);
    if (a->inputs)
        return td_arena_print(c->arena, "%s of %d inputs [3, 5]", a->op->plugin.name, a->inputs);
    return td_arena_print(c->arena, "%s, example %d", a->op->plugin.name, a->example);
}

/* The k-th group of "2x3,3,-"; false after the last. */
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

static int ours(lab *l, const attempt *a, td_tensor **x)
{
    int64_t dims[TD_MAX_RANK];
    int     rank, n = 0;
    char    name[16];
    for (; n < TD_MAX_INPUTS && dims_of(a->ours->dims, n, dims, &rank); n++) {
        snprintf(name, sizeof name, "x%d", n);
        x[n] = td_param(l->graph, name, dims, rank, (td_init){ 0 });
    }
    return n;
}

/* The first node of the op that was emitted: its outputs are looked at. */
static const td_node *node_of(const lab *l, const attempt *a)
{
    const td_graph_full *g = td_full_of(l->graph);
    for (int32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->kind == TD_NODE_OP && td_node_is(g->nodes[i], a->op->plugin.name))
            return g->nodes[i];
    return NULL;
}

/* Outputs in l->roots from 1 on. */
static void emit_op(lab *l, const attempt *a)
{
    td_tensor *x[TD_MAX_INPUTS] = { NULL }, *y;
    td_attrs   attrs;
    int64_t    dims[] = { 3, 5 };
    int        n;

    memset(&attrs, 0, sizeof attrs);
    if (a->ours) {
        ours(l, a, x);
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
    if (td_graph_error(l->graph, NULL))
        return;
    l->n_outputs = (size_t)td_value_of(y)->node->n_out;
    for (size_t k = 0; k < l->n_outputs; k++)
        l->roots[1 + k] = td_output(y, (int)k);
}

/* sum(y w) over all outputs: every element counts differently. */
static td_tensor *weighted_sum(lab *l)
{
    td_tensor *sum = NULL;
    for (size_t k = 1; k <= l->n_outputs; k++) {
        td_tensor *y = l->roots[k], *part;
        double    *w = td_arena_alloc(l->check->arena, ((size_t)td_count(y) + 1) * sizeof *w);
        MUST(l->check, w, "out of memory");
        for (int64_t n = 0; n < td_count(y); n++)
            w[n] = td_op_noise(70 + k, n, -1, 1);
        part = td_sum_all(
            td_mul(td_cast(y, TD_REAL), td_constant(l->graph, TD_REAL, y->dim, y->rank, w)));
        sum = sum ? td_add(sum, part) : part;
    }
    return sum;
}

static void differentiate(lab *l, const char *label)
{
    td_tensor *x[TD_MAX_INPUTS], *grads[TD_MAX_INPUTS] = { NULL };
    size_t     n = 0, count = td_variables_count(l->variables);
    td_error   e = { 0 };
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

static void fill(lab *l, const attempt *a)
{
    double low = a->ours ? a->ours->low : -0.75, high = a->ours ? a->ours->high : 1;
    for (size_t i = 0; i < td_variables_count(l->variables); i++) {
        td_variable *v = td_variables_at(l->variables, i);
        float   *values = td_arena_alloc(l->check->arena, ((size_t)v->count + 1) * sizeof *values);
        td_error e = { 0 };
        MUST(l->check, values, "out of memory");
        for (int64_t n = 0; n < v->count; n++)
            values[n] = !i && !n && a->nan ? NAN : (float)td_op_noise(i, n, low, high);
        MUST(l->check, !td_variable_set(v, &l->device, l->device.backend->real, values, &e), "%s",
             td_check_error(&e));
    }
}

static void lab_open(lab *l, td_check *c, const attempt *a, const td_device *device)
{
    const char      *label = label_of(c, a);
    td_graph_options o = { .phase = TD_PHASE_TRAIN,
                           .real = device->backend->real,
                           .dropout_seed = 5 };
    td_error         e = { 0 };

    *l = (lab){ .check = c, .device = *device, .variables = td_variables_new() };
    l->graph = l->variables ? td_graph_new(c->registry, l->variables, &o) : NULL;
    MUST(c, l->graph, "out of memory");
    emit_op(l, a);
    MUST(c, !td_graph_error(l->graph, &e), "%s: %s", label, td_check_error(&e));
    MUST(c, node_of(l, a), "%s: the graph has no such node", label);
    l->roots[0] = weighted_sum(l);
    l->n_roots = 1 + l->n_outputs;
    if (!l->flat)
        differentiate(l, label);
    MUST(c, !td_graph_error(l->graph, &e), "%s: %s", label, td_check_error(&e));
    l->plan = td_plan_new(l->graph, l->roots, l->n_roots, &l->device, &e);
    MUST(c, l->plan, "%s: %s", label, td_check_error(&e));
    MUST(c, !td_variables_allocate(l->variables, &l->device, device->backend->real, &e), "%s",
         td_check_error(&e));
    fill(l, a);
    l->memory = device->backend->allocate(device->state, td_plan_arena(l->plan) + 64);
    MUST(c, l->memory && !td_plan_bind(l->plan, l->memory, &e), "%s: %s", label,
         td_check_error(&e));
}

static void lab_close(lab *l)
{
    l->device.backend->release(l->device.state, l->memory, td_plan_arena(l->plan) + 64);
    td_plan_free(l->plan);
    td_graph_free(l->graph);
    td_variables_release(l->variables, &l->device);
    td_variables_free(l->variables);
}

/* ---- results --------------------------------------------------------------------------------- */

typedef struct result {
    double *at;
    size_t  count, first[MOST_RESULTS + 1], n_roots;
    bool    uses; /* a kernel of the plugin under test */
} result;

static bool uses_plugin(const lab *l)
{
    const td_kernels *k = (const void *)l->check->plugin;
    for (int32_t i = 0; i < l->plan->n_calls; i++)
        for (size_t j = 0; td_check_is_kind(l->check->plugin, TD_KERNELS_KIND) && j < k->count; j++)
            if (l->plan->calls[i]->kernel == &k->rows[j])
                return true;
    return false;
}

static void run(lab *l, const char *label)
{
    td_error e = { 0 };
    MUST(l->check, !td_plan_run(l->plan, &e), "%s: %s", label, td_check_error(&e));
}

static result result_of(td_check *c, const attempt *a, const td_device *device)
{
    lab         l;
    result      r = { 0 };
    td_error    e = { 0 };
    const char *label = label_of(c, a);
    lab_open(&l, c, a, device);
    run(&l, label);
    for (size_t k = 0; k < l.n_roots; k++) {
        r.first[k] = r.count;
        r.count += (size_t)td_count(l.roots[k]);
    }
    r.first[l.n_roots] = r.count;
    r.n_roots = l.n_roots;
    r.uses = uses_plugin(&l);
    r.at = td_arena_alloc(c->arena, (r.count + 1) * sizeof *r.at);
    MUST(c, r.at, "out of memory");
    for (size_t k = 0; k < l.n_roots; k++)
        MUST(c, !td_plan_get(l.plan, l.roots[k], r.at + r.first[k], td_count(l.roots[k]), &e),
             "%s: %s", label, td_check_error(&e));
    lab_close(&l);
    return r;
}

static double largest(const double *x, size_t n)
{
    double top = 1e-3;
    for (size_t i = 0; i < n; i++)
        top = isfinite(x[i]) ? fmax(top, fabs(x[i])) : top;
    return top;
}

static const char *name_of_root(td_check *c, size_t k, size_t outputs)
{
    return !k ? "the sum of all outputs"
              : td_arena_print(c->arena, k <= outputs ? "output %zu" : "gradient %zu",
                               k <= outputs ? k - 1 : k - 1 - outputs);
}

/* Root by root, relative to the root's largest element; the sum, which cancels, to how far as many
 * terms go at random. */
static void compare(td_check *c, const attempt *a, const char *what, const result *have,
                    const result *want, size_t outputs, double tolerance)
{
    for (size_t k = 0; k < want->n_roots; k++) {
        size_t of = k ? k : 1, count = want->first[of + 1] - want->first[of];
        double scale = largest(want->at + want->first[of], count) *
                       (k ? 1 : sqrt((double)count + 1));
        for (size_t i = want->first[k]; i < want->first[k + 1]; i++) {
            if (have->at[i] == want->at[i] || (isnan(have->at[i]) && isnan(want->at[i])) ||
                fabs(have->at[i] - want->at[i]) <= tolerance * scale)
                continue;
            td_check_finding(c, "%s, %s: %s, element %zu is %.10g, not %.10g", label_of(c, a), what,
                             name_of_root(c, k, outputs), i - want->first[k], have->at[i],
                             want->at[i]);
            return;
        }
    }
}

/* ---- all attempts ---------------------------------------------------------------------------- */

typedef struct devices {
    td_device plain, other, lowered;
    bool      used;  /* a kernel of the plugin under test was */
    int       tried; /* attempts so far */
} devices;

typedef void visit(td_check *, const attempt *, devices *);

static const td_op *op_named(td_check *c, const char *name)
{
    return (const void *)td_registry_find(c->registry, TD_OP_KIND, name, NULL);
}

/* How many inputs of equal dims the op takes, as a guess; 0: none. */
static int guess(td_check *c, const td_op *op)
{
    for (int n = op->min_inputs > 0 ? op->min_inputs : 1; n <= op->max_inputs && n < 8; n++) {
        td_variables    *v = td_variables_new();
        td_graph_options o = { .phase = TD_PHASE_TRAIN, .real = TD_F64 };
        td_graph        *g = v ? td_graph_new(c->registry, v, &o) : NULL;
        lab              l = { .check = c, .graph = g, .variables = v };
        bool             taken;
        MUST(c, g, "out of memory");
        emit_op(&l, &(attempt){ .op = op, .inputs = n });
        taken = !td_graph_error(g, NULL);
        td_graph_free(g);
        td_variables_free(v);
        if (taken)
            return n;
    }
    return 0;
}

static int count_examples(td_check *c, const td_op *op)
{
    int n = 0;
    for (bool more = true; more && n < 64;) {
        td_variables    *v = td_variables_new();
        td_graph_options o = { .phase = TD_PHASE_TRAIN, .real = TD_F64 };
        td_graph        *g = v ? td_graph_new(c->registry, v, &o) : NULL;
        td_tensor       *x[TD_MAX_INPUTS] = { NULL };
        td_attrs         attrs;
        MUST(c, g, "out of memory");
        memset(&attrs, 0, sizeof attrs);
        more = op->example(g, n, x, &attrs) > 0;
        n += more;
        td_graph_free(g);
        td_variables_free(v);
    }
    return n;
}

/* Visit everything that an op can be tried on. An op that only comes along with others (the kernels of
 * a backend) may be one that cannot be. */
static void each_attempt(td_check *c, const td_op *op, devices *d, visit *f)
{
    bool alone = td_check_is_kind(c->plugin, TD_OP_KIND);
    int  n = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(cases[i].op, op->plugin.name)) {
            f(c, &(attempt){ .op = op, .ours = &cases[i] }, d);
            n++;
        }
    d->tried += n;
    if (n)
        return;
    if (op->example) {
        n = count_examples(c, op);
        MUST(c, n, "op '%s': its hook 'example' gives none", op->plugin.name);
        for (int k = 0; k < n; k++) {
            f(c, &(attempt){ .op = op, .example = k }, d);
            d->tried++;
        }
        return;
    }
    n = guess(c, op);
    MUST(c, n || !alone,
         "op '%s' cannot be tried: it takes no inputs of equal dims; give it the hook 'example'",
         op->plugin.name);
    if (n) {
        f(c, &(attempt){ .op = op, .inputs = n }, d);
        d->tried++;
    }
}

/* The ops of the plugin under test: itself, or those of its kernels. */
static void each_op(td_check *c, devices *d, visit *f)
{
    const td_kernels *k = (const void *)c->plugin;
    if (td_check_is_kind(c->plugin, TD_OP_KIND))
        each_attempt(c, (const void *)c->plugin, d, f);
    for (size_t i = 0; td_check_is_kind(c->plugin, TD_KERNELS_KIND) && i < k->count; i++) {
        const td_op *op = op_named(c, k->rows[i].op);
        bool         again = false;
        MUST(c, op, "kernel row %zu is of an op '%s', which there is not", i, k->rows[i].op);
        for (size_t j = 0; j < i; j++)
            again = again || !strcmp(k->rows[j].op, k->rows[i].op);
        if (!again)
            each_attempt(c, op, d, f);
    }
    MUST(c, d->tried,
         "there is nothing that it could be tried on: give its ops the hook 'example'");
}

/* The backend that the kernels are for, or the plugin under test; else the first that computes in
 * `real`. */
static td_device device_of(td_check *c, int real, int threads)
{
    const td_kernels *k = (const void *)c->plugin;
    td_device         d;
    td_error          e = { 0 };
    td_part           part;
    if (!td_check_is_kind(c->plugin, TD_KERNELS_KIND))
        return td_check_device(c, real, threads);
    part = td_check_default(c, TD_BACKEND_KIND, k->backend);
    if (td_check_open_backend(c, &part, threads, &d, &e))
        td_check_skip(c, "backend '%s' cannot be opened here: %s", k->backend, td_check_error(&e));
    return d;
}

/* ---- values ---------------------------------------------------------------------------------- */

static void compare_values(td_check *c, const attempt *a, devices *d)
{
    result want = result_of(c, a, &d->lowered), plain = result_of(c, a, &d->plain);
    double tolerance = d->plain.backend->real == TD_F64 ? 1e-10 : 2e-5;
    lab    l;
    lab_open(&l, c, a, &d->lowered);
    compare(c, a, "kernel against double precision", &plain, &want, l.n_outputs, tolerance);
    lab_close(&l);
    d->used = d->used || plain.uses;
}

/* Whether some of the kernels take not every call. */
static bool chooses(const td_kernels *k)
{
    for (size_t i = 0; i < k->count; i++)
        if (k->rows[i].accepts)
            return true;
    return false;
}

/* Kernels against what is computed from simpler ops in double precision. */
void td_check_values(td_check *c)
{
    devices d = { .plain = device_of(c, TD_F32, 2), .lowered = td_check_device(c, TD_F64, 1) };
    d.lowered.lower_all = true;
    each_op(c, &d, compare_values);
    if (!td_check_is_kind(c->plugin, TD_KERNELS_KIND) || d.used || c->n_findings)
        return;
    if (chooses((const void *)c->plugin))
        td_check_skip(c, "its kernels accept nothing of what the tests call them with");
    td_check_finding(c, "no kernel of it was used in any case: are the dtypes the backend's?");
}

static void compare_threads(td_check *c, const attempt *a, devices *d)
{
    result one = result_of(c, a, &d->plain), again = result_of(c, a, &d->plain),
           two = result_of(c, a, &d->other);
    if (memcmp(one.at, again.at, one.count * sizeof *one.at))
        td_check_finding(c, "%s: not the same bits twice", label_of(c, a));
    else if (memcmp(one.at, two.at, one.count * sizeof *one.at))
        td_check_finding(c, "%s: other bits with 3 threads than with 1", label_of(c, a));
}

void td_check_op_threads(td_check *c)
{
    devices d = { .plain = device_of(c, TD_F32, 1), .other = device_of(c, TD_F32, 3) };
    each_op(c, &d, compare_threads);
}

/* A NaN that goes in comes out where simpler ops have one: -ffast-math makes kernels hide them. */
static void compare_nan(td_check *c, const attempt *a, devices *d)
{
    attempt nan = *a;
    result  want, have;
    nan.nan = true;
    if (!(a->op->flags & TD_OP_ELEMENTWISE))
        return;
    want = result_of(c, &nan, &d->lowered);
    have = result_of(c, &nan, &d->plain);
    for (size_t i = want.first[1]; i < want.first[2]; i++)
        if (isnan(want.at[i]) && !isnan(have.at[i])) {
            td_check_finding(
                c,
                "%s: what is no number (NaN) becomes %g: divergence would be hidden; is it "
                "compiled with -ffast-math?",
                label_of(c, a), have.at[i]);
            return;
        }
}

void td_check_nan(td_check *c)
{
    devices d = { .plain = device_of(c, TD_F32, 1), .lowered = td_check_device(c, TD_F64, 1) };
    each_op(c, &d, compare_nan);
}

/* ---- gradients ------------------------------------------------------------------------------- */

static double sum_at(lab *l, const char *label, double *x, double value)
{
    double before = *x, sum;
    *x = value;
    run(l, label);
    sum = td_plan_get_scalar(l->plan, l->roots[0]);
    *x = before;
    return sum;
}

static void differences_of(lab *l, const char *label, td_variable *v, size_t root, const result *r)
{
    const double h = 1e-5;
    for (int64_t n = 0; n < v->count && n < 40; n++) {
        double *x = (double *)v->memory + n, have = r->at[r->first[root] + (size_t)n];
        double  want = (sum_at(l, label, x, *x + h) - sum_at(l, label, x, *x - h)) / (2 * h);
        if (!td_check_near(have, want, 2e-6)) {
            td_check_finding(l->check,
                             "%s: the gradient of %s[%lld] is %.10g, but central differences "
                             "give %.10g",
                             label, v->name, (long long)n, have, want);
            return;
        }
    }
}

static void check_gradient(td_check *c, const attempt *a, devices *d)
{
    result r = result_of(c, a, &d->plain);
    lab    l;
    size_t root;
    lab_open(&l, c, a, &d->plain);
    root = 1 + l.n_outputs;
    for (size_t i = 0; !l.flat && i < td_variables_count(l.variables); i++)
        if (td_variables_at(l.variables, i)->kind == TD_VARIABLE_PARAM)
            differences_of(&l, label_of(c, a), td_variables_at(l.variables, i), root++, &r);
    lab_close(&l);
}

void td_check_op_gradients(td_check *c)
{
    devices d = { .plain = td_check_device(c, TD_F64, 1) };
    if (!((const td_op *)(const void *)c->plugin)->vjp)
        td_check_skip(c, "it has no gradient");
    each_op(c, &d, check_gradient);
}

/* ---- backends -------------------------------------------------------------------------------- */

static void open_backend(td_check *c, void *argument)
{
    const td_part    *part = argument;
    const td_backend *b = (const void *)part->plugin;
    void             *state = NULL, *memory;
    td_error          e = { 0 };
    MUST(c, !b->open(part->config, td_check_services(c, 2), &state, &e), "open: %s",
         td_check_error(&e));
    memory = b->allocate(state, 999);
    if (memory)
        b->release(state, memory, 999);
    b->close(state);
}

void td_check_backend_leak(td_check *c)
{
    td_part part = td_check_part(c);
    td_check_need_options(c);
    td_check_leak(c, "opening, allocating and closing", open_backend, &part);
}

void td_check_backend(td_check *c)
{
    enum { BYTES = 4096 + 17 };
    td_part           part = td_check_part(c);
    const td_backend *b = (const void *)part.plugin;
    void             *state = NULL, *memory;
    td_error          e = { 0 };
    char              there[BYTES], back[BYTES], text[2048] = "";
    int               code = b->open(part.config, td_check_services(c, 2), &state, &e);

    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "it cannot be opened: %s", td_check_error(&e));
    MUST(c, b->real == TD_F32 || b->real == TD_F64,
         "it computes in dtype %d: TD_F32 or TD_F64 is meant", b->real);
    memory = b->allocate(state, BYTES);
    MUST(c, memory, "%d bytes cannot be allocated", BYTES);
    MUST(c, !b->upload == !b->download, "upload and download come together, or neither");
    for (int k = 0; k < BYTES; k++)
        there[k] = (char)(k * 7 + 1);
    if (b->upload) {
        MUST(c, !b->download(state, back, memory, BYTES), "download fails");
        for (int k = 0; k < BYTES; k++)
            MUST(c, !back[k], "new memory is not zero");
        MUST(c, !b->upload(state, memory, there, BYTES) && !b->download(state, back, memory, BYTES),
             "upload or download fails");
    } else {
        MUST(c, !((uintptr_t)memory % 64), "memory is not aligned to 64 bytes");
        for (int k = 0; k < BYTES; k++)
            MUST(c, !((char *)memory)[k], "new memory is not zero");
        memcpy(memory, there, BYTES);
        memcpy(back, memory, BYTES);
    }
    MUST(c, !memcmp(there, back, BYTES), "what was stored does not come back");
    if (b->sync)
        MUST(c, !b->sync(state), "sync fails");
    if (b->describe)
        b->describe(state, text, sizeof text);
    if (b->diagnose)
        b->diagnose(state, text, sizeof text);
    if (b->peak)
        MUST(c, b->peak(state) > 0, "its peak rate is %g FLOP/s", b->peak(state));
    b->release(state, memory, BYTES);
    b->close(state);
}
