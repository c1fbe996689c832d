/* abi_binary.c - modules that were built with the headers of ABI 1.0 run in today's host: what they
 * ask of it, and what it answers, is every-op.txt; they are listed, checked and trained with. */
#include "graph/lab.h"
#include "tools/child.h"

#include "plugin/options.h"
#include "tandem/kind/norm.h"
#include "tandem/random.h"

#define MODULES TANDEM_FIXTURES "/abi/"
#define RECORD TANDEM_SOURCE "/tests/fixtures/abi-1.0/every-op.txt"

enum { CALLS = 600 };

/* ---- a host that writes down what it is asked ------------------------------------------------ */

/* What the module gets in place of a tensor: the public part, and nothing that merging or
 * simplifying could change. */
typedef struct proxy {
    td_tensor  t;
    td_tensor *real;
    char       name[16]; /* "#1a2b3c": a hash of how it was asked for; "#1a2b3c.1": its output 1 */
    char      *line;
} proxy;

/* Lines are sorted in the end: in which order a compiler evaluates arguments is its own affair. */
typedef struct recorder {
    td_graph *graph;
    td_host   host; /* what the graph shows to the module; the host itself gets its own */
    td_text   line;
    proxy     at[CALLS];
    char     *others[CALLS]; /* lines that give no tensor */
    int       count, n_others;
} recorder;

static recorder *current; /* hooks of the host get no argument of their own */

static const proxy *proxy_of(const td_tensor *t) { return (const void *)t; }
static td_tensor   *real_of(const td_tensor *t) { return t ? proxy_of(t)->real : NULL; }

static void begin(const char *format, ...)
{
    va_list args;
    char    line[400];
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    td_text_free(&current->line);
    td_text_print(&current->line, "%s", line);
    current->graph->host = &td_graph_host;
}

static void end(void)
{
    cr_assert_lt(current->n_others, CALLS);
    current->others[current->n_others++] = strdup(td_text_get(&current->line));
    current->graph->host = &current->host;
}

static td_tensor *give(td_tensor *real, const char *name)
{
    proxy   *p = &current->at[current->count];
    uint64_t hash = td_random_stream(td_text_get(&current->line));
    cr_assert(current->count++ < CALLS && real);
    *p = (proxy){ .t = *real, .real = real };
    snprintf(p->name, sizeof p->name, "#%06llx", (unsigned long long)(hash >> 40));
    if (name)
        snprintf(p->name, sizeof p->name, "%s", name);
    td_text_print(&current->line, " -> %s ", p->name);
    td_print_dims(&current->line, real->dtype, real->rank, real->dim);
    p->line = strdup(td_text_get(&current->line));
    current->graph->host = &current->host;
    return &p->t;
}

static void say_tensor(const td_tensor *t)
{
    td_text_print(&current->line, " %s", t ? proxy_of(t)->name : "-");
}

static void say_dims(const int64_t *dims, int rank)
{
    td_text_print(&current->line, " [");
    for (int k = 0; k < rank; k++)
        td_text_print(&current->line, "%s%lld", k ? " " : "", (long long)dims[k]);
    td_text_print(&current->line, "]");
}

static void say_attributes(const td_attrs *a)
{
    for (int k = 0; a && k < 16; k++)
        if (a->i[k])
            td_text_print(&current->line, " i%d=%lld", k, (long long)a->i[k]);
    for (int k = 0; a && k < 8; k++)
        if (a->f[k] != 0)
            td_text_print(&current->line, " f%d=%.9g", k, a->f[k]);
}

static td_tensor *emit(td_graph *g, const char *op, td_tensor *const *in, int n, const td_attrs *a)
{
    td_tensor *real[TD_MAX_INPUTS] = { 0 };
    begin("emit %s", op);
    for (int k = 0; k < n; k++)
        say_tensor(in[k]), real[k] = real_of(in[k]);
    say_attributes(a);
    return give(td_graph_host.emit(g, op, real, n, a), NULL);
}

static td_tensor *output(td_tensor *first, int index)
{
    char name[16];
    begin("output %d of", index);
    say_tensor(first);
    snprintf(name, sizeof name, "%.11s.%d", proxy_of(first)->name, index);
    return give(td_graph_host.output(real_of(first), index), name);
}

static td_tensor *param(td_graph *g, const char *name, const int64_t *dims, int rank, td_init init)
{
    begin("param %s of '%s' init %d %g", name, td_graph_host.path(g), init.kind, init.std);
    say_dims(dims, rank);
    return give(td_graph_host.param(g, name, dims, rank, init), NULL);
}

static td_tensor *constant(td_graph *g, int dtype, const int64_t *dims, int rank, const double *x)
{
    int64_t count = 1;
    for (int k = 0; k < rank; k++)
        count *= dims[k];
    begin("constant %s %g .. %g", td_dtype_name(dtype), x[0], x[count - 1]);
    say_dims(dims, rank);
    return give(td_graph_host.constant(g, dtype, dims, rank, x), NULL);
}

static td_tensor *input(td_graph *g, const char *name, int dtype, const int64_t *dims, int rank)
{
    begin("input %s %s", name, td_dtype_name(dtype));
    say_dims(dims, rank);
    return give(td_graph_host.input(g, name, dtype, dims, rank), NULL);
}

static td_tensor *state(td_graph *g, const char *name, const int64_t *dims, int rank,
                        double initial)
{
    begin("state %s of '%s' %g", name, td_graph_host.path(g), initial);
    say_dims(dims, rank);
    return give(td_graph_host.state(g, name, dims, rank, initial), NULL);
}

static void push(td_graph *g, const char *scope)
{
    begin("push %s on '%s'", scope, td_graph_host.path(g));
    td_graph_host.push(g, scope);
    end();
}

static void push_path(td_graph *g, const char *path, const char *scope)
{
    begin("push_path %s %s on '%s'", path, scope, td_graph_host.path(g));
    td_graph_host.push_path(g, path, scope);
    end();
}

static void pop(td_graph *g)
{
    begin("pop of '%s'", td_graph_host.path(g));
    td_graph_host.pop(g);
    end();
}

static void mark(td_graph *g, int at_begin)
{
    begin("mark %d", at_begin);
    td_graph_host.mark(g, at_begin);
    end();
}

static td_tensor *remember(td_tensor *x, const char *name, int axis, int64_t window, int mode)
{
    begin("remember %s axis %d window %lld mode %d", name, axis, (long long)window, mode);
    say_tensor(x);
    return give(td_graph_host.remember(real_of(x), name, axis, window, mode), NULL);
}

static td_tensor *carry(td_graph *g, const char *name, const int64_t *dims, int rank)
{
    begin("carry %s of '%s'", name, td_graph_host.path(g));
    say_dims(dims, rank);
    return give(td_graph_host.carry(g, name, dims, rank), NULL);
}

static void aux_loss(td_graph *g, const char *name, td_tensor *scalar, double weight)
{
    begin("aux_loss %s %g", name, weight);
    say_tensor(scalar);
    td_graph_host.aux_loss(g, name, real_of(scalar), weight);
    end();
}

/* The rest is the host's own: path, fail, phase, real, seed. */
static td_host recording_host(void)
{
    td_host h = td_graph_host;
    h.emit = emit, h.output = output, h.param = param, h.constant = constant, h.input = input;
    h.state = state, h.push = push, h.push_path = push_path, h.pop = pop, h.mark = mark;
    h.remember = remember, h.carry = carry, h.aux_loss = aux_loss;
    return h;
}

/* ---- what the host computes of it -------------------------------------------------------------- */

static void run_plan(sheet *s)
{
    const td_device *d = &s->m->device;
    td_error         e = { 0 };
    int              real = d->backend->real;
    cr_assert(!td_variables_allocate(s->variables, d, real, &e), "%s", e.text);
    cr_assert(!td_variables_initialise(s->variables, d, real, 5, &e), "%s", e.text);
    s->arena = d->backend->allocate(d->state, td_plan_arena(s->plan) + 64);
    cr_assert(!td_plan_bind(s->plan, s->arena, &e), "%s", e.text);
    cr_assert(!td_plan_set_floats(s->plan, "given", (float[]){ 1, 2, 3, 4, 5, 6 }, 6, &e), "%s",
              e.text);
    cr_assert(!td_plan_run(s->plan, &e), "%s", e.text);
}

/* One number of a result, in which each element has another share. */
static double value_of(sheet *s, const td_tensor *root)
{
    int64_t  n = td_count(root);
    double  *x = calloc((size_t)n, sizeof *x), sum = 0;
    td_error e = { 0 };
    cr_assert(!td_plan_get(s->plan, root, x, n, &e), "%s", e.text);
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * (double)(1 + i % 7);
    free(x);
    return fabs(sum) < 1e-12 ? 0 : sum;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All lines, those of tensors with their values. */
static char *lines_of(sheet *s, recorder *r)
{
    td_tensor *roots[CALLS];
    char      *lines[2 * CALLS];
    td_text    text = { 0 };
    size_t     n = 0;
    for (int k = 0; k < r->count; k++)
        roots[k] = r->at[k].real;
    sheet_plan(s, roots, (size_t)r->count);
    run_plan(s);
    for (int k = 0; k < r->count; k++) {
        char line[900];
        snprintf(line, sizeof line, "%s = %.5e", r->at[k].line, value_of(s, roots[k]));
        lines[n++] = strdup(line), free(r->at[k].line);
    }
    for (int k = 0; k < r->n_others; k++)
        lines[n++] = r->others[k];
    qsort(lines, n, sizeof *lines, by_text);
    for (size_t k = 0; k < n; k++)
        td_text_print(&text, "%s\n", lines[k]), free(lines[k]);
    return text.data;
}

static const td_norm *every_op(machine *m, const char *module)
{
    char             directory[512];
    td_error         e = { 0 };
    const td_plugin *p;
    snprintf(directory, sizeof directory, "%s%s", MODULES, module);
    td_registry_add_path(m->registry, directory);
    p = td_registry_find(m->registry, TD_NORM_KIND, "every-op-1.0", &e);
    cr_assert(p, "%s", e.text);
    return (const void *)p;
}

/* What the module built with the headers `module` asks, and what comes out; free() it. */
static char *record(const char *module)
{
    machine        m = machine_new("reference", 1);
    sheet          s = sheet_new(&m);
    recorder      *r = calloc(1, sizeof *r);
    const td_norm *p = every_op(&m, module);
    td_error       e = { 0 };
    char          *text;

    current = r, r->graph = s.g;
    r->host = recording_host(), s.g->host = &r->host;
    p->build(NULL, td_input(s.g, "given", TD_REAL, (int64_t[]){ 2, 3 }, 2));
    s.g->host = &td_graph_host;
    cr_assert(!td_graph_error(s.g, &e), "%s", e.text);
    text = lines_of(&s, r);
    sheet_free(&s), machine_free(&m);
    td_text_free(&r->line);
    free(r);
    return text;
}

static void first_difference(const char *a, const char *b, char line[400])
{
    size_t k = 0, start = 0;
    for (; a[k] && a[k] == b[k]; k++)
        if (a[k] == '\n')
            start = k + 1;
    snprintf(line, 400, "'%.*s', was '%.*s'", (int)strcspn(a + start, "\n"), a + start,
             (int)strcspn(b + start, "\n"), b + start);
}

Test(binary, asks_and_gets_what_it_did)
{
    char       *now = record("abi-1.0"), *then = td_file_read(RECORD, NULL, NULL), line[400] = "";
    const char *update = getenv("TANDEM_UPDATE");
    td_error    e = { 0 };
    if (update && !strcmp(update, "anew"))
        cr_assert(!td_file_write(RECORD, now, strlen(now), &e), "%s", e.text);
    else {
        cr_assert(then, "there is no " RECORD ": run tools/freeze-abi");
        first_difference(now, then, line);
        cr_assert_str_eq(now, then,
                         "%s\nA module of ABI 1.0 no longer gets what it did: see "
                         "docs/plugin-abi.md",
                         line);
    }
    free(now), free(then);
}

/* The same source, built with today's headers, asks the same: sources go on compiling, and mean
 * the same. */
Test(binary, so_does_its_source_with_todays_headers)
{
    char *now = record("core"), *then = record("abi-1.0"), line[400];
    first_difference(now, then, line);
    cr_assert_str_eq(now, then, "%s", line);
    free(now), free(then);
}

/* Of the ops that there were when abi-1.txt was frozen, none is left out. */
Test(binary, emits_every_op)
{
    char *text = record("abi-1.0"),
         *frozen = td_file_read(TANDEM_SOURCE "/tests/plugin/abi-1.txt", NULL, NULL);
    bool    draft = frozen && strstr(frozen, "state abi draft");
    machine m = machine_new("reference", 1);
    int     ops = 0;
    for (size_t i = 0; i < td_registry_count(m.registry); i++) {
        const td_plugin *p = td_registry_plugin(m.registry, i);
        char             line[80];
        if (strcmp(p->kind, TD_OP_KIND) != 0 || td_registry_module(m.registry, p)->path)
            continue;
        snprintf(line, sizeof line, "\nemit %s ", p->name);
        ops += strstr(text, line) != NULL;
        cr_expect(!draft || strstr(text, line),
                  "tests/fixtures/abi-1.0/every-op.c does not emit '%s': let it, and run "
                  "tools/freeze-abi",
                  p->name);
    }
    cr_expect_geq(ops, 59, "%d ops", ops);
    machine_free(&m);
    free(text), free(frozen);
}

/* ---- training with it -------------------------------------------------------------------------- */

static const char config[] =
    "model = { plugin = \"decoder-only\"; vocab_size = 263; d_model = 24; layers = 2;\n"
    "  attention = { plugin = \"of-1.0\"; heads = 3; head_dim = 8; scale = 0.5; flavour = "
    "\"salted\"; note = \"a note\";\n"
    "    whole = [ 3, 9 ]; shares = [ 0.25 ]; tags = [ \"a\", \"b\" ]; norms = ( \"rms\", { plugin "
    "= \"layer\"; eps = 1e-3; } );\n"
    "    rules = ( { of = \"x\"; }, { of = \"y\"; at_least = 4; } ); };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; }; ffn = { plugin = "
    "\"swiglu\"; d_ff = 40; }; };\n"
    "loss = { plugin = \"causal-lm\"; };\n"
    "optimizer = { plugin = \"of-1.0\"; beta = 0.8; };\n"
    "schedule = { plugin = \"of-1.0\"; peak = 0.02; half = 20; };\n"
    "tokenizer = { plugin = \"bytes\"; };\n"
    "data = { plugin = \"text\"; sources = ( { name = \"facts\"; files = ( \"" TANDEM_SOURCE
    "/data/corpus/facts.train.jsonl\" ); held_out = ( \"" TANDEM_SOURCE
    "/data/corpus/facts.valid.jsonl\" ); } ); };\n"
    "train = { steps = 30; length = 64; batch = 4; micro_batch = 2; dropout = 0.1; log_every = 1; "
    "};\n"
    "evaluate = { sequences = 2; };\n"
    "run = { loggers = ( \"jsonl\" ); };\n";

static double loss_of(const json_t *line)
{
    return json_number_value(json_object_get(line, "train/loss"));
}

/* The losses of all steps, as text; `first` and `last` of them. */
static char *losses(const char *path, double *first, double *last)
{
    char   *text = td_file_read(path, NULL, NULL);
    td_text out = { 0 };
    int     n = 0;
    cr_assert(text, "%s", path);
    for (char *p = strtok(text, "\n"); p; p = strtok(NULL, "\n")) {
        json_t *line = json_loads(p, 0, NULL);
        if (json_object_get(line, "train/loss")) {
            *last = loss_of(line), *first = n++ ? *first : *last;
            td_text_print(&out, "%.17g\n", *last);
        }
        json_decref(line);
    }
    cr_assert_eq(n, 30, "%d steps", n);
    free(text);
    return out.data;
}

static char *train_with(const char *directory, const char *module, double *first, double *last)
{
    char  command[1600], path[300];
    child c;
    snprintf(command, sizeof command,
             "cd %s && '%s' train -c abi.cfg --plugin-path '%s%s' run.name=%s --quiet", directory,
             TANDEM_BINARY, MODULES, module, module);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert_eq(c.code, 0, "%s: %d: %s", module, c.code, c.err);
    child_free(&c);
    snprintf(path, sizeof path, "%s/runs/%s/metrics.jsonl", directory, module);
    return losses(path, first, last);
}

Test(binary, trains)
{
    char     directory[] = "/tmp/tandem-abi-XXXXXX", path[64], *then, *now;
    double   first = 0, last = 0;
    td_error e = { 0 };
    cr_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/abi.cfg", directory);
    cr_assert(!td_file_write(path, config, sizeof config - 1, &e), "%s", e.text);
    then = train_with(directory, "abi-1.0", &first, &last);
    cr_expect(last < 0.8 * first, "it learns: %g, %g", first, last);
    now = train_with(directory, "core", &first, &last);
    cr_expect_str_eq(now, then, "built with today's headers it computes something else");
    cr_assert(!td_remove_tree(directory, NULL));
    free(then), free(now);
}

Test(binary, is_listed_and_well)
{
    child c = child_run((const char *[]){ TANDEM_BINARY, "plugins", "list", "--plugin-path",
                                          MODULES "abi-1.0", NULL });
    cr_expect(!c.code && strstr(c.out, "an attention of ABI 1.0") &&
                  strstr(c.out, "an optimiser of ABI 1.0") &&
                  strstr(c.out, "a schedule of ABI 1.0"),
              "%s%s", c.out, c.err);
    cr_expect_null(strstr(c.err, "refused"), "%s", c.err);
    child_free(&c);
    c = child_run((const char *[]){ TANDEM_BINARY, "plugins", "show", "attention", "of-1.0",
                                    "--plugin-path", MODULES "abi-1.0", NULL });
    cr_expect(!c.code && strstr(c.out, "\"plain\" | \"salted\", default \"plain\"") &&
                  strstr(c.out, "int 0 .. 9, default 3"),
              "%s%s", c.out, c.err);
    child_free(&c);
}
