/* bind.c - values to option structs: every key checked against its table, every error told. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config/setting.h"
#include "plugin/defaults.h"
#include "plugin/options.h"

typedef struct binder {
    td_config   *config;
    td_registry *registry;
    td_errors   *errors;
    const char  *owner;    /* "attention 'softmax'" */
    int          depth;    /* of parts in parts */
    bool         deep;     /* too many: told once */
    size_t       rules;    /* errors that were told by a part's check: its options are there */
    size_t       row_size; /* of the option table that is being bound */
} binder;

static bool bind_part(binder *b, td_setting *group, const char *path, const char *kind,
                      const char *fallback, const td_option *extra, void *extra_out, td_part *out,
                      td_resolved *at);

/* ---- where from ------------------------------------------------------------------------------ */

const char *td_setting_origin(const td_setting *v) { return v->origin; }

static td_resolved *record(binder *b, td_resolved *at, const char *name, const char *text,
                           const td_setting *from, const td_option *o)
{
    td_resolved *r = td_arena_alloc(b->config->arena, sizeof *r);
    td_text      kind = { 0 };
    if (!r)
        return at;
    r->name = td_arena_copy(b->config->arena, name);
    r->text = text;
    r->owner = b->owner;
    r->doc = o && o->doc ? o->doc : "";
    r->origin = from ? from->origin : td_arena_print(b->config->arena, "default of %s", b->owner);
    if (o)
        td_option_describe(o, &kind);
    r->kind = td_arena_copy(b->config->arena, td_text_get(&kind));
    td_text_free(&kind);
    if (at->last)
        at->last->next = r;
    else
        at->first = r;
    return at->last = r;
}

static void complain(binder *b, const td_setting *v, const char *name, const char *format, ...)
    TD_PRINTF(4, 5);

static void complain(binder *b, const td_setting *v, const char *name, const char *format, ...)
{
    char    text[1500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    td_errors_add(b->errors, "%s: %s: option '%s' %s", td_setting_origin(v), b->owner, name, text);
}

/* ---- scalars --------------------------------------------------------------------------------- */

static const char *type_name(const td_setting *v)
{
    static const char *const names[] = { "a group { }", "a list", "an integer",
                                         "a float",     "a bool", "a string" };
    return names[v->type];
}

static void print_number(td_text *t, double x)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) { /* 15: 50, not 5e+01 */
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    td_text_print(t, "%s%s", text, strpbrk(text, ".en") ? "" : ".0");
}

static void print_integer(td_text *t, int64_t x)
{
    td_text_print(t, "%lld%s", (long long)x, x > INT32_MAX || x < INT32_MIN ? "L" : "");
}

static void print_string(td_text *t, const char *s)
{
    td_text_append(t, "\"", 1);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            td_text_append(t, "\\", 1);
        if (*s == '\n')
            td_text_append(t, "\\n", 2);
        else if ((unsigned char)*s < ' ')
            td_text_print(t, "\\x%02x", (unsigned)(unsigned char)*s);
        else
            td_text_append(t, s, 1);
    }
    td_text_append(t, "\"", 1);
}

static const char *keep(binder *b, td_text *t)
{
    const char *copy = td_arena_copy(b->config->arena, td_text_get(t));
    td_text_free(t);
    return copy ? copy : "";
}

static bool in_range(binder *b, const td_setting *v, const td_option *o, double x)
{
    td_text t = { 0 };
    if (x >= o->min && x <= o->max)
        return true;
    td_option_describe(o, &t);
    complain(b, v, o->name, "is %.15g, which is out of range: it takes %s", x, td_text_get(&t));
    td_text_free(&t);
    return false;
}

static bool takes_strings(const td_option *o)
{
    return o->type == TD_TYPE_STRING || o->type == TD_TYPE_STRINGS;
}

static void want(binder *b, const td_setting *v, const td_option *o)
{
    bool    number = v->type == TD_SETTING_INT || v->type == TD_SETTING_FLOAT;
    td_text t = { 0 };
    td_option_describe(o, &t);
    complain(b, v, o->name, "is %s; it takes %s%s", type_name(v), td_text_get(&t),
             number && takes_strings(o) ? ": put it in quotes" : "");
    td_text_free(&t);
}

static void bind_choice(binder *b, const td_setting *v, const td_option *o, int64_t *out)
{
    size_t      n = 0;
    const char *nearest;
    td_text     t = { 0 };
    while (o->choices[n])
        n++;
    for (size_t k = 0; k < n; k++)
        if (!strcmp(o->choices[k], v->text)) {
            *out = (int64_t)k;
            return;
        }
    nearest = td_nearest(v->text, o->choices, n);
    td_option_describe(o, &t);
    complain(b, v, o->name, "cannot be \"%s\"; %s%s%sit takes %s", v->text,
             nearest ? "did you mean \"" : "", nearest ? nearest : "", nearest ? "\"? " : "",
             td_text_get(&t));
    td_text_free(&t);
}

/* A string, or what the command line said without quotes: run.name=5. */
static bool is_text(const td_setting *v)
{
    return v->type == TD_SETTING_STRING ||
           (!v->file && v->text && v->type != TD_SETTING_LIST && v->type != TD_SETTING_GROUP);
}

/* One value of INT, FLOAT or STRING into out[index]. */
static void bind_item(binder *b, const td_setting *v, const td_option *o, void *out, size_t index,
                      td_text *text)
{
    bool ints = o->type == TD_TYPE_INT || o->type == TD_TYPE_INTS, strings = takes_strings(o);
    if (strings ? !is_text(v)
        : ints  ? v->type != TD_SETTING_INT
                : v->type != TD_SETTING_INT && v->type != TD_SETTING_FLOAT) {
        want(b, v, o);
        return;
    }
    if (strings) {
        ((const char **)out)[index] = v->text;
        print_string(text, v->text);
    } else if (in_range(b, v, o, v->number)) {
        if (ints) {
            ((int64_t *)out)[index] = v->integer;
            print_integer(text, v->integer);
        } else {
            ((double *)out)[index] = v->number;
            print_number(text, v->number);
        }
    }
}

/* INTS, FLOATS, STRINGS: a list, or one value. */
static void bind_items(binder *b, const td_setting *v, const td_option *o, td_ints *out,
                       td_text *text)
{
    size_t n = 0, k = 0;
    void  *at;
    for (const td_setting *c = v->type == TD_SETTING_LIST ? v->first : NULL; c; c = c->next)
        n++;
    n = v->type == TD_SETTING_LIST ? n : 1;
    at = td_arena_alloc(b->config->arena, n * 8 + 8);
    if (!at)
        return;
    td_text_print(text, n ? "( " : "(");
    if (v->type != TD_SETTING_LIST)
        bind_item(b, v, o, at, 0, text);
    else
        for (const td_setting *c = v->first; c; c = c->next, k++) {
            td_text_print(text, "%s", k ? ", " : "");
            bind_item(b, c, o, at, k, text);
        }
    td_text_print(text, n ? " )" : ")");
    out->at = at;
    out->count = n;
}

static void print_default(const td_option *o, const char *field, td_text *t)
{
    switch (o->type) {
    case TD_TYPE_BOOL:
        td_text_print(t, "%s", *(const bool *)(const void *)field ? "true" : "false");
        break;
    case TD_TYPE_INT:
        print_integer(t, *(const int64_t *)(const void *)field);
        break;
    case TD_TYPE_FLOAT:
        print_number(t, *(const double *)(const void *)field);
        break;
    case TD_TYPE_CHOICE:
        print_string(t, o->choices[*(const int64_t *)(const void *)field]);
        break;
    case TD_TYPE_STRING:
        print_string(t, *(const char *const *)(const void *)field);
        break;
    default:
        td_text_print(t, "()");
        break;
    }
}

static void bind_scalar(binder *b, const td_setting *v, const td_option *o, char *field,
                        td_resolved *at)
{
    td_text t = { 0 };
    if (!v) {
        print_default(o, field, &t);
        record(b, at, o->name, keep(b, &t), NULL, o);
        return;
    }
    switch (o->type) {
    case TD_TYPE_BOOL:
        if (v->type == TD_SETTING_BOOL)
            *(bool *)(void *)field = v->integer != 0;
        else
            want(b, v, o);
        break;
    case TD_TYPE_CHOICE:
        if (v->type == TD_SETTING_STRING)
            bind_choice(b, v, o, (int64_t *)(void *)field);
        else
            want(b, v, o);
        break;
    case TD_TYPE_INT:
    case TD_TYPE_FLOAT:
    case TD_TYPE_STRING:
        bind_item(b, v, o, field, 0, &t);
        break;
    default:
        bind_items(b, v, o, (td_ints *)(void *)field, &t);
        break;
    }
    if (o->type == TD_TYPE_BOOL || o->type == TD_TYPE_CHOICE)
        print_default(o, field, &t);
    record(b, at, o->name, keep(b, &t), v, o);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void bind_rows(binder *b, td_setting *group, const td_option *table, size_t size, char *out,
                      td_resolved *at);

static void unknown_keys(binder *b, const td_setting *group, const td_option *table, size_t size,
                         const td_option *extra, bool plugin)
{
    const char *names[256], *nearest;
    td_option   row;
    size_t      told = 0;
    for (td_setting *v = group ? group->first : NULL; v; v = v->next) {
        size_t n = 0;
        bool   known = plugin && !strcmp(v->name, "plugin");
        if (plugin)
            names[n++] = "plugin";
        for (size_t i = 0; td_option_row(table, size, i, &row) && n <= TD_MOST_OPTIONS; i++)
            known |= !strcmp(names[n++] = row.name, v->name);
        for (size_t i = 0; extra && td_option_row(extra, sizeof row, i, &row) && n < 250; i++)
            known |= !strcmp(names[n++] = row.name, v->name);
        if (known || ++told > TD_MOST_UNKNOWN)
            continue;
        nearest = td_nearest(v->name, names, n);
        if (nearest)
            complain(b, v, v->name, "is unknown; did you mean '%s'?", nearest);
        else
            complain(b, v, v->name,
                     "is unknown; `tandem config explain %s -c FILE` lists what there is",
                     group->name);
    }
    if (told > TD_MOST_UNKNOWN)
        td_errors_add(b->errors, "%s: %s: %zu more options are unknown", td_setting_origin(group),
                      b->owner, told - TD_MOST_UNKNOWN);
}

static void bind_list(binder *b, td_setting *v, const td_option *o, td_list *out, td_resolved *at)
{
    td_resolved *list = record(b, at, o->name, NULL, v, o);
    size_t       n = 0;
    char        *items;
    list->list = true;
    if (!v)
        return;
    if (v->type != TD_SETTING_LIST) {
        want(b, v, o);
        return;
    }
    for (td_setting *c = v->first; c; c = c->next)
        n++;
    items = td_arena_alloc(b->config->arena, n * o->item_size + 1);
    out->at = items;
    out->count = items ? n : 0;
    for (td_setting *c = v->first; c && items; c = c->next, items += o->item_size) {
        if (c->type != TD_SETTING_GROUP) {
            complain(b, c, o->name, "holds %s; each item is a group { }", type_name(c));
            continue;
        }
        bind_rows(b, c, o->fields, b->row_size, items, record(b, list, "", NULL, c, NULL));
        unknown_keys(b, c, o->fields, b->row_size, NULL, false);
    }
}

/* A plugin that is only named is a group that says nothing else. */
static td_setting *named(binder *b, const td_setting *v)
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

static void bind_item_of_parts(binder *b, td_setting *v, const td_option *o, td_part *out,
                               td_resolved *list)
{
    const char *owner = b->owner;
    td_setting *group = v->type == TD_SETTING_STRING ? named(b, v) : v;
    if (group && group->type != TD_SETTING_GROUP)
        complain(b, v, o->name,
                 "holds %s; each item is the name of a plugin, or a group { plugin = "
                 "\"...\"; .. }",
                 type_name(v));
    else if (group)
        bind_part(b, group, o->name, o->choices[0], NULL, NULL, NULL, out,
                  record(b, list, "", NULL, v, NULL));
    b->owner = owner;
}

/* A list, or one item. */
static void bind_parts(binder *b, td_setting *v, const td_option *o, td_parts *out, td_resolved *at)
{
    bool         many = v && v->type == TD_SETTING_LIST;
    td_setting  *first = many ? v->first : v;
    td_part     *items;
    td_resolved *list = record(b, at, o->name, first ? NULL : "()", v, o);
    size_t       n = 0;
    for (td_setting *c = first; c; c = many ? c->next : NULL)
        n++;
    items = td_arena_alloc(b->config->arena, n * sizeof *items + 1);
    out->at = items;
    out->count = items ? n : 0;
    list->list = n > 0;
    for (td_setting *c = first; c && items; c = many ? c->next : NULL)
        bind_item_of_parts(b, c, o, items++, list);
}

static void bind_row(binder *b, const td_setting *group, td_setting *v, const td_option *o,
                     char *field, td_resolved *at)
{
    if (!v && o->flags & TD_OPTION_REQUIRED) {
        td_errors_add(b->errors, "%s%s%s: option '%s' is missing and has no default: %s",
                      group ? td_setting_origin(group) : "", group ? ": " : "", b->owner, o->name,
                      o->doc ? o->doc : "");
        return;
    }
    td_option_default(o, field);
    if (v && v->wrong)
        return;
    if (o->type == TD_TYPE_LIST)
        bind_list(b, v, o, (td_list *)(void *)field, at);
    else if (o->type == TD_TYPE_PARTS)
        bind_parts(b, v, o, (td_parts *)(void *)field, at);
    else if (o->type == TD_TYPE_PART) {
        const char *owner = b->owner;
        if (v && v->type != TD_SETTING_GROUP)
            want(b, v, o);
        else if (v || o->text)
            bind_part(b, v, o->name, o->choices[0], o->text, NULL, NULL, (td_part *)(void *)field,
                      record(b, at, o->name, NULL, v, o));
        b->owner = owner;
    } else
        bind_scalar(b, v, o, field, at);
}

static void bind_rows(binder *b, td_setting *group, const td_option *table, size_t size, char *out,
                      td_resolved *at)
{
    td_option row;
    size_t    before = b->row_size;
    for (size_t i = 0; td_option_row(table, size, i, &row); i++) {
        b->row_size = size; /* tables in it were compiled with it */
        bind_row(b, group, td_setting_child(group, row.name), &row, out + row.offset, at);
    }
    b->row_size = before;
}

/* ---- parts ----------------------------------------------------------------------------------- */

static const char *plugin_name(binder *b, const td_setting *group, const char *path,
                               const char *kind, const char *fallback)
{
    const td_setting *v = td_setting_child(group, "plugin");
    if (v && v->type != TD_SETTING_STRING) {
        td_errors_add(b->errors, "%s: '%s.plugin' is %s; it takes the name of a plugin",
                      td_setting_origin(v), path, type_name(v));
        return NULL;
    }
    if (!v && !fallback)
        td_errors_add(b->errors,
                      "%s%sgroup '%s' must name a plugin of kind %s: %s = { plugin = \"...\"; };%s",
                      group ? td_setting_origin(group) : "", group ? ": " : "", path, kind, path,
                      strcmp(path, "data") && strcmp(path, "tokenizer")
                          ? ""
                          : " (a config of data goes beside one of a model: -c data/embedded.cfg)");
    return v ? v->text : fallback;
}

static void remember(td_config *c, const td_plugin *p)
{
    td_bound *b = td_arena_alloc(c->arena, sizeof *b);
    if (!b)
        return;
    b->plugin = p;
    *(c->bound ? &c->last_bound->next : &c->bound) = b;
    c->last_bound = b;
}

const td_plugin *td_config_plugin(const td_config *c, size_t i)
{
    const td_bound *b = c->bound;
    while (b && i--)
        b = b->next;
    return b ? b->plugin : NULL;
}

/* The plugin that the group names, or NULL after an error. */
static const td_plugin *find_part(binder *b, const td_setting *group, const char *path,
                                  const char *kind, const char *fallback)
{
    const td_setting *said = td_setting_child(group, "plugin");
    const char       *name = plugin_name(b, group, path, kind, fallback);
    td_error          e = { 0 };
    const td_plugin  *p = name ? td_registry_find(b->registry, kind, name, &e) : NULL;
    if (name && !p)
        td_errors_add(b->errors, "%s: %s", said ? td_setting_origin(said) : path, e.text);
    return p;
}

/* Whether the parts around this one are few enough. */
static bool shallow(binder *b, const char *path)
{
    if (b->depth < TD_DEEPEST_PART)
        return true;
    if (!b->deep)
        td_errors_add(b->errors,
                      "%s: option '%s': parts lie in each other more than %d deep: is a plugin its "
                      "own default?",
                      b->owner, path, TD_DEEPEST_PART);
    b->deep = true;
    return false;
}

/* Its rules across options, told at the line of an option that the message names. */
static void check_part(binder *b, const td_setting *group, const char *path, const td_part *part)
{
    td_error          e = { 0 };
    const td_setting *v;
    if (!part->plugin->check || !part->plugin->check(part->config, &e))
        return;
    v = td_setting_named(group, e.text);
    v = v ? v : group;
    td_errors_add(b->errors, "%s: %s: %s", v ? td_setting_origin(v) : path, b->owner,
                  *e.text ? e.text : "its 'check' refuses these options without saying why");
    b->rules++;
}

static bool bind_part(binder *b, td_setting *group, const char *path, const char *kind,
                      const char *fallback, const td_option *extra, void *extra_out, td_part *out,
                      td_resolved *at)
{
    size_t           before = b->errors->count, rules = b->rules;
    const td_plugin *p = shallow(b, path) ? find_part(b, group, path, kind, fallback) : NULL;
    td_text          text = { 0 };
    char            *config;

    if (!p)
        return false;
    b->owner = td_arena_print(b->config->arena, "%.*s '%s'", (int)strcspn(kind, "/"), kind,
                              p->name);
    config = td_arena_alloc(b->config->arena, p->config_size + 1);
    if (!config || !b->owner) {
        td_errors_add(b->errors, "%s: out of memory for the options of '%s'", path, p->name);
        return false;
    }
    b->depth++;
    if (group && group->mark && fallback && strcmp(p->name, fallback))
        td_setting_forget_default(group);
    out->plugin = p;
    out->config = config;
    remember(b->config, p);
    print_string(&text, p->name);
    record(b, at, "plugin", keep(b, &text), td_setting_child(group, "plugin"), NULL)
        ->doc = p->brief ? p->brief : "";
    bind_rows(b, group, p->options, p->option_size, config, at);
    b->owner = td_arena_print(b->config->arena, "%.*s '%s'", (int)strcspn(kind, "/"), kind,
                              p->name);
    if (extra)
        bind_rows(b, group, extra, sizeof *extra, extra_out, at);
    unknown_keys(b, group, p->options, p->option_size, extra, true);
    if (b->errors->count - before == b->rules - rules)
        check_part(b, group, path, out);
    b->depth--;
    return b->errors->count == before;
}

static td_setting *find_group(td_config *c, const char *path, td_errors *errors, bool *bad)
{
    td_setting *v = (td_setting *)(uintptr_t)td_config_get(c, path);
    *bad = v && v->type != TD_SETTING_GROUP;
    if (*bad)
        td_errors_add(errors, "%s: '%s' is %s; it must be a group { }", td_setting_origin(v), path,
                      type_name(v));
    return *bad ? NULL : v;
}

int td_config_bind_extra(td_config *c, td_registry *registry, const char *path, const char *kind,
                         const char *fallback, const td_option *extra, void *extra_out,
                         td_part *out, td_errors *errors)
{
    binder      b = { .config = c, .registry = registry, .errors = errors, .owner = path };
    bool        bad;
    td_setting *group = find_group(c, path, errors, &bad);
    *out = (td_part){ NULL, NULL };
    if (bad)
        return TD_ECONFIG;
    if (bind_part(&b, group, path, kind, fallback, extra, extra_out, out,
                  record(&b, &c->resolved, path, NULL, group, NULL)))
        return 0;
    *out = (td_part){ NULL, NULL };
    return TD_ECONFIG;
}

int td_config_bind(td_config *c, td_registry *registry, const char *path, const char *kind,
                   const char *fallback, td_part *out, td_errors *errors)
{
    return td_config_bind_extra(c, registry, path, kind, fallback, NULL, NULL, out, errors);
}

void td_config_bind_rows(td_config *c, td_registry *registry, const char *owner, td_setting *group,
                         const td_option *table, void *out, td_resolved *at, td_errors *errors)
{
    binder b = { .config = c, .registry = registry, .errors = errors, .owner = owner };
    bind_rows(&b, group, table, sizeof *table, out, at);
}

int td_config_bind_table(td_config *c, td_registry *registry, const char *path,
                         const td_option *table, void *out, td_errors *errors)
{
    binder      b = { .config = c, .registry = registry, .errors = errors, .owner = path };
    size_t      before = errors->count;
    bool        bad;
    td_setting *group = find_group(c, path, errors, &bad);
    bind_rows(&b, group, table, sizeof *table, out,
              record(&b, &c->resolved, path, NULL, group, NULL));
    b.owner = path;
    unknown_keys(&b, group, table, sizeof *table, NULL, false);
    return errors->count == before ? 0 : TD_ECONFIG;
}
