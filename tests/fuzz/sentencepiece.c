/* sentencepiece.c - fuzz target: any bytes as a SentencePiece model. */
#include "tokenizers.h"

typedef struct options { /* those of plugins/tokenizer/sentencepiece */
    const char *model;
    int64_t     type;
    double      character_coverage;
    int64_t     max_sentences, sentinels;
    bool        modes, split_digits, byte_fallback, whitespace_pieces;
    td_strings  symbols;
} options;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    options o = { .sentinels = (int64_t)size % 5 };
    char    path[64];
    snprintf(path, sizeof path, "/tmp/fuzz-sentencepiece-%d.model", (int)getpid());
    put(path, data, size);
    o.model = path;
    open_and_use(&o);
    unlink(path);
    return 0;
}
