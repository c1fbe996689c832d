/* tokenizer.c - fuzz target: any bytes as a tokenizer.json, and as a tokenizer_config.json. */
#include "tokenizers.h"

typedef struct options { /* those of plugins/tokenizer/huggingface */
    const char *file, *config;
    bool        parse_special;
    const char *pad, *bos, *eos, *unk;
} options;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char    path[64];
    options o = { path, "", size % 2, "", "", "", "" };
    snprintf(path, sizeof path, "/tmp/fuzz-tokenizer-%d.json", (int)getpid());
    put(path, data, size);
    /* the same bytes, as a file that has both */
    if (size / 2 % 2)
        o.config = path;
    open_and_use(&o);
    unlink(path);
    return 0;
}
