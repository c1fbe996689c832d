/* ul2.c - a mixture of denoisers: R, short spans; X, long or many spans; S, prefix language
 * modelling. Paper: Tay et al. 2022.
 *
 * Each record is split by one denoiser, drawn by its rate. A mode token before the given tokens
 * tells the model which kind of task it has. */
#include "spans.h"

enum { R, S, X }; /* in the order of td_special.mode */

struct denoiser {
    int64_t mode;
    double  noise_density, mean_span, rate;
};

struct ul2 {
    double  z_loss, label_smoothing;
    bool    mode_tokens;
    td_list denoisers;
};

static const char *const modes[] = { "R", "S", "X", 0 };

static const td_option denoiser_options[] = {
    TD_OPTION_CHOICE(struct denoiser, mode, R, modes,
                     "the denoiser's mode token; S predicts the end of a text, without sentinels"),
    TD_OPTION_FLOAT(struct denoiser, noise_density, 0.15, 0.001, 0.999,
                    "fraction of the tokens that is removed; for S, on average"),
    TD_OPTION_FLOAT(struct denoiser, mean_span, 3, 1, 1e6,
                    "mean length of a removed span, in tokens; not used by S"),
    TD_OPTION_FLOAT(struct denoiser, rate, 1, 1e-9, 1e9,
                    "share of the records, relative to the other denoisers' rates"),
    TD_OPTION_END
};

static const td_option options[] = {
    CROSS_ENTROPY_OPTIONS(struct ul2),
    TD_OPTION_BOOL(
        struct ul2, mode_tokens, true,
        "add the denoiser's mode token before the given tokens, if the tokenizer has modes"),
    TD_OPTION_LIST(struct ul2, denoisers, struct denoiser, denoiser_options,
                   "denoisers, one drawn for each record by its rate; empty: the paper's seven, R "
                   "3 0.15, R 8 0.15, X 3 0.5, X 8 0.5, X 64 0.15, X 64 0.5, S 0.25 (mean_span and "
                   "noise_density), at equal rates"),
    TD_OPTION_END
};

/* The paper's table 1. */
static const struct denoiser seven[] = {
    { R, 0.15, 3, 1 },  { R, 0.15, 8, 1 }, { X, 0.5, 3, 1 },  { X, 0.5, 8, 1 },
    { X, 0.15, 64, 1 }, { X, 0.5, 64, 1 }, { S, 0.25, 1, 1 },
};

static td_list denoisers_of(const struct ul2 *c)
{
    return c->denoisers.count ? c->denoisers : (td_list){ seven, sizeof seven / sizeof *seven };
}

static const struct denoiser *at(td_list l, size_t k) { return (const struct denoiser *)l.at + k; }

/* Indices of a record's random numbers: which denoiser, where S cuts, and from SPANS on the
 * spans. */
enum { WHICH, WHERE, SPANS };

/* The denoiser of a record: the first whose cumulated rate exceeds a uniform number. */
static const struct denoiser *choose(const struct ul2 *c, const td_record *r, uint64_t seed)
{
    td_list l = denoisers_of(c);
    double  total = 0, sum, place;
    size_t  chosen = 0;

    for (size_t k = 0; k < l.count; k++)
        total += at(l, k)->rate;
    place = td_random_uniform(seed, r->id, WHICH) * total;
    sum = at(l, 0)->rate;
    /* rounding may leave the sum of all just below `place`: the last one takes the rest */
    while (sum <= place && chosen + 1 < l.count)
        sum += at(l, ++chosen)->rate;
    return at(l, chosen);
}

/* ---- the end of a text ----------------------------------------------------------------------- */

static int64_t between(int64_t low, int64_t x, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* The shortest and longest end that may be cut from n tokens. All lengths between are equally
 * likely, and the two add up to 2 density n, so density is the mean share. */
struct ends {
    int64_t least, most;
};

static struct ends ends_of(int64_t n, double density)
{
    int64_t     both = (int64_t)rint(2 * density * (double)n);
    struct ends e;
    /* the longest first, from 1 to n - 1; if it is cut off there, the shortest makes up for it */
    e.most = between(1, both - 1, n - 1);
    e.least = between(1, both - e.most, e.most);
    return e;
}

/* Give the first `count` tokens of the record, with `mode` in front: only that needs a copy. */
static int give(const td_record *r, int64_t count, int32_t mode, const td_split_in *in,
                td_example *out, td_error *error)
{
    struct side given;
    out->given = r->targets;
    out->n_given = count;
    out->given_documents = r->documents;
    /* the record's own arrays will do */
    if (mode < 0)
        return 0;
    if (!side_open(&given, in, count + 1, r->documents, false))
        return td_fail(error, TD_ENOMEM, "loss 'ul2': out of memory for an example of %lld tokens",
                       (long long)r->n_targets);
    side_add(&given, r, mode, 0);
    for (int64_t k = 0; k < count; k++)
        side_add(&given, r, r->targets[k], k);
    out->given = given.tokens;
    out->n_given = given.count;
    out->given_documents = given.documents;
    return 0;
}

/* Denoiser S: predict the end of the record. */
static int split_end(const struct denoiser *d, const td_record *r, const td_split_in *in,
                     int32_t mode, td_example *out, td_error *error)
{
    struct ends e;
    int64_t     k;
    if (r->n_targets < 2)
        return td_fail(
            error, TD_EFORMAT,
            "loss 'ul2': record %llu has %lld tokens; it needs one to give and one to predict",
            (unsigned long long)r->id, (long long)r->n_targets);
    /* the given side keeps the rest, at least one token */
    e = ends_of(r->n_targets, d->noise_density);
    k = r->n_targets - e.least -
        (int64_t)td_random_below(in->seed, r->id, WHERE, (uint64_t)(e.most - e.least + 1));
    out->predicted = r->targets + k;
    out->n_predicted = r->n_targets - k;
    out->predicted_documents = r->documents ? r->documents + k : NULL;
    out->weights = r->weights ? r->weights + k : NULL;
    return give(r, k, mode, in, out, error);
}

/* ---- hooks ----------------------------------------------------------------------------------- */

/* The tokenizer must have sentinels enough for every denoiser, not only for the one drawn:
 * otherwise a rare one would fail after hours of training. */
static int check_marks(const struct ul2 *c, const td_record *r, const td_split_in *in,
                       td_error *error)
{
    td_list l = denoisers_of(c);
    int     code = 0;
    for (size_t k = 0; k < l.count && !code; k++) {
        const struct denoiser *d = at(l, k);
        struct spans_in        spans = { "ul2", r, in, d->noise_density, d->mean_span, -1, SPANS };
        code = d->mode == S ? 0 : spans_check(&spans, error);
    }
    return code;
}

static int split(const void *config, const td_record *r, const td_split_in *in, td_example *out,
                 td_error *error)
{
    const struct ul2      *c = config;
    const struct denoiser *d = choose(c, r, in->seed);
    int32_t                mode = c->mode_tokens ? in->special.mode[d->mode] : -1;
    struct spans_in        spans = { "ul2", r, in, d->noise_density, d->mean_span, mode, SPANS };

    memset(out, 0, sizeof *out);
    out->source = r->source;
    out->id = r->id;
    if (r->inputs)
        return split_pair("ul2", r, out, error);
    /* a pair is never corrupted, so it needs no sentinels */
    if (check_marks(c, r, in, error))
        return error->code;
    return d->mode == S ? split_end(d, r, in, mode, out, error) : spans_split(&spans, out, error);
}

/* The largest sizes that n tokens can have under a denoiser. */
static td_bounds size_of(const struct denoiser *d, int64_t n)
{
    struct ends e = ends_of(n, d->noise_density);
    return d->mode == S ? (td_bounds){ n, n - e.least, e.most, n }
                        : spans_size(n, d->noise_density, d->mean_span);
}

/* Records have one length for all denoisers, the shortest that any of them allows, so that the
 * number of tokens read does not depend on the draws. One place is reserved for the mode token
 * even if the tokenizer turns out to have none: bounds come before it. */
static td_bounds bounds(const void *config, int64_t length)
{
    const struct ul2 *c = config;
    td_list           l = denoisers_of(c);
    int64_t           extra = c->mode_tokens, raw = length - extra;
    td_bounds         most = { 0, 0, 0, 0 };

    for (size_t k = 0; k < l.count; k++) {
        const struct denoiser *d = at(l, k);
        td_bounds              b = spans_bounds(length, d->noise_density, d->mean_span, extra);
        raw = d->mode != S && b.raw < raw ? b.raw : raw;
    }
    /* then the largest parts that records of that length can have */
    for (size_t k = 0; k < l.count && raw >= 2; k++) {
        td_bounds b = size_of(at(l, k), raw);
        most.given = b.given + extra > most.given ? b.given + extra : most.given;
        most.predicted = b.predicted > most.predicted ? b.predicted : most.predicted;
        most.total = b.total + extra > most.total ? b.total + extra : most.total;
    }
    most.raw = raw >= 2 ? raw : 0;
    return most;
}

static void build(const void *config, const td_loss_in *in, td_loss_out *out)
{
    const struct ul2 *c = config;
    cross_entropy_build(in, c->z_loss, c->label_smoothing, out);
}

static const td_loss ul2 = {
    .plugin = TD_PLUGIN(
        td_loss, TD_LOSS_KIND, "ul2", options, struct ul2,
        .brief = "a mixture of denoisers: short spans, long spans and the end of a text",
        .doc = "The tokenizer must have sentinels (tokenizer.sentinels) and should "
               "have modes (tokenizer.modes). train.length covers inputs and targets "
               "together. Evaluation gives the beginning of a text, without a mode token.",
        .paper = "Tay et al., UL2: Unifying Language Learning Paradigms, 2022"),
    .flags = TD_LOSS_NEEDS_GIVEN | TD_LOSS_CAPS,
    .split = split,
    .bounds = bounds,
    .build = build,
};

TD_MODULE("ul2", "1.0", "tandem", "MIT", &ul2.plugin)
