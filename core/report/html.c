/* html.c - a report as one page. */
#include <string.h>

#include "base/escape.h"
#include "report/palette.h"
#include "report/writers.h"

/* Sizes in rem follow the reader's settings; colours are those of the palette. Wide tables
 * scroll within their own box, so that the page never does. */
static const char style[] =
    ":root{color-scheme:light dark;--page:#ffffff;--panel:#f6f8fa;--ink:#1b1f24;--muted:#57606a;"
    "--line:#d0d7de;--accent:#1a5fa0}\n"
    "*{box-sizing:border-box}\n"
    "html{font:100%/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;"
    "-webkit-text-size-adjust:100%}\n"
    "body{margin:0;background:var(--page);color:var(--ink);overflow-wrap:break-word}\n"
    "main,header,footer{max-width:70rem;margin:0 auto;padding:0 1rem}\n"
    "header{padding-top:2rem}\n"
    "h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem}\n"
    "h2{font-size:1.35rem;margin:2.6rem 0 .8rem;padding-top:.6rem;border-top:1px solid "
    "var(--line)}\n"
    "p{margin:.6rem 0;max-width:46rem}\n"
    ".subtitle{color:var(--muted);margin:0}\n"
    ".answer{background:var(--panel);border-left:4px solid var(--accent);padding:.8rem 1.2rem;"
    "margin:1.4rem 0}\n"
    ".answer p{font-size:1.1rem;max-width:none}\n"
    "nav ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem}\n"
    "a{color:var(--accent)}\n"
    "a:focus-visible,.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--accent);"
    "outline-offset:2px}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(27rem,100%),1fr));"
    "gap:1.6rem 2rem;align-items:start}\n"
    "figure{margin:0;min-width:0}\n"
    "figure.wide{grid-column:1/-1}\n"
    "figure h3{font-size:1rem;margin:0 0 .3rem}\n"
    "figcaption{color:var(--muted);font-size:.875rem}\n"
    "figcaption p{margin:.3rem 0;max-width:46rem}\n"
    ".picture{display:block;width:100%;height:auto}\n"
    "figure .scroll{margin:0}\n"
    "figure.wide .picture{min-width:44rem}\n"
    "figcaption code{font-size:.8125rem;overflow-wrap:anywhere}\n"
    ".scroll{overflow-x:auto;margin:1rem 0 1.6rem}\n"
    "table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}\n"
    "caption{text-align:left;color:var(--muted);padding-bottom:.5rem;max-width:46rem}\n"
    "thead th{border-top:2px solid var(--ink);border-bottom:1px solid "
    "var(--ink);vertical-align:bottom}\n"
    "tbody tr:last-child>*{border-bottom:2px solid var(--ink)}\n"
    "th,td{padding:.3rem .7rem;text-align:left;font-weight:400;vertical-align:top}\n"
    "thead th{font-weight:600}tbody th{min-width:15rem}\n"
    ".number{text-align:right;white-space:nowrap}\n"
    "tbody tr:nth-child(even){background:var(--panel)}\n"
    "li{max-width:60rem}\n"
    "footer{color:var(--muted);font-size:.875rem;padding:2rem 1rem 3rem}\n";

/* A phone has no room for the caption beside a table that scrolls; paper has no dark mode and no
 * scrolling, and breaks pages between figures, not within them. */
static const char narrow_style[] =
    "@media(max-width:40rem){header{padding-top:1rem}h1{font-size:1.5rem}.answer{padding:.6rem "
    ".9rem}"
    ".answer p{font-size:1rem}table{font-size:.8125rem}th,td{padding:.25rem "
    ".45rem;white-space:nowrap}tbody th{min-width:0}caption{white-space:normal}"
    "caption{max-width:calc(100vw - 2rem);position:sticky;left:0}}\n"
    "@media print{@page{margin:18mm 15mm}html{font-size:9.5pt}nav{display:none}main,header,footer{"
    "max-width:none;padding:0}.figures{grid-template-columns:1fr "
    "1fr}figure,tr,.answer{break-inside:avoid}figure.wide .picture,tbody th{min-width:0}"
    "h2,h3,caption{break-after:avoid}.scroll{overflow:visible}.scroll "
    "table{width:100%;font-size:7.5pt}"
    ".number{white-space:normal}th,td{padding:.15rem "
    ".3rem}a{color:inherit;text-decoration:none}}\n";

static const char dark_style[] =
    "@media screen and (prefers-color-scheme:dark){:root{--page:#0f1318;"
    "--panel:#181e25;--ink:#e6edf3;--muted:#9da7b3;--line:#363d47;"
    "--accent:#79b8f5}\n";

static void put(td_text *out, const char *text) { td_text_append(out, text, strlen(text)); }

/* <TAG CLASS>escaped</TAG> */
static void element(td_text *out, const char *tag, const char *attributes, const char *text)
{
    td_text_print(out, "<%s%s%s>", tag, *attributes ? " " : "", attributes);
    td_escape_html(out, text);
    td_text_print(out, "</%s>\n", tag);
}

static void write_head(const td_document *d, td_text *out)
{
    put(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
             /* whatever a name may have smuggled in, the page loads and runs nothing */
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src &#39;none&#39;; "
             "style-src "
             "'unsafe-inline'; img-src data:\">\n"
             "<meta name=\"generator\" content=\"tandem report\">\n");
    element(out, "title", "", d->title);
    put(out, "<style>\n");
    put(out, style);
    put(out, dark_style);
    td_palette_dark(out);
    put(out, "}\n");
    put(out, narrow_style);
    put(out, "</style>\n</head>\n<body>\n");
}

/* Headings of level 2 are numbered for the links. */
static void write_contents(const td_document *d, td_text *out)
{
    size_t n = 0;
    put(out, "<nav aria-label=\"Contents\"><ul>\n");
    for (size_t k = 0; k < d->n_blocks; k++) {
        if (d->blocks[k].kind != TD_BLOCK_HEADING || d->blocks[k].level != 2)
            continue;
        td_text_print(out, "<li><a href=\"#part-%zu\">", ++n);
        td_escape_html(out, d->blocks[k].text);
        put(out, "</a></li>\n");
    }
    put(out, "</ul></nav>\n");
}

static void write_answer(const td_document *d, td_text *out)
{
    put(out, "<section class=\"answer\" aria-label=\"Answer\">\n");
    for (int k = 0; k < 3; k++)
        if (d->answer[k])
            element(out, "p", "", d->answer[k]);
    put(out, "</section>\n");
}

const char *td_not_drawn(const td_doc_figure *f)
{
    return f->failure ? f->failure : "This plot was not drawn: gnuplot is not installed.";
}

static void write_figure(const td_doc_figure *f, td_text *out)
{
    td_text_print(out, "<figure id=\"figure-%s\"%s>\n", f->name, f->wide ? " class=\"wide\"" : "");
    element(out, "h3", "", f->title);
    if (f->svg && f->wide) { /* on a phone it scrolls, or nobody could read it */
        put(out, "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"");
        td_escape_html(out, f->title);
        put(out, "\">\n");
        put(out, f->svg);
        put(out, "</div>\n");
    } else if (f->svg)
        put(out, f->svg);
    else
        element(out, "p", "", td_not_drawn(f));
    put(out, "<figcaption>");
    element(out, "p", "", f->caption);
    put(out, "<p>Made by <code>");
    td_escape_html(out, f->command);
    td_text_print(out,
                  "</code>; data in <code>figures/%s.csv</code>.</p></figcaption>\n</figure>\n",
                  f->name);
}

static void write_row(const td_doc_table *t, size_t row, td_text *out)
{
    put(out, "<tr>");
    for (size_t c = 0; c < t->n_columns; c++) {
        const char *tag = c ? "td" : "th";
        td_text_print(out, "<%s%s%s>", tag, c ? "" : " scope=\"row\"",
                      t->numeric[c] ? " class=\"number\"" : "");
        td_escape_html(out, t->cells[row * t->n_columns + c]);
        td_text_print(out, "</%s>", tag);
    }
    put(out, "</tr>\n");
}

static void write_table(const td_doc_table *t, td_text *out)
{
    size_t rows = t->n_columns ? t->n_cells / t->n_columns : 0;
    /* a box that scrolls must be reachable with the keyboard */
    td_text_print(out,
                  "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Table: %s\">\n"
                  "<table>\n",
                  t->name);
    element(out, "caption", "", t->caption);
    put(out, "<thead><tr>");
    for (size_t c = 0; c < t->n_columns; c++) {
        td_text_print(out, "<th scope=\"col\"%s>", t->numeric[c] ? " class=\"number\"" : "");
        td_escape_html(out, t->columns[c]);
        put(out, "</th>");
    }
    put(out, "</tr></thead>\n<tbody>\n");
    for (size_t r = 0; r < rows; r++)
        write_row(t, r, out);
    put(out, "</tbody>\n</table>\n</div>\n");
}

/* Neighbouring figures share a grid, neighbouring items a list. */
static void write_block(const td_document *d, size_t k, size_t *parts, td_text *out)
{
    const td_block *b = &d->blocks[k];
    int             before = k ? (int)d->blocks[k - 1].kind : -1;
    int             after = k + 1 < d->n_blocks ? (int)d->blocks[k + 1].kind : -1;
    char            attributes[40];
    switch (b->kind) {
    case TD_BLOCK_HEADING:
        /* the contents link to headings by these ids */
        snprintf(attributes, sizeof attributes, "id=\"part-%zu\"", ++*parts);
        element(out, "h2", attributes, b->text);
        break;
    case TD_BLOCK_TEXT:
        element(out, "p", "", b->text);
        break;
    case TD_BLOCK_ITEM:
        put(out, before == TD_BLOCK_ITEM ? "" : "<ul>\n");
        element(out, "li", "", b->text);
        put(out, after == TD_BLOCK_ITEM ? "" : "</ul>\n");
        break;
    case TD_BLOCK_FIGURE:
        put(out, before == TD_BLOCK_FIGURE ? "" : "<div class=\"figures\">\n");
        write_figure(b->figure, out);
        put(out, after == TD_BLOCK_FIGURE ? "" : "</div>\n");
        break;
    case TD_BLOCK_TABLE:
        write_table(b->table, out);
        break;
    }
}

/* The answer comes before the contents: most readers go no further. */
void td_html_write(const td_document *d, td_text *out)
{
    size_t parts = 0;
    write_head(d, out);
    put(out, "<header>\n");
    element(out, "h1", "", d->title);
    if (d->subtitle)
        element(out, "p", "class=\"subtitle\"", d->subtitle);
    if (d->question)
        element(out, "p", "class=\"question\"", d->question);
    put(out, "</header>\n<main>\n");
    write_answer(d, out);
    write_contents(d, out);
    /* counted as the contents count them, which link to the numbers */
    for (size_t k = 0; k < d->n_blocks; k++)
        write_block(d, k, &parts, out);
    put(out, "</main>\n");
    if (d->footer) {
        put(out, "<footer>\n");
        element(out, "p", "", d->footer);
        put(out, "</footer>\n");
    }
    put(out, "</body>\n</html>\n");
}
