/* keys.h - every key that a config may have, with what it may be: for completion and man pages. */
#ifndef TD_TOOLS_KEYS_H
#define TD_TOOLS_KEYS_H

#include "base/arena.h"
#include "plugin/registry.h"

typedef struct td_key {
    const char *path;   /* "model.attention.heads" */
    const char *values; /* "true|false", the names of plugins, "FILE" of a string, or "" */
    const char *doc;
} td_key;

typedef struct td_keys {
    td_key *at; /* sorted by path, each once */
    size_t  count, room;
} td_keys;

/* Keys of the host's groups and of all plugins that the registry has found; texts are the arena's.
 * What more than one plugin takes at a path is there once, with the values of all. 0, or TD_ENOMEM.
 * free() `at`. */
int td_keys_collect(const td_registry *, td_arena *, td_keys *out, td_error *error);

/* Names of the plugins of a kind, "a|b"; NULL: out of memory. */
const char *td_keys_plugins(const td_registry *, const char *kind, td_arena *);

#endif
