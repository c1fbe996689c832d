/* places.c - where a config can name plugins of a kind.
 *
 * Searched backwards: an attention is named in the option `attention` of some architecture, and an
 * architecture in the group `model`; so it is `model.attention`. */
#include "manual/places.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/options.h"
#include "run/experiment.h"

/* Plugins nest (a stack in an architecture, an attention in a stack), and a kind may have
 * options of its own kind, so the depth of the search is limited. */
enum { DEEPEST = 4 };

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void add_place(td_places *p, const char *path)
{
    for (size_t k = 0; k < p->count; k++)
        if (!strcmp(p->at[k], path))
            return;
    if (p->count < TD_PLACES)
        snprintf(p->at[p->count++], sizeof p->at[0], "%s", path);
}

/* Options of `table` that take plugins of `kind`, in a group at `path`. */
static void look_in(const td_option *table, size_t size, const char *path, const char *kind,
                    td_places *out)
{
    td_option row;
    char      full[96];
    for (size_t i = 0; td_option_row(table, size, i, &row); i++) {
        if ((row.type != TD_TYPE_PART && row.type != TD_TYPE_PARTS) ||
            strcmp(row.choices[0], kind) != 0)
            continue;
        snprintf(full, sizeof full, "%s.%s", path, row.name);
        add_place(out, full);
    }
}

static void find(const td_registry *, const char *kind, int depth, td_places *out);

/* A plugin's option for `kind` is a place wherever the plugin itself can be named. */
static void look_in_plugins(const td_registry *r, const char *kind, int depth, td_places *out)
{
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        td_places        found = { .count = 0 }, owners = { .count = 0 };
        look_in(p->options, p->option_size, "", kind, &found);
        if (found.count)
            find(r, p->kind, depth + 1, &owners);
        for (size_t k = 0; k < owners.count; k++)
            look_in(p->options, p->option_size, owners.at[k], kind, out);
    }
}

static void find(const td_registry *r, const char *kind, int depth, td_places *out)
{
    for (const td_group *g = td_experiment_groups(); g->name; g++) {
        if (g->kind && !strcmp(g->kind, kind))
            add_place(out, g->name);
        look_in(g->table, sizeof(td_option), g->name, kind, out);
    }
    if (depth < DEEPEST)
        look_in_plugins(r, kind, depth, out);
    qsort(out->at, out->count, sizeof out->at[0], by_text);
}

void td_places_find(const td_registry *r, const char *kind, td_places *out)
{
    find(r, kind, 0, out);
}
