/* fit_table.c - reads CSV. */
#include "study/fit_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* A table of points is never larger; the limit keeps a wrong file from filling the memory. */
static const int64_t MOST_CELLS = 10000000, MOST_COLUMNS = 4096;

/* ---- fields ---------------------------------------------------------------------------------- */

/* A position in the text, which is unquoted in place: the output never overtakes the input. */
typedef struct reader {
    const char *source;
    char       *at, *end;
    int64_t     line;
} reader;

static int fail_at(const reader *r, int64_t line, td_error *error, const char *what)
{
    return td_fail(error, TD_EFORMAT, "%s:%lld: %s", r->source, (long long)line, what);
}

/* After a field: its text is terminated once the next character has been examined. */
typedef enum after { AFTER_COMMA, AFTER_LINE, AFTER_ALL } after;

/* Takes the separator after a field. */
static after take_separator(reader *r)
{
    if (r->at == r->end)
        return AFTER_ALL;
    if (*r->at == ',') {
        r->at++;
        return AFTER_COMMA;
    }
    r->at += r->at[0] == '\r' ? 2 : 1;
    r->line++;
    return AFTER_LINE;
}

static bool ends_field(const reader *r)
{
    return r->at == r->end || *r->at == ',' || *r->at == '\n' ||
           (*r->at == '\r' && r->at + 1 < r->end && r->at[1] == '\n');
}

/* "a ""b"", c" without its quotes; they may span lines. */
static int take_quoted(reader *r, char **field, char **field_end, td_error *error)
{
    int64_t line = r->line;
    char   *to = ++r->at;
    *field = to;
    for (;; r->at++) {
        if (r->at == r->end)
            return fail_at(r, line, error, "a quoted field begins here and has no closing quote");
        if (*r->at == '"' && r->at + 1 < r->end && r->at[1] == '"')
            r->at++; /* a doubled quote stands for one */
        else if (*r->at == '"')
            break;
        r->line += *r->at == '\n';
        *to++ = *r->at;
    }
    r->at++;
    *field_end = to;
    if (!ends_field(r))
        return fail_at(r, r->line, error,
                       "there is text between a closing quote and the next comma: a quote within a "
                       "quoted field is written twice");
    return 0;
}

static int take_plain(reader *r, char **field, char **field_end, td_error *error)
{
    *field = r->at;
    for (; !ends_field(r); r->at++)
        if (*r->at == '"')
            return fail_at(r, r->line, error,
                           "there is a quote within a field that is not quoted: quote the whole "
                           "field, and write the quote twice");
    *field_end = r->at;
    return 0;
}

/* The next field, ended by a 0 that replaces what followed it. Spaces around it do not belong to
 * it. */
static int take_field(reader *r, char **field, after *next, td_error *error)
{
    char *end = NULL;
    int   code = r->at < r->end && *r->at == '"' ? take_quoted(r, field, &end, error)
                                                 : take_plain(r, field, &end, error);
    if (code)
        return code;
    *next = take_separator(r);
    while (end > *field && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = 0;
    *field += strspn(*field, " \t");
    return 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Growing lists; at the end, their contents move to the arena or are freed. */
typedef struct growing {
    const char **cells;
    int64_t     *lines;
    size_t       n_cells, room_cells, n_lines, room_lines;
} growing;

static int grow(void **list, size_t used, size_t *room, size_t width, td_error *error)
{
    size_t wanted = *room ? 2 * *room : 256;
    void  *more;
    if (used < *room)
        return 0;
    more = realloc(*list, wanted * width);
    if (!more)
        return td_fail(error, TD_ENOMEM, "out of memory for a table of %zu cells", used);
    *list = more;
    *room = wanted;
    return 0;
}

/* Empty lines are skipped, because files often end with them. */
static void skip_empty(reader *r)
{
    while (r->at < r->end && ends_field(r) && *r->at != ',')
        take_separator(r);
}

/* The fields of a line go to `g->cells`; returns their number. */
static int64_t take_row(reader *r, growing *g, td_error *error)
{
    int64_t n = 0;
    after   next = AFTER_COMMA;
    while (next == AFTER_COMMA) {
        char *field;
        /* how many cells a table has is known only at its end */
        int   code = grow((void **)&g->cells, g->n_cells, &g->room_cells, sizeof *g->cells, error);
        if (!code)
            code = take_field(r, &field, &next, error);
        if (code)
            return code;
        if ((int64_t)g->n_cells >= MOST_CELLS || n >= MOST_COLUMNS)
            return td_fail(error, TD_EFORMAT,
                           "%s:%lld: the table has more than %lld cells or %lld columns: leave out "
                           "those that the fit does not use",
                           r->source, (long long)r->line, (long long)MOST_CELLS,
                           (long long)MOST_COLUMNS);
        g->cells[g->n_cells++] = field;
        n++;
    }
    return n;
}

static int take_rows(reader *r, td_fit_table *t, growing *g, td_error *error)
{
    for (skip_empty(r); r->at < r->end; skip_empty(r)) {
        int64_t line = r->line, n = take_row(r, g, error);
        int     code = n < 0 ? (int)n
                             : grow((void **)&g->lines, g->n_lines, &g->room_lines, sizeof *g->lines,
                                    error);
        if (code)
            return code;
        /* a shifted row would move numbers into other columns unnoticed */
        if (n != t->columns)
            return td_fail(error, TD_EFORMAT,
                           "%s:%lld: the line has %lld fields, but the header has %lld columns",
                           r->source, (long long)line, (long long)n, (long long)t->columns);
        g->lines[g->n_lines++] = line;
        t->rows++;
    }
    return 0;
}

/* ---- the header ------------------------------------------------------------------------------ */

static int check_header(const td_fit_table *t, int64_t line, td_error *error)
{
    for (int64_t k = 0; k < t->columns; k++)
        for (int64_t j = 0; j < k; j++)
            if (*t->names[k] && !strcmp(t->names[k], t->names[j]))
                return td_fail(error, TD_EFORMAT,
                               "%s:%lld: columns %lld and %lld are both called '%s': rename one",
                               t->source, (long long)line, (long long)j + 1, (long long)k + 1,
                               t->names[k]);
    return 0;
}

static int take_header(reader *r, td_fit_table *t, growing *g, td_error *error)
{
    int64_t line, n;
    skip_empty(r);
    if (r->at == r->end)
        return td_fail(error, TD_EFORMAT,
                       "%s is empty: a table begins with a line of column names, such as "
                       "'parameters,nll'",
                       r->source);
    line = r->line;
    n = take_row(r, g, error);
    if (n < 0)
        return (int)n;
    t->columns = n;
    t->names = td_arena_alloc(t->arena, (size_t)n * sizeof *t->names);
    if (!t->names)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld columns", (long long)n);
    memcpy(t->names, g->cells, (size_t)n * sizeof *t->names);
    /* the names are copied; rows start over */
    g->n_cells = 0;
    return check_header(t, line, error);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static int parse(td_fit_table *t, size_t size, td_error *error)
{
    static const char mark[] = "\xEF\xBB\xBF"; /* a byte-order mark, as spreadsheets write it */
    reader            r = { .source = t->source, .at = t->text, .end = t->text + size, .line = 1 };
    growing           g = { 0 };
    int               code;
    if (memchr(t->text, 0, size))
        return td_fail(error, TD_EFORMAT, "%s contains a zero byte: it is not a text file",
                       r.source);
    if (!td_is_utf8(t->text))
        return td_fail(error, TD_EFORMAT, "%s is not UTF-8 text: save it as UTF-8", r.source);
    if (size >= 3 && !memcmp(t->text, mark, 3))
        r.at += 3;
    code = take_header(&r, t, &g, error);
    if (!code)
        code = take_rows(&r, t, &g, error);
    t->cells = g.cells;
    t->lines = g.lines;
    return code;
}

int td_fit_table_parse(const char *source, char *text, size_t size, td_fit_table *out,
                       td_error *error)
{
    memset(out, 0, sizeof *out);
    out->text = text;
    out->arena = td_arena_new();
    out->source = out->arena ? td_arena_copy(out->arena, source) : NULL;
    if (!out->source)
        return td_fail(error, TD_ENOMEM, "out of memory for the table '%s'", source);
    return parse(out, size, error);
}

int td_fit_table_read(const char *path, td_fit_table *out, td_error *error)
{
    size_t size;
    char  *text = td_file_read(path, &size, error);
    memset(out, 0, sizeof *out);
    return text ? td_fit_table_parse(path, text, size, out, error) : td_failed(error, TD_EIO);
}

void td_fit_table_free(td_fit_table *t)
{
    free(t->cells);
    free(t->lines);
    free(t->text);
    td_text_free(&t->notes);
    td_arena_free(t->arena);
    memset(t, 0, sizeof *t);
}

/* ---- cells ----------------------------------------------------------------------------------- */

/* At most this many are listed in a message. */
enum { LISTED = 12 };

static int no_column(const td_fit_table *t, const char *name, td_error *error)
{
    const char *nearest = td_nearest(name, t->names, (size_t)t->columns);
    td_text     list = { 0 };
    if (nearest)
        td_text_print(&list, "; did you mean '%s'?", nearest);
    else
        for (int64_t k = 0; k < t->columns && k < LISTED; k++)
            td_text_print(&list, "%s'%s'", k ? ", " : "; it has ", t->names[k]);
    td_fail(error, TD_ECONFIG, "%s has no column '%s'%s", t->source, name, td_text_get(&list));
    td_text_free(&list);
    return -1;
}

int64_t td_fit_table_column(const td_fit_table *t, const char *name, td_error *error)
{
    for (int64_t k = 0; k < t->columns; k++)
        if (!strcmp(t->names[k], name))
            return k;
    return no_column(t, name, error);
}

const char *td_fit_table_cell(const td_fit_table *t, int64_t row, int64_t column)
{
    return t->cells[row * t->columns + column];
}

/* "points.csv:5: column 'nll' is 'x'", or "runs/red: nll is unknown". */
static int bad_cell(const td_fit_table *t, int64_t row, int64_t column, const char *why,
                    td_error *error)
{
    const char *cell = td_fit_table_cell(t, row, column), *name = t->names[column];
    if (t->lines)
        return td_fail(error, TD_EFORMAT, "%s:%lld: column '%s' is '%.60s': %s", t->source,
                       (long long)t->lines[row], name, cell, why);
    if (!*cell)
        return td_fail(error, TD_ECONFIG,
                       "'%s' has no '%s': score it with `tandem evaluate`, or leave the run out",
                       td_fit_table_cell(t, row, 0), name);
    return td_fail(error, TD_ECONFIG, "'%s' of run '%s' is %s: %s", name,
                   td_fit_table_cell(t, row, 0), cell, why);
}

int td_fit_table_number(const td_fit_table *t, int64_t row, int64_t column, double *out,
                        td_error *error)
{
    const char *cell = td_fit_table_cell(t, row, column);
    char       *end;
    *out = strtod(cell, &end);
    if (end == cell || *end)
        return bad_cell(t, row, column, *cell ? "it is not a number" : "there must be a number",
                        error);
    /* strtod accepts "nan" and "inf" */
    if (!isfinite(*out))
        return bad_cell(t, row, column, "a fit takes finite numbers; remove the row", error);
    if (!(*out > 0))
        return bad_cell(t, row, column,
                        "a fit takes the logarithm of it, so it must be more than 0", error);
    return 0;
}
