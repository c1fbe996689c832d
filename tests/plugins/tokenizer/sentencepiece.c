/* sentencepiece.c - tokenizer 'sentencepiece': any text survives the round trip; damaged models are
 * refused or harmless. */
#include "module.h"
#include "tools/child.h"

#include "tandem/kind/tokenizer.h"
#include "tandem/random.h"

typedef struct options { /* those of the plugin */
    const char *model;
    int64_t     type;
    double      character_coverage;
    int64_t     max_sentences, sentinels;
    bool        modes, split_digits, byte_fallback, whitespace_pieces;
    td_strings  symbols;
} options;

static char directory[64], model[96];

/* A tiny model of the project's own corpus, trained with the real command. */
static void setup(void)
{
    char config[96];
    strcpy(directory, "/tmp/test-pieces-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(config, sizeof config, "%s/a.cfg", directory);
    snprintf(model, sizeof model, "%s/a, b.model", directory);
    FILE *f = fopen(config, "w");
    cr_assert(f);
    fputs("tokenizer = { plugin = \"sentencepiece\"; };\n"
          "data = { plugin = \"text\"; sources = ( { name = \"facts\"; files = ( \"" TANDEM_SOURCE
          "/data/corpus/facts.valid.jsonl\" ); } ); };\n",
          f);
    cr_assert(!fclose(f));
    child c = child_run((const char *[]){ TANDEM_BINARY, "data", "train-tokenizer", "-c", config,
                                          "--vocab-size", "401", "--out", model, NULL });
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(sentencepiece, .init = setup, .fini = teardown);

static const td_tokenizer *plugin(void) { return module_plugin("tokenizer-sentencepiece.so"); }

static int open_model(const char *path, void **state, td_error *error)
{
    options o = { .model = path, .character_coverage = 0.9995, .max_sentences = 1000000 };
    *error = (td_error){ 0 };
    *state = NULL;
    return plugin()->open(&o, &module_services, state, error);
}

static void put(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(data, 1, size, f) == size && !fclose(f));
}

static void *open_whole(void)
{
    void    *state;
    td_error error;
    cr_assert_eq(open_model(model, &state, &error), 0, "%s", error.text);
    return state;
}

static void expect_round_trip(void *state, const char *text, size_t size)
{
    static int32_t ids[20000];
    static char    back[20000];
    td_error       error = { 0 };
    int64_t        n = plugin()->encode(state, text, size, ids, 20000, &error);
    cr_assert(n >= 0 && n <= 20000, "%s", error.text);
    cr_assert_eq(plugin()->encode(state, text, size, NULL, 0, &error), n);
    int64_t bytes = plugin()->decode(state, ids, n, back, sizeof back, &error);
    cr_assert_eq(bytes, (int64_t)size, "%.60s: %lld bytes, not %zu", text, (long long)bytes, size);
    cr_assert(!memcmp(text, back, size), "%.60s became %.60s", text, back);
}

Test(sentencepiece, leaves_the_model_alone_in_its_directory)
{
    char   **names;
    td_error error = { 0 };
    cr_assert_eq(td_list_directory(directory, &names, &error), 2);
    cr_assert(!strcmp(names[0], "a, b.model") && !strcmp(names[1], "a.cfg"));
    td_free_names(names, 2);
}

Test(sentencepiece, special_ids)
{
    void      *state = open_whole();
    td_special s;
    plugin()->special(state, &s);
    cr_assert(s.pad == 0 && s.bos == 0 && s.eos == 1 && s.unk == 2 && s.vocab_size == 401);
    cr_assert_str_eq(plugin()->piece(state, 1), "</s>");
    cr_assert_str_eq(plugin()->piece(state, -1), "");
    cr_assert_str_eq(plugin()->piece(state, 401), "");
    plugin()->close(state);
}

/* Marks come after the pieces, the first sentinel last as in T5, and have no text. */
Test(sentencepiece, marks)
{
    options    o = { .model = model, .sentinels = 7, .modes = true };
    td_special s = { 0 };
    td_error   error = { 0 };
    void      *state;
    int32_t    ids[12];
    char       text[16];
    cr_assert_eq(plugin()->open(&o, &module_services, &state, &error), 0, "%s", error.text);
    plugin()->special(state, &s);
    cr_assert(s.vocab_size == 411 && s.sentinels == 7 && s.sentinel == 407 &&
              s.sentinel_step == -1);
    cr_assert(s.mode[0] == 408 && s.mode[1] == 409 && s.mode[2] == 410 && s.eos == 1);
    int64_t n = plugin()->encode(state, "a b", 3, ids, 10, &error);
    cr_assert(n > 0 && n < 9);
    ids[n] = 401;
    ids[n + 1] = 410;
    ids[n + 2] = 411;
    cr_assert_eq(plugin()->decode(state, ids, n + 2, text, 16, &error), 3);
    cr_assert_eq(plugin()->decode(state, ids, n + 3, text, 16, &error), TD_EFORMAT);
    plugin()->close(state);
    state = open_whole();
    plugin()->special(state, &s);
    cr_assert(s.sentinels == 0 && s.mode[0] == -1 && s.mode[1] == -1 && s.mode[2] == -1);
    plugin()->close(state);
}

/* Append a piece to a model's file: a protocol buffer may be extended at its end. Types: 3 control,
 * 4 user-defined. */
static void add_typed(FILE *f, const char *piece, int type)
{
    size_t n = strlen(piece);
    fprintf(f, "\x0a%c\x0a%c%s\x18%c", (int)n + 4, (int)n, piece, type);
}

static void add_piece(FILE *f, const char *piece) { add_typed(f, piece, 3); }

/* A copy of the model, to append to. */
static FILE *copy_model(const char *name, char path[4096])
{
    size_t size;
    char  *whole = td_file_read(model, &size, NULL);
    FILE  *f;
    snprintf(path, 4096, "%s/%s", directory, name);
    f = fopen(path, "wb");
    cr_assert(f && whole && fwrite(whole, 1, size, f) == size);
    free(whole);
    return f;
}

/* Where sentinels are pieces of the text, text that looks like one is still text. */
Test(sentencepiece, typed_sentinels_are_text)
{
    static const char *const texts[] = {
        "<extra_id_0>",  "a <extra_id_0> b<extra_id_1><extra_id_0>",
        "<<extra_id_0>", "<extra_id_0",
        "[S]",           "x [S][S] y"
    };
    char       path[4096];
    td_special s = { 0 };
    td_error   error = { 0 };
    void      *state;
    FILE      *f = copy_model("typed.model", path);
    add_typed(f, "<extra_id_0>", 4);
    add_typed(f, "<extra_id_1>", 4);
    add_typed(f, "[S]", 4);
    cr_assert(!fclose(f));
    cr_assert_eq(open_model(path, &state, &error), 0, "%s", error.text);
    plugin()->special(state, &s);
    cr_expect(s.sentinels == 2 && s.sentinel == 401 && s.mode[1] == 403);
    for (int k = 0; k < 6; k++) {
        int32_t ids[100];
        int64_t n = plugin()->encode(state, texts[k], strlen(texts[k]), ids, 100, &error);
        cr_assert(n > 0 && n < 100, "%s", error.text);
        for (int64_t i = 0; i < n; i++)
            cr_expect_lt(ids[i], 401, "'%s' has a mark", texts[k]);
        expect_round_trip(state, texts[k], strlen(texts[k]));
    }
    plugin()->close(state);
}

/* A model that makes one space of several is asked for fewer bytes than its text has. */
Test(sentencepiece, bytes_of_a_text_that_is_normalized_do_not_count)
{
    static const char *const names[] = { "kept.model", "spaces.model" };
    static const char text[] = "data = { plugin = \"text\"; sources = ( { name = \"facts\";\n"
                               "  files = ( \"" TANDEM_SOURCE
                               "/data/corpus/facts.train.jsonl\" );\n"
                               "  held_out = ( \"" TANDEM_SOURCE
                               "/data/corpus/facts.valid.jsonl\" ); } ); };\n";
    for (int k = 0; k < 2; k++) {
        char  path[4096], command[6000];
        FILE *f = copy_model(names[k], path);
        if (k) /* normalizer_spec { remove_extra_whitespaces: true } */
            cr_assert_eq(fwrite("\x1a\x02\x20\x01", 1, 4, f), 4);
        cr_assert(!fclose(f));
        snprintf(command, sizeof command, "%s/data.cfg", directory);
        put(command, text, sizeof text - 1);
        snprintf(command, sizeof command,
                 "%s train -c nano/decllm.cfg -c %s/data.cfg run.dir=%s run.name=r%d train.steps=1 "
                 "train.batch=1 "
                 "train.micro_batch=1 model.vocab_size=512 model.layers=1 evaluate.sequences=1 "
                 "'tokenizer={plugin=\"sentencepiece\";model=\"%s\";}'",
                 TANDEM_BINARY, directory, directory, k, path);
        child c = child_run((const char *[]){ "sh", "-c", command, NULL });
        cr_assert_eq(c.code, 0, "%s", c.err);
        cr_expect_eq(strstr(c.out, "bits per byte") == NULL, k, "%s", c.out);
        cr_expect_eq(strstr(c.err, "does not keep text as it is") != NULL, k, "%s", c.err);
        child_free(&c);
    }
}

/* Sentinels and modes that are pieces of the model, with ascending or descending ids. */
Test(sentencepiece, marks_of_the_model)
{
    char       path[4096];
    td_special s = { 0 };
    td_error   error;
    void      *state;
    snprintf(path, sizeof path, "%s/marks.model", directory);
    size_t size;
    char  *whole = td_file_read(model, &size, NULL);
    put(path, whole, size);
    free(whole);
    FILE *f = fopen(path, "ab");
    add_piece(f, "<extra_id_2>");
    add_piece(f, "[S]");
    add_piece(f, "<extra_id_1>");
    add_piece(f, "[X]");
    add_piece(f, "<extra_id_0>");
    add_piece(f, "<extra_id_3>");
    cr_assert(!fclose(f));
    cr_assert_eq(open_model(path, &state, &error), 0, "%s", error.text);
    plugin()->special(state, &s);
    cr_expect(s.sentinels == 3 && s.sentinel == 405 && s.sentinel_step == -2 &&
              s.vocab_size == 407);
    cr_expect(s.mode[0] == -1 && s.mode[1] == 402 && s.mode[2] == 404);
    plugin()->close(state);
}

Test(sentencepiece, text_survives_a_round_trip)
{
    static const char *const texts[] = {
        "",
        "a",
        " ",
        "  two  spaces  ",
        "\n\n\tdef f(x):\n    return x\n",
        "The harbour lies north of Mairoud.",
        "\xC3\xA4\xC3\xB6\xC3\xBC \xE2\x82\xAC \xE6\x97\xA5\xE6\x9C\xAC "
        "\xF0\x9F\x8E\x89\xF0\x9F\x8F\xBD",
        "e\xCC\x81 is not \xC3\xA9",
        "\xEF\xBB\xBFmark",
        "1234567890 + 7 = ?",
        "</s><s><unk><0x41>",
        "\x01\x02\x7F",
    };
    void *state = open_whole();
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
        expect_round_trip(state, texts[k], strlen(texts[k]));
    expect_round_trip(state, "a\0b\0", 4);
    plugin()->close(state);
}

static size_t put_character(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* U+2581 alone is lost: it stands for a space. */
Test(sentencepiece, every_character_survives_a_round_trip)
{
    static char text[4000];
    void       *state = open_whole();
    size_t      n = 0;
    for (uint32_t c = 1; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
        if (c == 0x2581 || (c >= 0xD800 && c < 0xE000))
            continue;
        n += put_character(c, text + n);
        if (n > sizeof text - 8) {
            expect_round_trip(state, text, n);
            n = 0;
        }
    }
    expect_round_trip(state, text, n);
    plugin()->close(state);
}

Test(sentencepiece, foreign_ids_are_errors)
{
    static const int32_t wrong[] = { -1, 401, INT32_MAX, INT32_MIN };
    void                *state = open_whole();
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        td_error error = { 0 };
        int32_t  ids[] = { 5, wrong[k] };
        cr_assert_eq(plugin()->decode(state, ids, 2, NULL, 0, &error), TD_EFORMAT);
        cr_assert(strstr(error.text, "token 1") && strstr(error.text, "0 .. 400"), "%s",
                  error.text);
    }
    plugin()->close(state);
}

/* ---- damaged tables of normalization --------------------------------------------------------- */

enum { NODES = 768 };

/* Fields of a model that are appended to it: normalizer_spec { precompiled_charsmap: table }. */
static void add_table(FILE *f, const uint32_t *nodes, size_t n, const char *texts, size_t size)
{
    size_t bytes = 4 + 4 * n + size, spec = bytes + 3;
    cr_assert(spec >= 128 && spec < 1 << 14);
    fprintf(f, "\x1a%c%c\x12%c%c", (int)(spec & 127) | 128, (int)(spec >> 7),
            (int)(bytes & 127) | 128, (int)(bytes >> 7));
    cr_assert_eq(fwrite(&(uint32_t){ (uint32_t)(4 * n) }, 4, 1, f), 1);
    cr_assert_eq(fwrite(nodes, 4, n, f), n);
    cr_assert_eq(fwrite(texts, 1, size, f), size);
}

static int open_with_table(const uint32_t *nodes, size_t n, const char *texts, size_t size,
                           void **state, td_error *error)
{
    char  path[4096];
    FILE *f = copy_model("table.model", path);
    add_table(f, nodes, n, texts, size);
    cr_assert(!fclose(f));
    return open_model(path, state, error);
}

/* The root's children are in the second 256 nodes, one of them 'a', and its value is where its own
 * children would be, in the third. */
static void fill_nodes(uint32_t nodes[NODES])
{
    const uint32_t a = 256 + 'a';
    for (size_t k = 0; k < NODES; k++)
        nodes[k] = (uint32_t)(k & 255) ^ 1; /* no label fits its place */
    nodes[0] = 256u << 10;
    nodes[a] = 'a' | 1u << 8 | (a ^ 512) << 10;
    nodes[512] = 1u << 31 | 2; /* the third byte of the texts */
}

Test(sentencepiece, a_table_of_normalization_is_obeyed)
{
    uint32_t nodes[NODES];
    td_error error;
    void    *state;
    int32_t  ids[8], b[8];
    fill_nodes(nodes);
    cr_assert_eq(open_with_table(nodes, NODES, "x\0b", 4, &state, &error), 0, "%s", error.text);
    cr_assert_eq(plugin()->encode(state, "a", 1, ids, 8, &error),
                 plugin()->encode(state, "b", 1, b, 8, &error));
    cr_expect_eq(ids[0], b[0]);
    plugin()->close(state);
}

Test(sentencepiece, damaged_tables_of_normalization_are_refused)
{
    static const struct {
        const char *what, *texts;
        size_t      node, nodes, size;
        uint32_t    value;
    } wrong[] = {
        { "the children of the root outside", "x\0b", 0, NODES, 4, 1u << 20 },
        { "half of the children outside", "x\0b", 0, NODES - 1, 4, 256u << 10 },
        { "a value outside", "x\0b", 512, NODES, 4, 1u << 31 | 4 },
        { "the last text without an end", "x\0bc", 512, NODES, 4, 1u << 31 | 2 },
        { "a way that goes round", "x\0b", 256 + 'a', NODES, 4, 'a' | (uint32_t)('a') << 10 },
        { "no nodes", "x\0b", 0, 0, 200, 0 },
    };
    static char texts[200];
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        uint32_t nodes[NODES];
        td_error error;
        void    *state = NULL;
        fill_nodes(nodes);
        nodes[wrong[k].node] = wrong[k].value;
        memset(texts, 0, sizeof texts);
        memcpy(texts, wrong[k].texts, 4);
        cr_expect_eq(open_with_table(nodes, wrong[k].nodes, texts, wrong[k].size, &state, &error),
                     TD_EFORMAT, "%s is accepted", wrong[k].what);
        cr_expect(strstr(error.text, "normalization table"), "%s: %s", wrong[k].what, error.text);
    }
}

/* ---- what tells models apart ----------------------------------------------------------------- */

/* A copy of the model with one score changed; it follows its piece in the protocol buffer. */
static void change_a_score(void *state, const char *path)
{
    size_t      size;
    td_error    error = { 0 };
    char       *data = td_file_read(model, &size, &error), *at;
    const char *piece = plugin()->piece(state, 300);
    cr_assert(data, "%s", error.text);
    at = memmem(data, size, piece, strlen(piece));
    while (at && at[strlen(piece)] != 0x15) /* field 2, a float */
        at = memmem(at + 1, size - (size_t)(at + 1 - data), piece, strlen(piece));
    cr_assert(at, "'%s'", piece);
    at[strlen(piece) + 1] ^= 1;
    put(path, data, size);
    free(data);
}

static uint64_t fingerprint(void *state)
{
    uint64_t h = 0;
    td_error error = { 0 };
    cr_assert_eq(plugin()->fingerprint(state, &h, &error), 0, "%s", error.text);
    return h;
}

Test(sentencepiece, models_with_the_same_pieces_differ)
{
    char     path[96];
    void    *state = open_whole(), *again = open_whole(), *other;
    td_error error;
    snprintf(path, sizeof path, "%s/other.model", directory);
    change_a_score(state, path);
    cr_assert_eq(open_model(path, &other, &error), 0, "%s", error.text);
    for (int32_t id = 0; id < 401; id++) {
        char piece[64];
        snprintf(piece, sizeof piece, "%s", plugin()->piece(state, id));
        cr_assert_str_eq(piece, plugin()->piece(other, id));
    }
    cr_assert_eq(fingerprint(state), fingerprint(again));
    cr_assert_neq(fingerprint(state), fingerprint(other));
    plugin()->close(state);
    plugin()->close(again);
    plugin()->close(other);
}

/* The command prepares the text again for such a model, but not for an unchanged one. */
Test(sentencepiece, shards_are_of_one_model)
{
    char  command[800];
    void *state = open_whole();
    snprintf(command, sizeof command, "%s/other.model", directory);
    change_a_score(state, command);
    plugin()->close(state);
    snprintf(command, sizeof command,
             "cd %s && for m in 'a, b' other 'a, b' other; do"
             " %s data prepare -q -c a.cfg \"tokenizer.model=$m.model\" run.dir=r || exit 9; done;"
             " ls r/cache/*.idx | wc -l",
             directory, TANDEM_BINARY);
    child c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert(c.code == 0 && strstr(c.out, "\n2\n"), "%s%s", c.out, c.err);
    child_free(&c);
}

/* ---- models that are not there, or not whole ------------------------------------------------- */

/* The model is refused by name, or it encodes a text to ids within its vocabulary. */
static bool harmless(const char *path)
{
    static const char text[] = "The harbour lies north of Mairoud, 17 miles. \xE2\x82\xAC";
    int32_t           ids[200];
    void             *state;
    td_error          error;
    td_special        s;
    if (open_model(path, &state, &error)) {
        cr_assert(strstr(error.text, path) && !state, "%s", error.text);
        return false;
    }
    plugin()->special(state, &s);
    int64_t n = plugin()->encode(state, text, sizeof text - 1, ids, 200, &error);
    cr_assert(n >= 0 || *error.text);
    for (int64_t i = 0; i < n && i < 200; i++)
        cr_assert(ids[i] >= 0 && ids[i] < s.vocab_size);
    cr_assert(s.pad < s.vocab_size && s.eos < s.vocab_size && s.unk < s.vocab_size);
    if (n >= 0)
        plugin()->decode(state, ids, n < 200 ? n : 200, NULL, 0, &error);
    plugin()->close(state);
    return true;
}

Test(sentencepiece, missing_models_are_named)
{
    void    *state;
    td_error error;
    cr_assert_eq(open_model("", &state, &error), TD_ECONFIG);
    cr_assert(strstr(error.text, "tandem data train-tokenizer"), "%s", error.text);
    cr_assert(open_model("/nowhere/a.model", &state, &error) < 0);
    cr_assert(strstr(error.text, "/nowhere/a.model") && strstr(error.text, "No such file"), "%s",
              error.text);
    cr_assert(open_model(directory, &state, &error) < 0);
    cr_assert(strstr(error.text, directory), "%s", error.text);
}

/* All but one, which lacks only the bytes behind the settings that matter. */
Test(sentencepiece, truncated_models_are_refused)
{
    int      taken = 0;
    char     path[96];
    size_t   size;
    td_error error = { 0 };
    char    *data = td_file_read(model, &size, &error);
    cr_assert(data, "%s", error.text);
    snprintf(path, sizeof path, "%s/cut.model", directory);
    for (size_t n = 0; n < size; n++) {
        put(path, data, n);
        taken += harmless(path);
    }
    cr_assert_leq(taken, 1, "%d truncated models are accepted", taken);
    free(data);
}

Test(sentencepiece, changed_models_do_no_harm)
{
    char     path[96];
    size_t   size;
    td_error error = { 0 };
    char    *data = td_file_read(model, &size, &error);
    cr_assert(data, "%s", error.text);
    snprintf(path, sizeof path, "%s/changed.model", directory);
    for (uint64_t k = 0; k < 400; k++) {
        size_t at = (size_t)td_random_below(1, k, 0, size);
        char   was = data[at];
        data[at] = (char)td_random_bits(1, k, 1);
        put(path, data, size);
        harmless(path);
        data[at] = was;
    }
    free(data);
}
