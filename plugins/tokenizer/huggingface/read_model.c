/* read_model.c - the tokens of a tokenizer.json, and how they are merged or weighed. */
#include <math.h>

#include "json.h"
#include "tokenizer.h"

/* Ids need not be dense, but a file must not ask for memory that it does not fill. */
enum { MOST_UNUSED = 65536 };

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for a vocabulary");
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static int make_room(struct vocabulary *v, size_t tokens, td_error *error)
{
    if (tokens > INT32_MAX / 4)
        return td_fail(error, TD_EFORMAT, "there are %zu tokens, which are too many", tokens);
    v->count = tokens + MOST_UNUSED;
    v->at = calloc(v->count, sizeof *v->at);
    return v->at ? 0 : no_memory(error);
}

/* The texts stay those of the JSON. */
static int put_token(struct vocabulary *v, int64_t id, const char *text, size_t size,
                     td_error *error)
{
    if (id < 0 || id >= (int64_t)v->count)
        return td_fail(error, TD_EFORMAT,
                       "token '%.60s' has the id %lld: with so many tokens it must be in 0 .. %zu",
                       text, (long long)id, v->count - 1);
    if (v->at[id].text)
        return td_fail(error, TD_EFORMAT, "tokens '%.60s' and '%.60s' have the same id, %lld",
                       v->at[id].text, text, (long long)id);
    v->at[id].text = (char *)(uintptr_t)text;
    v->at[id].size = size;
    return 0;
}

/* Of the unknown ids at the end. */
static void trim(struct vocabulary *v)
{
    while (v->count && !v->at[v->count - 1].text)
        v->count--;
}

static int find_bytes(struct vocabulary *v, td_error *error)
{
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        v->byte[b] = trie_get(&v->by_text, name, 6);
        if (v->byte[b] < 0)
            return td_fail(error, TD_EFORMAT, "byte_fallback is true, but there is no token '%s'",
                           name);
    }
    return 0;
}

/* Whether bytes are tokens, in either kind of model. */
static int read_bytes(struct vocabulary *v, const json_t *model, td_error *error)
{
    bool falls_back;
    int  code = get_bool(model, "byte_fallback", false, &falls_back, error);
    for (int b = 0; b < 256; b++)
        v->byte[b] = -1;
    return code || !falls_back ? code : find_bytes(v, error);
}

/* ---- bpe ------------------------------------------------------------------------------------- */

static int read_ids(struct vocabulary *v, const json_t *vocab, td_error *error)
{
    json_t *object = (json_t *)(uintptr_t)vocab; /* iterators of jansson are not const */
    int     code = 0;
    for (void *at = json_object_iter(object); !code && at; at = json_object_iter_next(object, at)) {
        const json_t *id = json_object_iter_value(at);
        const char   *text = json_object_iter_key(at);
        size_t        size = json_object_iter_key_len(at);
        if (!json_is_integer(id))
            return td_fail(error, TD_EFORMAT, "the id of token '%.60s' is not an integer", text);
        code = put_token(v, json_integer_value(id), text, size, error);
        if (!code)
            trie_put(&v->by_text, text, size, (int32_t)json_integer_value(id));
    }
    return code || !v->by_text.failed ? code : no_memory(error);
}

/* "a b" or ["a", "b"] */
static bool parts_of(const json_t *j, const char *out[2], size_t size[2])
{
    const json_t *left = json_array_get(j, 0), *right = json_array_get(j, 1);
    const char   *text = json_string_value(j), *gap = text ? strchr(text, ' ') : NULL;
    if (gap && !strchr(gap + 1, ' ')) {
        out[0] = text;
        size[0] = (size_t)(gap - text);
        out[1] = gap + 1;
        size[1] = json_string_length(j) - size[0] - 1;
        return true;
    }
    out[0] = json_string_value(left);
    out[1] = json_string_value(right);
    size[0] = json_string_length(left);
    size[1] = json_string_length(right);
    return json_array_size(j) == 2 && out[0] && out[1];
}

static int read_merge(struct vocabulary *v, const json_t *j, size_t rank, struct growing *joined,
                      td_error *error)
{
    const char *part[2];
    size_t      size[2];
    int32_t     left, right, id;
    if (!parts_of(j, part, size))
        return td_fail(error, TD_EFORMAT, "merge %zu is not a pair of texts", rank);
    left = trie_get(&v->by_text, part[0], size[0]);
    right = trie_get(&v->by_text, part[1], size[1]);
    /* the result is known by its text alone */
    joined->size = 0;
    grow_append(joined, part[0], size[0]);
    grow_append(joined, part[1], size[1]);
    id = joined->failed ? -1 : trie_get(&v->by_text, joined->data, joined->size);
    if (joined->failed)
        return no_memory(error);
    if (left < 0 || right < 0 || id < 0)
        return td_fail(error, TD_EFORMAT,
                       "merge %zu, '%.*s' and '%.*s', involves texts that are not tokens", rank,
                       (int)(size[0] < 60 ? size[0] : 60), part[0],
                       (int)(size[1] < 60 ? size[1] : 60), part[1]);
    v->merges[rank] = (struct merge){ (uint64_t)(uint32_t)left << 32 | (uint32_t)right,
                                      (int32_t)rank, id };
    return 0;
}

/* By pair; of equal pairs the last in the file comes first. */
static int compare_merges(const void *x, const void *y)
{
    const struct merge *a = x, *b = y;
    return a->pair != b->pair  ? (a->pair < b->pair ? -1 : 1)
           : a->rank > b->rank ? -1
                               : a->rank < b->rank;
}

static int read_merges(struct vocabulary *v, const json_t *list, td_error *error)
{
    struct growing joined = { 0 };
    size_t         n = json_array_size(list);
    int            code = json_is_array(list) && n < INT32_MAX
                              ? 0
                              : td_fail(error, TD_EFORMAT, "'merges' is not a list of pairs");
    if (!code && !(v->merges = calloc(n + 1, sizeof *v->merges)))
        code = no_memory(error);
    for (size_t k = 0; k < n && !code; k++)
        code = read_merge(v, json_array_get(list, k), k, &joined, error);
    free(joined.data);
    if (code)
        return code;
    /* counted once all of them can be sorted */
    v->n_merges = n;
    qsort(v->merges, n, sizeof *v->merges, compare_merges);
    return 0;
}

/* What would change the result, and is hardly used. */
static int check_bpe(const json_t *model, td_error *error)
{
    static const char *const absent[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    const json_t            *dropout = json_object_get(model, "dropout"), *text;
    int                      code =
        check_keys(model, "the model 'BPE'",
                   "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
                   "byte_fallback ignore_merges vocab merges",
                   error);
    if (!code && json_number_value(dropout) != 0)
        code = td_fail(error, TD_EUNSUPPORTED, "'dropout' is %g: it can only be 0",
                       json_number_value(dropout));
    for (int k = 0; k < 2 && !code; k++) {
        code = get_text(model, absent[k], &text, error);
        if (!code && text && json_string_length(text))
            code = td_fail(error, TD_EUNSUPPORTED, "'%s' is '%.60s': it can only be empty",
                           absent[k], json_string_value(text));
    }
    return code;
}

static int read_unknown(struct vocabulary *v, const json_t *model, td_error *error)
{
    const json_t *text;
    int           code = get_text(model, "unk_token", &text, error);
    if (code || !text)
        return code;
    v->unknown = trie_get(&v->by_text, json_string_value(text), json_string_length(text));
    return v->unknown >= 0 ? 0
                           : td_fail(error, TD_EFORMAT, "unk_token, '%.60s', is not a token",
                                     json_string_value(text));
}

static int read_bpe(struct vocabulary *v, const json_t *model, size_t added, td_error *error)
{
    const json_t *vocab = json_object_get(model, "vocab");
    int           code = check_bpe(model, error);
    if (!code && !json_is_object(vocab))
        code = td_fail(error, TD_EFORMAT, "'vocab' is not an object of ids");
    if (!code)
        code = make_room(v, json_object_size(vocab) + added, error);
    if (!code)
        code = read_ids(v, vocab, error);
    if (!code)
        code = read_merges(v, json_object_get(model, "merges"), error);
    if (!code)
        code = read_unknown(v, model, error);
    if (!code)
        code = get_bool(model, "fuse_unk", false, &v->fuses_unknown, error);
    if (!code)
        code = get_bool(model, "ignore_merges", false, &v->takes_words, error);
    return code;
}

/* ---- unigram --------------------------------------------------------------------------------- */

static int read_score(struct vocabulary *v, const json_t *entry, size_t id, td_error *error)
{
    const json_t *text = json_array_get(entry, 0), *score = json_array_get(entry, 1);
    size_t        size = json_string_length(text);
    int           code;
    if (json_array_size(entry) != 2 || !json_is_string(text) || !json_is_number(score))
        return td_fail(error, TD_EFORMAT, "entry %zu of 'vocab' is not a text and its score", id);
    code = put_token(v, (int64_t)id, json_string_value(text), size, error);
    if (code)
        return code;
    v->at[id].score = json_number_value(score);
    trie_put(&v->by_text, json_string_value(text), size, (int32_t)id);
    return v->by_text.failed ? no_memory(error) : 0;
}

/* A character that is no token costs 10 more than the worst token. */
static void score_unknown(struct vocabulary *v, size_t tokens)
{
    v->unknown_score = INFINITY;
    for (size_t k = 0; k < tokens; k++)
        v->unknown_score = fmin(v->unknown_score, v->at[k].score);
    v->unknown_score -= 10;
}

static int read_unigram(struct vocabulary *v, const json_t *model, size_t added, td_error *error)
{
    const json_t *vocab = json_object_get(model, "vocab");
    size_t        n = json_array_size(vocab), unknown;
    int code = check_keys(model, "the model 'Unigram'", "type unk_id vocab byte_fallback", error);
    v->unigram = true;
    if (!code && !json_is_array(vocab))
        code = td_fail(error, TD_EFORMAT, "'vocab' is not a list of tokens with scores");
    if (!code)
        code = make_room(v, n + added, error);
    for (size_t k = 0; k < n && !code; k++)
        code = read_score(v, json_array_get(vocab, k), k, error);
    if (!code)
        code = get_count(model, "unk_id", SIZE_MAX, &unknown, error);
    /* without it, texts with other characters are refused */
    if (code || unknown == SIZE_MAX)
        return code;
    if (unknown >= n)
        return td_fail(error, TD_EFORMAT, "unk_id is %zu, but there are %zu tokens", unknown, n);
    v->unknown = (int32_t)unknown;
    score_unknown(v, n);
    return 0;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

/* Where the token takes more than its text, or less; special ones are found only if asked for. */
static int check_added(const struct tokenizer *x, const json_t *j, bool special, td_error *error)
{
    static const char *const odd[] = { "single_word", "lstrip", "rstrip" };
    bool                     set = false;
    int                      code = check_keys(j, "an added token",
                                               "id content single_word lstrip rstrip normalized special", error);
    for (int k = 0; k < 3 && !code; k++) {
        code = get_bool(j, odd[k], false, &set, error);
        if (!code && set && (!special || x->parses_special))
            code = td_fail(error, TD_EUNSUPPORTED,
                           "the added token '%.60s' has \"%s\": true, which cannot be read",
                           json_string_value(json_object_get(j, "content")), odd[k]);
    }
    return code;
}

static int put_added(struct tokenizer *x, const char *text, size_t size, int64_t id,
                     td_error *error)
{
    int32_t known = trie_get(&x->vocabulary.by_text, text, size);
    if (known < 0)
        return put_token(&x->vocabulary, id, text, size, error);
    return known == id
               ? 0
               : td_fail(error, TD_EFORMAT,
                         "the added token '%.60s' has the id %lld, but in the vocabulary it is %d",
                         text, (long long)id, (int)known);
}

static int read_added(struct tokenizer *x, const json_t *j, td_error *error)
{
    const json_t *content, *id = json_object_get(j, "id");
    struct pieces text = { 0 };
    bool          special, normalized;
    int           code = get_text(j, "content", &content, error);
    if (!code && (!content || !json_string_length(content) || !json_is_integer(id)))
        code = td_fail(error, TD_EFORMAT, "an added token has no content, or no id");
    if (!code)
        code = get_bool(j, "special", false, &special, error);
    if (!code)
        code = check_added(x, j, special, error);
    if (!code)
        code = get_bool(j, "normalized", true, &normalized, error);
    if (!code)
        code = put_added(x, json_string_value(content), json_string_length(content),
                         json_integer_value(id), error);
    if (code)
        return code;
    /* where it is looked for after the normalizers, its own text has to be what they make of it */
    x->vocabulary.at[json_integer_value(id)].special = special;
    grow_append(&text.text, json_string_value(content), json_string_length(content));
    pieces_add(&text, 0, text.text.size, true, -1);
    code = normalized ? tokenizer_normalize(x, &text, error) : 0;
    if (!code)
        trie_put(normalized ? &x->after : &x->before, text.text.data, text.text.size,
                 (int32_t)json_integer_value(id));
    pieces_free(&text);
    return code || !(x->before.failed || x->after.failed) ? code : no_memory(error);
}

/* ---- the model ------------------------------------------------------------------------------- */

int read_model(struct tokenizer *x, const json_t *model, const json_t *added, td_error *error)
{
    struct vocabulary *v = &x->vocabulary;
    const char        *type = type_of(model);
    size_t             n = json_array_size(added);
    int                code;
    v->unknown = -1;
    /* the oldest files do not say what they are */
    if (!strcmp(type, "BPE") || (!*type && json_object_get(model, "merges")))
        code = read_bpe(v, model, n, error);
    else if (!strcmp(type, "Unigram"))
        code = read_unigram(v, model, n, error);
    else
        return td_fail(error, TD_EUNSUPPORTED,
                       "the model '%.60s' cannot be read; these can: BPE, Unigram", type);
    if (!code)
        code = read_bytes(v, model, error);
    for (size_t k = 0; k < n && !code; k++)
        code = read_added(x, json_array_get(added, k), error);
    if (!code)
        trim(v);
    return code || v->count ? code : td_fail(error, TD_EFORMAT, "there are no tokens");
}
