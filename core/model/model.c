/* model.c - from parts to graphs: forward, backward, update, norms.
 *
 * The order in which terms are added here (auxiliary losses, the squares of the global norm) is
 * part of the result: a different order rounds differently.
 */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "model/shard.h"
#include "plugin/hook.h"

/* The index of the first rule that matches a parameter, or n_groups. */
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

enum { LONGEST_NAME = 600 }; /* of a variable, with its scopes */

td_variable *td_model_gradient(td_variables *v, const char *parameter)
{
    char name[LONGEST_NAME];
    snprintf(name, sizeof name, "%s.grad", parameter);
    return td_variables_find(v, name);
}

/* Of a pass over a batch, or of something else, which computes in the wide dtype. NULL with
 * `error`, which says that `what` could not be built. */
static td_graph *new_graph(const td_model *m, td_variables *v, int phase, bool pass,
                           const char *what, td_error *error)
{
    td_graph_options options = { .phase = phase,
                                 .real = m->real,
                                 .narrow = pass ? m->narrow : 0,
                                 .dropout_seed = m->dropout_seed,
                                 .recompute = pass && m->recompute,
                                 .shared = pass && td_shard_parameters(m) };
    td_graph        *g = td_graph_new(m->registry, v, &options);
    if (!g)
        td_fail(error, TD_ENOMEM, "out of memory while building %s", what);
    return g;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Flatten all dims, or all but the last if `keep`. */
static td_tensor *flat(td_tensor *x, bool keep)
{
    int64_t last = td_dim(x, -1),
            dims[2] = { keep ? td_count(x) / (last ? last : 1) : td_count(x), last };
    return td_reshape(x, dims, keep ? 2 : 1);
}

/* logits = td_cap(scale * hidden embedding^T, cap) */
static td_tensor *logits_of(const td_architecture_out *a)
{
    td_tensor *z = td_scale(td_matmul(flat(a->hidden, true), td_transpose(a->embedding, 0, 1)),
                            a->logit_scale);
    int64_t    dims[] = { td_dim(a->hidden, 0), td_dim(a->hidden, 1), td_dim(a->embedding, 0) };
    return td_reshape(td_cap(z, a->logit_cap), dims, 3); /* [B, U, V] */
}

/* A rate of 0 where nothing is dropped: plugins then emit no dropout at all. */
static td_dropout dropout_of(const td_model *m, td_graph *g, const td_batch *batch)
{
    const td_array *labels = td_batch_find(batch, "labels");
    int64_t         rows[] = { labels->dim[0] };
    td_dropout      d = { .rate = m->dropout, .shared = m->dropout_shared };
    /* keyed by step and by the example's number in the step, so that a resumed run, and any cut
     * into micro-batches, drops the same elements */
    if (m->dropout > 0 && td_is_training(g)) {
        d.step = td_input(g, "dropout_step", TD_I32, 0, 0);
        d.example = td_input(g, "dropout_example", TD_I32, rows, 1);
    } else
        d.rate = 0;
    return d;
}

/* An auxiliary loss, and a logged scalar, is a mean over a micro-batch. Weighted by the micro-batch's share of the
 * targets, as the loss itself is, those of a step add up to the mean over the batch. */
static void add_auxiliary(td_graph *g, const td_loss_in *in, td_tensor *loss, td_built *out)
{
    const td_aux *aux = td_graph_aux(g, &out->n_aux);
    td_tensor    *share = out->n_aux ? td_div(td_sum_all(in->weights), in->divisor) : NULL;
    out->loss = loss;
    for (size_t k = 0; k < out->n_aux; k++) {
        td_tensor *mean = aux[k].logged > 1 ? td_scale(aux[k].loss, 1.0 / aux[k].logged)
                                            : aux[k].loss;
        out->aux[k] = (td_aux){ aux[k].name, td_mul(mean, share), aux[k].logged };
        if (!aux[k].logged)
            out->loss = td_add(out->loss, out->aux[k].loss);
    }
}

/* If the architecture failed, there is nothing to build a loss on: the graph has the error. */
static void build_loss(const td_model *m, const td_batch *batch, const td_architecture_out *a,
                       bool logits, td_built *out)
{
    const td_loss *loss = (const void *)m->loss.plugin;
    td_graph      *g = out->graph;
    td_loss_out    l = { 0 };
    td_loss_in     in = { a->hidden,
                          a->embedding,
                          td_batch_input(g, batch, "labels"),
                          td_batch_input(g, batch, "loss_weights"),
                          td_input(g, "loss_divisor", TD_REAL, 0, 0),
                          a->logit_scale,
                          a->logit_cap };
    if (a->logit_cap > 0 && !(loss->flags & TD_LOSS_CAPS)) {
        td_graph_fail(g,
                      "the model caps its logits at %g, but loss '%s' does not cap them: use "
                      "another loss, or model.logit_cap = 0",
                      a->logit_cap, loss->plugin.name);
        return;
    }
    /* the divisor is an input: a micro-batch does not know the weight of the whole batch */
    td_push(g, "loss");
    TD_HOOK(loss, build, m->loss.config, &in, &l);
    td_pop(g);
    out->sum = l.sum;
    out->nll = l.nll;
    add_auxiliary(g, &in, l.loss, out);
    /* the loss itself never makes the logits, which are larger than all the rest */
    out->logits = logits ? logits_of(a) : NULL;
}

int td_model_forward(const td_model *m, td_variables *variables, int phase, const td_batch *batch,
                     bool logits, td_built *out, td_error *error)
{
    const td_architecture *architecture = (const void *)m->architecture.plugin;
    td_architecture_out    a = { 0 };
    td_dropout             dropout;

    memset(out, 0, sizeof *out);
    /* a batch may come from a file (`tandem probe`), without the arrays that architectures
     * always arrange */
    if (!td_batch_find(batch, "labels") || !td_batch_find(batch, "loss_weights"))
        return td_fail(error, TD_EFORMAT,
                       "the batch lacks 'labels' or 'loss_weights', which every loss reads");
    out->graph = new_graph(m, variables, phase, true, "the model", error);
    if (!out->graph)
        return TD_ENOMEM;
    dropout = dropout_of(m, out->graph, batch);
    TD_HOOK(architecture, build, m->architecture.config,
            &(td_architecture_in){ out->graph, batch, &dropout }, &a);
    /* after an error `a` may be incomplete: its tensors are the plugin's to set */
    if (!td_graph_error(out->graph, NULL))
        build_loss(m, batch, &a, logits, out);
    if (!td_graph_error(out->graph, error))
        return 0;
    /* parameters declared before the error stay: `variables` belong to the caller */
    td_graph_free(out->graph);
    out->graph = NULL;
    return TD_EGRAPH;
}

/* ---- backward -------------------------------------------------------------------------------- */

/* The parameters that are not frozen; returns how many there are. */
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

/* Declared on first use; NULL if there is a variable of that name with different dims. */
static td_variable *gradient_of(td_variables *v, const td_variable *p)
{
    char    name[LONGEST_NAME];
    td_init zeros = { TD_INIT_ZEROS, 0 };
    snprintf(name, sizeof name, "%s.grad", p->name);
    return td_variables_add(v, name, TD_VARIABLE_GRAD, p->dim, p->rank, zeros, 0);
}

/* grad = value, or grad += value. */
static int assign_gradient(td_variables *v, td_graph *g, const td_variable *parameter,
                           td_tensor *value, bool add, td_error *error)
{
    td_variable *variable = gradient_of(v, parameter);
    td_tensor   *state;
    if (!variable)
        return td_fail(error, TD_EGRAPH,
                       "another parameter is called '%s.grad', the name of this one's gradient: "
                       "rename it",
                       parameter->name);
    state = td_graph_variable(g, variable);
    if (!value && add)
        return 0;
    /* the loss does not depend on this parameter: an earlier step's gradient must not stay */
    if (!value)
        value = td_full(g, TD_REAL, variable->dim, variable->rank, 0);
    td_assign(state, add ? td_add(state, value) : value, NULL);
    return 0;
}

static int differentiate(td_variables *v, td_built *b, td_variable **params, td_tensor **leaves,
                         td_tensor **grads, size_t n, bool add, td_error *error)
{
    int code;
    /* leaves first: differentiation needs them all at once */
    for (size_t k = 0; k < n; k++)
        leaves[k] = td_graph_variable(b->graph, params[k]);
    code = td_gradients(b->graph, b->loss, leaves, n, grads, error);
    for (size_t k = 0; !code && k < n; k++)
        code = assign_gradient(v, b->graph, params[k], grads[k], add, error);
    return code ? code : td_graph_error(b->graph, error);
}

int td_model_backward(const td_model *m, td_variables *v, td_built *b, bool add, td_error *error)
{
    /* counted first: assigning gradients makes them variables as well */
    size_t        count = td_variables_count(v);
    td_variable **params = calloc(count + 1, sizeof *params);
    td_tensor   **leaves = calloc(count + 1, sizeof *leaves);
    td_tensor   **grads = calloc(count + 1, sizeof *grads);
    int           code;

    if (params && leaves && grads)
        code = differentiate(v, b, params, leaves, grads, trained(m, v, params), add, error);
    else
        code = td_fail(error, TD_ENOMEM, "out of memory while differentiating");
    free(params);
    free(leaves);
    free(grads);
    return code;
}

/* ---- update ---------------------------------------------------------------------------------- */

/* min(1, clip / norm), written so that a norm of 0 divides nothing. */
static td_tensor *clip_scale(td_graph *g, td_tensor *norm, double clip)
{
    td_tensor *one = td_scalar(g, 1), *limit = td_scalar(g, clip);
    return clip > 0 ? td_where(td_less(limit, norm), td_div(limit, norm), one) : one;
}

/* A frozen parameter never comes here; a rate of 0 also freezes, but keeps states. */
void td_model_update_one(const td_model *m, td_variable *p, td_variable *grad,
                         const td_optimizer_in *shared)
{
    const td_optimizer *optimizer = (const void *)m->optimizer.plugin;
    td_group_rule       rule = td_model_group(m, p->name);
    td_optimizer_in     in = *shared;

    in.name = p->name;
    in.param = td_graph_variable(in.graph, p);
    in.grad = td_graph_variable(in.graph, grad);
    in.rate = td_scale(in.rate, rule.rate);
    in.decay_scale = rule.decay;
    td_push(in.graph, p->name);
    td_assign(in.param, TD_HOOK(optimizer, build, m->optimizer.config, &in), in.gate);
    td_pop(in.graph);
}

/* `*example`: the name of some parameter, for the message. */
static bool is_followed(const td_model *m, td_variables *v, size_t rule, const char **example)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        if (x->kind != TD_VARIABLE_PARAM)
            continue;
        *example = x->name;
        if (rule_of(m, x->name) == rule)
            return true;
    }
    return false;
}

/* A rule that applies to no parameter is an error in its pattern. */
static int check_rules(const td_model *m, td_variables *v, td_error *error)
{
    for (size_t k = 0; k < m->n_groups; k++) {
        const char *example = NULL;
        if (!is_followed(m, v, k, &example) && example)
            return td_fail(error, TD_ECONFIG,
                           "optimizer.groups: the rule '%s' applies to no parameter: none matches, "
                           "or earlier rules take all that do; parameters have names such as '%s' "
                           "(`tandem train` lists them in model-info.txt)",
                           m->groups[k].match, example);
    }
    return 0;
}

/* How many gradients there are before `end`, or, for NULL, in all. */
static int64_t count_gradients(td_variables *v, const td_variable *end)
{
    int64_t n = 0;
    for (size_t i = 0; i < td_variables_count(v) && td_variables_at(v, i) != end; i++)
        n += td_variables_at(v, i)->kind == TD_VARIABLE_GRAD;
    return n;
}

/* Of one gradient. If sharded, most are on other ranks, so all come as an input. */
static td_tensor *squares_of(const td_model *m, td_graph *g, td_variables *v, td_variable *grad)
{
    int64_t all = count_gradients(v, NULL);
    if (m->shard.size < 2)
        return td_sum_squares(td_graph_variable(g, grad));
    return td_reshape(td_slice(td_input(g, "squares", TD_REAL, &all, 1), 0,
                               count_gradients(v, grad), 1),
                      NULL, 0);
}

/* The global norm, squared; NULL: there is no gradient. */
static td_tensor *sum_of_squares(const td_model *m, td_graph *g, td_variables *v)
{
    td_tensor *sum = NULL;
    for (size_t i = 0; i < td_variables_count(v); i++) {
        td_variable *x = td_variables_at(v, i);
        td_tensor   *s;
        if (x->kind != TD_VARIABLE_GRAD)
            continue;
        s = squares_of(m, g, v, x);
        sum = sum ? td_add(sum, s) : s;
    }
    return sum;
}

static void build_update(const td_model *m, td_graph *g, td_variables *v, td_tensor *squares,
                         td_update *out)
{
    /* counted before: optimizers declare their states in this loop */
    size_t          count = td_variables_count(v);
    td_optimizer_in in = { .graph = g };

    out->norm = td_sqrt(squares);
    /* a predicate on the update, not a branch on the host; NaN < limit is false */
    out->gate = m->guard ? td_less(out->norm, td_input(g, "norm_limit", TD_REAL, 0, 0))
                         : td_scalar(g, 1);
    in.rate = td_input(g, "rate", TD_REAL, 0, 0);
    in.step = td_input(g, "step", TD_REAL, 0, 0);
    in.clip = clip_scale(g, out->norm, m->clip);
    in.gate = out->gate;
    for (size_t i = 0; i < count; i++) {
        td_variable *p = td_variables_at(v, i);
        td_variable *grad = p->kind == TD_VARIABLE_PARAM ? td_model_gradient(v, p->name) : NULL;
        if (grad && td_shard_has(m, p)) /* a frozen parameter has none */
            td_model_update_one(m, p, grad, &in);
    }
}

int td_model_update(const td_model *m, td_variables *v, td_update *out, td_error *error)
{
    td_graph  *g;
    td_tensor *squares;

    memset(out, 0, sizeof *out);
    if (check_rules(m, v, error))
        return TD_ECONFIG;
    /* no dropout and no layers here: seed and recomputation have no meaning */
    g = new_graph(m, v, TD_PHASE_TRAIN, false, "the update", error);
    if (!g)
        return TD_ENOMEM;
    squares = sum_of_squares(m, g, v);
    if (!squares)
        td_fail(error, TD_ECONFIG, "there is nothing to train: every parameter is frozen");
    else if (!td_shard_assign(m, v, error)) {
        build_update(m, g, v, squares, out);
        out->graph = g;
    }
    if (out->graph && !td_graph_error(g, error))
        return 0;
    td_graph_free(g);
    out->graph = NULL;
    return td_failed(error, TD_EGRAPH);
}

/* ---- norms ----------------------------------------------------------------------------------- */

int td_model_squares(const td_model *m, td_variables *v, td_squares *out, td_error *error)
{
    size_t count = td_variables_count(v);

    *out = (td_squares){ .graph = new_graph(m, v, TD_PHASE_TRAIN, false, "the norm", error),
                         .at = calloc(count + 1, sizeof *out->at),
                         .index = calloc(count + 1, sizeof *out->index),
                         .all = count_gradients(v, NULL) };
    if (!out->graph || !out->at || !out->index)
        return td_fail(error, TD_ENOMEM, "out of memory while building the norm of gradients");
    for (size_t i = 0; i < count; i++) {
        td_variable *x = td_variables_at(v, i);
        if (x->kind != TD_VARIABLE_GRAD || !td_shard_has(m, x))
            continue;
        out->index[out->count] = count_gradients(v, x);
        out->at[out->count++] = td_sum_squares(td_graph_variable(out->graph, x));
    }
    return td_graph_error(out->graph, error);
}

void td_squares_free(td_squares *s)
{
    td_graph_free(s->graph);
    free(s->at);
    free(s->index);
    *s = (td_squares){ 0 };
}

int td_model_norms(const td_model *m, td_variables *v, td_norms *out, td_error *error)
{
    size_t count = td_variables_count(v);

    *out = (td_norms){ .graph = new_graph(m, v, TD_PHASE_TRAIN, false, "the norms", error),
                       .parameters = calloc(count + 1, sizeof *out->parameters),
                       .at = calloc(2 * count + 1, sizeof *out->at) };
    if (!out->graph || !out->parameters || !out->at)
        return td_fail(error, TD_ENOMEM, "out of memory while building the norms of parameters");
    for (size_t i = 0; i < count; i++) {
        td_variable *p = td_variables_at(v, i);
        td_variable *grad = p->kind == TD_VARIABLE_PARAM ? td_model_gradient(v, p->name) : NULL;
        if (!grad) /* frozen: its norm never changes */
            continue;
        out->parameters[out->count] = p;
        out->at[2 * out->count] = td_sqrt(td_sum_squares(td_graph_variable(out->graph, p)));
        out->at[2 * out->count++ + 1] = td_sqrt(squares_of(m, out->graph, v, grad));
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
