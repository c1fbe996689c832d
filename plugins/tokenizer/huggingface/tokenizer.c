/* tokenizer.c - a tokenizer.json as a whole: reading it, and from a text to ids. */
#include "tokenizer.h"

#include "json.h"

/* ---- reading --------------------------------------------------------------------------------- */

static int check_top(const json_t *j, td_error *error)
{
    static const char *const absent[] = { "truncation", "padding" };
    int                      code = check_keys(j, "the file",
                                               "version truncation padding added_tokens normalizer pre_tokenizer "
                                                                    "post_processor decoder model",
                                               error);
    for (int k = 0; k < 2 && !code; k++) {
        const json_t *value = json_object_get(j, absent[k]);
        if (value && !json_is_null(value))
            code = td_fail(error, TD_EUNSUPPORTED, "'%s' is set: it can only be null", absent[k]);
    }
    return code;
}

/* The post-processor only adds ids that our losses and architectures add. */
static int read_parts(struct tokenizer *x, td_error *error)
{
    const json_t *j = x->json, *decoder = json_object_get(j, "decoder");
    int           code = check_top(j, error);
    if (!code)
        code = read_steps(x, json_object_get(j, "normalizer"), json_object_get(j, "pre_tokenizer"),
                          error);
    if (!code && (!decoder || json_is_null(decoder)))
        code = td_fail(error, TD_EUNSUPPORTED, "the file has no decoder, so ids cannot be turned into text");
    if (!code)
        code = read_decoder(x, decoder, error);
    return code ? code
                : read_model(x, json_object_get(j, "model"), json_object_get(j, "added_tokens"),
                             error);
}

int tokenizer_read(struct tokenizer *x, const char *path, const char *text, size_t size,
                   td_error *error)
{
    json_error_t problem;
    td_error     why = { 0 };
    int          code;
    x->json = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &problem);
    if (!x->json)
        return td_fail(error, TD_EFORMAT, "'%s' is not valid JSON: %s (line %d)", path,
                       problem.text, problem.line);
    code = read_parts(x, &why);
    return code ? td_fail(error, code, "cannot read the tokenizer '%s': %s", path, why.text) : 0;
}

static void free_steps(struct growing *list)
{
    struct step *s = (void *)list->data;
    for (size_t k = 0; k < list->size / sizeof *s; k++)
        step_free(&s[k]);
    free(list->data);
}

void tokenizer_free(struct tokenizer *x)
{
    struct decoding *d = (void *)x->decodings.data;
    for (size_t k = 0; k < x->decodings.size / sizeof *d; k++) {
        free(d[k].from);
        free(d[k].to);
    }
    free(d);
    free_steps(&x->normalizers);
    free_steps(&x->splitters);
    trie_free(&x->before);
    trie_free(&x->after);
    trie_free(&x->vocabulary.by_text);
    free(x->vocabulary.at);
    free(x->vocabulary.merges);
    json_decref(x->json);
}

/* ---- encoding -------------------------------------------------------------------------------- */

static int run_steps(const struct growing *list, struct pieces *p, td_error *error)
{
    const struct step *s = (const void *)list->data;
    int                code = 0;
    for (size_t k = 0; k < list->size / sizeof *s && !code; k++) {
        struct pieces out = { 0 };
        code = step_run(&s[k], p, &out, error);
        pieces_free(p);
        *p = out;
    }
    return code;
}

int tokenizer_normalize(const struct tokenizer *x, struct pieces *p, td_error *error)
{
    return run_steps(&x->normalizers, p, error);
}

/* Cut the added tokens out of a piece of text; `out` has the same text. A special one that is not
 * asked for stays text as a whole: no shorter token is looked for within it. */
static void extract_from(const struct tokenizer *x, const struct trie *added, const struct piece *p,
                         struct pieces *out)
{
    size_t begin = p->begin, size = 0;
    for (size_t at = p->begin; at < p->end; at += size) {
        const char *text = out->text.data + at;
        int32_t     id = trie_longest(added, text, p->end - at, &size);
        if (id < 0)
            size = 1;
        if (id < 0 || (x->vocabulary.at[id].special && !x->parses_special))
            continue;
        pieces_add(out, begin, at, p->first && begin == p->begin, -1);
        pieces_add(out, at, at + size, p->first && at == p->begin, id);
        begin = at + size;
    }
    pieces_add(out, begin, p->end, p->first && begin == p->begin, -1);
}

static int extract(const struct tokenizer *x, const struct trie *added, struct pieces *p,
                   td_error *error)
{
    struct pieces out = { .text = p->text };
    if (!added->count)
        return 0;
    for (size_t k = 0; k < pieces_count(p); k++) {
        const struct piece *one = pieces_at(p, k);
        if (one->id < 0)
            extract_from(x, added, one, &out);
        else
            pieces_add(&out, one->begin, one->end, one->first, one->id);
    }
    free(p->list.data);
    *p = out;
    return p->list.failed ? td_fail(error, TD_ENOMEM, "out of memory for a text") : 0;
}

static int encode_piece(const struct tokenizer *x, const struct pieces *p, const struct piece *one,
                        struct growing *ids, td_error *error)
{
    const struct vocabulary *v = &x->vocabulary;
    const char              *text = p->text.data + one->begin;
    size_t                   size = one->end - one->begin;
    if (one->id >= 0) {
        add_id(ids, one->id);
        return 0;
    }
    return v->unigram ? unigram_encode(v, text, size, ids, error)
                      : bpe_encode(v, text, size, ids, error);
}

int tokenizer_encode(const struct tokenizer *x, const char *text, size_t size, struct growing *ids,
                     td_error *error)
{
    struct pieces p = { 0 };
    size_t        valid = unicode_valid(text, size);
    int           code = 0;
    if (valid != size)
        return td_fail(
            error, TD_EFORMAT,
            "cannot encode a text of %zu bytes: byte %zu is not UTF-8, which this tokenizer "
            "needs",
            size, valid);
    /* in the library's order; each step makes new pieces of the ones before */
    grow_append(&p.text, text, size);
    pieces_add(&p, 0, p.text.size, true, -1);
    if (p.text.failed || p.list.failed)
        code = td_fail(error, TD_ENOMEM, "out of memory for a text");
    if (!code)
        code = extract(x, &x->before, &p, error);
    if (!code)
        code = tokenizer_normalize(x, &p, error);
    if (!code)
        code = extract(x, &x->after, &p, error);
    if (!code)
        code = run_steps(&x->splitters, &p, error);
    for (size_t k = 0; k < pieces_count(&p) && !code; k++)
        code = encode_piece(x, &p, pieces_at(&p, k), ids, error);
    pieces_free(&p);
    if (!code && ids->failed)
        code = td_fail(error, TD_ENOMEM, "out of memory for a text's ids");
    return code;
}
