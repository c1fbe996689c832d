/* attention.c - td_analyze's numbers about attentions, against plainly computed matrices of all
 * weights. These equal the kernels' weights, since they yield the same outputs from the values. */
#include <math.h>

#include "evaluate/attention.h"
#include "evaluate/plain_attention.h"
#include "graph/attention.h"
#include "model/lab.h"

enum { RECORDS = 3, LONGEST = 400, MOST = 16 /* attentions */ };

static const char *const small[] = { LAB_SMALL, NULL };

/* ---- text ------------------------------------------------------------------------------------ */

/* Records of the requested number of tokens. */
static int64_t text_length;

/* The first source has nothing. */
static int64_t sources(void *state) { return 2; }

static int64_t held_out(void *state, int64_t source) { return source ? RECORDS : 0; }

static int fetch_held_out(void *state, int64_t source, int64_t index, const td_split_in *in,
                          td_record *out, td_error *error)
{
    static int32_t tokens[RECORDS][LONGEST];
    for (int64_t k = 0; k < text_length; k++)
        tokens[index][k] = 2 + (int32_t)td_random_below(11, (uint64_t)index, (uint64_t)k,
                                                        LAB_VOCABULARY - 2);
    *out = (td_record){ .targets = tokens[index], .n_targets = text_length, .id = (uint64_t)index };
    return 0;
}

static const td_data text = { .sources = sources,
                              .held_out = held_out,
                              .fetch_held_out = fetch_held_out };

static td_analyze_spec spec_of(const lab *l, int64_t length, int64_t prefix, int64_t sequences)
{
    td_analyze_spec s = {
        .evaluate = { .feed = lab_feed(l), .prefix = prefix, .sequences = sequences, .batch = 1 }
    };
    text_length = length;
    s.evaluate.feed.data = &text;
    s.evaluate.feed.length = length;
    return s;
}

static lab open_model(const char *config, const char *const *overrides)
{
    lab       l = lab_open(config, overrides, NULL);
    td_batch *b = lab_batch(&l, 0, 0, 1);
    lab_allocate(&l, b, NULL);
    td_batch_free(b);
    return l;
}

static td_analysis analyze(td_engine *e, const td_analyze_spec *s)
{
    td_error    error = { 0 };
    td_analysis a;
    cr_assert_eq(td_analyze(e, s, NULL, NULL, &a, &error), 0, "%s", error.text);
    return a;
}

/* ---- a graph to look into -------------------------------------------------------------------- */

/* A separate graph over the engine's parameters, planned with all inputs and outputs of
 * attentions. */
typedef struct machine {
    td_built      built;
    td_attentions found;
    td_plan      *plan;
    void         *memory;
    size_t        size;
} machine;

static double *get(machine *m, td_tensor *t)
{
    td_error error = { 0 };
    double  *x = malloc((size_t)td_count(t) * sizeof *x);
    cr_assert_eq(td_plan_get(m->plan, t, x, td_count(t), &error), 0, "%s", error.text);
    return x;
}

static machine build(lab *l, const td_batch *b)
{
    const td_architecture *a = (const void *)l->x->model.plugin;
    const td_device       *d = td_engine_device(l->engine);
    td_tensor             *roots[MOST * (TD_ATTEND_INPUTS + 1) + 1];
    size_t                 n = 0;
    machine                m = { 0 };
    cr_assert_eq(td_model_forward(td_engine_model(l->engine), td_engine_variables(l->engine),
                                  TD_PHASE_EVALUATE, b, false, &m.built, &l->error),
                 0, "%s", l->error.text);
    cr_assert_eq(td_graph_attentions(m.built.graph, a->generated, &m.found, &l->error), 0);
    cr_assert(m.found.n > 0 && m.found.n <= MOST);
    roots[n++] = m.built.nll;
    for (size_t k = 0; k < m.found.n; k++) {
        roots[n++] = m.found.at[k].out;
        for (int i = 0; i < TD_ATTEND_INPUTS; i++)
            if (m.found.at[k].in[i])
                roots[n++] = m.found.at[k].in[i];
    }
    m.plan = td_plan_new(m.built.graph, roots, n, d, &l->error);
    cr_assert(m.plan, "%s", l->error.text);
    m.size = td_plan_arena(m.plan);
    m.memory = d->backend->allocate(d->state, m.size);
    cr_assert_eq(td_plan_bind(m.plan, m.memory, &l->error), 0, "%s", l->error.text);
    return m;
}

static void free_machine(machine *m, const td_device *d)
{
    td_plan_free(m->plan);
    d->backend->release(d->state, m->memory, m->size);
    td_attentions_free(&m->found);
    td_graph_free(m->built.graph);
}

static void run(machine *m, const td_batch *b, plain *p, const char *config)
{
    td_error error = { 0 };
    cr_assert(!td_plan_set_batch(m->plan, b, &error) &&
                  !td_plan_set_scalar(m->plan, "loss_divisor", 1, &error) &&
                  !td_plan_run(m->plan, &error),
              "%s", error.text);
    for (size_t k = 0; k < m->found.n; k++) {
        p[k] = (plain){ .node = m->found.at[k] };
        for (int i = 0; i < TD_ATTEND_INPUTS; i++)
            p[k].in[i] = p[k].node.in[i] ? get(m, p[k].node.in[i]) : NULL;
        p[k].out = get(m, p[k].node.out);
        p[k].heads = p[k].node.in[TD_ATTEND_Q]->dim[1];
        p[k].queries = p[k].node.in[TD_ATTEND_Q]->dim[2];
        p[k].keys = p[k].node.in[TD_ATTEND_K]->dim[2];
        p[k].weight = malloc((size_t)(p[k].heads * p[k].queries * p[k].keys) * sizeof(double));
        weigh(&p[k]);
        expect_output(&p[k], config);
    }
}

static td_batch *batch_of(lab *l, const td_analyze_spec *s, int64_t index)
{
    td_batch  *b = td_batch_new();
    td_arena  *arena = td_arena_new();
    td_example x;
    td_error   e = { 0 };
    cr_assert_eq(td_evaluate_fetch(&s->evaluate, arena, 1, index, &x, &e), 0, "%s", e.text);
    cr_assert_eq(td_arrange_examples(&s->evaluate.feed, &x, 1, b, &e), 0, "%s", e.text);
    td_arena_free(arena);
    return b;
}

/* ---- the same numbers ------------------------------------------------------------------------ */

/* The part that contains token t: the last one that begins at or before t. */
static int64_t part(int64_t t, int64_t n)
{
    int64_t parts = n < 128 ? n : 128, k = 0;
    while (k + 1 < parts && (k + 1) * n / parts <= t)
        k++;
    return k;
}

/* Sums of one attention over heads and sequences, from whole matrices. */
typedef struct tally {
    double count[128], locality[128], entropy[128], distance[128];
    double own[128][128], memory[128][128], received[LONGEST];
} tally;

static void add_plainly(tally *t, const plain *p, int64_t before, int64_t own)
{
    for (int64_t r = 0; r < p->heads * p->queries; r++) {
        const double *w = p->weight + r * p->keys;
        int64_t       i = r % p->queries, row = part(i, p->queries);
        t->count[row]++;
        for (int64_t j = 0; j < p->keys; j++) {
            bool is_own = j < own;
            t->entropy[row] -= w[j] > 0 ? w[j] * log(w[j]) : 0;
            t->distance[row] += w[j] * fabs((double)(is_own ? i - j : before + i - (j - own)));
            if (is_own)
                t->own[row][part(j, own)] += w[j];
            else
                t->memory[row][part(j - own, p->keys - own)] += w[j];
            if (is_own && j >= i - 4 && j <= i)
                t->locality[row] += w[j];
            if (!is_own)
                t->received[j - own] += w[j];
        }
    }
}

static void expect_near(double got, double want, double tolerance, const char *config,
                        const char *name, const char *what)
{
    cr_expect(fabs(got - want) <= tolerance, "%s, %s: %s is %.9g, plainly %.9g", config, name, what,
              got, want);
}

static void expect_maps(const td_attention_mean *m, const tally *t, const char *config)
{
    for (int64_t r = 0; r < m->n_parts; r++) {
        double sum = 0;
        for (int64_t c = 0; c < m->own_parts; c++) {
            double got = m->own_map[r * m->own_parts + c];
            expect_near(got, t->own[r][c] / t->count[r], 1e-6, config, m->name, "the map");
            sum += got;
        }
        for (int64_t c = 0; c < m->memory_parts; c++) {
            double got = m->memory_map[r * m->memory_parts + c];
            expect_near(got, t->memory[r][c] / t->count[r], 1e-6, config, m->name, "the cross map");
            sum += got;
        }
        expect_near(sum, 1, 1e-6, config, m->name, "a row's sum");
    }
}

static void expect_mean(const td_attention_mean *m, const tally *t, const char *config)
{
    double count = 0, entropy = 0, distance = 0, locality = 0;
    for (int64_t k = 0; k < m->n_parts; k++) {
        const td_attention_part *p = &m->parts[k];
        expect_near(p->entropy, t->entropy[k] / t->count[k], 2e-5, config, m->name, "entropy");
        expect_near(p->distance, t->distance[k] / t->count[k], 2e-4, config, m->name, "distance");
        if (m->own)
            expect_near(p->locality, t->locality[k] / t->count[k], 1e-6, config, m->name,
                        "locality");
        count += t->count[k];
        entropy += t->entropy[k];
        distance += t->distance[k];
        locality += t->locality[k];
    }
    expect_near(m->entropy, entropy / count, 2e-5, config, m->name, "mean entropy");
    expect_near(m->distance, distance / count, 2e-4, config, m->name, "mean distance");
    cr_expect(m->own ? fabs(m->locality - locality / count) < 1e-6 : isnan(m->locality));
    for (int64_t k = 0; k < m->memory_tokens; k++)
        expect_near(m->coverage[k], t->received[k] / count, 1e-6, config, m->name, "coverage");
    expect_maps(m, t, config);
}

/* The mean log-probability of each part, from the NLL of single tokens. */
static void expect_text(const td_analysis *a, const double *nll, const char *config)
{
    int64_t at = a->prefix;
    for (size_t k = 0; k < a->n_logprobs; k++) {
        const td_logprob_part *p = &a->logprobs[k];
        double                 sum = 0;
        cr_expect_eq(p->from, at);
        for (; at < p->to; at++)
            sum -= nll[at] / (double)a->sequences;
        expect_near(p->logprob, sum / (double)(p->to - p->from), 1e-6, config, "text",
                    "log-probability");
    }
    cr_expect_eq(at, a->length);
}

static void add_text(machine *m, const td_batch *b, int64_t prefix, double *nll)
{
    const td_array *w = td_batch_find(b, "loss_weights");
    double         *x = get(m, m->built.nll);
    for (int64_t k = 0; k < w->dim[1]; k++)
        if (((const float *)w->data)[k] != 0)
            nll[prefix++] += x[k];
    free(x);
}

static int64_t own_of(const char *reads, const plain *p, int64_t length, int64_t prefix)
{
    /* in a decoder that reads both, its own tokens are those that are not given */
    if (!strcmp(reads, "both"))
        return length - prefix;
    return !strcmp(reads, "cross") ? 0 : p->keys;
}

static const char *reads_of(const char *path, bool merged)
{
    if (strstr(path, "encoder.layers"))
        return "encoder";
    if (strstr(path, "cross_attn"))
        return "cross";
    return merged && strstr(path, "decoder.") ? "both" : "self";
}

static void expect_plain(const char *config, const char *const *overrides, bool merged,
                         int64_t length, int64_t prefix)
{
    static const char *const names[TD_READS] = { "encoder", "self", "cross", "both" };
    enum { SEQUENCES = 2 };
    lab             l = open_model(config, overrides);
    td_analyze_spec s = spec_of(&l, length, prefix, SEQUENCES);
    td_analysis     a = analyze(l.engine, &s);
    tally          *t = calloc(MOST, sizeof *t);
    double          nll[LONGEST] = { 0 };
    machine         m = { 0 };
    for (int64_t k = 0; k < SEQUENCES; k++) {
        td_batch *b = batch_of(&l, &s, k * RECORDS / SEQUENCES);
        plain     p[MOST];
        if (!k)
            m = build(&l, b);
        run(&m, b, p, config);
        cr_assert_eq(a.n_attentions, m.found.n);
        for (size_t i = 0; i < m.found.n; i++) {
            const char *reads = reads_of(p[i].node.path, merged);
            bool        decodes = strcmp(reads, "encoder") != 0;
            cr_expect_str_eq(names[a.attentions[i].reads], reads, "%s", a.attentions[i].name);
            add_plainly(&t[i], &p[i], decodes ? length - p[i].queries : 0,
                        own_of(reads, &p[i], length, prefix));
        }
        add_text(&m, b, prefix, nll);
        free_plain(p, (int64_t)m.found.n);
        td_batch_free(b);
    }
    for (size_t i = 0; i < a.n_attentions; i++)
        expect_mean(&a.attentions[i], &t[i], config);
    expect_text(&a, nll, config);
    free_machine(&m, td_engine_device(l.engine));
    td_analysis_free(&a);
    free(t);
    lab_close(&l);
}

#define WITH(...) ((const char *const[]){ __VA_ARGS__, LAB_SMALL, NULL })

Test(attention, equals_whole_matrices, .timeout = 120)
{
    expect_plain("nano/decllm", small, false, 37, 11);
    expect_plain("nano/decllm-biattn", small, false, 37, 11);
    expect_plain("nano/redllm", small, false, 37, 11);
    expect_plain("nano/redllm", WITH("model.attention.kv_heads=1"), false, 41, 23);
}

/* More tokens than parts: parts differ in size, and blocks and tiles end in the middle. */
Test(attention, equals_whole_matrices_of_long_text, .timeout = 120)
{
    expect_plain("nano/decllm", small, false, 301, 100);
    expect_plain("nano/redllm", small, false, 331, 137);
}

Test(attention, equals_whole_matrices_of_other_schemes, .timeout = 120)
{
    expect_plain("nano/decllm", WITH("model.position.plugin=alibi"), false, 37, 11);
    expect_plain("nano/redllm", WITH("model.position.plugin=t5-relative"), false, 37, 11);
    expect_plain("nano/decllm", WITH("model.position.plugin=fire"), false, 37, 11);
}

Test(attention, equals_whole_matrices_of_other_attentions, .timeout = 120)
{
    expect_plain("nano/redllm",
                 WITH("model.attention.plugin=sliding-window", "model.attention.window=5"), false,
                 37, 19);
    expect_plain("nano/decllm",
                 WITH("model.attention.plugin=sliding-window", "model.attention.window=70"), false,
                 203, 19);
    expect_plain("nano/redllm", WITH("model.attention.score_cap=0.75"), false, 37, 11);
    expect_plain("nano/redllm", WITH("model.attention.plugin=merged"), true, 37, 11);
    expect_plain("nano/decllm", WITH("model.attention.plugin=differential"), false, 37, 11);
}

/* Of all layers together: every query of every head counts the same. */
Test(attention, averages_over_layers)
{
    lab             l = open_model("nano/redllm", small);
    td_analyze_spec s = spec_of(&l, 61, 30, RECORDS + 2);
    td_analysis     a = analyze(l.engine, &s);
    cr_expect_eq(a.sequences, RECORDS);
    for (int r = 0; r < TD_READS; r++) {
        const td_attention_mean *all = &a.all[r];
        double                   entropy = 0, corner = 0, heads = 0;
        for (size_t k = 0; k < a.n_attentions; k++)
            if ((int)a.attentions[k].reads == r) {
                const td_attention_mean *m = &a.attentions[k];
                entropy += m->entropy * (double)m->heads;
                corner += (m->own ? m->own_map : m->memory_map)[0] * (double)m->heads;
                heads += (double)m->heads;
            }
        cr_expect_eq((double)all->heads, heads);
        if (heads == 0)
            continue;
        cr_expect_float_eq(all->entropy, entropy / heads, 1e-9);
        cr_expect_float_eq((all->own ? all->own_map : all->memory_map)[0], corner / heads, 1e-9);
    }
    cr_expect(a.all[TD_READS_ENCODER].heads && a.all[TD_READS_CROSS].heads);
    td_analysis_free(&a);
    lab_close(&l);
}

/* ---- any number of threads ------------------------------------------------------------------- */

static td_analysis with_threads(const lab *l, int threads)
{
    td_error          error = { 0 };
    td_pool          *pool = td_pool_new(threads, NULL, &error);
    td_engine_options o = { .model = td_experiment_model(l->x),
                            .backend = l->x->backend,
                            .services = td_pool_services(pool) };
    td_engine        *e = td_engine_open(&o, &error);
    td_analyze_spec   s = spec_of(l, 331, 137, 2);
    td_batch         *shape = lab_batch(l, 0, 0, 1);
    td_analysis       a;
    cr_assert(e, "%s", error.text);
    cr_assert_eq(td_engine_plan(e, shape, NULL, &error), 0, "%s", error.text);
    cr_assert_eq(td_engine_allocate(e, 3, &error), 0, "%s", error.text);
    a = analyze(e, &s);
    td_batch_free(shape);
    td_engine_close(e);
    td_pool_free(pool);
    return a;
}

static void expect_same_bits(const td_attention_mean *a, const td_attention_mean *b)
{
    size_t parts = (size_t)a->n_parts;
    cr_expect_eq(memcmp(a->parts, b->parts, parts * sizeof *a->parts), 0, "%s", a->name);
    cr_expect_eq(memcmp(a->own_map, b->own_map, parts * (size_t)a->own_parts * sizeof(double)), 0);
    cr_expect_eq(memcmp(a->memory_map, b->memory_map,
                        parts * (size_t)a->memory_parts * sizeof(double)),
                 0);
    cr_expect_eq(memcmp(a->coverage, b->coverage, (size_t)a->memory_tokens * sizeof(double)), 0);
}

Test(attention, does_not_depend_on_threads, .timeout = 60)
{
    lab         l = open_model("nano/redllm", small);
    td_analysis one = with_threads(&l, 1), three = with_threads(&l, 3);
    for (size_t k = 0; k < one.n_attentions; k++)
        expect_same_bits(&one.attentions[k], &three.attentions[k]);
    for (int r = 0; r < TD_READS; r++)
        if (one.all[r].heads)
            expect_same_bits(&one.all[r], &three.all[r]);
    td_analysis_free(&one);
    td_analysis_free(&three);
    lab_close(&l);
}

/* ---- choosing -------------------------------------------------------------------------------- */

Test(attention, looks_at_chosen_layers_and_heads)
{
    static const char *const layers[] = { "1", "*.layers.0.cross_attn" };
    static const int64_t     heads[] = { 2, 0 };
    lab                      l = open_model("nano/redllm", small);
    td_analyze_spec          s = spec_of(&l, 37, 11, 1);
    td_analysis              a;
    s.layers = layers;
    s.n_layers = 2;
    s.heads = heads;
    s.n_heads = 2;
    a = analyze(l.engine, &s);
    cr_assert_eq(a.n_attentions, 4);
    cr_expect_str_eq(a.attentions[0].name, "model.encoder.layers.1.self_attn");
    cr_expect_str_eq(a.attentions[1].name, "model.decoder.layers.0.cross_attn");
    cr_expect_str_eq(a.attentions[3].name, "model.decoder.layers.1.cross_attn");
    for (size_t k = 0; k < a.n_attentions; k++)
        cr_expect_eq(a.attentions[k].heads, 2);
    td_analysis_free(&a);
    lab_close(&l);
}

static void expect_refused(td_engine *e, const td_analyze_spec *s, const char *first,
                           const char *second)
{
    td_error    error = { 0 };
    td_analysis a;
    cr_expect_eq(td_analyze(e, s, NULL, NULL, &a, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, first) && strstr(error.text, second), "%s", error.text);
    td_analysis_free(&a);
}

Test(attention, lists_layers_and_heads)
{
    static const char *const layers[] = { "0", "17" };
    static const int64_t     heads[] = { 3 };
    lab                      l = open_model("nano/decllm", small);
    td_analyze_spec          s = spec_of(&l, 37, 11, 1);
    s.layers = layers;
    s.n_layers = 2;
    expect_refused(l.engine, &s, "there is no attention in layer '17'", "model.layers.0.self_attn");
    s.n_layers = 0;
    s.heads = heads;
    s.n_heads = 1;
    expect_refused(l.engine, &s, "no head 3 in 'model.layers.0.self_attn'", "heads 0 to 2");
    s = spec_of(&l, 37, 37, 1);
    expect_refused(l.engine, &s, "a prefix of 37 tokens", "37");
    lab_close(&l);
}

Test(attention, names_attentions_without_weights)
{
    lab             l = open_model("nano/redllm", WITH("model.attention.plugin=linear"));
    td_analyze_spec s = spec_of(&l, 37, 11, 1);
    td_analysis     a = analyze(l.engine, &s);
    cr_expect_eq(a.n_attentions, 0);
    cr_assert(a.n_without > 3);
    cr_expect_str_eq(a.without[0], "model.encoder.layers.0.self_attn");
    cr_expect_str_eq(a.without[a.n_without - 1] + strlen(a.without[a.n_without - 1]) - 10,
                     "cross_attn");
    cr_expect(a.n_logprobs == 26 && isfinite(a.logprobs[25].logprob));
    td_analysis_free(&a);
    lab_close(&l);
}

static int stop_after_one(void *arg, int64_t done, int64_t all)
{
    *(int64_t *)arg = 10 * done + all;
    return 1;
}

Test(attention, stops_on_request)
{
    lab             l = open_model("nano/decllm", small);
    td_analyze_spec s = spec_of(&l, 37, 11, 3);
    td_analysis     a;
    int64_t         seen = 0;
    cr_expect_eq(td_analyze(l.engine, &s, stop_after_one, &seen, &a, &l.error), TD_EEND);
    cr_expect_eq(seen, 13);
    td_analysis_free(&a);
    lab_close(&l);
}
