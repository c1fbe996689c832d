/* arguments.c - parses the arguments of a subcommand by its td_usage.
 *
 * No argument is ignored: one that is unknown, repeated or superfluous is a usage error. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "config/words.h"
#include "folder.h"
#include "run/experiment.h"

/* Usable entries of each array: --threads adds an override, and plugin_paths needs a NULL at the
 * end. */
enum { MOST = TD_ARGUMENTS - 2 };

/* ---- options --------------------------------------------------------------------------------- */

static const td_flag *find_flag(const td_usage *u, const td_flag *flags, const char *name)
{
    for (const td_flag *f = flags; f && f->name; f++)
        if (!strcmp(f->name, name))
            return td_tool_takes(u, f) ? f : NULL;
    return NULL;
}

/* The first option that begins and ends as `name` does: --max-tokens is --max-new-tokens. NULL: none. */
static const char *with_words_of(const char *name, const char *const *names, size_t n)
{
    const char *last = strncmp(name, "--", 2) ? NULL : strrchr(name, '-');
    size_t      first = last ? strcspn(name + 2, "-") + 2 : 0, size = last ? strlen(last) : 0;
    for (size_t k = 0; k < n && last > name + 1; k++) {
        size_t length = strlen(names[k]);
        if (length > first + size && !strncmp(names[k], name, first + 1) &&
            !strcmp(names[k] + length - size, last))
            return names[k];
    }
    return NULL;
}

/* Whether it is a key's path: "--train.steps". */
static bool is_path_of_key(const char *name)
{
    size_t n;
    name += strspn(name, "-");
    n = strcspn(name, ".");
    for (const td_group *g = td_experiment_groups(); g->name && name[n]; g++)
        if (strlen(g->name) == n && !strncmp(g->name, name, n))
            return true;
    return false;
}

/* An option of this subcommand that resembles `name`; NULL: none. */
static const char *option_like(const td_usage *u, const char *name, bool *alike)
{
    enum { NAMES = 64, OWN = 48 }; /* leaves space for the common options */
    const char *names[NAMES], *found = td_config_option(name);
    size_t      n = 0;
    for (const td_flag *f = u->flags; f && f->name && n < OWN; f++)
        names[n++] = f->name;
    for (const td_flag *f = td_tool_common(); f->name; f++)
        if (td_tool_takes(u, f))
            names[n++] = f->name;
    if (!found || !find_flag(u, u->flags, found))
        found = with_words_of(name, names, n);
    *alike = found != NULL;
    return found ? found : td_nearest(name, names, n);
}

/* Suggests only what this subcommand would accept. */
static int unknown_option(td_tool *t, const td_usage *u, const char *name)
{
    bool        alike;
    const char *nearest = option_like(u, name, &alike);
    const char *key = u->config && !alike ? td_config_word(name) : NULL;
    if (u->config && is_path_of_key(name))
        return td_tool_usage_error(t, "unknown option '%s'; keys have no dashes: write %s=VALUE",
                                   name, name + strspn(name, "-"));
    /* another tool's option, such as --lr */
    if (key && key[0] != '-')
        return td_tool_usage_error(t, "unknown option '%s'; %s %s: write key=VALUE", name,
                                   td_config_word_verb(key), key);
    return nearest
               ? td_tool_usage_error(t, "unknown option '%s'; did you mean '%s'?", name, nearest)
               : td_tool_usage_error(t, "unknown option '%s'", name);
}

static bool is_repeatable(const td_flag *f)
{
    return !strcmp(f->name, "-c") || !strcmp(f->name, "--plugin-path") ||
           (f->value && strstr(f->value, ".."));
}

/* Stores the option for td_tool_option. False if it was given before and may not be repeated,
 * because one of the two values would be ignored. */
static bool remember(td_tool *t, const td_flag *f, const char *value)
{
    for (size_t k = 0; k < t->n_given && !is_repeatable(f); k++)
        if (t->given[k] == f)
            return false;
    /* -c and --plugin-path have their own, longer lists. */
    if (t->n_given < TD_FLAGS && strcmp(f->name, "-c") && strcmp(f->name, "--plugin-path")) {
        t->given[t->n_given] = f;
        t->values[t->n_given++] = value ? value : "";
    }
    return true;
}

static void set_common(td_tool *t, const char *name, const char *value)
{
    if (!strcmp(name, "-c"))
        t->files[t->n_files++] = value;
    else if (!strcmp(name, "--plugin-path"))
        t->plugin_paths[t->n_plugin_paths++] = value;
    else if (!strcmp(name, "--threads")) {
        /* Added as an override, so that the config's checks apply and the run records it. */
        snprintf(t->threads, sizeof t->threads, "backend.threads=%s", value);
        t->overrides[t->n_overrides++] = t->threads;
    } else if (!strcmp(name, "--json"))
        t->json = true;
    else if (!strcmp(name, "--trust"))
        t->trust = true;
    else if (!strcmp(name, "--quiet") || !strcmp(name, "--verbose")) {
        td_log_free(t->log);
        t->log = td_log_new(!strcmp(name, "--quiet") ? TD_LOG_WARN : TD_LOG_DEBUG);
    }
}

/* The option's full name, without the "=value" that may follow it in `argument`. */
static void option_name(const char *argument, size_t length, char name[64])
{
    static const char *const shorts[][2] = { { "-q", "--quiet" }, { "-v", "--verbose" } };
    snprintf(name, 64, "%.*s", (int)length, argument);
    for (size_t k = 0; k < sizeof shorts / sizeof *shorts; k++)
        if (!strcmp(name, shorts[k][0]))
            strcpy(name, shorts[k][1]);
}

/* Parses an argument that begins with '-', and the next one if that is its value. Returns the
 * number used, or 0 after an error. */
static int take_option(td_tool *t, const td_usage *u, int argc, char **argv, int *code)
{
    char           name[64];
    const char    *equals = strncmp(argv[0], "--", 2) ? NULL : strchr(argv[0], '='), *value;
    const td_flag *f, *own;

    option_name(argv[0], equals ? (size_t)(equals - argv[0]) : strlen(argv[0]), name);
    /* A subcommand's own option takes precedence over a common one of the same name. */
    own = find_flag(u, u->flags, name);
    f = own ? own : find_flag(u, td_tool_common(), name);
    *code = f ? TD_EXIT_OK : unknown_option(t, u, name);
    if (*code)
        return 0;
    value = equals ? equals + 1 : f->value && argc > 1 ? argv[1] : NULL;
    if (f->value && !value)
        *code = td_tool_usage_error(t, "%s needs a value: %s %s", name, name, f->value);
    else if (equals && !f->value)
        *code = td_tool_usage_error(t, "%s takes no value", name);
    else if (!remember(t, f, value))
        *code = td_tool_usage_error(t, "%s is given twice; give it once", name);
    if (*code)
        return 0;
    if (!own)
        set_common(t, name, value);
    return f->value && !equals ? 2 : 1;
}

/* ---- arguments ------------------------------------------------------------------------------- */

/* "key=value". Paths and prompts ("2+2=") may contain '=', but a key has only these characters. */
static bool is_override(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return n && text[n] == '=';
}

static bool is_config(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".cfg");
}

static bool is_help(const char *argument)
{
    return !strcmp(argument, "--help") || !strcmp(argument, "-h");
}

/* Whether the text is a further value of an option for keys ("KEY .."), as in --allow
 * model.position.* train.seed: a key's path or a pattern, but nothing else that an argument can be,
 * since a run's directory may have such a name. */
static bool is_key(const char *text)
{
    static const char key[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.*?";
    bool              group = false;
    for (const td_group *g = td_experiment_groups(); g->name; g++)
        group = group || !strcmp(text, g->name);
    return *text && !text[strspn(text, key)] && !is_config(text) && access(text, F_OK) &&
           (group || strpbrk(text, ".*"));
}

/* Parses such values, and returns their number. */
static int take_more_keys(td_tool *t, const td_flag *f, int argc, char **argv)
{
    int n = 0;
    if (!f || !f->value || strcmp(f->value, "KEY .."))
        return 0;
    while (n < argc && t->n_given < TD_FLAGS && is_key(argv[n])) {
        remember(t, f, argv[n]);
        n++;
    }
    return n;
}

/* An argument that is not an option. */
static void take_operand(td_tool *t, const td_usage *u, char *argument)
{
    if (u->config && is_override(argument))
        t->overrides[t->n_overrides++] = argument;
    else if (u->config && is_config(argument))
        t->files[t->n_files++] = argument;
    else
        t->plain[t->n_plain++] = argument;
}

/* Parses the next one or two arguments. Returns their number, or 0 if the command must end with
 * *code. */
static int take(td_tool *t, const td_usage *u, int argc, char **argv, int *code)
{
    if (t->n_overrides >= MOST || t->n_plain >= MOST || t->n_files >= MOST ||
        t->n_plugin_paths >= MOST) {
        *code = td_tool_usage_error(t, "too many arguments: at most %d of each kind", MOST);
        return 0;
    }
    if (t->operands) {
        take_operand(t, u, argv[0]);
        return 1;
    }
    if (!strcmp(argv[0], "--")) {
        t->operands = true;
        return 1;
    }
    if (is_help(argv[0])) {
        td_tool_help(u);
        *code = TD_EXIT_OK;
        return 0;
    }
    if (argv[0][0] == '-' && argv[0][1]) { /* "-" alone is an ordinary argument */
        int n = take_option(t, u, argc, argv, code);
        return n ? n + take_more_keys(t, t->n_given ? t->given[t->n_given - 1] : NULL, argc - n,
                                      argv + n)
                 : 0;
    }
    take_operand(t, u, argv[0]);
    return 1;
}

/* A word that needs no config although the others do. */
static bool works_bare(const td_tool *t, const td_usage *u)
{
    return u->bare && t->n_plain && !strcmp(t->plain[0], u->bare);
}

/* The name of a config without its ending is the likeliest. */
static int unexpected(td_tool *t, const td_usage *u, const char *what)
{
    char *near = u->config ? td_tool_config_near(what) : NULL;
    int   code = near
                     ? td_tool_usage_error(t,
                                           "unexpected argument '%s'; did you mean the config '%s'?",
                                           what, near)
                     : td_tool_usage_error(
                           t, "unexpected argument '%s'%s", what,
                         u->config ? ": it is neither an option, nor FILE.cfg, nor key=value" : "");
    free(near);
    return code;
}

bool td_tool_parse(td_tool *t, const td_usage *u, int argc, char **argv, int *code)
{
    t->usage = u;
    for (int i = 0; i < argc;) {
        int n = take(t, u, argc - i, argv + i, code);
        if (!n)
            return false;
        i += n;
    }
    /* Checked at the end, so that --help anywhere on the line wins. */
    if (t->n_plain > u->plain) {
        *code = unexpected(t, u, t->plain[u->plain]);
        return false;
    }
    if (u->config && !u->optional && !t->n_files && !works_bare(t, u)) {
        *code = td_tool_usage_error(t, "no config given: name one, as in `%s`", u->example);
        return false;
    }
    return td_folder_resolve(t, code);
}

/* ---- what was given -------------------------------------------------------------------------- */

const char *td_tool_option(const td_tool *t, const char *name)
{
    /* otherwise NULL would hide a misspelt name */
    assert(find_flag(t->usage, t->usage->flags, name));
    return td_tool_option_at(t, name, 0);
}

size_t td_tool_count(const td_tool *t, const char *name)
{
    size_t n = 0;
    for (size_t k = 0; k < t->n_given; k++)
        n += !strcmp(t->given[k]->name, name);
    return n;
}

const char *td_tool_option_at(const td_tool *t, const char *name, size_t index)
{
    for (size_t k = 0; k < t->n_given; k++)
        if (!strcmp(t->given[k]->name, name) && !index--)
            return t->values[k];
    return NULL;
}

bool td_tool_integer(td_tool *t, const char *name, int64_t otherwise, int64_t low, int64_t high,
                     int64_t *out)
{
    const char *text = td_tool_option(t, name);
    char       *end;
    *out = otherwise;
    if (!text)
        return true;
    errno = 0; /* the only sign of an overflow */
    *out = strtoll(text, &end, 10);
    if (*text && !*end && !errno && *out >= low && *out <= high)
        return true;
    td_tool_usage_error(t, "%s must be a whole number from %lld to %lld, not '%s'", name,
                        (long long)low, (long long)high, text);
    return false;
}

bool td_tool_real(td_tool *t, const char *name, double otherwise, double *out)
{
    const char *text = td_tool_option(t, name);
    char       *end;
    *out = otherwise;
    if (!text)
        return true;
    *out = strtod(text, &end);
    if (*text && !*end && isfinite(*out))
        return true;
    td_tool_usage_error(t, "%s must be a number, not '%s'", name, text);
    return false;
}

bool td_tool_positive(td_tool *t, const char *name, double otherwise, double *out)
{
    static const double most = 1e9; /* seconds, MiB, jobs: safe to convert to an integer */
    const char         *text = td_tool_option(t, name);
    char               *end;
    *out = otherwise;
    if (!text)
        return true;
    *out = strtod(text, &end);
    if (*text && !*end && *out > 0 && *out <= most) /* false for NaN */
        return true;
    td_tool_usage_error(t, "%s must be a number above 0 and at most %.0f, not '%s'", name, most,
                        text);
    return false;
}
