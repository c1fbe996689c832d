/* instructions.h - shared by the files of data 'instructions': its options, examples as text, and
 * examples as records of a shard. */
#ifndef TD_DATA_INSTRUCTIONS_INSTRUCTIONS_H
#define TD_DATA_INSTRUCTIONS_INSTRUCTIONS_H

#include "../common/mixture.h"
#include "../common/object.h"
#include "../common/prepare.h"
#include "../common/shard.h"

typedef struct instructions_source {
    mixed_source from;
    int64_t      max_examples; /* use only the first examples of the training part; 0: all */
} instructions_source;

enum { TURNS_TOGETHER, TURNS_EACH, TURNS_LAST }; /* instructions_config.turns */
enum { EOS_BOTH, EOS_TARGETS, EOS_NONE };        /* instructions_config.eos */
enum { CUT_RIGHT, CUT_LEFT };                    /* instructions_config.truncation_side */

typedef struct instructions_config {
    td_list     sources;          /* items are instructions_source */
    const char *inputs, *targets; /* keys; "": use the known ones */
    const char *messages, *role, *content;
    td_list     roles; /* of td_chat_role; none: the standard ones */
    int64_t     turns, eos, truncation_side;
    int64_t     max_inputs, max_targets; /* tokens */
    int64_t     rate_limit, max_bad_lines;
    bool        shuffle;
} instructions_config;

/* The roles in use. */
td_list chat_roles(const instructions_config *);

/* ---- examples as text ------------------------------------------------------------------------ */

/* A piece of an example: bytes of examples.text. */
typedef struct span {
    size_t begin, size;
} span;

/* The examples of one line; the struct is reused for the next line. Given and predicted spans
 * alternate in each: inputs, targets, and the further turns of a chat. */
typedef struct examples {
    char   *text;
    size_t  size, room;
    span   *spans;
    size_t  n_spans, span_room;
    size_t *ends; /* for each example, the number of spans up to its end */
    size_t  count, end_room;
    bool    failed; /* memory ran out */
} examples;

void examples_clear(examples *);
void examples_free(examples *);
/* Append to the text. */
void examples_text(examples *, const char *text, size_t size);
/* End a span that began at offset `begin` of the text. */
void examples_span(examples *, size_t begin);
/* End an example, which has the spans added since the previous one. */
void examples_end(examples *);

/* Read the examples of an object. False: the line is bad, and `why` has the reason, or
 * out->failed is set. */
bool        examples_read(const instructions_config *, json_t *object, examples *out,
                          char why[OBJECT_WHY]);
/* The same for a list of messages. */
bool        chat_read(const instructions_config *, const json_t *messages, examples *out,
                      char why[OBJECT_WHY]);
/* The string under a key, and its size; NULL: `why` says why. `what` begins the message: "message
 * 2: " or "". */
const char *string_of(const json_t *object, const char *key, const char *what, size_t *size,
                      char why[OBJECT_WHY]);

/* Visit the examples of a part in order, each as a document (preparation.each). */
int instructions_each(const void *config, const data_source *, int part, const td_services *,
                      int64_t *bad, document_visitor *, void *arg, td_error *error);

/* Make the shard of a part unless it exists. `path` [4096] receives its name without .bin. */
int instructions_prepare(const instructions_config *, const data_source *, int part,
                         const td_data_in *, char *path, td_error *error);

/* ---- examples as records --------------------------------------------------------------------- */

/* Where the parts of an example are in its shard, and how much of them is read. */
typedef struct extent {
    int64_t first, end;          /* pieces */
    int64_t inputs, targets;     /* first token of each */
    int64_t n_inputs, n_targets; /* whole */
    int64_t kept_inputs, kept_targets;
} extent;

extent  example_extent(const instructions_config *, const shard *, int64_t document);
/* The record of an example, in the caller's arena. `eos`: the tokenizer's; negative: none. */
int     example_read(const instructions_config *, int32_t eos, const shard *, int64_t document,
                     const td_split_in *, td_record *out, td_error *error);
/* Bytes of the scored tokens from `from_token` on, where inputs are counted before targets. */
int64_t example_bytes(const instructions_config *, const shard *, int64_t document,
                      int64_t from_token);

#endif
