/* module.c - loading a module, and checking what it brings. */
#include "plugin/module.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "plugin/options.h"
#include "plugin/registry.h"
#include "tandem/kind/kernels.h"
#include "tandem/kind/op.h"

enum { LONGEST_NAME = 64, DEEPEST_LIST = 8, LARGEST_CONFIG = 1 << 20 };

#if defined(__SSE__)
#include <xmmintrin.h>
static unsigned get_mode(void) { return _mm_getcsr() & ~0x3fu; }
static void     set_mode(unsigned mode) { _mm_setcsr(mode); }
#else
static unsigned get_mode(void) { return 0; }
static void     set_mode(unsigned mode) { (void)mode; }
#endif

/* A module linked with -ffast-math switches denormals off for the whole process while it is loaded:
 * undo that. */
static void *load(const char *path, bool *changed)
{
    unsigned before = get_mode();
    /* a name without a slash would be looked for among the system's libraries */
    char    *full = realpath(path, NULL);
    void    *handle = dlopen(full ? full : path, RTLD_NOW | RTLD_LOCAL);
    *changed = get_mode() != before;
    set_mode(before);
    free(full);
    return handle;
}

static const td_kind *find_kind(const char *id)
{
    for (const td_kind *k = td_kinds(); k->id; k++)
        if (!strcmp(k->id, id))
            return k;
    return NULL;
}

/* Of a kind that this tandem has, by another revision. */
static int refuse_revision(const char *path, const td_plugin *p, const td_kind *k, td_error *error)
{
    size_t n = strlen(k->name);
    if (p->kind[n] != '/')
        return td_fail(error, TD_EPLUGIN,
                       "'%s': plugin '%s' is of kind '%s', without a revision; this tandem has "
                       "'%s': use the macro of tandem/kind/%s.h",
                       path, p->name, p->kind, k->id, k->name);
    if (strtol(p->kind + n + 1, NULL, 10) > strtol(k->id + n + 1, NULL, 10))
        return td_fail(error, TD_EPLUGIN,
                       "'%s': plugin '%s' is of kind '%s'; this tandem has '%s': update tandem, or "
                       "build it against the headers of this one",
                       path, p->name, p->kind, k->id);
    return td_fail(error, TD_EPLUGIN,
                   "'%s': plugin '%s' is of kind '%s'; this tandem has '%s': change it to what "
                   "tandem/kind/%s.h says now, and build it again",
                   path, p->name, p->kind, k->id, k->name);
}

static int check_kind(const char *path, const td_plugin *p, td_error *error)
{
    td_text kinds = { 0 };
    int     code;
    for (const td_kind *k = td_kinds(); k->id; k++)
        if (strcspn(p->kind, "/") == strlen(k->name) && !strncmp(p->kind, k->name, strlen(k->name)))
            return refuse_revision(path, p, k, error);
    for (const td_kind *k = td_kinds(); k->id; k++)
        td_text_print(&kinds, "%s%s", k == td_kinds() ? "" : ", ", k->name);
    code = td_fail(error, TD_EPLUGIN,
                   "'%s': plugin '%s' is of the unknown kind '%s'; this tandem has %s: take the "
                   "macro of a header in tandem/kind, or update tandem",
                   path, p->name, p->kind, td_text_get(&kinds));
    td_text_free(&kinds);
    return code;
}

/* ---- option tables --------------------------------------------------------------------------- */

static size_t field_size(int64_t type)
{
    switch (type) {
    case TD_TYPE_BOOL:
        return sizeof(bool);
    case TD_TYPE_INT:
    case TD_TYPE_CHOICE:
        return sizeof(int64_t);
    case TD_TYPE_FLOAT:
        return sizeof(double);
    case TD_TYPE_STRING:
        return sizeof(char *);
    case TD_TYPE_INTS:
    case TD_TYPE_FLOATS:
    case TD_TYPE_STRINGS:
    case TD_TYPE_PART:
    case TD_TYPE_LIST:
    case TD_TYPE_PARTS:
        return sizeof(td_ints);
    default:
        return 0;
    }
}

static bool is_choice(const td_option *o)
{
    double k = 0;
    while (o->choices[(size_t)k] && k != o->number)
        k++;
    return o->choices[(size_t)k] != NULL;
}

/* As the syntax of configs has it. */
static bool is_key(const char *name)
{
    static const char all[] = "-0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return !name[strspn(name, all)] && strcspn(name, "-0123456789") > 0;
}

static const char *wrong_row(const td_option *o, size_t config_size)
{
    size_t size = field_size(o->type);
    if (!o->name || !*o->name)
        return "has no name";
    if (!is_key(o->name))
        return "has a name that no config can say: take letters, digits, _ and -";
    if (!strcmp(o->name, "plugin"))
        return "has the name by which a config names the plugin itself: take another";
    if (!size)
        return "has an unknown type: use the TD_OPTION macros";
    if (o->offset > config_size || size > config_size - o->offset)
        return "lies outside the config struct: use the TD_OPTION macros";
    if (o->offset % (size < sizeof(void *) ? size : sizeof(void *)))
        return "lies at an offset that its type cannot have: use the TD_OPTION macros";
    if ((o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT) && !(o->flags & TD_OPTION_REQUIRED) &&
        !(o->number >= o->min && o->number <= o->max))
        return "has a default outside its range";
    if ((o->type == TD_TYPE_CHOICE || o->type == TD_TYPE_PART || o->type == TD_TYPE_PARTS) &&
        (!o->choices || !o->choices[0]))
        return "has no choices";
    if (o->type == TD_TYPE_CHOICE && !is_choice(o))
        return "has a default that is none of its choices";
    if (o->type == TD_TYPE_LIST && (!o->fields || !o->item_size))
        return "has no table of its items";
    if (o->type == TD_TYPE_LIST && o->item_size > LARGEST_CONFIG)
        return "has items of more than 1 MiB";
    return NULL;
}

static int check_table(const char *path, const td_plugin *p, const td_option *table,
                       size_t config_size, int depth, td_error *error)
{
    td_option row, other;
    for (size_t i = 0; td_option_row(table, p->option_size, i, &row); i++) {
        const char *wrong = depth > DEEPEST_LIST   ? "is a list in too many lists"
                            : i >= TD_MOST_OPTIONS ? "is one too many: a table has 200 at most"
                                                   : wrong_row(&row, config_size);
        for (size_t j = 0; !wrong && j < i; j++)
            if (td_option_row(table, p->option_size, j, &other) && !strcmp(row.name, other.name))
                wrong = "is there twice";
        if (wrong)
            return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s': option %zu ('%s') %s", path,
                           p->name, i, row.name ? row.name : "", wrong);
        if (row.type == TD_TYPE_LIST &&
            check_table(path, p, row.fields, row.item_size, depth + 1, error))
            return TD_EPLUGIN;
    }
    return 0;
}

/* Kernel rows lie in an array, so theirs must be exactly the host's size. */
static int check_kernels(const char *path, const td_kernels *k, td_error *error)
{
    for (size_t i = 0; i < k->count; i++) {
        if (k->rows[i].size != sizeof(td_kernel))
            return td_fail(
                error, TD_EPLUGIN,
                "'%s': kernels '%s': row %zu says it has %zu bytes; %zu are expected: build it "
                "against these headers, with .size = sizeof(td_kernel)",
                path, k->plugin.name, i, k->rows[i].size, sizeof(td_kernel));
        if (!k->rows[i].op || !k->rows[i].run)
            return td_fail(error, TD_EPLUGIN, "'%s': kernels '%s': row %zu has no op or no run",
                           path, k->plugin.name, i);
    }
    return 0;
}

/* Planning keeps arrays of these sizes, and moves and merges nodes by these flags. */
static const char *wrong_op(const td_op *o)
{
    if (o->min_inputs < 0 || o->min_inputs > o->max_inputs || o->max_inputs > TD_MAX_INPUTS)
        return "takes a number of inputs that is not 0 .. TD_MAX_INPUTS";
    if (o->flags & TD_OP_VIEW)
        return "has TD_OP_VIEW, which only built-in ops may have";
    for (int k = 0; k < TD_MAX_OUTPUTS; k++) {
        if (o->inplace[k] < 0 || o->inplace[k] > o->max_inputs)
            return "writes in place to an input that it does not take";
        if (o->inplace[k] && !(o->flags & TD_OP_EFFECT))
            return "writes in place without TD_OP_EFFECT";
    }
    if (o->accumulate_in < 0 || o->accumulate_in > o->max_inputs || o->accumulate_out < 0 ||
        o->accumulate_out >= TD_MAX_OUTPUTS)
        return "adds an input that it does not take, or to an output that it cannot have";
    return NULL;
}

static int check_op(const char *path, const td_op *o, td_error *error)
{
    const char *wrong = wrong_op(o);
    return wrong ? td_fail(error, TD_EPLUGIN, "'%s': op '%s' %s", path, o->plugin.name, wrong) : 0;
}

static int check_hooks(const char *path, const td_plugin *p, td_error *error)
{
    const char *missing = td_kind_missing_hook(p);
    if (missing)
        return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s' of kind '%s' has no '%s': set it",
                       path, p->name, p->kind, missing);
    if (!strcmp(p->kind, TD_OP_KIND))
        return check_op(path, (const td_op *)(const void *)p, error);
    return strcmp(p->kind, TD_KERNELS_KIND)
               ? 0
               : check_kernels(path, (const td_kernels *)(const void *)p, error);
}

static int check_name(const char *path, const td_plugin *p, td_error *error)
{
    if (!p->kind || !p->name || !*p->name)
        return td_fail(error, TD_EPLUGIN, "'%s': a plugin has no kind or no name: use TD_PLUGIN",
                       path);
    if (strlen(p->name) > LONGEST_NAME || strcspn(p->name, "/ \t\n\"'") < strlen(p->name))
        return td_fail(
            error, TD_EPLUGIN,
            "'%s': the plugin name '%.80s' is longer than %d bytes or has a slash, space or quote",
            path, p->name, LONGEST_NAME);
    if (!td_is_utf8(p->name))
        return td_fail(error, TD_EPLUGIN, "'%s': a plugin name is no UTF-8", path);
    return 0;
}

static int check_plugin(const char *path, const td_plugin *p, td_error *error)
{
    const td_kind *kind;
    if (check_name(path, p, error))
        return TD_EPLUGIN;
    kind = find_kind(p->kind);
    if (!kind)
        return check_kind(path, p, error);
    if (p->size < sizeof *p || p->size > 1 << 16)
        return td_fail(
            error, TD_EPLUGIN,
            "'%s': plugin '%s' says its struct has %zu bytes; a '%s' has %zu: use TD_PLUGIN", path,
            p->name, p->size, p->kind, kind->size);
    if (p->size > kind->size)
        return td_fail(
            error, TD_EPLUGIN,
            "'%s': plugin '%s' has a newer '%s' (%zu bytes) than this tandem (%zu): update "
            "tandem, or build it against the headers of this one",
            path, p->name, p->kind, p->size, kind->size);
    if (p->options && (p->option_size < offsetof(td_option, flags) || p->option_size > 4096))
        return td_fail(error, TD_EPLUGIN,
                       "'%s': plugin '%s' says its option rows have %zu bytes; they have %zu here: "
                       "use TD_PLUGIN",
                       path, p->name, p->option_size, sizeof(td_option));
    if (p->config_size > LARGEST_CONFIG)
        return td_fail(
            error, TD_EPLUGIN,
            "'%s': plugin '%s' says its config struct has %zu bytes; it may have %d: use TD_PLUGIN",
            path, p->name, p->config_size, LARGEST_CONFIG);
    if (p->options && check_table(path, p, p->options, p->config_size, 0, error))
        return TD_EPLUGIN;
    return check_hooks(path, p, error);
}

/* All plugins that it lists. */
static int check_plugins(const char *path, const td_plugin *const *list, td_error *error)
{
    if (!list[0])
        return td_fail(error, TD_EPLUGIN,
                       "'%s' lists no plugins: name them at the end of TD_MODULE", path);
    for (size_t k = 0; list[k]; k++) {
        if (check_plugin(path, list[k], error))
            return TD_EPLUGIN;
        for (size_t j = 0; j < k; j++)
            if (!strcmp(list[j]->kind, list[k]->kind) && !strcmp(list[j]->name, list[k]->name))
                return td_fail(error, TD_EPLUGIN, "'%s' lists %s '%s' twice: name it once", path,
                               list[k]->kind, list[k]->name);
    }
    return 0;
}

/* ---- loading --------------------------------------------------------------------------------- */

const td_plugin *td_plugin_copy(const td_plugin *p, size_t size, td_arena *arena)
{
    td_plugin *copy = td_arena_alloc(arena, size);
    if (!copy)
        return NULL;
    memcpy(copy, p, p->size < size ? p->size : size);
    return copy;
}

bool td_module_changes_mode(const char *path, td_error *error)
{
    bool changed = false;
    if (!td_module_inspect(path, error) && !load(path, &changed))
        td_fail(error, TD_EPLUGIN, "cannot load '%s': %s", path, dlerror());
    return changed;
}

/* dlopen, with what to do when it refuses. */
static void *open_module(const char *path, td_error *error)
{
    bool        changed;
    void       *handle = load(path, &changed);
    const char *why = handle ? NULL : dlerror();
    if (!handle)
        td_fail(error, TD_EPLUGIN, "cannot load '%s': %s%s", path, why ? why : "unknown reason",
                why && strstr(why, "undefined symbol")
                    ? " (link the library that defines it into the module)"
                    : "");
    return handle;
}

const td_module *td_module_load(const char *path, td_arena *arena, td_error *error)
{
    void            *handle;
    const td_module *m;
    td_module       *copy = td_arena_alloc(arena, sizeof *copy);

    if (!copy)
        td_fail(error, TD_ENOMEM, "out of memory while loading '%s'", path);
    if (!copy || td_module_inspect(path, error) || !(handle = open_module(path, error)))
        return NULL;
    m = dlsym(handle, TD_MODULE_SYMBOL);
    if (!m || !m->plugins || !m->name) {
        td_fail(error, TD_EPLUGIN,
                "'%s' is no plugin: its '" TD_MODULE_SYMBOL "' has no %s: use TD_MODULE", path,
                m && m->plugins ? "name" : "plugins");
        return NULL;
    }
    if (check_plugins(path, m->plugins, error))
        return NULL;
    *copy = *m;
    copy->version = m->version ? m->version : "?";
    copy->author = m->author ? m->author : "?";
    copy->licence = m->licence ? m->licence : "?";
    return copy;
}
