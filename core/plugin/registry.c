/* registry.c - all modules and plugins found on the search path, and how one is found. */
#include "plugin/registry.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/map.h"
#include "base/text.h"
#include "plugin/hook.h"
#include "plugin/inspect.h"
#include "plugin/module.h"
#include "plugin/search_path.h"
#include "plugin/suggest.h"

extern const td_plugin *const td_core_ops[]; /* core/ops/list.c */

/* Stands for an index of the search path. */
#define BY_FILE ((size_t)-1) /* the module was named by its file */

typedef struct found {
    const td_plugin *plugin;    /* the host's copy */
    td_loaded       *from;      /* NULL: built in */
    size_t           directory; /* index of the search path, or BY_FILE */
    const char      *clash; /* why it may not be used: another file of the directory also has it */
} found;

struct td_registry {
    td_arena           *arena; /* owns all but the maps and `plugins` */
    td_journal         *log;
    td_search_path      search;
    td_map             *tried;   /* path: loaded or refused, and not to be opened again */
    td_map             *refused; /* path: why */
    td_map             *by_name; /* "kind name": 1 + index of `plugins` */
    found              *plugins;
    size_t              count, room;
    td_registry_screen *screen; /* NULL: every file is loaded */
    void               *screen_argument;
    bool                scanned; /* every file of the search path was tried */
    bool                sorted;  /* `plugins` is in the order that listings promise */
};

/* ---- what is known --------------------------------------------------------------------------- */

/* Names are unique within a kind only: there is a position 'none' and may be a norm 'none'. */
static const char *key_of(char key[256], const char *kind, const char *name)
{
    /* validation lets in only names that fit; a longer one is cut here and matches none of them */
    snprintf(key, 256, "%s %s", kind, name);
    return key;
}

/* Valid until the next plugin is added: the array moves. */
static found *known(const td_registry *r, const char *kind, const char *name)
{
    char   key[256];
    size_t at = (size_t)(uintptr_t)td_map_get(r->by_name, key_of(key, kind, name));
    assert(at <= r->count);
    return at ? &r->plugins[at - 1] : NULL;
}

/* Makes space for one more plugin. The first capacity exceeds the number of built-in ops. */
static bool make_room(td_registry *r)
{
    size_t room = r->room ? 2 * r->room : 128;
    found *larger;
    if (r->count < r->room)
        return true;
    larger = realloc(r->plugins, room * sizeof *larger);
    if (!larger)
        return false;
    r->plugins = larger;
    r->room = room;
    return true;
}

/* List a plugin whose name is not taken. */
static int add_plugin(td_registry *r, const td_plugin *p, td_loaded *from, size_t directory,
                      td_error *error)
{
    const td_kind   *kind = td_kind_find(p->kind);
    const td_plugin *copy;
    char             key[256];
    assert(kind && "validated, or built in");
    /* the index first: if it cannot grow, the plugin does not exist */
    copy = make_room(r) ? td_plugin_copy(p, kind->size, r->arena) : NULL;
    if (!copy || td_map_set(r->by_name, key_of(key, copy->kind, copy->name),
                            (void *)(uintptr_t)(r->count + 1)))
        return td_fail(error, TD_ENOMEM, "out of memory while listing plugins");
    r->plugins[r->count++] = (found){ copy, from, directory, NULL };
    r->sorted = false;
    return 0;
}

/* ---- adding modules -------------------------------------------------------------------------- */

/* Another plugin of this kind and name is known. Within one directory this is an error; across
 * directories the earlier one is kept. */
static int report_duplicate(td_registry *r, found *other, const td_plugin *p, const char *path,
                            size_t directory, td_error *error)
{
    if (!other->from)
        return td_fail(error, TD_EPLUGIN,
                       "'%s': %s '%s' is built in and cannot be replaced: choose another name",
                       path, p->kind, p->name);
    if (other->directory == directory) {
        /* neither may be used: the order of file names is no reason to prefer one */
        other->clash = td_arena_print(r->arena, "%s '%s' is in both '%s' and '%s': remove one",
                                      p->kind, p->name, other->from->path, path);
        return td_fail(error, TD_EPLUGIN, "%s", other->clash ? other->clash : "out of memory");
    }
    td_log_line(r->log, TD_LOG_INFO,
                "%s '%s': using '%s'; '%s' comes later on the search path and is ignored", p->kind,
                p->name, other->from->path, path);
    return 0;
}

/* Loading runs the module's constructors, so this is said before. A file that is refused by its bytes
 * is not loaded; it may also have no end, which its hash would look for. */
static void announce(const td_registry *r, const char *path)
{
    char hash[33] = "";
    if (!td_module_inspect(path, NULL) && !td_file_hash(path, hash, NULL))
        td_log_line(r->log, TD_LOG_INFO, "loading module '%s' (%.12s)", path, hash);
    td_warn_of_source(r->log, path);
}

/* Load a module and list its plugins; a second call for the same file does nothing. */
static int add_module(td_registry *r, const char *path, size_t directory, td_error *error)
{
    const td_module *m;
    td_loaded       *loaded;

    /* by path, not by inode: the same module through a link is a duplicate, and reported */
    if (td_map_get(r->tried, path))
        return 0;
    td_map_set(r->tried, path, r); /* any pointer: its keys are a set */
    if (!td_registry_is_own(r, path))
        announce(r, path);
    m = td_module_load(path, r->arena, error);
    loaded = m ? td_arena_alloc(r->arena, sizeof *loaded) : NULL;
    if (!loaded)
        return TD_EPLUGIN;
    *loaded = (td_loaded){ td_arena_copy(r->arena, path), m };
    for (size_t k = 0; m->plugins[k]; k++) {
        const td_plugin *p = m->plugins[k];
        found           *other = known(r, p->kind, p->name);
        int              code = other ? report_duplicate(r, other, p, path, directory, error)
                                      : add_plugin(r, p, loaded, directory, error);
        if (code)
            return code;
    }
    return 0;
}

/* For files that were not requested by name: a refusal is recorded, and does not stop the
 * search. */
static void try_module(td_registry *r, const char *path, size_t directory)
{
    td_error    e = { 0 };
    const char *message;
    if (!add_module(r, path, directory, &e))
        return;
    message = e.code ? td_arena_copy(r->arena, e.text) : NULL;
    if (!message)
        message = "out of memory";
    td_map_set(r->refused, path, (void *)(uintptr_t)message);
    td_log_line(r->log, TD_LOG_DEBUG, "refused: %s", message);
}

const td_module *td_registry_add_module(td_registry *r, const char *path, td_error *error)
{
    td_text unbuilt = { 0 };
    bool    is_missing;
    td_suggest_build(path, &unbuilt);
    is_missing = unbuilt.size > 0;
    if (is_missing)
        td_fail(error, TD_EPLUGIN, "there is no module '%s'%s", path, td_text_get(&unbuilt));
    td_text_free(&unbuilt);
    if (is_missing)
        return NULL;
    if (add_module(r, path, BY_FILE, error)) {
        td_fail(error, TD_ENOMEM, "out of memory while loading '%s'", path);
        return NULL;
    }
    /* the module is found through one of its plugins; without any it would have been refused */
    for (size_t k = 0; k < r->count; k++)
        if (r->plugins[k].from && !strcmp(r->plugins[k].from->path, path))
            return r->plugins[k].from->module;
    td_fail(error, TD_EPLUGIN, "'%s' is already loaded", path);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* The rest of td_registry_new, which frees the registry if this fails. */
static int fill(td_registry *r, const char *const *paths, td_error *error)
{
    if (!r->arena || !r->tried || !r->refused || !r->by_name)
        return td_fail(error, TD_ENOMEM, "out of memory while listing plugins");
    for (size_t k = 0; td_core_ops[k]; k++)
        if (add_plugin(r, td_core_ops[k], NULL, 0, error))
            return TD_ENOMEM;
    r->search.arena = r->arena;
    return td_search_path_init(&r->search, paths, r->log, error);
}

/* Changes that plugins make behind the host's back are worth a warning. */
static void warn(void *log, const char *text) { td_log_line(log, TD_LOG_WARN, "%s", text); }

td_registry *td_registry_new(const char *const *paths, td_journal *log, td_error *error)
{
    td_registry *r = calloc(1, sizeof *r);
    if (!r) {
        td_fail(error, TD_ENOMEM, "out of memory while listing plugins");
        return NULL;
    }
    /* all of them before any is checked: td_registry_free accepts a partial registry */
    r->arena = td_arena_new();
    r->tried = td_map_new();
    r->refused = td_map_new();
    r->by_name = td_map_new();
    r->log = log;
    td_hook_listen(warn, log);
    if (!fill(r, paths, error))
        return r;
    td_registry_free(r);
    return NULL;
}

/* Modules are not closed: threads of a plugin may still be running, and its atexit handlers still
 * have to run. */
void td_registry_free(td_registry *r)
{
    if (!r)
        return;
    td_hook_listen_no_more(r->log);
    td_map_free(r->tried);
    td_map_free(r->refused);
    td_map_free(r->by_name);
    td_arena_free(r->arena);
    free(r->plugins);
    free(r);
}

int td_registry_check_path(const char *directory, td_error *error)
{
    return td_search_path_check(directory, error);
}

void td_registry_add_path(td_registry *r, const char *directory)
{
    int at = td_search_path_insert(&r->search, directory);
    if (at < 0)
        return;
    /* the directories after it have moved by one */
    for (size_t k = 0; k < r->count; k++) {
        found *f = &r->plugins[k];
        if (f->from && f->directory != BY_FILE && f->directory >= (size_t)at)
            f->directory++;
    }
    r->scanned = false;
}

/* ---- scanning -------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && !strcmp(text + n - m, end);
}

/* Call `see` for each *.so of directory `k`, by name. */
static void each_file(td_registry *r, size_t k,
                      void (*see)(td_registry *, const char *path, size_t k, void *),
                      void *argument)
{
    char  **names = NULL;
    int64_t count = td_list_directory(r->search.at[k], &names, NULL);
    for (int64_t i = 0; i < count; i++) {
        const char *path = ends_with(names[i], ".so")
                               ? td_arena_print(r->arena, "%s/%s", r->search.at[k], names[i])
                               : NULL;
        if (path)
            see(r, path, k, argument);
    }
    if (count >= 0) /* a directory that cannot be read was reported when it was added */
        td_free_names(names, count);
}

/* For a full scan. */
static void load_any(td_registry *r, const char *path, size_t k, void *argument)
{
    try_module(r, path, k);
}

/* The files that are to be screened. */
typedef struct strangers {
    const char **paths;
    char       **why;
    size_t       count, room;
} strangers;

static void add_stranger(td_registry *r, const char *path, size_t k, void *argument)
{
    strangers *s = argument;
    td_error   e = { 0 };
    /* a file refused by its bytes alone runs no code */
    if (td_map_get(r->tried, path) || td_module_inspect(path, &e))
        return;
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        void  *larger = realloc(s->paths, room * sizeof *s->paths);
        if (!larger)
            return;
        s->paths = larger;
        s->room = room;
    }
    s->paths[s->count++] = path;
}

static void refuse(td_registry *r, const char *path, const char *why)
{
    const char *copy = td_arena_copy(r->arena, why);
    td_map_set(r->tried, path, r);
    td_map_set(r->refused, path, (void *)(uintptr_t)(copy ? copy : "out of memory"));
}

/* Refuse the files that do not survive being loaded. */
static void screen(td_registry *r)
{
    strangers s = { 0 };
    for (size_t k = 0; k < r->search.count; k++)
        if (!td_search_path_is_own(&r->search, r->search.at[k]))
            each_file(r, k, add_stranger, &s);
    s.why = s.count ? calloc(s.count, sizeof *s.why) : NULL;
    if (s.why)
        r->screen(r->screen_argument, s.paths, s.count, s.why);
    for (size_t k = 0; s.why && k < s.count; k++) {
        if (s.why[k])
            refuse(r, s.paths[k], s.why[k]);
        free(s.why[k]);
    }
    free(s.paths);
    free(s.why);
}

void td_registry_set_screen(td_registry *r, td_registry_screen *f, void *argument)
{
    r->screen = f;
    r->screen_argument = argument;
}

/* Runs the constructors of every module: only for listings, and to explain a missing plugin. */
int td_registry_scan(td_registry *r)
{
    if (!r->scanned && r->screen)
        screen(r);
    for (size_t k = 0; !r->scanned && k < r->search.count; k++)
        each_file(r, k, load_any, NULL);
    r->scanned = true;
    return 0;
}

typedef struct wanted {
    const char *kind, *name; /* name NULL: any */
} wanted;

/* Reading a file's bytes runs none of its code, and takes milliseconds. */
static void load_if_mentioned(td_registry *r, const char *path, size_t k, void *argument)
{
    const wanted *w = argument;
    if (!td_map_get(r->tried, path) && td_module_mentions(path, w->kind, w->name))
        try_module(r, path, k);
}

int td_registry_scan_kind(td_registry *r, const char *kind)
{
    wanted w = { kind, NULL };
    for (size_t k = 0; !r->scanned && k < r->search.count; k++)
        each_file(r, k, load_if_mentioned, &w);
    return 0;
}

/* ---- finding --------------------------------------------------------------------------------- */

/* The path of K-N.so in directory `k`; NULL: the name has a slash, and must not lead elsewhere. */
static const char *named_file(const td_registry *r, size_t k, const char *kind, const char *name)
{
    if (strchr(name, '/'))
        return NULL;
    return td_arena_print(r->arena, "%s/%.*s-%s.so", r->search.at[k], (int)strcspn(kind, "/"), kind,
                          name);
}

/* Why a file K-N.so was refused that comes before the file found; NULL: none was. The refused
 * file was requested, and another plugin in its place would go unnoticed. */
static const char *refusal_before(const td_registry *r, const char *kind, const char *name,
                                  const found *f)
{
    size_t end = f ? f->directory + 1 : r->search.count;
    if (!td_map_count(r->refused) || (f && !f->from))
        return NULL;
    for (size_t k = 0; k < end; k++) {
        const char *path = named_file(r, k, kind, name);
        const char *why = path ? td_map_get(r->refused, path) : NULL;
        /* the file of `f` itself may have been refused for another of its plugins */
        if (why && !(f && !strcmp(f->from->path, path)))
            return why;
    }
    return NULL;
}

/* Go through the directories until one has the plugin, or a refused K-N.so. The rest of that
 * directory is tried too, so that a duplicate in it is noticed, but only files that could have the
 * plugin: to load the others would run the code of modules that have nothing to do with it. */
static void look_for(td_registry *r, const char *kind, const char *name)
{
    wanted w = { kind, name };
    for (size_t k = 0; k < r->search.count && !r->scanned; k++) {
        /* the file of that name first, so that its refusal is known before others are tried */
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

/* The cause may be the name, the directories or a file: report on all three. */
static void explain_missing(const td_registry *r, const char *kind, const char *name,
                            td_error *error)
{
    enum { MOST_REFUSALS = 3 };
    td_text text = { 0 };
    td_suggest_plugin(r, kind, name, &text);
    td_text_print(&text, " (searched");
    for (size_t k = 0; k < r->search.count; k++)
        td_text_print(&text, " %s", r->search.at[k]);
    td_text_print(&text, "; --plugin-path DIR, or plugin_path in a config, adds a directory)");
    for (size_t k = 0; k < r->search.count; k++) {
        const char *path = named_file(r, k, kind, name);
        if (path)
            td_suggest_build(path, &text);
    }
    /* the plugin may well be in a file that was refused under another name */
    for (size_t k = 0; k < td_registry_refusals(r) && k < MOST_REFUSALS; k++)
        td_text_print(&text, "; refused: %s", td_registry_refusal(r, k));
    td_fail(error, TD_EPLUGIN, "%s", td_text_get(&text));
    td_text_free(&text);
}

/* Known, or found by looking where it should be, or by looking everywhere. */
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
        /* A module may put its names together at run time, where their bytes mention nothing.
         * And the message below lists the existing ones. */
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
    char key[256];
    qsort(r->plugins, r->count, sizeof *r->plugins, by_kind_and_name);
    /* replaces values of existing keys: cannot run out of memory */
    for (size_t i = 0; i < r->count; i++) {
        const td_plugin *p = r->plugins[i].plugin;
        td_map_set(r->by_name, key_of(key, p->kind, p->name), (void *)(uintptr_t)(i + 1));
    }
    r->sorted = true;
}

size_t td_registry_count(const td_registry *r)
{
    /* Sorted on demand, not on every insertion; the set of plugins does not change, so the registry
     * can be const. */
    if (!r->sorted)
        sort((td_registry *)(uintptr_t)r);
    return r->count;
}

const td_plugin *td_registry_plugin(const td_registry *r, size_t i)
{
    assert(i < r->count);
    return r->plugins[i].plugin;
}

const td_loaded *td_registry_module(const td_registry *r, const td_plugin *p)
{
    static const td_loaded builtin; /* no path, no module */
    const found           *f = known(r, p->kind, p->name);
    return f && f->from ? f->from : &builtin;
}

bool td_registry_is_own(const td_registry *r, const char *path)
{
    char *directory = td_path_directory(path);
    bool  own = directory && td_search_path_is_own(&r->search, directory);
    free(directory);
    return own;
}

size_t td_registry_refusals(const td_registry *r) { return td_map_count(r->refused); }

const char *td_registry_refusal(const td_registry *r, size_t i)
{
    return td_map_value(r->refused, i);
}

const char *const *td_registry_paths(const td_registry *r) { return r->search.at; }
