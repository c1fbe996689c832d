/* trie.c - byte strings with a number each. */
#include "trie.h"

#include <stdlib.h>

/* Make a node; 0: out of memory, or there are as many as a node can refer to. */
static int32_t add_node(struct trie *t, uint8_t byte)
{
    size_t            room = t->room ? 2 * t->room : 1024;
    struct trie_node *larger;
    if (t->count == t->room) {
        larger = room < INT32_MAX / 2 ? realloc(t->at, room * sizeof *t->at) : NULL;
        t->failed = t->failed || !larger;
        if (!larger)
            return 0;
        t->at = larger;
        t->room = room;
    }
    t->at[t->count] = (struct trie_node){ .value = -1, .byte = byte };
    return (int32_t)t->count++;
}

int32_t trie_next(const struct trie *t, int32_t node, char byte)
{
    int32_t child = t->count ? t->at[node].child : 0;
    while (child && t->at[child].byte != (uint8_t)byte)
        child = t->at[child].sibling;
    return child;
}

void trie_put(struct trie *t, const char *text, size_t size, int32_t value)
{
    int32_t node = 0;
    if (!t->count)
        add_node(t, 0);
    for (size_t k = 0; k < size && !t->failed; k++) {
        int32_t next = trie_next(t, node, text[k]);
        if (!next && (next = add_node(t, (uint8_t)text[k])) != 0) {
            t->at[next].sibling = t->at[node].child;
            t->at[node].child = next;
        }
        node = next;
    }
    if (!t->failed && size)
        t->at[node].value = value;
}

void trie_free(struct trie *t)
{
    free(t->at);
    *t = (struct trie){ 0 };
}

int32_t trie_get(const struct trie *t, const char *text, size_t size)
{
    int32_t node = 0;
    for (size_t k = 0; k < size; k++)
        if ((node = trie_next(t, node, text[k])) == 0)
            return -1;
    return size ? t->at[node].value : -1;
}

int32_t trie_longest(const struct trie *t, const char *text, size_t size, size_t *length)
{
    int32_t node = 0, value = -1;
    for (size_t k = 0; k < size; k++) {
        node = trie_next(t, node, text[k]);
        if (!node)
            break;
        if (t->at[node].value >= 0) {
            value = t->at[node].value;
            *length = k + 1;
        }
    }
    return value;
}
