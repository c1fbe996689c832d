/* shard.c - updates sharded across processes, played by engines of one process: every parameter has
 * one owner, the states of others take no memory, and coupled updates are refused. */
#include "model/shard.h"

#include "lab.h"

static const char *const overrides[] = { LAB_SMALL, "train.length=60", NULL };

/* The engine of one process in place of the lab's. */
static lab open_rank(const char *const *more, td_shard shard, const td_plugin *optimizer)
{
    lab               l = lab_open("nano/redllm", more ? more : overrides, NULL);
    td_engine_options o = { .model = td_experiment_model(l.x),
                            .backend = l.x->backend,
                            .services = td_pool_services(l.pool) };
    td_engine_close(l.engine);
    o.model.shard = shard;
    if (optimizer)
        o.model.optimizer = (td_part){ .plugin = optimizer };
    l.engine = td_engine_open(&o, &l.error);
    cr_assert(l.engine, "%s", l.error.text);
    return l;
}

static lab planned(const char *const *more, td_shard shard, td_footprint *memory)
{
    lab       l = open_rank(more, shard, NULL);
    td_batch *b = lab_batch(&l, 0, 0, LAB_BATCH);
    lab_allocate(&l, b, memory);
    td_batch_free(b);
    return l;
}

/* One plain, or rank `rank` of `size`, planned and allocated. */
static lab allocated(int rank, int size, td_footprint *memory)
{
    return planned(NULL, (td_shard){ .rank = rank, .size = size }, memory);
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

/* One update of `size` ranks on the same gradients; each squares the norms of its own only. */
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

/* ---- parameters ------------------------------------------------------------------------------ */

/* The other ranks, played by the engine of one process: it has all parameters, and its gradients are
 * what is to be delivered. */
typedef struct others {
    lab *whole;
    int  collected, delivered;
    bool compares;
} others;

static int collect(void *arg, const td_variable *x, void *to, size_t bytes, td_error *error)
{
    others            *o = arg;
    const td_variable *own = td_variables_find(td_engine_variables(o->whole->engine), x->name);
    cr_assert_eq(bytes, own->bytes, "%s", x->name);
    memcpy(to, own->memory, bytes);
    o->collected++;
    return 0;
}

static int deliver(void *arg, td_variable *x, const void *from, td_error *error)
{
    others            *o = arg;
    const td_variable *own = td_variables_find(td_engine_variables(o->whole->engine), x->name);
    cr_expect(!o->compares || !memcmp(from, own->memory, own->bytes), "%s", x->name);
    o->delivered++;
    return 0;
}

static double gradient(lab *l, int64_t step)
{
    td_batch    *b = lab_batch(l, step, 0, LAB_BATCH);
    td_micro     m = { .batch = b, .divisor = td_batch_weight(b) };
    td_micro_out out;
    cr_assert_eq(td_engine_gradient(l->engine, &m, &out, &l->error), 0, "%s", l->error.text);
    td_batch_free(b);
    return out.loss;
}

static double score(lab *l)
{
    td_batch *b = lab_batch(l, 0, 0, LAB_BATCH);
    double    sum;
    cr_assert_eq(td_engine_evaluate(l->engine, b, &sum, NULL, &l->error), 0, "%s", l->error.text);
    td_batch_free(b);
    return sum;
}

static void expect_absent(const lab *l, int rank)
{
    for (size_t i = 0; i < td_variables_count(td_engine_variables(l->engine)); i++) {
        const td_variable *x = td_variables_at(td_engine_variables(l->engine), i);
        cr_expect(x->owner >= 0, "'%s' has no owner", x->name);
        cr_expect_eq(x->absent, x->owner != rank, "%s", x->name);
        cr_expect_eq(!x->memory, x->absent, "%s", x->name);
    }
}

/* Losses, gradients and scores have the bits of one process, with and without recomputation; the
 * embedding, which is read at both ends of the model, included. */
Test(shard, parameters_are_here_while_they_are_used)
{
    static const char *const plain[] = { LAB_SMALL, "train.length=60", "model.encoder_layers=3",
                                         "model.decoder_layers=4", NULL };
    static const char *const again[] = { LAB_SMALL,
                                         "train.length=60",
                                         "model.encoder_layers=3",
                                         "model.decoder_layers=4",
                                         "train.recompute=layer",
                                         NULL };
    for (int k = 0; k < 2; k++) {
        const char *const *more = k ? again : plain;
        td_footprint       all, part;
        lab                one = planned(more, (td_shard){ 0 }, &all);
        lab    l = planned(more, (td_shard){ .rank = 1, .size = RANKS, .parameters = true }, &part);
        others o = { .whole = &one };
        td_exchange e = { collect, deliver, &o };
        size_t      parameters = 0;
        td_engine_connect(l.engine, &e);
        expect_absent(&l, 1);
        cr_expect(part.parameters < all.parameters / 2 && part.gradients < all.gradients / 2);
        for (size_t i = 0; i < td_variables_count(td_engine_variables(one.engine)); i++)
            parameters += td_variables_at(td_engine_variables(one.engine), i)->kind ==
                          TD_VARIABLE_PARAM;
        o.compares = true;
        for (int64_t step = 0; step < 3; step++) {
            double loss = gradient(&one, step);
            o.collected = o.delivered = 0;
            cr_expect_eq(gradient(&l, step), loss);
            cr_expect_eq(o.delivered, (int)parameters);
            /* more than once, but not for every read */
            cr_expect(o.collected > (int)parameters && o.collected <= 3 * (int)parameters,
                      "%d transfers of %zu parameters", o.collected, parameters);
        }
        cr_expect_eq(score(&l), score(&one));
        lab_close(&one);
        lab_close(&l);
    }
}

/* Whatever the shape of its batch, a rank makes the same transfers; one without a batch as well. */
Test(shard, transfers_have_an_order)
{
    lab         one = allocated(0, 1, NULL);
    lab         l = planned(NULL, (td_shard){ .size = RANKS, .parameters = true }, NULL);
    others      o = { .whole = &one };
    td_exchange e = { collect, deliver, &o };
    uint64_t    first = 0, other = 0, scores = 0, serving = 0;
    td_batch   *b = lab_batch(&l, 0, 0, LAB_BATCH), *small = lab_batch(&l, 1, 2, 1);
    int         collected, delivered;
    td_engine_connect(l.engine, &e);
    cr_assert_eq(td_engine_order(l.engine, b, false, &first, &l.error), 0, "%s", l.error.text);
    cr_assert_eq(td_engine_order(l.engine, small, false, &other, &l.error), 0);
    cr_assert_eq(td_engine_order(l.engine, small, true, &scores, &l.error), 0);
    cr_assert_eq(td_engine_order(l.engine, NULL, false, &serving, &l.error), 0);
    cr_expect_eq(first, other);
    cr_expect_eq(first, serving);
    cr_expect_neq(first, scores);
    gradient(&l, 0);
    collected = o.collected;
    delivered = o.delivered;
    cr_assert_eq(td_engine_serve(l.engine, false, &l.error), 0, "%s", l.error.text);
    cr_expect_eq(o.collected, 2 * collected);
    cr_expect_eq(o.delivered, 2 * delivered);
    /* a batch that cannot be computed does not keep the others waiting */
    ((int32_t *)(uintptr_t)td_batch_find(b, "labels")->data)[0] = LAB_VOCABULARY + 7;
    cr_expect_neq(td_engine_gradient(l.engine,
                                     &(td_micro){ .batch = b, .divisor = td_batch_weight(b) },
                                     &(td_micro_out){ 0 }, &l.error),
                  0);
    cr_expect_eq(o.collected, 3 * collected);
    cr_expect_eq(o.delivered, 3 * delivered);
    td_batch_free(b);
    td_batch_free(small);
    lab_close(&one);
    lab_close(&l);
}

Test(shard, without_the_others_nothing_is_computed)
{
    lab          l = planned(NULL, (td_shard){ .size = RANKS, .parameters = true }, NULL);
    td_batch    *b = lab_batch(&l, 0, 0, LAB_BATCH);
    td_micro     m = { .batch = b, .divisor = td_batch_weight(b) };
    td_micro_out out;
    cr_expect_eq(td_engine_gradient(l.engine, &m, &out, &l.error), TD_EIO);
    cr_expect(strstr(l.error.text, "is sharded across processes that are no longer connected"),
              "%s", l.error.text);
    td_batch_free(b);
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
    lab       l = open_rank(NULL, (td_shard){ .size = size }, &counting.plugin);
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
    cr_expect(strstr(e.text, "optimizer 'counting' cannot be sharded") &&
                  strstr(e.text, "'all.count'") && strstr(e.text, "train.shard = \"none\""),
              "%s", e.text);
}
