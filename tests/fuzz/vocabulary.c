/* vocabulary.c - fuzz target: any bytes as a tokenizer.json that is written into a GGUF file. */
#include <stdint.h>
#include <stdlib.h>

#include "convert/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    td_error    error = { 0 };
    td_gguf_out out = { 0 };
    int         code = td_gguf_put_vocabulary(&out, (const char *)data, size, 500, &error);
    if (code ? !*error.text || out.count : !out.count)
        abort();
    td_gguf_out_free(&out);
    return 0;
}
