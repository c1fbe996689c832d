/* tokenizer_json.h - shared by the tokenizers in this folder: the files that describe a tokenizer
 * to Hugging Face's programs, tokenizer.json and tokenizer_config.json. For C and C++. */
#ifndef TANDEM_PLUGINS_TOKENIZER_TOKENIZER_JSON_H
#define TANDEM_PLUGINS_TOKENIZER_TOKENIZER_JSON_H

#include <stdarg.h>
#include <stdio.h>

#include "growing.h"
#include "tandem/kind/tokenizer.h"

/* ---- writing JSON ---------------------------------------------------------------------------- */

static inline void emit_raw(struct growing *j, const char *text)
{
    grow_append(j, text, strlen(text));
}

/* As printf does, up to 200 bytes. */
static inline void emit_print(struct growing *j, const char *format, ...) TD_PRINTF(2, 3);

static inline void emit_print(struct growing *j, const char *format, ...)
{
    char    text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    emit_raw(j, text);
}

/* A text in quotes; it must be UTF-8. */
static inline void emit_string(struct growing *j, const char *text, size_t size)
{
    emit_raw(j, "\"");
    for (size_t k = 0; k < size; k++) {
        unsigned char c = (unsigned char)text[k];
        if (c < 0x20 || c == 0x7F)
            emit_print(j, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            emit_print(j, "\\%c", c);
        else
            grow_append(j, &text[k], 1);
    }
    emit_raw(j, "\"");
}

/* ---- byte-level vocabularies ----------------------------------------------------------------- */

/* The character that stands for a byte in vocabularies like GPT-2's: Latin-1's if it is visible,
 * otherwise the next one from 256 on. */
static inline int byte_character(int byte)
{
    if (byte < 33)
        return 256 + byte;
    if (byte > 126 && byte < 161)
        return 256 + 33 + byte - 127;
    return byte == 173 ? 256 + 67 : byte;
}

/* The inverse; -1: the character stands for no byte. */
static inline int character_byte(int c)
{
    int hidden = c - 256;
    if (hidden < 0)
        return byte_character(c) == c ? c : -1;
    return hidden < 33 ? hidden : hidden < 67 ? 127 + hidden - 33 : hidden == 67 ? 173 : -1;
}

/* The same in UTF-8, with a 0 at its end. */
static inline void byte_text(int byte, char out[3])
{
    int c = byte_character(byte);
    if (c < 128) {
        out[0] = (char)c;
        out[1] = 0;
    } else {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        out[2] = 0;
    }
}

/* ---- parts of tokenizer.json ----------------------------------------------------------------- */

/* An added token, which is found in a text before all others. A special one is not looked for where
 * tokenizer_config.json says so (put_token_config). */
static inline void emit_added(struct growing *j, int id, const char *name, bool special, bool first)
{
    emit_print(j, "%s\n    {\"id\": %d, \"content\": ", first ? "" : ",", id);
    emit_string(j, name, strlen(name));
    emit_print(j,
               ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
               "false, \"special\": %s}",
               special ? "true" : "false");
}

/* The post-processor that puts an id before every text, and once before a pair of texts. */
static inline void emit_template(struct growing *j, int begin, const char *name)
{
    struct growing quoted = { NULL, 0, 0, false };
    emit_string(&quoted, name, strlen(name));
    grow_append(&quoted, "", 1);
    j->failed = j->failed || quoted.failed;
    if (quoted.failed) {
        free(quoted.data);
        return;
    }
    /* a pair of texts is one text here: only the first begins with the id */
    emit_raw(j, "{\"type\": \"TemplateProcessing\", \"single\": [");
    for (int pair = 0; pair < 2; pair++) {
        emit_raw(j, pair ? "], \"pair\": [" : "");
        emit_raw(j, "{\"SpecialToken\": {\"id\": ");
        emit_raw(j, quoted.data);
        emit_raw(j, ", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}");
        emit_raw(j, pair ? ", {\"Sequence\": {\"id\": \"B\", \"type_id\": 0}}" : "");
    }
    emit_raw(j, "], \"special_tokens\": {");
    emit_raw(j, quoted.data);
    emit_raw(j, ": {\"id\": ");
    emit_raw(j, quoted.data);
    emit_print(j, ", \"ids\": [%d], \"tokens\": [", begin);
    emit_raw(j, quoted.data);
    emit_raw(j, "]}}}");
    free(quoted.data);
}

/* What the file begins with, up to its added tokens. */
static inline void emit_begin(struct growing *j)
{
    emit_raw(j, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"
                "  \"added_tokens\": [");
}

/* From the end of the added tokens to the model, which is to follow. Parts are JSON; `name` is the
 * name of the id `begin`; NULL: none. */
static inline void emit_steps(struct growing *j, const char *normalizer, const char *pre_tokenizer,
                              const char *decoder, int begin, const char *name)
{
    emit_raw(j, "],\n  \"normalizer\": ");
    emit_raw(j, normalizer);
    emit_raw(j, ",\n  \"pre_tokenizer\": ");
    emit_raw(j, pre_tokenizer);
    emit_raw(j, ",\n  \"post_processor\": ");
    if (name)
        emit_template(j, begin, name);
    else
        emit_raw(j, "null");
    emit_raw(j, ",\n  \"decoder\": ");
    emit_raw(j, decoder);
    emit_raw(j, ",\n  \"model\": ");
}

/* ---- files ----------------------------------------------------------------------------------- */

static inline int put_json(const td_tokenizer_out *out, const char *name, struct growing *j,
                           td_error *error)
{
    int code = j->failed ? td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", name)
                         : out->put(out, name, j->data, j->size, error);
    free(j->data);
    j->data = NULL;
    return code;
}

static inline void emit_role(struct growing *j, const char *role, const char *name)
{
    if (!name)
        return;
    emit_print(j, ",\n  \"%s\": ", role);
    emit_string(j, name, strlen(name));
}

/* tokenizer_config.json. Names of special tokens may be NULL: there is none. `begin`: what texts
 * begin with, even where the model adds it, as a decoder with an encoder does. `split`: text that
 * looks like a special token is text, as it is for our tokenizers: otherwise whoever writes a
 * prompt could end it. */
static inline int put_token_config(const td_tokenizer_out *out, bool split, const char *begin,
                                   const char *eos, const char *pad, const char *unk,
                                   td_error *error)
{
    struct growing j = { NULL, 0, 0, false };
    emit_raw(&j, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n"
                 "  \"clean_up_tokenization_spaces\": false,\n"
                 "  \"split_special_tokens\": ");
    emit_raw(&j, split ? "true" : "false");
    emit_role(&j, "bos_token", begin);
    emit_role(&j, "eos_token", eos);
    emit_role(&j, "pad_token", pad);
    emit_role(&j, "unk_token", unk);
    emit_raw(&j, "\n}\n");
    return put_json(out, "tokenizer_config.json", &j, error);
}

#endif
