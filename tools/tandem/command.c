/* command.c - arguments that all commands take, and how they fail. */
#include "command.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

static const td_flag common[] = {
    { "-c", "FILE",
      "config file; several are merged in order; a name that ends in .cfg needs no -c" },
    { "key=value", 0, "sets a key of the config: model.layers=2; `tandem config show` lists them" },
    { "--threads", "N", "threads, 0: all processors (backend.threads)" },
    { "--plugin-path", "DIR", "look for plugins here first" },
    { "--json", 0, "results as JSON" },
    { "--quiet", 0, "warnings and errors only" },
    { "--verbose", 0, "say more" },
    { "--help", 0, "this text" },
    { 0, 0, 0 },
};

const td_flag *td_tool_common(void) { return common; }

bool td_tool_takes(const td_usage *u, const td_flag *f)
{
    if (!strcmp(f->name, "--threads"))
        return u->config && !u->optional;
    if (!strcmp(f->name, "-c") || *f->name != '-')
        return u->config;
    return u->json || strcmp(f->name, "--json");
}

static void print_flags(const td_usage *u, const td_flag *flags)
{
    char left[64];
    for (const td_flag *f = flags; f && f->name; f++) {
        if (!td_tool_takes(u, f))
            continue;
        snprintf(left, sizeof left, "%s%s%s", f->name, f->value ? " " : "",
                 f->value ? f->value : "");
        printf("  %-26s %s\n", left, f->help);
    }
}

static void print_words(const td_usage *u)
{
    char left[64];
    for (const td_word *w = u->words; w && w->name; w++) {
        snprintf(left, sizeof left, "%s%s%s", w->name, w->arguments ? " " : "",
                 w->arguments ? w->arguments : "");
        printf("  %-26s %s\n", left, w->brief);
    }
    if (u->words)
        putchar('\n');
}

void td_tool_arguments(const td_usage *u, td_text *out)
{
    if (u->arguments)
        td_text_print(out, "%s", u->arguments);
    for (const td_word *w = u->arguments ? NULL : u->words; w && w->name; w++)
        td_text_print(out, "%s%s%s%s", w == u->words ? "" : " | ", w->name, w->arguments ? " " : "",
                      w->arguments ? w->arguments : "");
}

static void print_usage(const td_usage *u)
{
    td_text arguments = { 0 };
    td_tool_arguments(u, &arguments);
    printf("usage: tandem %s%s%s%s\n\n%s\n\n", u->name,
           !u->config    ? ""
           : u->optional ? " [-c FILE.cfg] [key=value ..]"
                         : " -c FILE.cfg [key=value ..]",
           arguments.size ? " " : "", td_text_get(&arguments), u->brief);
    td_text_free(&arguments);
    print_words(u);
    print_flags(u, u->flags);
    print_flags(u, common);
    if (u->notes)
        printf("\n%s", u->notes);
    if (u->example)
        printf("\nexample: %s\n", u->example);
}

int td_tool_usage_error(td_tool *t, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "tandem %s: ", t->command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n`tandem %s --help` says more.\n", t->command);
    return TD_EXIT_USAGE;
}

int td_tool_no_word(td_tool *t, const char *what)
{
    const char *names[64], *nearest;
    td_text     list = { 0 };
    size_t      n = 0;
    int         code;
    for (const td_word *w = t->usage->words; w->name && n < 64; w++)
        names[n++] = w->name;
    for (size_t k = 0; k < n; k++)
        if (!strcmp(what, names[k])) /* one with options of its own, which are not the command's */
            return td_tool_usage_error(t, "say '%s' first: tandem %s %s ..", what, t->usage->name,
                                       what);
    for (size_t k = 0; k < n; k++)
        td_text_print(&list, "%s%s", k ? ", " : "", names[k]);
    nearest = td_nearest(what, names, n);
    code = nearest ? td_tool_usage_error(t, "'%s' is none of %s; did you mean '%s'?", what,
                                         td_text_get(&list), nearest)
                   : td_tool_usage_error(t, "'%s' is none of %s", what, td_text_get(&list));
    td_text_free(&list);
    return code;
}

int td_tool_fail(td_tool *t, const td_error *e)
{
    td_log_line(t->log, TD_LOG_ERROR, "tandem %s: %s", t->command,
                e->code ? e->text : "failed without a message");
    switch (e->code) {
    case TD_ECONFIG:
    case TD_EPLUGIN:
    case TD_EGRAPH:
        return TD_EXIT_USAGE;
    case TD_EDIVERGED:
        return TD_EXIT_DIVERGED;
    default:
        return TD_EXIT_FAILED;
    }
}

static const td_flag *find_flag(const td_usage *u, const td_flag *flags, const char *name)
{
    for (const td_flag *f = flags; f && f->name; f++)
        if (!strcmp(f->name, name))
            return td_tool_takes(u, f) ? f : NULL;
    return NULL;
}

static int unknown_option(td_tool *t, const td_usage *u, const char *name)
{
    const char *names[64], *nearest;
    size_t      n = 0;
    for (const td_flag *f = u->flags; f && f->name && n < 48; f++)
        names[n++] = f->name;
    for (const td_flag *f = common; f->name; f++)
        if (td_tool_takes(u, f))
            names[n++] = f->name;
    nearest = td_nearest(name, names, n);
    return nearest ? td_tool_usage_error(t, "there is no option '%s'; did you mean '%s'?", name,
                                         nearest)
                   : td_tool_usage_error(t, "there is no option '%s'", name);
}

/* All but those that say so are given once: of two values one would be ignored. */
static bool is_again(td_tool *t, const td_flag *f, const char *value)
{
    if (!strcmp(f->name, "-c") || !strcmp(f->name, "--plugin-path"))
        return false;
    for (size_t k = 0; k < t->n_given && !(f->value && strstr(f->value, "..")); k++)
        if (t->given[k] == f)
            return true;
    if (t->n_given < TD_FLAGS) {
        t->given[t->n_given] = f;
        t->values[t->n_given++] = value ? value : "";
    }
    return false;
}

static void set_common(td_tool *t, const char *name, const char *value)
{
    if (!strcmp(name, "-c"))
        t->files[t->n_files++] = value;
    else if (!strcmp(name, "--plugin-path"))
        t->plugin_paths[t->n_plugin_paths++] = value;
    else if (!strcmp(name, "--threads")) {
        snprintf(t->threads, sizeof t->threads, "backend.threads=%s", value);
        t->overrides[t->n_overrides++] = t->threads;
    } else if (!strcmp(name, "--json"))
        t->json = true;
    else if (!strcmp(name, "--quiet") || !strcmp(name, "--verbose")) {
        td_log_free(t->log);
        t->log = td_log_new(!strcmp(name, "--quiet") ? TD_LOG_WARN : TD_LOG_DEBUG);
    }
}

/* One argument that begins with '-'; gives how many were taken, or 0 after an error. */
static int take_flag(td_tool *t, const td_usage *u, int argc, char **argv, int *code)
{
    char           name[64];
    const char    *equals = strncmp(argv[0], "--", 2) ? NULL : strchr(argv[0], '='), *value;
    size_t         length = equals ? (size_t)(equals - argv[0]) : strlen(argv[0]);
    const td_flag *f, *own;

    snprintf(name, sizeof name, "%.*s", (int)length, argv[0]);
    if (!strcmp(name, "-q") || !strcmp(name, "-v") || !strcmp(name, "-h"))
        strcpy(name, name[1] == 'q' ? "--quiet" : name[1] == 'v' ? "--verbose" : "--help");
    own = find_flag(u, u->flags, name);
    f = own ? own : find_flag(u, common, name);
    if (!f) {
        *code = unknown_option(t, u, name);
        return 0;
    }
    value = equals ? equals + 1 : f->value && argc > 1 ? argv[1] : NULL;
    if (f->value && !value) {
        *code = td_tool_usage_error(t, "%s needs a value: %s %s", name, name, f->value);
        return 0;
    }
    if (equals && !f->value) {
        *code = td_tool_usage_error(t, "%s takes no value", name);
        return 0;
    }
    if (is_again(t, f, value)) {
        *code = td_tool_usage_error(t, "%s is given twice: give it once", name);
        return 0;
    }
    if (!own)
        set_common(t, name, value);
    return f->value && !equals ? 2 : 1;
}

/* "key=value"; a path may have a '=' in it, a key no '/'. */
/* "model.layers=2": prompts such as "2+2=" are none. */
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

const char *td_tool_option(const td_tool *t, const char *name)
{
    assert(find_flag(t->usage, t->usage->flags, name));
    for (size_t k = 0; k < t->n_given; k++)
        if (!strcmp(t->given[k]->name, name))
            return t->values[k];
    return NULL;
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

bool td_tool_parse(td_tool *t, const td_usage *u, int argc, char **argv, int *code)
{
    t->usage = u;
    for (int i = 0; i < argc;) {
        if (t->n_overrides >= TD_ARGUMENTS - 2 || t->n_plain >= TD_ARGUMENTS - 2 ||
            t->n_files >= TD_ARGUMENTS - 2 || t->n_plugin_paths >= TD_ARGUMENTS - 2) {
            *code = td_tool_usage_error(t, "too many arguments: of each sort %d are taken",
                                        TD_ARGUMENTS - 2);
            return false;
        }
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_usage(u);
            *code = TD_EXIT_OK;
            return false;
        }
        if (argv[i][0] == '-' && argv[i][1]) {
            int n = take_flag(t, u, argc - i, argv + i, code);
            if (!n)
                return false;
            i += n;
        } else if (u->config && is_override(argv[i]))
            t->overrides[t->n_overrides++] = argv[i++];
        else if (u->config && is_config(argv[i]))
            set_common(t, "-c", argv[i++]);
        else
            t->plain[t->n_plain++] = argv[i++];
    }
    if (t->n_plain > u->plain) {
        *code = td_tool_usage_error(t, "what is '%s'? It is no option%s", t->plain[u->plain],
                                    u->config ? " and no key=value" : "");
        return false;
    }
    if (u->config && !u->optional && !t->n_files) {
        *code = td_tool_usage_error(t, "no config: say -c FILE.cfg");
        return false;
    }
    return true;
}

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

char *td_tool_shipped(void)
{
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
