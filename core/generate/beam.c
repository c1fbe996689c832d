/* beam.c - beam search: the candidates of all live hypotheses, the finished ones, and the stopping
 * rule. */
#include "generate/beam.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A token that may follow a live hypothesis. */
typedef struct candidate {
    double  logprob;
    int32_t parent, token;
} candidate;

struct td_beam {
    td_beam_options options;
    int64_t         live, length; /* number of hypotheses; tokens of each */
    int32_t        *history;      /* [beams][max_tokens] tokens of the live ones */
    int32_t        *next_history;
    double         *logprob; /* [beams] */
    int32_t        *tokens, *parents;
    candidate      *best; /* [2 beams] the best continuations of a step */
    int64_t         n_best;
    td_hypothesis  *finished; /* [beams] sorted, best first */
    int64_t         n_finished;
};

td_beam *td_beam_new(const td_beam_options *o)
{
    td_beam *b = calloc(1, sizeof *b);
    size_t   beams = (size_t)o->beams, room = beams * (size_t)o->max_tokens;

    assert(o->beams > 0 && o->max_tokens > 0 && o->vocab_size > 0);
    if (!b)
        return NULL;
    b->options = *o;
    b->live = 1; /* the prompt, which all hypotheses continue */
    /* a step reads one history and writes the other: several beams may continue the same one */
    b->history = calloc(room, sizeof *b->history);
    b->next_history = calloc(room, sizeof *b->next_history);
    b->logprob = calloc(beams, sizeof *b->logprob);
    b->tokens = calloc(beams, sizeof *b->tokens);
    b->parents = calloc(beams, sizeof *b->parents);
    /* even if the best `beams` all end here, the same number of others continue */
    b->best = calloc(2 * beams, sizeof *b->best);
    b->finished = calloc(beams, sizeof *b->finished);
    if (b->history && b->next_history && b->logprob && b->tokens && b->parents && b->best &&
        b->finished)
        return b;
    td_beam_free(b);
    return NULL;
}

void td_beam_free(td_beam *b)
{
    if (!b)
        return;
    for (int64_t i = 0; i < b->n_finished; i++)
        free(b->finished[i].tokens);
    free(b->history);
    free(b->next_history);
    free(b->logprob);
    free(b->tokens);
    free(b->parents);
    free(b->best);
    free(b->finished);
    free(b);
}

int64_t        td_beam_live(const td_beam *b) { return b->live; }
const int32_t *td_beam_tokens(const td_beam *b) { return b->tokens; }
const int32_t *td_beam_parents(const td_beam *b) { return b->parents; }
bool           td_beam_done(const td_beam *b) { return !b->live; }

const td_hypothesis *td_beam_best(const td_beam *b, int64_t *count)
{
    *count = b->n_finished;
    return b->finished;
}

/* ---- finished hypotheses --------------------------------------------------------------------- */

static double score_of(const td_beam *b, double logprob, int64_t length)
{
    return logprob / pow((double)length, b->options.length_penalty);
}

/* The best score that a live hypothesis can still reach. Its logprob can only fall, so the bound is
 * its present logprob at the most favourable length: the longest with a positive penalty (a
 * negative sum is divided by more), the shortest otherwise. */
static double attainable(const td_beam *b, double logprob)
{
    int64_t length = b->options.length_penalty > 0 ? b->options.max_tokens : b->length + 1;
    return score_of(b, logprob, length);
}

/* Keeps the `beams` best, in order; the earlier of equal ones wins. */
static bool finish(td_beam *b, const int32_t *tokens, int64_t n, double logprob, bool stopped)
{
    td_hypothesis h = { NULL, n, logprob, 0, stopped };
    int64_t       at = b->n_finished;

    /* the end token counts towards the length, because its log-probability is in the sum */
    h.score = score_of(b, logprob, n + (stopped ? 1 : 0));
    while (at > 0 && b->finished[at - 1].score < h.score)
        at--;
    if (at == b->options.beams)
        return true;
    h.tokens = malloc((size_t)(n ? n : 1) * sizeof *h.tokens);
    if (!h.tokens)
        return false;
    memcpy(h.tokens, tokens, (size_t)n * sizeof *tokens);
    if (b->n_finished == b->options.beams)
        free(b->finished[--b->n_finished].tokens);
    memmove(&b->finished[at + 1], &b->finished[at],
            (size_t)(b->n_finished - at) * sizeof *b->finished);
    b->finished[at] = h;
    b->n_finished++;
    return true;
}

/* ---- candidates ------------------------------------------------------------------------------ */

static bool ends(const td_beam *b, int32_t token)
{
    for (int64_t i = 0; i < b->options.n_stops; i++)
        if (b->options.stops[i] == token)
            return true;
    return false;
}

/* Sorted insertion: the list is short (twice the beams) and most candidates fall off its end. Ties
 * keep the order of parents and ids, so a search has one result. */
static void consider(td_beam *b, candidate c)
{
    int64_t room = 2 * b->options.beams, at = b->n_best;
    if (b->n_best == room && b->best[room - 1].logprob >= c.logprob)
        return;
    if (b->n_best < room)
        b->n_best++;
    else
        at--;
    for (; at > 0 && b->best[at - 1].logprob < c.logprob; at--)
        b->best[at] = b->best[at - 1];
    b->best[at] = c;
}

/* With one stop each hypothesis has at most one ending candidate, so twice as many candidates as
 * beams leave enough that continue. With several stops, more candidates are considered. */
static void find_candidates(td_beam *b, const double *logprobs, bool may_end, bool only_live)
{
    b->n_best = 0;
    for (int32_t parent = 0; parent < b->live; parent++) {
        const double *row = logprobs + parent * b->options.vocab_size;
        for (int32_t token = 0; token < b->options.vocab_size; token++) {
            bool end = ends(b, token);
            if (isinf(row[token]) || (end && (only_live || !may_end)))
                continue;
            consider(b, (candidate){ b->logprob[parent] + row[token], parent, token });
        }
    }
}

/* ---- a step ---------------------------------------------------------------------------------- */

/* The hypotheses that end now. As in other implementations, only those among the `beams` best
 * candidates end: a worse one would have been dropped if it had continued. */
static bool finish_ended(td_beam *b)
{
    int64_t most = b->options.beams < b->n_best ? b->options.beams : b->n_best;
    for (int64_t i = 0; i < most; i++) {
        const candidate *c = &b->best[i];
        if (ends(b, c->token) &&
            !finish(b, b->history + c->parent * b->options.max_tokens, b->length, c->logprob, true))
            return false;
    }
    return true;
}

/* The best candidates that do not end become the live hypotheses. */
static void move_on(td_beam *b)
{
    int64_t  room = b->options.max_tokens, n = 0;
    int32_t *old = b->history;
    for (int64_t i = 0; i < b->n_best && n < b->options.beams; i++) {
        const candidate *c = &b->best[i];
        int32_t         *to = b->next_history + n * room;
        /* it is among the finished ones */
        if (ends(b, c->token))
            continue;
        memcpy(to, old + c->parent * room, (size_t)b->length * sizeof *to);
        to[b->length] = c->token;
        b->tokens[n] = c->token;
        b->parents[n] = c->parent;
        b->logprob[n] = c->logprob;
        n++;
    }
    b->history = b->next_history;
    b->next_history = old;
    b->live = n;
    b->length++;
}

/* Hypotheses cut off by the limit are finished as they are. */
static bool finish_live(td_beam *b)
{
    for (int64_t i = 0; i < b->live; i++)
        if (!finish(b, b->history + i * b->options.max_tokens, b->length, b->logprob[i], false))
            return false;
    b->live = 0;
    return true;
}

bool td_beam_advance(td_beam *b, const double *logprobs)
{
    bool may_end = b->length + 1 >= b->options.min_tokens;

    assert(b->live > 0 && b->length < b->options.max_tokens);
    find_candidates(b, logprobs, may_end, false);
    if (!finish_ended(b))
        return false;
    /* with several stops the 2 * beams candidates may all have been ends */
    if (b->options.n_stops > 1)
        find_candidates(b, logprobs, may_end, true);
    move_on(b);
    if (b->length == b->options.max_tokens)
        return finish_live(b);
    if (b->live && b->n_finished == b->options.beams &&
        attainable(b, b->logprob[0]) <= b->finished[b->n_finished - 1].score)
        b->live = 0;
    return true;
}
