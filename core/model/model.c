/* model.c - parts to graphs. */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

/* The rule that a parameter follows: the first that matches; n_groups: none. */
static size_t rule_of(const td_model *m, const char *parameter)
{
    size_t k = 0;
    while (k < m->n_groups && !td_match(m->groups[k].match, parameter))
        k++;
    return k;
}

td_group_rule td_model_group(const td_model *m, const char *parameter)
{
    size_t k = rule_of(m, parameter);
    return k < m->n_groups ? m->groups[k] : (td_group_rule){ "*", 1, 1, false };
}

td_variable *td_model_gradient(td_variables *v, const char *parameter)
{
    char name[600];
    snprintf(name, sizeof name, "%s.grad", parameter);
    return td_variables_find(v, name);
}

/* ---- forward --------------------------------------------------------------------------------- */

static td_tensor *flat(td_tensor *x, int keep)
{
    int64_t last = td_dim(x, -1),
            dims[2] = { keep ? td_count(x) / (last ? last : 1) : td_count(x), last };
    return td_reshape(x, dims, keep ? 2 : 1);
}

static td_tensor *logits_of(const td_architecture_out *a)
{
    td_tensor *z = td_scale(td_matmul(flat(a->hidden, 1), td_transpose(a->embedding, 0, 1)),
                            a->logit_scale);
    int64_t    dims[] = { td_dim(a->hidden, 0), td_dim(a->hidden, 1), td_dim(a->embedding, 0) };
    return td_reshape(z, dims, 3);
}

static td_dropout dropout_of(const td_model *m, td_graph *g, const td_batch *batch)
{
    const td_array *labels = td_batch_find(batch, "labels");
    int64_t         rows[] = { labels->dim[0] };
    td_dropout      d = { .rate = m->dropout, .shared = m->dropout_shared };
    if (m->dropout > 0 && td_is_training(g)) {
        d.step = td_input(g, "dropout_step", TD_I32, 0, 0);
        d.example = td_input(g, "dropout_example", TD_I32, rows, 1);
    } else
        d.rate = 0;
    return d;
}

/* Means over a micro-batch weigh by its share of the targets, as the loss itself does. */
static void add_auxiliary(td_graph *g, const td_loss_in *in, td_tensor *loss, td_built *out)
{
    const td_aux *aux = td_graph_aux(g, &out->n_aux);
    td_tensor    *share = out->n_aux ? td_div(td_sum_all(in->weights), in->divisor) : NULL;
    out->loss = loss;
    for (size_t k = 0; k < out->n_aux; k++) {
        out->aux[k] = (td_aux){ aux[k].name, td_mul(aux[k].loss, share) };
        out->loss = td_add(out->loss, out->aux[k].loss);
    }
}

int td_model_forward(const td_model *m, td_variables *variables, int phase, const td_batch *batch,
                     bool logits, td_built *out, td_error *error)
{
    const td_architecture *architecture = (const void *)m->architecture.plugin;
    const td_loss         *loss = (const void *)m->loss.plugin;
    td_graph_options       options = {
              .phase = phase, .real = m->real, .dropout_seed = m->dropout_seed, .recompute = m->recompute
    };
    td_graph           *g = td_graph_new(m->registry, variables, &options);
    td_architecture_out a = { 0 };
    td_loss_out         l = { 0 };
    td_dropout          dropout;

    memset(out, 0, sizeof *out);
    if (!g)
        return td_fail(error, TD_ENOMEM, "out of memory while building the model");
    if (!td_batch_find(batch, "labels") || !td_batch_find(batch, "loss_weights")) {
        td_graph_free(g);
        return td_fail(error, TD_EFORMAT, "the batch has no 'labels' or no 'loss_weights'");
    }
    dropout = dropout_of(m, g, batch);
    out->graph = g;
    architecture->build(m->architecture.config, &(td_architecture_in){ g, batch, &dropout }, &a);
    if (!td_graph_error(g, NULL)) {
        td_loss_in in = { a.hidden,
                          a.embedding,
                          td_batch_input(g, batch, "labels"),
                          td_batch_input(g, batch, "loss_weights"),
                          td_input(g, "loss_divisor", TD_REAL, 0, 0),
                          a.logit_scale };
        td_push(g, "loss");
        loss->build(m->loss.config, &in, &l);
        td_pop(g);
        out->sum = l.sum;
        out->nll = l.nll;
        add_auxiliary(g, &in, l.loss, out);
        out->logits = logits ? logits_of(&a) : NULL;
    }
    if (!td_graph_error(g, error))
        return 0;
    td_graph_free(g);
    out->graph = NULL;
    return TD_EGRAPH;
}

/* ---- backward -------------------------------------------------------------------------------- */

static size_t trained(const td_model *m, const td_variables *v, td_variable **out)
{
    size_t n = 0;
    for (size_t i = 0; i < td_variables_count(v); i++) {
        td_variable *x = td_variables_at(v, i);
        if (x->kind == TD_VARIABLE_PARAM && !td_model_group(m, x->name).freeze)
            out[n++] = x;
    }
    return n;
}

static td_variable *gradient_of(td_variables *v, const td_variable *p)
{
    char    name[600];
    td_init zeros = { TD_INIT_ZEROS, 0 };
    snprintf(name, sizeof name, "%s.grad", p->name);
    return td_variables_add(v, name, TD_VARIABLE_GRAD, p->dim, p->rank, zeros, 0);
}

static int assign_gradients(td_variables *v, td_graph *g, td_variable **params, td_tensor **grads,
                            size_t n, bool add, td_error *error)
{
    for (size_t k = 0; k < n; k++) {
        td_variable *variable = gradient_of(v, params[k]);
        td_tensor   *state = variable ? td_graph_variable(g, variable) : NULL;
        td_tensor   *value = grads[k];
        if (!variable)
            return td_fail(error, TD_EGRAPH,
                           "a parameter is named '%s.grad', which is the gradient's name",
                           params[k]->name);
        if (!value && add)
            continue;
        if (!value)
            value = td_full(g, TD_REAL, variable->dim, variable->rank, 0);
        td_assign(state, add ? td_add(state, value) : value, NULL);
    }
    return td_graph_error(g, error);
}

int td_model_backward(const td_model *m, td_variables *v, td_built *b, bool add, td_error *error)
{
    size_t        count = td_variables_count(v), n;
    td_variable **params = calloc(count + 1, sizeof *params);
    td_tensor   **leaves = calloc(count + 1, sizeof *leaves),
              **grads = calloc(count + 1, sizeof *grads);
    int code = TD_ENOMEM;

    if (params && leaves && grads) {
        n = trained(m, v, params);
        for (size_t k = 0; k < n; k++)
            leaves[k] = td_graph_variable(b->graph, params[k]);
        code = td_gradients(b->graph, b->loss, leaves, n, grads, error);
        if (!code)
            code = assign_gradients(v, b->graph, params, grads, n, add, error);
    } else
        td_fail(error, TD_ENOMEM, "out of memory while differentiating");
    free(params);
    free(leaves);
    free(grads);
    return code;
}

/* ---- update ---------------------------------------------------------------------------------- */

/* min(1, clip / norm); a norm of 0 scales nothing. */
static td_tensor *clip_scale(td_graph *g, td_tensor *norm, double clip)
{
    td_tensor *one = td_scalar(g, 1), *limit = td_scalar(g, clip);
    return clip > 0 ? td_where(td_less(limit, norm), td_div(limit, norm), one) : one;
}

static void update_one(const td_model *m, td_graph *g, td_variable *p, td_variable *grad,
                       td_optimizer_in *in)
{
    const td_optimizer *optimizer = (const void *)m->optimizer.plugin;
    td_group_rule       rule = td_model_group(m, p->name);
    td_tensor          *rate = in->rate, *value;

    in->name = p->name;
    in->param = td_graph_variable(g, p);
    in->grad = td_graph_variable(g, grad);
    in->rate = td_scale(rate, rule.rate);
    in->decay_scale = rule.decay;
    td_push(g, p->name);
    value = optimizer->build(m->optimizer.config, in);
    td_assign(in->param, value, in->gate);
    td_pop(g);
    in->rate = rate;
}

/* A rule that no parameter follows is a mistake in its pattern. */
static int check_rules(const td_model *m, td_variables *v, td_error *error)
{
    for (size_t k = 0; k < m->n_groups; k++) {
        const td_variable *example = NULL;
        bool               followed = false;
        for (size_t i = 0; i < td_variables_count(v) && !followed; i++) {
            const td_variable *x = td_variables_at(v, i);
            if (x->kind != TD_VARIABLE_PARAM)
                continue;
            example = x;
            followed = rule_of(m, x->name) == k;
        }
        if (!followed && example)
            return td_fail(error, TD_ECONFIG,
                           "optimizer.groups: no parameter follows the rule '%s': none has such a "
                           "name, or rules "
                           "before it take them all; names are like '%s' (`tandem train` writes "
                           "all to model-info.txt)",
                           m->groups[k].match, example->name);
    }
    return 0;
}

int td_model_update(const td_model *m, td_variables *v, td_update *out, td_error *error)
{
    td_graph_options options = {
        .phase = TD_PHASE_TRAIN, .real = m->real, .dropout_seed = 0, .recompute = false
    };
    td_graph       *g = td_graph_new(m->registry, v, &options);
    td_tensor      *squares = NULL;
    size_t          count = td_variables_count(v);
    td_optimizer_in in = { .graph = g };

    if (!g)
        return td_fail(error, TD_ENOMEM, "out of memory while building the update");
    if (check_rules(m, v, error)) {
        td_graph_free(g);
        return TD_ECONFIG;
    }
    for (size_t i = 0; i < count; i++) {
        td_variable *x = td_variables_at(v, i);
        if (x->kind == TD_VARIABLE_GRAD) {
            td_tensor *s = td_sum_squares(td_graph_variable(g, x));
            squares = squares ? td_add(squares, s) : s;
        }
    }
    if (!squares) {
        td_graph_free(g);
        return td_fail(error, TD_ECONFIG, "there is nothing to train: every parameter is frozen");
    }
    out->graph = g;
    out->norm = td_sqrt(squares);
    out->gate = m->guard ? td_less(out->norm, td_input(g, "norm_limit", TD_REAL, 0, 0))
                         : td_scalar(g, 1);
    in.rate = td_input(g, "rate", TD_REAL, 0, 0);
    in.step = td_input(g, "step", TD_REAL, 0, 0);
    in.clip = clip_scale(g, out->norm, m->clip);
    in.gate = out->gate;
    for (size_t i = 0; i < count; i++) {
        td_variable *p = td_variables_at(v, i);
        td_variable *grad = p->kind == TD_VARIABLE_PARAM ? td_model_gradient(v, p->name) : NULL;
        if (grad)
            update_one(m, g, p, grad, &in);
    }
    if (!td_graph_error(g, error))
        return 0;
    td_graph_free(g);
    return TD_EGRAPH;
}

/* ---- norms ----------------------------------------------------------------------------------- */

static td_tensor *norm_of(td_graph *g, td_variable *v)
{
    return td_sqrt(td_sum_squares(td_graph_variable(g, v)));
}

int td_model_norms(const td_model *m, td_variables *v, td_norms *out, td_error *error)
{
    td_graph_options options = {
        .phase = TD_PHASE_TRAIN, .real = m->real, .dropout_seed = 0, .recompute = false
    };
    size_t count = td_variables_count(v);

    *out = (td_norms){ .graph = td_graph_new(m->registry, v, &options),
                       .parameters = calloc(count + 1, sizeof *out->parameters),
                       .at = calloc(2 * count + 1, sizeof *out->at) };
    if (!out->graph || !out->parameters || !out->at)
        return td_fail(error, TD_ENOMEM, "out of memory while building the norms of parameters");
    for (size_t i = 0; i < count; i++) {
        td_variable *p = td_variables_at(v, i);
        td_variable *grad = p->kind == TD_VARIABLE_PARAM ? td_model_gradient(v, p->name) : NULL;
        if (!grad)
            continue;
        out->parameters[out->count] = p;
        out->at[2 * out->count] = norm_of(out->graph, p);
        out->at[2 * out->count++ + 1] = norm_of(out->graph, grad);
    }
    return td_graph_error(out->graph, error);
}

void td_norms_free(td_norms *n)
{
    td_graph_free(n->graph);
    free(n->parameters);
    free(n->at);
    *n = (td_norms){ 0 };
}
