/* score.c - log-likelihoods in batches of items of similar length. */
#include "evaluate/score.h"

#include <stdlib.h>
#include <string.h>

#include "evaluate/score_shared.h"
#include "model/model.h"
#include "plugin/hook.h"
#include "team/pace.h"

/* Fewer positions would mean matrix products of fewer than 8 rows, which round differently. */
enum { SHORTEST = 8, MOST_ITEMS = 64, MOST_TOKENS = 8192 };

/* An item in the order by length. */
typedef struct place {
    int64_t   item;
    td_extent extent; /* rounded up */
    int64_t   row;    /* row in its batch */
} place;

/* A call in progress. */
typedef struct job {
    td_engine              *engine;
    const td_score_spec    *spec;
    td_scored              *items;
    bool                   *shared; /* [all]: items that td_score_shared scores */
    place                  *places; /* number of other items with a target */
    int64_t                 count, rows;
    td_batch               *batch;
    td_example             *examples; /* [rows] */
    double                 *nll, *best;
    int64_t                 room; /* allocated elements of nll and best */
    td_evaluation_progress *progress;
    void                   *arg;
    int64_t                 done, all; /* items; done: by this rank */
    int64_t                 batches;   /* so far, of all ranks */
    bool                   *own;       /* [all]: items that this rank has scored */
    td_pace                 pace;
} job;

/* Rounds up to one of four steps between two powers of two: few distinct lengths, little
 * padding. */
static int64_t stepped(int64_t n, int64_t least)
{
    int64_t power = 1, step;
    if (n <= least)
        return least;
    while (power < n)
        power *= 2;
    step = power >= 8 ? power / 8 : 1;
    return (n + step - 1) / step * step;
}

/* Depends only on the item, so that its padded length is the same in any batch. */
static td_extent extent_of(const job *j, const td_example *x)
{
    td_extent e = td_arrange_extent(&j->spec->feed, x);
    e.first = stepped(e.first, SHORTEST);
    e.second = e.second ? stepped(e.second, SHORTEST) : 0; /* 0: there is no second stream */
    return e;
}

static td_example example_of(const td_scored *s)
{
    return (td_example){
        .given = s->given, .n_given = s->n_given, .predicted = s->target, .n_predicted = s->n_target
    };
}

static int64_t most_rows(const td_score_spec *s) { return s->batch > 0 ? s->batch : MOST_ITEMS; }

/* The number of items of these lengths that fit into a batch. */
static int64_t rows_of(const td_score_spec *s, td_extent e)
{
    int64_t tokens = s->tokens > 0 ? s->tokens : MOST_TOKENS, rows = tokens / (e.first + e.second);
    if (rows < 1)
        return 1; /* longer than a batch should be: it gets its own */
    return rows < most_rows(s) ? rows : most_rows(s);
}

/* ---- what there is to score ------------------------------------------------------------------ */

/* Items that share a row differ only in their label. */
static int check_target(const td_scored *s, int64_t item, int64_t vocab, td_error *error)
{
    for (int64_t k = 0; k < s->n_target; k++)
        if (s->target[k] < 0 || s->target[k] >= vocab)
            return td_fail(error, TD_EFORMAT,
                           "item %lld: token %lld to score is %d, outside the vocabulary of %lld",
                           (long long)item, (long long)k, s->target[k], (long long)vocab);
    return 0;
}

/* Reports unsupported positions here, where the item is known. */
static int check_item(const job *j, int64_t item, const td_example *x, td_error *error)
{
    const td_part         *part = &j->spec->feed.architecture;
    const td_architecture *a = (const void *)part->plugin;
    int64_t                n = x->n_given, m = x->n_predicted;
    td_bounds              bounds = { n + m, n, m, n + m };
    td_error               why = { 0 };

    /* bounds add these up, and positions are int32 */
    if (n < 0 || m < 0 || n > INT32_MAX / 4 || m > INT32_MAX / 4)
        return td_fail(
            error, TD_EFORMAT,
            "item %lld has %lld given tokens and %lld to score: each number must be in 0 .. %d",
            (long long)item, (long long)n, (long long)m, INT32_MAX / 4);
    if (!a->check_bounds || !a->check_bounds(part->config, &bounds, &why))
        return 0;
    return td_fail(
        error, td_failed(&why, TD_ECONFIG),
        "item %lld, of %lld given tokens and %lld to score, is too long for the model: %s",
        (long long)item, (long long)n, (long long)m,
        why.code ? why.text : "it has too few positions");
}

/* The longest come first, so that only the first batch allocates memory. Equal lengths keep the
 * order of the items. */
static int by_length(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->extent.first != y->extent.first)
        return x->extent.first > y->extent.first ? -1 : 1;
    if (x->extent.second != y->extent.second)
        return x->extent.second > y->extent.second ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static int take_items(job *j, td_error *error)
{
    const td_part *part = &j->spec->feed.architecture;
    int64_t vocab = TD_HOOK(((const td_architecture *)(const void *)part->plugin), vocab_size,
                            part->config);
    for (int64_t i = 0; i < j->all; i++) {
        td_example x = example_of(&j->items[i]);
        int        code = check_item(j, i, &x, error);
        if (!code)
            code = check_target(&j->items[i], i, vocab, error);
        if (code)
            return code;
        /* an empty target is certain, and trivially greedy */
        j->items[i].logprob = 0;
        j->items[i].greedy = true;
        if (x.n_predicted && !j->shared[i])
            j->places[j->count++] = (place){ i, extent_of(j, &x), 0 };
    }
    for (int64_t i = 0; i < j->all && td_team_leads(j->spec->team); i++)
        j->done += !j->items[i].n_target;
    qsort(j->places, (size_t)j->count, sizeof *j->places, by_length);
    return 0;
}

/* ---- one batch ------------------------------------------------------------------------------- */

/* A target of one token is only a label: the model reads just the given tokens. So if each choice
 * of a question is a single token, all are scored from one row. */
static bool shares(const job *j, int64_t a, int64_t b)
{
    const td_scored *x = &j->items[j->places[a].item], *y = &j->items[j->places[b].item];
    return x->n_target == 1 && y->n_target == 1 && x->n_given == y->n_given &&
           (x->given == y->given || !x->n_given ||
            !memcmp(x->given, y->given, (size_t)x->n_given * sizeof *x->given));
}

/* The items from `first` on that make a batch, all of one length, enough to fill `most` rows. */
static int64_t fill_rows(job *j, int64_t first, int64_t *rows)
{
    td_extent e = j->places[first].extent;
    int64_t   most = rows_of(j->spec, e), n = 0;
    *rows = 0;
    for (int64_t at = first; at < j->count; at++, n++) {
        /* neighbours with equal given tokens share a row, and so a pass */
        bool shared = n && shares(j, at - 1, at);
        if (j->places[at].extent.first != e.first || j->places[at].extent.second != e.second ||
            (!shared && *rows == most) || n == MOST_ITEMS * most)
            break;
        if (!shared) {
            j->examples[*rows] = example_of(&j->items[j->places[at].item]);
            j->examples[*rows].row = *rows;
            ++*rows;
        }
        j->places[at].row = *rows - 1;
    }
    return n;
}

/* The number of rows is a power of two, so that the last batch of a length has one of few shapes;
 * extra rows are padding. */
static int arrange(job *j, int64_t first, int64_t count, td_error *error)
{
    int64_t rows = 1, most = rows_of(j->spec, j->places[first].extent);
    while (rows < count)
        rows *= 2;
    rows = rows < most ? rows : most;
    return td_arrange_rows(&j->spec->feed, j->examples, count, rows, j->places[first].extent,
                           j->batch, error);
}

/* Grows the arrays that the engine writes to. */
static int reserve(job *j, int64_t n, td_error *error)
{
    double *nll, *best;
    if (n <= j->room)
        return 0;
    nll = realloc(j->nll, (size_t)n * sizeof *nll);
    j->nll = nll ? nll : j->nll;
    best = realloc(j->best, (size_t)n * sizeof *best);
    j->best = best ? best : j->best;
    if (!nll || !best)
        return td_fail(error, TD_ENOMEM, "out of memory for the scores of %lld tokens",
                       (long long)n);
    j->room = n;
    return 0;
}

/* Writes where the target's tokens are in its row, and which they are; returns how many. */
static int64_t name_target(const job *j, const place *p, int32_t *scored, int32_t *labels)
{
    const td_array  *weights = td_batch_find(j->batch, "loss_weights");
    const float     *weight = weights->data;
    const td_scored *s = &j->items[p->item];
    int64_t          columns = weights->dim[1], n = 0;
    for (int64_t k = p->row * columns; k < (p->row + 1) * columns && n < s->n_target; k++)
        if (weight[k] != 0) {
            scored[n] = (int32_t)k;
            labels[n] = s->target[n];
            n++;
        }
    return n;
}

/* Adds the arrays "scored" and "scored_labels": all targets in order, then repetitions of the first
 * up to a multiple of the piece size. */
static int name_targets(job *j, int64_t first, int64_t count, td_error *error)
{
    int64_t  piece = td_model_tokens_piece(td_engine_model(j->engine)), n = 0, all;
    int32_t *scored, *labels;

    for (int64_t k = first; k < first + count; k++)
        n += j->items[j->places[k].item].n_target;
    all = stepped((n + piece - 1) / piece, 1) * piece;
    scored = j->batch->add(j->batch, "scored", TD_I32, 1, &all);
    labels = j->batch->add(j->batch, "scored_labels", TD_I32, 1, &all);
    if (!scored || !labels)
        return td_fail(error, TD_ENOMEM, "out of memory for a batch of %lld items",
                       (long long)count);
    n = 0;
    for (int64_t k = first; k < first + count; k++) {
        int64_t targets = j->items[j->places[k].item].n_target;
        int64_t named = name_target(j, &j->places[k], scored + n, labels + n);
        /* a plugin's mistake, which would shift the tokens of all later items */
        if (named != targets)
            return td_fail(error, TD_EPLUGIN,
                           "the architecture predicts %lld tokens of an item that has %lld",
                           (long long)named, (long long)targets);
        n += targets;
    }
    for (int64_t k = n; k < all; k++) {
        scored[k] = scored[0];
        labels[k] = labels[0];
    }
    return reserve(j, all, error);
}

/* Sums in double, in the order of the target. */
static void read_scores(job *j, int64_t first, int64_t count)
{
    int64_t n = 0;
    for (int64_t r = 0; r < count; r++) {
        td_scored *s = &j->items[j->places[first + r].item];
        for (int64_t k = 0; k < s->n_target; k++, n++) {
            s->logprob -= j->nll[n];
            s->greedy = s->greedy && j->best[n] == (double)s->target[k];
        }
    }
}

/* The batch that begins at place `first`; `*count` places are in it. */
static int make_batch(job *j, int64_t first, int64_t *count, td_error *error)
{
    int64_t rows;
    *count = fill_rows(j, first, &rows);
    return arrange(j, first, rows, error) || name_targets(j, first, *count, error)
               ? td_failed(error, TD_EFORMAT)
               : 0;
}

/* After items were scored: TD_EEND if they are to be the last. */
static int report(job *j, int64_t count)
{
    int64_t done;
    int     code;
    j->done += count;
    code = td_pace_tick(&j->pace, j->done, &done);
    return code || (j->progress && j->progress(j->arg, done, j->all)) ? TD_EEND : 0;
}

/* All ranks make up the same batches, as if each were alone, and compute every size-th. */
static int score_batch(job *j, int64_t first, int64_t *count, td_error *error)
{
    const td_team *team = j->spec->team;
    int64_t        rows;
    if (j->batches++ % td_team_size(team) != td_team_rank(team)) {
        *count = fill_rows(j, first, &rows);
        return 0;
    }
    if (make_batch(j, first, count, error) ||
        td_engine_tokens(j->engine, j->batch, j->nll, j->best, error))
        return td_failed(error, TD_EFORMAT);
    read_scores(j, first, *count);
    for (int64_t k = first; k < first + *count; k++)
        j->own[j->places[k].item] = true;
    return report(j, *count);
}

static int open_job(job *j, td_error *error)
{
    j->shared = calloc((size_t)j->all + 1, sizeof *j->shared);
    j->own = calloc((size_t)j->all + 1, sizeof *j->own);
    j->pace.team = j->spec->team;
    j->places = calloc((size_t)j->all + 1, sizeof *j->places);
    j->batch = td_batch_new();
    j->examples = calloc((size_t)most_rows(j->spec), sizeof *j->examples);
    if (j->shared && j->spec->decoder)
        td_score_find_shared(j->spec->decoder, j->items, j->all, j->shared);
    return j->shared && j->own && j->places && j->batch && j->examples
               ? take_items(j, error)
               : td_fail(error, TD_ENOMEM, "out of memory while scoring %lld items",
                         (long long)j->all);
}

static void close_job(job *j)
{
    free(j->shared);
    free(j->own);
    free(j->places);
    td_batch_free(j->batch);
    free(j->examples);
    free(j->nll);
    free(j->best);
}

static int on_shared(void *arg, int64_t first, int64_t end)
{
    job *j = arg;
    for (int64_t i = first; i < end; i++)
        j->own[i] = true;
    return report(j, end - first);
}

static int score_own(job *j, td_error *error)
{
    const td_team *team = j->spec->team;
    int            code = 0;
    if (j->spec->decoder)
        code = td_score_shared(j->spec->decoder, j->items, j->all, j->shared, td_team_rank(team),
                               td_team_size(team), on_shared, j, error);
    /* how many items fit into a batch depends on their lengths, so each batch says where the next
     * begins */
    for (int64_t first = 0, n; !code && first < j->count; first += n)
        code = score_batch(j, first, &n, error);
    return code;
}

/* The bits of a score as two integers that doubles hold, which sums over the ranks leave as they are. */
enum { HIGH, LOW, GREEDY, PARTS };

static void put_parts(const td_scored *s, double *out)
{
    uint64_t bits;
    memcpy(&bits, &s->logprob, sizeof bits);
    out[HIGH] = (double)(bits >> 32);
    out[LOW] = (double)(bits & UINT32_MAX);
    out[GREEDY] = s->greedy;
}

static void take_parts(td_scored *s, const double *in)
{
    uint64_t bits = (uint64_t)in[HIGH] << 32 | (uint64_t)in[LOW];
    memcpy(&s->logprob, &bits, sizeof bits);
    s->greedy = in[GREEDY] != 0;
}

/* All ranks get all scores: every item has been scored by one, or has no target. */
static int collect(job *j, td_error *error)
{
    td_team *team = j->spec->team;
    double  *parts;
    int      code;
    if (td_team_size(team) == 1)
        return 0;
    parts = td_team_zeros(team, j->all * PARTS, error);
    code = parts ? 0 : td_failed(error, TD_ENOMEM);
    /* what another rank scored stays 0 here, so that the sum is that rank's score */
    for (int64_t i = 0; !code && i < j->all; i++)
        if (j->own[i])
            put_parts(&j->items[i], parts + i * PARTS);
    if (!code)
        code = td_team_sum(team, parts, j->all * PARTS, error);
    for (int64_t i = 0; !code && i < j->all; i++)
        if (j->items[i].n_target)
            take_parts(&j->items[i], parts + i * PARTS);
    free(parts);
    return code;
}

int td_score_items(td_engine *engine, const td_score_spec *spec, td_scored *items, int64_t count,
                   td_evaluation_progress *progress, void *arg, td_error *error)
{
    job j = { .engine = engine,
              .spec = spec,
              .items = items,
              .progress = progress,
              .arg = arg,
              .all = count };
    int code = open_job(&j, error);
    if (!code)
        code = score_own(&j, error);
    code = td_pace_end(&j.pace, j.done, code, error);
    if (!code)
        code = collect(&j, error);
    close_job(&j);
    return code;
}

int td_score_plan(td_engine *engine, const td_score_spec *spec, td_scored *items, int64_t count,
                  td_footprint *footprint, td_error *error)
{
    job j = { .engine = engine, .spec = spec, .items = items, .all = count };
    int code = open_job(&j, error);
    for (int64_t first = 0, n; !code && first < j.count; first += n) {
        code = make_batch(&j, first, &n, error);
        if (!code)
            code = td_engine_plan_tokens(engine, j.batch, footprint, error);
    }
    close_job(&j);
    return code;
}
