/* module.c - loading a module. */
#include "plugin/module.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/validate.h"

#if defined(__SSE__)
#include <xmmintrin.h>
/* without the sticky exception flags, which any arithmetic raises */
static unsigned get_mode(void) { return _mm_getcsr() & ~0x3fu; }
static void     set_mode(unsigned mode) { _mm_setcsr(mode); }
#else
static unsigned get_mode(void) { return 0; }
static void     set_mode(unsigned mode) { (void)mode; }
#endif

/* dlopen, without what it may do to the processor. */
static void *load(const char *path, bool *changed)
{
    unsigned before = get_mode();
    /* dlopen looks for a name without a slash among the system's libraries */
    char    *full = realpath(path, NULL);
    void    *handle = dlopen(full ? full : path, RTLD_NOW | RTLD_LOCAL);
    /* A module linked with -ffast-math brings a constructor that flushes denormals to zero in
     * the whole process: undo it, or the numbers of a run would depend on which plugins are
     * installed. */
    *changed = get_mode() != before;
    set_mode(before);
    free(full);
    return handle;
}

/* dlopen, with advice where there is some. */
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

/* The module's own struct, with its plugins validated. */
static const td_module *checked_module(void *handle, const char *path, td_error *error)
{
    const td_module *m = dlsym(handle, TD_MODULE_SYMBOL);
    /* inspection could not see these two: pointers are filled in by the loader */
    if (!m || !m->plugins || !m->name) {
        td_fail(error, TD_EPLUGIN,
                "'%s' is not a plugin: its '" TD_MODULE_SYMBOL "' has no %s: use TD_MODULE", path,
                m && m->plugins ? "name" : "plugins");
        return NULL;
    }
    return td_plugins_validate(path, m->plugins, error) ? NULL : m;
}

const td_module *td_module_load(const char *path, td_arena *arena, td_error *error)
{
    td_module       *copy = td_arena_alloc(arena, sizeof *copy);
    const td_module *m;
    void            *handle;

    if (!copy) {
        td_fail(error, TD_ENOMEM, "out of memory while loading '%s'", path);
        return NULL;
    }
    if (td_module_inspect(path, error))
        return NULL;
    /* A refused module stays loaded: its constructors may have left threads or callbacks behind. */
    handle = open_module(path, error);
    m = handle ? checked_module(handle, path, error) : NULL;
    if (!m)
        return NULL;
    /* a copy, because the module's struct is constant, and may lack what is only for people */
    *copy = *m;
    copy->version = m->version ? m->version : "?";
    copy->author = m->author ? m->author : "?";
    copy->licence = m->licence ? m->licence : "?";
    return copy;
}

/* Of a module that is loaded already, dlopen runs no constructor: ask before loading it. */
bool td_module_changes_mode(const char *path, td_error *error)
{
    bool changed = false;
    if (!td_module_inspect(path, error) && !load(path, &changed))
        td_fail(error, TD_EPLUGIN, "cannot load '%s': %s", path, dlerror());
    return changed;
}

const td_plugin *td_plugin_copy(const td_plugin *p, size_t size, td_arena *arena)
{
    td_plugin *copy = td_arena_alloc(arena, size);
    assert(size >= sizeof *p);
    if (copy)
        memcpy(copy, p, p->size < size ? p->size : size);
    return copy;
}
