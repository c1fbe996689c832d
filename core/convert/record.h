/* record.h - settings by path, for translations between configs and the config.json of other
 * programs. Each setting remembers whether it was asked for. [main] */
#ifndef TD_CONVERT_RECORD_H
#define TD_CONVERT_RECORD_H

#include "tandem/kind/format.h"

typedef struct td_record td_record;

td_record *td_record_new(void); /* NULL: out of memory */
void       td_record_free(td_record *);

/* Set a value, which is copied; its `text` is made here, except for TEXT and OTHER. TD_EFORMAT if
 * the path has one already. */
int td_record_put(td_record *, const char *path, const td_format_value *, td_error *error);
/* NULL: there is none. */
const td_format_value *td_record_get(const td_record *, const char *path);
/* The same, and mark it as asked for. */
const td_format_value *td_record_ask(td_record *, const char *path);
/* Setting i, in order; NULL past the last. */
const char            *td_record_path(const td_record *, size_t i);
/* The first that begins with `prefix` and was not asked for; NULL: all were. */
const char            *td_record_unasked(const td_record *, const char *prefix);

/* All options of a part and of the parts in it: "model.plugin", "model.attention.heads". */
int td_record_put_part(td_record *, const char *path, const td_part *, td_error *error);

/* The settings in the text of a JSON object; `name` is its file's. NULL with `error`. */
td_record *td_record_from_json(const char *text, size_t size, const char *name, td_error *error);
/* As the text of a JSON object; free() it. NULL with `error`. */
char      *td_record_to_json(const td_record *, td_error *error);

#endif
