/* optimizer_parts.c - requirements on optimizers that concern several parameters, or several moments:
 * updates can be sharded across processes, and moments do not share a name. */
#include "check/cases.h"
#include "check/optimizer_lab.h"

/* ---- sharded across processes ---------------------------------------------------------------- */

enum { SHARDS = 3 };

/* Whether the host refuses to shard the updates, because they depend on each other. */
static bool is_coupled(td_check *c)
{
    lab       l;
    td_update u;
    td_error  e = { 0 };
    bool      coupled;
    lab_begin(&l, c, TD_F32, 1, 1);
    l.model.shard = (td_shard){ .size = SHARDS };
    coupled = td_model_update(&l.model, l.variables, &u, &e) == TD_ECONFIG;
    td_graph_free(u.graph);
    td_variables_free(l.variables);
    td_check_close_device(c, &l.device);
    return coupled;
}

/* Sets the elements of `all` for the gradients of this part. */
static void square(lab *l, double *all)
{
    td_squares s;
    td_error   e = { 0 };
    td_plan   *plan = NULL;
    void      *memory;
    if (!td_model_squares(&l->model, l->variables, &s, &e))
        plan = td_plan_new(s.graph, s.at, s.count, &l->device, &e);
    MUST(l->check, plan, "%s", td_check_error(&e));
    memory = l->device.backend->allocate(l->device.state, td_plan_arena(plan) + 64);
    MUST(l->check, memory && !td_plan_bind(plan, memory, &e) && !td_plan_run(plan, &e), "%s",
         td_check_error(&e));
    for (size_t k = 0; k < s.count; k++)
        all[s.index[k]] = td_plan_get_scalar(plan, s.at[k]);
    l->device.backend->release(l->device.state, memory, td_plan_arena(plan) + 64);
    td_plan_free(plan);
    td_squares_free(&s);
}

/* The k-th update of all parts, each of which has all gradients, but squares only those whose sum
 * it would have. */
static void step_together(lab *parts, int64_t k)
{
    double   squares[SHAPES];
    td_error e = { 0 };
    for (int r = 0; r < SHARDS; r++) {
        bowl(&parts[r], 1);
        square(&parts[r], squares);
    }
    for (int r = 0; r < SHARDS; r++) {
        MUST(parts[r].check, !td_plan_set_doubles(parts[r].plan, "squares", squares, SHAPES, &e),
             "%s", td_check_error(&e));
        update(&parts[r], 0.02, k + 1, INFINITY);
    }
}

/* Every lab gets each parameter from the one that updates it. */
static void exchange(lab *parts)
{
    float values[LARGEST];
    for (int k = 0; k < SHAPES; k++) {
        lab *owner = &parts[parameter(parts, k)->owner];
        get(owner, parameter(owner, k), values);
        for (int r = 0; r < SHARDS; r++)
            set(&parts[r], parameter(&parts[r], k), values);
    }
}

/* Parameters and states, each where its owner has it, against those of one process. */
static void compare_parts(td_check *c, lab *whole, lab *parts)
{
    for (size_t i = 0; i < td_variables_count(whole->variables); i++) {
        const td_variable *v = td_variables_at(whole->variables, i), *x;
        int32_t            owner;
        if (v->kind == TD_VARIABLE_GRAD)
            continue;
        x = td_variables_find(parts[0].variables, v->name);
        owner = x ? x->owner : -1;
        MUST(c, owner >= 0 && owner < SHARDS, "'%s' has no owner", v->name);
        x = td_variables_find(parts[owner].variables, v->name);
        if (td_check_hash(c, &whole->device, v, 0) == td_check_hash(c, &parts[owner].device, x, 0))
            continue;
        td_check_finding(c,
                         "sharded across %d processes, '%s' has different bits than in one: is the "
                         "update of a parameter independent of what was built before it?",
                         SHARDS, v->name);
        return;
    }
}

void td_check_shared_update(td_check *c)
{
    lab whole, parts[SHARDS];
    if (is_coupled(c))
        td_check_skip(c, "its updates depend on each other, so the host does not shard them");
    lab_open(&whole, c, TD_F32, 1, 0.5);
    steps(&whole, 0, 4);
    for (int r = 0; r < SHARDS; r++) {
        lab_begin(&parts[r], c, TD_F32, 1, 0.5);
        parts[r].model.shard = (td_shard){ .rank = r, .size = SHARDS };
        lab_finish(&parts[r]);
    }
    /* as in training: every step reads parameters that other ranks updated in the last */
    for (int64_t k = 0; k < 4; k++) {
        step_together(parts, k);
        exchange(parts);
    }
    compare_parts(c, &whole, parts);
    lab_close(&whole);
    for (int r = 0; r < SHARDS; r++)
        lab_close(&parts[r]);
}

/* ---- names of moments ------------------------------------------------------------------------ */

/* An optimizer that calls the one under test, with a host that notes the names of moments. */
typedef struct spy {
    td_optimizer        plugin;
    const td_optimizer *real;
    const void         *config;
    td_check           *check;
    td_host             host;
    const td_host      *usual;
    const char         *names[16]; /* of the moments of one parameter */
    int                 n;
} spy;

static td_tensor *note_moment(td_graph *g, const char *name, const int64_t *dims, int rank,
                              double initial)
{
    spy *s = (spy *)(uintptr_t)((const char *)g->host - offsetof(spy, host));
    for (int k = 0; k < s->n; k++)
        if (!strcmp(s->names[k], name))
            td_check_finding(s->check,
                             "it has two moments '%s' for one parameter: they are the same state, "
                             "and each overwrites the other",
                             name);
    if (s->n < 16)
        s->names[s->n++] = td_arena_copy(s->check->arena, name);
    return s->usual->state(g, name, dims, rank, initial);
}

static td_tensor *build_watched(const void *config, const td_optimizer_in *in)
{
    spy       *s = (spy *)(uintptr_t)config;
    td_tensor *out;
    s->n = 0;
    s->usual = in->graph->host;
    s->host = *s->usual;
    s->host.state = note_moment;
    in->graph->host = &s->host;
    out = s->real->build(s->config, in);
    in->graph->host = s->usual;
    return out;
}

void td_check_moments(td_check *c)
{
    td_part  part = td_check_part(c);
    spy      s = { .real = (const void *)part.plugin, .config = part.config, .check = c };
    lab      l = { .check = c, .variables = td_variables_new() };
    td_error e = { 0 };
    MUST(c, l.variables, "out of memory");
    /* a copy, whose `build` watches the moments that the real one asks for */
    s.plugin = *s.real;
    s.plugin.build = build_watched;
    l.model = (td_model){ .registry = c->registry,
                          .real = TD_F64,
                          .optimizer = { &s.plugin.plugin, &s },
                          .guard = true };
    declare(&l);
    MUST(c, !td_model_update(&l.model, l.variables, &l.update, &e), "%s", td_check_error(&e));
    td_graph_free(l.update.graph);
    td_variables_free(l.variables);
}
