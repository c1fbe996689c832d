/* escape.c - embeds texts from strangers in HTML, Markdown, LaTeX, CSV and gnuplot. */
#include "base/escape.h"

#include <stdlib.h>
#include <string.h>

/* What is written in place of a sequence of bytes. */
typedef struct replacement {
    const char *from, *to;
} replacement;

/* free() it; NULL when out of memory. */
static char *cleaned(td_text *out, const char *text)
{
    char *copy = strdup(text);
    if (!copy) {
        out->failed = true;
        return NULL;
    }
    td_make_utf8(copy);
    td_text_printable(copy);
    for (char *c = copy; *c; c++)
        if (*c == '\n' || *c == '\t' || *c == '\r')
            *c = ' ';
    return copy;
}

static const replacement *find(const replacement *list, const char *at)
{
    for (; list->from; list++)
        if (!strncmp(list->from, at, strlen(list->from)))
            return list;
    return NULL;
}

static void replace(td_text *out, const char *text, const replacement *list)
{
    char *copy = cleaned(out, text);
    for (const char *at = copy; at && *at;) {
        const replacement *r = find(list, at);
        td_text_append(out, r ? r->to : at, r ? strlen(r->to) : 1);
        at += r ? strlen(r->from) : 1;
    }
    free(copy);
}

void td_escape_plain(td_text *out, const char *text)
{
    static const replacement none[] = { { 0 } };
    replace(out, text, none);
}

void td_escape_html(td_text *out, const char *text)
{
    static const replacement list[] = { { "&", "&amp;" },   { "<", "&lt;" },  { ">", "&gt;" },
                                        { "\"", "&quot;" }, { "'", "&#39;" }, { 0 } };
    replace(out, text, list);
}

/* Also what would begin HTML or an entity, which Markdown passes on. */
void td_escape_markdown(td_text *out, const char *text)
{
    static const replacement list[] = { { "&", "&amp;" }, { "<", "&lt;" }, { ">", "&gt;" },
                                        { "\\", "\\\\" }, { "`", "\\`" },  { "*", "\\*" },
                                        { "_", "\\_" },   { "[", "\\[" },  { "]", "\\]" },
                                        { "#", "\\#" },   { "|", "\\|" },  { "~", "\\~" },
                                        { "$", "\\$" },   { "!", "\\!" },  { 0 } };
    replace(out, text, list);
}

/* Also the few symbols that reports use beyond ASCII, for which LaTeX has commands. */
void td_escape_latex(td_text *out, const char *text)
{
    static const replacement list[] = {
        { "\\", "\\textbackslash{}" },
        { "{", "\\{" },
        { "}", "\\}" },
        { "$", "\\$" },
        { "&", "\\&" },
        { "#", "\\#" },
        { "%", "\\%" },
        { "_", "\\_" },
        { "~", "\\textasciitilde{}" },
        { "^", "\\textasciicircum{}" },
        { "<", "\\ensuremath{<}" },
        { ">", "\\ensuremath{>}" },
        { "|", "\\ensuremath{|}" },
        { "\"", "''" },
        { "\xc2\xb1", "\\ensuremath{\\pm}" },     /* plus-minus sign */
        { "\xc3\x97", "\\ensuremath{\\times}" },  /* multiplication sign */
        { "\xe2\x88\x92", "\\ensuremath{-}" },    /* minus sign */
        { "\xe2\x86\x92", "\\ensuremath{\\to}" }, /* arrow to the right */
        { "\xe2\x80\x93", "--" },                 /* en dash */
        { 0 }
    };
    replace(out, text, list);
}

static void quote(td_text *out, const char *text, const char *mark, const replacement *list)
{
    td_text_print(out, "%s", mark);
    replace(out, text, list);
    td_text_print(out, "%s", mark);
}

void td_escape_csv(td_text *out, const char *text)
{
    static const replacement list[] = { { "\"", "\"\"" }, { 0 } };
    quote(out, text, "\"", list);
}

void td_escape_gnuplot(td_text *out, const char *text)
{
    static const replacement list[] = { { "'", "''" }, { 0 } };
    quote(out, text, "'", list);
}
