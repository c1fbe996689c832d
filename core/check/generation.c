/* generation.c - generating step by step equals one whole pass. */
#include "check/cases.h"
#include "check/subject.h"
#include "tandem/kind/attention.h"

/* Columns [first, first + count) of what the model reads token by token; the rest as it is. */
static td_batch *part_of(td_check *c, const td_batch *whole, int64_t first, int64_t count)
{
    int64_t   length = td_batch_find(whole, "labels")->dim[1];
    td_batch *out = td_batch_new();
    MUST(c, out, "out of memory");
    for (int32_t k = 0; k < whole->count; k++) {
        const td_array *a = &whole->at[k];
        bool            sliced = a->rank == 2 && a->dim[1] == length;
        int64_t         dims[TD_MAX_RANK], columns = 1;
        char           *to;
        memcpy(dims, a->dim, sizeof dims);
        for (int32_t i = 1; i < a->rank; i++)
            columns *= a->dim[i];
        if (sliced)
            dims[1] = count;
        to = out->add(out, a->name, a->dtype, a->rank, dims);
        MUST(c, to, "out of memory");
        for (int64_t row = 0; row < a->dim[0]; row++)
            memcpy(to + 4 * row * (sliced ? count : columns),
                   (const char *)a->data + 4 * (row * columns + (sliced ? first : 0)),
                   4 * (size_t)(sliced ? count : columns));
    }
    out->rows = whole->rows;
    return out;
}

/* Hidden states [B, U, D] of a batch in a phase of generation; free() them. */
static double *hidden_of(td_subject *s, td_batch *batch, int phase, int64_t past, int64_t *width)
{
    const td_architecture *a = (const void *)s->model.architecture.plugin;
    const td_backend      *b = s->device.backend;
    td_graph_options       o = { .phase = phase, .real = b->real, .past = past };
    td_dropout             none = { 0 };
    td_graph              *g = td_graph_new(s->check->registry, s->variables, &o);
    td_architecture_out    out = { 0 };
    td_error               e = { 0 };
    td_plan               *plan;
    void                  *memory;
    double                *values;

    MUST(s->check, g, "out of memory");
    a->build(s->model.architecture.config, &(td_architecture_in){ g, batch, &none }, &out);
    MUST(s->check, !td_graph_error(g, &e), "%s: %s%s", s->label, td_check_error(&e),
         phase == TD_PHASE_STEP
             ? " (in a step of generation, with one new token: does what it reads "
               "of earlier tokens pass through td_remember?)"
             : "");
    plan = td_plan_new(g, &out.hidden, 1, &s->device, &e);
    MUST(s->check, plan, "%s: %s", s->label, td_check_error(&e));
    MUST(s->check, !td_variables_allocate(s->variables, &s->device, b->real, &e), "%s", e.text);
    memory = b->allocate(s->device.state, td_plan_arena(plan) + 64);
    values = calloc((size_t)td_count(out.hidden) + 1, sizeof *values);
    if (phase == TD_PHASE_EVALUATE)
        td_scramble(s);
    MUST(s->check,
         memory && values && !td_plan_bind(plan, memory, &e) &&
             !td_plan_set_batch(plan, batch, &e) && !td_plan_run(plan, &e) &&
             !td_plan_get(plan, out.hidden, values, td_count(out.hidden), &e),
         "%s: %s", s->label, td_check_error(&e));
    *width = td_dim(out.hidden, -1);
    b->release(s->device.state, memory, td_plan_arena(plan) + 64);
    td_plan_free(plan);
    td_graph_free(g);
    return values;
}

static void compare(td_subject *s, const double *whole, const double *part, int64_t first,
                    int64_t count, int64_t width)
{
    for (int64_t k = 0; k < count * width; k++)
        if (!td_check_near(part[k], whole[first * width + k], 1e-10)) {
            td_check_finding(
                s->check,
                "%s: token %lld of %s: hidden state %lld is %.12g, but %.12g in one "
                "whole pass: keep what later tokens read with td_remember or td_carry, "
                "or set .whole = true",
                s->label, (long long)(first + k / width), count > 1 ? "the prompt" : "a step",
                (long long)(k % width), part[k], whole[first * width + k]);
            return;
        }
}

/* Places before the first token that weighs, and that one: what a prompt is. */
static int64_t prompt_of(const td_batch *b)
{
    const float *w = td_batch_find(b, "loss_weights")->data;
    int64_t      k = 0;
    while (w[k] == 0)
        k++;
    return k + 1;
}

static bool has_whole(const td_subject *s)
{
    const td_part *a = td_check_slot(&s->model.architecture, TD_ATTENTION_KIND);
    return a && a->plugin && ((const td_attention *)(const void *)a->plugin)->whole;
}

static void steps_of(td_subject *s)
{
    td_sentence text = td_sentence_of(s->gives ? 5 : 0, 7, 3);
    td_batch   *batch = td_subject_batch(s, &text, 1, 0), *part;
    int64_t     width, length = td_batch_find(batch, "labels")->dim[1], prompt = prompt_of(batch);
    double     *whole, *some;

    if (has_whole(s)) {
        td_batch_free(batch);
        td_check_skip(s->check, "it sets .whole = true: generation runs the whole prefix");
    }
    whole = hidden_of(s, batch, TD_PHASE_EVALUATE, 0, &width);
    part = part_of(s->check, batch, 0, prompt);
    some = hidden_of(s, part, TD_PHASE_PREFILL, 0, &width);
    compare(s, whole, some, 0, prompt, width);
    for (int64_t k = prompt; k < length; k++) {
        free(some);
        td_batch_free(part);
        part = part_of(s->check, batch, k, 1);
        some = hidden_of(s, part, TD_PHASE_STEP, k, &width);
        compare(s, whole, some, k, 1, width);
    }
    free(some);
    free(whole);
    td_batch_free(part);
    td_batch_free(batch);
}

void td_check_steps(td_check *c)
{
    td_device d = td_check_device(c, TD_F64, 1);
    int       n = td_check_variants(c);
    for (c->variant = 0; c->variant <= n; c->variant++)
        td_each_subject(c, &td_usual_sizes, &d, steps_of);
    c->variant = 0;
}
