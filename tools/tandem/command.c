/* command.c - what subcommands share once their arguments are parsed: errors and exit codes, the
 * plugin registry, the shipped files. */
#include "command.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

/* ---- errors ---------------------------------------------------------------------------------- */

/* To stderr and not to the log: --quiet does not hide it, and a run's log file is not open yet. */
int td_tool_usage_error(td_tool *t, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "tandem %s: ", t->command);
    va_start(args, format);
    vfprintf(stderr, format, args);
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
        /* A word with options of its own is found only as the first argument: after others, the
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

int td_tool_fail(td_tool *t, const td_error *e)
{
    td_log_line(t->log, TD_LOG_ERROR, "tandem %s: %s", t->command,
                e->code ? e->text : "failed without a message");
    switch (e->code) {
    case TD_ECONFIG: /* what the user wrote is wrong: trying again does not help */
    case TD_EPLUGIN:
    case TD_EGRAPH:
        return TD_EXIT_USAGE;
    case TD_EDIVERGED:
        return TD_EXIT_DIVERGED;
    default:
        return TD_EXIT_FAILED;
    }
}

/* ---- what subcommands work with -------------------------------------------------------------- */

td_registry *td_tool_registry(td_tool *t)
{
    td_error e = { 0 };
    if (!t->registry)
        t->registry = td_registry_new(t->plugin_paths, t->log, &e);
    if (!t->registry)
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
    /* NULL if none is near enough to be what was meant */
    nearest = td_nearest(name, names, n);
    td_fail(error, TD_ECONFIG, "unknown kind '%s'%s%s%s; `tandem plugins new` lists the kinds",
            name, nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    return NULL;
}

int td_tool_kind_length(const char *kind) { return (int)strcspn(kind, "/"); }

char *td_tool_shipped(void)
{
    /* Relative to the program, not to the prefix of the build: an installed tree may be moved. */
    char *bin = td_program_directory();
    char *installed = bin ? td_path_join(bin, "../share/tandem") : NULL;
    free(bin);
    if (installed && td_file_exists(installed))
        return installed;
    free(installed);
    return strdup(TANDEM_SOURCE_TREE);
}

char *td_tool_configs(void)
{
    char *shipped = td_tool_shipped(), *path = shipped ? td_path_join(shipped, "configs") : NULL;
    free(shipped);
    return path;
}
