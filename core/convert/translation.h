/* translation.h - runs the hooks of a format, and collects their settings and tensors. [main] */
#ifndef TD_CONVERT_TRANSLATION_H
#define TD_CONVERT_TRANSLATION_H

#include "base/arena.h"
#include "convert/record.h"

typedef struct td_translated_file {
    const char *name, *text;
    size_t      size;
} td_translated_file;

/* A tensor of the other program, as td_format_tensor has it. */
typedef struct td_translated_tensor {
    const char *name, *parameter;
    double      scale, fill, shift; /* shift: subtracted when writing, added when reading */
    int64_t     dim[TD_MAX_RANK];
    int         rank;
    int64_t     interleaved; /* rows that change places together; 0: none do */
} td_translated_tensor;

/* The settings, tensors and files that a hook has made. */
typedef struct td_translated {
    td_record            *settings;
    td_translated_tensor *tensors; /* [n_tensors], in order */
    td_translated_file   *files;   /* [n_files] */
    size_t                n_tensors, n_files;
    td_arena             *arena; /* owns the texts */
} td_translated;

/* From the settings of a config to the format's. TD_ECONFIG if the format cannot represent the
 * model, with the setting's name. Free the result in either case. */
int td_translate_write(const td_part *format, td_record *model, const char *dtype,
                       td_translated *out, td_error *error);
/* The names of the tensors that a model has. */
typedef struct td_tensor_names {
    bool (*has)(const void *of, const char *name);
    const void *of;
} td_tensor_names;

/* From the settings of config.json to a config's. TD_EFORMAT if they are wrong, or not
 * understood. */
int  td_translate_read(const td_part *format, td_record *settings, const td_tensor_names *,
                       td_translated *out, td_error *error);
void td_translated_free(td_translated *);

/* The tensor that a parameter is written to, or read from; NULL: there is none. */
const td_translated_tensor *td_translated_of(const td_translated *, const char *parameter);
/* A tensor by its name in the file; NULL: there is none. */
const td_translated_tensor *td_translated_named(const td_translated *, const char *name);

#endif
