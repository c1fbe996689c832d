/* steps.h - what is done with a text before it becomes tokens: normalizers and pre-tokenizers, as a
 * list of simple steps. */
#ifndef TD_TOKENIZER_HUGGINGFACE_STEPS_H
#define TD_TOKENIZER_HUGGINGFACE_STEPS_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "charsmap.h"
#include "ids.h"
#include "tandem/error.h"

/* ---- a text in pieces ------------------------------------------------------------------------ */

struct piece {
    size_t  begin, end; /* in the text */
    int32_t id;         /* of an added token; -1: text */
    bool    first;      /* begins where the whole text did */
};

/* Zero-initialize it. */
struct pieces {
    struct growing text, list; /* of struct piece */
};

size_t              pieces_count(const struct pieces *);
const struct piece *pieces_at(const struct pieces *, size_t);
void                pieces_free(struct pieces *);
/* Add the bytes [begin, end) of the text as a piece, unless there are none. */
void                pieces_add(struct pieces *, size_t begin, size_t end, bool first, int32_t id);

/* ---- steps ----------------------------------------------------------------------------------- */

enum step_type {
    STEP_NORMALIZE, /* to a form of Unicode */
    STEP_LOWERCASE,
    STEP_MAP,     /* characters, by `map` */
    STEP_INSERT,  /* `text` at the beginning of each piece */
    STEP_REPLACE, /* matches, by `text` */
    STEP_SPLIT,   /* at matches */
    STEP_BYTES    /* each byte becomes a character that can be seen (tokenizer_json.h) */
};

/* What becomes of matches where a piece is split. */
enum behavior { REMOVED, ISOLATED, CONTIGUOUS, WITH_PREVIOUS, WITH_NEXT };

enum form { NFC, NFD, NFKC, NFKD };

struct step {
    int         type;
    int         form;
    int         behavior;
    bool        inverted;     /* what does not match counts as a match */
    bool        only_first;   /* insert only into the first piece */
    bool        unless_there; /* insert only where the piece does not begin with it */
    char       *text;
    size_t      size;
    pcre2_code *pattern;

    struct charsmap *map;
};

/* A pattern: the text itself, or a regular expression of Oniguruma, which `tokenizers` uses. An
 * expression that means something else here is refused. NULL with `error`. */
pcre2_code *pattern_new(const char *text, size_t size, bool literal, td_error *error);

/* Apply a step to `in`; `out` must be empty. */
int  step_run(const struct step *, const struct pieces *in, struct pieces *out, td_error *error);
void step_free(struct step *);

/* Whether this build has tables of Unicode, so that STEP_NORMALIZE, STEP_LOWERCASE and STEP_MAP can be
 * used. */
bool   unicode_is_known(void);
int    unicode_normalize(const char *text, size_t size, int form, struct growing *out,
                         td_error *error);
int    unicode_lowercase(const char *text, size_t size, struct growing *out, td_error *error);
int    unicode_map(const struct charsmap *, const char *text, size_t size, struct growing *out,
                   td_error *error);
/* The first byte that is not UTF-8; `size` if all is. */
size_t unicode_valid(const char *text, size_t size);

#endif
