/* request.c - shared by the commands of `tandem study`: arguments, the matrix, and messages
 * about it. */
#include "study/request.h"

#include <string.h>

#include "study/table.h"

/* ---- arguments -------------------------------------------------------------------------------- */

enum { SECONDS = 2 }; /* to measure a step of a cell */

/* "study.seeds=[1]" belongs to the study; other keys apply to every cell. */
static void sort_overrides(const td_tool *t, td_study_request *q)
{
    size_t study = 0, cells = 0;
    for (size_t k = 0; k < t->n_overrides; k++)
        if (!strncmp(t->overrides[k], "study.", 6))
            q->study[study++] = t->overrides[k];
        else
            q->cells[cells++] = t->overrides[k];
    q->matrix.overrides = q->study;
    q->matrix.n_overrides = study;
    q->matrix.settings = q->cells;
}

static void announce(void *arg, const char *cell)
{
    const td_tool *t = arg;
    td_log_progress(t->log, false, "measuring a step of '%s'", cell);
}

/* The study is the first file; the others change its base. */
bool td_study_take(td_tool *t, td_study_request *q, bool measures, int *code)
{
    int64_t threads = 0;
    memset(q, 0, sizeof *q);
    sort_overrides(t, q);
    if (!t->n_files) {
        *code = td_tool_usage_error(t, "no study given: name its config, FILE.cfg");
        return false;
    }
    if (measures && !td_tool_integer(t, "--threads", 0, 1, 1024, &threads)) {
        *code = TD_EXIT_USAGE;
        return false;
    }
    q->matrix.file = t->files[0];
    q->matrix.files = t->files + 1;
    q->matrix.plugin_paths = t->plugin_paths;
    /* a command that only looks must not run a stranger's code */
    q->matrix.untrusted = t->looks && !t->trust;
    q->matrix.log = t->log;
    q->matrix.seconds = measures && !td_tool_option(t, "--no-measure") ? SECONDS : 0;
    q->matrix.threads = threads;
    q->matrix.measuring = announce;
    q->matrix.arg = t;
    return true;
}

int td_study_errors(td_errors *errors)
{
    fprintf(stderr, "%s\n", td_text_get(&errors->text));
    td_errors_free(errors);
    return TD_EXIT_USAGE;
}

td_matrix *td_study_matrix(td_tool *t, const td_matrix_request *q, int *code)
{
    td_errors  errors = { 0 };
    td_error   e = { 0 };
    td_matrix *m = td_matrix_new(q, &errors, &e);
    if (errors.count)
        *code = td_study_errors(&errors);
    else if (!m)
        *code = td_tool_fail(t, &e);
    return m;
}

/* ---- the matrix ------------------------------------------------------------------------------- */

static bool is_waiting(const td_matrix *m, const td_matrix_cell *c)
{
    (void)m;
    return c->cell.state != TD_CELL_DONE;
}

/* Adds times: those of cells that are not done, and those that were measured before. */
int td_study_measure(td_tool *t, td_matrix *m)
{
    td_error e = { 0 };
    return td_matrix_measure(m, m->times.seconds > 0 ? is_waiting : NULL, &e) ? td_tool_fail(t, &e)
                                                                              : TD_EXIT_OK;
}

void td_study_print(const td_tool *t, const td_matrix *m, FILE *out)
{
    json_t *j = t->json ? td_matrix_report(m) : NULL;
    if (j) {
        json_dumpf(j, out, JSON_INDENT(2));
        fputc('\n', out);
        json_decref(j);
    } else
        td_matrix_print(m, out);
}

int td_study_look(td_tool *t, td_matrix *m, bool restart, td_refusal what)
{
    td_errors errors = { 0 };
    td_error  e = { 0 };
    int       code = TD_EXIT_OK;
    td_matrix_look(m, restart, &errors, &e);
    if (e.code)
        code = td_tool_fail(t, &e);
    else if (errors.count && what != TD_PASS)
        code = td_study_errors(&errors);
    td_errors_free(&errors);
    return what == TD_REFUSE || e.code ? code : TD_EXIT_OK;
}

int td_study_plan(td_matrix *m)
{
    td_errors errors = { 0 };
    return td_matrix_plan(m, &errors) ? td_study_errors(&errors) : TD_EXIT_OK;
}

int td_study_show(td_tool *t, const td_study_request *q, td_refusal what)
{
    int        code = TD_EXIT_OK, refused = TD_EXIT_OK;
    td_matrix *m = td_study_matrix(t, &q->matrix, &code);
    if (!m)
        return code;
    code = td_study_plan(m);
    /* the matrix is shown in any case */
    if (!code)
        refused = td_study_look(t, m, false, what);
    if (!code)
        code = td_study_measure(t, m);
    if (!code)
        td_study_print(t, m, stdout);
    td_matrix_free(m);
    return code ? code : refused;
}
