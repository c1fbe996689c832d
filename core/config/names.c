/* names.c - options that name files: as the plugin gets them, and as a run keeps them.
 *
 * A relative path means a file of the working directory, or else a shipped one. A run is read from
 * other directories later, so it keeps what the path meant when it was trained.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "config/binder.h"
#include "tandem/files.h"

const char *td_bind_file(td_config *c, const td_setting *v)
{
    char *directory = v->kept && v->file && *v->text && *v->text != '/' ? td_path_directory(v->file)
                                                                        : NULL;
    char *beside = directory ? td_path_join(directory, v->text) : NULL;
    /* the run's own copy; older runs have none, and mean a path from where they were trained */
    const char *copy = beside && td_file_exists(beside) ? td_arena_copy(c->arena, beside) : NULL;
    free(directory);
    free(beside);
    return copy ? copy : v->text;
}

static bool matches(const char *pattern)
{
    glob_t found = { 0 };
    bool   any = !td_glob(pattern, GLOB_NOSORT, &found);
    globfree(&found);
    return any;
}

/* DIRECTORY/PATTERN without "." and ".." where these can be resolved: not after a wildcard. */
static char *joined(const char *directory, const char *pattern)
{
    char  *path, *folder, *real, *out = NULL;
    size_t fixed;
    while (!strncmp(pattern, "./", 2))
        pattern += 2;
    path = td_path_join(directory, pattern);
    if (!path || !strstr(pattern, ".."))
        return path;
    /* realpath takes paths that exist, so it gets what precedes the first wildcard */
    for (fixed = strcspn(path, "*?["); fixed && path[fixed - 1] != '/';)
        fixed--;
    folder = strndup(path, fixed);
    real = folder ? realpath(folder, NULL) : NULL;
    out = real ? td_path_join(real, path + fixed) : NULL;
    free(folder);
    free(real);
    if (!out)
        return path;
    free(path);
    return out;
}

const char *td_bind_whole(td_config *c, const char *value)
{
    char       *here = *value && *value != '/' ? getcwd(NULL, 0) : NULL;
    char       *path = here ? joined(here, value) : NULL, *shipped = NULL;
    const char *copy;
    if (path && c->shipped && !matches(path)) {
        shipped = joined(c->shipped, value);
        if (shipped && !matches(shipped)) { /* found nowhere: most likely it is meant to be here */
            free(shipped);
            shipped = NULL;
        }
    }
    copy = shipped || path ? td_arena_copy(c->arena, shipped ? shipped : path) : value;
    free(here);
    free(path);
    free(shipped);
    return copy ? copy : value;
}

const char *td_bind_here(td_config *c, const char *value)
{
    return *value && *value != '/' && matches(value) ? td_bind_whole(c, value) : value;
}

/* ---- of a bound config ------------------------------------------------------------------------- */

static td_resolved *child(const td_resolved *r, const char *name)
{
    td_resolved *c = r ? r->first : NULL;
    while (c && strcmp(c->name, name))
        c = c->next;
    return c;
}

/* The i-th option of a group that takes a file and names one; NULL: there is none. */
static td_resolved *file_of(const td_config *c, const char *group, size_t i)
{
    const td_resolved *g = child(&c->resolved, group);
    for (td_resolved *r = g ? g->first : NULL; r; r = r->next)
        if (r->whole && *r->whole == '"' && r->whole[1] != '"' && !i--)
            return r;
    return NULL;
}

/* Of a string as td_print_string prints it. */
static const char *unquoted(td_arena *arena, const char *text)
{
    size_t n = strlen(text), k = 0;
    char  *out = td_arena_alloc(arena, n + 1);
    if (!out)
        return NULL;
    for (size_t i = 1; i + 1 < n; i++) {
        i += text[i] == '\\' && i + 2 < n;
        out[k++] = text[i];
    }
    out[k] = 0;
    return out;
}

const char *td_config_file(const td_config *c, const char *group, size_t i)
{
    const td_resolved *r = file_of(c, group, i);
    return r ? unquoted(c->arena, r->whole) : NULL;
}

void td_config_move_file(td_config *c, const char *group, size_t i, const char *name)
{
    td_resolved *r = file_of(c, group, i);
    td_text      t = { 0 };
    const char  *copy;
    td_print_string(&t, name);
    copy = td_arena_copy(c->arena, td_text_get(&t));
    if (r && copy)
        r->whole = copy;
    td_text_free(&t);
}

/* Each string of a value, alone or in a list. */
static void each_string(const char *text, td_arena                      *arena,
                        void (*file)(void *arg, const char *path), void *arg)
{
    const char *one, *path;
    for (const char *at = strchr(text, '"'); at; at = strchr(at, '"')) {
        size_t n = 1;
        while (at[n] && at[n] != '"')
            n += at[n] == '\\' && at[n + 1] ? 2 : 1;
        one = td_arena_print(arena, "%.*s\"", (int)n, at);
        path = one ? unquoted(arena, one) : NULL;
        if (path && *path)
            file(arg, path);
        at += at[n] ? n + 1 : n;
    }
}

static void each_below(const td_resolved *r, td_arena                  *arena,
                       void (*file)(void *arg, const char *path), void *arg)
{
    if (r->whole)
        each_string(r->whole, arena, file, arg);
    for (const td_resolved *c = r->first; c; c = c->next)
        each_below(c, arena, file, arg);
}

void td_config_each_file(const td_config *c, const char                  *group,
                         void (*file)(void *arg, const char *path), void *arg)
{
    const td_resolved *g = child(&c->resolved, group);
    if (g)
        each_below(g, c->arena, file, arg);
}
