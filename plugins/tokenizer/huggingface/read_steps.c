/* read_steps.c - normalizers, pre-tokenizers and decoders of a tokenizer.json, as simple steps. */
#include "json.h"
#include "tokenizer.h"

enum { DEEPEST = 16 }; /* sequences within sequences */

static const char space[] = "\xE2\x96\x81"; /* Metaspace's, unless it names another */

/* The words of GPT-2, which ByteLevel splits at: contractions, letters, digits, the rest, spaces.
 */
static const char words[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                            "\\s+(?!\\S)|\\s+";

/* ---- adding steps ---------------------------------------------------------------------------- */

/* Where steps go, and what to name them in messages. */
struct target {
    struct growing *list;
    const char     *kind;
    int             depth;
};

/* The step's memory is the list's from now on. */
static int add(const struct target *t, struct step *s, td_error *error)
{
    size_t before = t->list->size;
    grow_append(t->list, (const char *)s, sizeof *s);
    if (t->list->size > before)
        return 0;
    step_free(s);
    return td_fail(error, TD_ENOMEM, "out of memory for a %s", t->kind);
}

static int need_unicode(const struct target *t, td_error *error)
{
    if (unicode_is_known())
        return 0;
    return td_fail(error, TD_EUNSUPPORTED,
                   "the %s needs tables of Unicode: install libutf8proc-dev and build tandem again",
                   t->kind);
}

static int add_simple(const struct target *t, int type, int form, td_error *error)
{
    struct step s = { .type = type, .form = form };
    int         code = type == STEP_BYTES ? 0 : need_unicode(t, error);
    return code ? code : add(t, &s, error);
}

/* Set the text of a step; NULL: it is empty. */
static int set_text(struct step *s, const json_t *text, td_error *error)
{
    s->size = text ? json_string_length(text) : 0;
    s->text = text ? copy_text(text) : calloc(1, 1);
    return s->text ? 0 : td_fail(error, TD_ENOMEM, "out of memory for a text");
}

static int add_insert(const struct target *t, const json_t *text, bool unless_there,
                      bool only_first, td_error *error)
{
    struct step s = { .type = STEP_INSERT, .unless_there = unless_there, .only_first = only_first };
    int         code = set_text(&s, text, error);
    return code ? code : add(t, &s, error);
}

static int add_split(const struct target *t, const char *pattern, int behavior, td_error *error)
{
    struct step s = { .type = STEP_SPLIT, .behavior = behavior };
    s.pattern = pattern_new(pattern, strlen(pattern), false, error);
    return s.pattern ? add(t, &s, error) : error->code;
}

/* The pattern of an object: {"String": ".."} or {"Regex": ".."}. */
static int set_pattern(struct step *s, const json_t *j, td_error *error)
{
    const json_t *pattern = json_object_get(j, "pattern"),
                 *regex = json_object_get(pattern, "Regex"),
                 *text = json_object_get(pattern, "String"), *one = regex ? regex : text;
    int code = check_keys(pattern, "'pattern'", "String Regex", error);
    if (!code && (!json_is_string(one) || (regex && text)))
        code = td_fail(error, TD_EFORMAT,
                       "'pattern' must have a string under either 'String' or 'Regex'");
    if (code)
        return code;
    s->pattern = pattern_new(json_string_value(one), json_string_length(one), !regex, error);
    return s->pattern ? 0 : error->code;
}

/* ---- those of both kinds --------------------------------------------------------------------- */

typedef int reads_one(const struct target *, const json_t *, td_error *);

static int read_sequence(const struct target *t, const json_t *list, reads_one *one,
                         td_error *error)
{
    struct target inner = *t;
    int           code = 0;
    if (!json_is_array(list) || ++inner.depth > DEEPEST)
        return td_fail(error, TD_EFORMAT,
                       "a sequence of %ss is not a list, or is nested more than %d deep", t->kind,
                       DEEPEST);
    for (size_t k = 0; k < json_array_size(list) && !code; k++)
        code = one(&inner, json_array_get(list, k), error);
    return code;
}

static int refuse(const struct target *t, const json_t *j, const char *known, td_error *error)
{
    return td_fail(error, TD_EUNSUPPORTED, "the %s '%.60s' cannot be read; these can: %s", t->kind,
                   type_of(j), known);
}

/* ---- normalizers ----------------------------------------------------------------------------- */

/* Adds the step, unless reading it failed: then it is freed. */
static int add_if(const struct target *t, struct step *s, int code, td_error *error)
{
    if (!code)
        return add(t, s, error);
    step_free(s);
    return code;
}

static int read_replace(const struct target *t, const json_t *j, td_error *error)
{
    struct step   s = { .type = STEP_REPLACE };
    const json_t *content;
    int           code = check_keys(j, "'Replace'", "type pattern content", error);
    if (!code)
        code = get_text(j, "content", &content, error);
    if (!code)
        code = set_text(&s, content, error);
    if (!code)
        code = set_pattern(&s, j, error);
    return add_if(t, &s, code, error);
}

static int read_prepend(const struct target *t, const json_t *j, td_error *error)
{
    const json_t *text;
    int           code = check_keys(j, "'Prepend'", "type prepend", error);
    if (!code)
        code = get_text(j, "prepend", &text, error);
    return code ? code : add_insert(t, text, false, false, error);
}

/* The table of a SentencePiece model. */
static int read_charsmap(const struct target *t, const json_t *j, td_error *error)
{
    struct step   s = { .type = STEP_MAP };
    const json_t *map;
    int           code = check_keys(j, "'Precompiled'", "type precompiled_charsmap", error);
    if (!code)
        code = get_text(j, "precompiled_charsmap", &map, error);
    if (!code && !map)
        code = td_fail(error, TD_EFORMAT, "'Precompiled' has no 'precompiled_charsmap'");
    if (!code)
        code = need_unicode(t, error);
    if (!code && !(s.map = charsmap_new(json_string_value(map), json_string_length(map), error)))
        code = error->code;
    return add_if(t, &s, code, error);
}

/* Matches are removed. */
static int add_removal(const struct target *t, const char *pattern, td_error *error)
{
    struct step s = { .type = STEP_REPLACE };
    int         code = set_text(&s, NULL, error);
    if (!code && !(s.pattern = pattern_new(pattern, strlen(pattern), false, error)))
        code = error->code;
    return add_if(t, &s, code, error);
}

/* White space at the ends. Without the look behind, a long run within a text would be tried from each of
 * its characters. */
static int read_strip(const struct target *t, const json_t *j, td_error *error)
{
    bool left, right;
    int  code = check_keys(j, "'Strip'", "type strip_left strip_right", error);
    if (!code)
        code = get_bool(j, "strip_left", true, &left, error);
    if (!code)
        code = get_bool(j, "strip_right", true, &right, error);
    if (!code && left)
        code = add_removal(t, "\\A\\s+", error);
    if (!code && right)
        code = add_removal(t, "(?<!\\s)\\s++(?![\\s\\S])", error);
    return code;
}

static int read_normalizer(const struct target *t, const json_t *j, td_error *error)
{
    static const char *const forms[] = {
        [NFC] = "NFC", [NFD] = "NFD", [NFKC] = "NFKC", [NFKD] = "NFKD"
    };
    const char *type = type_of(j);
    for (int k = NFC; k <= NFKD; k++)
        if (!strcmp(type, forms[k]))
            return add_simple(t, STEP_NORMALIZE, k, error);
    if (!strcmp(type, "Sequence"))
        return read_sequence(t, json_object_get(j, "normalizers"), read_normalizer, error);
    if (!strcmp(type, "Lowercase"))
        return add_simple(t, STEP_LOWERCASE, 0, error);
    if (!strcmp(type, "Prepend"))
        return read_prepend(t, j, error);
    if (!strcmp(type, "Replace"))
        return read_replace(t, j, error);
    if (!strcmp(type, "Precompiled"))
        return read_charsmap(t, j, error);
    if (!strcmp(type, "Strip"))
        return read_strip(t, j, error);
    return refuse(t, j,
                  "NFC, NFD, NFKC, NFKD, Lowercase, Precompiled, Prepend, Replace, Strip, Sequence",
                  error);
}

/* ---- pre-tokenizers -------------------------------------------------------------------------- */

static int read_byte_level(const struct target *t, const json_t *j, td_error *error)
{
    bool    prefix, regex;
    json_t *one = json_string(" ");
    int code = check_keys(j, "'ByteLevel'", "type add_prefix_space trim_offsets use_regex", error);
    if (!code)
        code = get_bool(j, "add_prefix_space", true, &prefix, error);
    if (!code)
        code = get_bool(j, "use_regex", true, &regex, error);
    if (!code && prefix)
        code = one ? add_insert(t, one, true, false, error)
                   : td_fail(error, TD_ENOMEM, "out of memory for a text");
    if (!code && regex)
        code = add_split(t, words, ISOLATED, error);
    json_decref(one);
    return code ? code : add_simple(t, STEP_BYTES, 0, error);
}

/* Older files have add_prefix_space for prepend_scheme. */
static int read_scheme(const json_t *j, bool *inserts, bool *only_first, td_error *error)
{
    const json_t *scheme;
    const char   *name;
    int           code = get_bool(j, "add_prefix_space", true, inserts, error);
    if (!code)
        code = get_text(j, "prepend_scheme", &scheme, error);
    if (code || !scheme)
        return code;
    name = json_string_value(scheme);
    *only_first = !strcmp(name, "first");
    *inserts = *only_first || !strcmp(name, "always");
    return *inserts || !strcmp(name, "never")
               ? 0
               : td_fail(error, TD_EFORMAT, "prepend_scheme is '%.60s', not always, first or never",
                         name);
}

/* A space becomes `text`. */
static int add_spaces(const struct target *t, const json_t *text, td_error *error)
{
    struct step s = { .type = STEP_REPLACE };
    int         code = set_text(&s, text, error);
    if (!code && !(s.pattern = pattern_new(" ", 1, true, error)))
        code = error->code;
    if (!code)
        return add(t, &s, error);
    step_free(&s);
    return code;
}

static int add_words_of(const struct target *t, const json_t *text, td_error *error)
{
    struct step s = { .type = STEP_SPLIT, .behavior = WITH_NEXT };
    s.pattern = pattern_new(json_string_value(text), json_string_length(text), true, error);
    return s.pattern ? add(t, &s, error) : error->code;
}

static int read_metaspace(const struct target *t, const json_t *j, td_error *error)
{
    bool          inserts = false, only_first = false, splits = false;
    const json_t *given;
    json_t       *text = NULL;
    int           code = check_keys(j, "'Metaspace'",
                                    "type replacement str_rep add_prefix_space prepend_scheme split", error);
    if (!code)
        code = get_text(j, "replacement", &given, error);
    if (!code)
        code = read_scheme(j, &inserts, &only_first, error);
    if (!code)
        code = get_bool(j, "split", true, &splits, error);
    if (code)
        return code;
    /* in the library's order: spaces first, so that the inserted one is not replaced */
    text = given ? json_deep_copy(given) : json_string(space);
    code = text ? add_spaces(t, text, error)
                : td_fail(error, TD_ENOMEM, "out of memory for a text");
    if (!code && inserts)
        code = add_insert(t, text, true, only_first, error);
    if (!code && splits)
        code = add_words_of(t, text, error);
    json_decref(text);
    return code;
}

static int read_behavior(const json_t *j, int *out, td_error *error)
{
    static const char *const names[] = { [REMOVED] = "Removed",
                                         [ISOLATED] = "Isolated",
                                         [CONTIGUOUS] = "Contiguous",
                                         [WITH_PREVIOUS] = "MergedWithPrevious",
                                         [WITH_NEXT] = "MergedWithNext" };
    const char              *name = json_string_value(json_object_get(j, "behavior"));
    for (int k = REMOVED; k <= WITH_NEXT; k++)
        if (name && !strcmp(name, names[k])) {
            *out = k;
            return 0;
        }
    return td_fail(
        error, TD_EFORMAT,
        "'behavior' is '%.60s', not Removed, Isolated, Contiguous, MergedWithPrevious or "
        "MergedWithNext",
        name ? name : "");
}

static int read_split(const struct target *t, const json_t *j, td_error *error)
{
    struct step s = { .type = STEP_SPLIT };
    int         code = check_keys(j, "'Split'", "type pattern behavior invert", error);
    if (!code)
        code = read_behavior(j, &s.behavior, error);
    if (!code)
        code = get_bool(j, "invert", false, &s.inverted, error);
    if (!code)
        code = set_pattern(&s, j, error);
    return add_if(t, &s, code, error);
}

static int read_digits(const struct target *t, const json_t *j, td_error *error)
{
    bool each;
    int  code = check_keys(j, "'Digits'", "type individual_digits", error);
    if (!code)
        code = get_bool(j, "individual_digits", false, &each, error);
    return code ? code : add_split(t, "\\p{N}", each ? ISOLATED : CONTIGUOUS, error);
}

static int read_splitter(const struct target *t, const json_t *j, td_error *error)
{
    const char *type = type_of(j);
    if (!strcmp(type, "Sequence"))
        return read_sequence(t, json_object_get(j, "pretokenizers"), read_splitter, error);
    if (!strcmp(type, "ByteLevel"))
        return read_byte_level(t, j, error);
    if (!strcmp(type, "Metaspace"))
        return read_metaspace(t, j, error);
    if (!strcmp(type, "Split"))
        return read_split(t, j, error);
    if (!strcmp(type, "Digits"))
        return read_digits(t, j, error);
    if (!strcmp(type, "WhitespaceSplit"))
        return add_split(t, "\\s", REMOVED, error);
    return refuse(t, j, "ByteLevel, Metaspace, Split, Digits, WhitespaceSplit, Sequence", error);
}

int read_steps(struct tokenizer *x, const json_t *normalizer, const json_t *splitter,
               td_error *error)
{
    struct target normalizers = { &x->normalizers, "normalizer", 0 };
    struct target splitters = { &x->splitters, "pre-tokenizer", 0 };
    int           code = 0;
    if (normalizer && !json_is_null(normalizer))
        code = read_normalizer(&normalizers, normalizer, error);
    if (!code && splitter && !json_is_null(splitter))
        code = read_splitter(&splitters, splitter, error);
    return code;
}
