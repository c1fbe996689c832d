/* gguf_vocabulary.c - a tokenizer.json as the keys of a GGUF file, or why llama.cpp would get other
 * ids.
 *
 * llama.cpp knows two kinds of BPE. Its "gpt2" merges bytes by a list of merges, within words that
 * are split by a named pattern. Its "llama" is SentencePiece's: two neighbours whose text is a
 * token are merged, the token with the highest score first. */
#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "convert/vocabulary.h"

/* A tokenizer that is being written. */
typedef struct work {
    const json_t           *json, *model, *merges;
    td_vocabulary           vocabulary;
    td_map                 *merged;   /* "a b", of all merges */
    int64_t                 unknown;  /* -1: no token */
    bool                    prefix;   /* a space is put before texts */
    const td_gguf_splitter *splitter; /* NULL: it is SentencePiece's kind */
} work;

static int refuse(td_error *error, const char *why)
{
    return td_fail(error, TD_EUNSUPPORTED, "%s", why);
}

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while writing a tokenizer");
}

static const char *text_in(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

static bool true_in(const json_t *j, const char *key)
{
    return json_is_true(json_object_get(j, key));
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* llama.cpp needs a token for each id that the model has. */
static int name_rest(td_vocabulary *v, td_error *error)
{
    int code = 0;
    for (int64_t id = 0; !code && id < v->count; id++) {
        char name[TD_PADDING_NAME];
        td_padding_name(id, name);
        if (!v->at[id].type)
            code = td_vocabulary_put(v, id, name, strlen(name), TD_TOKEN_UNUSED, error);
    }
    return code;
}

static int put_token(td_vocabulary *v, const json_t *id, const char *text, size_t size, int type,
                     td_error *error)
{
    int64_t n = json_is_integer(id) ? json_integer_value(id) : -1;
    if (n < 0 || n >= v->count)
        return td_fail(error, TD_EUNSUPPORTED,
                       "its token '%.60s' has the id %lld, but the model has %lld ids", text,
                       (long long)n, (long long)v->count);
    return td_vocabulary_put(v, n, text, size, type, error);
}

/* A symbol must be found wherever it stands, without the space around it. */
static int check_symbol(const json_t *added, td_error *error)
{
    if (true_in(added, "single_word") || true_in(added, "lstrip") || true_in(added, "rstrip"))
        return td_fail(error, TD_EUNSUPPORTED,
                       "its added token '%.60s' has single_word, lstrip or rstrip",
                       text_in(added, "content"));
    return 0;
}

/* Added tokens may be in the vocabulary, too. */
static int put_added(td_vocabulary *v, const json_t *added, td_error *error)
{
    const json_t *content = json_object_get(added, "content");
    int           type = true_in(added, "special") ? TD_TOKEN_CONTROL : TD_TOKEN_SYMBOL;
    int           code = type == TD_TOKEN_SYMBOL ? check_symbol(added, error) : 0;
    td_token     *there;
    if (code || !json_is_string(content))
        return code ? code : refuse(error, "it has an added token without content");
    there = td_vocabulary_find(v, json_string_value(content), json_string_length(content));
    if (!there)
        return put_token(v, json_object_get(added, "id"), json_string_value(content),
                         json_string_length(content), type, error);
    there->type = type;
    return 0;
}

static bool is_byte_name(const char *text, size_t size)
{
    return size == 6 && !strncmp(text, "<0x", 3) && isxdigit((unsigned char)text[3]) &&
           isxdigit((unsigned char)text[4]) && text[5] == '>';
}

static int put_tokens(work *w, int64_t ids, td_error *error)
{
    json_t *vocab = json_object_get(w->model, "vocab");
    json_t *added = json_object_get(w->json, "added_tokens"), *one;
    bool    bytes = true_in(w->model, "byte_fallback");
    size_t  k;
    int     code = td_vocabulary_new(&w->vocabulary, ids, error);
    for (void *at = json_object_iter(vocab); !code && at; at = json_object_iter_next(vocab, at)) {
        const char *text = json_object_iter_key(at);
        size_t      size = json_object_iter_key_len(at);
        code = put_token(&w->vocabulary, json_object_iter_value(at), text, size,
                         bytes && is_byte_name(text, size) ? TD_TOKEN_BYTE : TD_TOKEN_NORMAL,
                         error);
    }
    json_array_foreach(added, k, one)
    {
        if (!code)
            code = put_added(&w->vocabulary, one, error);
    }
    return code ? code : name_rest(&w->vocabulary, error);
}

/* llama.cpp looks for the longest symbol first, other libraries for the leftmost: if the end of one
 * can be the beginning of another, they can differ. */
static bool overlap(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    for (size_t k = 1; k < n && k < m; k++)
        if (!memcmp(a + n - k, b, k))
            return true;
    return false;
}

/* More than any tokenizer has; each is compared with each. */
enum { MOST_SYMBOLS = 4096 };

static int check_pairs(const td_token *const *symbols, size_t n, td_error *error)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            if (k != i && overlap(symbols[i]->text, symbols[k]->text))
                return td_fail(error, TD_EUNSUPPORTED,
                               "its added tokens '%.60s' and '%.60s' can overlap", symbols[i]->text,
                               symbols[k]->text);
    return 0;
}

/* Added tokens are taken out of a text first. Where llama.cpp does that differently, and a
 * tokenizer's ids would depend on it, the tokenizer is refused. */
static int check_symbols(const work *w, td_error *error)
{
    const td_vocabulary *v = &w->vocabulary;
    const td_token     **symbols = calloc(MOST_SYMBOLS, sizeof *symbols);
    size_t               n = 0;
    int                  code = symbols ? 0 : no_memory(error);
    for (int64_t i = 0; !code && i < v->count; i++) {
        if (v->at[i].type != TD_TOKEN_SYMBOL)
            continue;
        /* programs differ in whether what follows a symbol gets the space as well */
        if (w->prefix)
            code = td_fail(error, TD_EUNSUPPORTED,
                           "it puts a space before texts, and has the added token '%.60s'",
                           v->at[i].text);
        else if (n == MOST_SYMBOLS)
            code = td_fail(error, TD_EUNSUPPORTED, "it has more than %d symbols", MOST_SYMBOLS);
        else
            symbols[n++] = &v->at[i];
    }
    if (!code)
        code = check_pairs(symbols, n, error);
    free(symbols);
    return code;
}

static int find_unknown(work *w, td_error *error)
{
    const char *name = text_in(w->model, "unk_token");
    td_token   *t = *name ? td_vocabulary_find(&w->vocabulary, name, strlen(name)) : NULL;
    w->unknown = t ? t - w->vocabulary.at : -1;
    if (*name && !t)
        return td_fail(error, TD_EUNSUPPORTED, "its unk_token '%.60s' is not a token", name);
    if (t)
        t->type = TD_TOKEN_UNKNOWN;
    return 0;
}

/* ---- merges ---------------------------------------------------------------------------------- */

/* "a b" of merge k, in the arena; older files store that text, newer ones a pair. */
static const char *merge_text(const work *w, size_t k)
{
    const json_t *j = json_array_get(w->merges, k);
    const char   *left = json_string_value(json_array_get(j, 0)),
               *right = json_string_value(json_array_get(j, 1));
    if (json_is_string(j))
        return json_string_value(j);
    return left && right ? td_arena_print(w->vocabulary.arena, "%s %s", left, right) : NULL;
}

/* Tokens of byte-level and SentencePiece models have no spaces, so the first space is between the
 * parts. */
static int read_merges(work *w, td_error *error)
{
    w->merged = td_map_new();
    if (!w->merged)
        return no_memory(error);
    for (size_t k = 0; k < json_array_size(w->merges); k++) {
        const char *text = merge_text(w, k), *gap = text ? strchr(text, ' ') : NULL;
        if (!gap || gap == text || !gap[1] || strchr(gap + 1, ' '))
            return td_fail(error, TD_EUNSUPPORTED, "its merge %zu is not a pair without spaces", k);
        if (td_map_set(w->merged, text, w))
            return no_memory(error);
    }
    return 0;
}

/* The token that a merge makes gets a score by its place: the first merge has the highest. */
static int score_merges(work *w, td_error *error)
{
    td_token *last = NULL;
    for (size_t k = 0; k < td_map_count(w->merged); k++) {
        const char *text = td_map_key(w->merged, k), *gap = strchr(text, ' ');
        char       *joined = td_arena_print(w->vocabulary.arena, "%.*s%s", (int)(gap - text), text,
                                            gap + 1);
        td_token   *t = joined ? td_map_get(w->vocabulary.by_text, joined) : NULL;
        if (!joined)
            return no_memory(error);
        if (!t || t->type != TD_TOKEN_NORMAL)
            return td_fail(error, TD_EUNSUPPORTED, "its merge '%.60s' does not make a token", text);
        if (t != last && t->score < 0)
            return td_fail(error, TD_EUNSUPPORTED,
                           "its merges that make '%.60s' are not consecutive", t->text);
        if (t != last)
            t->score = -(float)(k + 1);
        last = t;
    }
    return 0;
}

/* What can be one symbol while a text is merged. */
static bool is_part(const td_vocabulary *v, const char *text, size_t size)
{
    return size == td_character_size(text) || td_vocabulary_find(v, text, size);
}

/* Two parts that llama.cpp would merge to the token, because they spell it, though no merge
 * of the tokenizer does. */
static int check_token(const work *w, const td_token *t, td_error *error)
{
    size_t size = strlen(t->text), n = td_character_size(t->text);
    if (t->type != TD_TOKEN_NORMAL && n == size)
        return td_fail(error, TD_EUNSUPPORTED, "ordinary text can contain its token '%.60s'",
                       t->text);
    for (size_t at = n; at < size; at += td_character_size(t->text + at)) {
        char *pair;
        if (!is_part(&w->vocabulary, t->text, at) ||
            !is_part(&w->vocabulary, t->text + at, size - at))
            continue;
        pair = td_arena_print(w->vocabulary.arena, "%.*s %s", (int)at, t->text, t->text + at);
        if (!pair)
            return no_memory(error);
        if (t->type != TD_TOKEN_NORMAL || !td_map_get(w->merged, pair))
            return td_fail(error, TD_EUNSUPPORTED,
                           "llama.cpp would merge '%.60s' into a token, which no merge here does",
                           pair);
    }
    return 0;
}

static int check_pieces(work *w, td_error *error)
{
    td_vocabulary *v = &w->vocabulary;
    int            code = score_merges(w, error);
    if (!code && !td_vocabulary_has_bytes(v, false))
        code = refuse(error, "it has no tokens for all bytes (byte_fallback)");
    for (int64_t id = 0; !code && id < v->count; id++)
        if (v->at[id].type != TD_TOKEN_SYMBOL)
            code = check_token(w, &v->at[id], error);
    return code;
}

/* ---- byte-level ------------------------------------------------------------------------------ */

/* GPT-2's pattern, and those in the tokenizer.json of Llama 3 and Qwen 2. */
static const td_gguf_splitter splitters[] = {
    { "gpt-2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
      false },
    { "llama-bpe",
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      true },
    { "qwen2",
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      false },
};

const td_gguf_splitter *td_gguf_splitter_at(size_t k)
{
    return k < sizeof splitters / sizeof *splitters ? &splitters[k] : NULL;
}

/* The pattern that splits texts into words; "": they are not split; NULL: in another way. */
static const char *pattern_of(const json_t *j)
{
    const json_t *list = json_object_get(j, "pretokenizers"), *cut = json_array_get(list, 0);
    const json_t *level = list ? json_array_get(list, 1) : j;
    if (strcmp(text_in(level, "type"), "ByteLevel") ||
        !json_is_false(json_object_get(level, "add_prefix_space")))
        return NULL;
    if (!list)
        return json_is_false(json_object_get(level, "use_regex")) ? "" : splitters[0].regex;
    if (json_array_size(list) != 2 || strcmp(text_in(cut, "type"), "Split") ||
        strcmp(text_in(cut, "behavior"), "Isolated") || true_in(cut, "invert") ||
        !json_is_false(json_object_get(level, "use_regex")))
        return NULL;
    return json_string_value(json_object_get(json_object_get(cut, "pattern"), "Regex"));
}

static int find_splitter(work *w, td_error *error)
{
    const char *pattern = pattern_of(json_object_get(w->json, "pre_tokenizer"));
    bool        at_once = true_in(w->model, "ignore_merges");
    bool        merges = json_array_size(w->merges) > 0;
    for (size_t k = 0; pattern && k < sizeof splitters / sizeof *splitters; k++)
        if (splitters[k].at_once == at_once &&
            (!strcmp(splitters[k].regex, pattern) || (!merges && !at_once))) {
            w->splitter = &splitters[k];
            return 0;
        }
    return refuse(error, "it splits words in a way that has no name in GGUF");
}

/* With `at_once` a word that is a token is taken whole, so no control token may be a word. None is
 * that has a letter followed by punctuation or a digit. */
static bool is_cut(const char *text)
{
    for (; *text; text++)
        if (isalpha((unsigned char)*text) &&
            (ispunct((unsigned char)text[1]) || isdigit((unsigned char)text[1])))
            return true;
    return false;
}

static int check_bytes(const work *w, td_error *error)
{
    const td_vocabulary *v = &w->vocabulary;
    const json_t        *normalizer = json_object_get(w->json, "normalizer");
    if (normalizer && !json_is_null(normalizer))
        return refuse(error, "it normalizes texts, which llama.cpp does not");
    if (!td_vocabulary_has_bytes(v, true))
        return refuse(error, "it has no tokens for all bytes");
    for (int64_t id = 0; w->splitter->at_once && id < v->count; id++)
        if (v->at[id].type != TD_TOKEN_NORMAL && v->at[id].type != TD_TOKEN_SYMBOL &&
            !is_cut(v->at[id].text))
            return td_fail(error, TD_EUNSUPPORTED, "ordinary text can contain its token '%.60s'",
                           v->at[id].text);
    return 0;
}

/* ---- SentencePiece --------------------------------------------------------------------------- */

static bool is_space_step(const json_t *j)
{
    const json_t *pattern = json_object_get(j, "pattern");
    return !strcmp(text_in(j, "type"), "Replace") &&
           !strcmp(text_in(j, "content"), TD_PIECE_SPACE) &&
           !strcmp(text_in(pattern, "String"), " ");
}

/* Spaces become marks, perhaps with one more in front. */
static bool read_normalizer(work *w)
{
    const json_t *j = json_object_get(w->json, "normalizer");
    const json_t *list = json_object_get(j, "normalizers"), *first = json_array_get(list, 0);
    const json_t *cut = json_object_get(w->json, "pre_tokenizer");
    if (cut && !json_is_null(cut))
        return false;
    w->prefix = json_array_size(list) == 2 && !strcmp(text_in(first, "type"), "Prepend") &&
                !strcmp(text_in(first, "prepend"), TD_PIECE_SPACE);
    return is_space_step(w->prefix ? json_array_get(list, 1) : j);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static int choose(work *w, td_error *error)
{
    if (strcmp(text_in(w->model, "type"), "BPE"))
        return refuse(error, "it is not BPE, and llama.cpp's other kinds have no byte_fallback");
    if (*text_in(w->model, "continuing_subword_prefix") ||
        *text_in(w->model, "end_of_word_suffix") ||
        json_number_value(json_object_get(w->model, "dropout")) > 0)
        return refuse(error, "its model has dropout, or marks parts of words");
    if (!true_in(w->model, "byte_fallback"))
        return find_splitter(w, error);
    if (true_in(w->model, "ignore_merges") || !read_normalizer(w))
        return refuse(error, "its normalizer or pre-tokenizer is not SentencePiece's");
    return 0;
}

static void put_list(td_gguf_out *out, const td_vocabulary *v, bool scores)
{
    td_gguf_put_list(out, "tokenizer.ggml.tokens", TD_GGUF_TEXT, (uint64_t)v->count);
    for (int64_t id = 0; id < v->count; id++)
        td_gguf_item_text(out, v->at[id].text, strlen(v->at[id].text));
    td_gguf_put_list(out, "tokenizer.ggml.token_type", TD_GGUF_I32, (uint64_t)v->count);
    for (int64_t id = 0; id < v->count; id++) {
        int32_t type = v->at[id].type;
        td_gguf_item(out, &type, sizeof type);
    }
    if (scores)
        td_gguf_put_list(out, "tokenizer.ggml.scores", TD_GGUF_F32, (uint64_t)v->count);
    for (int64_t id = 0; scores && id < v->count; id++)
        td_gguf_item(out, &v->at[id].score, sizeof v->at[id].score);
}

static void put_keys(td_gguf_out *out, const work *w)
{
    td_gguf_put_text(out, "tokenizer.ggml.model", w->splitter ? "gpt2" : "llama");
    td_gguf_put_text(out, "tokenizer.ggml.pre", w->splitter ? w->splitter->name : "default");
    put_list(out, &w->vocabulary, !w->splitter);
    if (w->unknown >= 0)
        td_gguf_put_u32(out, "tokenizer.ggml.unknown_token_id", (uint32_t)w->unknown);
    td_gguf_put_bool(out, "tokenizer.ggml.add_space_prefix", w->prefix);
    td_gguf_put_bool(out, "tokenizer.ggml.remove_extra_whitespaces", false);
    if (!w->splitter)
        return;
    td_gguf_put_list(out, "tokenizer.ggml.merges", TD_GGUF_TEXT, td_map_count(w->merged));
    for (size_t k = 0; k < td_map_count(w->merged); k++)
        td_gguf_item_text(out, td_map_key(w->merged, k), strlen(td_map_key(w->merged, k)));
}

static int prepare(work *w, int64_t ids, td_error *error)
{
    int code = choose(w, error);
    if (!code)
        code = put_tokens(w, ids, error);
    if (!code)
        code = find_unknown(w, error);
    if (!code)
        code = read_merges(w, error);
    if (!code)
        code = check_symbols(w, error);
    if (!code)
        code = w->splitter ? check_bytes(w, error) : check_pieces(w, error);
    return code;
}

int td_gguf_put_vocabulary(td_gguf_out *out, const char *json, size_t size, int64_t ids,
                           td_error *error)
{
    json_t *j = json_loadb(json, size, JSON_REJECT_DUPLICATES, NULL);
    work    w = { .json = j, .model = json_object_get(j, "model") };
    int     code;
    w.merges = json_object_get(w.model, "merges");
    code = j ? prepare(&w, ids, error) : refuse(error, "its tokenizer.json is not valid JSON");
    if (!code)
        put_keys(out, &w);
    td_map_free(w.merged);
    td_vocabulary_free(&w.vocabulary);
    json_decref(j);
    return code;
}
