/* bytes.c - tokenizer 'bytes': every byte goes there and back; foreign ids are errors. */
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
