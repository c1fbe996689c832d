/* map.h - a map from text to pointer that remembers the order of insertion.
 *
 * The order makes listings and files reproducible. Keys are copied; values belong to the caller.
 * Entries cannot be removed: nothing here needs it, and it keeps probing free of tombstones.
 */
#ifndef TD_BASE_MAP_H
#define TD_BASE_MAP_H

#include <stddef.h>

typedef struct td_map td_map;

td_map *td_map_new(void);      /* NULL when out of memory */
void    td_map_free(td_map *); /* does not touch the values */

/* Insert, or replace the value and keep the place. 0, or TD_ENOMEM with the map unchanged;
 * replacing does not fail. */
int   td_map_set(td_map *, const char *key, void *value);
void *td_map_get(const td_map *, const char *key); /* NULL: no such key */

/* Entry i < count, in order of insertion. */
size_t      td_map_count(const td_map *);
const char *td_map_key(const td_map *, size_t i);
void       *td_map_value(const td_map *, size_t i);

#endif
