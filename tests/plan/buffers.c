/* buffers.c - the planner allocates neither the scores of all pairs of positions nor the logits
 * of all words. */
#include "model/lab.h"

#include "plan/internal.h"

/* The nano models on sequences of length 311, which no other dim has, so that a dim reveals its
 * meaning; an encoder-decoder has half of it in either stack. */
enum { ROWS = 13, NANO_VOCABULARY = 4096, NANO_HEADS = 4 };

typedef struct shapes {
    int64_t q, k, tokens; /* lengths; labels */
} shapes;

/* The number of buffers that hold pairs of positions, or logits, and of all buffers; the largest
 * workspace of attention, and of any kernel. */
typedef struct sighting {
    int    pairs, logits, outputs;
    size_t attention, workspace;
} sighting;

static bool is_length(const shapes *s, int64_t n) { return n == s->q || n == s->k; }

static void look_at(const td_view *v, const shapes *s, sighting *seen)
{
    int     lengths = 0, words = 0;
    int64_t rest = 1;
    for (int k = 0; k < v->rank; k++) {
        lengths += is_length(s, v->dim[k]);
        /* chunks of logits are fine: only those of all tokens count */
        if (v->dim[k] == NANO_VOCABULARY)
            words++;
        else
            rest *= v->dim[k];
    }
    seen->outputs++;
    seen->pairs += lengths >= 2;
    seen->logits += words && rest >= s->tokens;
}

static sighting look(const td_plan *p, const shapes *s)
{
    sighting seen = { 0 };
    for (int32_t i = 0; i < p->n_calls; i++) {
        const td_kernel_call *x = p->calls[i];
        size_t                bytes;
        /* variables are not buffers: the embedding has the vocabulary as a dim */
        for (int k = 0; k < x->call.n_out; k++)
            if (x->out[k] >= 0 &&
                p->storages[td_storage_root(p, x->out[k])].kind == TD_STORAGE_ARENA)
                look_at(&x->call.out[k], s, &seen);
        bytes = x->workspace >= 0 ? p->storages[x->workspace].bytes : 0;
        seen.workspace = bytes > seen.workspace ? bytes : seen.workspace;
        if (x->node && !strncmp(x->node->op->plugin.name, "attend", 6))
            seen.attention = bytes > seen.attention ? bytes : seen.attention;
    }
    return seen;
}

/* A batch of rows of the greatest length. */
static td_batch *longest(const lab *l)
{
    td_arrange_spec feed = lab_feed(l);
    td_batch       *b = td_batch_new();
    td_error        error = { 0 };
    feed.micro_batch = ROWS;
    cr_assert_eq(td_arrange_shape(&feed, b, &error), 0, "%s", error.text);
    return b;
}

static shapes shapes_of(const td_batch *b)
{
    const td_array *labels = td_batch_find(b, "labels"), *encoder = td_batch_find(b, "encoder_ids");
    shapes          s = { labels->dim[1], encoder ? encoder->dim[1] : labels->dim[1],
                          labels->dim[0] * labels->dim[1] };
    return s;
}

static sighting sight(const char *config, bool lowered, shapes *s)
{
    const char *overrides[] = { "train.length=311", "train.bucket=1", "train.recompute=none",
                                NULL };
    lab         l = lab_open(config, overrides, NULL);
    td_device   device = *td_engine_device(l.engine);
    td_batch   *b = longest(&l);
    td_built    built;
    td_plan    *plan;
    sighting    seen;

    const td_model *model = td_engine_model(l.engine);
    td_variables   *v = td_engine_variables(l.engine);

    /* a whole training step: attention's gradient must not store scores either */
    *s = shapes_of(b);
    device.lower_all = lowered;
    cr_assert_eq(td_model_forward(model, v, TD_PHASE_TRAIN, b, false, &built, &l.error), 0, "%s",
                 l.error.text);
    cr_assert_eq(td_model_backward(model, v, &built, false, &l.error), 0, "%s", l.error.text);
    plan = td_plan_new(built.graph, (td_tensor *[]){ built.sum, built.loss }, 2, &device, &l.error);
    cr_assert(plan, "%s", l.error.text);
    seen = look(plan, s);
    td_plan_free(plan);
    td_graph_free(built.graph);
    td_batch_free(b);
    lab_close(&l);
    return seen;
}

static void expect_small(const char *config)
{
    shapes   s;
    sighting seen = sight(config, false, &s);
    size_t   logits = (size_t)s.tokens * NANO_VOCABULARY * sizeof(float);
    size_t   scores = (size_t)(ROWS * NANO_HEADS * s.q * s.q) * sizeof(float);

    cr_expect_gt(seen.outputs, 50, "%s: too few buffers for a training step", config);
    cr_expect_eq(seen.pairs, 0, "%s: %d buffers of all pairs of positions", config, seen.pairs);
    cr_expect_eq(seen.logits, 0, "%s: %d buffers of the logits of all tokens", config, seen.logits);
    cr_expect_lt(seen.attention, scores / 3,
                 "%s: attention works in %zu bytes; scores would take %zu", config, seen.attention,
                 scores);
    cr_expect_lt(seen.workspace, logits / 3,
                 "%s: a kernel works in %zu bytes; logits would take %zu", config, seen.workspace,
                 logits);
}

Test(buffers, no_scores_and_no_logits)
{
    expect_small("nano/decllm");
    expect_small("nano/redllm");
}

/* The lowerings store both, which shows that the test above would find them. */
Test(buffers, the_lowered_step_has_both)
{
    static const char *const configs[] = { "nano/decllm", "nano/redllm" };
    for (int k = 0; k < 2; k++) {
        shapes   s;
        sighting seen = sight(configs[k], true, &s);
        cr_expect_gt(seen.pairs, 0, "%s", configs[k]);
        cr_expect_gt(seen.logits, 0, "%s", configs[k]);
    }
}
