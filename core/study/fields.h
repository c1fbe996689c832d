/* fields.h - reads groups of a study's config into structs: names, types, and messages with file
 * and line. */
#ifndef TD_STUDY_FIELDS_H
#define TD_STUDY_FIELDS_H

#include "study/design.h"

typedef struct td_fields_reader {
    td_arena  *arena;
    td_errors *errors;
} td_fields_reader;

typedef enum td_field_type {
    TD_FIELD_TEXT,
    TD_FIELD_TEXTS, /* a string, or a list of them */
    TD_FIELD_REAL,
    TD_FIELD_INTEGER,  /* from 0 */
    TD_FIELD_INTEGERS, /* an integer, or a list of them, from 0 */
    TD_FIELD_BOOL,
    TD_FIELD_OVERLAY, /* a file, "key=value", a list of these, or a group { files, keys } */
    TD_FIELD_FILES,   /* the same without the group */
    TD_FIELD_GROUP,   /* a group, as it is */
    TD_FIELD_ANY      /* as it is */
} td_field_type;

/* Fields that the group lacks keep the values in the struct. */
typedef struct td_field {
    const char   *name; /* NULL at the end */
    td_field_type type;
    size_t        offset;
} td_field;

/* `what`: the name of the group in messages, "study.budget". */
void td_fields_read(td_fields_reader *, const td_setting *group, const char *what,
                    const td_field *fields, void *out);
void td_fields_overlay(td_fields_reader *, const td_setting *v, const char *what, td_overlay *out);
/* Add "FILE:LINE: WHAT: .." */
void td_fields_error(td_fields_reader *, const td_setting *, const char *what, const char *format,
                     ...) TD_PRINTF(4, 5);
/* Whether a character may be in such a name; which ones may begin it is stricter. */
bool td_fields_in_name(char c);
/* Whether a name can be a part of a directory's name; adds an error if not. */
bool td_fields_name(td_fields_reader *, const td_setting *, const char *what, const char *name);

#endif
