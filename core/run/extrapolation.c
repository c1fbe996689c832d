/* extrapolation.c - the loss beyond the training length, of the parameters that a session holds. */
#include "evaluate/extrapolate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "run/session.h"

/* steps per training length */
enum { SEQUENCES = 16, LONGEST = 8 /* times the training length */, BINS = 8 };

/* Lengths and prefixes, given or default. */
typedef struct lists {
    int64_t lengths[2 * LONGEST], prefixes[3];
} lists;

/* For a tiny length some of the default prefixes coincide. */
static size_t append(int64_t *list, size_t n, int64_t value)
{
    if (value < 1 || (n && list[n - 1] == value))
        return n;
    list[n] = value;
    return n + 1;
}

static void fill_in(td_extrapolate_spec *spec, lists *own)
{
    int64_t       T = spec->trained;
    const int64_t prefixes[] = { 1, T / 4, T / 2 };
    if (!spec->lengths) {
        spec->n_lengths = 0;
        /* from T on, in steps of T / 2 */
        for (int64_t k = 2; k <= 2 * LONGEST; k++)
            spec->n_lengths = append(own->lengths, spec->n_lengths, k * T / 2);
        spec->lengths = own->lengths;
    }
    if (!spec->prefixes) {
        spec->n_prefixes = 0;
        for (size_t k = 0; k < 3; k++)
            spec->n_prefixes = append(own->prefixes, spec->n_prefixes, prefixes[k]);
        spec->prefixes = own->prefixes;
    }
    for (size_t k = 0; k < spec->n_lengths; k++)
        if (spec->lengths[k] > spec->evaluate.feed.length)
            spec->evaluate.feed.length = spec->lengths[k];
}

/* The texts of all ranks, which the leader prepares before the others look for them. */
static int open_text(td_session *s, int64_t length, bool *documents, td_own_data *own,
                     td_error *error)
{
    bool leads = td_team_leads(s->team);
    int  mine, code;
    td_team_begin_solo(s->team);
    mine = leads ? td_session_long_text(s, length, documents, own, error) : 0;
    code = td_team_end_solo(s->team, mine, error);
    if (code)
        return code;
    mine = leads ? 0 : td_session_long_text(s, length, documents, own, error);
    code = td_team_agree(s->team, mine, error);
    if (code && !mine)
        td_session_restore_data(s, own);
    return code;
}

/* The ranks add up curves, so these must have the same points. */
static int compare_requests(td_session *s, const td_extrapolate_spec *spec, td_error *error)
{
    td_text text = { 0 };
    int     code;
    td_text_print(&text, "%" PRId64, spec->evaluate.sequences);
    for (size_t k = 0; k < spec->n_lengths; k++)
        td_text_print(&text, " %" PRId64, spec->lengths[k]);
    td_text_print(&text, ";");
    for (size_t k = 0; k < spec->n_prefixes; k++)
        td_text_print(&text, " %" PRId64, spec->prefixes[k]);
    code = td_team_same(s->team, td_text_get(&text), "set of lengths, prefixes or sequences",
                        error);
    td_text_free(&text);
    return code;
}

/* ---- the function of embed.h ----------------------------------------------------------------- */

static int check(const td_session *s, const td_extrapolating *x, td_error *error)
{
    if (x->size != sizeof *x)
        return td_fail(error, TD_ECONFIG,
                       "td_extrapolating.size is %zu: set it to sizeof(td_extrapolating), which is "
                       "%zu in this library",
                       x->size, sizeof *x);
    return s->needs & TD_NEED_DATA
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "this session was opened without data: extrapolating needs "
                         "TD_PURPOSE_EVALUATE or TD_PURPOSE_TRAIN");
}

static int check_numbers(const td_extrapolation *e, td_error *error)
{
    for (size_t k = 0; k < e->n_lengths; k++)
        if (!isfinite(e->lengths[k].nll))
            return td_fail(error, TD_EDIVERGED,
                           "the NLL of %" PRId64 " tokens is %g: the parameters contain NaN or "
                           "infinity",
                           e->lengths[k].to, e->lengths[k].nll);
    return 0;
}

static int extrapolate(td_session *s, td_extrapolate_spec *spec, const td_extrapolating *x,
                       td_error *error)
{
    td_extrapolation *out = &s->extrapolation;
    td_own_data       own;
    bool              documents;
    int               code = open_text(s, spec->evaluate.feed.length, &documents, &own, error);
    if (code)
        return code;
    /* the feed uses the data that is open now */
    spec->evaluate.feed.data = (const void *)s->x->data.plugin;
    spec->evaluate.feed.data_state = s->data;
    code = td_extrapolate(s->engine, spec, x->progress, x->arg, out, error);
    out->documents = documents;
    td_session_restore_data(s, &own);
    return code;
}

int td_session_extrapolate(td_session *s, const td_extrapolating *x, const td_extrapolation **out,
                           td_error *error)
{
    lists               own = { 0 };
    td_extrapolate_spec spec = { .trained = s->x->train.length,
                                 .lengths = x->lengths,
                                 .n_lengths = x->n_lengths,
                                 .prefixes = x->prefixes,
                                 .n_prefixes = x->n_prefixes };
    int                 code = check(s, x, error);

    *out = NULL;
    if (!code)
        code = td_team_agree(s->team, td_session_hold(s, error), error);
    if (!code)
        code = td_session_compare_ranks(s, error);
    if (code)
        return td_session_result(code, error);
    spec.evaluate = td_session_evaluation_spec(s);
    spec.evaluate.team = s->team;
    spec.evaluate.sequences = x->sequences ? x->sequences : SEQUENCES;
    spec.evaluate.feed.length = 0; /* not the config's: fill_in takes the longest of the lengths */
    spec.bin = spec.trained < BINS ? 1 : spec.trained / BINS;
    fill_in(&spec, &own);
    td_extrapolation_free(&s->extrapolation);
    code = compare_requests(s, &spec, error);
    if (!code)
        code = extrapolate(s, &spec, x, error);
    if (code == TD_EEND && !error->code)
        return td_fail(error, TD_EEND, "the evaluation was stopped");
    if (code)
        return td_session_result(code, error);
    *out = &s->extrapolation;
    return check_numbers(*out, error);
}
