/* extrapolate.c - `tandem evaluate --extrapolate`: the loss beyond the training length, as a table,
 * files and a picture. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "run/curves.h"
#include "run/results.h"
#include "work.h"

static int show_progress(void *arg, int64_t done, int64_t all)
{
    const td_tool *t = arg;
    td_log_progress(t->log, done == all, "extrapolating, %" PRId64 "/%" PRId64 " sequences", done,
                    all);
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

static const td_curve_point *find(const td_extrapolation *e, int64_t prefix, int64_t length)
{
    for (size_t k = 0; k < e->n_lengths; k++)
        if (e->lengths[k].prefix == prefix && e->lengths[k].to == length)
            return &e->lengths[k];
    return NULL;
}

/* The number of points per prefix, the same for all. */
static size_t lengths_of(const td_extrapolation *e)
{
    size_t n = 0;
    while (n < e->n_lengths && e->lengths[n].prefix == e->lengths[0].prefix)
        n++;
    return n;
}

/* Prints a row for each total length, a column for each prefix. */
static void print_table(const td_extrapolation *e)
{
    size_t rows = lengths_of(e);
    printf("%-12s", "total length");
    for (size_t p = 0; p < e->n_lengths; p += rows)
        printf("   prefix %5" PRId64 "   error", e->lengths[p].prefix);
    putchar('\n');
    for (size_t k = 0; k < rows; k++) {
        printf("%-12" PRId64, e->lengths[k].to);
        for (size_t p = 0; p < e->n_lengths; p += rows) {
            const td_curve_point *c = find(e, e->lengths[p].prefix, e->lengths[k].to);
            printf("   %12.4f ", c->nll);
            if (isfinite(c->error))
                printf("%7.4f", c->error);
            else /* unknown for a source with a single sequence */
                printf("%7s", "-");
        }
        putchar('\n');
    }
}

static void print(td_tool *t, const td_extrapolation *e, const char *weights)
{
    if (t->json) {
        json_t *j = td_curves_json(e);
        json_object_set_new(j, "weights", json_string(weights));
        td_work_result(t, j);
        return;
    }
    print_table(e);
    for (size_t k = 0; k < e->n_lengths; k++)
        if (!isfinite(e->lengths[k].error)) {
            puts("-: unknown, because a source of the text has only one sequence of the longest "
                 "length, and an error needs two of each source: use shorter --lengths");
            break;
        }
    printf("\nNLL and standard error over %" PRId64 " sequence%s %s; trained at %" PRId64
           " tokens\nparameters: '%s'\n",
           e->sequences, e->sequences == 1 ? "" : "s",
           e->documents ? "of long documents" : "of joined text", e->trained, weights);
}

/* ---- the command ------------------------------------------------------------------------------ */

/* Prints a result, even one that is not finite, before the error, and writes it. */
static int show(td_tool *t, td_session *s, const td_extrapolation *result, int code,
                const char *directory, const char *name, td_error *error)
{
    bool drawn = false;
    if (result)
        print(t, result, td_session_loaded(s));
    if (!code && directory)
        code = td_curves_write(s, result, directory, name, error);
    if (!code && directory)
        code = td_work_draw(t, directory, name, &drawn, error);
    if (!code && directory)
        td_log_line(t->log, TD_LOG_INFO, "curves in %s/%s.json, .csv and -position.csv%s",
                    directory, name, drawn ? ", drawn in .svg" : "");
    return code;
}

int td_work_extrapolate(td_tool *t, td_session *s, const char *directory, const char *name)
{
    const td_extrapolation *result = NULL;
    td_numbers              lengths, prefixes;
    td_extrapolating        x = { .size = sizeof x, .progress = show_progress, .arg = t };
    td_error                e = { 0 };
    int                     code;

    if (!td_work_numbers(t, "--lengths", 1, &lengths) ||
        !td_work_numbers(t, "--prefixes", 1, &prefixes) ||
        !td_tool_integer(t, "--sequences", 0, 1, INT32_MAX, &x.sequences))
        return TD_EXIT_USAGE;
    x.lengths = lengths.n ? lengths.at : NULL;
    x.n_lengths = lengths.n;
    x.prefixes = prefixes.n ? prefixes.at : NULL;
    x.n_prefixes = prefixes.n;
    code = td_session_extrapolate(s, &x, &result, &e);
    td_work_end_if_lost(t, s, &e);
    /* all ranks have computed; the first one shows, and the others wait for it */
    td_team_begin_solo(s->team);
    if (td_team_leads(s->team))
        code = show(t, s, result, code, directory, name, &e);
    return td_work_end(t, s, td_team_end_solo(s->team, code, &e), &e);
}
