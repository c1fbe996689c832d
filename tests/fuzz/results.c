/* results.c - fuzz target: any bytes as results of a run, which `compare` reads. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "put.h"

#include "base/file.h"
#include "run/series.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_in(const char *directory, const char *name, const void *data, size_t size)
{
    char *path = td_path_join(directory, name);
    put(path, data, size);
    free(path);
}

/* All of it must be readable. */
static void walk(const td_series_list *l)
{
    size_t sum = 0;
    for (size_t k = 0; k < l->count; k++) {
        sum += strlen(l->at[k].key) + strlen(l->at[k].name);
        for (int64_t i = 0; i < l->at[k].n; i++)
            sum += strlen(l->at[k].items[i].id) + strlen(l->at[k].items[i].stratum);
    }
    if (sum == SIZE_MAX)
        abort();
}

/* A seed is a summary, a line of dashes, and the lines of its items. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char line[] = "\n----\n";
    const uint8_t    *cut = memmem(data, size, line, strlen(line));
    size_t            n = cut ? (size_t)(cut - data) : size;
    size_t            rest = cut ? size - n - strlen(line) : 0;
    td_arena         *arena = td_arena_new();
    td_series_list    list = { 0 };
    td_error          error = { 0 };
    char              run[64], directory[96];
    snprintf(run, sizeof run, "/tmp/fuzz-results-%d", (int)getpid());
    snprintf(directory, sizeof directory, "%s/eval", run);
    if (!arena || td_make_directories(directory, &error))
        abort();
    put_in(directory, "heldout.json", data, n);
    put_in(directory, "heldout.jsonl", data + size - rest, rest);
    put_in(directory, "heldout.samples_sums.jsonl", data + size - rest, rest);
    if (!td_series_read(run, NULL, arena, &list, &error))
        walk(&list);
    else if (!*error.text)
        abort();
    free(list.at);
    td_arena_free(arena);
    td_remove_tree(run, NULL);
    return 0;
}
