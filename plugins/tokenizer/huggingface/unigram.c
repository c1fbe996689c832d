/* unigram.c - the most probable way to cut a text into tokens. Paper: Kudo, ACL 2018.
 *
 *     best(end) = max over tokens that end there of best(end - size) + score
 */
#include <stdlib.h>

#include "vocabulary.h"

/* The best way to the end of a piece of the text. */
struct ending {
    double  score;
    int64_t begin; /* of the last token; -1: there is no way yet */
    int32_t id;
};

static void improve(struct ending *e, double score, size_t begin, int32_t id)
{
    if (e->begin < 0 || score > e->score)
        *e = (struct ending){ score, (int64_t)begin, id };
}

/* All tokens that begin at `at`. A character that is no token is unknown. */
static int extend(const struct vocabulary *v, const char *text, size_t size, size_t at,
                  struct ending *ends, td_error *error)
{
    double  so_far = ends[at].score;
    size_t  one = character_size(text + at);
    bool    single = false;
    int32_t node = 0;
    for (size_t end = at; end < size && (node = trie_next(&v->by_text, node, text[end])) != 0;
         end++) {
        int32_t id = v->by_text.at[node].value;
        if (id < 0)
            continue;
        improve(&ends[end + 1], so_far + v->at[id].score, at, id);
        single = single || end + 1 == at + one;
    }
    /* otherwise nothing might lead on from here */
    if (single)
        return 0;
    if (v->unknown < 0)
        return td_fail(
            error, TD_EFORMAT,
            "cannot encode '%.*s': the tokenizer has no token for it, nor for unknown text",
            (int)one, text + at);
    improve(&ends[at + one], so_far + v->unknown_score, at, v->unknown);
    return 0;
}

/* Where the unknown characters before `end` begin: a run of them is one piece, which is written as
 * bytes or as one id. */
static size_t fused(const struct vocabulary *v, const struct ending *ends, size_t end)
{
    while (end && ends[end].id == v->unknown)
        end = (size_t)ends[end].begin;
    return end;
}

/* The pieces are known from the last to the first: note on the way back where each ends. */
static void turn(const struct vocabulary *v, const struct ending *ends, size_t size, int64_t *next)
{
    for (size_t end = size, begin; end; end = begin) {
        begin = ends[end].id == v->unknown ? fused(v, ends, end) : (size_t)ends[end].begin;
        next[begin] = (int64_t)end;
    }
}

static int add_pieces(const struct vocabulary *v, const char *text, size_t size,
                      const int64_t *next, struct growing *ids, td_error *error)
{
    int code = 0;
    for (size_t at = 0; at < size && !code; at = (size_t)next[at]) {
        size_t  n = (size_t)next[at] - at;
        int32_t id = trie_get(&v->by_text, text + at, n);
        if (id >= 0)
            add_id(ids, id);
        else
            code = add_unknown(v, text + at, n, ids, error);
    }
    return code || !ids->failed ? code
                                : td_fail(error, TD_ENOMEM, "out of memory for a text's ids");
}

int unigram_encode(const struct vocabulary *v, const char *text, size_t size, struct growing *ids,
                   td_error *error)
{
    struct ending *ends = malloc((size + 1) * sizeof *ends);
    int64_t       *next = malloc((size + 1) * sizeof *next);
    int            code = ends && next
                              ? 0
                              : td_fail(error, TD_ENOMEM, "out of memory for a text of %zu bytes", size);
    /* a character's own bytes stay without a way: no token ends within it */
    for (size_t k = 0; !code && k <= size; k++)
        ends[k] = (struct ending){ .begin = k ? -1 : 0, .id = -1 };
    for (size_t at = 0; !code && at < size; at += character_size(text + at))
        code = extend(v, text, size, at, ends, error);
    if (!code) {
        turn(v, ends, size, next);
        code = add_pieces(v, text, size, next, ids, error);
    }
    free(ends);
    free(next);
    return code;
}
