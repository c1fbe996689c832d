/* huggingface.c - tokenizer 'huggingface': the ids of Hugging Face's library (make_cases.py), and
 * what is refused; and the files that our tokenizers write, which that library read. */
#include <jansson.h>

#include "module.h"
#include "tools/child.h"

#include "tandem/kind/tokenizer.h"

#define CASES TANDEM_SOURCE "/tests/plugins/tokenizer/cases"

typedef struct options { /* those of the plugin */
    const char *file, *config;
    bool        parse_special;
    const char *pad, *bos, *eos, *unk;
} options;

typedef struct piece_options { /* those of 'sentencepiece' */
    const char *model;
    int64_t     type;
    double      character_coverage;
    int64_t     max_sentences, sentinels;
    bool        modes, split_digits, byte_fallback, whitespace_pieces;
    td_strings  symbols;
} piece_options;

static const td_tokenizer *plugin(void) { return module_plugin("tokenizer-huggingface.so"); }

static const td_tokenizer *pieces(void) { return module_plugin("tokenizer-sentencepiece.so"); }

static int open_file(const char *path, bool parse_special, void **state, td_error *error)
{
    options o = { path, "", parse_special, "", "", "", "" };
    *error = (td_error){ 0 };
    *state = NULL;
    return plugin()->open(&o, &module_services, state, error);
}

/* ---- golden ids ------------------------------------------------------------------------------ */

static json_t *load(const char *name, const char *suffix)
{
    char         path[500];
    json_error_t problem;
    json_t      *j;
    snprintf(path, sizeof path, "%s/%s%s", CASES, name, suffix);
    j = json_load_file(path, JSON_ALLOW_NUL, &problem);
    cr_assert(j, "%s: %s", path, problem.text);
    return j;
}

static void expect_ids(const td_tokenizer *t, void *state, const json_t *text, const json_t *want,
                       const char *name)
{
    static int32_t ids[4096];
    td_error       error = { 0 };
    int64_t n = t->encode(state, json_string_value(text), json_string_length(text), ids, 4096,
                          &error);
    bool    same = n == (int64_t)json_array_size(want);
    for (int64_t k = 0; same && k < n; k++)
        same = ids[k] == json_integer_value(json_array_get(want, (size_t)k));
    cr_expect(same, "%s: '%s' has %lld other ids than the %zu of the library %s", name,
              json_string_value(text), (long long)n, json_array_size(want), error.text);
}

static void expect_text(const td_tokenizer *t, void *state, const json_t *ids, const json_t *want,
                        const char *name)
{
    static int32_t list[4096];
    static char    text[16384];
    td_error       error = { 0 };
    size_t         n = json_array_size(ids);
    int64_t        size;
    cr_assert_leq(n, 4096);
    /* the library replaces bytes that are not UTF-8, which stay bytes here */
    if (json_is_null(want) || strstr(json_string_value(want), "\xEF\xBF\xBD"))
        return;
    for (size_t k = 0; k < n; k++)
        list[k] = (int32_t)json_integer_value(json_array_get(ids, k));
    size = t->decode(state, list, (int64_t)n, text, sizeof text, &error);
    cr_expect(size == (int64_t)json_string_length(want) &&
                  !memcmp(text, json_string_value(want), (size_t)size),
              "%s: '%.*s', not '%s' %s", name, (int)size, text, json_string_value(want),
              error.text);
}

/* Of the texts of a file. */
static void expect_texts(const char *name, const char *file)
{
    char     path[500];
    void    *plain, *parsing;
    td_error error;
    json_t  *texts = load(file, ".json"), *entries = load(name, ".ids.json"), *text;
    size_t   k;
    snprintf(path, sizeof path, "%s/%s.json", CASES, name);
    cr_assert_eq(open_file(path, false, &plain, &error), 0, "%s", error.text);
    cr_assert_eq(open_file(path, true, &parsing, &error), 0, "%s", error.text);
    cr_assert_eq(json_array_size(texts), json_array_size(entries));
    json_array_foreach(texts, k, text)
    {
        const json_t *entry = json_array_get(entries, k), *ids = json_object_get(entry, "plain");
        const json_t *parsed = json_object_get(entry, "parsed"),
                     *back = json_object_get(entry, "text");
        expect_ids(plugin(), plain, text, ids, name);
        expect_ids(plugin(), parsing, text, parsed ? parsed : ids, name);
        expect_text(plugin(), plain, ids, back ? back : text, name);
    }
    plugin()->close(plain);
    plugin()->close(parsing);
    json_decref(texts);
    json_decref(entries);
}

static void expect_case(const char *name) { expect_texts(name, "strings"); }

Test(huggingface, table_of_characters_of_a_sentencepiece_model)
{
    expect_texts("charsmap", "mapped");
}

Test(huggingface, bytes_of_words_with_added_tokens) { expect_case("gpt"); }
Test(huggingface, patterns_and_words_that_are_tokens) { expect_case("words"); }
Test(huggingface, one_word_with_bytes_for_the_rest) { expect_case("llama"); }
Test(huggingface, unigram) { expect_case("unigram"); }
Test(huggingface, unigram_with_bytes) { expect_case("unigram-bytes"); }
Test(huggingface, the_other_steps) { expect_case("odd"); }

/* ---- SentencePiece models as files ----------------------------------------------------------- */

/* What was put, one after the other. */
typedef struct kept {
    char  *json, *config;
    size_t model; /* bytes */
} kept;

static int keep(const td_tokenizer_out *out, const char *name, const void *data, size_t size,
                td_error *error)
{
    kept *k = out->host;
    if (!strcmp(name, "tokenizer.model"))
        k->model = size;
    else if (!strcmp(name, "tokenizer.json"))
        k->json = strndup(data, size);
    else if (!strcmp(name, "tokenizer_config.json"))
        k->config = strndup(data, size);
    return 0;
}

static void drop(kept *k)
{
    free(k->json);
    free(k->config);
}

/* A model has the ids that the library makes of the file that is written of it. */
static void expect_pieces(const char *name)
{
    char             path[500];
    kept             files = { 0 };
    td_tokenizer_out out = { .size = sizeof out, .put = keep, .host = &files };
    td_special       special;
    piece_options    o = { .model = path, .character_coverage = 0.9995, .max_sentences = 1000000 };
    td_error         error = { 0 };
    void            *state;
    json_t          *texts = load("strings", ".json"), *entries = load(name, ".ids.json"), *text;
    char            *golden;
    size_t           k;
    snprintf(path, sizeof path, "%s/%s.json", CASES, name);
    golden = td_file_read(path, NULL, &error);
    snprintf(path, sizeof path, "%s/%s.model", CASES, name);
    cr_assert_eq(pieces()->open(&o, &module_services, &state, &error), 0, "%s", error.text);
    json_array_foreach(texts, k, text)
        expect_ids(pieces(), state, text, json_object_get(json_array_get(entries, k), "plain"),
                   name);
    pieces()->special(state, &special);
    out.begin = special.bos >= 0 ? special.bos : special.pad;
    cr_assert_eq(pieces()->write_files(state, &out, &error), 0, "%s", error.text);
    cr_expect(golden && files.json && !strcmp(golden, files.json), "%s: another tokenizer.json",
              name);
    cr_expect(strstr(files.config, "\"eos_token\": \"</s>\""), "%s", files.config);
    cr_expect_eq((int64_t)files.model, td_file_size(path));
    expect_case(name);
    pieces()->close(state);
    drop(&files);
    free(golden);
    json_decref(texts);
    json_decref(entries);
}

Test(huggingface, sentencepiece_unigram) { expect_pieces("pieces-unigram"); }
Test(huggingface, sentencepiece_bpe_with_symbols) { expect_pieces("pieces-bpe"); }
Test(huggingface, sentencepiece_unigram_with_symbols) { expect_pieces("pieces-symbols"); }
Test(huggingface, sentencepiece_bpe_with_a_space_in_front) { expect_pieces("pieces-prefix"); }

/* ---- what is refused ------------------------------------------------------------------------- */

/* A file of these parts; NULL: the usual ones. */
typedef struct parts {
    const char *normalizer, *splitter, *decoder, *model, *added, *rest;
} parts;

static void write_parts(const char *path, const parts *p)
{
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fprintf(f,
            "{\"version\": \"1.0\", \"normalizer\": %s, \"pre_tokenizer\": %s, \"post_processor\": "
            "null, "
            "\"decoder\": %s, \"model\": %s, \"added_tokens\": [%s]%s}",
            p->normalizer ? p->normalizer : "null", p->splitter ? p->splitter : "null",
            p->decoder ? p->decoder : "{\"type\": \"Fuse\"}",
            p->model ? p->model
                     : "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"c\": 3}, "
                       "\"merges\": [\"a b\"]}",
            p->added ? p->added : "", p->rest ? p->rest : "");
    cr_assert(!fclose(f));
}

static char scratch[64];

static void scratch_open(void)
{
    strcpy(scratch, "/tmp/test-huggingface-XXXXXX");
    cr_assert(mkdtemp(scratch));
}

static void scratch_close(void) { td_remove_tree(scratch, NULL); }

TestSuite(huggingface_files, .init = scratch_open, .fini = scratch_close);

static const char *in_scratch(void)
{
    static char path[100];
    snprintf(path, sizeof path, "%s/tokenizer.json", scratch);
    return path;
}

static void expect_refused(const parts *p, const char *why)
{
    td_error error;
    void    *state;
    write_parts(in_scratch(), p);
    cr_expect(open_file(in_scratch(), true, &state, &error) < 0, "not refused: %s", why);
    cr_expect(strstr(error.text, why), "'%s' is not in '%s'", why, error.text);
    cr_expect(strstr(error.text, in_scratch()), "no file in '%s'", error.text);
    if (state)
        plugin()->close(state);
}

#define TYPE(name) "{\"type\": \"" name "\"}"
#define SPLIT(pattern) \
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" pattern "\"}, \"behavior\": \"Isolated\"}"

#define CHARSMAP(text) "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"" text "\"}"

Test(huggingface_files, what_has_no_counterpart_is_refused_by_name)
{
    static const struct {
        parts       p;
        const char *why;
    } cases[] = {
        { { .normalizer = TYPE("Precompiled") }, "'Precompiled' has no 'precompiled_charsmap'" },
        { { .normalizer = CHARSMAP("AAAA=") }, "'precompiled_charsmap' is not base64" },
        { { .normalizer = CHARSMAP("AA*A") }, "'precompiled_charsmap' is not base64" },
        { { .normalizer = CHARSMAP("AAAA") }, "its trie has 0 bytes, of 3 in all" },
        { { .normalizer = CHARSMAP("AAAAAA==") }, "its trie has 0 bytes, of 4 in all" },
        { { .normalizer = CHARSMAP("AwAAAAAAAAA=") }, "its trie has 3 bytes, of 8 in all" },
        { { .normalizer = CHARSMAP("CAAAAAAAAAA=") }, "its trie has 8 bytes, of 8 in all" },
        { { .normalizer = CHARSMAP("BAAAAAAAAAD/") }, "its texts are not UTF-8" },
        { { .normalizer = TYPE("StripAccents") }, "the normalizer 'StripAccents' cannot be read" },
        { { .normalizer = "{\"type\": \"Prepend\", \"prepend\": \" \", \"odd\": 1}" },
          "'Prepend' has 'odd', which is not known" },
        { { .splitter = TYPE("BertPreTokenizer") }, "the pre-tokenizer 'BertPreTokenizer'" },
        { { .splitter = SPLIT("x*") }, "can match an empty text" },
        { { .splitter = SPLIT("(?m:x)") }, "means something else in PCRE2" },
        { { .splitter = SPLIT("a{1,3}+") }, "means something else in PCRE2" },
        { { .splitter = SPLIT("\\\\hx") }, "means something else in PCRE2" },
        { { .splitter = SPLIT("[a[bc]]") }, "means something else in PCRE2" },
        { { .splitter = SPLIT("(x") }, "is invalid at byte" },
        { { .decoder = "null" }, "the file has no decoder" },
        { { .decoder = TYPE("WordPiece") }, "the decoder 'WordPiece' cannot be read" },
        { { .model = TYPE("WordPiece") }, "the model 'WordPiece' cannot be read" },
        { { .model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}" },
          "merge 0, 'a' and 'b'" },
        { { .model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}" },
          "have the same id, 0" },
        { { .model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 99999999}, \"merges\": []}" },
          "has the id 99999999" },
        { { .model =
                "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [], \"dropout\": 0.1}" },
          "'dropout' is 0.1" },
        { { .model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [], "
                     "\"byte_fallback\": true}" },
          "there is no token '<0x00>'" },
        { { .model = "{\"type\": \"Unigram\", \"vocab\": [[\"a\", 0]], \"unk_id\": 1}" },
          "unk_id is 1" },
        { { .added = "{\"id\": 1, \"content\": \"<x>\"}" }, "have the same id, 1" },
        { { .added = "{\"id\": 1, \"content\": \"a\"}" }, "in the vocabulary it is 0" },
        { { .added = "{\"id\": 4, \"content\": \"<x>\", \"special\": true, \"lstrip\": true}" },
          "\"lstrip\": true" },
        { { .rest = ", \"truncation\": {}" }, "'truncation' is set" },
        { { .rest = ", \"odd\": {}" }, "the file has 'odd'" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        expect_refused(&cases[k].p, cases[k].why);
}

/* The number of ids that a file with this table gives "cab": 2 unless the table changes the text. */
static void expect_mapped(const unsigned char *table, size_t size, int64_t count)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char              text[4000], normalizer[4100];
    int32_t           ids[8];
    td_error          error;
    void             *state;
    cr_assert(size % 3 == 0 && size / 3 * 4 < sizeof text);
    for (size_t k = 0; k < size / 3 * 4; k++) {
        uint32_t bits = (uint32_t)table[k / 4 * 3] << 16 | (uint32_t)table[k / 4 * 3 + 1] << 8 |
                        table[k / 4 * 3 + 2];
        text[k] = digits[bits >> (18 - 6 * (k % 4)) & 63];
    }
    snprintf(normalizer, sizeof normalizer, CHARSMAP("%.*s"), (int)(size / 3 * 4), text);
    write_parts(in_scratch(), &(parts){ .normalizer = normalizer });
    cr_assert_eq(open_file(in_scratch(), false, &state, &error), 0, "%s", error.text);
    cr_expect_eq(plugin()->encode(state, "cab", 3, ids, 8, &error), count, "%s", error.text);
    plugin()->close(state);
}

/* A table of 256 units whose only key is "a": unit 0 has its children at 0, and the leaf of unit
 * 97 is unit 96, whose value is the place of the text. Places and values beyond the end change
 * nothing. */
Test(huggingface_files, a_table_that_points_outside_changes_nothing)
{
    unsigned char table[4 + 256 * 4 + 4] = { [1] = 4 }, *unit = table + 4, one[9] = { 4 };
    unit[97 * 4] = 'a';
    unit[97 * 4 + 1] = 1 + 4; /* a key ends here; offset 1 */
    table[sizeof table - 4] = 'b';
    expect_mapped(table, sizeof table, 3); /* "cbb" */
    unit[96 * 4] = 4;
    expect_mapped(table, sizeof table, 2); /* at the end: "cb" */
    unit[96 * 4] = 5;
    expect_mapped(table, sizeof table, 2);
    memset(unit + 96 * 4, 0xFF, 4);
    expect_mapped(table, sizeof table, 2);
    memset(unit, 0xFF, 4);
    expect_mapped(table, sizeof table, 2);
    memset(one + 4, 0xFF, 4);
    expect_mapped(one, sizeof one, 2);
}

/* A run of white space within a text takes time in proportion to it: its square would exceed what a
 * match may take. */
Test(huggingface_files, ends_are_stripped_around_long_runs, .timeout = 60)
{
    enum { RUN = 1000003 };
    static char    text[2 + 2 * RUN];
    static int32_t ids[2 + RUN];
    td_error       error;
    void          *state;
    memset(text, ' ', sizeof text);
    text[0] = 'a';
    text[1 + RUN] = 'b';
    write_parts(in_scratch(),
                &(parts){ .normalizer = TYPE("Strip"),
                          .model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, "
                                   "\" \": 2}, \"merges\": []}" });
    cr_assert_eq(open_file(in_scratch(), false, &state, &error), 0, "%s", error.text);
    cr_expect_eq(plugin()->encode(state, text, sizeof text, ids, 2 + RUN, &error), 2 + RUN, "%s",
                 error.text);
    cr_expect(ids[0] == 0 && ids[1] == 2 && ids[RUN + 1] == 1);
    plugin()->close(state);
}

/* A text that no id can represent is an error, not a shorter text. */
Test(huggingface_files, a_text_without_ids_is_refused)
{
    static const char *const texts[] = { "abx", "a\xff" }, *const why[] = { "cannot encode 'x'",
                                                                            "byte 1 is not UTF-8" };
    int32_t  ids[8];
    td_error error;
    void    *state;
    write_parts(in_scratch(), &(parts){ 0 });
    cr_assert_eq(open_file(in_scratch(), false, &state, &error), 0, "%s", error.text);
    cr_expect_eq(plugin()->encode(state, "cab", 3, ids, 8, &error), 2, "%s", error.text);
    cr_expect(ids[0] == 3 && ids[1] == 2);
    for (int k = 0; k < 2; k++) {
        error = (td_error){ 0 };
        cr_expect(plugin()->encode(state, texts[k], strlen(texts[k]), ids, 8, &error) < 0 &&
                      strstr(error.text, why[k]),
                  "%s", error.text);
    }
    plugin()->close(state);
}

/* The names of special tokens are those of tokenizer_config.json, unless options give others. */
Test(huggingface_files, special_ids)
{
    char       config[100];
    options    o = { in_scratch(), config, false, "", "", "a", "" };
    td_error   error = { 0 };
    td_special s;
    void      *state;
    FILE      *f;
    snprintf(config, sizeof config, "%s/config.json", scratch);
    f = fopen(config, "w");
    /* the length is what transformers writes where it knows none */
    cr_assert(
        f &&
        fputs("{\"bos_token\": {\"content\": \"b\"}, \"eos_token\": \"c\", \"pad_token\": null, "
              "\"model_max_length\": 1000000000000000019884624838656}",
              f) >= 0);
    cr_assert(!fclose(f));
    write_parts(in_scratch(),
                &(parts){
                    .added = "{\"id\": 6, \"content\": \"<extra_id_0>\", \"special\": true}" });
    cr_assert_eq(plugin()->open(&o, &module_services, &state, &error), 0, "%s", error.text);
    plugin()->special(state, &s);
    cr_expect(s.bos == 1 && s.eos == 0 && s.pad == -1 && s.unk == -1);
    cr_expect(s.vocab_size == 7 && s.sentinels == 1 && s.sentinel == 6);
    cr_expect_str_eq(plugin()->piece(state, 5), "");
    plugin()->close(state);
    o.eos = "nothing";
    cr_expect_eq(plugin()->open(&o, &module_services, &state, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, "'nothing' of the config is not a token"), "%s", error.text);
}
