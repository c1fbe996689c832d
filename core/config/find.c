/* find.c - finds the config that a misspelt or shortened name was meant for. */
#include "config/find.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/text.h"

enum { MOST_NAMES = 400 };

/* Configs that could have been meant, as they would be named. */
typedef struct candidates {
    td_arena   *arena;
    const char *at[MOST_NAMES];
    size_t      n;
} candidates;

/* Those of DIRECTORY/FOLDER, as FOLDER/NAME; `folder` "": of the directory itself. */
static void add_configs(candidates *c, const char *directory, const char *folder)
{
    char   *path = td_path_join(directory, folder), **names = NULL;
    int64_t count = path ? td_list_directory(path, &names, NULL) : -1;
    for (int64_t k = 0; k < count && c->n < MOST_NAMES; k++) {
        size_t      n = strlen(names[k]);
        const char *name = n > 4 && !strcmp(names[k] + n - 4, ".cfg")
                               ? td_arena_print(c->arena, "%s%s%s", folder, *folder ? "/" : "",
                                                names[k])
                               : NULL;
        if (name)
            c->at[c->n++] = name;
    }
    if (count >= 0)
        td_free_names(names, count);
    free(path);
}

/* Shipped configs are in folders; of the user's, only those beside the named path are looked at. */
static void collect(candidates *c, const char *name, const char *search)
{
    char  **folders = NULL, *directory = strchr(name, '/') ? td_path_directory(name) : strdup("");
    int64_t count = search ? td_list_directory(search, &folders, NULL) : -1;
    if (directory)
        add_configs(c, *directory ? "" : ".", directory);
    for (int64_t k = 0; k < count; k++)
        add_configs(c, search, folders[k]);
    if (count >= 0)
        td_free_names(folders, count);
    free(directory);
}

/* Whether `path` is `name`, or ends in it after a folder, without its ending if `name` has none. */
static bool is_named(const char *path, const char *name)
{
    size_t n = strlen(name), whole = strlen(path);
    size_t size = whole - (n > 4 && !strcmp(name + n - 4, ".cfg") ? 0 : 4);
    return n && n <= size && !strncmp(path + size - n, name, n) &&
           (n == size || path[size - n - 1] == '/');
}

/* A folder or an ending left out is likelier than a misspelt name; and of several folders, base/ is
 * the least likely, since it holds parts of configs. */
static const char *choose(const candidates *c, const char *name)
{
    const char *part = NULL;
    for (size_t k = 0; k < c->n; k++)
        if (is_named(c->at[k], name) && strncmp(c->at[k], "base/", strlen("base/")))
            return c->at[k];
        else if (is_named(c->at[k], name) && !part)
            part = c->at[k];
    return part ? part : td_nearest(name, c->at, c->n);
}

char *td_config_near(const char *name, const char *search)
{
    candidates  c = { .arena = td_arena_new() };
    const char *found = NULL;
    char       *copy;
    if (!c.arena)
        return NULL;
    collect(&c, name, search);
    found = choose(&c, name);
    copy = found ? strdup(found) : NULL;
    td_arena_free(c.arena);
    return copy;
}
