/* markdown.c - text and option tables as Markdown. */
#include "manual/markdown.h"

#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "plugin/options.h"

/* ---- text ------------------------------------------------------------------------------------ */

void td_markdown_put(td_text *out, const char *text)
{
    for (const char *p = text ? text : ""; *p; p++) {
        if (*p == '<')
            td_text_print(out, "&lt;");
        else if (*p == '\n')
            td_text_print(out, " ");
        else
            td_text_print(out, strchr("|*", *p) ? "\\%c" : "%c", *p);
    }
}

/* Briefs and docs are written for tables and lists, in lower case and without a full stop. */
void td_markdown_sentence(td_text *out, const char *text)
{
    size_t at = out->size, n = text ? strlen(text) : 0;
    td_markdown_put(out, text);
    if (out->size > at && out->data[at] >= 'a' && out->data[at] <= 'z')
        out->data[at] = (char)(out->data[at] - 'a' + 'A');
    if (n && !strchr(".!?", text[n - 1]))
        td_text_print(out, ".");
}

void td_markdown_paragraphs(td_text *out, const char *doc)
{
    /* Each paragraph begins with a capital and ends with a full stop, as the author may not
     * have. */
    for (const char *p = doc; p && *p;) {
        const char *end = strstr(p, "\n\n");
        size_t      n = end ? (size_t)(end - p) : strlen(p);
        char       *one = strndup(p, n);
        if (n && one) {
            td_markdown_sentence(out, one);
            td_text_print(out, "\n\n");
        }
        free(one);
        p += n;
        p += strspn(p, "\n");
    }
}

void td_markdown_kind(td_text *out, const char *kind)
{
    int n = td_tool_kind_length(kind);
    td_text_print(out, "[%.*s](%.*s.md)", n, kind, n, kind);
}

/* ---- options --------------------------------------------------------------------------------- */

static const char *type_name(int64_t type)
{
    switch (type) {
    case TD_TYPE_BOOL:
        return "bool";
    case TD_TYPE_INT:
        return "int";
    case TD_TYPE_FLOAT:
        return "float";
    case TD_TYPE_STRING:
        return "string";
    case TD_TYPE_CHOICE:
        return "choice";
    case TD_TYPE_INTS:
        return "list of int";
    case TD_TYPE_FLOATS:
        return "list of float";
    case TD_TYPE_STRINGS:
        return "list of strings";
    case TD_TYPE_LIST:
        return "list of groups";
    default:
        return "";
    }
}

static void put_type(td_text *out, const td_option *o)
{
    if (o->type == TD_TYPE_PART || o->type == TD_TYPE_PARTS) {
        td_text_print(out, o->type == TD_TYPE_PART ? "plugin: " : "list of plugins: ");
        td_markdown_kind(out, o->choices[0]);
    } else
        td_text_print(out, "%s%s", type_name(o->type),
                      o->flags & TD_OPTION_IN_STEPS ? ", or a fraction of train.steps" : "");
}

/* As a config would write it: a line end would end the table's row. */
static void put_text(td_text *out, const char *text)
{
    td_text_print(out, "`\"");
    for (; *text; text++)
        td_text_append(out, *text == '\n' ? "\\n" : text, *text == '\n' ? 2 : 1);
    td_text_print(out, "\"`");
}

static void put_default(td_text *out, const td_option *o)
{
    if (o->flags & TD_OPTION_REQUIRED)
        td_text_print(out, "required");
    else if (o->flags & TD_OPTION_WHOLE_RUN)
        td_text_print(out, "`train.steps`");
    else if (o->type == TD_TYPE_BOOL)
        td_text_print(out, o->number != 0 ? "`true`" : "`false`");
    else if (o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT)
        td_text_print(out, "`%.15g`", o->number);
    else if (o->type == TD_TYPE_CHOICE)
        td_text_print(out, "`\"%s\"`", o->choices[(size_t)o->number]);
    else if ((o->type == TD_TYPE_STRING || o->type == TD_TYPE_PART) && o->text)
        put_text(out, o->text);
    else /* a list, or a string that may be left out */
        td_text_print(out, "none");
}

static bool has_range(const td_option *o)
{
    /* The widest ranges stand for "any number" and would only be noise. */
    bool number = o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT || o->type == TD_TYPE_INTS ||
                  o->type == TD_TYPE_FLOATS;
    return number && (o->min > -1e300 || o->max < 1e18);
}

static void put_range(td_text *out, const td_option *o)
{
    for (size_t k = 0; o->type == TD_TYPE_CHOICE && o->choices[k]; k++)
        td_text_print(out, "%s`\"%s\"`", k ? ", " : "", o->choices[k]);
    if (!has_range(o))
        return;
    if (o->max >= 1e18)
        td_text_print(out, "from %.15g", o->min);
    else if (o->min <= -1e300)
        td_text_print(out, "up to %.15g", o->max);
    else
        td_text_print(out, "%.15g .. %.15g", o->min, o->max);
}

void td_markdown_options(td_text *out, const td_option *table, size_t size, const char *list)
{
    td_option row;
    if (list)
        td_text_print(out, "Options of each group in `%s`:\n\n", list);
    td_text_print(out, "| option | type | default | range | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; td_option_row(table, size, i, &row); i++) {
        td_text_print(out, "| `%s` | ", row.name);
        put_type(out, &row);
        td_text_print(out, " | ");
        put_default(out, &row);
        td_text_print(out, " | ");
        put_range(out, &row);
        td_text_print(out, " | ");
        td_markdown_put(out, row.doc);
        td_text_print(out, " |\n");
    }
    td_text_print(out, "\n");
    /* After the table, since Markdown has no tables within tables. */
    for (size_t i = 0; td_option_row(table, size, i, &row); i++)
        if (row.type == TD_TYPE_LIST)
            td_markdown_options(out, row.fields, size, row.name);
}
