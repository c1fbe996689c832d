/* arena.h - memory that is freed all at once. */
#ifndef TD_BASE_ARENA_H
#define TD_BASE_ARENA_H

#include <stddef.h>

#include "tandem/error.h"

typedef struct td_arena td_arena;

/* An arena; NULL only when there is no memory at all. */
td_arena *td_arena_new(void);
void      td_arena_free(td_arena *);
/* Forget all that was allocated; one block is kept for what comes. */
void      td_arena_reset(td_arena *);

/* Zeroed, 16-byte aligned; lives as long as the arena. NULL when memory ran out. */
void *td_arena_alloc(td_arena *, size_t bytes);
char *td_arena_copy(td_arena *, const char *text);
char *td_arena_print(td_arena *, const char *format, ...) TD_PRINTF(2, 3);

#endif
