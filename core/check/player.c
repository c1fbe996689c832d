/* player.c - texts read pass by pass through a cache. */
#include "check/player.h"

/* ---- graphs ---------------------------------------------------------------------------------- */

static const td_architecture *architecture_of(const td_subject *s)
{
    return (const void *)s->model.architecture.plugin;
}

static const char *advice_for(int phase)
{
    return phase == TD_PHASE_EVALUATE
               ? ""
               : " (in a pass of generation: did everything it reads of earlier tokens go through "
                 "td_remember, and its mask through td_attend_with?)";
}

/* The hidden states of a batch in a phase, planned and bound. */
static td_pass_plan plan_of(td_subject *s, const td_batch *batch, int phase, int64_t tokens,
                            td_cache *cache)
{
    const td_backend   *b = s->device.backend;
    td_graph_options    o = { .phase = phase, .real = td_device_real(&s->device), .cache = cache };
    td_dropout          none = { 0 }; /* passes are compared, so nothing may be dropped */
    td_architecture_out out = { 0 };
    td_error            e = { 0 };
    td_pass_plan        p = { .phase = phase, .tokens = tokens };

    p.graph = td_graph_new(s->check->registry, s->variables, &o);
    MUST(s->check, p.graph, "out of memory");
    architecture_of(s)->build(s->model.architecture.config,
                              &(td_architecture_in){ p.graph, batch, &none }, &out);
    MUST(s->check, !td_graph_error(p.graph, &e), "%s: %s%s", s->label, td_check_error(&e),
         advice_for(phase));
    /* hidden states, not logits: a projection could hide a difference */
    p.hidden = out.hidden;
    p.plan = td_plan_new(p.graph, &out.hidden, 1, &s->device, &e);
    MUST(s->check, p.plan, "%s: %s", s->label, td_check_error(&e));
    /* + 64: an arena may be empty, and NULL for 0 bytes would read as a failure */
    p.memory = b->allocate(s->device.state, td_plan_arena(p.plan) + 64);
    /* only now: building the graph has declared parameters, and states of the cache */
    MUST(s->check,
         p.memory &&
             !td_variables_allocate(s->variables, &s->device, td_device_real(&s->device), &e) &&
             !(cache && td_cache_allocate(cache, &s->device, &e)) &&
             !td_plan_bind(p.plan, p.memory, &e),
         "%s: %s", s->label, td_check_error(&e));
    return p;
}

static void free_plan(td_subject *s, td_pass_plan *p)
{
    s->device.backend->release(s->device.state, p->memory, td_plan_arena(p->plan) + 64);
    td_plan_free(p->plan);
    td_graph_free(p->graph);
}

/* Hidden states of a batch whose other inputs are set; free() them. */
static double *run_plan(td_subject *s, td_pass_plan *p, const td_batch *batch)
{
    td_error e = { 0 };
    int64_t  count = td_count(p->hidden);
    double  *values = calloc((size_t)count + 1, sizeof *values);
    MUST(s->check,
         values && !td_plan_set_batch(p->plan, batch, &e) && !td_plan_run(p->plan, &e) &&
             !td_plan_get(p->plan, p->hidden, values, count, &e),
         "%s: %s", s->label, td_check_error(&e));
    return values;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* The number of positions up to the first one with a weight, and up to the last. */
static void find_lengths(td_text_read *t)
{
    const td_array *w = td_batch_find(t->batch, "loss_weights");
    for (int64_t k = 0; k < w->dim[1]; k++)
        if (((const float *)w->data)[k] != 0) {
            t->tokens = k + 1;
            t->prompt = t->prompt ? t->prompt : k + 1;
        }
}

static void read_whole(td_subject *s, td_text_read *t)
{
    td_pass_plan p = plan_of(s, t->batch, TD_PHASE_EVALUATE, 0, NULL);
    td_scramble(s);
    t->whole = run_plan(s, &p, t->batch);
    t->width = td_dim(p.hidden, -1);
    free_plan(s, &p);
}

void td_texts_read(td_subject *s, const td_sentence *sentences, int count, int64_t spare,
                   td_text_read *out)
{
    td_extent most = { 0, 0 };
    for (int k = 0; k < count; k++) {
        td_extent x = td_subject_extent(s, &sentences[k]);
        most.first = x.first > most.first ? x.first : most.first;
        most.second = x.second > most.second ? x.second : most.second;
    }
    most.first += spare;
    most.second += most.second ? spare : 0;
    most.first += most.first == most.second; /* a stream is known by its length */
    for (int k = 0; k < count; k++) {
        out[k] = (td_text_read){ .batch = td_subject_row(s, &sentences[k], most) };
        out[k].source = most.second ? most.first : 0;
        find_lengths(&out[k]);
        read_whole(s, &out[k]);
    }
}

void td_texts_free(td_text_read *t, int count)
{
    for (int k = 0; k < count; k++) {
        free(t[k].whole);
        td_batch_free(t[k].batch);
    }
}

/* ---- a player -------------------------------------------------------------------------------- */

void td_player_open(td_player *p, td_subject *s, int64_t rows, int64_t capacity, int64_t chunk,
                    int64_t source, double garbage)
{
    td_error e = { 0 };
    *p = (td_player){ .subject = s, .garbage = garbage };
    p->cache = td_cache_new(rows, capacity, chunk, source, &e);
    MUST(s->check, p->cache, "%s", td_check_error(&e));
}

void td_player_close(td_player *p)
{
    for (int k = 0; k < p->n_plans; k++)
        free_plan(p->subject, &p->plans[k]);
    td_cache_release(p->cache, &p->subject->device);
    td_cache_free(p->cache);
}

/* Buffers start with the possible leftovers of another text: ordinary tokens. */
static void spoil(td_player *p)
{
    td_subject *s = p->subject;
    for (; p->spoiled < td_variables_count(p->cache->variables); p->spoiled++) {
        td_variable *v = td_variables_at(p->cache->variables, p->spoiled);
        float       *x = malloc((size_t)v->count * sizeof *x);
        td_error     e = { 0 };
        MUST(s->check, x, "out of memory");
        for (int64_t k = 0; k < v->count; k++)
            x[k] = v->dtype == TD_I32 ? p->garbage > 0 : (float)(p->garbage + (double)(k % 5));
        MUST(s->check, !td_variable_set(v, &s->device, td_device_real(&s->device), x, &e), "%s",
             td_check_error(&e));
        free(x);
    }
}

/* Copy array k of all rows into one array. If it is as long as the labels, a row contributes the
 * columns of its new tokens, then padding; otherwise it is copied whole. */
static void copy_rows(const td_player *p, int k, int64_t tokens, const int32_t *counts, char *to)
{
    for (int64_t r = 0; r < p->cache->rows; r++) {
        const td_batch *from = p->text[r]->batch;
        const td_array *a = &from->at[k];
        int64_t         length = td_batch_find(from, "labels")->dim[1], columns = 1;
        bool            sliced = a->rank == 2 && a->dim[1] == length;
        for (int32_t d = 1; d < a->rank; d++)
            columns *= a->dim[d];
        if (!sliced) {
            memcpy(to + 4 * r * columns, a->data, 4 * (size_t)columns);
            continue;
        }
        for (int64_t t = 0; t < tokens; t++) /* the last place is padding */
            memcpy(to + 4 * (r * tokens + t),
                   (const char *)a->data + 4 * (t < counts[r] ? p->at[r] + t : length - 1), 4);
    }
}

static td_batch *batch_of(const td_player *p, int64_t tokens, const int32_t *counts)
{
    td_check       *c = p->subject->check;
    const td_batch *like = p->text[0]->batch;
    int64_t         length = td_batch_find(like, "labels")->dim[1];
    td_batch       *out = td_batch_new();
    MUST(c, out, "out of memory");
    out->rows = p->cache->rows;
    for (int32_t k = 0; k < like->count; k++) {
        const td_array *a = &like->at[k];
        int64_t         dims[TD_MAX_RANK];
        char           *to;
        memcpy(dims, a->dim, sizeof dims);
        dims[0] = out->rows;
        /* arrays with a column per label grow with the text; others, such as an encoder's, do not
         * */
        if (a->rank == 2 && a->dim[1] == length)
            dims[1] = tokens;
        to = out->add(out, a->name, a->dtype, a->rank, dims);
        MUST(c, to, "out of memory");
        copy_rows(p, k, tokens, counts, to);
    }
    return out;
}

/* The plan for passes of this many places. All of them keep the same tensors. */
static td_pass_plan *find_plan(td_player *p, int phase, int64_t tokens, const td_batch *batch)
{
    td_subject *s = p->subject;
    size_t      before = td_variables_count(p->cache->variables), more;
    td_pass_plan *new;
    for (int k = 0; k < p->n_plans; k++)
        if (p->plans[k].phase == phase && p->plans[k].tokens == tokens)
            return &p->plans[k];
    MUST(s->check, p->n_plans < TD_PLAYER_PLANS, "a plan for every pass");
    new = &p->plans[p->n_plans];
    *new = plan_of(s, batch, phase, tokens, p->cache);
    /* only the first plan may declare states */
    more = p->n_plans++ ? td_variables_count(p->cache->variables) - before : 0;
    MUST(
        s->check, !more,
        "%s: the first pass keeps %zu tensors, a later one (new tokens: %lld) %zu more: all passes "
        "must remember and carry the same ones, under the same names",
        s->label, before, (long long)tokens, more);
    spoil(p);
    return new;
}

static void compare_row(td_player *p, int64_t r, int64_t count, const double *hidden)
{
    const td_text_read *t = p->text[r];
    const double       *whole = t->whole + p->at[r] * t->width;
    for (int64_t k = 0; k < count * t->width && !p->mismatch.found; k++)
        if (!td_check_near(hidden[k], whole[k], 1e-10))
            p->mismatch = (td_mismatch){ true,         r,         p->at[r] + k / t->width,
                                         k % t->width, hidden[k], whole[k] };
}

void td_player_pass(td_player *p, int phase, int64_t tokens, const int32_t *counts)
{
    td_batch     *batch = batch_of(p, tokens, counts);
    td_pass_plan *plan = find_plan(p, phase, tokens, batch);
    td_error      e = { 0 };
    double       *hidden;

    MUST(p->subject->check, !td_cache_place(p->cache, plan->plan, tokens, p->at, counts, &e), "%s",
         td_check_error(&e));
    hidden = run_plan(p->subject, plan, batch);
    for (int64_t r = 0; r < p->cache->rows; r++) {
        /* `at` still counts the tokens before this pass, which is where its states begin in
         * the text */
        compare_row(p, r, counts[r], hidden + r * tokens * p->text[r]->width);
        p->at[r] += counts[r];
    }
    free(hidden);
    td_batch_free(batch);
}

void td_player_move(td_player *p, td_player *from, const int32_t *rows)
{
    td_check           *c = p->subject->check;
    td_error            e = { 0 };
    td_row_gather      *g = td_row_gather_new(p->cache, from->cache, &p->subject->device, &e);
    const td_text_read *text[TD_PLAYER_ROWS];
    int32_t             at[TD_PLAYER_ROWS];

    MUST(c, g && !td_row_gather_run(g, rows, &e), "%s: %s", p->subject->label, td_check_error(&e));
    td_row_gather_free(g);
    /* `from` may be `p` itself, whose rows are about to change */
    memcpy(text, from->text, sizeof text);
    memcpy(at, from->at, sizeof at);
    for (int64_t r = 0; r < p->cache->rows; r++)
        if (rows[r] >= 0) {
            p->text[r] = text[rows[r]];
            p->at[r] = at[rows[r]];
        }
}
