/* module.c - loading a module. */
#include "plugin/module.h"

#include <assert.h>
#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "plugin/hook.h"
#include "plugin/pages.h"
#include "plugin/validate.h"

/* ---- where modules lie ------------------------------------------------------------------------ */

/* Read by signal handlers, so it has a fixed size and is written only at its end. */
typedef struct place {
    uintptr_t   low, high;
    const char *path; /* never freed, like the module */
} place;

enum { PLACES = 1024 };
static place      places[PLACES];
static atomic_int n_places;

const char *td_module_at(const void *address)
{
    uintptr_t a = (uintptr_t)address;
    for (int k = 0; k < atomic_load(&n_places); k++)
        if (a >= places[k].low && a < places[k].high)
            return places[k].path;
    return NULL;
}

/* dl_iterate_phdr calls it for every object; the place's `low` is the load address wanted. */
static int measure(struct dl_phdr_info *info, size_t size, void *argument)
{
    place *p = argument;
    if (info->dlpi_addr != p->low)
        return 0;
    for (int k = 0; k < info->dlpi_phnum; k++) {
        uintptr_t end = info->dlpi_addr + info->dlpi_phdr[k].p_vaddr + info->dlpi_phdr[k].p_memsz;
        if (info->dlpi_phdr[k].p_type == PT_LOAD && end > p->high)
            p->high = end;
    }
    return 1;
}

/* Of this process; negative: unknown. */
static int64_t count_threads(void)
{
    char  **names = NULL;
    int64_t n = td_list_directory("/proc/self/task", &names, NULL);
    if (n >= 0)
        td_free_names(names, n);
    return n;
}

/* From now on the module's addresses are known, and its pages do not depend on the file. A thread that
 * its constructors have started may be writing to its data. */
static void settle(void *handle, const char *path, int64_t threads_before)
{
    struct link_map *map;
    place            p = { 0 };
    int              k = atomic_load(&n_places); /* only the main thread loads */
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map))
        return;
    p.low = map->l_addr;
    /* every registry loads its modules again; dlopen returns the same ones */
    if (td_module_at((const void *)p.low))
        return;
    dl_iterate_phdr(measure, &p);
    td_pages_own(path, p.low, p.high, count_threads() <= threads_before);
    p.path = k < PLACES ? strdup(path) : NULL;
    if (!p.path)
        return;
    places[k] = p;
    atomic_store(&n_places, k + 1);
}

/* ---- loading --------------------------------------------------------------------------------- */

/* dlopen. A module's constructors run in it, and are watched like hooks: one linked with
 * -ffast-math flushes denormals to zero in the whole process, and the numbers of a run would depend
 * on which plugins are installed. */
static void *load(const char *path)
{
    /* dlopen looks for a name without a slash among the system's libraries */
    char   *full = realpath(path, NULL);
    td_hook h = { .name = "constructor", .path = path };
    int64_t threads = count_threads();
    void   *handle;
    td_hook_enter(&h);
    handle = dlopen(full ? full : path, RTLD_NOW | RTLD_LOCAL);
    td_hook_leave(&h);
    free(full);
    if (handle)
        settle(handle, path, threads);
    return handle;
}

/* What to do about the loader's error. The functions of tandem's headers are all inline. */
static const char *advice_on(const char *why)
{
    const char *name = strstr(why, "undefined symbol: ");
    if (!name)
        return "";
    return strncmp(name + strlen("undefined symbol: "), "td_", 3)
               ? " (link the library that defines it into the module)"
               : " (tandem's headers do not declare this function: check its spelling; "
                 "-Werror=implicit-function-declaration finds such names when compiling)";
}

/* dlopen, with advice where there is some. */
static void *open_module(const char *path, td_error *error)
{
    void       *handle = load(path);
    const char *why = handle ? NULL : dlerror();
    if (!handle)
        td_fail(error, TD_EPLUGIN, "cannot load '%s': %s%s", path, why ? why : "unknown reason",
                why ? advice_on(why) : "");
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
    /* a copy, because the module's struct is constant, and may lack fields that are only for
     * people */
    *copy = *m;
    copy->version = m->version ? m->version : "?";
    copy->author = m->author ? m->author : "?";
    copy->licence = m->licence ? m->licence : "?";
    return copy;
}

const td_plugin *td_plugin_copy(const td_plugin *p, size_t size, td_arena *arena)
{
    td_plugin *copy = td_arena_alloc(arena, size);
    assert(size >= sizeof *p);
    if (copy)
        memcpy(copy, p, p->size < size ? p->size : size);
    return copy;
}
