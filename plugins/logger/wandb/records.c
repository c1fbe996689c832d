/* records.c - a file of records. */
#include "records.h"

#include <string.h>
#include <zlib.h>

enum {
    BLOCK = 32768,
    HEAD = 7, /* of a piece: checksum, length, type */
    LARGEST = 1 << 26,
};

enum { WHOLE = 1, FIRST, MIDDLE, LAST };

/* ":W&B", the number 0xBEE1, and the version of the format, 0. */
static const unsigned char head[] = { ':', 'W', '&', 'B', 0xE1, 0xBE, 0 };

/* Bytes of the block from here on. */
static size_t left(FILE *f) { return BLOCK - (size_t)(ftell(f) % BLOCK); }

static uint32_t checksum(unsigned char type, const unsigned char *data, size_t size)
{
    return (uint32_t)crc32(crc32(0, &type, 1), data, (unsigned)size);
}

bool records_begin(FILE *f) { return fwrite(head, sizeof head, 1, f) == 1; }

/* ---- writing --------------------------------------------------------------------------------- */

static bool put_piece(FILE *f, unsigned char type, const unsigned char *data, size_t size)
{
    uint32_t      sum = checksum(type, data, size);
    unsigned char h[HEAD] = { (unsigned char)sum,
                              (unsigned char)(sum >> 8),
                              (unsigned char)(sum >> 16),
                              (unsigned char)(sum >> 24),
                              (unsigned char)size,
                              (unsigned char)(size >> 8),
                              type };
    return fwrite(h, HEAD, 1, f) == 1 && (!size || fwrite(data, size, 1, f) == 1);
}

bool records_append(FILE *f, const unsigned char *data, size_t size)
{
    static const unsigned char zeros[HEAD] = { 0 };
    bool                       first = true, ok = true;
    do {
        size_t room, n;
        if (left(f) < HEAD)
            ok = fwrite(zeros, left(f), 1, f) == 1;
        room = left(f) - HEAD;
        n = size < room ? size : room;
        ok = ok && put_piece(f, n == size ? first ? WHOLE : LAST : first ? FIRST : MIDDLE, data, n);
        data += n;
        size -= n;
        first = false;
    } while (ok && size);
    return ok;
}

/* ---- reading --------------------------------------------------------------------------------- */

bool records_open(FILE *f)
{
    unsigned char found[sizeof head];
    return fread(found, sizeof found, 1, f) == 1 && !memcmp(found, head, sizeof head);
}

/* Appends the next piece to `out`; its type, or 0. */
static unsigned char take_piece(FILE *f, message *out)
{
    unsigned char h[HEAD], data[BLOCK];
    size_t        size;
    if (left(f) < HEAD && fseek(f, (long)left(f), SEEK_CUR))
        return 0;
    if (fread(h, HEAD, 1, f) != 1)
        return 0;
    size = h[4] | (size_t)h[5] << 8;
    /* the record's header was read, so `left` is what remains for the bytes: 0 at the end of a
     * block */
    if (size > left(f) % BLOCK || (size && fread(data, size, 1, f) != 1))
        return 0;
    if (checksum(h[6], data, size) !=
        ((uint32_t)h[0] | (uint32_t)h[1] << 8 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 24))
        return 0;
    message_append(out, data, size);
    return h[6];
}

bool records_next(FILE *f, message *out)
{
    unsigned char type;
    out->size = 0;
    type = take_piece(f, out);
    if (type != FIRST)
        return type == WHOLE && !out->failed;
    do
        type = take_piece(f, out);
    while (type == MIDDLE && out->size <= LARGEST);
    return type == LAST && !out->failed;
}
