/* validate.c - whether the plugins of a loaded module keep to the contract of their kinds. */
#include "plugin/validate.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "plugin/kinds.h"
#include "plugin/options.h"
#include "tandem/kind/comm.h"
#include "tandem/kind/kernels.h"
#include "tandem/kind/op.h"

enum {
    LONGEST_NAME = 64,
    DEEPEST_LIST = 8,         /* lists of groups with lists in them */
    LARGEST_PLUGIN = 1 << 16, /* bytes; larger sizes are garbage */
    LARGEST_ROW = 4096,
    LARGEST_CONFIG = 1 << 20
};

/* ---- kinds ----------------------------------------------------------------------------------- */

/* A kind that this tandem has, in another revision: older, newer, or without one. */
static int refuse_revision(const char *path, const td_plugin *p, const td_kind *k, td_error *error)
{
    size_t n = strlen(k->name);
    /* three cases, because the remedies differ */
    if (p->kind[n] != '/')
        return td_fail(error, TD_EPLUGIN,
                       "'%s': plugin '%s' has kind '%s', without a revision; this tandem has "
                       "'%s': use the macro of tandem/kind/%s.h",
                       path, p->name, p->kind, k->id, k->name);
    if (strtol(p->kind + n + 1, NULL, 10) > strtol(k->id + n + 1, NULL, 10))
        return td_fail(error, TD_EPLUGIN,
                       "'%s': plugin '%s' has kind '%s'; this tandem has '%s': update tandem, or "
                       "rebuild the plugin against this tandem's headers",
                       path, p->name, p->kind, k->id);
    /* rebuilding is not enough: the contract has changed */
    return td_fail(error, TD_EPLUGIN,
                   "'%s': plugin '%s' has kind '%s'; this tandem has '%s': port it to the current "
                   "tandem/kind/%s.h and rebuild it",
                   path, p->name, p->kind, k->id, k->name);
}

/* No kind has this id: it is an older or newer contract of a known kind, or a kind from
 * elsewhere. */
static int refuse_kind(const char *path, const td_plugin *p, td_error *error)
{
    td_text kinds = { 0 };
    int     code;
    for (const td_kind *k = td_kinds(); k->id; k++)
        if (strcspn(p->kind, "/") == strlen(k->name) && !strncmp(p->kind, k->name, strlen(k->name)))
            return refuse_revision(path, p, k, error);
    for (const td_kind *k = td_kinds(); k->id; k++)
        td_text_print(&kinds, "%s%s", k == td_kinds() ? "" : ", ", k->name);
    code = td_fail(error, TD_EPLUGIN,
                   "'%s': plugin '%s' has the unknown kind '%s' (kinds: %s): use the macro of a "
                   "header in tandem/kind, or update tandem",
                   path, p->name, p->kind, td_text_get(&kinds));
    td_text_free(&kinds);
    return code;
}

/* ---- option tables --------------------------------------------------------------------------- */

/* Bytes that the host stores for an option; 0: unknown type. */
static size_t field_size(int64_t type)
{
    switch (type) {
    case TD_TYPE_BOOL:
        return sizeof(bool);
    case TD_TYPE_INT:
    case TD_TYPE_CHOICE:
        return sizeof(int64_t);
    case TD_TYPE_FLOAT:
        return sizeof(double);
    case TD_TYPE_STRING:
        return sizeof(char *);
    case TD_TYPE_INTS: /* all lists, and a part, are a pointer and another word */
    case TD_TYPE_FLOATS:
    case TD_TYPE_STRINGS:
    case TD_TYPE_PART:
    case TD_TYPE_LIST:
    case TD_TYPE_PARTS:
        return sizeof(td_ints);
    default:
        return 0;
    }
}

/* The checks of a row, each returning NULL or the fault, to follow "option 3 ('x') ". */

static const char *wrong_name(const td_option *o)
{
    static const char letters[] =
        "-0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (!o->name || !*o->name)
        return "has no name";
    /* the rule of libconfig's lexer */
    if (o->name[strspn(o->name, letters)] || !strcspn(o->name, "-0123456789"))
        return "has a name that a config cannot contain: use letters, digits, _ and -, and begin "
               "with a letter or _";
    if (!strcmp(o->name, "plugin"))
        return "has the name of the key that chooses the plugin: rename it";
    return NULL;
}

/* The host writes to config + offset: a wrong offset would corrupt memory. */
static const char *wrong_place(const td_option *o, size_t config_size)
{
    size_t size = field_size(o->type);
    if (!size)
        return "has an unknown type: use the TD_OPTION macros";
    if (o->offset > config_size || size > config_size - o->offset)
        return "lies outside the config struct: use the TD_OPTION macros";
    if (o->offset % (size < sizeof(void *) ? size : sizeof(void *)))
        return "is misaligned for its type: use the TD_OPTION macros";
    return NULL;
}

/* Whether the default is the index of a choice; a double, so it is compared as one. */
static bool is_choice(const td_option *o)
{
    size_t k = 0;
    while (o->choices[k] && (double)k != o->number)
        k++;
    return o->choices[k] != NULL;
}

/* A default is a value like any other: within the range, and one of the choices. */
static const char *wrong_default(const td_option *o)
{
    bool number = o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT;
    bool named = o->type == TD_TYPE_CHOICE || o->type == TD_TYPE_PART || o->type == TD_TYPE_PARTS;
    /* the negation also catches NaN */
    if (number && !(o->flags & TD_OPTION_REQUIRED) && !td_option_is_share(o, o->number) &&
        !(o->number >= o->min && o->number <= o->max))
        return "has a default outside its range";
    if (named && (!o->choices || !o->choices[0]))
        return "has no choices";
    if (o->type == TD_TYPE_CHOICE && !is_choice(o))
        return "has a default that is not one of its choices";
    return NULL;
}

/* An item's table is another table, with the same rules, and may contain lists again. */
static const char *wrong_list(const td_option *o, int depth)
{
    if (o->type != TD_TYPE_LIST)
        return NULL;
    if (!o->fields || !o->item_size)
        return "has no table for its items";
    if (o->item_size > LARGEST_CONFIG)
        return "has items larger than 1 MiB";
    return depth == DEEPEST_LIST ? "nests lists too deeply" : NULL;
}

/* NULL, or the fault of row `i`. */
static const char *wrong_row(const td_plugin *p, const td_option *table, size_t i,
                             size_t config_size, int depth, const td_option *row)
{
    td_option   other;
    /* In this order: each check relies on the ones before it. */
    const char *wrong = i >= TD_MOST_OPTIONS ? "is one too many: a table can have 200 options"
                                             : wrong_name(row);
    if (!wrong)
        wrong = wrong_place(row, config_size);
    if (!wrong)
        wrong = wrong_default(row);
    if (!wrong)
        wrong = wrong_list(row, depth);
    for (size_t j = 0; !wrong && j < i; j++)
        if (td_option_row(table, p->option_size, j, &other) && !strcmp(row->name, other.name))
            wrong = "appears twice";
    return wrong;
}

/* A table, and those of the lists in it. */
static int check_table(const char *path, const td_plugin *p, const td_option *table,
                       size_t config_size, int depth, td_error *error)
{
    td_option row;
    /* A table without its end is read until a row is wrong, at the latest the one after the
     * most. */
    for (size_t i = 0; td_option_row(table, p->option_size, i, &row); i++) {
        const char *wrong = wrong_row(p, table, i, config_size, depth, &row);
        if (wrong)
            return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s': option %zu ('%s') %s", path,
                           p->name, i, row.name ? row.name : "", wrong);
        if (row.type == TD_TYPE_LIST &&
            check_table(path, p, row.fields, row.item_size, depth + 1, error))
            return TD_EPLUGIN;
    }
    return 0;
}

/* ---- hooks ----------------------------------------------------------------------------------- */

/* The fusions, if the module was built against headers that have them. */
static int check_fusions(const char *path, const td_kernels *k, td_error *error)
{
    if (k->plugin.size < sizeof *k)
        return 0;
    for (size_t i = 0; i < k->n_fusions; i++) {
        if (k->fusions[i].size != sizeof(td_fusion))
            return td_fail(error, TD_EPLUGIN,
                           "'%s': kernels '%s': fusion %zu declares a size of %zu bytes; expected "
                           "%zu: rebuild it against this tandem's headers, with .size = "
                           "sizeof(td_fusion)",
                           path, k->plugin.name, i, k->fusions[i].size, sizeof(td_fusion));
        if (!k->fusions[i].name || !k->fusions[i].takes || !k->fusions[i].run)
            return td_fail(error, TD_EPLUGIN,
                           "'%s': kernels '%s': fusion %zu lacks a name, `takes` or `run`", path,
                           k->plugin.name, i);
    }
    return 0;
}

/* Rows are an array of the module's, indexed by the host: unlike structs that are copied, rows must
 * have exactly the host's size. */
static int check_kernels(const char *path, const td_kernels *k, td_error *error)
{
    for (size_t i = 0; i < k->count; i++) {
        if (k->rows[i].size != sizeof(td_kernel))
            return td_fail(error, TD_EPLUGIN,
                           "'%s': kernels '%s': row %zu declares a size of %zu bytes; expected "
                           "%zu: rebuild it against this tandem's headers, with .size = "
                           "sizeof(td_kernel)",
                           path, k->plugin.name, i, k->rows[i].size, sizeof(td_kernel));
        if (!k->rows[i].op || !k->rows[i].run)
            return td_fail(error, TD_EPLUGIN,
                           "'%s': kernels '%s': row %zu lacks an op or a function to run", path,
                           k->plugin.name, i);
    }
    return check_fusions(path, k, error);
}

/* The graph and the planner keep arrays of these sizes, and move and merge nodes by these flags. */
static const char *wrong_op(const td_op *o)
{
    if (o->min_inputs < 0 || o->min_inputs > o->max_inputs || o->max_inputs > TD_MAX_INPUTS)
        return "must have 0 <= min_inputs <= max_inputs <= TD_MAX_INPUTS";
    if (o->flags & TD_OP_VIEW)
        return "sets TD_OP_VIEW, which is reserved for built-in ops"; /* views alias memory */
    for (int k = 0; k < TD_MAX_OUTPUTS; k++) {
        /* 1 + the input's index; 0: not in place */
        if (o->inplace[k] < 0 || o->inplace[k] > o->max_inputs)
            return "writes in place to an input that it does not have";
        /* otherwise the planner could merge or drop the node, and the write with it */
        if (o->inplace[k] && !(o->flags & TD_OP_EFFECT))
            return "writes in place without TD_OP_EFFECT";
    }
    if (o->accumulate_in < 0 || o->accumulate_in > o->max_inputs || o->accumulate_out < 0 ||
        o->accumulate_out >= TD_MAX_OUTPUTS)
        return "accumulates an input, or into an output, that it does not have";
    return NULL;
}

/* If `backend` is set, the hooks after it are called. An older module's struct may end before them. */
static const char *wrong_comm(const td_plugin *p)
{
    td_comm c = { .backend = NULL };
    memcpy(&c, p, p->size < sizeof c ? p->size : sizeof c);
    return !c.backend || (c.attach && c.detach && c.device_begin && c.device_end &&
                          c.device_all_reduce && c.device_all_to_all && c.device_all_gather &&
                          c.device_broadcast && c.device_wait)
               ? NULL
               : "names a backend, but lacks a hook for its memory";
}

/* Checks the hooks that the host calls without testing, and the fields that it uses as indices. */
static int check_hooks(const char *path, const td_plugin *p, td_error *error)
{
    const char *missing = td_kind_missing_hook(p), *wrong;
    if (missing)
        return td_fail(error, TD_EPLUGIN, "'%s': plugin '%s' of kind '%s' has no '%s': set it",
                       path, p->name, p->kind, missing);
    /* these two kinds carry tables that the host indexes by */
    if (!strcmp(p->kind, TD_KERNELS_KIND))
        return check_kernels(path, (const td_kernels *)(const void *)p, error);
    wrong = !strcmp(p->kind, TD_OP_KIND)     ? wrong_op((const td_op *)(const void *)p)
            : !strcmp(p->kind, TD_COMM_KIND) ? wrong_comm(p)
                                             : NULL;
    return wrong ? td_fail(error, TD_EPLUGIN, "'%s': %.*s '%s' %s", path,
                           (int)strcspn(p->kind, "/"), p->kind, p->name, wrong)
                 : 0;
}

/* ---- plugins --------------------------------------------------------------------------------- */

static int check_name(const char *path, const td_plugin *p, td_error *error)
{
    if (!p->kind || !p->name || !*p->name)
        return td_fail(error, TD_EPLUGIN, "'%s': a plugin has no kind or no name: use TD_PLUGIN",
                       path);
    /* names end up in file names, in configs and quoted in messages */
    if (strlen(p->name) > LONGEST_NAME || strcspn(p->name, "/ \t\n\"'") < strlen(p->name))
        return td_fail(error, TD_EPLUGIN,
                       "'%s': the plugin name '%.80s' is longer than %d bytes or contains a slash, "
                       "a space or a quote",
                       path, p->name, LONGEST_NAME);
    if (!td_is_utf8(p->name))
        return td_fail(error, TD_EPLUGIN, "'%s': a plugin's name is not valid UTF-8", path);
    return 0;
}

/* Sizes of the structs that the host and the module share, as the module's headers had them. */
static int check_sizes(const char *path, const td_plugin *p, const td_kind *kind, td_error *error)
{
    if (p->size < sizeof *p || p->size > LARGEST_PLUGIN)
        return td_fail(error, TD_EPLUGIN,
                       "'%s': plugin '%s' declares a struct of %zu bytes; a '%s' has %zu: use "
                       "TD_PLUGIN",
                       path, p->name, p->size, p->kind, kind->size);
    /* Hooks that this host does not know would be ignored without a word. A smaller struct is an
     * older module's: the hooks it lacks are NULL. */
    if (p->size > kind->size)
        return td_fail(error, TD_EPLUGIN,
                       "'%s': plugin '%s' has a newer '%s' (%zu bytes) than this tandem (%zu): "
                       "update tandem, or rebuild the plugin against this tandem's headers",
                       path, p->name, p->kind, p->size, kind->size);
    if (p->options && (p->option_size < offsetof(td_option, flags) || p->option_size > LARGEST_ROW))
        return td_fail(error, TD_EPLUGIN,
                       "'%s': plugin '%s' declares option rows of %zu bytes; they have %zu here: "
                       "use TD_PLUGIN",
                       path, p->name, p->option_size, sizeof(td_option));
    if (p->config_size > LARGEST_CONFIG)
        return td_fail(error, TD_EPLUGIN,
                       "'%s': plugin '%s' declares a config struct of %zu bytes; the limit is %d: "
                       "use TD_PLUGIN",
                       path, p->name, p->config_size, LARGEST_CONFIG);
    return 0;
}

static int check_plugin(const char *path, const td_plugin *p, td_error *error)
{
    const td_kind *kind;
    /* In this order: each check relies on the ones before it. */
    if (check_name(path, p, error))
        return TD_EPLUGIN;
    kind = td_kind_find(p->kind);
    if (!kind)
        return refuse_kind(path, p, error);
    if (check_sizes(path, p, kind, error))
        return TD_EPLUGIN;
    if (p->options && check_table(path, p, p->options, p->config_size, 0, error))
        return TD_EPLUGIN;
    return check_hooks(path, p, error);
}

int td_plugins_validate(const char *path, const td_plugin *const *list, td_error *error)
{
    if (!list[0])
        return td_fail(error, TD_EPLUGIN,
                       "'%s' lists no plugins: name them at the end of TD_MODULE", path);
    for (size_t k = 0; list[k]; k++) {
        if (check_plugin(path, list[k], error))
            return TD_EPLUGIN;
        /* against another file the registry reports it; within one there is nothing to choose */
        for (size_t j = 0; j < k; j++)
            if (!strcmp(list[j]->kind, list[k]->kind) && !strcmp(list[j]->name, list[k]->name))
                return td_fail(error, TD_EPLUGIN, "'%s' lists %s '%s' twice: name it once", path,
                               list[k]->kind, list[k]->name);
    }
    return 0;
}
