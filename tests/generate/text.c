/* text.c - the text of tokens as they come: whole characters only, stop strings across tokens. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "generate/text.h"

/* Ids index a list of pieces; a space that starts the text is dropped, as SentencePiece does. */
static const char *const pieces[] = { " the", " cat", "\xC3", "\xA9", "\xE2\x82",
                                      "\xAC", "STO",  "P!",   "\xFF", "x" };

static int64_t decode(void *state, const int32_t *ids, int64_t count, char *text, int64_t room,
                      td_error *error)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        const char *p = pieces[ids[i]];
        if (!i && *p == ' ')
            p++;
        for (; *p; p++, n++)
            if (n < room)
                text[n] = *p;
    }
    return n;
}

static const td_tokenizer tokenizer = { .decode = decode };

static void expect(td_detokenizer *d, int32_t id, const char *text, size_t settled)
{
    size_t   have;
    td_error e = { 0 };
    cr_expect_eq(td_detokenizer_add(d, id, &e), 0);
    cr_expect_str_eq(td_detokenizer_text(d, &have), text);
    cr_expect_eq(have, settled, "'%s': %zu settled, not %zu", text, have, settled);
}

Test(text, spaces_and_characters_over_several_tokens)
{
    td_detokenizer *d = td_detokenizer_new(&tokenizer, NULL, NULL, 0);
    expect(d, 0, "the", 3);
    expect(d, 1, "the cat", 7);
    expect(d, 2, "the cat", 7); /* half a character is held back */
    expect(d, 3, "the cat\xC3\xA9", 9);
    expect(d, 4, "the cat\xC3\xA9", 9);
    expect(d, 5, "the cat\xC3\xA9\xE2\x82\xAC", 12);
    expect(d, 0, "the cat\xC3\xA9\xE2\x82\xAC the", 16);
    td_detokenizer_free(d);
}

Test(text, invalid_characters)
{
    td_detokenizer *d = td_detokenizer_new(&tokenizer, NULL, NULL, 0);
    expect(d, 8, "\xEF\xBF\xBD", 3);
    expect(d, 2, "\xEF\xBF\xBD", 3);
    expect(d, 9, "\xEF\xBF\xBD\xEF\xBF\xBDx", 7); /* a start byte whose character never came */
    expect(d, 2, "\xEF\xBF\xBD\xEF\xBF\xBDx", 7);
    cr_expect_eq(td_detokenizer_finish(d, NULL), 0);
    cr_expect_str_eq(td_detokenizer_text(d, NULL), "\xEF\xBF\xBD\xEF\xBF\xBDx\xEF\xBF\xBD");
    td_detokenizer_free(d);
}

Test(text, a_stop_string_over_two_tokens_ends_the_text)
{
    static const char *const stops[] = { "STOP", "zzz" };
    td_error                 e = { 0 };
    td_detokenizer          *d = td_detokenizer_new(&tokenizer, NULL, stops, 2);
    expect(d, 0, "the", 3);
    expect(d, 6, "theSTO", 3); /* may be the start of one */
    expect(d, 9, "theSTOx", 7);
    expect(d, 6, "theSTOxSTO", 7);
    cr_expect_eq(td_detokenizer_add(d, 7, &e), TD_EEND);
    cr_expect_str_eq(td_detokenizer_text(d, NULL), "theSTOx");
    td_detokenizer_clear(d);
    expect(d, 1, "cat", 3);
    expect(d, 6, "catSTO", 3);
    cr_expect_eq(td_detokenizer_finish(d, &e), 0);
    cr_expect_str_eq(td_detokenizer_text(d, NULL), "catSTO");
    td_detokenizer_free(d);
}
