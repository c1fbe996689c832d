/* part.c - the plugin under test with its options, in memory that catches reads beyond its end.
 *
 * Options come from the user's config, if there is one, and are bound as for a run; else they are
 * defaults, and required numbers are made up. Every test gets a fresh copy.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "check/internal.h"
#include "tandem/kind/format.h"
#include "tandem/kind/tokenizer.h"
#include "plugin/defaults.h"

bool td_check_is_kind(const td_plugin *p, const char *kind) { return p && !strcmp(p->kind, kind); }

/* ---- option tables --------------------------------------------------------------------------- */

/* Bytes of an option's field; 0 for a type that does not exist. */
static size_t size_of(int64_t type)
{
    static const size_t sizes[] = {
        [TD_TYPE_BOOL] = sizeof(bool),        [TD_TYPE_INT] = sizeof(int64_t),
        [TD_TYPE_FLOAT] = sizeof(double),     [TD_TYPE_STRING] = sizeof(char *),
        [TD_TYPE_CHOICE] = sizeof(int64_t),   [TD_TYPE_INTS] = sizeof(td_ints),
        [TD_TYPE_FLOATS] = sizeof(td_floats), [TD_TYPE_STRINGS] = sizeof(td_strings),
        [TD_TYPE_PART] = sizeof(td_part),     [TD_TYPE_LIST] = sizeof(td_list),
        [TD_TYPE_PARTS] = sizeof(td_parts),
    };
    return type > 0 && type < (int64_t)(sizeof sizes / sizeof *sizes) ? sizes[type] : 0;
}

/* Option i of the plugin; false beyond the last. */
static bool row(const td_plugin *p, size_t i, td_option *out)
{
    return p->options && td_option_row(p->options, p->option_size, i, out);
}

void *td_check_field(const td_part *part, const char *name, int64_t type)
{
    td_option o;
    for (size_t i = 0; row(part->plugin, i, &o); i++)
        if (!strcmp(o.name, name) && o.type == type)
            return (char *)(uintptr_t)part->config + o.offset;
    return NULL;
}

td_part *td_check_slot(const td_part *part, const char *kind)
{
    td_option o;
    for (size_t i = 0; row(part->plugin, i, &o); i++)
        if (o.type == TD_TYPE_PART && !strcmp(o.choices[0], kind))
            return (void *)((char *)(uintptr_t)part->config + o.offset);
    return NULL;
}

/* Options that share bytes. The macros cannot produce them, a table written by hand can. */
static void find_overlap(td_check *c, const td_plugin *p)
{
    td_option a, b;
    for (size_t i = 0; row(p, i, &a); i++)
        for (size_t k = 0; k < i && row(p, k, &b); k++)
            if (a.offset < b.offset + size_of(b.type) && b.offset < a.offset + size_of(a.type))
                td_check_finding(c,
                                 "options '%s' (bytes %zu to %zu of the config) and '%s' (%zu to "
                                 "%zu) overlap: check their offsets",
                                 b.name, b.offset, b.offset + size_of(b.type), a.name, a.offset,
                                 a.offset + size_of(a.type));
}

void td_check_table(td_check *c)
{
    const td_plugin *p = c->plugin;
    td_option        o;
    if (!p->brief || !*p->brief)
        td_check_finding(c, "it has no .brief: describe it in one line");
    /* the registry has refused tables that cannot be read at all; these are for people */
    for (size_t i = 0; row(p, i, &o); i++) {
        if (!o.doc || !*o.doc)
            td_check_finding(c, "option '%s' has no doc: describe its meaning and unit", o.name);
        if ((o.type == TD_TYPE_INT || o.type == TD_TYPE_FLOAT) && o.min > o.max)
            td_check_finding(c, "option '%s' accepts no value: its range is %g .. %g", o.name,
                             o.min, o.max);
    }
    find_overlap(c, p);
}

/* ---- the part under test --------------------------------------------------------------------- */

/* The part that is the wanted plugin: `in` itself, or one that is nested in it; NULL if none is. */
static const td_part *find_in(const td_part *in, const td_plugin *wanted)
{
    td_option      o;
    const td_part *found = NULL;
    if (!in->plugin || in->plugin == wanted)
        return in->plugin ? in : NULL;
    for (size_t i = 0; !found && row(in->plugin, i, &o); i++)
        if (o.type == TD_TYPE_PART)
            found = find_in((const void *)((const char *)in->config + o.offset), wanted);
    return found;
}

/* Report the errors of a config as one finding, and end the test. */
_Noreturn static void refuse_config(td_check *c, td_errors *errors)
{
    char *text = td_arena_copy(c->arena, td_text_get(&errors->text));
    td_errors_free(errors);
    td_check_finding(c, "%s", text ? text : "out of memory");
    td_check_stop(c);
}

/* Load the user's config as a run would, but stop before anything is opened. */
static void open_experiment(td_check *c)
{
    td_errors errors = { 0 };
    c->experiment = td_experiment_open(c->registry, c->files, c->n_files, c->overrides,
                                       c->n_overrides, c->search, 0, &errors);
    if (!c->experiment)
        refuse_config(c, &errors);
    td_errors_free(&errors);
}

/* Overrides without a dot in their name set options of the plugin itself: "gate=false". Returns
 * their number. */
static size_t own_options(const td_check *c)
{
    size_t n = 0;
    for (size_t k = 0; k < c->n_overrides; k++)
        n += !memchr(c->overrides[k], '.', strcspn(c->overrides[k], "="));
    return n;
}

/* A config that holds these overrides and nothing else, as a group "it". */
static void load_own(td_check *c, td_errors *errors)
{
    size_t       n = 0, room = own_options(c) + 1;
    const char **list = td_arena_alloc(c->arena, room * sizeof *list);
    MUST(c, list, "out of memory");
    /* the same path as a real config, so types, ranges and spelling are checked as there */
    list[n++] = td_arena_print(c->arena, "it.plugin=\"%s\"", c->plugin->name);
    for (size_t k = 0; k < c->n_overrides; k++)
        if (!memchr(c->overrides[k], '.', strcspn(c->overrides[k], "=")))
            list[n++] = td_arena_print(c->arena, "it.%s", c->overrides[k]);
    c->own = td_config_load(NULL, 0, list, n, c->search, errors);
}

/* Loaded once: a test may ask again while it uses the first part, which points into the config. */
static void bind_own(td_check *c, td_part *out)
{
    td_errors errors = { 0 };
    if (!c->own)
        load_own(c, &errors);
    if (!c->own || errors.count ||
        td_config_bind(c->own, c->registry, "it", c->plugin->kind, NULL, out, &errors))
        refuse_config(c, &errors);
    td_errors_free(&errors);
}

/* Set *out to the plugin's part in the user's config; returns false without a config. A config that
 * does not use the plugin ends the test, because it would test something else. */
static bool configured(td_check *c, td_part *out)
{
    const td_part *found = NULL;
    if (own_options(c)) {
        bind_own(c, out);
        return true;
    }
    /* a config does not name a format: its settings are those of the model to write */
    if ((!c->n_files && !c->n_overrides) || td_check_is_kind(c->plugin, TD_FORMAT_KIND))
        return false;
    if (!c->experiment)
        open_experiment(c);
    /* loggers are a separate list; every other part is nested in one of these */
    const td_experiment *x = c->experiment;
    const td_part        parts[] = { x->model,     x->loss, x->optimizer, x->schedule,
                                     x->tokenizer, x->data, x->backend,   x->comm };
    /* a part may be nested in another: an attention in the model */
    for (size_t k = 0; !found && k < sizeof parts / sizeof *parts; k++)
        found = find_in(&parts[k], c->plugin);
    for (size_t k = 0; !found && k < x->n_loggers; k++)
        found = find_in(&x->loggers[k], c->plugin);
    MUST(c, found,
         "the config does not use %.*s '%s': name it in a group, or choose another plugin with "
         "--plugin",
         (int)strcspn(c->plugin->kind, "/"), c->plugin->kind, c->plugin->name);
    *out = *found;
    return true;
}

void td_check_config(td_check *c)
{
    /* outside td_check_run, so it needs its own place to stop at */
    if (!setjmp(c->stop) && (c->arena = td_arena_new())) {
        td_part part;
        configured(c, &part);
    }
    td_check_close(c);
}

char *td_check_guarded(td_check *c, size_t bytes)
{
    /* placed at the end of its pages, with one more that is protected */
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page;
    char  *at = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(c, at != MAP_FAILED && !mprotect(at + room, page, PROT_NONE), "out of memory");
    return at + room - (bytes + 7) / 8 * 8;
}

/* Set the bytes of the config struct that belong to no option: padding, and fields without a
 * row. */
static void fill_rest(td_check *c, const td_plugin *p, char *config, int fill)
{
    bool     *set = td_arena_alloc(c->arena, p->config_size + 1);
    td_option o;
    MUST(c, set, "out of memory");
    for (size_t i = 0; row(p, i, &o); i++)
        memset(set + o.offset, true, size_of(o.type));
    for (size_t k = 0; k < p->config_size; k++)
        if (!set[k])
            /* option rows mark their own bytes; the rest belongs to none */
            config[k] = (char)fill;
}

/* Required numbers have no default; small ones will do. Strings and parts cannot be made up. */
static void give_small(const td_part *part)
{
    td_option o;
    /* 12 or 1, or the nearest number in range */
    for (size_t i = 0; row(part->plugin, i, &o); i++) {
        int64_t *at = td_check_field(part, o.name, TD_TYPE_INT);
        double  *x = td_check_field(part, o.name, TD_TYPE_FLOAT);
        if (!(o.flags & TD_OPTION_REQUIRED))
            continue;
        if (at)
            *at = (int64_t)fmin(fmax(o.min, 12), o.max); /* a vocabulary above TD_VOCAB */
        if (x)
            *x = fmin(fmax(o.min, 1), o.max);
    }
}

td_part td_check_part(td_check *c)
{
    td_error e = { 0 };
    td_part  given, part = { c->plugin, NULL };
    bool     chosen = configured(c, &given);
    char    *config = td_check_guarded(c, c->plugin->config_size);

    if (!chosen)
        given.config = td_options_defaults(c->registry, c->plugin, c->arena, &e);
    MUST(c, given.config || !c->plugin->config_size, "%s", td_check_error(&e));
    /* a copy, which tests may change, and which ends where the guard page begins */
    if (c->plugin->config_size)
        memcpy(config, given.config, c->plugin->config_size);
    part.config = config;
    if (!chosen)
        give_small(&part);
    fill_rest(c, c->plugin, config, c->fill);
    return part;
}

void td_check_need_options(td_check *c)
{
    td_part   part = td_check_part(c);
    td_error  e = { 0 };
    td_option o;
    int       code = c->plugin->check ? c->plugin->check(part.config, &e) : 0;
    /* the user's config was checked when it was bound */
    for (size_t i = 0; !c->n_files && !c->n_overrides && row(c->plugin, i, &o); i++)
        MUST(c, !(o.flags & TD_OPTION_REQUIRED) || o.type == TD_TYPE_INT || o.type == TD_TYPE_FLOAT,
             "it cannot be tested: option '%s' is required; set it with %s=VALUE or -c FILE.cfg",
             o.name, o.name);
    MUST(c, !code,
         "it cannot be tested with its defaults: %s (set options with NAME=VALUE or -c FILE.cfg)",
         td_check_error(&e));
}

td_part td_check_default(td_check *c, const char *kind, const char *name)
{
    td_error e = { 0 };
    td_part  part;
    /* so that a model which needs this kind gets the options under test */
    if (td_check_is_kind(c->plugin, kind) && !strcmp(c->plugin->name, name))
        return td_check_part(c);
    MUST(c, !td_part_defaults(c->registry, kind, name, c->arena, &part, &e), "%s",
         td_check_error(&e));
    give_small(&part);
    return part;
}
