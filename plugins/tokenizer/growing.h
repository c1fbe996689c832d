/* growing.h - bytes that grow. For C and C++. */
#ifndef TANDEM_PLUGINS_TOKENIZER_GROWING_H
#define TANDEM_PLUGINS_TOKENIZER_GROWING_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Zero-initialize it; free() `data`. Out of memory sets `failed`, and everything added after that
 * is dropped; it is checked once, at the end. */
struct growing {
    char  *data;
    size_t size, room;
    bool   failed;
};

/* Have room for `more` bytes. */
static inline bool grow_room(struct growing *g, size_t more)
{
    size_t room;
    char  *larger;
    if (g->failed || g->room - g->size >= more)
        return !g->failed;
    room = 2 * (g->size + more) + 256;
    larger = (char *)realloc(g->data, room);
    g->failed = !larger;
    if (larger) {
        g->data = larger;
        g->room = room;
    }
    return larger != NULL;
}

static inline void grow_append(struct growing *g, const char *bytes, size_t size)
{
    if (!size || !grow_room(g, size))
        return;
    memcpy(g->data + g->size, bytes, size);
    g->size += size;
}

#endif
