/* score_shared.c - reads the prompt of a question once, and its choices side by side after it.
 *
 * A prompt is read alone, then its row is copied for each choice (td_decoder_gather), and all choices
 * are read in one pass. What is computed depends on the question only, never on a batch.
 */
#include "evaluate/score_shared.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generate/logits.h"

/* Shorter prompts are not worth a pass of their own. More choices than MOST_ROWS read it again. */
enum { LEAST_GIVEN = 16, MOST_ROWS = 8, LEAST_SCORED = 8 };

typedef struct job {
    td_decoder     *decoder;
    td_scored      *items;
    int64_t         rows, vocab, longest; /* longest: tokens of a target */
    td_continuation continuations[MOST_ROWS];
    double         *scores;  /* [2][rows][longest]: nll, then best */
    double         *logprob; /* [vocab] of the first token */
    float          *logits;  /* [vocab] */
} job;

/* ---- questions ------------------------------------------------------------------------------- */

static bool same_given(const td_scored *a, const td_scored *b)
{
    return a->n_given == b->n_given &&
           (a->given == b->given ||
            !memcmp(a->given, b->given, (size_t)a->n_given * sizeof *a->given));
}

/* Where the items with the given tokens of item `first` end. */
static int64_t end_of(const td_scored *items, int64_t first, int64_t count)
{
    int64_t end = first + 1;
    while (end < count && same_given(&items[first], &items[end]))
        end++;
    return end;
}

static bool pays(const td_scored *items, int64_t first, int64_t end)
{
    bool several = false;
    for (int64_t i = first; i < end; i++) {
        if (items[i].n_target < 1)
            return false;
        several = several || items[i].n_target > 1;
    }
    return several && end - first > 1 && items[first].n_given >= LEAST_GIVEN;
}

static bool can_share(const td_decoder_options *o)
{
    const td_architecture *a = (const void *)o->model->architecture.plugin;
    return a->generated && !o->device->backend->download;
}

void td_score_find_shared(const td_decoder_options *o, const td_scored *items, int64_t count,
                          bool *shared)
{
    bool can = can_share(o);
    for (int64_t first = 0, end; first < count; first = end) {
        end = end_of(items, first, count);
        for (int64_t i = first; i < end; i++)
            shared[i] = can && pays(items, first, end);
    }
}

/* ---- scoring --------------------------------------------------------------------------------- */

/* The first token's score is the prompt's, the same logits for all choices. */
static bool start_scores(job *j, int64_t first, int64_t count)
{
    float   top = td_logits_top(j->logits, j->vocab);
    int64_t best = 0;
    bool    sound = td_log_softmax(j->logits, j->vocab, j->logprob);
    while (best + 1 < j->vocab && j->logits[best] != top)
        best++;
    for (int64_t k = 0; k < count; k++) {
        td_scored *s = &j->items[first + k];
        s->logprob = sound ? j->logprob[s->target[0]] : (double)NAN;
        s->greedy = s->target[0] == best;
    }
    return sound;
}

/* Sums in double, in the order of the target. */
static void add_scores(job *j, int64_t first, int64_t count)
{
    for (int64_t r = 0; r < count; r++) {
        td_scored             *s = &j->items[first + r];
        const td_continuation *c = &j->continuations[r];
        for (int64_t k = 0; k + 1 < s->n_target; k++) {
            s->logprob -= c->nll[k];
            s->greedy = s->greedy && c->best[k] == (double)s->target[k + 1];
        }
    }
}

static void set_continuations(job *j, int64_t first, int64_t count)
{
    for (int64_t r = 0; r < j->rows; r++) {
        const td_scored *s = &j->items[first + (r < count ? r : 0)];
        j->continuations[r] = (td_continuation){ .tokens = r < count ? s->target : NULL,
                                                 .n = s->n_target,
                                                 .nll = j->scores + r * j->longest,
                                                 .best = j->scores + (j->rows + r) * j->longest };
    }
}

/* At most as many items of one question as there are rows. */
static int score_rows(job *j, int64_t first, int64_t count, td_error *error)
{
    const td_scored *s = &j->items[first];
    int32_t          from[MOST_ROWS];
    int64_t          longest = 0;
    int              code;
    for (int64_t r = 0; r < count; r++)
        longest = s[r].n_target > longest ? s[r].n_target : longest;
    code = td_decoder_begin(j->decoder, 0, s->given, s->n_given, longest, j->logits, error);
    if (code || !start_scores(j, first, count))
        return code; /* NaN is reported by whoever asked, who knows the item */
    for (int64_t r = 0; r < j->rows; r++)
        from[r] = r > 0 && r < count ? 0 : -1;
    code = td_decoder_gather(j->decoder, from, error);
    set_continuations(j, first, count);
    if (!code)
        code = td_decoder_score(j->decoder, j->continuations, error);
    if (!code)
        add_scores(j, first, count);
    return code;
}

static int score_question(job *j, int64_t first, int64_t end, td_error *error)
{
    int code = 0;
    for (int64_t at = first; at < end && !code; at += j->rows)
        code = score_rows(j, at, end - at < j->rows ? end - at : j->rows, error);
    return code;
}

/* ---- all questions --------------------------------------------------------------------------- */

/* Sizes for the longest prompt and target, and rows for the most choices. */
static td_decoder_options sizes_of(const td_decoder_options *o, const td_scored *items,
                                   int64_t count, const bool *shared)
{
    td_decoder_options d = *o;
    d.rows = 2;
    d.given = d.answer = 0;
    for (int64_t first = 0, end; first < count; first = end) {
        end = end_of(items, first, count);
        while (shared[first] && d.rows < MOST_ROWS && d.rows < end - first)
            d.rows *= 2;
        for (int64_t i = first; i < end && shared[first]; i++) {
            d.given = items[i].n_given > d.given ? items[i].n_given : d.given;
            d.answer = items[i].n_target > d.answer ? items[i].n_target : d.answer;
        }
    }
    d.scored = d.answer > LEAST_SCORED ? d.answer : LEAST_SCORED;
    return d;
}

static int open_job(job *j, const td_decoder_options *o, td_error *error)
{
    j->decoder = td_decoder_open(o, error);
    if (!j->decoder)
        return td_failed(error, TD_EGRAPH);
    j->rows = o->rows;
    j->longest = o->answer;
    j->vocab = td_decoder_vocab(j->decoder);
    /* two numbers per token: its NLL, and the best token in its place */
    j->scores = calloc(2 * (size_t)(j->rows * j->longest), sizeof *j->scores);
    j->logprob = calloc((size_t)j->vocab, sizeof *j->logprob);
    j->logits = calloc((size_t)j->vocab, sizeof *j->logits);
    return j->scores && j->logprob && j->logits
               ? 0
               : td_fail(error, TD_ENOMEM, "out of memory while scoring choices");
}

static void close_job(job *j)
{
    td_decoder_close(j->decoder);
    free(j->scores);
    free(j->logprob);
    free(j->logits);
}

int td_score_shared(const td_decoder_options *o, td_scored *items, int64_t count,
                    const bool *shared, int rank, int ranks,
                    int (*progress)(void *arg, int64_t first, int64_t end), void *arg,
                    td_error *error)
{
    td_decoder_options sizes = sizes_of(o, items, count, shared);
    job                j = { .items = items };
    int64_t            number = 0;
    int                code = sizes.answer ? open_job(&j, &sizes, error) : 0;
    /* the others are left to the caller, who scores them in batches */
    for (int64_t first = 0, end; first < count && !code; first = end) {
        end = end_of(items, first, count);
        if (!shared[first] || number++ % ranks != rank)
            continue;
        code = score_question(&j, first, end, error);
        if (!code)
            code = progress(arg, first, end);
    }
    close_job(&j);
    return code;
}
