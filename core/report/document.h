/* document.h - a report as a list of blocks, which html.c, markdown.c and latex.c write out.
 *
 *     td_document *d = td_document_new("RedLLM against DecLLM");
 *     td_document_heading(d, 2, "Setup");
 *     td_document_say(d, "%zu runs of %zu groups.", runs, groups);
 *     td_doc_table *t = td_document_table(d, "setup", "What differs.", "run", "#tokens", NULL);
 *     td_table_text(d, t, "red");
 *     td_table_number(d, t, "%.0f", 614400);
 *     td_document_free(d);
 *
 * Texts are plain; each writer escapes them. The document owns all memory. When out of memory,
 * calls set `failed` and add nothing more: whoever writes the document checks this once, at the
 * end.
 */
#ifndef TD_REPORT_DOCUMENT_H
#define TD_REPORT_DOCUMENT_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/text.h"

/* Rows are filled cell by cell. */
typedef struct td_doc_table {
    const char  *name; /* of its files, without their endings */
    const char  *caption;
    const char **columns; /* [n_columns] */
    bool        *numeric; /* [n_columns]: aligned to the right */
    const char **cells;   /* [rows][n_columns] */
    size_t       n_columns, n_cells, room;
    /* the contents of tables/NAME.csv, for numbers that the table rounds; NULL: the cells. */
    const char  *csv;
} td_doc_table;

typedef struct td_doc_figure {
    const char *name; /* of its files, without their endings */
    const char *title;
    const char *caption;      /* what it shows, and how to read it */
    const char *alt;          /* the same for readers who cannot see it */
    const char *command;      /* the command that made the data */
    td_text     data, script; /* NAME.csv, and NAME.gp, which draws it */
    char       *svg;          /* set by td_figures_draw; NULL: not drawn */
    const char *failure;      /* why it was not drawn; NULL: it was, or gnuplot is missing */
    bool        wide;         /* as wide as two others */
    size_t      rows;         /* the number of its rows, with which it grows; 0: it has none */
    bool        beside;       /* the names of its series stand beside it */
} td_doc_figure;

typedef enum td_block_kind {
    TD_BLOCK_HEADING,
    TD_BLOCK_TEXT,
    TD_BLOCK_ITEM, /* of a list */
    TD_BLOCK_TABLE,
    TD_BLOCK_FIGURE
} td_block_kind;

typedef struct td_block {
    td_block_kind  kind;
    int            level; /* of a heading, 2 or 3 */
    const char    *text;
    td_doc_table  *table;
    td_doc_figure *figure;
} td_block;

typedef struct td_document {
    td_arena     *arena;
    const char   *title, *subtitle;
    const char   *question;  /* NULL: none was asked */
    const char   *answer[3]; /* the first page; NULL: fewer sentences */
    const char   *footer;
    td_block     *blocks;
    size_t        n_blocks, room;
    bool          failed;
    /* what callers fill in once memory has run out; it is never printed */
    td_doc_table  no_table;
    td_doc_figure no_figure;
} td_document;

td_document *td_document_new(const char *title); /* NULL when out of memory */
void         td_document_free(td_document *);    /* NULL is allowed */

/* A text that lives as long as the document; "" when out of memory. */
const char *td_document_print(td_document *, const char *format, ...) TD_PRINTF(2, 3);
/* The same for a growing text, which is released. */
const char *td_document_take(td_document *, td_text *);

void td_document_heading(td_document *, int level, const char *text);
void td_document_say(td_document *, const char *format, ...) TD_PRINTF(2, 3);
void td_document_item(td_document *, const char *format, ...) TD_PRINTF(2, 3);

/* Columns end with NULL; those whose name begins with # hold numbers. Never NULL. */
td_doc_table *td_document_table(td_document *, const char *name, const char *caption, ...);
void td_table_column(td_document *, td_doc_table *, const char *name); /* before any cell */
void td_table_text(td_document *, td_doc_table *, const char *text);
/* `format` is for one double; a number that is not finite is an empty cell. */
void td_table_number(td_document *, td_doc_table *, const char *format, double value);

/* Never NULL. */
td_doc_figure *td_document_figure(td_document *, const char *name, const char *title);

#endif
