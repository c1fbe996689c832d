/* vocabulary.c - tokens by id and by text. */
#include "convert/vocabulary.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for a vocabulary");
}

int td_vocabulary_new(td_vocabulary *v, int64_t count, td_error *error)
{
    *v = (td_vocabulary){ .at = calloc((size_t)count + 1, sizeof *v->at),
                          .count = count,
                          .by_text = td_map_new(),
                          .arena = td_arena_new() };
    return v->at && v->by_text && v->arena ? 0 : no_memory(error);
}

void td_vocabulary_free(td_vocabulary *v)
{
    td_map_free(v->by_text);
    td_arena_free(v->arena);
    free(v->at);
    *v = (td_vocabulary){ 0 };
}

/* Some work on a token takes time that grows with the square of its length. */
enum { LONGEST = 1024 };

/* llama.cpp aborts if two tokens have the same text. */
int td_vocabulary_put(td_vocabulary *v, int64_t id, const char *text, size_t size, int type,
                      td_error *error)
{
    char *copy = size <= LONGEST ? td_arena_alloc(v->arena, size + 1) : NULL;
    if (size > LONGEST)
        return td_fail(error, TD_EUNSUPPORTED,
                       "its token %lld has %zu bytes, but may have at most %d", (long long)id, size,
                       LONGEST);
    if (!copy)
        return no_memory(error);
    memcpy(copy, text, size);
    if (!size || memchr(text, 0, size) || !td_is_utf8(copy))
        return td_fail(error, TD_EUNSUPPORTED,
                       "its token %lld is empty, has a zero byte, or is not UTF-8", (long long)id);
    if (td_map_get(v->by_text, copy))
        return td_fail(error, TD_EUNSUPPORTED, "two of its tokens are '%.60s'", copy);
    v->at[id] = (td_token){ copy, type, 0 };
    return td_map_set(v->by_text, copy, &v->at[id]) ? no_memory(error) : 0;
}

td_token *td_vocabulary_find(const td_vocabulary *v, const char *text, size_t size)
{
    char      own[128], *copy = size < sizeof own ? own : malloc(size + 1);
    td_token *found = NULL;
    if (copy) {
        memcpy(copy, text, size);
        copy[size] = 0;
        found = td_map_get(v->by_text, copy);
    }
    if (copy != own)
        free(copy);
    return found;
}

/* The character that stands for a byte in GPT-2's vocabularies: Latin-1's if it is visible,
 * otherwise the next one from 256 on. */
static int character_of(int byte)
{
    bool seen = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    int  hidden = 0;
    for (int b = 0; b < byte; b++)
        hidden += !((b > 32 && b < 127) || (b > 160 && b != 173));
    return seen ? byte : 256 + hidden;
}

static void name_byte(int byte, bool as_characters, char out[8])
{
    int c = character_of(byte);
    if (!as_characters)
        snprintf(out, 8, "<0x%02X>", byte);
    else if (c < 128)
        snprintf(out, 8, "%c", c);
    else
        snprintf(out, 8, "%c%c", (char)(0xC0 | c >> 6), (char)(0x80 | (c & 63)));
}

bool td_vocabulary_has_bytes(const td_vocabulary *v, bool as_characters)
{
    for (int b = 0; b < 256; b++) {
        char            name[8];
        const td_token *t;
        name_byte(b, as_characters, name);
        t = td_map_get(v->by_text, name);
        if (!t || t->type != (as_characters ? TD_TOKEN_NORMAL : TD_TOKEN_BYTE))
            return false;
    }
    return true;
}

char *td_padding_name(int64_t id, char out[TD_PADDING_NAME])
{
    snprintf(out, TD_PADDING_NAME, "[PAD%lld]", (long long)id);
    return out;
}

size_t td_character_size(const char *text)
{
    size_t n = 1;
    while (((unsigned char)text[n] & 0xC0) == 0x80)
        n++;
    return n;
}
