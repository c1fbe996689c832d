/* defaults.c - plugins with every option at its default. */
#include "plugin/defaults.h"

#include "plugin/options.h"

static void *defaults(td_registry *r, const td_plugin *p, int depth, td_arena *arena,
                      td_error *error);

/* `depth`: of parts around this one. */
static int part_defaults(td_registry *r, const char *kind, const char *name, int depth,
                         td_arena *arena, td_part *out, td_error *error)
{
    const td_plugin *p = td_registry_find(r, kind, name, error);
    out->plugin = p;
    out->config = p ? defaults(r, p, depth, arena, error) : NULL;
    return out->config ? 0 : td_failed(error, TD_EPLUGIN);
}

/* One option. PARTS have no default, so only PART leads to other plugins. */
static int set_default(td_registry *r, const td_option *o, char *field, int depth, td_arena *arena,
                       td_error *error)
{
    if (o->type == TD_TYPE_PART && o->text)
        return part_defaults(r, o->choices[0], o->text, depth + 1, arena, (td_part *)(void *)field,
                             error);
    td_option_default(o, field);
    return 0;
}

static void *defaults(td_registry *r, const td_plugin *p, int depth, td_arena *arena,
                      td_error *error)
{
    char     *config;
    td_option row;
    if (depth > TD_DEEPEST_PART) {
        td_fail(error, TD_EPLUGIN,
                "%s '%s': its default parts are nested more than %d deep: is it its own default?",
                p->kind, p->name, TD_DEEPEST_PART);
        return NULL;
    }
    /* zeroed, as options without a default should be; a byte at least, so that NULL is an error */
    config = td_arena_alloc(arena, p->config_size ? p->config_size : 1);
    if (!config) {
        td_fail(error, TD_ENOMEM, "out of memory for the options of '%s'", p->name);
        return NULL;
    }
    for (size_t i = 0; td_option_row(p->options, p->option_size, i, &row); i++)
        if (set_default(r, &row, config + row.offset, depth, arena, error))
            return NULL;
    return config;
}

void *td_options_defaults(td_registry *r, const td_plugin *p, td_arena *arena, td_error *error)
{
    return defaults(r, p, 0, arena, error);
}

int td_part_defaults(td_registry *r, const char *kind, const char *name, td_arena *arena,
                     td_part *out, td_error *error)
{
    return part_defaults(r, kind, name, 0, arena, out, error);
}
