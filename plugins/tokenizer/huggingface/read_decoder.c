/* read_decoder.c - decoders of a tokenizer.json, as simple steps. */
#include "json.h"
#include "tokenizer.h"

enum { DEEPEST = 16 }; /* sequences within sequences */

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for a decoder");
}

/* The step's memory is the list's from now on. */
static int add(struct tokenizer *x, struct decoding *d, td_error *error)
{
    size_t before = x->decodings.size;
    grow_append(&x->decodings, (const char *)d, sizeof *d);
    if (x->decodings.size > before)
        return 0;
    free(d->from);
    free(d->to);
    return no_memory(error);
}

static int add_simple(struct tokenizer *x, int type, td_error *error)
{
    return add(x, &(struct decoding){ .type = type }, error);
}

/* One that looks for `from`, a text that is not empty; `to`: NULL for "". */
static int add_from(struct tokenizer *x, struct decoding d, const json_t *from, const json_t *to,
                    td_error *error)
{
    if (!from || !json_string_length(from))
        return td_fail(error, TD_EFORMAT, "a decoder's text to look for is missing, or empty");
    d.from = copy_text(from);
    d.to = to ? copy_text(to) : calloc(1, 1);
    d.from_size = json_string_length(from);
    d.to_size = to ? json_string_length(to) : 0;
    if (d.from && d.to)
        return add(x, &d, error);
    free(d.from);
    free(d.to);
    return no_memory(error);
}

static int read_replace(struct tokenizer *x, const json_t *j, td_error *error)
{
    const json_t *pattern = json_object_get(j, "pattern"), *from, *to;
    int           code = check_keys(j, "the decoder 'Replace'", "type pattern content", error);
    if (!code)
        code = check_keys(pattern, "the 'pattern' of the decoder 'Replace'", "String", error);
    if (!code)
        code = get_text(pattern, "String", &from, error);
    if (!code)
        code = get_text(j, "content", &to, error);
    return code ? code : add_from(x, (struct decoding){ .type = DECODE_REPLACE }, from, to, error);
}

static int read_strip(struct tokenizer *x, const json_t *j, td_error *error)
{
    struct decoding d = { .type = DECODE_STRIP };
    const json_t   *from;
    int             code = check_keys(j, "the decoder 'Strip'", "type content start stop", error);
    if (!code)
        code = get_text(j, "content", &from, error);
    if (!code)
        code = get_count(j, "start", 0, &d.begin, error);
    if (!code)
        code = get_count(j, "stop", 0, &d.end, error);
    return code ? code : add_from(x, d, from, NULL, error);
}

/* Metaspace's space, unless it names another. */
static json_t *replacement_of(const json_t *j)
{
    json_t *own = json_object_get(j, "replacement");
    return json_is_string(own) ? json_incref(own) : json_string("\xE2\x96\x81");
}

/* Remove the space that may have been put before the text: the first token loses all its spaces. */
static int read_metaspace(struct tokenizer *x, const json_t *j, td_error *error)
{
    const char *scheme = json_string_value(json_object_get(j, "prepend_scheme"));
    bool        prefix;
    json_t     *from = NULL, *one = NULL;
    int         code = check_keys(j, "the decoder 'Metaspace'",
                                  "type replacement str_rep add_prefix_space prepend_scheme split", error);
    if (!code)
        code = get_bool(j, "add_prefix_space", true, &prefix, error);
    if (code)
        return code;
    /* dropped before the others become spaces again: later it could be a space of the text */
    from = replacement_of(j);
    one = json_string(" ");
    if (!from || !one)
        code = no_memory(error);
    if (!code && (scheme ? strcmp(scheme, "never") != 0 : prefix))
        code = add_from(x, (struct decoding){ .type = DECODE_DROP }, from, NULL, error);
    if (!code)
        code = add_from(x, (struct decoding){ .type = DECODE_REPLACE }, from, one, error);
    json_decref(from);
    json_decref(one);
    return code;
}

static int read_one(struct tokenizer *, const json_t *, int depth, td_error *);

static int read_sequence(struct tokenizer *x, const json_t *list, int depth, td_error *error)
{
    int code = 0;
    if (!json_is_array(list) || depth > DEEPEST)
        return td_fail(error, TD_EFORMAT,
                       "a sequence of decoders is not a list, or is nested more than %d deep",
                       DEEPEST);
    for (size_t k = 0; k < json_array_size(list) && !code; k++)
        code = read_one(x, json_array_get(list, k), depth + 1, error);
    return code;
}

static int read_one(struct tokenizer *x, const json_t *j, int depth, td_error *error)
{
    const char *type = type_of(j);
    if (!strcmp(type, "Sequence"))
        return read_sequence(x, json_object_get(j, "decoders"), depth, error);
    if (!strcmp(type, "ByteLevel"))
        return add_simple(x, DECODE_BYTES, error);
    if (!strcmp(type, "ByteFallback"))
        return add_simple(x, DECODE_NAMED, error);
    if (!strcmp(type, "Fuse"))
        return add_simple(x, DECODE_FUSE, error);
    if (!strcmp(type, "Replace"))
        return read_replace(x, j, error);
    if (!strcmp(type, "Strip"))
        return read_strip(x, j, error);
    if (!strcmp(type, "Metaspace"))
        return read_metaspace(x, j, error);
    return td_fail(error, TD_EUNSUPPORTED,
                   "the decoder '%.60s' cannot be read; these can: ByteLevel, ByteFallback, Fuse, "
                   "Replace, Strip, Metaspace, Sequence",
                   type);
}

int read_decoder(struct tokenizer *x, const json_t *j, td_error *error)
{
    return read_one(x, j, 0, error);
}
