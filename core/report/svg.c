/* svg.c - gnuplot's pictures as parts of a page.
 *
 * gnuplot uses the same names in every picture, so that two pictures in one page would refer to
 * each other's parts; it titles every picture "Gnuplot", and writes many groups without content.
 */
#include <ctype.h>
#include <string.h>

#include "base/escape.h"
#include "report/figure.h"

typedef struct adapting {
    const td_doc_figure *figure;
    const char          *style;
    td_text              out;
} adapting;

static bool begins(const char *at, const char *text) { return !strncmp(at, text, strlen(text)); }

/* What follows the first `text` from `at` on; the end of the string if there is none. */
static const char *after(const char *at, const char *text)
{
    const char *found = strstr(at, text);
    return found ? found + strlen(text) : at + strlen(at);
}

/* Size and name spaces are kept; without a width, the picture is as wide as its container. */
static const char *open_picture(adapting *a, const char *at)
{
    const char *end = strchr(at, '>');
    if (!end)
        return at + strlen(at);
    td_text_print(&a->out, "<svg class=\"picture\" role=\"img\" aria-labelledby=\"%s-t %s-d\"",
                  a->figure->name, a->figure->name);
    td_text_append(&a->out, at + 4, (size_t)(end - at - 4));
    td_text_print(&a->out, ">\n<title id=\"%s-t\">", a->figure->name);
    td_escape_html(&a->out, a->figure->title);
    td_text_print(&a->out, "</title>\n<desc id=\"%s-d\">", a->figure->name);
    td_escape_html(&a->out, a->figure->alt);
    td_text_print(&a->out, "</desc>\n");
    if (a->style)
        td_text_print(&a->out, "<style>\n%s</style>\n", a->style);
    return end + 1;
}

/* Where a group without content ends; NULL if it has content, or this is not a group. */
static const char *empty_group(const char *at)
{
    const char *end = begins(at, "<g ") ? strchr(at, '>') : NULL;
    if (!end)
        return NULL;
    for (end++; isspace((unsigned char)*end);)
        end++;
    return begins(end, "</g>") ? end + 4 : NULL;
}

/* Each point is drawn on a white one, which would show on a dark page. */
static bool is_white(const char *at)
{
    const char *end = strstr(at, "/>"), *white = strstr(at, "color='white'");
    return end && white && white < end;
}

/* Prefixes a name, or a reference to one, with the figure's name. */
static const char *name_mark(const char *at)
{
    static const char *const marks[] = { " id=\"", " id='", "href='#", "href=\"#", "url(#" };
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++)
        if (begins(at, marks[k]))
            return marks[k];
    return NULL;
}

static const char *copy(adapting *a, const char *at)
{
    const char *mark = name_mark(at), *end = empty_group(at);
    if (begins(at, "<svg"))
        return open_picture(a, at);
    /* gnuplot's title and description are replaced by ours, which name what is shown */
    if (begins(at, "<title>"))
        return after(at, "</title>");
    if (begins(at, "<desc>"))
        return after(at, "</desc>");
    if (end)
        return end + (*end == '\n');
    if (begins(at, "<use") && is_white(at))
        return after(at, "/>");
    if (mark) {
        td_text_print(&a->out, "%s%s-", mark, a->figure->name);
        return at + strlen(mark);
    }
    td_text_append(&a->out, at, 1);
    return at + 1;
}

char *td_svg_adapt(const char *svg, const td_doc_figure *f, const char *style)
{
    adapting    a = { .figure = f, .style = style };
    const char *at = strstr(svg, "<svg");
    while (at && *at)
        at = copy(&a, at);
    if (a.out.failed || !a.out.size) {
        td_text_free(&a.out);
        return NULL;
    }
    return a.out.data;
}
