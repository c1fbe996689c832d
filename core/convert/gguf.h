/* gguf.h - GGUF's keys as settings and as a tokenizer, in both directions. [main] */
#ifndef TD_CONVERT_GGUF_H
#define TD_CONVERT_GGUF_H

#include "convert/record.h"
#include "io/gguf.h"
#include "run/session.h"

/* A model's settings from the keys: all but the tokenizer's and those that only describe
 * the file or its quantization. `name` is the file's. NULL with `error`. */
td_record *td_gguf_settings(const td_gguf *, const char *name, td_error *error);
/* The settings as keys. TD_ECONFIG for a number that GGUF's 32 bits would change. */
int        td_gguf_put_settings(td_gguf_out *, const td_record *, td_error *error);

/* The session's tokenizer as keys, for a file with a model of these settings. If llama.cpp would
 * compute other ids with it, it is left out, and the log says why. */
int  td_gguf_put_tokenizer(td_gguf_out *, td_session *, const td_record *settings, td_error *error);
/* The same for a tokenizer.json, and a model of `ids` ids. TD_EUNSUPPORTED with the reason, and no
 * key set. */
int  td_gguf_put_vocabulary(td_gguf_out *, const char *json, size_t size, int64_t ids,
                            td_error *error);
/* The file's tokenizer as the texts of a tokenizer.json and a tokenizer_config.json; free() them.
 * TD_EUNSUPPORTED or TD_EFORMAT with the reason, and no texts. */
int  td_gguf_read_tokenizer(const td_gguf *, char **json, char **config, td_error *error);
/* The same as files in a folder. */
int  td_gguf_write_tokenizer(const td_gguf *, const char *folder, td_error *error);
/* Warn if llama.cpp would put other ids at the ends of a text than our models have there. */
void td_gguf_warn_of_ends(const td_gguf *, const char *name, td_journal *log);

/* How llama.cpp splits a text into words before it merges bytes. */
typedef struct td_gguf_splitter {
    const char *name;    /* "gpt-2" */
    const char *regex;   /* as tokenizer.json has it */
    bool        at_once; /* a word that is a token is taken whole, without merges */
} td_gguf_splitter;

/* Splitter k; NULL past the last. */
const td_gguf_splitter *td_gguf_splitter_at(size_t k);

#endif
