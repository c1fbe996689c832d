/* text.c - decodes token by token, and finds stop strings. */
#include "generate/text.h"

#include <stdlib.h>
#include <string.h>

#include "plugin/hook.h"

struct td_detokenizer {
    const td_tokenizer *tokenizer;
    void               *state;
    const char *const  *stops;
    size_t              n_stops;
    int32_t            *ids;
    int64_t             n_ids, room;
    /* ids [first, taken) are the context in which the ids from `taken` on are decoded */
    int64_t             first, taken;
    td_text             text;
    size_t              searched; /* bytes already searched for stop strings */
    char               *buffer[2];
    int64_t             buffer_room[2];
};

td_detokenizer *td_detokenizer_new(const td_tokenizer *tokenizer, void *state,
                                   const char *const *stops, size_t n_stops)
{
    td_detokenizer *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->tokenizer = tokenizer;
    d->state = state;
    d->stops = stops;
    d->n_stops = n_stops;
    return d;
}

void td_detokenizer_free(td_detokenizer *d)
{
    if (!d)
        return;
    td_text_free(&d->text);
    free(d->ids);
    free(d->buffer[0]);
    free(d->buffer[1]);
    free(d);
}

void td_detokenizer_clear(td_detokenizer *d)
{
    d->n_ids = 0;
    d->first = 0;
    d->taken = 0;
    d->searched = 0;
    td_text_free(&d->text);
}

/* ---- decoding -------------------------------------------------------------------------------- */

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while decoding tokens");
}

/* ids [first, end) as text, in buffer `which`; its size, or a negative code. */
static int64_t decode(td_detokenizer *d, int which, int64_t first, int64_t end, td_error *error)
{
    for (;;) {
        int64_t size = TD_HOOK(d->tokenizer, decode, d->state, d->ids + first, end - first,
                               d->buffer[which], d->buffer_room[which], error);
        char   *larger;
        if (size <= d->buffer_room[which])
            return size;
        larger = realloc(d->buffer[which], (size_t)size);
        if (!larger)
            return out_of_memory(error);
        d->buffer[which] = larger;
        d->buffer_room[which] = size;
    }
}

/* Length of a character that starts with `byte`; 1 for a byte that cannot start one. */
static size_t character_bytes(unsigned char byte)
{
    if (byte >= 0xF8)
        return 1;
    return byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
}

/* Whether the text ends within a character: the last start byte announces more bytes than follow. A
 * tokenizer may also show an incomplete character as U+FFFD. */
static bool ends_within_character(const char *text, size_t size)
{
    size_t back = 1;
    if (size >= 3 && !memcmp(text + size - 3, "\xEF\xBF\xBD", 3))
        return true;
    while (back < 4 && back < size && ((unsigned char)text[size - back] & 0xC0) == 0x80)
        back++;
    return size > 0 && character_bytes((unsigned char)text[size - back]) > back;
}

/* Bytes of the whole character that the text starts with; 0: it starts with none. */
static size_t whole_character(const char *text, size_t size)
{
    char   one[5] = { 0 };
    size_t n = character_bytes((unsigned char)*text);
    if (n > size)
        return 0;
    memcpy(one, text, n);
    return td_is_utf8(one) ? n : 0;
}

/* A byte-level model may generate invalid UTF-8, but callers rely on valid text. */
static void append_characters(td_text *out, const char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t n = whole_character(text + at, size - at);
        if (n)
            td_text_append(out, text + at, n);
        else
            td_text_append(out, "\xEF\xBF\xBD", 3);
        at += n ? n : 1;
    }
}

/* The text that the ids from `taken` on add to that of the context. While it ends within a
 * character, waits for more ids unless this is the end. */
static int take(td_detokenizer *d, bool end, td_error *error)
{
    int64_t before = decode(d, 0, d->first, d->taken, error), all;
    if (before < 0)
        return (int)before;
    all = decode(d, 1, d->first, d->n_ids, error);
    if (all < 0)
        return (int)all;
    if (all <= before || (!end && ends_within_character(d->buffer[1], (size_t)all)))
        return 0;
    append_characters(&d->text, d->buffer[1] + before, (size_t)(all - before));
    d->first = d->taken;
    d->taken = d->n_ids;
    return 0;
}

/* ---- stop strings ---------------------------------------------------------------------------- */

/* The position of the earliest stop string in the text, or -1. If two begin together either will
 * do: the text ends where they begin. */
static int64_t find_stop(td_detokenizer *d)
{
    const char *text = td_text_get(&d->text), *earliest = NULL;
    for (size_t k = 0; k < d->n_stops; k++) {
        /* not strstr: a byte-level model may generate 0 */
        const char *at = memmem(text + d->searched, d->text.size - d->searched, d->stops[k],
                                strlen(d->stops[k]));
        if (at && (!earliest || at < earliest))
            earliest = at;
    }
    return earliest ? earliest - text : -1;
}

/* The longest suffix of the text that is a prefix of a stop string. */
static size_t held_back(const td_detokenizer *d)
{
    const char *text = td_text_get(&d->text);
    size_t      size = d->text.size, longest = 0;
    for (size_t k = 0; k < d->n_stops; k++) {
        size_t length = strlen(d->stops[k]), n = length - 1 < size ? length - 1 : size;
        while (n > longest && memcmp(text + size - n, d->stops[k], n))
            n--;
        longest = n > longest ? n : longest;
    }
    return longest;
}

static int search(td_detokenizer *d)
{
    int64_t at = d->text.size ? find_stop(d) : -1;
    if (at >= 0) {
        d->text.size = (size_t)at;
        d->text.data[at] = 0;
        d->searched = (size_t)at;
        return TD_EEND;
    }
    d->searched = d->text.size - held_back(d);
    return 0;
}

/* ---- in and out ------------------------------------------------------------------------------ */

int td_detokenizer_add(td_detokenizer *d, int32_t id, td_error *error)
{
    int code;
    if (d->n_ids == d->room) {
        int64_t  room = d->room ? 2 * d->room : 64;
        int32_t *larger = realloc(d->ids, (size_t)room * sizeof *larger);
        if (!larger)
            return out_of_memory(error);
        d->ids = larger;
        d->room = room;
    }
    d->ids[d->n_ids++] = id;
    code = take(d, false, error);
    return code ? code : search(d);
}

int td_detokenizer_finish(td_detokenizer *d, td_error *error)
{
    int code = d->taken < d->n_ids ? take(d, true, error) : 0;
    if (!code)
        code = search(d);
    d->searched = d->text.size;
    return code;
}

const char *td_detokenizer_text(const td_detokenizer *d, size_t *settled)
{
    if (settled)
        *settled = d->searched;
    return td_text_get(&d->text);
}
