/* bpe.c - byte-pair encoding: a word's characters are merged in pairs, the pair of the lowest rank
 * first and, among equals, the leftmost. Paper: Sennrich et al., ACL 2016.
 *
 * Possible merges are in a heap, and symbols in a linked list: a text without spaces is one word,
 * of any length. */
#include <stdlib.h>

#include "vocabulary.h"

struct symbol {
    int32_t id;
    int32_t before, after; /* -1: none */
    bool    gone;          /* merged into the one before it */
};

struct candidate {
    int32_t rank, at; /* `at`: the left symbol */
    int32_t id;       /* of the result */
};

struct word {
    const struct vocabulary *v;
    struct symbol           *at; /* [count] */
    int32_t                  count;
    struct candidate        *heap; /* [heap_count] */
    size_t                   heap_count;
};

int add_unknown(const struct vocabulary *v, const char *text, size_t size, struct growing *ids,
                td_error *error)
{
    if (v->byte[0] < 0 && v->unknown < 0)
        return td_fail(error, TD_EFORMAT,
                       "cannot encode '%.*s': the tokenizer has no token for it, for bytes, or for "
                       "unknown text",
                       (int)(size < 40 ? size : 40), text);
    if (v->byte[0] < 0)
        add_id(ids, v->unknown);
    for (size_t k = 0; v->byte[0] >= 0 && k < size; k++)
        add_id(ids, v->byte[(unsigned char)text[k]]);
    return 0;
}

/* ---- merges ---------------------------------------------------------------------------------- */

static const struct merge *find_merge(const struct vocabulary *v, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t   low = 0, high = v->n_merges;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (v->merges[middle].pair < pair)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->n_merges && v->merges[low].pair == pair ? &v->merges[low] : NULL;
}

static bool is_before(const struct candidate *a, const struct candidate *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->at < b->at);
}

static void push(struct word *w, struct candidate c)
{
    size_t k = w->heap_count++;
    for (; k && is_before(&c, &w->heap[(k - 1) / 2]); k = (k - 1) / 2)
        w->heap[k] = w->heap[(k - 1) / 2];
    w->heap[k] = c;
}

static struct candidate pop(struct word *w)
{
    struct candidate top = w->heap[0], last = w->heap[--w->heap_count];
    size_t           k = 0, child;
    for (; (child = 2 * k + 1) < w->heap_count; k = child) {
        if (child + 1 < w->heap_count && is_before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!is_before(&w->heap[child], &last))
            break;
        w->heap[k] = w->heap[child];
    }
    w->heap[k] = last;
    return top;
}

/* The merge of the symbol at `at` with the next one, if there is such a merge. */
static void consider(struct word *w, int32_t at)
{
    int32_t             after = at < 0 ? -1 : w->at[at].after;
    const struct merge *m = after < 0 ? NULL : find_merge(w->v, w->at[at].id, w->at[after].id);
    if (m)
        push(w, (struct candidate){ m->rank, at, m->id });
}

/* Merge, unless one of the two has been merged with another since this was considered. */
static void apply(struct word *w, struct candidate c)
{
    struct symbol      *left = &w->at[c.at], *right;
    const struct merge *m;
    if (left->gone || left->after < 0)
        return;
    right = &w->at[left->after];
    m = find_merge(w->v, left->id, right->id);
    if (!m || m->id != c.id)
        return;
    /* candidates that name the right one are dropped when they are popped */
    left->id = c.id;
    right->gone = true;
    left->after = right->after;
    if (left->after >= 0)
        w->at[left->after].before = c.at;
    consider(w, left->before);
    consider(w, c.at);
}

/* Each of n symbols is merged at most once, after which two merges are considered. */
static int merge_all(struct word *w, td_error *error)
{
    w->heap = malloc((3 * (size_t)w->count + 1) * sizeof *w->heap);
    if (!w->heap)
        return td_fail(error, TD_ENOMEM, "out of memory for a word of %d characters",
                       (int)w->count);
    for (int32_t k = 0; k < w->count; k++)
        consider(w, k);
    while (w->heap_count)
        apply(w, pop(w));
    free(w->heap);
    return 0;
}

/* ---- a word ---------------------------------------------------------------------------------- */

/* The ids of the characters; of several unknown ones in a row only the first counts, if they fuse.
 */
static int add_characters(const struct vocabulary *v, const char *text, size_t size,
                          struct growing *ids, td_error *error)
{
    bool was_unknown = false;
    int  code = 0;
    for (size_t k = 0, n; k < size && !code; k += n) {
        int32_t id;
        n = character_size(text + k);
        id = trie_get(&v->by_text, text + k, n);
        if (id >= 0)
            add_id(ids, id);
        else if (!was_unknown || !v->fuses_unknown || v->byte[0] >= 0)
            code = add_unknown(v, text + k, n, ids, error);
        was_unknown = id < 0;
    }
    return code || !ids->failed ? code
                                : td_fail(error, TD_ENOMEM, "out of memory for a text's ids");
}

static int encode_word(const struct vocabulary *v, const int32_t *ids, size_t n,
                       struct growing *out, td_error *error)
{
    struct word w = { .v = v, .count = (int32_t)n, .at = malloc(n * sizeof *w.at) };
    int         code;
    if (!w.at)
        return td_fail(error, TD_ENOMEM, "out of memory for a word of %zu characters", n);
    for (int32_t k = 0; k < w.count; k++)
        w.at[k] = (struct symbol){ ids[k], k - 1, k + 1 < w.count ? k + 1 : -1, false };
    code = merge_all(&w, error);
    for (int32_t k = 0; !code && k >= 0; k = w.at[k].after)
        add_id(out, w.at[k].id);
    free(w.at);
    return code;
}

int bpe_encode(const struct vocabulary *v, const char *text, size_t size, struct growing *ids,
               td_error *error)
{
    struct growing found = { 0 };
    int32_t        id = v->takes_words ? trie_get(&v->by_text, text, size) : -1;
    int            code;
    if (id >= 0) {
        add_id(ids, id);
        return 0;
    }
    /* symbols are numbered by 32 bits, and the heap has three times as many */
    code = add_characters(v, text, size, &found, error);
    if (!code && found.size / sizeof(int32_t) > INT32_MAX / 4)
        code = td_fail(error, TD_EFORMAT, "cannot encode a word of %zu bytes", size);
    if (!code && found.size)
        code = encode_word(v, (const int32_t *)(void *)found.data, found.size / sizeof(int32_t),
                           ids, error);
    free(found.data);
    return code;
}
