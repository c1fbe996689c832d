/* shard.c - shards parameters and optimizer states across processes. */
#include "model/shard.h"

#include <stdlib.h>

static bool is_shared_out(const td_model *m) { return m->shard.size > 1; }

bool td_shard_parameters(const td_model *m) { return is_shared_out(m) && m->shard.parameters; }

bool td_shard_has(const td_model *m, const td_variable *x)
{
    return !is_shared_out(m) || x->owner == m->shard.rank;
}

/* ---- states ---------------------------------------------------------------------------------- */

/* Another rank may have the state that this update reads. */
static int refuse_coupled(const td_model *m, const td_variable *p, const td_variable *x,
                          td_error *error)
{
    return td_fail(error, TD_ECONFIG,
                   "train.shard = \"%s\": optimizer '%s' cannot be sharded across processes, "
                   "because its update of '%s' also depends on '%s': set train.shard = "
                   "\"none\"",
                   m->shard.parameters ? "parameters" : "optimizer", m->optimizer.plugin->name,
                   p->name, x->name);
}

/* Claims the states of an update for its parameter. */
static int claim(const td_model *m, const td_graph *g, const td_variable *p,
                 const td_variable *grad, td_error *error)
{
    int32_t at = 0;
    for (td_variable *x; (x = td_graph_next_variable(g, &at));) {
        if (x->kind == TD_VARIABLE_STATE && !x->of)
            x->of = p;
        if (x != p && x != grad && x->of != p)
            return refuse_coupled(m, p, x, error);
    }
    return 0;
}

/* A graph of one update alone shows which variables it reads. It is never planned. */
static int declare_states(const td_model *m, td_variables *v, td_variable *p, td_variable *grad,
                          td_error *error)
{
    td_graph_options options = { .phase = TD_PHASE_TRAIN, .real = m->real };
    td_graph        *g = td_graph_new(m->registry, v, &options);
    int              code;
    if (!g)
        return td_fail(error, TD_ENOMEM, "out of memory while building the update");
    td_model_update_one(m, p, grad,
                        &(td_optimizer_in){ .graph = g,
                                            .rate = td_input(g, "rate", TD_REAL, 0, 0),
                                            .step = td_input(g, "step", TD_REAL, 0, 0),
                                            .clip = td_input(g, "clip", TD_REAL, 0, 0),
                                            .gate = td_input(g, "gate", TD_REAL, 0, 0) });
    code = td_graph_error(g, error);
    if (!code)
        code = claim(m, g, p, grad, error);
    td_graph_free(g);
    return code;
}

static size_t bytes_of(const td_model *m, const td_variable *x)
{
    return (size_t)x->count * td_dtype_size(x->dtype ? x->dtype : m->real);
}

/* ---- owners ---------------------------------------------------------------------------------- */

typedef struct load {
    td_variable *parameter, *gradient;
    size_t       bytes; /* of its states */
} load;

/* The largest first; of equal ones the first declared, so that all ranks have the same order. */
static int by_bytes(const void *a, const void *b)
{
    const load *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->parameter->index > y->parameter->index ? 1 : -1;
}

/* To the rank with the least so far, which leaves the ranks at most one parameter apart. The work of
 * parameters without states (SGD) counts, too. */
static void assign_owners(load *loads, size_t n, size_t *total, int size)
{
    qsort(loads, n, sizeof *loads, by_bytes);
    for (size_t k = 0; k < n; k++) {
        int least = 0;
        for (int r = 1; r < size; r++)
            if (total[r] < total[least])
                least = r;
        loads[k].parameter->owner = loads[k].gradient->owner = least;
        total[least] += loads[k].bytes + (size_t)loads[k].parameter->count;
    }
}

static void assign_states(const td_model *m, td_variables *v)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        td_variable *x = td_variables_at(v, i);
        bool         state = x->kind == TD_VARIABLE_STATE;
        if (state && x->of)
            x->owner = x->of->owner;
        x->absent = x->owner >= 0 && x->owner != m->shard.rank && (state || m->shard.parameters);
    }
}

/* Of states that belong to `p`; building may just have declared them. */
static size_t bytes_of_states(const td_model *m, const td_variables *v, const td_variable *p)
{
    size_t bytes = 0;
    for (size_t i = 0; i < td_variables_count(v); i++)
        if (td_variables_at(v, i)->of == p)
            bytes += bytes_of(m, td_variables_at(v, i));
    return bytes;
}

/* Returns the number of loads, or a negative code. */
static int64_t list_loads(const td_model *m, td_variables *v, load *loads, td_error *error)
{
    /* counted before: states are declared in this loop */
    size_t  count = td_variables_count(v);
    int64_t n = 0;
    for (size_t i = 0; i < count; i++) {
        td_variable *p = td_variables_at(v, i);
        td_variable *grad = p->kind == TD_VARIABLE_PARAM ? td_model_gradient(v, p->name) : NULL;
        int          code = grad ? declare_states(m, v, p, grad, error) : 0;
        if (code)
            return code;
        if (grad)
            loads[n++] = (load){ p, grad, bytes_of_states(m, v, p) };
    }
    return n;
}

int td_shard_assign(const td_model *m, td_variables *v, td_error *error)
{
    load   *loads;
    size_t *total;
    int64_t n;
    if (!is_shared_out(m))
        return 0;
    loads = calloc(td_variables_count(v) + 1, sizeof *loads);
    total = calloc((size_t)m->shard.size, sizeof *total);
    n = loads && total ? list_loads(m, v, loads, error)
                       : td_fail(error, TD_ENOMEM, "out of memory for the owners of parameters");
    if (n >= 0) {
        assign_owners(loads, (size_t)n, total, m->shard.size);
        assign_states(m, v);
    }
    free(loads);
    free(total);
    return n < 0 ? (int)n : 0;
}

size_t td_shard_most(const td_model *m, const td_variables *v, int kind)
{
    size_t most = 0;
    for (int r = 0; r < m->shard.size; r++) {
        size_t bytes = 0;
        for (size_t i = 0; i < td_variables_count(v); i++) {
            const td_variable *x = td_variables_at(v, i);
            if (x->kind == kind && (x->owner < 0 || x->owner == r))
                bytes += bytes_of(m, x);
        }
        most = bytes > most ? bytes : most;
    }
    return most;
}
