/* task.c - fuzz target: any bytes as a task file and, if it opens, as its items. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "evaluate/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static td_registry *registry;

/* Every item is made into a prompt, and serves as an answer that the filters search. */
static void ask(const td_task *t, const json_t *items)
{
    for (size_t k = 0; k < json_array_size(items); k++) {
        td_task_item item;
        td_error     e = { 0 };
        if (!td_task_item_open(t, json_array_get(items, k), &item, &e))
            for (size_t f = 0; f < t->n_filters; f++)
                free(td_filter_apply(t->filters[f], item.target ? item.target : item.text, &e));
        td_task_item_close(&item);
    }
}

/* A seed is a task file, a line of dashes, and items. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char  line[] = "\n----\n";
    static const char *paths[] = { TANDEM_PLUGINS, NULL };
    const uint8_t     *cut = memmem(data, size, line, strlen(line));
    size_t             n = cut ? (size_t)(cut - data) : size;
    td_items_spec      spec = { .format = TD_ITEMS_JSONL, .rows = "", .split = "" };
    json_t            *items = json_array();
    td_errors          errors = { 0 };
    td_error           e = { 0 };
    char               path[64];
    td_task           *t;
    td_task_spec       from = { NULL, "/tmp" };
    if (!registry)
        registry = td_registry_new(paths, NULL, &e);
    from.registry = registry;
    snprintf(path, sizeof path, "/tmp/fuzz-task-%d.cfg", (int)getpid());
    td_file_write(path, data, n, &e);
    if (cut)
        td_items_parse(&spec, "items.jsonl", (const char *)cut + strlen(line),
                       size - n - strlen(line), items, &e);
    t = td_task_open(&from, path, &errors);
    if (t)
        ask(t, items);
    td_task_close(t);
    /* then only the items, as tables */
    for (spec.format = TD_ITEMS_JSON; spec.format <= TD_ITEMS_TSV; spec.format++)
        td_items_parse(&spec, "items", (const char *)data, size, items, &e);
    json_decref(items);
    td_errors_free(&errors);
    unlink(path);
    return 0;
}
