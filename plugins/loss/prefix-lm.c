/* prefix-lm.c - the first part of a sequence is given, and the rest is predicted. Papers: Liu et
 * al. 2018, Raffel et al. 2020. */
#include "pairs.h"

struct prefix_lm {
    double  z_loss, label_smoothing;
    int64_t split, prefix;
};

enum { FIXED, RANDOM };

static const char *const splits[] = { "fixed", "random", 0 };

static const td_option options[] = {
    CROSS_ENTROPY_OPTIONS(struct prefix_lm),
    TD_OPTION_CHOICE(
        struct prefix_lm, split, FIXED, splits,
        "where running text is cut: fixed, always at the same place; random, uniformly"),
    TD_OPTION_INT(struct prefix_lm, prefix, 0, 0, 1 << 30,
                  "tokens given if split is fixed; 0: half"),
    TD_OPTION_END
};

/* The number of tokens of a run that are given. Random: 1 .. n - 1, by a number that depends on
 * the record alone, so that a resumed run cuts it at the same place. */
static int64_t cut(const struct prefix_lm *c, const td_record *r, uint64_t seed)
{
    if (c->split == RANDOM)
        return 1 + (int64_t)td_random_below(seed, r->id, 0, (uint64_t)r->n_targets - 1);
    return c->prefix ? c->prefix : r->n_targets / 2;
}

/* Cut a run in two. */
static int split_run(const struct prefix_lm *c, const td_record *r, uint64_t seed, td_example *out,
                     td_error *error)
{
    int64_t k;
    if (r->n_targets < 2)
        return td_fail(error, TD_EFORMAT,
                       "loss 'prefix-lm': record %llu has %lld tokens; it needs one to give and "
                       "one to predict",
                       (unsigned long long)r->id, (long long)r->n_targets);
    k = cut(c, r, seed);
    if (k >= r->n_targets)
        return td_fail(
            error, TD_EFORMAT,
            "loss 'prefix-lm': record %llu has %lld tokens; prefix = %lld leaves none to predict",
            (unsigned long long)r->id, (long long)r->n_targets, (long long)k);
    /* both parts point into the record: nothing is copied */
    out->given = r->targets;
    out->n_given = k;
    out->predicted = r->targets + k;
    out->n_predicted = r->n_targets - k;
    out->weights = r->weights ? r->weights + k : NULL;
    out->given_documents = r->documents;
    out->predicted_documents = r->documents ? r->documents + k : NULL;
    return 0;
}

static int split(const void *config, const td_record *r, const td_split_in *in, td_example *out,
                 td_error *error)
{
    memset(out, 0, sizeof *out);
    out->source = r->source;
    out->id = r->id;
    return r->inputs ? split_pair("prefix-lm", r, out, error)
                     : split_run(config, r, in->seed, out, error);
}

/* A random cut needs the worst-case size on both sides, although their sum stays `length`. */
static td_bounds bounds(const void *config, int64_t length)
{
    const struct prefix_lm *c = config;
    int64_t                 k = c->prefix ? c->prefix : length / 2;
    if (c->split == RANDOM)
        return (td_bounds){ length, length - 1, length - 1, length };
    return (td_bounds){ length, k, length - k, length };
}

static void build(const void *config, const td_loss_in *in, td_loss_out *out)
{
    const struct prefix_lm *c = config;
    cross_entropy_build(in, c->z_loss, c->label_smoothing, out);
}

static int check(const void *config, td_error *error)
{
    const struct prefix_lm *c = config;
    if (c->split == RANDOM && c->prefix)
        return td_fail(error, TD_ECONFIG,
                       "prefix = %lld has no effect with split = \"random\": remove one of the two",
                       (long long)c->prefix);
    return 0;
}

static const td_loss prefix_lm = {
    .plugin = TD_PLUGIN(td_loss, TD_LOSS_KIND, "prefix-lm", options, struct prefix_lm,
                        .brief = "the first part is given, and the rest is predicted",
                        .paper = "Raffel et al., Exploring the Limits of Transfer Learning, 2020",
                        .check = check),
    .flags = TD_LOSS_NEEDS_GIVEN | TD_LOSS_CAPS,
    .split = split,
    .bounds = bounds,
    .build = build,
};

TD_MODULE("prefix-lm", "1.0", "tandem", "MIT", &prefix_lm.plugin)
