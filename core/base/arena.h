/* arena.h - memory that is freed all at once.
 *
 * Graphs, plans, registries and configs are built once, never shrink, and are freed as a whole. An
 * arena fits them: one owner, no free per object, no leak on an error path half-way through.
 *
 *     td_arena *a = td_arena_new();
 *     char     *key = td_arena_print(a, "%s.%s", group, name);
 *     if (!key)
 *         return td_fail(error, TD_ENOMEM, "out of memory");
 *     td_arena_free(a);
 *
 * An arena belongs to one thread at a time.
 */
#ifndef TD_BASE_ARENA_H
#define TD_BASE_ARENA_H

#include <stddef.h>

#include "tandem/error.h"

typedef struct td_arena td_arena;

/* NULL when out of memory. Allocates no block yet. */
td_arena *td_arena_new(void);
void      td_arena_free(td_arena *);
/* Drop every allocation but keep one block, so that an arena reset in a loop stops calling
 * malloc. */
void      td_arena_reset(td_arena *);

/* Zeroed, 16-byte aligned, valid until the arena is reset or freed. NULL when out of memory; the
 * arena stays usable. */
void *td_arena_alloc(td_arena *, size_t bytes);
char *td_arena_copy(td_arena *, const char *text);
char *td_arena_print(td_arena *, const char *format, ...) TD_PRINTF(2, 3);

#endif
