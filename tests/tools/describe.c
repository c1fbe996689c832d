/* describe.c - `tandem describe` on the paper's models: every single parameter, FLOPs to the
 * last digit that the paper prints, and all without allocating a model. */
#include "child.h"

#include <math.h>

typedef struct row {
    const char *config;
    int64_t     parameters;
    /* forward, dense, lookups counted as products, for one sequence; as printed, in 1e13 */
    double      flops;
} row;

static const row paper[] = {
    { "decllm-150m", 167789568, 0.0962 }, { "decllm-1b", 1140918272, 0.5498 },
    { "decllm-2b", 2181143040, 1.0136 },  { "decllm-4b", 3724692480, 1.6905 },
    { "decllm-8b", 8724418560, 3.8483 },  { "redllm-150m", 146818048, 0.0477 },
    { "redllm-1b", 1124149248, 0.2757 },  { "redllm-2b", 2207372800, 0.5154 },
    { "redllm-4b", 3498209280, 0.7963 },  { "redllm-8b", 8590229504, 1.8863 },
};

enum { KILOBYTES_ALLOWED = 200 * 1024 };

/* `more`: NULL, key=value or another config. */
static child describe(const char *config, const char *more)
{
    char path[500];
    snprintf(path, sizeof path, "%s/configs/%s.cfg", TANDEM_SOURCE, config);
    return child_run(
        (const char *[]){ TANDEM_BINARY, "describe", "-c", path, "--json", more, NULL });
}

static int64_t integer(const json_t *j, const char *group, const char *name)
{
    const json_t *value = json_object_get(json_object_get(j, group), name);
    cr_assert(json_is_integer(value), "%s.%s", group, name);
    return json_integer_value(value);
}

static int64_t sum_of_groups(const json_t *j)
{
    static const char *const groups[] = { "embedding", "attention", "ffn", "norm", "other" };
    int64_t                  sum = 0;
    for (size_t k = 0; k < sizeof groups / sizeof *groups; k++)
        sum += integer(j, "parameters", groups[k]);
    return sum;
}

Test(describe, the_papers_models)
{
    for (size_t k = 0; k < sizeof paper / sizeof *paper; k++) {
        char    name[64];
        child   c;
        json_t *j;
        double  flops;

        snprintf(name, sizeof name, "paper/%s", paper[k].config);
        c = describe(name, NULL);
        cr_assert_eq(c.code, 0, "%s", c.err);
        j = child_json(&c);
        flops = json_real_value(json_object_get(json_object_get(j, "flops"), "paper")) * 1e-13;
        cr_expect_eq(integer(j, "parameters", "total"), paper[k].parameters, "%s: %lld parameters",
                     name, (long long)integer(j, "parameters", "total"));
        cr_expect_eq(integer(j, "memory", "parameters"), 4 * paper[k].parameters, "%s", name);
        cr_expect_eq(sum_of_groups(j), paper[k].parameters,
                     "%s: the groups do not sum to the total", name);
        cr_expect_eq(integer(j, "parameters", "other"), 0, "%s", name);
        cr_expect_lt(fabs(flops - paper[k].flops), 0.5000001e-4, "%s: %.6f, not %.4f", name, flops,
                     paper[k].flops);
        cr_expect(!CHILD_MEASURES_MEMORY || c.kilobytes < KILOBYTES_ALLOWED, "%s took %ld KiB",
                  name, c.kilobytes);
        cr_log_info("%s: %.2f s, %ld KiB", name, c.seconds, c.kilobytes);
        json_decref(j);
        child_free(&c);
    }
}

/* The formulas by hand, for a shape from no paper: primes, uneven depths. */
static double formula(double le, double ld, double d, double f, double v, double s, double u)
{
    double layer = 4 * d * d + 3 * d * f;
    return 2 * le * layer * s + 4 * le * d * s * s + 2 * ld * layer * u + 4 * ld * d * u * u +
           2 * ld * 2 * d * d * (u + s) + 4 * ld * d * s * u + 2 * v * d * u + 2 * v * d * (s + u);
}

/* The formula must hold however the loss splits a sequence, and whatever buckets training has.
 * Returns U. */
static int64_t expect_formula(const char *split, double length)
{
    char        path[500], tokens[40];
    const char *argv[] = { TANDEM_BINARY,
                           "describe",
                           "-c",
                           path,
                           "--json",
                           "model.vocab_size=541",
                           "model.d_model=66",
                           "model.encoder_layers=1",
                           "model.decoder_layers=3",
                           "model.attention.heads=3",
                           "model.attention.head_dim=22",
                           "model.ffn.d_ff=101",
                           split,
                           tokens,
                           NULL };
    child       c;
    json_t     *j;
    double      flops, wanted;
    int64_t     predicted;

    snprintf(path, sizeof path, "%s/configs/nano/redllm.cfg", TANDEM_SOURCE);
    snprintf(tokens, sizeof tokens, "train.length=%.0f", length);
    c = child_run(argv);
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    flops = json_real_value(json_object_get(json_object_get(j, "flops"), "paper"));
    predicted = json_integer_value(json_object_get(j, "predicted"));
    wanted = formula(1, 3, 66, 101, 541, length - (double)predicted, (double)predicted);
    cr_expect_float_eq(flops, wanted, 0.5, "%s: %.1f FLOPs, not %.1f", split, flops, wanted);
    cr_expect_eq(sum_of_groups(j), integer(j, "parameters", "total"));
    json_decref(j);
    child_free(&c);
    return predicted;
}

Test(describe, flops_of_odd_shapes)
{
    int64_t random;
    cr_expect_eq(expect_formula("loss.prefix=0", 142), 71);
    cr_expect_eq(expect_formula("loss.prefix=8", 64), 56);
    cr_expect_eq(expect_formula("loss.prefix=139", 142), 3);
    random = expect_formula("loss.split=random", 142);
    cr_expect(random >= 1 && random <= 141, "%lld tokens", (long long)random);
}

static json_t *memory_of(const char *first, const char *second)
{
    char        path[500];
    const char *argv[] = {
        TANDEM_BINARY,         "describe", "-c",   path, "--json", "train.length=77",
        "train.micro_batch=4", first,      second, NULL
    };
    child   c;
    json_t *j;
    snprintf(path, sizeof path, "%s/configs/nano/decllm.cfg", TANDEM_SOURCE);
    c = child_run(argv);
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    child_free(&c);
    return j;
}

/* The memory of a run includes batches that are read ahead (three steps of them), micro-batches
 * that add, and evaluation. */
Test(describe, memory_is_that_of_a_run)
{
    json_t *one = memory_of("train.batch=4", "evaluate.batch=1"),
           *two = memory_of("train.batch=8", "evaluate.batch=1"),
           *ten = memory_of("train.batch=40", "evaluate.batch=1"),
           *long_one = memory_of("train.batch=4", "evaluate.length=1999"),
           *without = memory_of("train.evaluate_every=-1", "evaluate.length=1999");
    int64_t batch = 4 * 77 * 5 * 4; /* ids, segments, positions, labels, weights */
    cr_expect_eq(integer(ten, "memory", "inputs") - integer(two, "memory", "inputs"),
                 3 * 8 * batch);
    cr_expect_gt(integer(two, "memory", "inputs") - integer(one, "memory", "inputs"), 3 * batch,
                 "the plan that adds has separate inputs");
    cr_expect_gt(integer(long_one, "memory", "activations"),
                 integer(without, "memory", "activations"));
    json_decref(one);
    json_decref(two);
    json_decref(ten);
    json_decref(long_one);
    json_decref(without);
}

Test(describe, groups_of_another_model)
{
    child   c = describe("nano/redllm", "ablations/t5-bias.cfg");
    json_t *j;
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    cr_expect_gt(integer(j, "parameters", "total"), 0);
    cr_expect_eq(sum_of_groups(j), integer(j, "parameters", "total"));
    json_decref(j);
    child_free(&c);
}

/* Without a tokenizer there are always enough marks. The split varies only if different
 * denoisers are mixed. */
Test(describe, losses_that_take_spans_out)
{
    static const char *const losses[] = { "span-corruption", "ul2" };
    for (int k = 0; k < 2; k++) {
        char path[500];
        snprintf(path, sizeof path, "ablations/%s.cfg", losses[k]);
        child c = child_run(
            (const char *[]){ TANDEM_BINARY, "describe", "nano/redllm.cfg", path, NULL });
        cr_assert_eq(c.code, 0, "%s", c.err);
        cr_expect(k || strstr(c.out, "one sequence of 256 tokens, 46 of them predicted\n"), "%s",
                  c.out);
        cr_expect(!k || strstr(c.out, "predicted (the split varies)\n"), "%s", c.out);
        child_free(&c);
    }
}

/* FLOPs count only the experts that compute: two of eight, each of half the width, cost as much
 * as one layer, plus the router. */
Test(describe, experts_that_are_not_chosen_cost_nothing)
{
    child   c = describe("nano/redllm", "ablations/moe.cfg"), d = describe("nano/redllm", NULL);
    json_t *experts = child_json(&c), *one = child_json(&d);
    double  router = 2.0 * 128 * 256 * 8 * 4; /* tokens of a stack, d_model, experts, layers */
    cr_expect_eq(integer(experts, "parameters", "ffn"),
                 4 * integer(one, "parameters", "ffn") + 4 * 256 * 8);
    cr_expect_float_eq(json_real_value(json_object_get(json_object_get(experts, "flops"), "dense")),
                       json_real_value(json_object_get(json_object_get(one, "flops"), "dense")) +
                           router,
                       1);
    json_decref(experts);
    json_decref(one);
    child_free(&c);
    child_free(&d);
}

Test(describe, usage)
{
    child c = describe("paper/redllm-8b", "--graph=png");
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "--graph takes text or dot, not 'png'"), "%s", c.err);
    child_free(&c);
}

/* Of 8 processes that shard the update, the fullest has at least an eighth of the states, and more
 * only as far as a parameter cannot be divided; there are as many parameters as before. */
Test(describe, memory_of_each_of_several_processes)
{
    const char *shared[] = { TANDEM_BINARY,
                             "describe",
                             "-c",
                             TANDEM_SOURCE "/configs/nano/decllm.cfg",
                             "--json",
                             "train.batch=8",
                             "train.micro_batch=1",
                             "train.length=77",
                             "train.shard=optimizer",
                             "optimizer.plugin=adamw",
                             "--processes",
                             "8",
                             NULL };
    json_t     *one = memory_of("train.batch=8", "optimizer.plugin=adamw"), *eight;
    child       c = child_run(shared);
    int64_t     states = integer(one, "memory", "optimizer"), share;
    cr_assert_eq(c.code, 0, "%s", c.err);
    eight = child_json(&c);
    share = integer(eight, "memory", "optimizer");
    cr_expect(8 * share >= states && 2 * share < states, "%lld of %lld", (long long)share,
              (long long)states);
    cr_expect_eq(integer(eight, "memory", "parameters"), integer(one, "memory", "parameters"));
    json_decref(eight);
    child_free(&c);
    shared[8] = "train.shard=parameters";
    c = child_run(shared);
    cr_assert_eq(c.code, 0, "%s", c.err);
    eight = child_json(&c);
    for (int k = 0; k < 2; k++) {
        const char *what = k ? "parameters" : "gradients";
        share = integer(eight, "memory", what);
        cr_expect(8 * share >= integer(one, "memory", what) &&
                      share < integer(one, "memory", what) / (k ? 4 : 2),
                  "%s: %lld of %lld", what, (long long)share,
                  (long long)integer(one, "memory", what));
    }
    json_decref(one);
    json_decref(eight);
    child_free(&c);
    c = child_run((const char *[]){ TANDEM_BINARY, "describe", "-c",
                                    TANDEM_SOURCE "/configs/nano/redllm.cfg", "train.batch=8",
                                    "--processes", "9", NULL });
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "9 processes cannot share a batch of train.batch = 8"), "%s", c.err);
    child_free(&c);
}

/* A loss of another author may not know of caps. */
Test(describe, a_loss_that_does_not_cap)
{
    child c = child_run((const char *[]){ TANDEM_BINARY, "describe", "-c", "quickstart/decllm.cfg",
                                          "--plugin-path", TANDEM_FIXTURES "/broken",
                                          "loss.plugin=mixes", "model.logit_cap=5", NULL });
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "the model caps its logits at 5, but loss 'mixes' does not cap them"),
              "%s", c.err);
    child_free(&c);
}
