/* jsonl.c - fuzz target: any bytes as JSON lines, plain or compressed by their first byte. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "put.h"

#include "../plugins/data/common/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void no_log(const td_services *s, int level, const char *format, ...) {}

static const char *suffix(const uint8_t *data, size_t size)
{
    return size && data[0] == 0x1F ? ".gz" : size && data[0] == 0x28 ? ".zst" : "";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const td_services services = { .size = sizeof services, .threads = 1, .log = no_log };
    char              path[64];
    int64_t           bad = 3;
    td_error          error = { 0 };
    reader           *r;

    snprintf(path, sizeof path, "/tmp/fuzz-jsonl-%d.jsonl%s", (int)getpid(), suffix(data, size));
    put(path, data, size);
    r = reader_open(path, "text", &bad, &services, &error);
    for (const char *text; r;) {
        size_t   n;
        unsigned sum = 0;
        int      code = reader_next(r, &text, &n, &error);
        for (size_t i = 0; !code && i < n; i++) /* all of it must be readable */
            sum += (unsigned char)text[i];
        if (!code && sum == 0xFFFFFFFFu)
            abort();
        if (code == TD_EEND)
            break;
        if (code && !*error.text)
            abort();
        if (code)
            break;
    }
    if (bad < 0)
        abort();
    reader_close(r);
    unlink(path);
    return 0;
}
