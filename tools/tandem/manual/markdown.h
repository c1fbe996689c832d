/* markdown.h - text and option tables as Markdown, for the pages of `tandem plugins reference`. */
#ifndef TD_TOOLS_MARKDOWN_H
#define TD_TOOLS_MARKDOWN_H

#include "base/text.h"
#include "tandem/plugin.h"

/* Text as it is, in a paragraph or a table's cell; NULL: none. */
void td_markdown_put(td_text *out, const char *text);
/* The same with a capital and a full stop. */
void td_markdown_sentence(td_text *out, const char *text);
/* Paragraphs, with empty lines between; NULL: none. */
void td_markdown_paragraphs(td_text *out, const char *doc);
/* A kind as a link to its page. */
void td_markdown_kind(td_text *out, const char *kind);
/* A table of options, then those of the groups in its lists. `list`: the list whose items these
 * are, or NULL. */
void td_markdown_options(td_text *out, const td_option *table, size_t size, const char *list);

#endif
