/* trie.h - byte strings with a number each, found as a whole or as the beginning of a text. */
#ifndef TD_TOKENIZER_HUGGINGFACE_TRIE_H
#define TD_TOKENIZER_HUGGINGFACE_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Children of a node are a list, which has at most 256: no choice of strings makes a search slow.
 */
struct trie_node {
    int32_t child, sibling; /* 0: none */
    int32_t value;          /* -1: no string ends here */
    uint8_t byte;
};

/* Zero-initialize it. */
struct trie {
    struct trie_node *at; /* [count]; 0 is the root */
    size_t            count, room;
    bool              failed; /* out of memory */
};

/* A string that is in the trie already gets the new value. An empty one is never found. */
void trie_put(struct trie *, const char *text, size_t size, int32_t value);
void trie_free(struct trie *);

/* -1: not there. */
int32_t trie_get(const struct trie *, const char *text, size_t size);

/* The node that `byte` leads to; 0: none. Begin at 0. */
int32_t trie_next(const struct trie *, int32_t node, char byte);

/* The longest string that the text begins with: its value and size, or -1. */
int32_t trie_longest(const struct trie *, const char *text, size_t size, size_t *length);

#endif
