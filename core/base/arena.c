/* arena.c - memory that is freed all at once: a list of blocks. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16 };

typedef struct block {
    struct block *next;
    size_t        used, room;
    max_align_t   data[];
} block;

struct td_arena {
    block *blocks;
};

td_arena *td_arena_new(void) { return calloc(1, sizeof(td_arena)); }

void td_arena_free(td_arena *a)
{
    block *next;
    if (!a)
        return;
    for (block *b = a->blocks; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

void td_arena_reset(td_arena *a)
{
    block *first = a->blocks, *next;
    if (!first)
        return;
    for (block *b = first->next; b; b = next) {
        next = b->next;
        free(b);
    }
    memset(first->data, 0, first->used);
    first->used = 0;
    first->next = NULL;
}

static block *more(td_arena *a, size_t bytes)
{
    size_t room = bytes > BLOCK / 4 ? bytes : BLOCK;
    block *b = room <= SIZE_MAX - sizeof *b ? calloc(1, sizeof *b + room) : NULL;
    if (!b)
        return NULL;
    b->room = room;
    /* a large piece of its own: go on filling the block in front */
    if (a->blocks && room == bytes) {
        b->next = a->blocks->next;
        a->blocks->next = b;
    } else {
        b->next = a->blocks;
        a->blocks = b;
    }
    return b;
}

void *td_arena_alloc(td_arena *a, size_t bytes)
{
    size_t size = (bytes + 15) / 16 * 16;
    block *b = a->blocks;
    void  *p;
    if (size < bytes)
        return NULL;
    if (!b || b->room - b->used < size)
        b = more(a, size);
    if (!b)
        return NULL;
    p = (char *)b->data + b->used;
    b->used += size;
    return p;
}

char *td_arena_copy(td_arena *a, const char *text)
{
    size_t size = strlen(text) + 1;
    char  *p = td_arena_alloc(a, size);
    return p ? memcpy(p, text, size) : NULL;
}

char *td_arena_print(td_arena *a, const char *format, ...)
{
    va_list args, again;
    int     size;
    char   *p;
    va_start(args, format);
    va_copy(again, args);
    size = vsnprintf(NULL, 0, format, args);
    p = size < 0 ? NULL : td_arena_alloc(a, (size_t)size + 1);
    if (p)
        vsnprintf(p, (size_t)size + 1, format, again);
    va_end(args);
    va_end(again);
    return p;
}
