/* optimizer.c - requirements on every optimizer: descend a convex function, survive saving and
 * restoring, obey rate, clip, gate and decay, and give the same bits on any number of threads.
 *
 * What depends on several parameters is in optimizer_parts.c. */
#include "check/cases.h"
#include "check/optimizer_lab.h"
#include "model/checkpoint.h"

/* ---- a few parameters ------------------------------------------------------------------------ */

/* Names matter: optimizers may treat embeddings, norms and matrices differently. So do shapes:
 * square, long, one row, one element, rank 3. */
static const struct {
    const char *name;
    int         rank;
    int64_t     dim[3];
} shapes[] = {
    { "model.embed_tokens.weight", 2, { 11, 3 } },
    { "model.layers.0.mlp.up_proj.weight", 2, { 3, 7 } },
    { "model.layers.0.mlp.down_proj.weight", 2, { 7, 3 } },
    { "model.layers.0.self_attn.q_proj.weight", 2, { 5, 5 } },
    { "model.layers.0.row.weight", 2, { 1, 13 } },
    { "model.layers.0.scalar", 1, { 1 } },
    { "model.layers.0.cube", 3, { 2, 3, 5 } },
    { "model.norm.weight", 1, { 5 } },
};
enum { SHAPES = sizeof shapes / sizeof *shapes, LARGEST = 64 };

/* The update of these parameters, planned and bound. */
typedef struct lab {
    td_check     *check;
    td_device     device;
    td_model      model;
    td_variables *variables;
    td_update     update;
    td_plan      *plan;
    void         *memory;
} lab;

/* The parameter of the k-th shape. */
static td_variable *parameter(lab *l, int k)
{
    return td_variables_find(l->variables, shapes[k].name);
}

/* Its gradient has the name that the model's update looks for. */
static td_variable *gradient(lab *l, int k)
{
    char name[128];
    snprintf(name, sizeof name, "%s.grad", shapes[k].name);
    return td_variables_find(l->variables, name);
}

/* The initial value of entry n of parameter k, in [-1, 1). */
static double initial(int k, int64_t n)
{
    return td_random_uniform(7, (uint64_t)k, (uint64_t)n) * 2 - 1;
}

/* Write and read a variable in float, whatever the device computes in. */
static void set(lab *l, td_variable *v, const float *values)
{
    td_error e = { 0 };
    MUST(l->check, !td_variable_set(v, &l->device, td_device_real(&l->device), values, &e), "%s",
         e.text);
}

static void get(lab *l, const td_variable *v, float *values)
{
    td_error e = { 0 };
    MUST(l->check, !td_variable_get(v, &l->device, td_device_real(&l->device), values, &e), "%s",
         e.text);
}

/* As a model would have declared them: parameters and their gradients. */
static void declare(lab *l)
{
    td_init none = { 0 };
    for (int k = 0; k < SHAPES; k++) {
        char name[128];
        snprintf(name, sizeof name, "%s.grad", shapes[k].name);
        MUST(l->check,
             td_variables_add(l->variables, shapes[k].name, TD_VARIABLE_PARAM, shapes[k].dim,
                              shapes[k].rank, none, 0) &&
                 td_variables_add(l->variables, name, TD_VARIABLE_GRAD, shapes[k].dim,
                                  shapes[k].rank, none, 0),
             "out of memory");
    }
}

/* The start is the same for every optimizer, thread count and precision. */
static void fill(lab *l)
{
    float values[LARGEST];
    /* initial values of our own: those of td_init are 0 for all of these */
    for (int k = 0; k < SHAPES; k++) {
        for (int64_t n = 0; n < parameter(l, k)->count; n++)
            values[n] = (float)initial(k, n);
        set(l, parameter(l, k), values);
    }
}

/* `clip`: largest norm, 0 for none; `rule`: a group that holds every parameter, or NULL. */
static void lab_open_with(lab *l, td_check *c, int real, int threads, double clip,
                          const td_group_rule *rule)
{
    td_error e = { 0 };
    td_part  part = td_check_part(c);
    td_check_vary(c, &part);
    td_check_change(c, &part);
    /* only the fields that td_model_update reads are set */
    *l = (lab){ .check = c,
                .device = td_check_device(c, real, threads),
                .variables = td_variables_new() };
    l->model = (td_model){ .registry = c->registry,
                           .real = td_device_real(&l->device),
                           .optimizer = part,
                           .clip = clip,
                           .guard = true,
                           .groups = rule,
                           .n_groups = rule != NULL };
    MUST(c, l->variables, "out of memory");
    declare(l);
    MUST(c, !td_model_update(&l->model, l->variables, &l->update, &e), "%s", td_check_error(&e));
    /* the updates themselves are effects and need no root */
    l->plan = td_plan_new(l->update.graph, (td_tensor *[]){ l->update.norm, l->update.gate }, 2,
                          &l->device, &e);
    MUST(c, l->plan, "%s", td_check_error(&e));
    MUST(c,
         !td_variables_allocate(l->variables, &l->device, l->model.real, &e) &&
             !td_variables_initialize(l->variables, &l->device, l->model.real, 1, &e),
         "%s", td_check_error(&e));
    l->memory = l->device.backend->allocate(l->device.state, td_plan_arena(l->plan) + 64);
    MUST(c, l->memory && !td_plan_bind(l->plan, l->memory, &e), "%s", td_check_error(&e));
    fill(l);
}

static void lab_open(lab *l, td_check *c, int real, int threads, double clip)
{
    lab_open_with(l, c, real, threads, clip, NULL);
}

static void lab_close(lab *l)
{
    l->device.backend->release(l->device.state, l->memory, td_plan_arena(l->plan) + 64);
    td_plan_free(l->plan);
    td_graph_free(l->update.graph);
    td_variables_release(l->variables, &l->device);
    td_variables_free(l->variables);
    td_check_close_device(l->check, &l->device);
}

/* One update; the gradients have been set. A gradient whose norm exceeds `limit` closes the gate.
 */
static void update(lab *l, double rate, int64_t step, double limit)
{
    td_error e = { 0 };
    MUST(l->check,
         !td_plan_set_scalar(l->plan, "rate", rate, &e) &&
             !td_plan_set_scalar(l->plan, "step", (double)step, &e) &&
             !td_plan_set_scalar(l->plan, "norm_limit", limit, &e) && !td_plan_run(l->plan, &e),
         "%s", td_check_error(&e));
}

/* ---- a convex function ----------------------------------------------------------------------- */

/* f(x) = sum_n h_n (x_n - a_n)^2 / 2, h between 0.5 and 1.5. Sets the gradients to `scale` times
 * those of f and returns f. */
static double bowl(lab *l, double scale)
{
    double total = 0;
    float  x[LARGEST], g[LARGEST];
    for (int k = 0; k < SHAPES; k++) {
        get(l, parameter(l, k), x);
        for (int64_t n = 0; n < parameter(l, k)->count; n++) {
            double h = 0.5 + td_random_uniform(5, (uint64_t)k, (uint64_t)n);
            /* a: 0.3 to 1.3 times the start, so that nothing must pass 0, where the steps of
             * Adafactor, which are relative to the parameter, get small */
            double d = (double)x[n] -
                       initial(k, n) * (0.3 + td_random_uniform(9, (uint64_t)k, (uint64_t)n));
            total += h * d * d / 2;
            g[n] = (float)(scale * h * d);
        }
        set(l, gradient(l, k), g);
    }
    return total;
}

/* f after `steps` updates, divided by f before, with a rate that falls to 0. */
static double descend(td_check *c, double rate, int64_t steps)
{
    static const td_group_rule still = { "*", 1, 0, false }; /* no decay: it would pull towards 0 */
    lab                        l;
    double                     first, last;
    lab_open_with(&l, c, TD_F64, 1, 0, &still);
    first = bowl(&l, 1);
    for (int64_t k = 0; k < steps; k++) {
        /* a rate that falls to 0 lets optimizers settle whose steps have a fixed length (Lion) */
        bowl(&l, 1);
        update(&l, rate * (double)(steps - k) / (double)steps, k + 1, INFINITY);
    }
    last = bowl(&l, 1);
    lab_close(&l);
    return last / first;
}

void td_check_converges(td_check *c)
{
    /* the right rate depends on the optimizer; likely ones come first, as one success is enough */
    static const double rates[] = { 0.03, 0.1, 0.3, 0.01, 1, 0.003 };
    double              best = INFINITY;
    for (size_t k = 0; k < sizeof rates / sizeof *rates && !(best <= 0.01); k++)
        best = fmin(best, descend(c, rates[k], 400));
    if (!(best <= 0.01))
        td_check_finding(c,
                         "after 400 updates a convex function is still %.3g of its initial value, "
                         "at the best of several rates; expected 0.01 or less",
                         best);
}

/* ---- states ---------------------------------------------------------------------------------- */

/* A hash of everything that an update leaves behind: parameters and states, but not gradients. */
static uint64_t hash_of(lab *l)
{
    uint64_t h = td_random_stream("");
    for (size_t i = 0; i < td_variables_count(l->variables); i++) {
        const td_variable *v = td_variables_at(l->variables, i);
        if (v->kind != TD_VARIABLE_GRAD)
            h = td_check_hash(l->check, &l->device, v, h);
    }
    return h;
}

/* 9 updates must equal 4, a checkpoint, and 5 in a new lab, as in another process. */
void td_check_restored(td_check *c)
{
    const char *directory = td_check_directory(c), *path;
    td_error    e = { 0 };
    td_progress p = { .step = 4 }, q;
    lab         whole, first, second;
    uint64_t    want;

    /* in float, as a run would: rounding must be restored as well */
    lab_open(&whole, c, TD_F32, 1, 1);
    steps(&whole, 0, 9);
    want = hash_of(&whole);
    lab_open(&first, c, TD_F32, 1, 1);
    steps(&first, 0, 4);
    /* a real checkpoint, which contains only the state that came from td_moment */
    MUST(c, !td_checkpoint_save(directory, first.variables, &first.device, &p, "{}", &e), "%s",
         td_check_error(&e));
    path = td_arena_print(c->arena, "%s/step-%08d", directory, 4);
    lab_open(&second, c, TD_F32, 1, 1);
    MUST(c, path && !td_checkpoint_load(path, second.variables, &second.device, &q, &e), "%s",
         td_check_error(&e));
    steps(&second, 4, 9);
    if (hash_of(&second) != want)
        td_check_finding(
            c,
            "the bits after 4 updates, a checkpoint and 5 more differ from those after 9 updates: "
            "is all state a td_moment?");
    lab_close(&whole);
    lab_close(&first);
    lab_close(&second);
    td_remove_tree(directory, NULL);
}

void td_check_print_updates(td_check *c, td_text *out)
{
    lab l;
    lab_open(&l, c, TD_F64, 1, 0);
    steps(&l, 0, 6);
    td_text_print(out, "%016llx\n", (unsigned long long)hash_of(&l));
    lab_close(&l);
}

/* A NaN in a gradient makes the guard close the gate: nothing may change then. */
void td_check_gate(td_check *c)
{
    lab      l;
    float    nan[LARGEST];
    uint64_t before;
    lab_open(&l, c, TD_F32, 1, 1);
    steps(&l, 0, 3); /* moments that are 0 would stay 0 anyway */
    before = hash_of(&l);
    for (int n = 0; n < LARGEST; n++)
        nan[n] = NAN;
    set(&l, gradient(&l, 1), nan);
    update(&l, 0.02, 4, INFINITY);
    if (hash_of(&l) != before)
        td_check_finding(
            c, "with the gate at 0 (a gradient contains NaN) an update changes parameters "
               "or moments: assign moments with td_assign(m, next, in->gate)");
    lab_close(&l);
}

/* All parameters, one after the other. */
static void values_of(lab *l, float *out)
{
    for (int k = 0; k < SHAPES; k++) {
        get(l, parameter(l, k), out);
        out += parameter(l, k)->count;
    }
}

/* The norm of all gradients together. */
static double norm_of(lab *l)
{
    double total = 0;
    float  g[LARGEST];
    for (int k = 0; k < SHAPES; k++) {
        get(l, gradient(l, k), g);
        for (int64_t n = 0; n < gradient(l, k)->count; n++)
            total += (double)g[n] * (double)g[n];
    }
    return sqrt(total);
}

/* A gradient that is clipped to a norm must have the same effect as one that has this norm to begin
 * with. */
void td_check_clip(td_check *c)
{
    const double limit = 0.125;
    lab          clipped, scaled;
    float        a[SHAPES * LARGEST] = { 0 }, b[SHAPES * LARGEST] = { 0 };
    /* one lab clips; the other gets gradients that are scaled beforehand */
    lab_open(&clipped, c, TD_F64, 1, limit);
    lab_open(&scaled, c, TD_F64, 1, 0);
    /* three updates: an optimizer that forgets clip in one of its moments may hide it in the
     * first */
    for (int64_t k = 0; k < 3; k++) {
        bowl(&clipped, 4);
        bowl(&scaled, 4);
        bowl(&scaled, 4 * limit / norm_of(&scaled));
        update(&clipped, 0.02, k + 1, INFINITY);
        update(&scaled, 0.02, k + 1, INFINITY);
    }
    values_of(&clipped, a);
    values_of(&scaled, b);
    for (int n = 0; n < SHAPES * LARGEST; n++)
        if (!td_check_near((double)a[n], (double)b[n], 1e-4)) {
            td_check_finding(c,
                             "with clipped gradients a parameter becomes %.7g, but with gradients "
                             "of that norm %.7g: "
                             "multiply the gradient by in->clip",
                             (double)a[n], (double)b[n]);
            break;
        }
    lab_close(&clipped);
    lab_close(&scaled);
}

/* Without decay, neither a gradient of 0 nor a rate of 0 may move anything. */
void td_check_still(td_check *c)
{
    lab   l;
    float zero[LARGEST] = { 0 }, a[SHAPES * LARGEST] = { 0 }, b[SHAPES * LARGEST] = { 0 };
    static const td_group_rule still = { "*", 1, 0, false };
    /* with decay turned off by the group's rule, as a user would turn it off */
    lab_open_with(&l, c, TD_F64, 1, 1, &still);
    values_of(&l, a);
    for (int64_t k = 0; k < 2; k++) {
        for (int i = 0; i < SHAPES; i++)
            set(&l, gradient(&l, i), zero);
        update(&l, 0.02, k + 1, INFINITY);
    }
    values_of(&l, b);
    if (memcmp(a, b, sizeof a))
        td_check_finding(c, "without a gradient and without decay (decay_scale 0) parameters move: "
                            "multiply the decay by in->decay_scale");
    for (int64_t k = 2; k < 4; k++) {
        bowl(&l, 1);
        update(&l, 0, k + 1, INFINITY);
    }
    values_of(&l, a);
    if (memcmp(a, b, sizeof a))
        td_check_finding(c, "at a rate of 0 and without decay (decay_scale 0) parameters move: "
                            "multiply the change by in->rate");
    lab_close(&l);
}

void td_check_update_threads(td_check *c)
{
    uint64_t hash[3]; /* on 1 thread, on 1 again, on 2 */
    for (int k = 0; k < 3; k++) {
        lab l;
        lab_open(&l, c, TD_F32, k ? k : 1, 1);
        steps(&l, 0, 5);
        hash[k] = hash_of(&l);
        lab_close(&l);
    }
    if (hash[0] != hash[1])
        td_check_finding(c, "the bits differ between two identical runs of 5 updates");
    else if (hash[0] != hash[2])
        td_check_finding(c, "the bits on 2 threads differ from those on 1");
}

/* ---- float against double, leaks ------------------------------------------------------------- */

void td_check_update_shapes(td_check *c)
{
    lab   wide, narrow;
    float a[SHAPES * LARGEST] = { 0 }, b[SHAPES * LARGEST] = { 0 };
    /* float on 2 threads: odd shapes meet pieces here */
    lab_open(&wide, c, TD_F64, 1, 1);
    lab_open(&narrow, c, TD_F32, 2, 1);
    /* few steps: rounding errors of both precisions grow with each */
    steps(&wide, 0, 3);
    steps(&narrow, 0, 3);
    values_of(&wide, a);
    values_of(&narrow, b);
    /* wide enough for Adam's quotient, which amplifies rounding where a moment is near 0 */
    for (int n = 0; n < SHAPES * LARGEST; n++)
        if (!isfinite(a[n]) || !td_check_near((double)b[n], (double)a[n], 5e-3)) {
            td_check_finding(c, "after 3 updates a parameter is %.7g in float, but %.7g in double",
                             (double)b[n], (double)a[n]);
            break;
        }
    lab_close(&wide);
    lab_close(&narrow);
}

/* Build the graph of the update and drop it. */
static void build_update(td_check *c, void *argument)
{
    lab      *l = argument;
    td_update u;
    td_error  e = { 0 };
    MUST(c, !td_model_update(&l->model, l->variables, &u, &e), "%s", td_check_error(&e));
    td_graph_free(u.graph);
}

void td_check_update_leak(td_check *c)
{
    lab l;
    lab_open(&l, c, TD_F64, 1, 1);
    td_check_leak(c, "building the update", build_update, &l);
    lab_close(&l);
}
