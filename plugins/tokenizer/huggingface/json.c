/* json.c - reads values of a tokenizer.json. */
#include "json.h"

#include <stdint.h>

const char *type_of(const json_t *j)
{
    const char *type = json_string_value(json_object_get(j, "type"));
    return type ? type : "";
}

static bool is_among(const char *key, const char *keys)
{
    size_t n = strlen(key);
    for (const char *at = keys; *at; at += strcspn(at, " "), at += *at == ' ')
        if (strcspn(at, " ") == n && !memcmp(at, key, n))
            return true;
    return false;
}

int check_keys(const json_t *j, const char *what, const char *keys, td_error *error)
{
    json_t *object = (json_t *)(uintptr_t)j; /* iterators of jansson are not const */
    if (!json_is_object(j))
        return td_fail(error, TD_EFORMAT, "%s is not an object", what);
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at))
        if (!is_among(json_object_iter_key(at), keys))
            return td_fail(error, TD_EUNSUPPORTED,
                           "%s has '%.100s', which is not known; these are: %s", what,
                           json_object_iter_key(at), keys);
    return 0;
}

/* NULL: missing, or null. */
static const json_t *get(const json_t *j, const char *key)
{
    const json_t *value = json_object_get(j, key);
    return json_is_null(value) ? NULL : value;
}

int get_bool(const json_t *j, const char *key, bool otherwise, bool *out, td_error *error)
{
    const json_t *value = get(j, key);
    *out = value ? json_is_true(value) : otherwise;
    return !value || json_is_boolean(value)
               ? 0
               : td_fail(error, TD_EFORMAT, "'%s' must be true or false", key);
}

int get_text(const json_t *j, const char *key, const json_t **out, td_error *error)
{
    *out = get(j, key);
    return !*out || json_is_string(*out) ? 0
                                         : td_fail(error, TD_EFORMAT, "'%s' must be a text", key);
}

int get_count(const json_t *j, const char *key, size_t otherwise, size_t *out, td_error *error)
{
    const json_t *value = get(j, key);
    json_int_t    n = value ? json_integer_value(value) : 0;
    *out = value ? (size_t)n : otherwise;
    return !value || (json_is_integer(value) && n >= 0)
               ? 0
               : td_fail(error, TD_EFORMAT, "'%s' must be an integer of at least 0", key);
}

char *copy_text(const json_t *j)
{
    size_t n = json_string_length(j);
    char  *copy = malloc(n + 1);
    if (copy) {
        memcpy(copy, json_string_value(j), n);
        copy[n] = 0;
    }
    return copy;
}
