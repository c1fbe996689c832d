/* decoder.c - carries out the steps from tokens to a text. */
#include "decoder.h"

#include "../tokenizer_json.h"

static size_t count(const struct texts *t) { return t->ends.size / sizeof(size_t); }

static size_t end_of(const struct texts *t, size_t k)
{
    size_t end;
    memcpy(&end, t->ends.data + k * sizeof end, sizeof end);
    return end;
}

static void end_here(struct texts *t)
{
    grow_append(&t->ends, (const char *)&t->text.size, sizeof t->text.size);
}

void texts_add(struct texts *t, const char *text, size_t size)
{
    grow_append(&t->text, text, size);
    end_here(t);
}

void texts_free(struct texts *t)
{
    free(t->text.data);
    free(t->ends.data);
    *t = (struct texts){ 0 };
}

/* ---- the text of one token ------------------------------------------------------------------- */

static void replace(const struct decoding *d, const char *text, size_t size, struct growing *out)
{
    while (size) {
        bool   found = size >= d->from_size && !memcmp(text, d->from, d->from_size);
        size_t n = found ? d->from_size : 1;
        grow_append(out, found ? d->to : text, found ? d->to_size : 1);
        text += n;
        size -= n;
    }
}

/* The byte that a character of UTF-8 stands for, -1: none. */
static int byte_of(const char *text, size_t n)
{
    int c = (unsigned char)*text;
    return n > 2 ? -1 : character_byte(n == 2 ? (c & 31) << 6 | (text[1] & 63) : c);
}

/* A token with another character is its own text: an added one. */
static void put_bytes(const char *text, size_t size, struct growing *out)
{
    size_t before = out->size;
    for (size_t k = 0, n; k < size; k += n) {
        int  b;
        char byte;
        n = character_size(text + k);
        b = n <= size - k ? byte_of(text + k, n) : -1;
        byte = (char)b;
        if (b < 0) {
            out->size = before;
            grow_append(out, text, size);
            return;
        }
        grow_append(out, &byte, 1);
    }
}

static int digit(char c)
{
    static const char digits[] = "0123456789ABCDEF";
    const char       *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static void put_named(const char *text, size_t size, struct growing *out)
{
    int  high = size == 6 ? digit(text[3]) : -1, low = size == 6 ? digit(text[4]) : -1;
    char byte = (char)(16 * high + low);
    if (high >= 0 && low >= 0 && !memcmp(text, "<0x", 3) && text[5] == '>')
        grow_append(out, &byte, 1);
    else
        grow_append(out, text, size);
}

static void strip(const struct decoding *d, const char *text, size_t size, struct growing *out)
{
    size_t n = d->from_size;
    for (size_t k = 0; k < d->begin && size >= n && !memcmp(text, d->from, n); k++) {
        text += n;
        size -= n;
    }
    for (size_t k = 0; k < d->end && size >= n && !memcmp(text + size - n, d->from, n); k++)
        size -= n;
    grow_append(out, text, size);
}

static void change(const struct decoding *d, size_t k, const char *text, size_t size,
                   struct growing *out)
{
    if (d->type == DECODE_REPLACE || (d->type == DECODE_DROP && !k))
        replace(d, text, size, out);
    else if (d->type == DECODE_BYTES)
        put_bytes(text, size, out);
    else if (d->type == DECODE_NAMED)
        put_named(text, size, out);
    else if (d->type == DECODE_STRIP)
        strip(d, text, size, out);
    else
        grow_append(out, text, size);
}

void decoding_run(const struct decoding *d, struct texts *t)
{
    struct texts out = { 0 };
    size_t       begin = 0;
    for (size_t k = 0; k < count(t); k++) {
        change(d, k, t->text.data + begin, end_of(t, k) - begin, &out.text);
        if (d->type != DECODE_FUSE)
            end_here(&out);
        begin = end_of(t, k);
    }
    if (d->type == DECODE_FUSE && count(t))
        end_here(&out);
    out.text.failed = out.text.failed || out.ends.failed || t->text.failed || t->ends.failed;
    texts_free(t);
    *t = out;
}
