/* subject.c - making tiny models of the plugin under test, and running them.
 *
 * A plugin fits a model if an architecture has an option for a part of its kind, and all parts
 * accept each other. Sizes are small, so that every test runs in many models and stays within a
 * second.
 */
#include "check/subject.h"

#include "tandem/random.h"

const td_sizes td_usual_sizes = { 6, 2, 4, 5 };

/* ---- examples -------------------------------------------------------------------------------- */

void td_sentences(td_sentence out[2])
{
    static const td_sentence two[2] = {
        { { 3, 7, 2, 9 }, { 4, 10, 5 }, 4, 3, 0 },
        { { 8, 3 }, { 6, 2, 9, 4, 7 }, 2, 5, 0 },
    };
    /* the first has more given tokens, the second more predicted ones */
    memcpy(out, two, sizeof two);
}

td_sentence td_sentence_of(int64_t given, int64_t predicted, uint64_t seed)
{
    td_sentence s = { .n_given = given, .n_predicted = predicted };
    for (int64_t k = 0; k < TD_SENTENCE; k++) {
        s.given[k] = 2 + (int32_t)td_random_below(seed, 1, (uint64_t)k, TD_VOCAB - 2);
        s.predicted[k] = 2 + (int32_t)td_random_below(seed, 2, (uint64_t)k, TD_VOCAB - 2);
    }
    return s;
}

/* ---- models ---------------------------------------------------------------------------------- */

/* Whether the plugin has an option of this name. */
static bool has_option(const td_part *part, const char *name)
{
    td_option o;
    for (size_t i = 0; part->plugin->options &&
                       td_option_row(part->plugin->options, part->plugin->option_size, i, &o);
         i++)
        if (!strcmp(o.name, name))
            return true;
    return false;
}

/* Set an integer option, if there is one of this name. */
static void set_int(const td_part *part, const char *name, int64_t value)
{
    int64_t *at = td_check_field(part, name, TD_TYPE_INT);
    if (at)
        *at = value;
}

/* A part with its options small; options that it does not have are left alone. */
static td_part sized(td_check *c, const char *kind, const char *name, const td_sizes *s)
{
    td_part part = td_check_default(c, kind, name);
    if (part.plugin == c->plugin) {
        c->varied = td_check_vary(c, &part);
        td_check_change(c, &part);
    }
    set_int(&part, "heads", s->heads);
    set_int(&part, "head_dim", s->head_dim);
    set_int(&part, "d_ff", s->inner);
    set_int(&part, "d_model", s->width);
    set_int(&part, "vocab_size", TD_VOCAB);
    set_int(&part, "max_positions", 4 * TD_SENTENCE);
    /* two layers: a mistake in how layers are joined shows in the second only */
    set_int(&part, "layers", 2);
    set_int(&part, "encoder_layers", 2);
    set_int(&part, "decoder_layers", 1);
    return part;
}

/* Fill the architecture's parts: the plugin under test where its kind fits, defaults elsewhere. */
static void fill_slots(td_check *c, td_part *architecture, const td_sizes *s)
{
    td_option o;
    for (size_t i = 0;
         architecture->plugin->options &&
         td_option_row(architecture->plugin->options, architecture->plugin->option_size, i, &o);
         i++) {
        td_part    *slot = td_check_field(architecture, o.name, TD_TYPE_PART);
        const char *name;
        if (!slot)
            continue;
        /* NULL: an optional part, which stays empty */
        name = td_check_is_kind(c->plugin, o.choices[0]) ? c->plugin->name
               : slot->plugin                            ? slot->plugin->name
                                                         : NULL;
        if (name)
            *slot = sized(c, o.choices[0], name, s);
    }
}

/* Whether the parts accept each other, asked as the host asks; if not, why. */
static bool is_accepted(const td_subject *s, td_error *e)
{
    const td_part *a = &s->model.architecture, *l = &s->model.loss;
    const td_part *own = td_check_slot(a, s->check->plugin->kind);
    /* inner parts first, so that the message is about the culprit */
    if (own && own->plugin->check && own->plugin->check(own->config, e))
        return false;
    if (l->plugin->check && l->plugin->check(l->config, e))
        return false;
    return !a->plugin->check || !a->plugin->check(a->config, e);
}

/* Whether the architecture has a place for the plugin under test. */
static bool has_place(const td_check *c, const td_plugin *architecture)
{
    td_option o;
    bool      found = false;
    if (td_check_is_kind(c->plugin, TD_ARCHITECTURE_KIND) ||
        td_check_is_kind(c->plugin, TD_LOSS_KIND))
        return true;
    for (size_t i = 0; !found && architecture->options &&
                       td_option_row(architecture->options, architecture->option_size, i, &o);
         i++)
        found = o.type == TD_TYPE_PART && td_check_is_kind(c->plugin, o.choices[0]);
    return found;
}

static bool is_of(const td_check *c, size_t i, const char *kind)
{
    return td_check_is_kind(td_registry_plugin(c->registry, i), kind);
}

static const td_loss *loss_at(const td_check *c, size_t i)
{
    return (const void *)td_registry_plugin(c->registry, i);
}

/* An encoder needs something to read. */
static bool fits(const td_plugin *architecture, const td_loss *l)
{
    return !(((const td_architecture *)(const void *)architecture)->flags &
                 TD_ARCHITECTURE_HAS_ENCODER &&
             l->flags & TD_LOSS_NOTHING_GIVEN);
}

/* Whether registry entry i is a loss to try: the one under test; any loss for an architecture; else
 * the first that gives tokens, as that exercises most of a model. */
static bool is_tried(const td_check *c, const td_plugin *architecture, size_t i, size_t already)
{
    const td_loss *l = loss_at(c, i);
    if (!is_of(c, i, TD_LOSS_KIND) || !fits(architecture, l))
        return false;
    if (td_check_is_kind(c->plugin, TD_LOSS_KIND))
        return !strcmp(c->plugin->name, l->plugin.name);
    if (td_check_is_kind(c->plugin, TD_ARCHITECTURE_KIND))
        return true;
    return !already && l->flags & TD_LOSS_NEEDS_GIVEN;
}

/* Assemble a model; its graph is built by each trial. */
static td_subject subject_of(td_check *c, const td_plugin *architecture, const td_plugin *loss,
                             const td_sizes *sizes, const td_device *device)
{
    td_subject s = { .check = c, .device = *device };
    s.model.registry = c->registry;
    s.model.real = td_device_real(device);
    /* the model is assembled as a run would, minus the config file */
    s.model.architecture = sized(c, TD_ARCHITECTURE_KIND, architecture->name, sizes);
    fill_slots(c, &s.model.architecture, sizes);
    s.model.loss = sized(c, TD_LOSS_KIND, loss->name, sizes);
    s.gives = !(((const td_loss *)(const void *)loss)->flags & TD_LOSS_NOTHING_GIVEN);
    snprintf(s.label, sizeof s.label, "in %s with %s%s%s", architecture->name, loss->name,
             c->variant ? ", " : "", c->variant ? c->varied : "");
    /* ask the plugin: its option need not be called vocab_size */
    s.vocab = ((const td_architecture *)(const void *)architecture)
                  ->vocab_size(s.model.architecture.config);
    MUST(c, s.vocab >= TD_VOCAB,
         "vocab_size is %lld, but the tests use %d token ids: set a larger vocabulary with "
         "NAME=VALUE",
         (long long)s.vocab, TD_VOCAB);
    s.variables = td_variables_new();
    return s;
}

static void subject_free(td_subject *s)
{
    td_variables_release(s->variables, &s->device);
    td_variables_free(s->variables);
}

/* Sizes for an attention without the option head_dim: its heads divide the width of the model,
 * which is therefore rounded up until they do, evenly and to an even number. */
static td_sizes fitted(td_check *c, const td_sizes *sizes)
{
    td_part  part = { c->plugin, NULL };
    td_sizes s = *sizes;
    if (td_check_is_kind(c->plugin, TD_ATTENTION_KIND) && !has_option(&part, "head_dim")) {
        int64_t step = has_option(&part, "heads") ? 2 * s.heads : 16;
        s.width = (s.width + step - 1) / step * step;
    }
    return s;
}

/* 1 if f was called, 0 if the parts refuse each other. */
static size_t try_subject(td_check *c, const td_plugin *architecture, const td_plugin *loss,
                          const td_sizes *sizes, const td_device *device, void (*f)(td_subject *),
                          td_error *why)
{
    td_subject s = subject_of(c, architecture, loss, sizes, device);
    td_error   e = { 0 };
    /* a refusal is not a finding: some parts do not work together, and say so */
    bool       accepted = is_accepted(&s, &e);
    if (accepted)
        f(&s);
    else if (!e.code)
        td_check_finding(c,
                         "%s: check fails without a message: report what is wrong through td_fail",
                         s.label);
    else
        *why = e;
    subject_free(&s);
    return accepted;
}

void td_each_subject(td_check *c, const td_sizes *sizes, const td_device *device,
                     void (*f)(td_subject *))
{
    size_t   tried = 0;
    td_error why = { 0 };
    td_sizes fit = fitted(c, sizes);
    td_registry_scan(c->registry);
    for (size_t i = 0; i < td_registry_count(c->registry); i++) {
        const td_plugin *a = td_registry_plugin(c->registry, i);
        size_t           already = 0;
        if (!is_of(c, i, TD_ARCHITECTURE_KIND) || !has_place(c, a) ||
            (td_check_is_kind(c->plugin, TD_ARCHITECTURE_KIND) && strcmp(a->name, c->plugin->name)))
            continue;
        /* a variant multiplies the time by the number of options: one model must do */
        for (size_t k = 0; k < td_registry_count(c->registry); k++)
            if (is_tried(c, a, k, already) && !(c->variant && tried)) {
                already += 1;
                tried += try_subject(c, a, td_registry_plugin(c->registry, k), &fit, device, f,
                                     &why);
            }
    }
    /* odd sizes and variants may be refused with good reason, the usual ones may not */
    if (!tried && sizes == &td_usual_sizes && !c->variant && !c->change)
        td_check_finding(c, "no model accepts it: %s",
                         why.code ? why.text : "no architecture has a part of this kind");
}

void td_check_in_double(td_check *c, void (*f)(td_subject *))
{
    td_device d = td_check_device(c, TD_F64, 1);
    int       n = td_check_variants(c);
    for (c->variant = 0; c->variant <= n; c->variant++)
        td_each_subject(c, &td_usual_sizes, &d, f);
    c->variant = 0;
}

/* ---- batches --------------------------------------------------------------------------------- */

enum { MOST = 8 }; /* examples of a batch */

/* The sentence, as this loss would have split it. */
static td_example example_of(const td_subject *s, const td_sentence *text)
{
    td_example e = { .given = text->given,
                     .n_given = s->gives ? text->n_given : 0,
                     .predicted = text->predicted,
                     .n_predicted = text->n_predicted,
                     .row = text->row };
    return e;
}

/* The positions that one example takes; a row needs the sum over its examples. */
static td_extent extent_of(const td_subject *s, const td_example *e)
{
    const td_architecture *a = (const void *)s->model.architecture.plugin;
    int64_t                all = e->n_given + e->n_predicted;
    td_bounds              b = { all, e->n_given, e->n_predicted, all };
    return a->extent(s->model.architecture.config, &b);
}

/* Lay examples out on rows of the given lengths. */
static td_batch *arranged(const td_subject *s, const td_example *examples, int count, int64_t rows,
                          td_extent extent)
{
    const td_architecture *a = (const void *)s->model.architecture.plugin;
    td_error               e = { 0 };
    td_batch              *batch = td_batch_new();
    int                    code;
    td_arrange_in          in = { examples,
                                  count,
                                  rows,
                                  extent,
                                  { .pad = 0,
                                    .bos = -1,
                                    .eos = 1,
                                    .unk = -1,
                                    .vocab_size = (int32_t)s->vocab,
                                    .mode = { -1, -1, -1 } } };

    MUST(s->check, batch, "out of memory");
    batch->rows = rows;
    code = a->arrange(s->model.architecture.config, &in, batch, &e);
    /* packing is optional */
    if (code && count > rows && code < 0 && e.code)
        td_check_skip(s->check, "%s cannot pack several examples into a row: %s", a->plugin.name,
                      e.text);
    if (code)
        td_check_failure(s->check, "arrange", code, &e);
    MUST(s->check, !code, "%s: arrange fails: %s", s->label, td_check_error(&e));
    MUST(s->check, !td_batch_check(batch, s->vocab, &e), "%s: %s", s->label, e.text);
    return batch;
}

td_extent td_subject_extent(const td_subject *s, const td_sentence *text)
{
    td_example e = example_of(s, text);
    return extent_of(s, &e);
}

td_batch *td_subject_row(const td_subject *s, const td_sentence *text, td_extent extent)
{
    td_example e = example_of(s, text);
    e.row = 0;
    return arranged(s, &e, 1, 1, extent);
}

/* The examples, and how many rows and places they need: `used` holds the places of each row. */
typedef struct layout {
    td_example examples[MOST];
    td_extent  used[MOST], most;
    int64_t    rows;
} layout;

/* As the feed does: examples of a row follow each other. */
static void lay_out(const td_subject *s, const td_sentence *texts, int count, layout *out)
{
    *out = (layout){ .rows = 1 };
    for (int k = 0; k < count; k++) {
        td_example *e = &out->examples[k];
        *e = example_of(s, &texts[k]);
        td_extent x = extent_of(s, e), *row = &out->used[e->row];
        row->first += x.first;
        row->second += x.second;
        out->most.first = row->first > out->most.first ? row->first : out->most.first;
        out->most.second = row->second > out->most.second ? row->second : out->most.second;
        out->rows = e->row >= out->rows ? e->row + 1 : out->rows;
    }
}

td_batch *td_subject_batch(const td_subject *s, const td_sentence *texts, int count, int64_t spare)
{
    layout l;
    lay_out(s, texts, count, &l);
    /* a stream of length 0 is absent, and gets no padding either */
    l.most.first += l.most.first ? spare : 0;
    l.most.second += l.most.second ? spare : 0;
    return arranged(s, l.examples, count, l.rows, l.most);
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* Norm scales of 1 and biases of 0 would hide errors, so every parameter gets random numbers, which
 * float holds exactly: both precisions start from the same model. */
static void scramble(td_subject *s, td_variable *v)
{
    uint64_t stream = td_random_stream(v->name);
    float   *x = malloc((size_t)v->count * sizeof *x + 1);
    td_error e = { 0 };
    int      code = TD_ENOMEM;

    /* from -0.7 to 0.9, not centred: a mean of 0 hides a forgotten bias */
    for (int64_t n = 0; x && n < v->count; n++)
        x[n] = (float)(td_random_uniform(3, stream, (uint64_t)n) * 1.6 - 0.7);
    if (x)
        code = td_variable_set(v, &s->device, td_device_real(&s->device), x, &e);
    free(x);
    MUST(s->check, !code, "%s", code == TD_ENOMEM ? "out of memory" : td_check_error(&e));
}

void td_scramble(td_subject *s)
{
    for (size_t i = 0; i < td_variables_count(s->variables); i++)
        if (td_variables_at(s->variables, i)->kind == TD_VARIABLE_PARAM)
            scramble(s, td_variables_at(s->variables, i));
}

/* What masks depend on, as in training: the step, and the numbers of the examples. */
static void set_dropout(td_subject *s, td_trial *t)
{
    int32_t  examples[MOST] = { 5, 6, 7, 8, 9, 10, 11, 12 };
    td_error e = { 0 };
    MUST(s->check, t->batch->rows <= MOST, "%s: more rows than examples", s->label);
    MUST(s->check,
         !td_plan_set_scalar(t->plan, "dropout_step", 3, &e) &&
             !td_plan_set_ints(t->plan, "dropout_example", examples, t->batch->rows, &e),
         "%s: %s", s->label, td_check_error(&e));
}

void td_trial_run(td_subject *s, td_trial *t)
{
    td_error e = { 0 };
    MUST(s->check, !td_plan_set_batch(t->plan, t->batch, &e), "%s: %s", s->label,
         td_check_error(&e));
    /* anything but 1, which would hide a loss that does not divide */
    MUST(s->check, !td_plan_set_scalar(t->plan, "loss_divisor", 4, &e), "%s: %s", s->label,
         td_check_error(&e));
    if (s->model.dropout > 0)
        set_dropout(s, t);
    MUST(s->check, !td_plan_run(t->plan, &e), "%s: %s", s->label, td_check_error(&e));
}

/* The likely mistake if a model cannot be built. */
static const char *hint(const td_check *c)
{
    const td_attention *a = (const void *)c->plugin;
    return td_check_is_kind(c->plugin, TD_ATTENTION_KIND) && !a->head_dim
               ? " (it has no hook head_dim, so no positional scheme could refuse its width)"
               : "";
}

void td_trial_start(td_subject *s, td_trial *t, td_tensor *const *outputs, size_t n)
{
    td_check         *c = s->check;
    const td_backend *b = s->device.backend;
    td_error          e = { 0 };
    t->plan = td_plan_new(t->built.graph, outputs, n, &s->device, &e);
    MUST(c, t->plan, "%s: %s", s->label, td_check_error(&e));
    MUST(c, !td_variables_allocate(s->variables, &s->device, td_device_real(&s->device), &e), "%s",
         td_check_error(&e));
    t->memory = b->allocate(s->device.state, td_plan_arena(t->plan) + 64);
    MUST(c, t->memory && !td_plan_bind(t->plan, t->memory, &e), "%s", td_check_error(&e));
    td_scramble(s);
    td_trial_run(s, t);
}

td_trial td_trial_new(td_subject *s, td_batch *batch)
{
    td_check *c = s->check;
    td_error  e = { 0 };
    td_trial  t = { .batch = batch };

    MUST(c, !td_model_forward(&s->model, s->variables, TD_PHASE_TRAIN, batch, false, &t.built, &e),
         "%s: %s%s", s->label, td_check_error(&e), hint(c));
    /* before differentiating, so that gradients lack them as well */
    for (size_t k = 0; s->bare && k < t.built.n_aux; k++)
        if (!t.built.aux[k].logged)
            t.built.loss = td_sub(t.built.loss, t.built.aux[k].loss);
    MUST(c, !td_model_backward(&s->model, s->variables, &t.built, false, &e), "%s: %s", s->label,
         td_check_error(&e));
    td_trial_start(s, &t, (td_tensor *[]){ t.built.loss, t.built.nll }, 2);
    return t;
}

void td_trial_free(td_subject *s, td_trial *t)
{
    s->device.backend->release(s->device.state, t->memory, td_plan_arena(t->plan) + 64);
    td_plan_free(t->plan);
    td_graph_free(t->built.graph);
    td_batch_free(t->batch);
}

int td_trial_losses(const td_subject *s, td_trial *t, double out[TD_TOKENS])
{
    const float *weights = td_batch_find(t->batch, "loss_weights")->data;
    int64_t      count = td_count(t->built.nll);
    double       all[TD_TOKENS];
    td_error     e = { 0 };
    int          n = 0;

    MUST(s->check, count <= TD_TOKENS,
         "%s: its nll has %lld elements, more than the batch has "
         "tokens",
         s->label, (long long)count);
    MUST(s->check, !td_plan_get(t->plan, t->built.nll, all, count, &e), "%s", td_check_error(&e));
    /* nll of padding and of given tokens may be anything */
    for (int64_t i = 0; i < count; i++)
        if (weights[i] != 0)
            out[n++] = all[i];
    for (int i = 0; i < n; i++)
        MUST(s->check, isfinite(out[i]), "%s: the loss of token %d is %g", s->label, i, out[i]);
    return n;
}

int td_losses_of(td_subject *s, const td_sentence *texts, int count, int64_t spare,
                 double out[TD_TOKENS])
{
    td_trial t = td_trial_new(s, td_subject_batch(s, texts, count, spare));
    int      n = td_trial_losses(s, &t, out);
    td_trial_free(s, &t);
    return n;
}
