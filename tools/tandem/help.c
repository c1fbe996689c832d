/* help.c - the options common to all subcommands, and --help.
 *
 *     usage: tandem plugins new KIND NAME
 *
 *     Create a plugin project: ..
 *
 *       --dir DIR             create the project in DIR, which must not exist ..
 *       --plugin-path DIR     search DIR for plugins first
 *
 *     docs/plugin-authors.md is a guided tour.
 *
 *     example: tandem plugins new attention mine
 */
#include <stdio.h>
#include <string.h>

#include "command.h"

enum {
    WIDTH = 80, /* columns of a line, as in the narrowest usual terminal */
    LEFT = 2,   /* where names begin .. */
    RIGHT = 24  /* .. and descriptions */
};

/* ---- what a subcommand accepts --------------------------------------------------------------- */

static const td_flag common[] = {
    { "-c", "FILE",
      "config file; later files override earlier ones; -c may be left out if the name ends in "
      ".cfg" },
    { "key=value", 0, "set a config key: model.layers=2; `tandem config show` lists the keys" },
    { "--threads", "N", "number of threads; 0 for one per processor (backend.threads)" },
    { "--plugin-path", "DIR", "search DIR for plugins first" },
    { "--trust", 0,
      "load the modules stored in a run, and follow a config's plugin_path even in commands that "
      "only inspect the config" },
    { "--json", 0, "print results as JSON" },
    { "--quiet", 0, "log warnings and errors only" },
    { "--verbose", 0, "log more detail" },
    { "--help", 0, "print this help" },
    { 0, 0, 0 },
};

const td_flag *td_tool_common(void) { return common; }

static const td_flag *own_flag(const td_usage *u, const char *name)
{
    for (const td_flag *f = u->flags; f && f->name; f++)
        if (!strcmp(f->name, name))
            return f;
    return NULL;
}

bool td_tool_takes(const td_usage *u, const td_flag *f)
{
    const td_flag *own = own_flag(u, f->name);
    /* it replaces the common one of that name */
    if (own)
        return own == f;
    /* If a config is optional, a run must be able to replace it: otherwise there may be no backend
     * whose threads could be set. */
    if (!strcmp(f->name, "--threads"))
        return u->config && (!u->optional || u->run);
    if (!strcmp(f->name, "-c") || !strcmp(f->name, "--trust") || *f->name != '-')
        return u->config;
    return u->json || strcmp(f->name, "--json");
}

void td_tool_arguments(const td_usage *u, td_text *out)
{
    if (u->arguments)
        td_text_print(out, "%s", u->arguments);
    for (const td_word *w = u->arguments ? NULL : u->words; w && w->name; w++)
        td_text_print(out, "%s%s%s%s", w == u->words ? "" : " | ", w->name, w->arguments ? " " : "",
                      w->arguments ? w->arguments : "");
}

/* ---- --help ---------------------------------------------------------------------------------- */

/* "[--out FILE]" is not broken, nor is "[--tasks NAMES [--shots N]]". */
static size_t word_length(const char *text)
{
    size_t n = 0;
    int    open = 0;
    for (; text[n] && (open > 0 || !strchr(" \n", text[n])); n++)
        open += (text[n] == '[') - (text[n] == ']');
    return open ? strcspn(text, " \n") : n; /* one that is never closed holds nothing together */
}

/* Words up to the end or an empty line, wrapped, continuing at `column`; later lines are
 * indented. Returns the rest of the text, after the empty line. */
static const char *print_wrapped(const char *text, size_t column, size_t indent)
{
    bool first = true;
    while (*text && strncmp(text, "\n\n", 2)) {
        size_t n = word_length(text);
        if (n) {
            /* A word wider than the line is printed anyway, beyond the line's end. */
            if (!first && column + 1 + n > WIDTH) {
                printf("\n%*s", (int)indent, "");
                column = indent;
            } else if (!first) {
                putchar(' ');
                column++;
            }
            printf("%.*s", (int)n, text);
            column += n;
            first = false;
        }
        text += n;
        text += *text && strncmp(text, "\n\n", 2);
    }
    putchar('\n');
    return text + strspn(text, "\n");
}

static void print_row(const char *name, const char *value, const char *help)
{
    size_t n = strlen(name) + (value ? 1 + strlen(value) : 0);
    printf("%*s%s%s%s", LEFT, "", name, value ? " " : "", value ? value : "");
    /* A name that leaves no gap gets its own line. */
    if (LEFT + n + 1 > RIGHT)
        printf("\n%*s", RIGHT, "");
    else
        printf("%*s", (int)(RIGHT - LEFT - n), "");
    print_wrapped(help, RIGHT, RIGHT);
}

static void print_flags(const td_usage *u, const td_flag *flags)
{
    for (const td_flag *f = flags; f && f->name; f++)
        if (td_tool_takes(u, f))
            print_row(f->name, f->value, f->help);
}

static void print_words(const td_usage *u)
{
    for (const td_word *w = u->words; w && w->name; w++)
        print_row(w->name, w->arguments, w->brief);
    if (u->words)
        putchar('\n');
}

static void print_synopsis(const td_usage *u)
{
    static const char head[] = "usage: tandem ";
    td_text           line = { 0 };
    td_text_print(&line, "%s", u->name);
    if (u->config)
        td_text_print(&line, u->optional ? " [-c FILE.cfg] [key=value ..]"
                                         : " -c FILE.cfg [key=value ..]");
    td_text_print(&line, " ");
    td_tool_arguments(u, &line);
    fputs(head, stdout);
    print_wrapped(td_text_get(&line), strlen(head), strlen(head));
    td_text_free(&line);
}

void td_tool_help(const td_usage *u)
{
    print_synopsis(u);
    putchar('\n');
    print_wrapped(u->brief, 0, 0);
    putchar('\n');
    print_words(u);
    print_flags(u, u->flags);
    print_flags(u, common);
    for (const char *rest = u->notes ? u->notes : ""; *rest;) {
        putchar('\n');
        rest = print_wrapped(rest, 0, 0);
    }
    /* Not wrapped, so that it can be pasted. */
    if (u->example)
        printf("\nexample: %s\n", u->example);
}
