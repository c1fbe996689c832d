/* unread.c - options that nothing reads: whatever an option is set to, the plugin computes the same. */
#include "check/cases.h"
#include "check/subject.h"
#include "tandem/kind/optimizer.h"
#include "tandem/kind/schedule.h"

/* ---- what a plugin computes, as text ---------------------------------------------------------- */

/* The results of the model and the initial values of its parameters, as text. If the model is
 * refused, as it may be with other options, the text is the message instead. */
static void try_result_of(td_subject *s)
{
    td_sentence two[2];
    double      losses[TD_TOKENS];
    td_built    built;
    td_trial    t;
    td_error    e = { 0 };
    td_batch   *batch;
    int         n;
    td_sentences(two);
    batch = td_subject_batch(s, two, 1, 1);
    if (td_model_forward(&s->model, s->variables, TD_PHASE_TRAIN, batch, false, &built, &e)) {
        td_text_print(s->check->collected, "%s\n", e.text);
        td_batch_free(batch);
        return;
    }
    td_graph_dump_text(built.graph, s->check->collected); /* it lacks constants and attributes */
    td_graph_free(built.graph);
    td_batch_free(batch);
    t = td_trial_new(s, td_subject_batch(s, two, 1, 1));
    n = td_trial_losses(s, &t, losses);
    /* with auxiliary losses, and what a loss adds to the cross-entropy */
    td_text_print(s->check->collected, "%.17g\n", td_plan_get_scalar(t.plan, t.built.loss));
    td_trial_free(s, &t);
    for (int k = 0; k < n; k++)
        td_text_print(s->check->collected, "%.17g\n", losses[k]);
    for (size_t i = 0; i < td_variables_count(s->variables); i++) {
        const td_variable *v = td_variables_at(s->variables, i);
        td_text_print(s->check->collected, "%s %d %g\n", v->name, v->init.kind, v->init.std);
    }
}

/* The plugin under test with c->variant and c->change applied; false if it refuses them, in
 * which case the reason is its result. */
static bool part_of(td_check *c, td_part *out)
{
    td_error e = { 0 };
    *out = td_check_part(c);
    c->varied = td_check_vary(c, out);
    td_check_change(c, out);
    if (!out->plugin->check || !out->plugin->check(out->config, &e))
        return true;
    td_text_print(c->collected, "%s\n", e.text);
    return false;
}

static void print_result(td_check *c, const td_device *d)
{
    td_part part;
    if (td_check_is_kind(c->plugin, TD_SCHEDULE_KIND)) {
        if (part_of(c, &part))
            td_check_print_rates(&part, c->collected);
    } else if (td_check_is_kind(c->plugin, TD_OPTIMIZER_KIND)) {
        if (part_of(c, &part))
            td_check_print_updates(c, c->collected);
    } else
        td_each_subject(c, &td_usual_sizes, d, try_result_of);
    /* most of a loss's options say how it splits a text */
    if (td_check_is_kind(c->plugin, TD_LOSS_KIND) && part_of(c, &part))
        td_check_print_splits(c, &part, c->collected);
}

/* The results with the variant and the change; free() them. */
static char *results_with(td_check *c, const td_device *d, int variant, int change)
{
    td_text text = { 0 };
    char   *copy;
    c->collected = &text;
    c->variant = variant;
    c->change = change;
    print_result(c, d);
    c->variant = c->change = 0;
    copy = strdup(td_text_get(&text));
    td_text_free(&text);
    MUST(c, copy, "out of memory");
    return copy;
}

/* ---- options ---------------------------------------------------------------------------------- */

/* Whether the option changes anything, by itself or in a variant: many options have an effect
 * only if another is set, or only at some values. If a variant is refused, the option's effect
 * in it is unknown. */
static bool is_read_in(td_check *c, const td_device *d, int variant, int option)
{
    char *before = results_with(c, d, variant, 0);
    bool  read = !*before;
    for (int way = 0; way < TD_CHECK_CHANGES && !read; way++) {
        char *after = results_with(c, d, variant, TD_CHECK_CHANGES * option + way + 1);
        read = strcmp(before, after) != 0;
        free(after);
    }
    free(before);
    return read;
}

static bool may_be_read(td_check *c, const td_device *d, int option)
{
    bool read = false;
    for (int k = 0, n = td_check_variants(c); k <= n && !read; k++)
        read = is_read_in(c, d, k, option);
    return read || is_read_in(c, d, TD_CHECK_LEAST, option);
}

void td_check_unread(td_check *c)
{
    td_device d = td_check_device(c, TD_F64, 1);
    td_option o;
    for (int i = 0; c->plugin->options &&
                    td_option_row(c->plugin->options, c->plugin->option_size, (size_t)i, &o);
         i++)
        if (td_check_can_change(&o) && !may_be_read(c, &d, i))
            td_check_finding(c,
                             "option '%s' changes nothing, whatever its value and the values of "
                             "other options: is it read?",
                             o.name);
}
