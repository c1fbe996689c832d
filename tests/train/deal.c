/* deal.c - gradients dealt out among ranks, which are threads of this process: every owner has the sum
 * over all micro-batches, whatever the sizes, and however little is sent at a time. */
#include "train/deal.h"

#include <math.h>
#include <pthread.h>

#include "model/internal.h"
#include "model/lab.h"

enum { RANKS = 3, GRADIENTS = 5 };

/* Fewer elements than ranks, primes, and more than two pieces; rank 1 owns nothing. */
static const int64_t counts[GRADIENTS] = { 1, 2, 17, 101, 23 };
static const int     owners[GRADIENTS] = { 0, 2, 0, 2, 0 };

/* ---- ranks ------------------------------------------------------------------------------------ */

typedef struct rank {
    int         number;
    lab         l;
    const void *send;
    size_t      calls; /* of all_to_all */
    int64_t     n_micro;
    td_reduce   how;
    size_t      chunk;
    int         code;
} rank;

static rank              ranks[RANKS];
static pthread_barrier_t barrier;
static size_t            fails; /* this call of rank 1's, once it has exchanged; 0: none */

static int join(const void *config, const td_services *services, void **state, td_error *error)
{
    *state = *(rank *const *)config;
    return 0;
}
static void leave(void *state) {}
static int  rank_of(void *state) { return ((rank *)state)->number; }
static int  size_of(void *state) { return RANKS; }

/* `one`: everyone gets the same part of a rank. */
static int exchange(rank *own, const void *send, char *receive, size_t bytes, bool one)
{
    own->send = send;
    pthread_barrier_wait(&barrier);
    for (int r = 0; r < RANKS; r++)
        memcpy(receive + (size_t)r * bytes,
               (const char *)ranks[r].send + (one ? 0 : (size_t)own->number * bytes), bytes);
    pthread_barrier_wait(&barrier);
    return 0;
}

static int all_to_all(void *state, const void *send, void *receive, size_t bytes, td_error *error)
{
    rank *own = state;
    exchange(own, send, receive, bytes, false);
    return ++own->calls == fails && own->number == 1
               ? td_fail(error, TD_ENOMEM, "no memory for what arrives")
               : 0;
}

static int all_gather(void *state, const void *part, void *receive, size_t bytes, td_error *error)
{
    return exchange(state, part, receive, bytes, true);
}

static int no_sum(void *state, void *data, int64_t count, int dtype, td_error *error)
{
    return td_fail(error, TD_EUNSUPPORTED, "nothing is summed here");
}
static int no_copy(void *state, void *data, size_t bytes, int root, td_error *error)
{
    return td_fail(error, TD_EUNSUPPORTED, "nothing is copied here");
}

static const td_comm threads = {
    .plugin = TD_PLUGIN(td_comm, TD_COMM_KIND, "threads", NULL, rank *, .brief = "three threads"),
    .open = join,
    .close = leave,
    .rank = rank_of,
    .size = size_of,
    .all_reduce = no_sum,
    .all_to_all = all_to_all,
    .all_gather = all_gather,
    .broadcast = no_copy,
};

/* ---- a step ------------------------------------------------------------------------------------ */

static float element(int64_t m, int k, int64_t i)
{
    /* small integers, whose sums are exact in any order */
    return (float)((m + 1) * (i % 7 + 1) + 5 * k);
}

/* One of them is there on its owner alone. */
static void declare(rank *r)
{
    td_variables_free(r->l.engine->variables);
    r->l.engine->variables = td_variables_new();
    for (int k = 0; k < GRADIENTS; k++) {
        char         name[16];
        td_init      none = { 0 };
        td_variable *x;
        snprintf(name, sizeof name, "g%d", k);
        x = td_variables_add(r->l.engine->variables, name, TD_VARIABLE_GRAD, &counts[k], 1, none,
                             0);
        cr_assert(x);
        x->owner = owners[k];
        x->absent = x->owner != r->number;
        x->memory = x->absent ? NULL : calloc((size_t)x->count, sizeof(float));
    }
}

static int step(rank *r, td_dealing *d)
{
    td_variables *v = td_engine_variables(r->l.engine);
    int           code = 0;
    for (int64_t k = 0; k < td_dealing_rounds(d) && !code; k++) {
        int64_t m;
        td_dealing_begin(d, k);
        m = td_dealing_micro(d);
        for (int g = GRADIENTS; g-- > 0 && !code;) {
            float from[128];
            for (int64_t i = 0; i < counts[g]; i++)
                from[i] = m < 0 ? NAN : element(m, g, i); /* who only serves sends anything */
            code = td_dealing_deliver(d, td_variables_at(v, (size_t)g), from, &r->l.error);
        }
        td_dealing_end(d);
    }
    return code ? code : td_dealing_finish(d, &r->l.error);
}

static bool is_summed(const rank *r)
{
    for (int k = 0; k < GRADIENTS; k++) {
        const td_variable *x = td_variables_at(td_engine_variables(r->l.engine), (size_t)k);
        for (int64_t i = 0; i < counts[k] && !x->absent; i++) {
            float sum = 0;
            for (int64_t m = 0; m < r->n_micro; m++)
                sum += element(m, k, i);
            if (((const float *)x->memory)[i] != sum)
                return false;
        }
    }
    return true;
}

/* Two steps: the second begins with what the first has left. */
static void *work(void *arg)
{
    rank       *r = arg;
    td_part     part = { .plugin = &threads.plugin, .config = &r };
    td_team    *team = td_team_join(&(td_team_spec){ .comm = &part }, &r->l.error);
    td_dealing *d = team ? td_dealing_new(r->l.engine, team, r->how, r->n_micro, r->chunk,
                                          &r->l.error)
                         : NULL;
    r->code = !d || step(r, d) ? 1 : !is_summed(r) ? 2 : step(r, d) ? 3 : !is_summed(r) ? 4 : 0;
    td_dealing_free(d);
    td_team_leave(team);
    return NULL;
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void open_ranks(void)
{
    static const char *const overrides[] = { LAB_SMALL, NULL };
    setenv("OMPI_COMM_WORLD_SIZE", "3", 1);
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    pthread_barrier_init(&barrier, NULL, RANKS);
    for (int k = 0; k < RANKS; k++) {
        ranks[k] = (rank){ .number = k, .l = lab_open("nano/decllm", overrides, NULL) };
        declare(&ranks[k]);
    }
}

static void close_ranks(void)
{
    for (int k = 0; k < RANKS; k++) {
        td_variables *v = td_engine_variables(ranks[k].l.engine);
        for (size_t i = 0; i < GRADIENTS; i++) {
            free(td_variables_at(v, i)->memory);
            td_variables_at(v, i)->memory = NULL;
        }
        lab_close(&ranks[k].l);
    }
    pthread_barrier_destroy(&barrier);
}

TestSuite(deal, .init = open_ranks, .fini = close_ranks);

static void run(td_reduce how, int64_t n_micro, size_t chunk)
{
    pthread_t all[RANKS];
    for (int k = 0; k < RANKS; k++) {
        ranks[k].how = how;
        ranks[k].n_micro = n_micro;
        ranks[k].chunk = chunk;
        ranks[k].calls = 0;
        cr_assert(!pthread_create(&all[k], NULL, work, &ranks[k]));
    }
    for (int k = 0; k < RANKS; k++)
        pthread_join(all[k], NULL);
}

/* Returns how often rank 0 exchanged. */
static size_t deal(td_reduce how, int64_t n_micro, size_t chunk)
{
    run(how, n_micro, chunk);
    for (int k = 0; k < RANKS; k++)
        cr_expect_eq(ranks[k].code, 0, "rank %d, %d micro-batches, %zu bytes at a time: %d %s", k,
                     (int)n_micro, chunk, ranks[k].code, ranks[k].l.error.text);
    return ranks[0].calls;
}

Test(deal, owners_have_the_sums)
{
    /* 1 byte is less than an element */
    static const size_t chunks[] = { 1, 8, 20, TD_DEALING_CHUNK };
    for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++)
        for (int64_t n = 1; n <= 8; n++) {
            deal(TD_REDUCE_EXACT, n, chunks[c]);
            deal(TD_REDUCE_FAST, n, chunks[c]);
        }
}

Test(deal, goes_in_pieces)
{
    /* slices of 1, 1, 6, 34 and 8 elements; the owners' are 15, 0 and 35 */
    cr_expect_eq(deal(TD_REDUCE_EXACT, 3, 4), 2 * (1 + 1 + 6 + 34 + 8 + 35));
    cr_expect_eq(deal(TD_REDUCE_EXACT, 3, 13), 2 * (1 + 1 + 2 + 12 + 3 + 12));
    /* no more than the slices in both directions, 50 / 2 / 3 */
    cr_expect_eq(deal(TD_REDUCE_EXACT, 3, TD_DEALING_CHUNK), 2 * (1 + 1 + 1 + 5 + 1 + 5));
}

/* Of 14 exchanges the last 5 are to the owners. A rank that fails in the first of these takes part in the
 * others, and then all know of it. */
Test(deal, a_failure_of_one_is_one_of_all, .timeout = 60)
{
    fails = 10;
    run(TD_REDUCE_EXACT, 3, TD_DEALING_CHUNK);
    for (int k = 0; k < RANKS; k++) {
        cr_expect_eq(ranks[k].code, 1);
        cr_expect_eq(ranks[k].calls, 14);
        cr_expect_eq(ranks[k].l.error.code, TD_ENOMEM);
        cr_expect_str_eq(ranks[k].l.error.text, k == 1 ? "no memory for what arrives"
                                                       : "rank 1: no memory for what arrives");
    }
}

/* Of all gradients, not only of own ones, and what is on its way. */
Test(deal, memory_is_counted)
{
    for (int k = 0; k < RANKS; k++) {
        td_engine *e = ranks[k].l.engine;
        cr_expect_eq(td_dealing_bytes(e, RANKS, TD_REDUCE_FAST, 7, 8), 4 * (50 + 2 * 3 * 2));
        /* of 8 micro-batches up to 3 sums wait */
        cr_expect_eq(td_dealing_bytes(e, RANKS, TD_REDUCE_EXACT, 8, 8), 4 * (3 * 50 + 2 * 3 * 2));
        cr_expect_eq(td_dealing_bytes(e, RANKS, TD_REDUCE_FAST, 7, TD_DEALING_CHUNK),
                     4 * (50 + 2 * 3 * 8));
    }
}
