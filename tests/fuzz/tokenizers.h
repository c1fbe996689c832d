/* tokenizers.h - for fuzz targets of tokenizers: what one that was opened does with text. */
#ifndef TESTS_FUZZ_TOKENIZERS_H
#define TESTS_FUZZ_TOKENIZERS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "put.h"

#include "tandem/kind/tokenizer.h"

extern const td_module tandem_module; /* the one under test */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void no_log(const td_services *s, int level, const char *format, ...) {}

static int drop(const td_tokenizer_out *out, const char *name, const void *data, size_t size,
                td_error *error)
{
    return 0;
}

/* Ids are those of the model, and the text that they stand for fits what was said. */
static void read_text(const td_tokenizer *t, void *state, const char *text, size_t size)
{
    enum { MOST = 4096 };
    static int32_t ids[MOST];
    static char    back[MOST];
    td_special     special;
    td_error       error = { 0 };
    int64_t        n = t->encode(state, text, size, ids, MOST, &error);
    t->special(state, &special);
    for (int64_t k = 0; k < n && k < MOST; k++)
        if (ids[k] < 0 || ids[k] >= special.vocab_size || !t->piece(state, ids[k]))
            abort();
    if (n > 0 && n <= MOST && t->decode(state, ids, n, back, MOST, &error) < 0 && !*error.text)
        abort();
    if (n < 0 && !*error.text)
        abort();
}

static void use(const td_tokenizer *t, void *state)
{
    static const char *const texts[] = {
        "",
        " ",
        "a b  c",
        "The quick brown fox, 1234. I'll",
        "\xe2\x96\x81\xe2\x96\x85 \xef\xbd\xb6\xef\xbe\x9e e\xcc\x81 caf\xc3\xa9",
        "\xff\xfe\x80",
        "<tool> <s> </s> <0x41> <|end|> <extra_id_0> [R]"
    };
    td_tokenizer_out out = { .size = sizeof out, .begin = 0, .put = drop };
    uint64_t         hash;
    td_error         error = { 0 };
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
        read_text(t, state, texts[k], strlen(texts[k]));
    if (t->fingerprint(state, &hash, &error) && !*error.text)
        abort();
    error = (td_error){ 0 };
    if (t->write_files(state, &out, &error) && !*error.text)
        abort();
}

/* Open the module's tokenizer with these options, of its own struct, and use it. */
static void open_and_use(const void *options)
{
    const td_services   services = { .size = sizeof services, .threads = 1, .log = no_log };
    const td_tokenizer *t = (const void *)tandem_module.plugins[0];
    td_error            error = { 0 };
    void               *state = NULL;
    if (!t->open(options, &services, &state, &error)) {
        use(t, state);
        t->close(state);
    } else if (!*error.text)
        abort();
}

#endif
