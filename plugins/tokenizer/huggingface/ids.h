/* ids.h - ids that grow, and characters of UTF-8. */
#ifndef TD_TOKENIZER_HUGGINGFACE_IDS_H
#define TD_TOKENIZER_HUGGINGFACE_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../growing.h"

/* Ids in growing memory, as int32_t. */
static inline void add_id(struct growing *ids, int32_t id)
{
    grow_append(ids, (const char *)&id, sizeof id);
}

/* Bytes of the character at `text`, which is never cut off: texts are checked first of all. */
static inline size_t character_size(const char *text)
{
    unsigned char c = (unsigned char)*text;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

#endif
