/* mask.c - the pairs that a mask shows, counted by runs, against its picture, which applies the
 * rule pair by pair. */
#include "ops/harness.h"
#include "model/batch.h"

enum { ROWS = 3, Q = 23, K = 19 };

/* The parts of a rule, as bits of `option`: every combination is tried. */
enum {
    CAUSAL = 1,
    WINDOW = 2,
    SELF = 4,
    SEGMENTS = 8,
    INPUTS = 16,
    INDICES = 32,
    COMPUTED = 64,
    ALL = 128
};

static td_tensor *integers(td_graph *g, bool wanted, const char *name, int64_t n)
{
    int64_t dims[] = { ROWS, n };
    return wanted ? td_input(g, name, TD_I32, dims, 2) : NULL;
}

/* Indices that the graph computes: a third counts up, a third is the batch's, a third is
 * constant. */
static td_tensor *computed(td_graph *g, const char *name, int64_t n, double first)
{
    int64_t    part = n / 3, row[] = { 1, part }, some[] = { ROWS, part }, rest = n - 2 * part;
    td_tensor *counted = td_expand(td_affine(td_reshape(td_iota(g, TD_I32, part), row, 2), 1,
                                             first),
                                   some);
    td_tensor *batch = td_slice(integers(g, true, name, n), 1, part, rest);
    td_tensor *same = td_full(g, TD_I32, some, 2, 2);
    return td_concat((td_tensor *[]){ counted, td_sub(batch, td_full(g, TD_I32, 0, 0, 1)), same },
                     3, 1);
}

/* Attention of Q queries; with as many keys, these are the queries' own tokens. */
static td_tensor *attention(td_graph *g, int option, int64_t keys)
{
    int64_t    q[] = { ROWS, 1, Q, 2 }, k[] = { ROWS, 1, keys, 2 };
    bool       same = keys == Q;
    td_tensor *key = td_input(g, "k", TD_REAL, k, 4);
    td_mask    mask = {
           .causal = option & CAUSAL,
           .window = option & WINDOW ? 4 : 0,
           .self = option & SELF,
           .q_segment = integers(g, option & SEGMENTS, "q_segment", Q),
           .q_input = integers(g, option & INPUTS, "q_input", Q),
           .q_index = integers(g, option & INDICES, "q_index", Q),
    };
    mask.k_segment = same ? mask.q_segment : integers(g, option & SEGMENTS, "k_segment", keys);
    mask.k_input = same ? mask.q_input : integers(g, option & INPUTS, "k_input", keys);
    mask.k_index = same ? mask.q_index : integers(g, option & INDICES, "k_index", keys);
    /* below 0 and past the end too: indices need not be places */
    if (option & COMPUTED) {
        mask.q_index = computed(g, "q_index", Q, 3);
        mask.k_index = computed(g, "k_index", keys, option & WINDOW ? -2 : 1);
    }
    return td_attend(td_input(g, "q", TD_REAL, q, 4), key, key, &mask, NULL, 1);
}

/* Random integers for all inputs: segments 0 .. 3, in runs in even rows and in any order in odd
 * ones; input marks here and there; indices that mostly count up. */
static td_batch *fill(const td_graph *g, uint64_t seed)
{
    const td_graph_full *full = td_full_of(g);
    td_batch            *b = td_batch_new();
    for (int32_t i = 0; i < full->n_nodes; i++) {
        const td_node *n = full->nodes[i];
        int32_t       *to;
        int64_t        length;
        if (n->kind != TD_NODE_INPUT || n->out[0].t.dtype != TD_I32)
            continue;
        length = n->out[0].t.dim[1];
        to = td_batch_add(b, n->input, TD_I32, ROWS, length);
        cr_assert(to);
        for (int64_t k = 0; k < ROWS * length; k++) {
            uint64_t x = td_random_below(seed, (uint64_t)i, (uint64_t)k, 1 << 20);
            /* in a row as architectures arrange it, a token repeats the one before */
            bool     run = strstr(n->input, "segment") && k % length && k / length % 2 == 0;
            to[k] = strstr(n->input, "input") ? x % 3 == 0
                    : strstr(n->input, "index")
                        ? (k % length && x % 7 ? to[k - 1] + (int32_t)(x % 2) : (int32_t)(x % Q))
                    : run && x % 5 ? to[k - 1]
                                   : (int32_t)(x >> 4) % 4;
        }
    }
    return b;
}

static int64_t pictured(const td_graph *g, const td_batch *b)
{
    int64_t  count = 0;
    td_error error = { 0 };
    for (int64_t row = 0; row < ROWS; row++) {
        td_text text = { 0 };
        cr_assert_eq(td_graph_dump_mask(g, b, "", row, &text, &error), 0, "%s", error.text);
        for (const char *p = strchr(td_text_get(&text), '\n'); *p; p++)
            count += *p == '#';
        td_text_free(&text);
    }
    return count;
}

static void expect_counted(td_registry *r, int option, int64_t keys)
{
    td_graph_options options = { .phase = TD_PHASE_TRAIN, .real = TD_F32 };
    td_variables    *v = td_variables_new();
    td_graph        *g = td_graph_new(r, v, &options);
    td_tensor       *y = attention(g, option, keys);
    td_error         error = { 0 };

    cr_assert_eq(td_graph_error(g, &error), 0, "%s", error.text);
    for (uint64_t seed = 0; seed < 4; seed++) {
        td_batch *b = fill(g, seed);
        double pairs = td_visible_pairs(td_value_of(y)->node, b, NULL) * (double)(ROWS * Q * keys);
        cr_expect_float_eq(pairs, (double)pictured(g, b), 1e-6, "rule %d, %lld keys: %g, not %lld",
                           option, (long long)keys, pairs, (long long)pictured(g, b));
        td_batch_free(b);
    }
    td_graph_free(g);
    td_variables_free(v);
}

/* Keys of which a row has only the first: 0, 7, all. */
Test(mask, missing_keys)
{
    static const double lengths[ROWS] = { 0, 7, K + 3 };
    td_graph_options    options = { .phase = TD_PHASE_TRAIN, .real = TD_F32 };
    machine             m = machine_new("reference", 1);
    td_variables       *v = td_variables_new();
    td_graph           *g = td_graph_new(m.registry, v, &options);
    int64_t             q[] = { ROWS, 1, Q, 2 }, k[] = { ROWS, 1, K, 2 }, rows = ROWS;
    td_mask             mask = { .causal = true };
    td_tensor          *key = td_input(g, "k", TD_REAL, k, 4), *y;
    td_batch           *b;
    int64_t             want = 0;

    mask.k_length = td_constant(g, TD_I32, &rows, 1, lengths);
    y = td_attend(td_input(g, "q", TD_REAL, q, 4), key, key, &mask, NULL, 1);
    b = fill(g, 1);
    for (int64_t i = 0; i < Q; i++)
        want += (i < 7 ? i + 1 : 7) + (i < K ? i + 1 : K);
    cr_expect_float_eq(td_visible_pairs(td_value_of(y)->node, b, NULL) * (ROWS * Q * K),
                       (double)want, 1e-6);
    cr_expect_eq(pictured(g, b), want);
    td_batch_free(b);
    td_graph_free(g);
    td_variables_free(v);
    machine_free(&m);
}

Test(mask, pairs_of_all_rules)
{
    machine m = machine_new("reference", 1);
    for (int option = 0; option < ALL; option++) {
        expect_counted(m.registry, option, Q);
        expect_counted(m.registry, option, K);
    }
    machine_free(&m);
}
