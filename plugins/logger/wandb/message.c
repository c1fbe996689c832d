/* message.c - protocol buffers. */
#include "message.h"

#include <stdlib.h>
#include <string.h>

enum { VARINT = 0, EIGHT = 1, BYTES = 2, FOUR = 5 };

void message_append(message *m, const void *data, size_t size)
{
    if (size > m->room - m->size) {
        size_t         room = 2 * (m->size + size) + 64;
        unsigned char *larger = m->failed ? NULL : realloc(m->data, room);
        m->failed = !larger;
        if (m->failed)
            return;
        m->data = larger;
        m->room = room;
    }
    if (size)
        memcpy(m->data + m->size, data, size);
    m->size += size;
}

/* Seven bits a byte, the low ones first; bit 7: more follow. */
static void put_varint(message *m, uint64_t v)
{
    unsigned char bytes[10];
    size_t        n = 0;
    for (; v >= 128; v >>= 7)
        bytes[n++] = (unsigned char)(v | 128);
    bytes[n++] = (unsigned char)v;
    message_append(m, bytes, n);
}

void message_number(message *m, unsigned tag, uint64_t value)
{
    put_varint(m, tag << 3 | VARINT);
    put_varint(m, value);
}

void message_bytes(message *m, unsigned tag, const void *data, size_t size)
{
    put_varint(m, tag << 3 | BYTES);
    put_varint(m, size);
    message_append(m, data, size);
}

void message_text(message *m, unsigned tag, const char *text)
{
    message_bytes(m, tag, text, strlen(text));
}

void message_message(message *m, unsigned tag, message *inner)
{
    message_bytes(m, tag, inner->data, inner->size);
    m->failed = m->failed || inner->failed;
    free(inner->data);
    *inner = (message){ 0 };
}

/* ---- walking --------------------------------------------------------------------------------- */

static bool take_varint(const unsigned char **at, const unsigned char *end, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        unsigned char byte = *(*at)++;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

bool message_next(const unsigned char **at, const unsigned char *end, field *out)
{
    uint64_t key, size = 0;
    *out = (field){ 0 };
    if (*at == end || !take_varint(at, end, &key))
        return false;
    out->tag = (unsigned)(key >> 3);
    if ((key & 7) == VARINT)
        return take_varint(at, end, &out->number);
    if ((key & 7) == BYTES && !take_varint(at, end, &size))
        return false;
    size = (key & 7) == EIGHT ? 8 : (key & 7) == FOUR ? 4 : (key & 7) == BYTES ? size : UINT64_MAX;
    /* an unknown wire type, or a length beyond the end */
    if (size > (uint64_t)(end - *at))
        return false;
    out->data = *at;
    out->size = (size_t)size;
    *at += size;
    return true;
}
