/* writers.h - a document as HTML, Markdown, LaTeX and CSV. */
#ifndef TD_REPORT_WRITERS_H
#define TD_REPORT_WRITERS_H

#include "report/document.h"

/* One self-contained page: style and pictures are inside; no scripts, and nothing from a
 * network. */
void        td_html_write(const td_document *, td_text *out);
/* The text that replaces a picture that was not drawn. */
const char *td_not_drawn(const td_doc_figure *);
/* Pictures and tables by their files, "figures/NAME.svg". */
void        td_markdown_write(const td_document *, td_text *out);
/* A table environment with the rules of booktabs. */
void        td_latex_table(const td_doc_table *, td_text *out);
/* The rows, or the contents that the table has for this file. */
void        td_csv_table(const td_doc_table *, td_text *out);

#endif
