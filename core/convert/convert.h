/* convert.h - models to and from the formats of other programs (kind/format.h): a run's parameters
 * as a folder with config.json and model.safetensors, or as one file (GGUF), and back.
 * [main] */
#ifndef TD_CONVERT_CONVERT_H
#define TD_CONVERT_CONVERT_H

#include "convert/translation.h"
#include "io/safetensors.h"
#include "run/session.h"

/* How to write a model. */
typedef struct td_convert_out {
    const char *format;  /* the name of its plugin */
    const char *weights; /* the parameter file */
    const char *folder;  /* or file, to be created; it must not exist */
    int         type;    /* of the tensors: TD_STORED_F32, _BF16 or, in GGUF, _Q8_0 */
} td_convert_out;

/* Write the session's model with the parameters of a file, which need not fit into memory. The
 * session needs only a model (TD_NEED_MODEL). TD_ECONFIG if the format cannot represent it; the
 * message then says which formats can. */
int td_convert_write(td_session *, const td_convert_out *, td_error *error);

/* How to read a model. */
typedef struct td_convert_in {
    td_registry       *registry; /* to find the format in */
    td_journal        *log;
    const char        *folder; /* with config.json and safetensors; or a GGUF file */
    const char        *format; /* NULL: the one for the "model_type" in config.json */
    const char        *run;    /* the run's directory, to be created; it must not exist */
    const char *const *plugin_paths;
} td_convert_in;

/* Read a folder or file as a run with one checkpoint, at step 0. Errors in the config that the format made
 * are in `errors`; any other error is in `error`. 0, or a negative code. */
int td_convert_read(const td_convert_in *, td_errors *errors, td_error *error);

/* Write a run of the session's model with one checkpoint, at step 0, with these parameters. The
 * directory must not exist. */
int td_convert_write_run(td_session *, const td_stored *parameters, size_t n, const char *run,
                         td_error *error);

/* A run that a model is made from. */
typedef struct td_adapt_from {
    const char      *run;     /* its name, for messages */
    const td_config *config;  /* with which it was trained */
    const char      *weights; /* its parameter file */
} td_adapt_from;

/* Make a run of the session's model from parameters of runs of other architectures, as the model's
 * architecture says (td_architecture.origin): its encoder's from `encoder` (NULL: from `decoder`),
 * all others from `decoder`. The session needs only a model (TD_NEED_MODEL). TD_ECONFIG if they do not
 * fit together. */
int td_convert_adapt(td_session *, const td_adapt_from *decoder, const td_adapt_from *encoder,
                     const char *run, td_error *error);

/* Whether a path is a folder or a file of another program, not a run or a checkpoint. */
bool  td_convert_is_foreign(const char *path);
/* The directory of the run that it is converted to (`run` is not read): in the user's cache,
 * where it is created unless it exists. free() it. NULL with an error, as td_convert_read. */
char *td_convert_folder(const td_convert_in *, td_errors *errors, td_error *error);

/* The format named `name`, with its defaults, in the arena. 0, or a negative code with `error`. */
int td_convert_format(td_registry *, const char *name, td_arena *, td_part *out, td_error *error);

/* The settings of a session's model, as td_translate_write takes them. NULL with `error`. */
td_record *td_convert_settings(td_session *, td_error *error);

/* Pass the session's tokenizer to out->put as files of other programs. TD_EUNSUPPORTED with the
 * reason if it cannot be written. */
int td_convert_put_tokenizer(td_session *, const td_tokenizer_out *out, td_error *error);

/* Write the session's tokenizer as files of other programs, into a folder with a model whose
 * config.json has these settings. A tokenizer that is missing or cannot be written is not an
 * error; the log says why. */
int td_convert_write_tokenizer(td_session *, const td_record *settings, const char *folder,
                               td_error *error);

/* The tokenizer of a folder, as the text of a config; empty: it has none that is known. */
int td_convert_find_tokenizer(td_registry *, const char *folder, size_t *from, td_text *out,
                              td_error *error);

/* A folder that appears at `path` complete, or not at all: write its files into the temporary
 * directory that this returns, then call td_convert_end. free() it. NULL with `error`, also if the
 * path exists. */
char *td_convert_begin(const char *path, td_error *error);
/* Rename it to `path`, or remove it if `code` is not 0; returns the code. */
int   td_convert_end(char *temporary, const char *path, int code, td_error *error);

#endif
