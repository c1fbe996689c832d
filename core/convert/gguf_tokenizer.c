/* gguf_tokenizer.c - writes a run's tokenizer to GGUF, and GGUF's to a tokenizer.json. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "convert/convert.h"
#include "convert/vocabulary.h"

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for a tokenizer");
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Of the files that a tokenizer writes, this one has everything. */
static int keep_json(const td_tokenizer_out *out, const char *name, const void *data, size_t size,
                     td_error *error)
{
    td_text *kept = out->host;
    if (!strcmp(name, "tokenizer.json")) {
        td_text_free(kept);
        td_text_append(kept, data, size);
    }
    return kept->failed ? no_memory(error) : 0;
}

static int64_t ids_of(const td_record *settings)
{
    static const char end[] = ".vocab_size";
    const char       *path;
    for (size_t i = 0; (path = td_record_path(settings, i)) != NULL; i++) {
        size_t n = strlen(path);
        if (n >= sizeof end && !strcmp(path + n - sizeof end + 1, end))
            return td_record_get(settings, path)->integer;
    }
    return 0;
}

/* Without an eos key, llama.cpp would use an id of its own choice. */
static int check_ends(const td_session *s, td_error *error)
{
    if (s->special.eos >= 0)
        return 0;
    return td_fail(error, TD_EUNSUPPORTED,
                   "it has no end-of-text token, which GGUF cannot express");
}

static int put_json(td_gguf_out *out, td_session *s, const td_record *settings, td_error *error)
{
    td_text          json = { 0 };
    td_tokenizer_out files = { .size = sizeof files, .begin = -1, .put = keep_json, .host = &json };
    int              code = check_ends(s, error);
    if (!code)
        code = td_convert_put_tokenizer(s, &files, error);
    if (!code)
        code = td_gguf_put_vocabulary(out, td_text_get(&json), json.size, ids_of(settings), error);
    td_text_free(&json);
    return code;
}

int td_gguf_put_tokenizer(td_gguf_out *out, td_session *s, const td_record *settings,
                          td_error *error)
{
    const td_plugin *p = s->x->tokenizer.plugin;
    td_error         why = { 0 };
    int              code = p ? put_json(out, s, settings, &why) : TD_EUNSUPPORTED;
    if (code == TD_EUNSUPPORTED) {
        td_gguf_put_text(out, "tokenizer.ggml.model", "none");
        if (p)
            td_log_line(s->log, TD_LOG_WARN,
                        "the tokenizer '%s' is not written, so llama.cpp will take only ids: %s",
                        p->name, why.text);
        return 0;
    }
    return code ? td_fail(error, code, "%s", why.text) : 0;
}

/* ---- reading: keys --------------------------------------------------------------------------- */

/* A tokenizer that is being read. */
typedef struct work {
    const td_gguf          *file;
    td_vocabulary           vocabulary;
    json_t                 *merges;
    bool                    prefix;   /* a space is put before texts */
    const td_gguf_splitter *splitter; /* NULL: it is SentencePiece's kind */
} work;

/* A list of this type, or NULL with `error`. */
static const td_gguf_value *list_of(const td_gguf *g, const char *key, int type, td_error *error)
{
    const td_gguf_value *v = td_gguf_get(g, key);
    if (v && v->list && v->type == type)
        return v;
    td_fail(error, TD_EFORMAT, "'%s' is missing, or not a list of the right type", key);
    return NULL;
}

static bool text_is(const td_gguf *g, const char *key, const char *text)
{
    const td_gguf_value *v = td_gguf_get(g, key);
    const unsigned char *at = v ? v->data : NULL;
    size_t               size = 0;
    const char *found = v && !v->list && v->type == TD_GGUF_TEXT ? td_gguf_text(&at, &size) : NULL;
    return found && size == strlen(text) && !memcmp(found, text, size);
}

static bool truth_of(const td_gguf *g, const char *key, bool otherwise)
{
    const td_gguf_value *v = td_gguf_get(g, key);
    return v && !v->list && v->type == TD_GGUF_BOOL ? td_gguf_number(v, 0) != 0 : otherwise;
}

/* -1: there is none. */
static int64_t id_of(const work *w, const char *key)
{
    const td_gguf_value *v = td_gguf_get(w->file, key);
    double               x = v && !v->list && v->type != TD_GGUF_TEXT ? td_gguf_number(v, 0) : -1;
    return x >= 0 && x < (double)w->vocabulary.count ? (int64_t)x : -1;
}

static int read_tokens(work *w, td_error *error)
{
    const td_gguf_value *texts = list_of(w->file, "tokenizer.ggml.tokens", TD_GGUF_TEXT, error);
    const td_gguf_value *types = list_of(w->file, "tokenizer.ggml.token_type", TD_GGUF_I32, error);
    const unsigned char *at;
    int                  code;
    if (!texts || !types || types->count != texts->count || texts->count > INT32_MAX / 4)
        return td_fail(error, TD_EFORMAT, "it has different numbers of tokens and types");
    code = td_vocabulary_new(&w->vocabulary, (int64_t)texts->count, error);
    at = texts->data;
    for (int64_t id = 0; !code && id < w->vocabulary.count; id++) {
        size_t      size;
        const char *text = td_gguf_text(&at, &size);
        double      type = td_gguf_number(types, (uint64_t)id);
        if (type < TD_TOKEN_NORMAL || type >= TD_TOKEN_TYPES)
            return td_fail(error, TD_EFORMAT, "token %lld: unknown type %g", (long long)id, type);
        code = td_vocabulary_put(&w->vocabulary, id, text, size, (int)type, error);
    }
    return code;
}

/* ---- reading: byte-level --------------------------------------------------------------------- */

static int find_splitter(work *w, td_error *error)
{
    const td_gguf_splitter *s;
    for (size_t k = 0; (s = td_gguf_splitter_at(k)) != NULL; k++)
        if (text_is(w->file, "tokenizer.ggml.pre", s->name)) {
            w->splitter = s;
            return 0;
        }
    return td_fail(error, TD_EUNSUPPORTED,
                   "words are not split as in gpt-2, llama-bpe or qwen2 (tokenizer.ggml.pre)");
}

static int read_merges(work *w, td_error *error)
{
    const td_gguf_value *v = list_of(w->file, "tokenizer.ggml.merges", TD_GGUF_TEXT, error);
    const unsigned char *at = v ? v->data : NULL;
    if (!v)
        return td_failed(error, TD_EFORMAT);
    for (uint64_t k = 0; k < v->count; k++) {
        size_t      size;
        const char *text = td_gguf_text(&at, &size);
        if (json_array_append_new(w->merges, json_stringn(text, size)))
            return td_fail(error, TD_EFORMAT, "its merge %llu is not UTF-8, or memory ran out",
                           (unsigned long long)k);
    }
    return 0;
}

/* ---- reading: SentencePiece ------------------------------------------------------------------ */

static int read_scores(work *w, td_error *error)
{
    const td_gguf_value *v = list_of(w->file, "tokenizer.ggml.scores", TD_GGUF_F32, error);
    if (!v || v->count != (uint64_t)w->vocabulary.count)
        return td_fail(error, TD_EFORMAT, "it has different numbers of tokens and scores");
    for (int64_t id = 0; id < w->vocabulary.count; id++) {
        float score = (float)td_gguf_number(v, (uint64_t)id);
        if (!isfinite(score)) /* they could not be sorted */
            return td_fail(error, TD_EFORMAT, "its token %lld has the score %g: it must be finite",
                           (long long)id, (double)score);
        w->vocabulary.at[id].score = score;
    }
    return 0;
}

static int by_score(const void *a, const void *b)
{
    const td_token *x = *(const td_token *const *)a, *y = *(const td_token *const *)b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* All pairs of tokens that join to this one. */
static int add_merges(work *w, const td_token *t, td_error *error)
{
    size_t size = strlen(t->text);
    for (size_t at = td_character_size(t->text); at < size; at += td_character_size(t->text + at)) {
        const td_token *l = td_vocabulary_find(&w->vocabulary, t->text, at);
        const td_token *r = td_vocabulary_find(&w->vocabulary, t->text + at, size - at);
        bool            both = l && r && l->type == TD_TOKEN_NORMAL && r->type == TD_TOKEN_NORMAL;
        if (both && json_array_append_new(w->merges, json_sprintf("%s %s", l->text, r->text)))
            return no_memory(error);
    }
    return 0;
}

/* The best first; at equal scores the leftmost merge wins, which tokenizer.json cannot express. */
static int make_merges(work *w, td_error *error)
{
    td_vocabulary   *v = &w->vocabulary;
    const td_token **sorted = calloc((size_t)v->count + 1, sizeof *sorted);
    size_t           n = 0;
    int              code = sorted ? 0 : no_memory(error);
    for (int64_t id = 0; !code && id < v->count; id++)
        if (v->at[id].type == TD_TOKEN_NORMAL &&
            td_character_size(v->at[id].text) < strlen(v->at[id].text))
            sorted[n++] = &v->at[id];
    if (n)
        qsort(sorted, n, sizeof *sorted, by_score);
    for (size_t k = 0; !code && k < n; k++)
        if (k && sorted[k]->score == sorted[k - 1]->score)
            code = td_fail(error, TD_EUNSUPPORTED, "its tokens '%.60s' and '%.60s' tie in score",
                           sorted[k - 1]->text, sorted[k]->text);
        else
            code = add_merges(w, sorted[k], error);
    free(sorted);
    return code;
}

/* An id that the model has, but the tokenizer has not. */
static bool is_padding(const td_vocabulary *v, int64_t id)
{
    char name[TD_PADDING_NAME];
    return v->at[id].type == TD_TOKEN_UNUSED && !strcmp(v->at[id].text, td_padding_name(id, name));
}

/* llama.cpp matches unused tokens in texts; tokenizer.json has no such type. */
static int check_unused(const td_vocabulary *v, td_error *error)
{
    for (int64_t id = 0; id < v->count; id++)
        if (v->at[id].type == TD_TOKEN_UNUSED && !is_padding(v, id))
            return td_fail(error, TD_EUNSUPPORTED, "its token '%.60s' is marked as unused",
                           v->at[id].text);
    return 0;
}

static int read_pieces(work *w, td_error *error)
{
    int code = read_scores(w, error);
    if (!code)
        code = check_unused(&w->vocabulary, error);
    w->prefix = truth_of(w->file, "tokenizer.ggml.add_space_prefix", true);
    if (!code && truth_of(w->file, "tokenizer.ggml.remove_extra_whitespaces", false))
        code = td_fail(error, TD_EUNSUPPORTED, "it removes spaces");
    if (!code && !td_vocabulary_has_bytes(&w->vocabulary, false))
        code = td_fail(error, TD_EUNSUPPORTED, "it has no tokens for all bytes");
    return code ? code : make_merges(w, error);
}

/* ---- reading: tokenizer.json ----------------------------------------------------------------- */

static json_t *added_of(const work *w)
{
    json_t *list = json_array();
    for (int64_t id = 0; id < w->vocabulary.count; id++) {
        const td_token *t = &w->vocabulary.at[id];
        bool            symbol = t->type == TD_TOKEN_SYMBOL;
        if (symbol || t->type == TD_TOKEN_CONTROL || t->type == TD_TOKEN_UNKNOWN)
            json_array_append_new(list, json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
                                                  (json_int_t)id, "content", t->text, "single_word",
                                                  0, "lstrip", 0, "rstrip", 0, "normalized", 0,
                                                  "special", !symbol));
    }
    return list;
}

static json_t *vocab_of(const work *w)
{
    json_t *out = json_object();
    for (int64_t id = 0; id < w->vocabulary.count; id++)
        if (!is_padding(&w->vocabulary, id))
            json_object_set_new(out, w->vocabulary.at[id].text, json_integer(id));
    return out;
}

static json_t *replace(const char *text, const char *by)
{
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", text, "content",
                     by);
}

static json_t *normalizer_of(const work *w)
{
    json_t *spaces = w->splitter ? json_null() : replace(" ", TD_PIECE_SPACE);
    return w->prefix ? json_pack("{s:s, s:[{s:s, s:s}, o]}", "type", "Sequence", "normalizers",
                                 "type", "Prepend", "prepend", TD_PIECE_SPACE, spaces)
                     : spaces;
}

static json_t *level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 0, "use_regex", 0);
}

static json_t *splitter_of(const work *w)
{
    if (!w->splitter)
        return json_null();
    return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence", "pretokenizers",
                     "type", "Split", "pattern", "Regex", w->splitter->regex, "behavior",
                     "Isolated", "invert", 0, level());
}

static json_t *decoder_of(const work *w)
{
    json_t *steps;
    if (w->splitter)
        return level();
    steps = json_pack("[o, {s:s}, {s:s}]", replace(TD_PIECE_SPACE, " "), "type", "ByteFallback",
                      "type", "Fuse");
    if (w->prefix)
        json_array_append_new(steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content",
                                               " ", "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps);
}

static json_t *json_of(const work *w)
{
    int64_t     unknown = id_of(w, "tokenizer.ggml.unknown_token_id");
    const char *name = unknown >= 0 ? w->vocabulary.at[unknown].text : NULL;
    bool        pieces = !w->splitter;
    json_t *model = json_pack("{s:s, s:n, s:s?, s:n, s:n, s:b, s:b, s:b, s:o, s:O}", "type", "BPE",
                              "dropout", "unk_token", name, "continuing_subword_prefix",
                              "end_of_word_suffix", "fuse_unk", pieces, "byte_fallback", pieces,
                              "ignore_merges", w->splitter && w->splitter->at_once, "vocab",
                              vocab_of(w), "merges", w->merges);
    return json_pack("{s:s, s:o, s:o, s:o, s:n, s:o, s:o}", "version", "1.0", "added_tokens",
                     added_of(w), "normalizer", normalizer_of(w), "pre_tokenizer", splitter_of(w),
                     "post_processor", "decoder", decoder_of(w), "model", model);
}

/* The names of special tokens. */
static json_t *config_of(const work *w)
{
    static const char *const roles[][2] = { { "bos_token", "tokenizer.ggml.bos_token_id" },
                                            { "eos_token", "tokenizer.ggml.eos_token_id" },
                                            { "pad_token", "tokenizer.ggml.padding_token_id" } };
    json_t                  *out = json_object();
    for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
        int64_t id = id_of(w, roles[k][1]);
        if (id >= 0)
            json_object_set_new(out, roles[k][0], json_string(w->vocabulary.at[id].text));
    }
    return out;
}

static char *text_of(json_t *j)
{
    char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
    json_decref(j);
    return text;
}

static int read_kind(work *w, td_error *error)
{
    bool bytes = text_is(w->file, "tokenizer.ggml.model", "gpt2");
    int  code;
    if (!bytes && !text_is(w->file, "tokenizer.ggml.model", "llama"))
        return td_fail(error, TD_EUNSUPPORTED,
                       "there is none, or its kind is not gpt2 or llama (tokenizer.ggml.model)");
    code = read_tokens(w, error);
    if (!code && bytes)
        code = find_splitter(w, error);
    if (!code)
        code = bytes ? read_merges(w, error) : read_pieces(w, error);
    return code;
}

/* The code that writes GGUF knows whether llama.cpp computes the ids of this tokenizer.json. */
static int check_json(const work *w, const char *json, td_error *error)
{
    td_gguf_out out = { 0 };
    int         code = td_gguf_put_vocabulary(&out, json, strlen(json), w->vocabulary.count, error);
    td_gguf_out_free(&out);
    return code;
}

int td_gguf_read_tokenizer(const td_gguf *g, char **json, char **config, td_error *error)
{
    work w = { .file = g, .merges = json_array() };
    int  code = w.merges ? read_kind(&w, error) : no_memory(error);
    *json = code ? NULL : text_of(json_of(&w));
    *config = *json ? text_of(config_of(&w)) : NULL;
    if (!code)
        code = *config ? check_json(&w, *json, error) : no_memory(error);
    if (code) {
        free(*json);
        free(*config);
        *json = *config = NULL;
    }
    json_decref(w.merges);
    td_vocabulary_free(&w.vocabulary);
    return code;
}

int td_gguf_write_tokenizer(const td_gguf *g, const char *folder, td_error *error)
{
    char *json, *config;
    int   code = td_gguf_read_tokenizer(g, &json, &config, error);
    if (!code)
        code = td_file_write_in(folder, "tokenizer.json", json, strlen(json), error);
    if (!code)
        code = td_file_write_in(folder, "tokenizer_config.json", config, strlen(config), error);
    free(json);
    free(config);
    return code;
}

/* Where a file does not say it, llama.cpp goes by the kind. */
static bool adds_begin(const td_gguf *g)
{
    bool otherwise = text_is(g, "tokenizer.ggml.model", "llama") ||
                     text_is(g, "tokenizer.ggml.pre", "llama-bpe");
    return truth_of(g, "tokenizer.ggml.add_bos_token", otherwise);
}

void td_gguf_warn_of_ends(const td_gguf *g, const char *name, td_journal *log)
{
    if (!adds_begin(g))
        td_log_line(log, TD_LOG_WARN,
                    "'%s' expects texts without a special id at the beginning "
                    "(tokenizer.ggml.add_bos_token); here, and in what is written from it, every "
                    "text begins with one, so first tokens will have different probabilities",
                    name);
    if (truth_of(g, "tokenizer.ggml.add_eos_token", false))
        td_log_line(log, TD_LOG_WARN,
                    "'%s' expects an end-of-text token after each text "
                    "(tokenizer.ggml.add_eos_token), which is not added here: add it to prompts",
                    name);
}
