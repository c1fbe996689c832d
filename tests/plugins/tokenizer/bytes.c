/* bytes.c - tokenizer 'bytes': every byte survives the round trip; ids outside the vocabulary are
 * errors. */
#include "module.h"

#include "tandem/kind/tokenizer.h"

Test(bytes, round_trip)
{
    const td_tokenizer *t = module_plugin("tokenizer-bytes.so");
    char                text[256], back[256];
    int32_t             ids[256];
    for (int i = 0; i < 256; i++)
        text[i] = (char)i;
    cr_assert_eq(t->encode(NULL, text, 256, ids, 256, NULL), 256);
    cr_assert(ids[0] == 3 && ids[255] == 258);
    cr_assert_eq(t->decode(NULL, ids, 256, back, 256, NULL), 256);
    cr_assert_eq(memcmp(text, back, 256), 0);
}

Test(bytes, little_room_and_foreign_ids)
{
    const td_tokenizer *t = module_plugin("tokenizer-bytes.so");
    int32_t             ids[] = { 1, 'a' + 3, 0, 259 }, one[2] = { -7, -7 };
    char                text[2] = "??";
    td_error            error = { 0 };
    cr_assert_eq(t->encode(NULL, "xyz", 3, one, 1, NULL), 3);
    cr_assert(one[0] == 'x' + 3 && one[1] == -7);
    cr_assert_eq(t->decode(NULL, ids, 3, text, 2, NULL), 1);
    cr_assert(text[0] == 'a' && text[1] == '?');
    cr_assert_eq(t->decode(NULL, ids, 4, text, 2, &error), TD_EFORMAT);
}

/* Sentinels, then modes, come after the bytes; they have no text. Without options they do not
 * exist. */
Test(bytes, marks)
{
    const td_tokenizer *t = module_plugin("tokenizer-bytes.so");
    struct {
        int64_t sentinels;
        bool    modes;
    } none = { 0, false }, some = { 5, true };
    td_special s = { .mode = { -1, -1, -1 } };
    int32_t    ids[] = { 'a' + 3, 259, 266, 'b' + 3, 267 };
    char       text[2];
    td_error   error = { 0 };
    void      *state;
    cr_assert_eq(t->open(&none, NULL, &state, &error), 0);
    t->special(state, &s);
    cr_assert(s.vocab_size == 259 && s.sentinels == 0 && s.mode[0] == -1 && s.mode[2] == -1);
    cr_assert_eq(t->open(&some, NULL, &state, &error), 0);
    t->special(state, &s);
    cr_assert(s.vocab_size == 267 && s.sentinels == 5 && s.sentinel == 259 && s.sentinel_step == 1);
    cr_assert(s.mode[0] == 264 && s.mode[1] == 265 && s.mode[2] == 266);
    cr_assert_eq(t->decode(state, ids, 4, text, 2, &error), 2);
    cr_assert(text[0] == 'a' && text[1] == 'b');
    cr_assert_eq(t->decode(state, ids, 5, text, 2, &error), TD_EFORMAT);
}
