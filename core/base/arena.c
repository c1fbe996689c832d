/* arena.c - memory that is freed all at once: a list of blocks, of which the first is being
 * filled. */
#include "base/arena.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16, ALIGNMENT = 16 };

/* One piece of memory from calloc. Its type makes `data` begin at an aligned address after the
 * header; `used` stays a multiple of the alignment, so every allocation does. */
typedef struct block {
    struct block *next;
    size_t        used, room;
    max_align_t   data[];
} block;

struct td_arena {
    block *blocks; /* the front one takes small allocations; NULL: none yet */
};

td_arena *td_arena_new(void) { return calloc(1, sizeof(td_arena)); }

static void free_blocks(block *b)
{
    while (b) {
        block *next = b->next;
        free(b);
        b = next;
    }
}

void td_arena_free(td_arena *a)
{
    if (a)
        free_blocks(a->blocks);
    free(a);
}

void td_arena_reset(td_arena *a)
{
    block *first = a->blocks;
    if (!first)
        return;
    free_blocks(first->next);
    /* Allocations are zeroed, like a new block. A reused block is cleared only as far as it was
     * filled. */
    memset(first->data, 0, first->used);
    first->used = 0;
    first->next = NULL;
}

/* A new block of at least `bytes`; NULL when out of memory. */
static block *add_block(td_arena *a, size_t bytes)
{
    /* A request above a quarter of a block gets its own block, so at most a quarter of a block
     * is wasted at its end. */
    bool   is_large = bytes > BLOCK / 4;
    size_t room = is_large ? bytes : BLOCK;
    block *b = room <= SIZE_MAX - sizeof *b ? calloc(1, sizeof *b + room) : NULL;
    if (!b)
        return NULL;
    b->room = room;

    /* A large block is full from the start: put it second, and keep filling the front one. */
    if (a->blocks && is_large) {
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
    size_t size = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    block *b = a->blocks;
    void  *p;
    if (size < bytes) /* rounding up overflowed */
        return NULL;
    /* Only the front block is tried. Space left in the others is lost, but an allocation takes
     * constant time for any number of blocks. */
    if (!b || b->room - b->used < size)
        b = add_block(a, size);
    if (!b)
        return NULL;
    p = (char *)b->data + b->used;
    b->used += size;
    assert(b->used <= b->room && (uintptr_t)p % ALIGNMENT == 0);
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
    va_copy(again, args); /* measuring consumes the arguments */
    size = vsnprintf(NULL, 0, format, args);
    p = size < 0 ? NULL : td_arena_alloc(a, (size_t)size + 1);
    if (p)
        vsnprintf(p, (size_t)size + 1, format, again);
    va_end(args);
    va_end(again);
    return p;
}
