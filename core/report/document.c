/* document.c - the blocks of a report. */
#include "report/document.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- the document ---------------------------------------------------------------------------- */

td_document *td_document_new(const char *title)
{
    td_document *d = calloc(1, sizeof *d);
    td_arena    *arena = td_arena_new();
    if (!d || !arena) {
        free(d);
        td_arena_free(arena);
        return NULL;
    }
    d->arena = arena;
    d->title = td_document_print(d, "%s", title);
    return d;
}

static void free_figure(td_doc_figure *f)
{
    if (!f)
        return;
    td_text_free(&f->data);
    td_text_free(&f->script);
    free(f->svg);
}

void td_document_free(td_document *d)
{
    if (!d)
        return;
    free_figure(&d->no_figure);
    for (size_t k = 0; k < d->n_blocks; k++)
        free_figure(d->blocks[k].figure);
    free(d->blocks);
    td_arena_free(d->arena);
    free(d);
}

static void *take(td_document *d, size_t bytes)
{
    void *memory = td_arena_alloc(d->arena, bytes);
    d->failed = d->failed || !memory;
    return memory;
}

const char *td_document_take(td_document *d, td_text *t)
{
    const char *copy = t->failed ? NULL : td_arena_copy(d->arena, td_text_get(t));
    d->failed = d->failed || !copy;
    td_text_free(t);
    return copy ? copy : "";
}

static const char *print(td_document *d, const char *format, va_list args)
{
    char   *text = NULL;
    td_text copy = { 0 };
    if (vasprintf(&text, format, args) < 0) {
        d->failed = true;
        return "";
    }
    td_text_append(&copy, text, strlen(text));
    free(text);
    return td_document_take(d, &copy);
}

const char *td_document_print(td_document *d, const char *format, ...)
{
    va_list     args;
    const char *text;
    va_start(args, format);
    text = print(d, format, args);
    va_end(args);
    return text;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void add(td_document *d, td_block block)
{
    if (d->n_blocks == d->room) {
        size_t    room = 2 * d->room + 32;
        td_block *larger = realloc(d->blocks, room * sizeof *larger);
        if (!larger) {
            d->failed = true;
            /* the block owned it */
            free_figure(block.figure);
            return;
        }
        d->blocks = larger;
        d->room = room;
    }
    d->blocks[d->n_blocks++] = block;
}

void td_document_heading(td_document *d, int level, const char *text)
{
    add(d, (td_block){ .kind = TD_BLOCK_HEADING,
                       .level = level,
                       .text = td_document_print(d, "%s", text) });
}

void td_document_say(td_document *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(d, (td_block){ .kind = TD_BLOCK_TEXT, .text = print(d, format, args) });
    va_end(args);
}

void td_document_item(td_document *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(d, (td_block){ .kind = TD_BLOCK_ITEM, .text = print(d, format, args) });
    va_end(args);
}

/* ---- tables ---------------------------------------------------------------------------------- */

enum { COLUMNS = 200 };

void td_table_column(td_document *d, td_doc_table *t, const char *name)
{
    if (t->n_columns == COLUMNS || !t->columns || !t->numeric) {
        d->failed = true;
        return;
    }
    t->numeric[t->n_columns] = *name == '#';
    t->columns[t->n_columns++] = td_document_print(d, "%s", name + (*name == '#'));
}

td_doc_table *td_document_table(td_document *d, const char *name, const char *caption, ...)
{
    td_doc_table *t = take(d, sizeof *t);
    const char   *column;
    va_list       args;
    if (!t)
        /* callers go on without a check; the document is marked as failed */
        return &d->no_table;
    *t = (td_doc_table){ .name = td_document_print(d, "%s", name),
                         .caption = td_document_print(d, "%s", caption),
                         .columns = take(d, COLUMNS * sizeof *t->columns),
                         .numeric = take(d, COLUMNS * sizeof *t->numeric) };
    va_start(args, caption);
    while ((column = va_arg(args, const char *)) != NULL)
        td_table_column(d, t, column);
    va_end(args);
    add(d, (td_block){ .kind = TD_BLOCK_TABLE, .table = t });
    return t;
}

/* Cells are in the arena: a table that grows leaves its old array there. */
void td_table_text(td_document *d, td_doc_table *t, const char *text)
{
    if (t->n_cells == t->room) {
        size_t       room = 2 * t->room + 64;
        const char **larger = take(d, room * sizeof *larger);
        if (!larger)
            return;
        if (t->n_cells)
            memcpy(larger, t->cells, t->n_cells * sizeof *larger);
        t->cells = larger;
        t->room = room;
    }
    t->cells[t->n_cells++] = td_document_print(d, "%s", text);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
void td_table_number(td_document *d, td_doc_table *t, const char *format, double value)
{
    char text[64] = "";
    if (isfinite(value))
        snprintf(text, sizeof text, format, value);
    td_table_text(d, t, text);
}
#pragma GCC diagnostic pop

/* ---- figures --------------------------------------------------------------------------------- */

td_doc_figure *td_document_figure(td_document *d, const char *name, const char *title)
{
    td_doc_figure *f = take(d, sizeof *f);
    if (!f)
        return &d->no_figure;
    *f = (td_doc_figure){ .name = td_document_print(d, "%s", name),
                          .title = td_document_print(d, "%s", title),
                          .caption = "",
                          .alt = "",
                          .command = "" };
    add(d, (td_block){ .kind = TD_BLOCK_FIGURE, .figure = f });
    return f;
}
