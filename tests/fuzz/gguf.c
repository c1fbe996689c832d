/* gguf.c - fuzz target: any bytes as a GGUF file, with its settings and its tokenizer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "put.h"

#include "convert/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_tensors(const td_gguf *g)
{
    for (size_t i = 0; i < td_gguf_count(g); i++) {
        const td_stored *t = td_gguf_tensor(g, i);
        int64_t          n = td_stored_count(t);
        double           x[8];
        for (int64_t k = 0; td_stored_is_real(t) && k < n; k += 8)
            if (td_stored_range(t, k, n - k < 8 ? n - k : 8, x, NULL))
                abort();
    }
}

static void read_keys(const td_gguf *g)
{
    for (size_t i = 0; td_gguf_key(g, i); i++) {
        const td_gguf_value *v = td_gguf_at(g, i);
        const unsigned char *at = v->data;
        size_t               n;
        for (uint64_t k = 0; k < v->count; k++)
            if (v->type != TD_GGUF_TEXT)
                td_gguf_number(v, k);
            else if (td_gguf_text(&at, &n) && n > 1u << 30)
                abort();
    }
}

/* What is read as a tokenizer.json is refused, or can be written again. */
static void read_tokenizer(const td_gguf *g)
{
    td_error    e = { 0 };
    td_gguf_out out = { 0 };
    char       *json, *config;
    int         code = td_gguf_read_tokenizer(g, &json, &config, &e);
    int64_t     ids = code ? 0 : (int64_t)td_gguf_get(g, "tokenizer.ggml.tokens")->count;
    if (code ? !*e.text || json || config : !json || !config)
        abort();
    if (!code && td_gguf_put_vocabulary(&out, json, strlen(json), ids, &e))
        abort();
    td_gguf_out_free(&out);
    free(json);
    free(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char       path[64];
    td_error   error = { 0 };
    td_gguf   *g;
    td_record *r;
    snprintf(path, sizeof path, "/tmp/fuzz-gguf-%d", (int)getpid());
    put(path, data, size);
    g = td_gguf_open(path, &error);
    if (!g && !error.code)
        abort();
    if (g) {
        read_tensors(g);
        read_keys(g);
        read_tokenizer(g);
        r = td_gguf_settings(g, path, &error);
        if (!r && !*error.text)
            abort();
        td_record_free(r);
    }
    td_gguf_close(g);
    unlink(path);
    return 0;
}
