/* escape.h - embeds names and texts from strangers in other formats.
 *
 * Each function appends `text` so that the format displays it and interprets none of it. Invalid
 * UTF-8 and control characters become '?', ends of lines become spaces.
 */
#ifndef TD_BASE_ESCAPE_H
#define TD_BASE_ESCAPE_H

#include "base/text.h"

/* Unchanged, apart from what no format may contain. */
void td_escape_plain(td_text *, const char *text);
/* For the text of an element, and for the value of an attribute in double quotes. */
void td_escape_html(td_text *, const char *text);
/* For text within a paragraph or a table. */
void td_escape_markdown(td_text *, const char *text);
/* For text within a paragraph or a table; needs no package. */
void td_escape_latex(td_text *, const char *text);
/* A field in quotes, inner quotes doubled (RFC 4180). */
void td_escape_csv(td_text *, const char *text);
/* A string in single quotes, in which gnuplot substitutes nothing. */
void td_escape_gnuplot(td_text *, const char *text);

#endif
