/* markdown.h - text and option tables as Markdown, for the pages of `tandem plugins reference`. */
#ifndef TD_TOOLS_MANUAL_MARKDOWN_H
#define TD_TOOLS_MANUAL_MARKDOWN_H

#include "base/text.h"
#include "tandem/plugin.h"

/* Append text, escaped for a paragraph or a table's cell. NULL appends nothing, here and below. */
void td_markdown_put(td_text *out, const char *text);
/* The same as a sentence: with a capital letter and a full stop. */
void td_markdown_sentence(td_text *out, const char *text);
/* Sentences for a text whose paragraphs are separated by empty lines. */
void td_markdown_paragraphs(td_text *out, const char *doc);
/* A kind ("attention/1") as a link to its page. */
void td_markdown_kind(td_text *out, const char *kind);
/* A table of options, followed by a table for each option that is a list of groups. `list` is the
 * name of the list whose items have these options; NULL for a plugin's own. */
void td_markdown_options(td_text *out, const td_option *table, size_t size, const char *list);

#endif
