/* markdown.c - a report as Markdown, and its tables as LaTeX and CSV. */
#include <string.h>

#include "base/escape.h"
#include "report/writers.h"

static size_t rows_of(const td_doc_table *t)
{
    return t->n_columns ? t->n_cells / t->n_columns : 0;
}

/* ---- Markdown -------------------------------------------------------------------------------- */

static void paragraph(td_text *out, const char *before, const char *text)
{
    td_text_print(out, "%s", before);
    td_escape_markdown(out, text);
    td_text_print(out, "\n\n");
}

static void write_table(const td_doc_table *t, td_text *out)
{
    paragraph(out, "", t->caption);
    td_text_print(out, "|");
    for (size_t c = 0; c < t->n_columns; c++) {
        td_text_print(out, " ");
        td_escape_markdown(out, t->columns[c]);
        td_text_print(out, " |");
    }
    td_text_print(out, "\n|");
    for (size_t c = 0; c < t->n_columns; c++)
        td_text_print(out, t->numeric[c] ? "---:|" : "---|");
    for (size_t k = 0; k < rows_of(t) * t->n_columns; k++) {
        td_text_print(out, k % t->n_columns ? " " : "\n| ");
        td_escape_markdown(out, t->cells[k]);
        td_text_print(out, " |");
    }
    td_text_print(out, "\n\n([CSV](tables/%s.csv), [LaTeX](tables/%s.tex))\n\n", t->name, t->name);
}

static void write_figure(const td_doc_figure *f, td_text *out)
{
    paragraph(out, "### ", f->title);
    if (f->svg) {
        td_text_print(out, "![");
        td_escape_markdown(out, f->alt);
        td_text_print(out, "](figures/%s.svg)\n\n", f->name);
    } else
        paragraph(out, "", td_not_drawn(f));
    paragraph(out, "", f->caption);
    td_text_print(out, "Made by: ");
    td_escape_markdown(out, f->command);
    td_text_print(out, ". Data: [figures/%s.csv](figures/%s.csv)\n\n", f->name, f->name);
}

static void write_block(const td_block *b, td_text *out)
{
    switch (b->kind) {
    case TD_BLOCK_HEADING:
        paragraph(out, "## ", b->text);
        break;
    case TD_BLOCK_TEXT:
        paragraph(out, "", b->text);
        break;
    case TD_BLOCK_ITEM:
        paragraph(out, "* ", b->text);
        break;
    case TD_BLOCK_FIGURE:
        write_figure(b->figure, out);
        break;
    case TD_BLOCK_TABLE:
        write_table(b->table, out);
        break;
    }
}

void td_markdown_write(const td_document *d, td_text *out)
{
    paragraph(out, "# ", d->title);
    if (d->subtitle)
        paragraph(out, "", d->subtitle);
    if (d->question)
        paragraph(out, "", d->question);
    for (int k = 0; k < 3; k++)
        if (d->answer[k])
            paragraph(out, "> ", d->answer[k]);
    for (size_t k = 0; k < d->n_blocks; k++)
        write_block(&d->blocks[k], out);
    if (d->footer)
        paragraph(out, "", d->footer);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void latex_row(const char *const *cells, size_t n, td_text *out)
{
    for (size_t c = 0; c < n; c++) {
        td_text_print(out, c ? " & " : "");
        td_escape_latex(out, cells[c]);
    }
    td_text_print(out, " \\\\\n");
}

enum { PAGE = 45 }; /* rows of a table that a page holds */

static void latex_columns(const td_doc_table *t, td_text *out)
{
    for (size_t c = 0; c < t->n_columns; c++)
        td_text_print(out, t->numeric[c] ? "r" : "l");
}

static void latex_caption(const td_doc_table *t, td_text *out)
{
    td_text_print(out, "\\caption{");
    td_escape_latex(out, t->caption);
    td_text_print(out, "}\\label{tab:%s}", t->name);
}

static void latex_rows(const td_doc_table *t, td_text *out)
{
    for (size_t r = 0; r < rows_of(t); r++)
        latex_row(t->cells + r * t->n_columns, t->n_columns, out);
    td_text_print(out, "\\bottomrule\n");
}

/* Continues on the next page, with the header again. */
static void long_latex_table(const td_doc_table *t, td_text *out)
{
    td_text_print(out, "%% needs \\usepackage{booktabs,longtable}\n\\begin{longtable}{");
    latex_columns(t, out);
    td_text_print(out, "}\n");
    latex_caption(t, out);
    td_text_print(out, "\\\\\n\\toprule\n");
    latex_row(t->columns, t->n_columns, out);
    td_text_print(out, "\\midrule\n\\endhead\n");
    latex_rows(t, out);
    td_text_print(out, "\\end{longtable}\n");
}

void td_latex_table(const td_doc_table *t, td_text *out)
{
    /* a tabular does not break across pages */
    if (rows_of(t) > PAGE) {
        long_latex_table(t, out);
        return;
    }
    td_text_print(out, "%% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n");
    latex_caption(t, out);
    td_text_print(out, "\n\\begin{tabular}{");
    latex_columns(t, out);
    td_text_print(out, "}\n\\toprule\n");
    latex_row(t->columns, t->n_columns, out);
    td_text_print(out, "\\midrule\n");
    latex_rows(t, out);
    td_text_print(out, "\\end{tabular}\n\\end{table}\n");
}

static void csv_row(const char *const *cells, size_t n, td_text *out)
{
    for (size_t c = 0; c < n; c++) {
        td_text_print(out, c ? "," : "");
        td_escape_csv(out, cells[c]);
    }
    td_text_print(out, "\n");
}

void td_csv_table(const td_doc_table *t, td_text *out)
{
    if (t->csv) {
        td_text_append(out, t->csv, strlen(t->csv));
        return;
    }
    csv_row(t->columns, t->n_columns, out);
    for (size_t r = 0; r < rows_of(t); r++)
        csv_row(t->cells + r * t->n_columns, t->n_columns, out);
}
