/* json.h - reads values of a tokenizer.json, each of the type that it has to have. */
#ifndef TD_TOKENIZER_HUGGINGFACE_JSON_H
#define TD_TOKENIZER_HUGGINGFACE_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "../growing.h"
#include "tandem/error.h"

/* "type" of an object, "" if it has none. */
const char *type_of(const json_t *);

/* Refuse an object that has a key other than `keys`, which are separated by spaces: an unknown key
 * may change what the object does. */
int check_keys(const json_t *, const char *what, const char *keys, td_error *error);

/* A value of an object, `otherwise` where it is missing or null. A value of another type is
 * refused. */
int get_bool(const json_t *, const char *key, bool otherwise, bool *out, td_error *error);
/* Of text; NULL where it is missing or null. */
int get_text(const json_t *, const char *key, const json_t **out, td_error *error);
/* A number of at least 0. */
int get_count(const json_t *, const char *key, size_t otherwise, size_t *out, td_error *error);

/* A copy of a text, followed by a 0. NULL: out of memory. */
char *copy_text(const json_t *);

#endif
