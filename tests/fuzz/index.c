/* index.c - fuzz target: any bytes as the index of a model in several files. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "put.h"

#include "io/shards.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A folder with one file that the seeds name. */
static void make_folder(const char *folder)
{
    char      path[128];
    float     values[] = { 1, 2, 3 };
    td_stored t = {
        .name = "lm_head.weight", .type = TD_STORED_F32, .rank = 1, .dim = { 3 }, .data = values
    };
    mkdir(folder, 0700);
    snprintf(path, sizeof path, "%s/model-00004-of-00004.safetensors", folder);
    td_safetensors_write(path, &t, 1, NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool made;
    char        folder[64], path[128];
    td_error    error = { 0 };
    td_shards  *s;
    snprintf(folder, sizeof folder, "/tmp/fuzz-index-%d", (int)getpid());
    if (!made)
        make_folder(folder);
    made = true;
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    put(path, data, size);
    s = td_shards_open(folder, &error);
    for (size_t i = 0; s && i < td_shards_count(s); i++)
        if (!td_shards_find(s, td_shards_at(s, i)->name))
            abort();
    if (!s && !error.code)
        abort();
    td_shards_close(s);
    return 0;
}
