/* optimizer_lab.h - the update of a few parameters of many shapes, without a model: the same graph as
 * in training. For the checks of optimizers. */
#ifndef TD_CHECK_OPTIMIZER_LAB_H
#define TD_CHECK_OPTIMIZER_LAB_H

#include "check/internal.h"
#include "model/model.h"
#include "tandem/kind/optimizer.h"
#include "tandem/random.h"

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
static inline td_variable *parameter(lab *l, int k)
{
    return td_variables_find(l->variables, shapes[k].name);
}

/* Its gradient has the name that the model's update looks for. */
static inline td_variable *gradient(lab *l, int k)
{
    char name[128];
    snprintf(name, sizeof name, "%s.grad", shapes[k].name);
    return td_variables_find(l->variables, name);
}

/* The initial value of entry n of parameter k, in [-1, 1). */
static inline double initial(int k, int64_t n)
{
    return td_random_uniform(7, (uint64_t)k, (uint64_t)n) * 2 - 1;
}

/* Write and read a variable in float, whatever the device computes in. */
static inline void set(lab *l, td_variable *v, const float *values)
{
    td_error e = { 0 };
    MUST(l->check, !td_variable_set(v, &l->device, td_device_real(&l->device), values, &e), "%s",
         e.text);
}

static inline void get(lab *l, const td_variable *v, float *values)
{
    td_error e = { 0 };
    MUST(l->check, !td_variable_get(v, &l->device, td_device_real(&l->device), values, &e), "%s",
         e.text);
}

/* As a model would have declared them: parameters and their gradients. */
static inline void declare(lab *l)
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
static inline void fill(lab *l)
{
    float values[LARGEST];
    /* initial values of our own, since td_init gives 0 for all of these */
    for (int k = 0; k < SHAPES; k++) {
        for (int64_t n = 0; n < parameter(l, k)->count; n++)
            values[n] = (float)initial(k, n);
        set(l, parameter(l, k), values);
    }
}

/* The parameters with their gradients and the model that updates them, before anything is built.
 * `clip`: largest norm, 0 for none. */
static inline void lab_begin(lab *l, td_check *c, int real, int threads, double clip)
{
    td_part part = td_check_part(c);
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
                           .guard = true };
    MUST(c, l->variables, "out of memory");
    declare(l);
}

/* The rest: build, plan, allocate. */
static inline void lab_finish(lab *l)
{
    td_check *c = l->check;
    td_error  e = { 0 };
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

/* `rule`: a group that holds every parameter, or NULL. */
static inline void lab_open_with(lab *l, td_check *c, int real, int threads, double clip,
                                 const td_group_rule *rule)
{
    lab_begin(l, c, real, threads, clip);
    l->model.groups = rule;
    l->model.n_groups = rule != NULL;
    lab_finish(l);
}

static inline void lab_open(lab *l, td_check *c, int real, int threads, double clip)
{
    lab_open_with(l, c, real, threads, clip, NULL);
}

static inline void lab_close(lab *l)
{
    l->device.backend->release(l->device.state, l->memory, td_plan_arena(l->plan) + 64);
    td_plan_free(l->plan);
    td_graph_free(l->update.graph);
    td_variables_release(l->variables, &l->device);
    td_variables_free(l->variables);
    td_check_close_device(l->check, &l->device);
}

/* One update; the gradients have been set. A gradient whose norm exceeds `limit` shuts the gate. */
static inline void update(lab *l, double rate, int64_t step, double limit)
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
 * the gradients of f, and returns f. */
static inline double bowl(lab *l, double scale)
{
    double total = 0;
    float  x[LARGEST], g[LARGEST];
    for (int k = 0; k < SHAPES; k++) {
        get(l, parameter(l, k), x);
        for (int64_t n = 0; n < parameter(l, k)->count; n++) {
            double h = 0.5 + td_random_uniform(5, (uint64_t)k, (uint64_t)n);
            /* a: 0.3 to 1.3 times the start, so that no parameter has to cross 0: Adafactor's steps
             * are relative to the parameter, and get small there */
            double d = (double)x[n] -
                       initial(k, n) * (0.3 + td_random_uniform(9, (uint64_t)k, (uint64_t)n));
            total += h * d * d / 2;
            g[n] = (float)(scale * h * d);
        }
        set(l, gradient(l, k), g);
    }
    return total;
}

/* Updates [from, to). */
static inline void steps(lab *l, int64_t from, int64_t to)
{
    for (int64_t k = from; k < to; k++) {
        bowl(l, 1);
        update(l, 0.02, k + 1, INFINITY);
    }
}

#endif
