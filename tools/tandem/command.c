/* command.c - shared by subcommands once their arguments are parsed: errors and exit codes, the
 * plugin registry, the shipped files. */
#include "command.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "config/find.h"
#include "run/session.h"
#include "strangers.h"

/* ---- errors ---------------------------------------------------------------------------------- */

static void say(const char *format, va_list args)
{
    char text[4096];
    vsnprintf(text, sizeof text, format, args);
    td_text_printable(text); /* arguments may come from a script, and it from anywhere */
    fputs(text, stderr);
}

void td_tool_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

/* Prints to stderr, not to the log: --quiet must not hide errors, and a run's log file is not open
 * yet. */
int td_tool_usage_error(td_tool *t, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "tandem %s: ", t->command);
    va_start(args, format);
    say(format, args);
    va_end(args);
    fprintf(stderr, "\nSee `tandem %s --help`.\n", t->command);
    return TD_EXIT_USAGE;
}

int td_tool_no_word(td_tool *t, const char *what)
{
    enum { WORDS = 64 };
    const char *names[WORDS], *nearest;
    td_text     list = { 0 };
    size_t      n = 0;
    int         code;
    for (const td_word *w = t->usage->words; w->name && n < WORDS; w++) {
        /* A word with its own options is found only as the first argument: after others, the
         * subcommand's parser has already refused its options. */
        if (!strcmp(what, w->name))
            return td_tool_usage_error(t, "'%s' must be the first argument: tandem %s %s ..", what,
                                       t->usage->name, what);
        td_text_print(&list, "%s%s", n ? ", " : "", w->name);
        names[n++] = w->name;
    }
    nearest = td_nearest(what, names, n);
    code = nearest ? td_tool_usage_error(t, "'%s' is not one of %s; did you mean '%s'?", what,
                                         td_text_get(&list), nearest)
                   : td_tool_usage_error(t, "'%s' is not one of %s", what, td_text_get(&list));
    td_text_free(&list);
    return code;
}

int td_tool_exit_code(const td_error *e)
{
    switch (e->code) {
    case TD_ECONFIG: /* errors in the user's input: trying again does not help */
    case TD_EPLUGIN:
    case TD_EGRAPH:
        return TD_EXIT_USAGE;
    case TD_EDIVERGED:
        return TD_EXIT_DIVERGED;
    default:
        return TD_EXIT_FAILED;
    }
}

int td_tool_fail(td_tool *t, const td_error *e)
{
    td_log_line(t->log, TD_LOG_ERROR, "tandem %s: %s", t->command,
                e->code ? e->text : "failed without a message");
    return td_tool_exit_code(e);
}

/* ---- what subcommands work with -------------------------------------------------------------- */

td_registry *td_tool_registry(td_tool *t)
{
    td_error e = { 0 };
    if (t->registry)
        return t->registry;
    t->registry = td_registry_new(t->plugin_paths, t->log, &e);
    if (t->registry)
        td_registry_set_screen(t->registry, td_strangers_screen, NULL);
    else
        td_tool_fail(t, &e);
    return t->registry;
}

json_t *td_tool_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

const td_kind *td_tool_kind(const char *name, td_error *error)
{
    enum { KINDS = 64 };
    const char *names[KINDS], *nearest;
    size_t      n = 0;
    for (const td_kind *k = td_kinds(); k->id && n < KINDS; k++) {
        if (!strcmp(k->name, name) || !strcmp(k->id, name))
            return k;
        names[n++] = k->name;
    }
    /* NULL if no name is close enough */
    nearest = td_nearest(name, names, n);
    td_fail(error, TD_ECONFIG, "unknown kind '%s'; %s%s%s`tandem plugins new` lists the kinds",
            name, nearest ? "did you mean '" : "", nearest ? nearest : "", nearest ? "'? " : "");
    return NULL;
}

int td_tool_kind_length(const char *kind) { return (int)strcspn(kind, "/"); }

char *td_tool_configs(void)
{
    char *shipped = td_shipped_directory(),
         *path = shipped ? td_path_join(shipped, "configs") : NULL;
    free(shipped);
    return path;
}

char *td_tool_config_near(const char *name)
{
    char *configs = td_tool_configs(), *near = td_config_near(name, configs);
    free(configs);
    return near;
}
