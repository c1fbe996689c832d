/* map.h - text to pointer, in order of insertion. Keys are copied. */
#ifndef TD_BASE_MAP_H
#define TD_BASE_MAP_H

#include <stddef.h>

typedef struct td_map td_map;

td_map *td_map_new(void);
void    td_map_free(td_map *); /* values are the owner's */

/* Sets or replaces. 0, or -4 (TD_ENOMEM). */
int   td_map_set(td_map *, const char *key, void *value);
void *td_map_get(const td_map *, const char *key); /* NULL: absent */

size_t      td_map_count(const td_map *);
const char *td_map_key(const td_map *, size_t i); /* by order of insertion */
void       *td_map_value(const td_map *, size_t i);

#endif
