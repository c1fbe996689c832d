/* resolved.c - a resolved config: its nodes, and values as text. */
#include "config/resolved.h"

#include <stdlib.h>
#include <string.h>

#include "plugin/options.h"

/* "" without an option. NULL when out of memory. */
static const char *describe(td_arena *arena, const td_option *o)
{
    td_text     text = { 0 };
    const char *copy;
    if (o)
        td_option_describe(o, &text);
    copy = td_arena_copy(arena, td_text_get(&text));
    td_text_free(&text);
    return copy;
}

td_resolved *td_resolved_add(td_config *c, td_resolved *parent, const char *name, const char *text,
                             const char *owner, const td_setting *from, const td_option *option)
{
    td_resolved *r = td_arena_alloc(c->arena, sizeof *r);
    if (!r)
        return parent;
    /* copied: the names of a module's options are its own, those of paths the caller's */
    r->name = td_arena_copy(c->arena, name);
    r->text = text;
    r->owner = owner;
    r->doc = option && option->doc ? option->doc : "";
    r->origin = from ? from->origin : td_arena_print(c->arena, "default of %s", owner);
    r->takes = describe(c->arena, option);
    if (!r->name || !r->origin || !r->takes)
        return parent;
    if (parent->last)
        parent->last->next = r;
    else
        parent->first = r;
    return parent->last = r;
}

/* ---- values as text -------------------------------------------------------------------------- */

void td_print_integer(td_text *t, int64_t x)
{
    /* libconfig needs the L to read more than 32 bits */
    td_text_print(t, "%lld%s", (long long)x, x > INT32_MAX || x < INT32_MIN ? "L" : "");
}

void td_print_number(td_text *t, double x)
{
    char text[40];
    /* The fewest digits that read back as the same number, 17 at most. From 15 on, so that 50 is
     * not 5e+01. */
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    /* without a point it would be an integer; "n" is in inf and nan, which no option takes */
    td_text_print(t, "%s%s", text, strpbrk(text, ".en") ? "" : ".0");
}

/* libconfig knows the escapes \" \\ \n \r \t \f and \xHH; UTF-8 passes through as it is. */
void td_print_string(td_text *t, const char *s)
{
    td_text_append(t, "\"", 1);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            td_text_append(t, "\\", 1);
        /* no raw control characters: a terminal would obey them */
        if (*s == '\n')
            td_text_append(t, "\\n", 2);
        else if ((unsigned char)*s < ' ')
            td_text_print(t, "\\x%02x", (unsigned)(unsigned char)*s);
        else
            td_text_append(t, s, 1);
    }
    td_text_append(t, "\"", 1);
}
