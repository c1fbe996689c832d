/* sentencepiece.c - tokenizer 'sentencepiece': any text goes there and back; damaged models are
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
    bool        modes;
} options;

static char directory[64], model[96];

/* A tiny model of the project's own corpus, by the real command. */
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
    options o = { path, 0, 0.9995, 1000000, 0, false };
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

/* Marks come after the pieces, the first sentinel last as in T5, and are no text. */
Test(sentencepiece, marks)
{
    options    o = { model, 0, 0.9995, 1000000, 7, true };
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

/* A control piece at the end of the file of a model: a protocol buffer may be added to. */
static void add_piece(FILE *f, const char *piece)
{
    size_t n = strlen(piece);
    fprintf(f, "\x0a%c\x0a%c%s\x18\x03", (int)n + 4, (int)n, piece);
}

/* Sentinels and modes that a model has as pieces, with whatever step. */
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

Test(sentencepiece, text_goes_there_and_back)
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
Test(sentencepiece, every_character_goes_there_and_back)
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

/* ---- what tells models apart ----------------------------------------------------------------- */

/* A copy of the model in which one score is another: after the piece, in the protocol buffer. */
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

/* The command prepares the text anew for such a model, and only then. */
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

/* It is refused with its name, or what it gives for a text are ids of its own vocabulary. */
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

/* But for the one that lacks only what comes after all settings that matter. */
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
    cr_assert_leq(taken, 1, "%d truncated models are taken", taken);
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
