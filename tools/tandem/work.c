/* work.c - from arguments to a session; scores as JSON. */
#include "work.h"

#include <math.h>
#include <stdlib.h>

/* The values of --allow, of a command that takes it; NULL at the end. */
static const char **allowed(const td_tool *t)
{
    size_t       n = td_tool_count(t, "--allow");
    const char **list = calloc(n + 1, sizeof *list);
    for (size_t k = 0; list && k < n; k++)
        list[k] = td_tool_option_at(t, "--allow", k);
    return list;
}

td_session *td_work_open(td_tool *t, unsigned needs, int *code)
{
    td_errors          errors = { 0 };
    td_error           e = { 0 };
    const char       **allow = allowed(t);
    /* the lists of a td_tool end with NULL: it is zeroed, and one argument is always left */
    td_session_options o = { .size = sizeof o,
                             .files = t->files,
                             .settings = t->overrides,
                             .plugin_paths = t->plugin_paths,
                             .allow = allow };
    td_session        *s = td_session_begin(&o, needs, t->log, &errors, &e);

    free(allow);
    if (errors.count) { /* plain lines, each with its file, so that editors find their way */
        fprintf(stderr, "%s\n", td_text_get(&errors.text));
        *code = TD_EXIT_USAGE;
    } else if (!s)
        *code = td_tool_fail(t, &e);
    td_errors_free(&errors);
    return s;
}

/* ---- printing -------------------------------------------------------------------------------- */

static json_t *json_of_numbers(double nll, double bits_per_byte)
{
    return json_pack("{s:o, s:o, s:o}", "nll", td_tool_number(nll), "perplexity",
                     td_tool_number(exp(nll)), "bits_per_byte",
                     td_tool_number(bits_per_byte < 0 ? (double)NAN : bits_per_byte));
}

json_t *td_work_scores(const td_evaluation *e)
{
    json_t *all = json_of_numbers(e->nll, e->bits_per_byte), *sources = json_array();
    for (int64_t i = 0; i < e->count; i++) {
        const td_score *s = &e->at[i];
        json_t         *j = json_of_numbers(s->nll, s->bits_per_byte);
        json_object_set_new(j, "source", json_string(s->source));
        json_object_set_new(j, "sequences", json_integer(s->sequences));
        json_object_set_new(j, "targets", json_integer(s->targets));
        json_array_append_new(sources, j);
    }
    json_object_set_new(all, "sources", sources);
    return all;
}

void td_work_print_json(json_t *j, size_t flags)
{
    json_dumpf(j, stdout, flags);
    putchar('\n');
    json_decref(j);
}
