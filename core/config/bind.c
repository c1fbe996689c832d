/* bind.c - groups to plugins and their options: every key is checked against its table, and every
 * error is reported.
 *
 * A part is bound from the outside in: the group names a plugin, the plugin has a table of options,
 * an option may be a part again. Binding continues after an error, with the default in place of an
 * invalid value, so that one run reports all errors. A plugin's `check` looks across its options,
 * so it runs only if each of them is right.
 */
#include <assert.h>
#include <string.h>

#include "config/binder.h"
#include "config/merge.h"
#include "config/words.h"
#include "plugin/defaults.h"
#include "plugin/hook.h"
#include "plugin/options.h"
#include "plugin/suggest.h"

static bool bind_part(td_binder *b, td_setting *group, const td_slot *s, td_part *out,
                      td_resolved *at);
static void bind_rows(td_binder *b, td_setting *group, const td_option *table, size_t size,
                      char *out, td_resolved *at);

/* ---- unknown keys ---------------------------------------------------------------------------- */

enum { MOST_NAMES = 256 };

/* The keys that a group may have, of its tables together. */
typedef struct names {
    const char *at[MOST_NAMES];
    size_t      count;
} names;

static void add_names(names *n, const td_option *table, size_t size)
{
    td_option row;
    for (size_t i = 0; td_option_row(table, size, i, &row); i++) {
        assert(n->count < MOST_NAMES && "tables have at most TD_MOST_OPTIONS rows");
        n->at[n->count++] = row.name;
    }
}

static bool is_known(const names *n, const char *name)
{
    for (size_t k = 0; k < n->count; k++)
        if (!strcmp(n->at[k], name))
            return true;
    return false;
}

/* For "layers": 'encoder_layers' or 'decoder_layers'. Another plugin may use the short name. */
static void find_longer(const char *name, const names *known, td_text *out)
{
    size_t n = strlen(name);
    for (size_t k = 0; k < known->count; k++) {
        size_t m = strlen(known->at[k]);
        if (m > n + 1 && known->at[k][m - n - 1] == '_' && !strcmp(known->at[k] + m - n, name))
            td_text_print(out, "%s'%s'", out->size ? " or " : "", known->at[k]);
    }
}

/* Whether a path ends in the name. */
static bool is_last_name(const char *path, const char *name)
{
    const char *dot = strrchr(path, '.');
    return !strcmp(dot ? dot + 1 : path, name);
}

/* A task file is not a run's config, so `tandem config` does not explain its keys. */
static bool is_task(const td_binder *b) { return !strcmp(b->owner, "task"); }

/* The key that another tool's word stands for; in a task file, only its own keys count. */
static const char *word_of(const td_binder *b, const char *word, const names *known)
{
    const char *key = is_task(b) ? td_config_task_word(word) : td_config_word(word);
    return key && (!is_task(b) || is_known(known, key)) ? key : NULL;
}

/* No known name is close: perhaps the key belongs to another group. */
static void report_unlike(td_binder *b, const char *path, const td_setting *v, const names *known)
{
    td_text list = { 0 };
    for (size_t k = 0; k < known->count && is_task(b); k++)
        td_text_print(&list, "%s%s", k ? ", " : "", known->at[k]);
    if (is_task(b))
        td_bind_error(b, v, v->name, "is unknown; the options are %s", td_text_get(&list));
    else
        td_bind_error(b, v, v->name,
                      "is unknown; `tandem config explain %s -c FILE` lists the options", path);
    td_text_free(&list);
}

static void report_unknown(td_binder *b, const td_setting *group, const td_setting *v,
                           const names *known)
{
    const char *nearest = td_nearest(v->name, known->at, known->count);
    const char *path = td_setting_path(b->config->arena, b->config->root, group);
    td_text     longer = { 0 };
    const char *key = word_of(b, v->name, known);
    find_longer(v->name, known, &longer);
    if (longer.size)
        td_bind_error(b, v, v->name, "is unknown; did you mean %s?", td_text_get(&longer));
    /* another tool's word for an option of this very group is as good as a near name */
    else if (key && !(nearest && is_last_name(key, nearest)))
        td_bind_error(b, v, v->name, "is unknown; %s %s", td_config_word_verb(key), key);
    else if (nearest)
        td_bind_error(b, v, v->name, "is unknown; did you mean '%s'?", nearest);
    else
        report_unlike(b, path ? path : group->name, v, known);
    td_text_free(&longer);
}

/* A group that another program wrote, or a wrong `extends`, can have thousands of them: those above
 * the limit are only counted. */
static void check_unknown(td_binder *b, const td_setting *group, const names *known)
{
    size_t reported = 0;
    for (const td_setting *v = group ? group->first : NULL; v; v = v->next)
        if (!is_known(known, v->name) && ++reported <= TD_MOST_UNKNOWN)
            report_unknown(b, group, v, known);
    if (reported > TD_MOST_UNKNOWN)
        td_errors_add(b->errors, "%s: %s: %zu more options are unknown", td_setting_origin(group),
                      b->owner, reported - TD_MOST_UNKNOWN);
}

/* The same for a group that names no plugin. */
static void check_unknown_rows(td_binder *b, const td_setting *group, const td_option *table,
                               size_t size)
{
    names known = { { NULL }, 0 };
    add_names(&known, table, size);
    check_unknown(b, group, &known);
}

static void check_unknown_options(td_binder *b, const td_setting *group, const td_plugin *p,
                                  const td_option *extra)
{
    names known = { { "plugin" }, 1 };
    add_names(&known, p->options, p->option_size);
    add_names(&known, extra, sizeof *extra);
    check_unknown(b, group, &known);
}

/* ---- lists of groups and of parts ------------------------------------------------------------ */

static void bind_item_of_list(td_binder *b, td_setting *v, const td_option *o, char *out,
                              td_resolved *list)
{
    td_resolved *item;
    if (v->type != TD_SETTING_GROUP) {
        td_bind_error(b, v, o->name, "contains %s; each item must be a group { }",
                      td_setting_type_name(v));
        return;
    }
    item = td_resolved_add(b->config, list, "", NULL, b->owner, v, NULL);
    bind_rows(b, v, o->fields, b->row_size, out, item);
    check_unknown_rows(b, v, o->fields, b->row_size);
}

/* LIST: an array of structs, each bound by the option's own table. */
static void bind_list(td_binder *b, td_setting *v, const td_option *o, td_list *out,
                      td_resolved *at)
{
    td_resolved *list = td_resolved_add(b->config, at, o->name, NULL, b->owner, v, o);
    size_t       n = 0;
    char        *items;
    list->list = true;
    if (!v)
        return;
    if (v->type != TD_SETTING_LIST) {
        td_bind_wrong_type(b, v, o);
        return;
    }
    for (td_setting *c = v->first; c; c = c->next)
        n++;
    /* a byte more, so that an empty list is not NULL */
    items = td_arena_alloc(b->config->arena, n * o->item_size + 1);
    out->at = items;
    out->count = items ? n : 0;
    for (td_setting *c = v->first; c && items; c = c->next, items += o->item_size)
        bind_item_of_list(b, c, o, items, list);
}

/* "jsonl" as { plugin = "jsonl"; }. NULL when out of memory. */
static td_setting *group_of_name(td_binder *b, const td_setting *v)
{
    td_arena   *arena = b->config->arena;
    td_setting *group = td_setting_new(arena, TD_SETTING_GROUP, "", v->file, v->line),
               *name = td_setting_new(arena, TD_SETTING_STRING, "plugin", v->file, v->line);
    if (!group || !name)
        return NULL;
    group->origin = name->origin = v->origin;
    name->text = v->text;
    td_setting_append(group, name);
    return group;
}

/* One item: a name stands for a plugin with all its defaults. */
static void bind_item_of_parts(td_binder *b, td_setting *v, const td_option *o, td_part *out,
                               td_resolved *list)
{
    const td_slot s = { .path = o->name, .kind = o->choices[0] };
    td_setting   *group = v->type == TD_SETTING_STRING ? group_of_name(b, v) : v;
    if (group && group->type != TD_SETTING_GROUP)
        td_bind_error(b, v, o->name,
                      "contains %s; each item must be the name of a plugin, or a group { plugin = "
                      "\"...\"; }",
                      td_setting_type_name(v));
    else if (group)
        bind_part(b, group, &s, out, td_resolved_add(b->config, list, "", NULL, b->owner, v, NULL));
}

/* PARTS: a list, or one part for a list of one. */
static void bind_parts(td_binder *b, td_setting *v, const td_option *o, td_parts *out,
                       td_resolved *at)
{
    bool         is_list = v && v->type == TD_SETTING_LIST;
    td_setting  *first = is_list ? v->first : v;
    td_part     *items;
    td_resolved *list;
    size_t       n = 0;
    for (td_setting *c = first; c; c = is_list ? c->next : NULL)
        n++;
    list = td_resolved_add(b->config, at, o->name, n ? NULL : "()", b->owner, v, o);
    list->list = n > 0;
    /* a byte more, so that an empty list is not NULL */
    items = td_arena_alloc(b->config->arena, n * sizeof *items + 1);
    out->at = items;
    out->count = items ? n : 0;
    for (td_setting *c = first; c && items; c = is_list ? c->next : NULL)
        bind_item_of_parts(b, c, o, items++, list);
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* With the option's doc: a user who has never set it needs more than its name. */
static void report_missing(td_binder *b, const td_setting *group, const td_option *o)
{
    td_errors_add(b->errors, "%s%s%s: option '%s' is missing and has no default: %s",
                  group ? td_setting_origin(group) : "", group ? ": " : "", b->owner, o->name,
                  o->doc ? o->doc : "");
}

/* What to write for the string `v` in place of a group. If that names no plugin, there are two
 * mistakes, and the correction of the first alone would be refused again. */
static void print_group_of(td_registry *r, const td_setting *v, const char *kind, const char *name,
                           const char *path, td_text *out)
{
    td_text     missing = { 0 };
    td_error    e = { 0 };
    const char *plugin = v->text;
    if (!td_registry_find(r, kind, v->text, &e))
        plugin = td_suggest_plugin(r, kind, v->text, &missing);
    plugin = plugin ? plugin : "..";
    if (v->file)
        td_text_print(out, "write %s = { plugin = \"%s\"; };", name, plugin);
    else
        td_text_print(out, "write %s.plugin=%s", path ? path : name, plugin);
    if (missing.size)
        td_text_print(out, " (%s)", td_text_get(&missing));
    td_text_free(&missing);
}

static void report_string(td_binder *b, const td_setting *v, const td_option *o)
{
    td_text     text = { 0 };
    const char *path = td_setting_path(b->config->arena, b->config->root, v);
    print_group_of(b->registry, v, o->choices[0], o->name, path, &text);
    td_bind_error(b, v, o->name, "is a string; it takes a group: %s", td_text_get(&text));
    td_text_free(&text);
}

/* PART: a group, or the plugin that the option has as its default. */
static void bind_option_of_part(td_binder *b, td_setting *v, const td_option *o, td_part *out,
                                td_resolved *at)
{
    const td_slot s = { .path = o->name, .kind = o->choices[0], .fallback = o->text };
    if (v && v->type == TD_SETTING_STRING)
        report_string(b, v, o);
    else if (v && v->type != TD_SETTING_GROUP)
        td_bind_wrong_type(b, v, o);
    else if (v || o->text) /* otherwise an optional part that was not requested */
        bind_part(b, v, &s, out, td_resolved_add(b->config, at, o->name, NULL, b->owner, v, o));
}

/* `v`: the group's value for this option, or NULL. */
static void bind_row(td_binder *b, const td_setting *group, td_setting *v, const td_option *o,
                     char *field, td_resolved *at)
{
    void *out = field; /* validated: the option's C type, aligned */
    if (!v && o->flags & TD_OPTION_REQUIRED) {
        report_missing(b, group, o);
        return;
    }
    /* first, so that the field is valid whatever happens below */
    td_option_default(o, field);
    if (v && v->wrong)
        return;
    if (o->type == TD_TYPE_LIST)
        bind_list(b, v, o, out, at);
    else if (o->type == TD_TYPE_PARTS)
        bind_parts(b, v, o, out, at);
    else if (o->type == TD_TYPE_PART)
        bind_option_of_part(b, v, o, out, at);
    else
        td_bind_value(b, v, o, field, at);
}

/* `size`: bytes of a row. A module built with older headers has shorter ones, in the tables of its
 * lists too, so those need the size of the table that they are in. */
static void bind_rows(td_binder *b, td_setting *group, const td_option *table, size_t size,
                      char *out, td_resolved *at)
{
    td_option row;
    size_t    before = b->row_size;
    for (size_t i = 0; td_option_row(table, size, i, &row); i++) {
        b->row_size = size; /* a part in between has set its own size and length */
        td_bind_length(b, group, table, size);
        bind_row(b, group, td_setting_child(group, row.name), &row, out + row.offset, at);
    }
    b->row_size = before;
}

/* ---- parts ----------------------------------------------------------------------------------- */

/* NULL after adding an error. */
static const char *plugin_name(td_binder *b, const td_setting *group, const td_slot *s)
{
    const td_setting *v = td_setting_child(group, "plugin");
    /* the registry looks for names: plugin = 3 is an error of the config */
    if (v && v->type != TD_SETTING_STRING) {
        td_errors_add(b->errors, "%s: '%s.plugin' is %s; it takes the name of a plugin",
                      td_setting_origin(v), s->path, td_setting_type_name(v));
        return NULL;
    }
    if (!v && !s->fallback)
        td_errors_add(b->errors,
                      "%s%sgroup '%s' must name a plugin of kind %.*s: write %s = { plugin = "
                      "\"...\"; }; or put a config that has it before this one (-c FILE)",
                      group ? td_setting_origin(group) : "", group ? ": " : "", s->path,
                      (int)strcspn(s->kind, "/"), s->kind, s->path);
    return v ? v->text : s->fallback;
}

/* The plugin that the group names, or NULL after adding an error. */
static const td_plugin *find_plugin(td_binder *b, const td_setting *group, const td_slot *s)
{
    /* an unknown plugin is an error of the line that names it, not of the group */
    const td_setting *v = td_setting_child(group, "plugin");
    const char       *name = plugin_name(b, group, s);
    td_error          e = { 0 };
    const td_plugin  *p = name ? td_registry_find(b->registry, s->kind, name, &e) : NULL;
    if (name && !p)
        td_errors_add(b->errors, "%s: %s%s", v ? td_setting_origin(v) : s->path, e.text,
                      b->config->ignores_path
                          ? "; the config's plugin_path is followed only with --trust"
                          : "");
    return p;
}

/* A part whose default is itself would recurse forever. */
static bool check_depth(td_binder *b, const td_slot *s)
{
    if (b->depth < TD_DEEPEST_PART)
        return true;
    if (!b->too_deep)
        td_errors_add(b->errors,
                      "%s: option '%s': parts are nested more than %d deep: is a plugin its own "
                      "default?",
                      b->owner, s->path, TD_DEEPEST_PART);
    b->too_deep = true;
    return false;
}

/* For td_config_plugin. A list will do: a config binds about twenty plugins. */
static void remember(td_config *c, const td_plugin *p)
{
    td_bound *b = td_arena_alloc(c->arena, sizeof *b);
    if (!b)
        return;
    b->plugin = p;
    if (c->bound)
        c->last_bound->next = b;
    else
        c->bound = b;
    c->last_bound = b;
}

const char *td_config_notes(const td_config *c) { return td_text_get(&c->notes); }

const td_plugin *td_config_plugin(const td_config *c, size_t i)
{
    const td_bound *b = c->bound;
    while (b && i--)
        b = b->next;
    return b ? b->plugin : NULL;
}

/* The first line of a bound group. */
static void record_plugin(td_binder *b, const td_setting *group, const td_plugin *p,
                          td_resolved *at)
{
    td_text      text = { 0 };
    const char  *copy;
    td_resolved *r;
    td_print_string(&text, p->name);
    copy = td_arena_copy(b->config->arena, td_text_get(&text));
    td_text_free(&text);
    r = td_resolved_add(b->config, at, "plugin", copy ? copy : "", b->owner,
                        td_setting_child(group, "plugin"), NULL);
    r->doc = p->brief ? p->brief : "";
    remember(b->config, p);
}

/* Run the plugin's rules across options. Their message names options, not lines: point to the line
 * of the one that it names first. */
static void check_part(td_binder *b, const td_setting *group, const td_slot *s, const td_part *part)
{
    td_error          e = { 0 };
    const td_setting *v;
    if (!part->plugin->check || !TD_HOOK_OF(part->plugin, check, part->config, &e))
        return;
    v = td_setting_mentioned(group, e.text);
    v = v ? v : group;
    td_errors_add(b->errors, "%s: %s: %s", v ? td_setting_origin(v) : s->path, b->owner,
                  *e.text ? e.text : "its 'check' rejected these options without a message");
    b->rules++;
}

/* The options of a part whose plugin and config struct exist. */
static void bind_options(td_binder *b, td_setting *group, const td_slot *s, const td_part *part,
                         char *config, td_resolved *at)
{
    const td_plugin *p = part->plugin;
    size_t           errors = b->errors->count, rules = b->rules;
    b->depth++;
    bind_rows(b, group, p->options, p->option_size, config, at);
    if (s->extra)
        bind_rows(b, group, s->extra, sizeof *s->extra, s->extra_out, at);
    check_unknown_options(b, group, p, s->extra);
    /* If an inner part breaks a rule, the options here are still valid, so their rules are checked
     * too. */
    if (b->errors->count - errors == b->rules - rules)
        check_part(b, group, s, part);
    b->depth--;
}

/* ---- parts, from the outside in ---------------------------------------------------------------- */

/* False if it added an error. */
static bool bind_part(td_binder *b, td_setting *group, const td_slot *s, td_part *out,
                      td_resolved *at)
{
    size_t           before = b->errors->count;
    const char      *owner = b->owner;
    const td_plugin *p = check_depth(b, s) ? find_plugin(b, group, s) : NULL;
    char            *config;

    if (!p)
        return false;
    b->owner = td_arena_print(b->config->arena, "%.*s '%s'", (int)strcspn(s->kind, "/"), s->kind,
                              p->name);
    /* a byte more, so that a plugin without options also has a config */
    config = td_arena_alloc(b->config->arena, p->config_size + 1);
    if (!config || !b->owner) {
        b->owner = owner;
        td_errors_add(b->errors, "%s: out of memory for the options of '%s'", s->path, p->name);
        return false;
    }
    if (group && group->mark) /* some of it was written for another plugin: see merge.h */
        td_bind_settle(b, group, s, p);
    *out = (td_part){ p, config };
    record_plugin(b, group, p, at);
    bind_options(b, group, s, out, config, at);
    b->owner = owner;
    return b->errors->count == before;
}

/* ---- groups at the top ----------------------------------------------------------------------- */

/* The group at a path; `out` is NULL if nothing is there. Returns false, and adds an error, if
 * something else is there. `kind`: of the plugin that the group names; NULL: it names none. */
static bool find_group(td_config *c, td_registry *registry, const char *path, const char *kind,
                       td_setting **out, td_errors *errors)
{
    td_text     text = { 0 };
    td_setting *v = (td_setting *)(uintptr_t)td_config_get(c, path);
    *out = v;
    if (!v || v->type == TD_SETTING_GROUP)
        return true;
    if (kind && v->type == TD_SETTING_STRING) {
        print_group_of(registry, v, kind, path, path, &text);
        td_errors_add(errors, "%s: '%s' is a string; it must be a group: %s", td_setting_origin(v),
                      path, td_text_get(&text));
    } else
        td_errors_add(errors, "%s: '%s' is %s; it must be a group { }", td_setting_origin(v), path,
                      td_setting_type_name(v));
    td_text_free(&text);
    *out = NULL;
    return false;
}

int td_config_bind_extra(td_config *c, td_registry *registry, const char *path, const char *kind,
                         const char *fallback, const td_option *extra, void *extra_out,
                         td_part *out, td_errors *errors)
{
    td_binder     b = { .config = c, .registry = registry, .errors = errors, .owner = path };
    const td_slot s = { path, kind, fallback, extra, extra_out };
    td_setting   *group;
    td_resolved  *at;
    *out = (td_part){ NULL, NULL };
    if (!find_group(c, registry, path, kind, &group, errors))
        return TD_ECONFIG;
    at = td_resolved_add(c, &c->resolved, path, NULL, path, group, NULL);
    if (bind_part(&b, group, &s, out, at))
        return 0;
    *out = (td_part){ NULL, NULL }; /* callers take a part with a plugin to be complete */
    return TD_ECONFIG;
}

void td_config_set_steps(td_config *c, int64_t steps, bool derived)
{
    c->steps = steps;
    c->derived = derived;
}

/* Move the last group of the record to the place of an earlier one with the same name. */
static void replace_record(td_config *c)
{
    td_resolved  *last = c->resolved.last, *before = NULL;
    td_resolved **at = &c->resolved.first;
    while (*at != last && strcmp((*at)->name, last->name))
        at = &(*at)->next;
    if (*at == last)
        return;
    for (before = c->resolved.first; before->next != last; before = before->next)
        ;
    before->next = NULL;
    c->resolved.last = before == *at ? last : before;
    last->next = (*at)->next;
    *at = last;
}

int td_config_rebind(td_config *c, td_registry *registry, const char *path, const char *kind,
                     td_part *out, td_errors *errors)
{
    td_bound *bound = c->bound, *last = c->last_bound;
    int       code;
    /* its plugins are listed already */
    c->bound = c->last_bound = NULL;
    code = td_config_bind(c, registry, path, kind, NULL, out, errors);
    c->bound = bound;
    c->last_bound = last;
    replace_record(c);
    return code;
}

int td_config_bind(td_config *c, td_registry *registry, const char *path, const char *kind,
                   const char *fallback, td_part *out, td_errors *errors)
{
    return td_config_bind_extra(c, registry, path, kind, fallback, NULL, NULL, out, errors);
}

void td_config_bind_rows(td_config *c, td_registry *registry, const char *owner, td_setting *group,
                         const td_option *table, void *out, td_resolved *at, td_errors *errors)
{
    td_binder b = { .config = c, .registry = registry, .errors = errors, .owner = owner };
    bind_rows(&b, group, table, sizeof *table, out, at);
}

int td_config_bind_table(td_config *c, td_registry *registry, const char *path,
                         const td_option *table, void *out, td_errors *errors)
{
    td_binder   b = { .config = c, .registry = registry, .errors = errors, .owner = path };
    size_t      before = errors->count;
    td_setting *group;
    /* if it is not a group, `out` still gets the defaults: others will read it */
    find_group(c, registry, path, NULL, &group, errors);
    bind_rows(&b, group, table, sizeof *table, out,
              td_resolved_add(c, &c->resolved, path, NULL, path, group, NULL));
    check_unknown_rows(&b, group, table, sizeof *table);
    return errors->count == before ? 0 : TD_ECONFIG;
}
