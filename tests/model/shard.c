/* shard.c - updates shared out among processes, played by engines of one process: every parameter has
 * one owner, the states of others take no memory, and coupled updates are refused. */
#include "model/shard.h"

#include "lab.h"

static const char *const overrides[] = { LAB_SMALL, "train.length=60", NULL };

/* The engine of one process in place of the lab's. */
static lab open_rank(const char *const *more, int rank, int size, const td_plugin *optimizer)
{
    lab               l = lab_open("nano/redllm", more ? more : overrides, NULL);
    td_engine_options o = { .model = td_experiment_model(l.x),
                            .backend = l.x->backend,
                            .services = td_pool_services(l.pool) };
    td_engine_close(l.engine);
    o.model.shard = (td_shard){ .rank = rank, .size = size };
    if (optimizer)
        o.model.optimizer = (td_part){ .plugin = optimizer };
    l.engine = td_engine_open(&o, &l.error);
    cr_assert(l.engine, "%s", l.error.text);
    return l;
}

/* One plain, or rank `rank` of `size`, planned and allocated. */
static lab allocated(int rank, int size, td_footprint *memory)
{
    lab       l = open_rank(NULL, rank, size, NULL);
    td_batch *b = lab_batch(&l, 0, 0, LAB_BATCH);
    lab_allocate(&l, b, memory);
    td_batch_free(b);
    return l;
}

enum { RANKS = 3 };

Test(shard, every_state_has_memory_on_one_rank)
{
    td_footprint whole, part[RANKS];
    lab          one = allocated(0, 1, &whole), l[RANKS];
    size_t       states = 0, most = 0, n = 0;
    for (int r = 0; r < RANKS; r++) {
        l[r] = allocated(r, RANKS, &part[r]);
        states += part[r].states;
        most = part[r].states > most ? part[r].states : most;
        cr_expect_eq(part[r].parameters, whole.parameters);
        cr_expect_eq(part[r].gradients, whole.gradients);
    }
    cr_expect_eq(states, whole.states);
    cr_expect_eq(td_shard_most(td_engine_model(l[0].engine), td_engine_variables(l[0].engine),
                              TD_VARIABLE_STATE),
                 most);
    /* no rank has more than its share and the largest parameter's */
    cr_expect(most < whole.states / RANKS + whole.states / 8, "%zu of %zu", most, whole.states);
    for (size_t i = 0; i < td_variables_count(td_engine_variables(one.engine)); i++) {
        const td_variable *x = td_variables_at(td_engine_variables(one.engine), i);
        int                there = 0;
        cr_expect(x->owner < 0 && !x->absent, "%s", x->name);
        for (int r = 0; r < RANKS; r++) {
            const td_variable *y = td_variables_at(td_engine_variables(l[r].engine), i);
            cr_assert_str_eq(x->name, y->name);
            cr_expect_eq(!y->memory, y->absent, "%s", y->name);
            there += y->memory != NULL;
        }
        cr_expect_eq(there, x->kind == TD_VARIABLE_STATE ? 1 : RANKS, "%s is on %d", x->name,
                     there);
        n += x->kind == TD_VARIABLE_STATE;
    }
    cr_expect(n > 10, "%zu states", n);
    lab_close(&one);
    for (int r = 0; r < RANKS; r++)
        lab_close(&l[r]);
}

/* One update of `size` ranks on the same gradients, whose squared norms each takes of its own. */
static void step_together(lab *l, int size)
{
    double  *squares[RANKS], all[1000] = { 0 };
    int64_t  count;
    td_error e = { 0 };
    for (int r = 0; r < size; r++) {
        td_batch    *b = lab_batch(&l[r], 0, 0, LAB_BATCH);
        td_micro     m = { .batch = b, .divisor = td_batch_weight(b) };
        td_micro_out micro;
        cr_assert_eq(td_engine_gradient(l[r].engine, &m, &micro, &e), 0, "%s", e.text);
        cr_assert_eq(td_engine_square(l[r].engine, &squares[r], &count, &e), 0, "%s", e.text);
        td_batch_free(b);
        for (int64_t k = 0; k < count; k++) {
            cr_expect(all[k] == 0 || squares[r][k] == 0, "gradient %d has two owners", (int)k);
            all[k] += squares[r][k];
        }
    }
    for (int r = 0; r < size; r++) {
        td_update_out out;
        memcpy(squares[r], all, (size_t)count * sizeof *all);
        cr_assert_eq(td_engine_update(l[r].engine, 0.05, 1, 1e30, &out, &e), 0, "%s", e.text);
        cr_assert(out.applied);
    }
}

static void expect_same_norms(lab *one, lab *l)
{
    td_parameter_norms *a, *b;
    size_t              n, m;
    td_error            e = { 0 };
    cr_assert_eq(td_engine_norms(one->engine, &a, &n, &e), 0, "%s", e.text);
    cr_assert_eq(td_engine_norms(l->engine, &b, &m, &e), 0, "%s", e.text);
    cr_assert_eq(n, m);
    for (size_t k = 0; k < n; k++)
        cr_expect_eq(a[k].gradient, b[k].gradient, "%s", a[k].name);
    free(a);
    free(b);
}

/* A step moves those parameters to where one process does, and no others. */
Test(shard, a_rank_updates_what_it_owns)
{
    lab one = allocated(0, 1, NULL), still = allocated(0, 1, NULL), l[RANKS];
    int moved = 0, kept = 0;
    for (int r = 0; r < RANKS; r++)
        l[r] = allocated(r, RANKS, NULL);
    lab_step(&one, 0, LAB_BATCH, 0.05);
    step_together(l, RANKS);
    for (size_t i = 0; i < td_variables_count(td_engine_variables(one.engine)); i++) {
        const td_variable *x = td_variables_at(td_engine_variables(one.engine), i);
        const td_variable *y = td_variables_at(td_engine_variables(l[1].engine), i);
        const td_variable *z = td_variables_at(td_engine_variables(still.engine), i);
        if (x->kind == TD_VARIABLE_GRAD || y->absent)
            continue;
        cr_expect(!memcmp(y->memory, y->owner == 1 ? x->memory : z->memory, y->bytes), "%s",
                  y->name);
        moved += y->owner == 1;
        kept += y->owner != 1;
    }
    cr_expect(moved > 5 && kept > 5, "%d, %d", moved, kept);
    expect_same_norms(&one, &l[2]);
    lab_close(&one);
    lab_close(&still);
    for (int r = 0; r < RANKS; r++)
        lab_close(&l[r]);
}

/* There are fewer parameters than ranks, so the last one owns none. */
Test(shard, a_rank_may_own_nothing)
{
    td_footprint memory;
    lab          l = allocated(999, 1000, &memory);
    cr_expect_eq(memory.states, 0);
    step_together(&l, 1);
    lab_close(&l);
}

/* ---- refused --------------------------------------------------------------------------------- */

struct unread {
    bool unread;
};

/* One counter for all parameters, which every update raises. */
static td_tensor *build_counting(const void *config, const td_optimizer_in *in)
{
    td_tensor *count;
    td_push_shared(in->graph, "count", "all");
    count = td_moment(in, "count", NULL, 0, 0);
    td_assign(count, td_affine(count, 1, 1), in->gate);
    td_pop(in->graph);
    return td_sub(in->param, td_mul(td_mul(in->grad, in->clip), td_div(in->rate, count)));
}

static const td_optimizer counting = {
    .plugin = TD_PLUGIN(td_optimizer, TD_OPTIMIZER_KIND, "counting", NULL, struct unread,
                        .brief = "rates that fall with each update of any parameter"),
    .build = build_counting,
};

static int plan(int size, td_error *error)
{
    lab       l = open_rank(NULL, 0, size, &counting.plugin);
    td_batch *b = lab_batch(&l, 0, 0, LAB_BATCH);
    int       code = td_engine_plan(l.engine, b, NULL, error);
    td_batch_free(b);
    lab_close(&l);
    return code;
}

Test(shard, coupled_updates_are_refused)
{
    td_error e = { 0 };
    cr_expect_eq(plan(1, &e), 0, "%s", e.text);
    cr_expect_eq(plan(2, &e), TD_ECONFIG);
    cr_expect(strstr(e.text, "optimizer 'counting' cannot be shared out") &&
                  strstr(e.text, "'all.count'") && strstr(e.text, "train.shard = \"none\""),
              "%s", e.text);
}
