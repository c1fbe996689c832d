/* keys.h - every key that a config can have, with its values: for completion. */
#ifndef TD_TOOLS_MANUAL_KEYS_H
#define TD_TOOLS_MANUAL_KEYS_H

#include "base/arena.h"
#include "plugin/registry.h"

typedef struct td_key {
    const char *path;   /* "model.attention.heads" */
    const char *values; /* "true|false", plugin names "a|b", "FILE" for a string, or "": any */
    const char *doc;
} td_key;

typedef struct td_keys {
    td_key *at; /* sorted by path, each once */
    size_t  count, room;
} td_keys;

/* The keys of the host's groups and of all plugins that the registry has found. A key that several
 * plugins have at the same path appears once, with the values of all of them. Texts belong to the
 * arena; free() `at`. 0, or TD_ENOMEM. */
int td_keys_collect(const td_registry *, td_arena *, td_keys *out, td_error *error);

/* The names of the plugins of a kind, "a|b", in the arena; NULL when out of memory. */
const char *td_keys_plugins(const td_registry *, const char *kind, td_arena *);

#endif
