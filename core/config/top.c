/* top.c - the keys outside of groups: plugin_path, and names that nothing has used. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/binder.h"
#include "config/words.h"

typedef struct top_level {
    td_strings plugin_path;
} top_level;
static const td_option top_level_table[] = {
    TD_OPTION_STRINGS(top_level, plugin_path,
                      "directories of plugins; relative to the file that names them"),
    TD_OPTION_END,
};

/* A directory that a config names is relative to that file, so that a config can be used from
 * anywhere; one of the command line is relative to here. */
static const char *from_here(td_config *c, const td_setting *v)
{
    char       *directory = v->file ? td_path_directory(v->file) : NULL;
    char       *path = directory ? td_path_join(directory, v->text) : NULL;
    char       *full = realpath(path ? path : v->text, NULL);
    /* no real path: there is no such directory, and the error needs its name */
    const char *out = td_arena_copy(c->arena, full ? full : path ? path : v->text);
    free(directory);
    free(path);
    free(full);
    return out ? out : v->text;
}

/* A directory that cannot be read is an error, as on the command line: the user asked for it. */
static void add_paths(td_registry *registry, const td_strings *paths, const td_setting *from,
                      td_errors *errors)
{
    for (size_t k = 0; k < paths->count; k++) {
        td_error e = { 0 };
        if (td_registry_check_path(paths->at[k], &e))
            td_errors_add(errors, "%s: plugin_path: %s", td_setting_origin(from), e.text);
        else
            td_registry_add_path(registry, paths->at[k]);
    }
}

int td_config_bind_top(td_config *c, td_registry *registry, td_errors *errors)
{
    size_t      before = errors->count;
    top_level   top = { { NULL, 0 } };
    td_setting *v = td_setting_child(c->root, "plugin_path");
    if (!v)
        return 0;
    v->used = true;
    /* before binding, so that the resolved config, read from elsewhere, means the same
     * directories */
    if (v->type == TD_SETTING_STRING)
        v->text = from_here(c, v);
    for (td_setting *item = v->type == TD_SETTING_LIST ? v->first : NULL; item; item = item->next)
        if (item->type == TD_SETTING_STRING)
            item->text = from_here(c, item);
    td_config_bind_rows(c, registry, "the top level", c->root, top_level_table, &top, &c->resolved,
                        errors);
    /* one of the command line is the user's own */
    if (c->untrusted && v->file) {
        c->ignores_path = true;
        td_text_print(&c->notes,
                      "%s: plugin_path is not followed, because a config may come from a stranger: "
                      "use --trust to "
                      "follow it, or --plugin-path DIR to name a directory of your own\n",
                      td_setting_origin(v));
    } else if (errors->count == before)
        add_paths(registry, &top.plugin_path, v, errors);
    return errors->count == before ? 0 : TD_ECONFIG;
}

/* Keys within groups were checked when these were bound: the rest are whole groups. */
int td_config_check_unused(td_config *c, td_errors *errors)
{
    enum { MOST_NAMES = 64 };
    const char *names[MOST_NAMES], *nearest;
    size_t      n = 0, before = errors->count, reported = 0;
    /* the groups that were bound are the only ones there are */
    for (const td_resolved *r = c->resolved.first; r && n < MOST_NAMES; r = r->next)
        names[n++] = r->name;
    for (const td_setting *v = c->root->first; v; v = v->next) {
        if (v->used || ++reported > TD_MOST_UNKNOWN)
            continue;
        nearest = td_nearest(v->name, names, n);
        if (!strcmp(v->name, "study"))
            td_errors_add(errors,
                          "%s: 'study' is for `tandem study run %s`, which trains many runs; a "
                          "config of one run has no such group",
                          td_setting_origin(v), v->file ? v->file : "FILE");
        else if (td_config_word(v->name))
            td_errors_add(errors, "%s: '%s' is unknown; %s %s", td_setting_origin(v), v->name,
                          td_config_word_verb(td_config_word(v->name)), td_config_word(v->name));
        else if (nearest)
            td_errors_add(errors, "%s: '%s' is unknown; did you mean '%s'?", td_setting_origin(v),
                          v->name, nearest);
        else
            td_errors_add(errors, "%s: '%s' is unknown", td_setting_origin(v), v->name);
    }
    if (reported > TD_MOST_UNKNOWN)
        td_errors_add(errors, "%zu more names at the top level are unknown",
                      reported - TD_MOST_UNKNOWN);
    return errors->count == before ? 0 : TD_ECONFIG;
}
