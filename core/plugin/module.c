/* module.c - loading a module, and checking what it brings. */
#include "plugin/module.h"

#include <dlfcn.h>
#include <string.h>

#include "plugin/options.h"
#include "plugin/registry.h"

#if defined(__SSE__)
#include <xmmintrin.h>
static unsigned get_mode(void) { return _mm_getcsr() & ~0x3fu; }
static void     set_mode(unsigned mode) { _mm_setcsr(mode); }
#else
static unsigned get_mode(void) { return 0; }
static void     set_mode(unsigned mode) { (void)mode; }
#endif

/* A module linked with -ffast-math switches denormals off for the whole process while it is loaded: undo that. */
static void *load(const char *path, bool *changed)
{
    unsigned before = get_mode();
    void    *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    *changed = get_mode() != before;
    set_mode(before);
    return handle;
}

static const td_kind *find_kind(const char *id)
{
    for (const td_kind *k = td_kinds(); k->id; k++)
        if (!strcmp(k->id, id))
            return k;
    return NULL;
}

static int check_kind(const char *path, const td_plugin *p, td_error *error)
{
    const char *slash = strchr(p->kind, '/');
    for (const td_kind *k = td_kinds(); k->id; k++)
        if (slash && (size_t)(slash - p->kind) == strlen(k->name) && !strncmp(p->kind, k->name, strlen(k->name)))
            return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s' is of kind '%s'; this tandem has '%s': build it against its headers",
                           path, p->name, p->kind, k->id);
    return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s' is of the unknown kind '%s'", path, p->name, p->kind);
}

/* ---- option tables --------------------------------------------------------------------------------------------------------- */

static size_t field_size(int64_t type)
{
    switch (type) {
    case TD_TYPE_BOOL: return sizeof(bool);
    case TD_TYPE_INT: case TD_TYPE_CHOICE: return sizeof(int64_t);
    case TD_TYPE_FLOAT: return sizeof(double);
    case TD_TYPE_STRING: return sizeof(char *);
    case TD_TYPE_INTS: case TD_TYPE_FLOATS: case TD_TYPE_STRINGS: case TD_TYPE_PART: case TD_TYPE_LIST: return sizeof(td_ints);
    default: return 0;
    }
}

static const char *wrong_row(const td_option *o, size_t config_size)
{
    size_t size = field_size(o->type);
    if (!o->name || !*o->name)
        return "has no name";
    if (!size)
        return "has an unknown type";
    if (o->offset > config_size || size > config_size - o->offset)
        return "lies outside the config struct";
    if ((o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT) && !(o->flags & TD_OPTION_REQUIRED) &&
        !(o->number >= o->min && o->number <= o->max))
        return "has a default outside its range";
    if ((o->type == TD_TYPE_CHOICE || o->type == TD_TYPE_PART) && (!o->choices || !o->choices[0]))
        return "has no choices";
    if (o->type == TD_TYPE_CHOICE)
        for (int64_t k = 0; k <= (int64_t)o->number; k++)
            if (!o->choices[k])
                return "has a default that is none of its choices";
    return NULL;
}

static int check_table(const char *path, const td_plugin *p, const td_option *table, size_t config_size, td_error *error)
{
    td_option row, other;
    for (size_t i = 0; td_option_row(table, p->option_size, i, &row); i++) {
        const char *wrong = wrong_row(&row, config_size);
        for (size_t j = 0; !wrong && j < i; j++)
            if (td_option_row(table, p->option_size, j, &other) && !strcmp(row.name, other.name))
                wrong = "is there twice";
        if (wrong)
            return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s': option %zu ('%s') %s", path, p->name, i,
                           row.name ? row.name : "", wrong);
        if (row.type == TD_TYPE_LIST && row.fields && check_table(path, p, row.fields, row.item_size, error))
            return TD_EPLUGIN;
    }
    return 0;
}

static int check_plugin(const char *path, const td_plugin *p, td_error *error)
{
    const td_kind *kind;
    if (!p->kind || !p->name || !*p->name)
        return td_fail(error, TD_EPLUGIN, "'%s': a plugin has no kind or no name", path);
    kind = find_kind(p->kind);
    if (!kind)
        return check_kind(path, p, error);
    if (p->size < sizeof *p || p->size > 1 << 16)
        return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s' says its struct has %zu bytes; a '%s' has %zu: use TD_PLUGIN", path,
                       p->name, p->size, p->kind, kind->size);
    if (p->size > kind->size)
        return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s' has a newer '%s' (%zu bytes) than this tandem (%zu): update tandem",
                       path, p->name, p->kind, p->size, kind->size);
    if (p->options && (p->option_size < offsetof(td_option, flags) || p->option_size > 4096))
        return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s' says its option rows have %zu bytes: use TD_PLUGIN", path, p->name,
                       p->option_size);
    return p->options ? check_table(path, p, p->options, p->config_size, error) : 0;
}

/* ---- loading ------------------------------------------------------------------------------------------------------------------- */

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
    if (!load(path, &changed))
        td_fail(error, TD_EPLUGIN, "cannot load '%s': %s", path, dlerror());
    return changed;
}

const td_module *td_module_load(const char *path, td_arena *arena, td_error *error)
{
    bool             changed;
    void            *handle;
    const td_module *m;
    td_module       *copy = td_arena_alloc(arena, sizeof *copy);

    if (!copy || td_module_inspect(path, error))
        return NULL;
    handle = load(path, &changed);
    if (!handle) {
        const char *why = dlerror();
        td_fail(error, TD_EPLUGIN, "cannot load '%s': %s%s", path, why ? why : "unknown reason",
                why && strstr(why, "undefined symbol") ? " (link the library that defines it into the module)" : "");
        return NULL;
    }
    m = dlsym(handle, TD_MODULE_SYMBOL);
    if (!m || !m->plugins) {
        td_fail(error, TD_EPLUGIN, "'%s' is no plugin: its '" TD_MODULE_SYMBOL "' lists no plugins", path);
        return NULL;
    }
    for (size_t k = 0; m->plugins[k]; k++)
        if (check_plugin(path, m->plugins[k], error))
            return NULL;
    *copy = *m;
    return copy;
}
