/* map.c - text to pointer: entries in order of insertion, with an open-addressed index of them. */
#include "base/map.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tandem/error.h"
#include "tandem/random.h"

typedef struct entry {
    char *key;
    void *value;
} entry;

struct td_map {
    entry  *entries;
    size_t *slots;                /* 1 + index of an entry; 0: empty */
    size_t  count, room, n_slots; /* n_slots: a power of two, 4 * room */
};

td_map *td_map_new(void) { return calloc(1, sizeof(td_map)); }

void td_map_free(td_map *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->count; i++)
        free(m->entries[i].key);
    free(m->entries);
    free(m->slots);
    free(m);
}

/* Entries never move within their array, so the index can be rebuilt from it, and order costs
 * nothing. */

/* The slot of the key, or the empty one where it belongs. Linear probing ends because at most a
 * quarter of the slots are taken. */
static size_t *slot(const td_map *m, const char *key)
{
    size_t i = td_random_stream(key) & (m->n_slots - 1);
    while (m->slots[i] && strcmp(m->entries[m->slots[i] - 1].key, key))
        i = (i + 1) & (m->n_slots - 1);
    return &m->slots[i];
}

/* Doubles the capacity for entries, and rebuilds the index. */
static int grow(td_map *m)
{
    size_t  room = m->room ? 2 * m->room : 16;
    entry  *entries = realloc(m->entries, room * sizeof *entries);
    size_t *slots = calloc(4 * room, sizeof *slots);
    /* realloc may have moved the entries even if calloc fails: store the new address in any case,
     * so that the map stays valid. */
    if (entries)
        m->entries = entries;
    if (!entries || !slots) {
        free(slots);
        return TD_ENOMEM;
    }
    free(m->slots);
    m->slots = slots;
    m->room = room;
    m->n_slots = 4 * room;
    for (size_t i = 0; i < m->count; i++)
        *slot(m, m->entries[i].key) = i + 1;
    return 0;
}

int td_map_set(td_map *m, const char *key, void *value)
{
    size_t *at = m->n_slots ? slot(m, key) : NULL;
    char   *copy;
    if (at && *at) { /* replacing needs no memory, so it cannot fail */
        m->entries[*at - 1].value = value;
        return 0;
    }
    if (m->count == m->room) {
        if (grow(m))
            return TD_ENOMEM;
        at = slot(m, key); /* the old slots are gone */
    }
    /* copy the key first: if that fails, the map has not changed */
    copy = strdup(key);
    if (!copy)
        return TD_ENOMEM;
    m->entries[m->count++] = (entry){ copy, value };
    *at = m->count;
    return 0;
}

void *td_map_get(const td_map *m, const char *key)
{
    size_t at = m->count ? *slot(m, key) : 0; /* an empty map has no slots to probe */
    return at ? m->entries[at - 1].value : NULL;
}

size_t td_map_count(const td_map *m) { return m->count; }

const char *td_map_key(const td_map *m, size_t i)
{
    assert(i < m->count);
    return m->entries[i].key;
}

void *td_map_value(const td_map *m, size_t i)
{
    assert(i < m->count);
    return m->entries[i].value;
}
