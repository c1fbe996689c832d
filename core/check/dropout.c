/* dropout.c - dropout in a model: it must be the run's (kind/dropout.h), and have the right
 * gradient.
 *
 * Masks are functions of (step, example, place), so that a resumed run, another batch size or
 * another number of threads drops the same elements. A mask that depends on anything else trains
 * just as well, and is detected only here.
 */
#include "check/cases.h"
#include "check/subject.h"
#include "graph/internal.h"

static const double rate = 0.25;

/* The nodes of the model's graph that drop elements; the graph is freed with *built. */
static size_t find_dropout(td_subject *s, int phase, td_built *built, const td_node ***out)
{
    td_sentence          two[2];
    td_error             e = { 0 };
    td_batch            *batch;
    const td_graph_full *g;
    size_t               n = 0;
    td_sentences(two);
    batch = td_subject_batch(s, two, 1, 1);
    MUST(s->check, !td_model_forward(&s->model, s->variables, phase, batch, false, built, &e),
         "%s: %s", s->label, td_check_error(&e));
    /* the graph took only its dims */
    td_batch_free(batch);
    g = td_full_of(built->graph);
    *out = td_arena_alloc(s->check->arena, ((size_t)g->n_nodes + 1) * sizeof **out);
    MUST(s->check, *out, "out of memory");
    for (int32_t k = 0; k < g->n_nodes; k++)
        if (g->nodes[k]->kind == TD_NODE_OP && !strcmp(g->nodes[k]->op->plugin.name, "dropout"))
            (*out)[n++] = g->nodes[k];
    return n;
}

/* Whether the value is computed from the input of this name. */
static bool comes_from(const td_value *v, const char *input)
{
    const td_node *n = v ? v->node : NULL;
    bool           found = n && n->kind == TD_NODE_INPUT && !strcmp(n->input, input);
    for (int32_t k = 0; n && k < n->n_in && !found; k++)
        found = comes_from(n->in[k], input);
    return found;
}

static void check_node(td_subject *s, const td_node *n)
{
    static const char *const inputs[] = { "step", "example" };
    if (n->attrs.f[0] != rate)
        td_check_finding(s->check,
                         "%s: '%s' drops a fraction of %g, but the run's rate is %g: use td_drop, "
                         "or in->dropout->rate",
                         s->label, n->path, n->attrs.f[0], rate);
    /* in[1] and in[2] need not be the run's inputs themselves, but must be computed from them */
    for (int k = 0; k < 2; k++)
        if (!comes_from(n->in[k + 1], k ? "dropout_example" : "dropout_step"))
            td_check_finding(s->check,
                             "%s: '%s' drops the same elements in every %s: use td_drop, or "
                             "in->dropout->%s",
                             s->label, n->path, inputs[k], inputs[k]);
}

static void check_training(td_subject *s)
{
    const td_node **at;
    td_built        built;
    size_t          n = find_dropout(s, TD_PHASE_TRAIN, &built, &at);
    for (size_t k = 0; k < n; k++) {
        check_node(s, at[k]);
        for (size_t i = 0; i < k; i++)
            /* i[0] is the place, the only thing in which the masks of one model differ */
            if (at[i]->attrs.i[0] == at[k]->attrs.i[0])
                td_check_finding(s->check,
                                 "%s: two dropout calls in '%s' use the same place, and so the "
                                 "same mask: give each its own",
                                 s->label, at[k]->path);
    }
    td_graph_free(built.graph);
}

static void check_evaluation(td_subject *s)
{
    const td_node **at;
    td_built        built;
    if (find_dropout(s, TD_PHASE_EVALUATE, &built, &at))
        td_check_finding(s->check, "%s: '%s' drops elements in evaluation, too: use td_drop",
                         s->label, at[0]->path);
    td_graph_free(built.graph);
}

static void dropout_of(td_subject *s)
{
    s->model.dropout = rate;
    s->model.dropout_seed = 11;
    check_evaluation(s);
    check_training(s);
    td_gradients_of(s);
}

void td_check_dropout(td_check *c) { td_check_in_double(c, dropout_of); }
