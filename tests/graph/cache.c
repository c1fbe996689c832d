/* cache.c - the contents kept by td_remember_axis and td_carry: unequal rows, rings, integers, new
 * texts; fused and lowered, on every backend. */
#include "graph/lab.h"

#include "plan/rows.h"
#include "tandem/layers.h"

enum { ROWS = 3, CAPACITY = 7, CHUNK = 3, WIDTH = 2, MOST = 64 };

/* A cache in use on a machine; each pass has its own graph. */
typedef struct desk {
    machine      *m;
    td_variables *variables;
    td_cache     *cache;
} desk;

static desk desk_new(machine *m, int64_t capacity, int64_t chunk, int64_t source)
{
    td_error e = { 0 };
    desk     d = { m, td_variables_new(), td_cache_new(ROWS, capacity, chunk, source, &e) };
    cr_assert(d.cache, "%s", e.text);
    return d;
}

static void desk_free(desk *d)
{
    td_cache_release(d->cache, &d->m->device);
    td_cache_free(d->cache);
    td_variables_free(d->variables);
}

static td_graph *graph_of(desk *d, int phase)
{
    td_graph_options o = { .phase = phase,
                           .real = td_device_real(&d->m->device),
                           .cache = d->cache };
    return td_graph_new(d->m->registry, d->variables, &o);
}

/* Each backend, fused and lowered. */
static void everywhere(void (*test)(machine *))
{
    static const char *const backends[] = { "cpu", "reference" };
    for (int k = 0; k < 4; k++) {
        machine m = machine_new(backends[k / 2], 2);
        m.device.lower_all = k % 2;
        test(&m);
        machine_free(&m);
    }
}

/* Run a pass of `tokens` and copy the values of `root` out; returns the run's code. Frees the
 * graph. */
static int run(desk *d, td_graph *g, td_tensor *root, int64_t tokens, const int32_t *lengths,
               const int32_t *counts, double *out)
{
    const td_backend *b = d->m->device.backend;
    td_error          e = { 0 };
    td_plan          *plan = td_plan_new(g, &root, 1, &d->m->device, &e);
    void             *arena;
    int               code;

    cr_assert(plan, "%s", e.text);
    cr_assert(!td_cache_allocate(d->cache, &d->m->device, &e), "%s", e.text);
    cr_assert(!td_variables_allocate(d->variables, &d->m->device, td_device_real(&d->m->device),
                                     &e),
              "%s", e.text);
    arena = b->allocate(d->m->device.state, td_plan_arena(plan) + 64);
    cr_assert(!td_plan_bind(plan, arena, &e), "%s", e.text);
    cr_assert(!td_plan_set_ints(plan, "cache_lengths", lengths, ROWS, &e));
    cr_assert(!td_plan_set_ints(plan, "cache_counts", counts, ROWS, &e));
    code = td_plan_run(plan, &e);
    if (!code)
        cr_assert(!td_plan_get(plan, root, out, td_count(root), &e), "%s", e.text);
    b->release(d->m->device.state, arena, td_plan_arena(plan) + 64);
    td_plan_free(plan);
    td_graph_free(g);
    return code;
}

/* New tokens [ROWS, T, WIDTH]: 100 row + 10 * (first + t) + column; as integers plus `more`. */
static td_tensor *tokens_of(td_graph *g, int dtype, int64_t tokens, const int32_t *first,
                            double more)
{
    int64_t dims[] = { ROWS, tokens, WIDTH };
    double  x[MOST];
    for (int64_t n = 0; n < ROWS * tokens * WIDTH; n++) {
        int64_t row = n / WIDTH / tokens, t = n / WIDTH % tokens;
        x[n] = more + (double)(100 * row + 10 * (first[row] + t) + n % WIDTH);
    }
    return td_constant(g, dtype, dims, 3, x);
}

/* Appends tokens and reads back all slots, [ROWS, slots, WIDTH]. */
static int append(desk *d, int dtype, int64_t tokens, int64_t window, const int32_t *lengths,
                  const int32_t *counts, double more, double *out)
{
    td_graph  *g = graph_of(d, TD_PHASE_STEP);
    td_tensor *y = td_remember_axis("x", tokens_of(g, dtype, tokens, lengths, more), 1, window,
                                    TD_REMEMBER_APPEND);
    return run(d, g, y, tokens, lengths, counts, out);
}

/* ---- buffers --------------------------------------------------------------------------------- */

static void unequal_rows(machine *m)
{
    static const int32_t first[] = { 0, 0, 0 }, some[] = { 3, 1, 0 }, more[] = { 2, 3, 1 };
    static const int     held[] = { 5, 4, 1 };
    desk                 d = desk_new(m, CAPACITY, CHUNK, 0);
    double               x[MOST];
    cr_expect_eq(append(&d, TD_REAL, 3, 0, first, some, 0, x), 0);
    cr_expect_eq(append(&d, TD_REAL, 3, 0, some, more, 0, x), 0);
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < CAPACITY; t++)
            cr_expect_eq(x[(r * CAPACITY + t) * WIDTH + 1], t < held[r] ? 100 * r + 10 * t + 1 : 0,
                         "row %d, slot %d: %g", r, t, x[(r * CAPACITY + t) * WIDTH + 1]);
    desk_free(&d);
}

Test(cache, unequal_rows) { everywhere(unequal_rows); }

/* With a window of 2 and passes of 3 tokens a ring has 4 slots: token i is in slot i modulo 4. */
static void rings(machine *m)
{
    desk    d = desk_new(m, 50, CHUNK, 0);
    int32_t at[ROWS] = { 0, 0, 0 };
    double  x[MOST];
    for (int pass = 0; pass < 9; pass++) {
        int32_t counts[ROWS] = { 3, 1 + pass % 3, pass % 2 };
        cr_expect_eq(append(&d, TD_REAL, 3, 2, at, counts, 0, x), 0);
        for (int r = 0; r < ROWS; r++) {
            at[r] += counts[r];
            for (int i = at[r] > 4 ? at[r] - 4 : 0; i < at[r]; i++)
                cr_expect_eq(x[(r * 4 + i % 4) * WIDTH], 100 * r + 10 * i, "row %d, token %d", r,
                             i);
        }
    }
    cr_expect_eq(td_variables_find(d.cache->variables, "x")->dim[1], 4);
    desk_free(&d);
}

Test(cache, rings) { everywhere(rings); }

/* Integers that a float would round. */
static void integers(machine *m)
{
    static const int32_t first[] = { 0, 2, 4 }, counts[] = { 2, 1, 2 };
    desk                 d = desk_new(m, CAPACITY, CHUNK, 0);
    double               x[MOST];
    cr_expect_eq(append(&d, TD_I32, 2, 0, first, counts, 2000000001, x), 0);
    cr_expect_eq(x[(0 * CAPACITY + 1) * WIDTH], 2000000011);
    cr_expect_eq(x[(1 * CAPACITY + 2) * WIDTH + 1], 2000000122);
    cr_expect_eq(x[(1 * CAPACITY + 3) * WIDTH], 0);
    cr_expect_eq(td_variables_find(d.cache->variables, "x")->dtype, TD_I32);
    cr_expect_eq(td_cache_bytes(d.cache, &m->device), ROWS * CAPACITY * WIDTH * 4);
    desk_free(&d);
}

Test(cache, integers) { everywhere(integers); }

/* The kernel then writes nothing, not even the rows that would fit. */
Test(cache, too_many_tokens_are_refused)
{
    static const char *const backends[] = { "cpu", "reference" };
    static const int32_t     bad[][2][ROWS] = {
            { { 0, 5, 0 }, { 3, 3, 0 } },
            { { 0, 0, -1 }, { 3, 0, 0 } },
            { { 0, 0, 0 }, { 3, 4, 0 } },
            { { 0, 0, 0 }, { 3, -1, 0 } },
    };
    for (int k = 0; k < 2; k++) {
        machine m = machine_new(backends[k], 1);
        desk    d = desk_new(&m, CAPACITY, CHUNK, 0);
        double  x[MOST];
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            cr_expect_eq(append(&d, TD_REAL, 3, 0, bad[i][0], bad[i][1], 5, x), TD_ERANGE,
                         "%s, %zu", backends[k], i);
        cr_expect_eq(append(&d, TD_REAL, 3, 0, (int32_t[]){ 0, 0, 0 }, (int32_t[]){ 0, 0, 0 }, 5,
                            x),
                     0);
        cr_expect_eq(x[0], 0, "%s: %g was written", backends[k], x[0]);
        desk_free(&d);
        machine_free(&m);
    }
}

/* The host notices before anything runs. */
Test(cache, too_many_tokens_are_seen_before)
{
    machine    m = machine_new("cpu", 1);
    desk       d = desk_new(&m, CAPACITY, CHUNK, 0);
    td_graph  *g = graph_of(&d, TD_PHASE_STEP);
    int32_t    lengths[ROWS] = { 0, 5, 0 }, counts[ROWS] = { 3, 3, 3 };
    td_error   e = { 0 }, other = { 0 };
    td_tensor *y = td_remember_axis("x", tokens_of(g, TD_REAL, 3, lengths, 0), 1, 0,
                                    TD_REMEMBER_APPEND);
    td_plan   *plan = td_plan_new(g, &y, 1, &m.device, &e);
    cr_assert(plan);
    cr_expect_eq(td_cache_place(d.cache, plan, 3, lengths, counts, &e), TD_ERANGE);
    cr_expect(strstr(e.text, "row 1 holds 5 tokens and gets 3 more"), "%s", e.text);
    counts[1] = 4;
    cr_expect_eq(td_cache_place(d.cache, plan, 3, lengths, counts, &other), TD_ERANGE);
    cr_expect(strstr(other.text, "row 1: cannot append 4 of 3"), "%s", other.text);
    td_plan_free(plan);
    td_graph_free(g);
    desk_free(&d);
    machine_free(&m);
}

/* ---- an encoder's tokens --------------------------------------------------------------------- */

static td_tensor *kept(td_graph *g, int64_t tokens, td_remember_mode mode)
{
    static const int32_t first[ROWS] = { 1, 1, 1 };
    td_tensor           *x = tokens_of(g, TD_REAL, tokens, first, 0);
    return td_remember_axis("x", x, 1, 0, mode);
}

static void keeps(machine *m)
{
    static const int32_t none[ROWS] = { 0, 0, 0 };
    desk                 d = desk_new(m, CAPACITY, CHUNK, 5);
    td_graph            *g = graph_of(&d, TD_PHASE_PREFILL);
    td_tensor           *y = kept(g, 4, TD_REMEMBER_KEEP), *n;
    double               x[MOST];
    cr_expect_eq(td_dim(y, 1), 5);
    n = td_add(y, td_reshape(td_cast(td_cache_lengths(g, ROWS), TD_REAL), (int64_t[]){ ROWS, 1, 1 },
                             3));
    cr_expect_eq(run(&d, g, n, 1, none, none, x), 0);

    g = graph_of(&d, TD_PHASE_STEP);
    n = td_add(kept(g, 1, TD_REMEMBER_KEEP), td_reshape(td_cast(td_cache_lengths(g, ROWS), TD_REAL),
                                                        (int64_t[]){ ROWS, 1, 1 }, 3));
    cr_expect_eq(run(&d, g, n, 1, none, none, x), 0);
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < 5; t++)
            cr_expect_eq(x[(r * 5 + t) * WIDTH], t < 4 ? 100 * r + 10 * (t + 1) : 0);
    desk_free(&d);
}

Test(cache, encoder_outputs_are_kept) { everywhere(keeps); }

/* ---- carried state --------------------------------------------------------------------------- */

/* The sum of all tokens so far, [ROWS, WIDTH], without padding. */
static td_tensor *running_sum(td_graph *g, int64_t tokens, const int32_t *first, double more)
{
    int64_t    dims[] = { ROWS, 1, WIDTH }, column[] = { ROWS, tokens, 1 };
    td_tensor *x = tokens_of(g, TD_REAL, tokens, first, more);
    td_tensor *real = td_reshape(td_cast(td_new_tokens(g, ROWS, tokens), TD_REAL), column, 3);
    td_tensor *before = td_carry(g, "sum", dims, 3);
    td_tensor *now = td_add(before, td_sum(td_mul(x, real), 1));
    td_carry_on(before, now);
    return now;
}

static void carried(machine *m)
{
    static const int32_t lengths[][ROWS] = { { 0, 0, 0 }, { 2, 1, 0 }, { 3, 0, 2 } };
    static const int32_t counts[][ROWS] = { { 2, 1, 0 }, { 1, 0, 2 }, { 0, 2, 1 } };
    static const double  want[][ROWS] = { { 10, 100, 0 }, { 30, 100, 410 }, { 30, 210, 630 } };
    desk                 d = desk_new(m, CAPACITY, CHUNK, 0);
    double               x[MOST];
    for (int pass = 0; pass < 3; pass++) {
        td_graph  *g = graph_of(&d, pass ? TD_PHASE_STEP : TD_PHASE_PREFILL);
        td_tensor *y = running_sum(g, 2, lengths[pass], 0);
        cr_expect_eq(run(&d, g, y, 2, lengths[pass], counts[pass], x), 0);
        for (int r = 0; r < ROWS; r++)
            cr_expect_eq(x[r * WIDTH], want[pass][r], "pass %d, row %d: %g", pass, r, x[r * WIDTH]);
    }
    desk_free(&d);
}

Test(cache, carried_state_begins_with_the_text) { everywhere(carried); }

static void no_nan_is_carried_over(machine *m)
{
    static const int32_t none[ROWS] = { 0, 0, 0 }, two[ROWS] = { 2, 2, 2 };
    desk                 d = desk_new(m, CAPACITY, CHUNK, 0);
    double               x[MOST];
    for (int text = 0; text < 2; text++) {
        td_graph  *g = graph_of(&d, TD_PHASE_STEP);
        td_tensor *y = running_sum(g, 2, none, text ? 0 : NAN);
        cr_expect_eq(run(&d, g, y, 2, none, two, x), 0);
    }
    cr_expect_eq(x[0], 10, "%g", x[0]);
    desk_free(&d);
}

Test(cache, no_nan_is_carried_over) { everywhere(no_nan_is_carried_over); }

/* ---- attention over a buffer ----------------------------------------------------------------- */

/* Each token attends to all tokens so far, with its values as query, key and value: [ROWS, 1, T,
 * WIDTH]. */
static td_tensor *attended(td_graph *g, int64_t tokens, const int32_t *first, double more)
{
    int64_t    heads[] = { ROWS, 1, tokens, WIDTH };
    td_mask    mask = { 0 };
    td_tensor *x = td_scale(td_reshape(tokens_of(g, TD_REAL, tokens, first, more), heads, 4), 1e-2);
    td_tensor *k = td_remember_axis("k", x, -2, 0, TD_REMEMBER_APPEND);
    mask.k_length = td_add(td_cache_lengths(g, ROWS), td_cache_counts(g, ROWS));
    return td_attend(x, k, k, &mask, NULL, 1);
}

static void read_text(desk *d, double more, double *out)
{
    static const int32_t lengths[][ROWS] = { { 0, 0, 0 }, { 2, 1, 2 } };
    static const int32_t counts[][ROWS] = { { 2, 1, 2 }, { 1, 2, 0 } };
    for (int pass = 0; pass < 2; pass++) {
        td_graph *g = graph_of(d, TD_PHASE_STEP);
        cr_expect_eq(run(d, g, attended(g, 2, lengths[pass], more), 2, lengths[pass], counts[pass],
                         out),
                     0);
    }
}

/* A text that diverged leaves no NaN to the next one, even if it was longer. */
static void another_text(machine *m)
{
    static const int32_t full[ROWS] = { 4, 4, 4 }, three[ROWS] = { 3, 3, 3 };
    desk      fresh = desk_new(m, CAPACITY, CHUNK, 0), used = desk_new(m, CAPACITY, CHUNK, 0);
    double    want[MOST], have[MOST];
    td_graph *g = graph_of(&used, TD_PHASE_STEP);
    cr_expect_eq(run(&used, g, attended(g, 3, full, NAN), 3, full, three, have), 0);
    read_text(&used, 0, have);
    read_text(&fresh, 0, want);
    for (int n = 0; n < ROWS * 2 * WIDTH; n++)
        cr_expect_eq(have[n], want[n], "%d: %g, not %g", n, have[n], want[n]);
    desk_free(&fresh);
    desk_free(&used);
}

Test(cache, another_text_is_never_read) { everywhere(another_text); }

/* ---- names and errors ------------------------------------------------------------------------ */

Test(cache, a_tensor_is_kept_once)
{
    machine    m = machine_new("cpu", 1);
    desk       d = desk_new(&m, CAPACITY, CHUNK, 0);
    td_graph  *g = graph_of(&d, TD_PHASE_STEP);
    td_tensor *x = td_input(g, "positions", TD_I32, (int64_t[]){ ROWS, 2 }, 2), *first, *second;
    td_push(g, "layers.0");
    first = td_remember_axis("k_index", x, 1, 0, TD_REMEMBER_APPEND);
    td_pop(g);
    td_push(g, "layers.1");
    second = td_remember_axis("k_index", x, 1, 0, TD_REMEMBER_APPEND);
    cr_expect_eq(first, second);
    cr_expect_neq(td_remember_axis("k_position", x, 1, 0, TD_REMEMBER_APPEND), first);
    cr_expect_neq(td_remember_axis("k_index", x, 1, 2, TD_REMEMBER_APPEND), first);
    td_pop(g);
    cr_expect_eq(td_variables_count(d.cache->variables), 3);
    cr_expect(td_variables_find(d.cache->variables, "layers.0.k_index"));
    cr_expect(!td_graph_error(g, NULL));
    td_graph_free(g);
    desk_free(&d);
    machine_free(&m);
}

/* A parameter and a buffer may have the same name. */
Test(cache, names_are_apart_from_parameters)
{
    machine    m = machine_new("cpu", 1);
    desk       d = desk_new(&m, CAPACITY, CHUNK, 0);
    td_graph  *g = graph_of(&d, TD_PHASE_STEP);
    int64_t    dims[] = { ROWS, 1, WIDTH };
    td_tensor *w = td_param(g, "k", dims, 3, td_ones());
    td_tensor *k = td_remember_axis("k", w, 1, 0, TD_REMEMBER_APPEND);
    cr_expect_eq(td_dim(k, 1), CAPACITY);
    cr_expect_eq(td_variables_count(d.variables), 1);
    cr_expect(!td_graph_error(g, NULL));
    td_graph_free(g);
    desk_free(&d);
    machine_free(&m);
}

typedef td_tensor *mistake(td_graph *);

static td_tensor *remember(td_graph *g, int64_t rows, int64_t tokens, int mode)
{
    td_tensor *x = td_full(g, TD_REAL, (int64_t[]){ rows, tokens, WIDTH }, 3, 1);
    return td_remember_axis("x", x, 1, 0, (td_remember_mode)mode);
}

static td_tensor *long_pass(td_graph *g) { return remember(g, ROWS, 4, TD_REMEMBER_APPEND); }
static td_tensor *other_rows(td_graph *g) { return remember(g, 2, 1, TD_REMEMBER_APPEND); }
static td_tensor *no_source(td_graph *g) { return remember(g, ROWS, 2, TD_REMEMBER_KEEP); }
static td_tensor *no_axis(td_graph *g)
{
    td_tensor *x = td_full(g, TD_REAL, (int64_t[]){ ROWS, 2 }, 2, 1);
    return td_remember_axis("x", x, 0, 0, TD_REMEMBER_APPEND);
}
static td_tensor *two_windows(td_graph *g)
{
    td_tensor *x = td_full(g, TD_REAL, (int64_t[]){ ROWS, 2 }, 2, 1);
    td_remember_axis("x", x, 1, 1, TD_REMEMBER_APPEND);
    return td_remember_axis("x", x, 1, 2, TD_REMEMBER_APPEND);
}
static td_tensor *other_carried(td_graph *g)
{
    int64_t    dims[] = { ROWS, WIDTH };
    td_tensor *state = td_carry(g, "s", dims, 2);
    td_carry_on(td_scale(state, 2), state);
    return state;
}

static void expect_mistake(td_cache *cache, mistake *f, const char *says)
{
    machine          m = machine_new("cpu", 1);
    td_variables    *v = td_variables_new();
    td_graph_options o = { .phase = TD_PHASE_STEP, .real = TD_F32, .cache = cache };
    td_graph        *g = td_graph_new(m.registry, v, &o);
    td_error         e = { 0 };
    f(g);
    cr_expect(td_graph_error(g, &e) && strstr(e.text, says), "said '%s', not '%s'", e.text, says);
    td_graph_free(g);
    td_variables_free(v);
    machine_free(&m);
}

Test(cache, mistakes_are_named)
{
    td_cache *c = td_cache_new(ROWS, CAPACITY, CHUNK, 0, NULL);
    expect_mistake(NULL, long_pass, "needs a cache (td_graph_options.cache)");
    expect_mistake(c, long_pass, "a pass of 4 new tokens; the cache is made for passes of up to 3");
    expect_mistake(c, other_rows, "must be the 3 rows of the cache, and has 2 entries");
    expect_mistake(c, no_source, "the cache holds at most 0");
    expect_mistake(c, no_axis, "cannot be remembered along axis 0 of 2");
    expect_mistake(c, two_windows, "give it its own name");
    expect_mistake(c, other_carried, "td_carry_on takes the tensor that td_carry returned");
    td_cache_free(c);
}

Test(cache, impossible_caches_are_refused)
{
    static const int64_t bad[][4] = {
        { 0, 7, 3, 0 }, { 1, 0, 1, 0 },  { 1, 7, 0, 0 },
        { 1, 7, 8, 0 }, { 1, 7, 3, -1 }, { 1, (1 << 24) + 1, 3, 0 },
    };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        td_error e = { 0 };
        cr_expect(!td_cache_new(bad[k][0], bad[k][1], bad[k][2], bad[k][3], &e));
        cr_expect_eq(e.code, TD_ERANGE);
    }
}
