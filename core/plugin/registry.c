/* registry.c - the search path, and all modules and plugins found on it. */
#include "plugin/registry.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/map.h"
#include "base/text.h"
#include "plugin/module.h"

extern const td_plugin *const td_core_ops[]; /* core/ops/list.c */

enum { NO_DIRECTORY = -1 }; /* of a module that was named by its file */

typedef struct found {
    const td_plugin *plugin; /* the host's copy */
    td_loaded       *from;   /* NULL: built in */
    size_t           directory;
    /* why it may not be used: another file of this directory offers it too */
    const char      *clash;
} found;

struct td_registry {
    td_arena    *arena;
    td_journal  *log;
    td_map      *files;   /* path -> anything: looked at already */
    td_map      *refused; /* path -> why */
    td_map      *by_name; /* "kind name" -> 1 + index of found */
    const char **paths;
    size_t       n_paths, n_given; /* given: by the caller, before the environment's */
    found       *plugins;
    size_t       count, room;
    const char **refusals;
    size_t       n_refusals;
    bool         scanned, sorted;
};

/* ---- lists ----------------------------------------------------------------------------------- */

/* Adds to a list that ends with NULL; without memory it stays as it is. */
static void append(td_registry *r, const char ***list, size_t *count, const char *text)
{
    const char **larger = td_arena_alloc(r->arena, (*count + 2) * sizeof *larger);
    const char  *copy = td_arena_copy(r->arena, text);
    if (!larger || !copy)
        return;
    if (*count)
        memcpy(larger, *list, *count * sizeof *larger);
    larger[(*count)++] = copy;
    *list = larger;
}

static void refuse(td_registry *r, const char *path, const char *message)
{
    append(r, &r->refusals, &r->n_refusals, message);
    td_map_set(r->refused, path, td_arena_copy(r->arena, message));
    td_log_line(r->log, TD_LOG_DEBUG, "refused: %s", message);
}

int td_registry_check_path(const char *directory, td_error *error)
{
    DIR *d = opendir(directory);
    if (!d)
        return td_fail(error, TD_EPLUGIN,
                       "cannot look for plugins in '%s': %s: name a directory that can be read",
                       directory, strerror(errno));
    closedir(d);
    return 0;
}

static void add_path(td_registry *r, const char *directory)
{
    for (size_t k = 0; k < r->n_paths; k++)
        if (!strcmp(r->paths[k], directory))
            return;
    append(r, &r->paths, &r->n_paths, directory);
}

static void add_paths(td_registry *r, const char *list)
{
    char *copy = td_arena_copy(r->arena, list), *rest = copy;
    for (char *p; copy && (p = strsep(&rest, ":")) != NULL;) {
        td_error e = { 0 };
        if (*p && td_registry_check_path(p, &e))
            td_log_line(r->log, TD_LOG_WARN, "TANDEM_PLUGIN_PATH: %s", e.text);
        if (*p)
            add_path(r, p);
    }
}

/* Beside libtandem: .../lib/libtandem.so and .../lib/tandem/plugins, in the build tree and when
 * installed. */
static void add_own_path(td_registry *r)
{
    Dl_info info;
    char   *directory = dladdr((void *)(uintptr_t)td_core_ops, &info) && info.dli_fname
                            ? td_path_directory(info.dli_fname)
                            : NULL;
    char   *path = directory ? td_path_join(directory, "tandem/plugins") : NULL;
    if (path)
        add_path(r, path);
    free(directory);
    free(path);
}

/* ---- plugins --------------------------------------------------------------------------------- */

static void key_of(char key[256], const char *kind, const char *name)
{
    snprintf(key, 256, "%s %s", kind, name);
}

static found *known(const td_registry *r, const char *kind, const char *name)
{
    char   key[256];
    size_t at;
    key_of(key, kind, name);
    at = (size_t)(uintptr_t)td_map_get(r->by_name, key);
    return at ? &r->plugins[at - 1] : NULL;
}

static size_t kind_size(const char *id)
{
    for (const td_kind *k = td_kinds(); k->id; k++)
        if (!strcmp(k->id, id))
            return k->size;
    return sizeof(td_plugin);
}

static int add_plugin(td_registry *r, const td_plugin *p, td_loaded *from, size_t directory,
                      td_error *error)
{
    char   key[256];
    found *larger;
    if (r->count == r->room) {
        larger = realloc(r->plugins, (r->room ? 2 * r->room : 128) * sizeof *larger);
        if (!larger)
            return td_fail(error, TD_ENOMEM, "out of memory while listing plugins");
        r->plugins = larger;
        r->room = r->room ? 2 * r->room : 128;
    }
    p = td_plugin_copy(p, kind_size(p->kind), r->arena);
    key_of(key, p ? p->kind : "", p ? p->name : "");
    if (!p || td_map_set(r->by_name, key, (void *)(uintptr_t)(r->count + 1)))
        return td_fail(error, TD_ENOMEM, "out of memory while listing plugins");
    r->plugins[r->count++] = (found){ p, from, directory, NULL };
    r->sorted = false;
    return 0;
}

/* Another plugin of that kind and name: an error in one directory; across directories the earlier
 * one stays. */
static int check_duplicate(td_registry *r, const td_plugin *p, const char *path, size_t directory,
                           bool *skip, td_error *error)
{
    found *other = known(r, p->kind, p->name);
    *skip = other != NULL;
    if (!other)
        return 0;
    if (!other->from)
        return td_fail(error, TD_EPLUGIN,
                       "'%s': %s '%s' is built in and cannot be replaced: choose another name",
                       path, p->kind, p->name);
    if (other->directory == directory) {
        other->clash = td_arena_print(r->arena, "%s '%s' is in both '%s' and '%s': remove one",
                                      p->kind, p->name, other->from->path, path);
        return td_fail(error, TD_EPLUGIN, "%s", other->clash ? other->clash : "out of memory");
    }
    td_log_line(r->log, TD_LOG_INFO, "%s '%s': '%s' is used; '%s' comes later on the search path",
                p->kind, p->name, other->from->path, path);
    return 0;
}

static int add_module(td_registry *r, const char *path, size_t directory, td_error *error)
{
    const td_module *m;
    td_loaded       *loaded;

    if (td_map_get(r->files, path))
        return 0;
    td_map_set(r->files, path, r);
    m = td_module_load(path, r->arena, error);
    loaded = m ? td_arena_alloc(r->arena, sizeof *loaded) : NULL;
    if (!loaded)
        return TD_EPLUGIN;
    *loaded = (td_loaded){ td_arena_copy(r->arena, path), m };
    for (size_t k = 0; m->plugins[k]; k++) {
        bool skip;
        if (check_duplicate(r, m->plugins[k], path, directory, &skip, error))
            return TD_EPLUGIN;
        if (!skip && add_plugin(r, m->plugins[k], loaded, directory, error))
            return TD_ENOMEM;
    }
    return 0;
}

static void try_module(td_registry *r, const char *path, size_t directory)
{
    td_error e = { 0 };
    if (add_module(r, path, directory, &e))
        refuse(r, path, e.code ? e.text : "out of memory");
}

/* ---- life ------------------------------------------------------------------------------------ */

td_registry *td_registry_new(const char *const *paths, td_journal *log, td_error *error)
{
    td_registry *r = calloc(1, sizeof *r);
    const char  *environment;
    bool         ok;

    if (r) {
        r->arena = td_arena_new();
        r->files = td_map_new();
        r->refused = td_map_new();
        r->by_name = td_map_new();
        r->log = log;
    }
    ok = r && r->arena && r->files && r->refused && r->by_name;
    for (size_t k = 0; ok && td_core_ops[k]; k++)
        ok = !add_plugin(r, td_core_ops[k], NULL, 0, error);
    if (!ok) {
        td_registry_free(r);
        td_fail(error, TD_ENOMEM, "out of memory while listing plugins");
        return NULL;
    }
    for (size_t k = 0; paths && paths[k]; k++) {
        if (td_registry_check_path(paths[k], error)) {
            td_registry_free(r);
            return NULL;
        }
        add_path(r, paths[k]);
    }
    r->n_given = r->n_paths;
    environment = secure_getenv("TANDEM_PLUGIN_PATH"); /* none under elevated privileges */
    if (environment)
        add_paths(r, environment);
    add_own_path(r);
    return r;
}

void td_registry_add_path(td_registry *r, const char *directory)
{
    size_t      before = r->n_paths, at = r->n_given;
    const char *added;
    add_path(r, directory);
    if (r->n_paths == before)
        return;
    added = r->paths[before];
    memmove(r->paths + at + 1, r->paths + at, (before - at) * sizeof *r->paths);
    r->paths[at] = added;
    for (size_t k = 0; k < r->count; k++)
        r->plugins[k].directory += r->plugins[k].from && r->plugins[k].directory >= at &&
                                   r->plugins[k].directory != (size_t)NO_DIRECTORY;
    r->n_given++;
    r->scanned = false;
}

const td_module *td_registry_add_module(td_registry *r, const char *path, td_error *error)
{
    if (add_module(r, path, (size_t)NO_DIRECTORY, error)) {
        td_fail(error, TD_ENOMEM, "out of memory while loading '%s'", path);
        return NULL;
    }
    for (size_t k = 0; k < r->count; k++)
        if (r->plugins[k].from && !strcmp(r->plugins[k].from->path, path))
            return r->plugins[k].from->module;
    td_fail(error, TD_EPLUGIN, "'%s' is loaded already", path);
    return NULL;
}

void td_registry_free(td_registry *r)
{
    if (!r)
        return;
    td_map_free(r->files);
    td_map_free(r->refused);
    td_map_free(r->by_name);
    td_arena_free(r->arena);
    free(r->plugins);
    free(r);
}

/* ---- finding --------------------------------------------------------------------------------- */

/* Calls `see` for each *.so of directory `k`. */
static void each_file(td_registry *r, size_t k,
                      void (*see)(td_registry *, const char *path, size_t k, void *),
                      void *argument)
{
    char  **names = NULL;
    int64_t count = td_list_directory(r->paths[k], &names, NULL);
    for (int64_t i = 0; i < count; i++) {
        size_t      length = strlen(names[i]);
        const char *path = td_arena_print(r->arena, "%s/%s", r->paths[k], names[i]);
        if (path && length > 3 && !strcmp(names[i] + length - 3, ".so"))
            see(r, path, k, argument);
    }
    if (count >= 0)
        td_free_names(names, count);
}

static void load_any(td_registry *r, const char *path, size_t k, void *argument)
{
    try_module(r, path, k);
}

int td_registry_scan(td_registry *r)
{
    for (size_t k = 0; !r->scanned && k < r->n_paths; k++)
        each_file(r, k, load_any, NULL);
    r->scanned = true;
    return 0;
}

typedef struct wanted {
    const char *kind, *name; /* name NULL: any */
} wanted;

static void load_if_mentioned(td_registry *r, const char *path, size_t k, void *argument)
{
    const wanted *w = argument;
    if (!td_map_get(r->files, path) && td_module_mentions(path, w->kind, w->name))
        try_module(r, path, k);
}

int td_registry_scan_kind(td_registry *r, const char *kind)
{
    wanted w = { kind, NULL };
    for (size_t k = 0; !r->scanned && k < r->n_paths; k++)
        each_file(r, k, load_if_mentioned, &w);
    return 0;
}

/* The file K-N.so of directory `k`; NULL: such a name is no file's. */
static const char *named_file(const td_registry *r, size_t k, const char *kind, const char *name)
{
    return strchr(name, '/') ? NULL
                             : td_arena_print(r->arena, "%s/%.*s-%s.so", r->paths[k],
                                              (int)strcspn(kind, "/"), kind, name);
}

/* Why a file K-N.so was refused that comes before what was found: it is what was asked for, and
 * another one in its place would go unnoticed. */
static const char *refusal_before(const td_registry *r, const char *kind, const char *name,
                                  const found *f)
{
    size_t end = f ? f->directory + 1 : r->n_paths;
    for (size_t k = 0; r->n_refusals && (!f || f->from) && k < end; k++) {
        const char *path = named_file(r, k, kind, name);
        const char *why = path ? td_map_get(r->refused, path) : NULL;
        if (why && !(f && !strcmp(f->from->path, path))) /* refused for another of its plugins */
            return why;
    }
    return NULL;
}

/* In each directory the file K-N.so, then those that may offer the same: so all that a scan would
 * say of this plugin is known, and no other module is loaded. Ends where K-N.so is refused. */
static void look_for(td_registry *r, const char *kind, const char *name)
{
    wanted w = { kind, name };
    for (size_t k = 0; k < r->n_paths && !r->scanned; k++) {
        const char *path = named_file(r, k, kind, name);
        if (path && td_file_exists(path))
            try_module(r, path, k);
        if (path && td_map_get(r->refused, path))
            return;
        each_file(r, k, load_if_mentioned, &w);
        if (known(r, kind, name))
            return;
    }
}

static void explain_missing(td_registry *r, const char *kind, const char *name, td_error *error)
{
    td_text      text = { 0 };
    const char **names = calloc(r->count + 1, sizeof *names), *nearest;
    const char  *slash = strchr(kind, '/');
    size_t       n = 0;

    for (size_t i = 0; names && i < r->count; i++)
        if (!strcmp(r->plugins[i].plugin->kind, kind))
            names[n++] = r->plugins[i].plugin->name;
    nearest = names ? td_nearest(name, names, n) : NULL;
    td_text_print(&text, "there is no %.*s '%s'", slash ? (int)(slash - kind) : (int)strlen(kind),
                  kind, name);
    if (nearest)
        td_text_print(&text, "; did you mean '%s'?", nearest);
    else if (n)
        for (size_t i = 0; i < n && i < 12; i++)
            td_text_print(&text, "%s%s", i ? ", " : "; there are: ", names[i]);
    td_text_print(&text, " (searched");
    for (size_t k = 0; k < r->n_paths; k++)
        td_text_print(&text, " %s", r->paths[k]);
    td_text_print(&text, ")");
    for (size_t k = 0; k < r->n_refusals && k < 3; k++)
        td_text_print(&text, "; refused: %s", r->refusals[k]);
    td_fail(error, TD_EPLUGIN, "%s", td_text_get(&text));
    td_text_free(&text);
    free(names);
}

const td_plugin *td_registry_find(td_registry *r, const char *kind, const char *name,
                                  td_error *error)
{
    const found *f = known(r, kind, name);
    const char  *why;
    if (!f) {
        look_for(r, kind, name);
        f = known(r, kind, name);
    }
    why = refusal_before(r, kind, name, f);
    if (!f && !why) {
        td_registry_scan(r);
        f = known(r, kind, name);
        why = refusal_before(r, kind, name, f);
    }
    if (f && f->clash)
        why = f->clash;
    if (f && !why)
        return f->plugin;
    if (why)
        td_fail(error, TD_EPLUGIN, "%s", why);
    else
        explain_missing(r, kind, name, error);
    return NULL;
}

/* ---- listing --------------------------------------------------------------------------------- */

static int by_kind_and_name(const void *a, const void *b)
{
    const td_plugin *p = ((const found *)a)->plugin, *q = ((const found *)b)->plugin;
    int              order = strcmp(p->kind, q->kind);
    return order ? order : strcmp(p->name, q->name);
}

static void sort(td_registry *r)
{
    qsort(r->plugins, r->count, sizeof *r->plugins, by_kind_and_name);
    for (size_t i = 0; i < r->count; i++) {
        char key[256];
        key_of(key, r->plugins[i].plugin->kind, r->plugins[i].plugin->name);
        td_map_set(r->by_name, key, (void *)(uintptr_t)(i + 1));
    }
}

size_t td_registry_count(const td_registry *r)
{
    if (!r->sorted) {
        td_registry *own = (td_registry *)(uintptr_t)r;
        sort(own);
        own->sorted = true;
    }
    return r->count;
}

const td_plugin *td_registry_plugin(const td_registry *r, size_t i) { return r->plugins[i].plugin; }

const td_loaded *td_registry_module(const td_registry *r, const td_plugin *p)
{
    static const td_loaded builtin;
    const found           *f = known(r, p->kind, p->name);
    return f && f->from ? f->from : &builtin;
}

size_t             td_registry_refusals(const td_registry *r) { return r->n_refusals; }
const char        *td_registry_refusal(const td_registry *r, size_t i) { return r->refusals[i]; }
const char *const *td_registry_paths(const td_registry *r) { return r->paths; }
