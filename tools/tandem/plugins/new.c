/* new.c - `tandem plugins new`: creates the project of a new plugin. */
#include "plugins/new.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "plugins/project.h"
#include "run/session.h"
#include "tandem/kind/ffn.h"
#include "tandem/kind/op.h"

/* ---- kinds and names ------------------------------------------------------------------------- */

static int list_kinds(void)
{
    printf("kinds of plugins; `tandem plugins new KIND NAME` creates one:\n\n");
    for (const td_kind *k = td_kinds(); k->id; k++)
        printf("  %-14s %s\n", k->name, k->brief);
    return TD_EXIT_OK;
}

/* Narrower than what a module may use, since here the name becomes part of file names and of C
 * identifiers. A word of C is fine: identifiers have a suffix, as in `struct
 * int_config`. */
static int check_name(const char *name, td_error *error)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t            length = strlen(name), good = strspn(name, more);

    if (!length)
        return td_fail(error, TD_ECONFIG, "the plugin's name is empty");
    if (length > TD_PROJECT_NAME)
        return td_fail(error, TD_ECONFIG,
                       "the plugin's name '%.80s' has %zu bytes; the limit is %d: choose a shorter "
                       "one",
                       name, length, TD_PROJECT_NAME);
    if (!strchr(letters, name[0]))
        return td_fail(error, TD_ECONFIG,
                       "the plugin's name '%s' begins with '%.1s'; it is used in file names and C "
                       "identifiers, so it must begin with a letter",
                       name, name);
    /* `td-x` would become `td_x_config`, which a later header of ours may define. */
    if (!strncmp(name, "td", 2) && (!name[2] || name[2] == '-' || name[2] == '_'))
        return td_fail(error, TD_ECONFIG,
                       "the plugin's name '%s' begins with 'td', like tandem's own C identifiers: "
                       "choose another",
                       name);
    if (name[good])
        return td_fail(error, TD_ECONFIG,
                       "the plugin's name '%s' has byte 0x%02X after '%.*s'; it is used in file "
                       "names and C identifiers, so it may contain only letters, digits, - and _",
                       name, (unsigned char)name[good], (int)good, name);
    return 0;
}

/* A second plugin of the same kind and name would hide the first; a second op is an error. */
static int check_unused(td_registry *r, const td_project *p, td_error *error)
{
    /* The project of an op has a feed-forward layer of the same name, which uses it. */
    const char *kinds[] = { p->kind->id, strcmp(p->kind->id, TD_OP_KIND) ? NULL : TD_FFN_KIND };
    for (size_t k = 0; k < 2 && kinds[k]; k++) {
        td_error         ignored = { 0 };
        const td_plugin *used = td_registry_find(r, kinds[k], p->name, &ignored);
        const char      *path = used ? td_registry_module(r, used)->path : NULL;
        if (used)
            return td_fail(error, TD_EPLUGIN, "%.*s '%s' already exists (%s): choose another name",
                           td_tool_kind_length(kinds[k]), kinds[k], p->name,
                           path ? path : "built in");
    }
    return 0;
}

/* ---- author and place ------------------------------------------------------------------------ */

/* The user's name from git's config; free() it. NULL without git, or without a name. */
static char *git_user(void)
{
    char  *line = NULL;
    size_t room = 0;
    FILE  *git = popen("git config --get user.name 2>/dev/null", "re");
    /* A line of one byte is an empty name. */
    bool   found = git && getline(&line, &room, git) > 1;
    if (git)
        pclose(git);
    if (found) {
        line[strcspn(line, "\n")] = 0;
        return line;
    }
    free(line);
    return NULL;
}

/* Appends the path of the project, without slashes at its end: the directory above it is found by
 * the last one. */
static void put_directory(const td_project *p, const char *option, td_text *path)
{
    size_t n = option ? strlen(option) : 0;
    while (n > 1 && option[n - 1] == '/')
        n--;
    if (option)
        td_text_append(path, option, n);
    else
        td_text_print(path, "%s-%s", p->kind->name, p->name);
}

/* ---- the command ----------------------------------------------------------------------------- */

static void print_next_steps(const td_project *p)
{
    printf("Created %s with %s-%s.c, %s.cfg, CMakeLists.txt, Makefile and README.md.\n"
           "Next:\n\n",
           p->directory, p->kind->name, p->name, p->name);
    printf("    cd '%s'\n    make && make check\n    tandem train -c %s.cfg\n", p->directory,
           p->name);
    if (!strcmp(p->kind->name, "metric"))
        printf("    tandem evaluate runs/metric-%s --tasks task.cfg --data . --plugin-path .\n",
               p->name);
}

static int create(td_tool *t, td_registry *r, td_project *p, td_error *error)
{
    td_text path = { 0 };
    int     code;
    /* Errors in the arguments come first, before anything has been written. */
    p->kind = td_tool_kind(t->plain[0], error);
    if (!p->kind || check_name(p->name, error) || check_unused(r, p, error))
        return error->code;
    put_directory(p, td_tool_option(t, "--dir"), &path);
    p->directory = td_text_get(&path);
    code = td_project_make(p, error);
    if (!code)
        print_next_steps(p);
    td_text_free(&path);
    return code;
}

static int new_plugin(td_tool *t, td_registry *r)
{
    const char *author = td_tool_option(t, "--author"), *licence = td_tool_option(t, "--licence");
    const char *user = getenv("USER");
    char       *git = author ? NULL : git_user(), *shipped = td_shipped_directory();
    td_error    e = { 0 };
    /* An author that was given, even "", is never replaced. */
    td_project  p = { .name = t->plain[1],
                      .author = author          ? author
                                : git           ? git
                                : user && *user ? user
                                                : "unknown",
                      .licence = licence ? licence : "MIT",
                      .shipped = shipped ? shipped : "" };
    int         code = create(t, r, &p, &e);
    free(git);
    free(shipped);
    return code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

static const td_flag flags[] = {
    { "--dir", "DIR", "create the project in DIR, which must not exist (default: KIND-NAME)" },
    { "--author", "TEXT", "author (default: git's user.name, else $USER)" },
    { "--licence", "TEXT", "licence of the module (default: MIT)" },
    { "--list", 0, "list the kinds; so does leaving out KIND" },
    { 0, 0, 0 },
};

const td_usage td_usage_plugins_new = {
    .name = "plugins new",
    .arguments = "KIND NAME",
    .brief =
        "Create a plugin project: a directory with working code to change, a config that trains "
        "with it, CMakeLists.txt, Makefile and README.md.",
    .example = "tandem plugins new attention mine",
    .flags = flags,
    .plain = 2,
    .notes = "docs/plugin-authors.md is a guided tour.",
};

int td_plugins_new(td_tool *t, int argc, char **argv)
{
    td_registry *r;
    int          code;

    if (!td_tool_parse(t, &td_usage_plugins_new, argc, argv, &code))
        return code;
    if (td_tool_option(t, "--list"))
        return t->n_plain ? td_tool_usage_error(t, "--list takes no argument: unexpected '%s'",
                                                t->plain[0])
                          : list_kinds();
    if (!t->n_plain)
        return list_kinds();
    if (t->n_plain != 2)
        return td_tool_usage_error(t, "a kind and a name are needed; only '%s' is given",
                                   t->plain[0]);
    /* From an unset shell variable, most likely. */
    if (td_tool_option(t, "--dir") && !*td_tool_option(t, "--dir"))
        return td_tool_usage_error(t, "--dir needs the path of a directory; it is empty");
    r = td_tool_registry(t);
    return r ? new_plugin(t, r) : TD_EXIT_USAGE;
}
