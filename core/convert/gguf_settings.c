/* gguf_settings.c - GGUF's keys as settings of a model, and back. */
#include <math.h>
#include <stdlib.h>

#include "convert/gguf.h"

enum { LONGEST = 1000 /* bytes of a text */ };

/* ---- reading --------------------------------------------------------------------------------- */

/* Keys that only describe the file begin with these; the tokenizer's are converted separately. */
static bool is_setting(const char *key)
{
    static const char *const others[] = { "general.", "tokenizer.", "quantize." };
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
        if (!strncmp(key, others[k], strlen(others[k])))
            return !strcmp(key, "general.architecture");
    return true;
}

/* The shortest decimal that rounds to this float: what the author probably wrote. */
static double shortest(float x)
{
    char text[40];
    for (int digits = 6; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x)
            return strtod(text, NULL);
    }
    return (double)x;
}

static bool is_integer(const td_gguf_value *v)
{
    return v->type != TD_GGUF_F32 && v->type != TD_GGUF_F64 && v->type != TD_GGUF_BOOL;
}

static td_format_value number_of(const td_gguf_value *v)
{
    double x = td_gguf_number(v, 0);
    if (v->type == TD_GGUF_BOOL)
        return (td_format_value){ TD_VALUE_BOOL, x != 0, x != 0, "" };
    /* beyond 2^53, where a double skips integers, no setting is meaningful */
    if (is_integer(v) && fabs(x) <= 0x1p53)
        return (td_format_value){ TD_VALUE_INT, (int64_t)x, x, "" };
    if (!isfinite(x))
        return (td_format_value){ TD_VALUE_OTHER, 0, 0, "not a finite number" };
    return (td_format_value){ TD_VALUE_FLOAT, 0, v->type == TD_GGUF_F32 ? shortest((float)x) : x,
                              "" };
}

static int add_text(td_record *r, const char *key, const td_gguf_value *v, td_error *error)
{
    const unsigned char *at = v->data;
    size_t               size;
    const char          *text = td_gguf_text(&at, &size);
    char                 copy[LONGEST + 1];
    td_format_value      value = { TD_VALUE_TEXT, 0, 0, copy };
    if (size > LONGEST || memchr(text, 0, size))
        return td_fail(error, TD_EFORMAT, "'%.200s' has %zu bytes: too many, or one of them is 0",
                       key, size);
    memcpy(copy, text, size);
    copy[size] = 0;
    if (!td_is_utf8(copy))
        return td_fail(error, TD_EFORMAT, "'%.200s' is not UTF-8", key);
    return td_record_put(r, key, &value, error);
}

static int add_setting(td_record *r, const char *key, const td_gguf_value *v, td_error *error)
{
    td_format_value value = { TD_VALUE_OTHER, (int64_t)v->count, 0, "a list" };
    if (!v->list && v->type == TD_GGUF_TEXT)
        return add_text(r, key, v, error);
    if (!v->list)
        value = number_of(v);
    return td_record_put(r, key, &value, error);
}

td_record *td_gguf_settings(const td_gguf *g, const char *name, td_error *error)
{
    td_record  *r = td_record_new();
    td_error    why = { 0 };
    const char *key;
    int         code = r ? 0 : TD_ENOMEM;
    for (size_t i = 0; !code && (key = td_gguf_key(g, i)) != NULL; i++)
        /* older files give the number of tokens only by listing them */
        if (is_setting(key) || !strcmp(key, "tokenizer.ggml.tokens"))
            code = add_setting(r, key, td_gguf_at(g, i), &why);
    if (!code)
        return r;
    td_fail(error, code, "'%s': %s", name, *why.text ? why.text : "out of memory for its settings");
    td_record_free(r);
    return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int put_number(td_gguf_out *out, const char *path, const td_format_value *v, td_error *error)
{
    bool integer = v->type == TD_VALUE_INT;
    bool fits = integer ? v->integer >= 0 && v->integer <= UINT32_MAX
                        : shortest((float)v->number) == v->number;
    if (!fits)
        return td_fail(error, TD_ECONFIG,
                       "GGUF cannot represent this model: %s would be %s, which %s", path, v->text,
                       integer ? "is not a number from 0 to 4294967295"
                               : "single precision cannot hold exactly");
    if (integer)
        td_gguf_put_u32(out, path, (uint32_t)v->integer);
    else
        td_gguf_put_f32(out, path, (float)v->number);
    return 0;
}

int td_gguf_put_settings(td_gguf_out *out, const td_record *r, td_error *error)
{
    const char *path;
    int         code = 0;
    for (size_t i = 0; !code && (path = td_record_path(r, i)) != NULL; i++) {
        const td_format_value *v = td_record_get(r, path);
        if (v->type == TD_VALUE_INT || v->type == TD_VALUE_FLOAT)
            code = put_number(out, path, v, error);
        else if (v->type == TD_VALUE_BOOL)
            td_gguf_put_bool(out, path, v->integer);
        else if (v->type == TD_VALUE_TEXT)
            td_gguf_put_text(out, path, v->text);
        else
            code = td_fail(error, TD_EPLUGIN, "the format is faulty: GGUF has no type for '%s'",
                           path);
    }
    return code;
}
