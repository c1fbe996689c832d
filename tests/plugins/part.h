/* part.h - a plugin with its options, loaded directly from its module: for tests that need no
 * host. */
#ifndef TESTS_PLUGINS_PART_H
#define TESTS_PLUGINS_PART_H

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "tandem/plugin.h"

static inline const td_plugin *load_plugin(const char *file, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.so", TANDEM_PLUGINS, file);
    void            *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const td_module *m = handle ? dlsym(handle, TD_MODULE_SYMBOL) : NULL;
    cr_assert(m, "%s: %s", path, handle ? "no module" : dlerror());
    for (size_t k = 0; m->plugins[k]; k++)
        if (!strcmp(m->plugins[k]->name, name))
            return m->plugins[k];
    cr_assert_fail("%s has no plugin '%s'", path, name);
    return NULL;
}

static inline const td_option *find_option(const td_plugin *p, const char *name)
{
    for (const td_option *o = p->options; o && o->type != TD_TYPE_END; o++)
        if (!strcmp(o->name, name))
            return o;
    cr_assert_fail("%s has no option '%s'", p->name, name);
    return NULL;
}

/* Set a number, flag or choice (by index). */
static inline void set_option(td_part *part, const char *name, double value)
{
    const td_option *o = find_option(part->plugin, name);
    char            *at = (char *)(uintptr_t)part->config + o->offset;
    if (o->type == TD_TYPE_BOOL)
        *(bool *)at = value != 0;
    else if (o->type == TD_TYPE_FLOAT)
        *(double *)at = value;
    else
        *(int64_t *)at = (int64_t)value;
}

/* With defaults; parts inside stay empty. Free the config. */
static inline td_part load_part(const char *file, const char *name)
{
    td_part part = { load_plugin(file, name), NULL };
    part.config = calloc(1, part.plugin->config_size + 8);
    for (const td_option *o = part.plugin->options; o && o->type != TD_TYPE_END; o++)
        if (o->type == TD_TYPE_BOOL || o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT ||
            o->type == TD_TYPE_CHOICE)
            /* the schedules' shares refer to the paper's 400000 steps */
            set_option(&part, o->name,
                       o->flags & TD_OPTION_IN_STEPS && o->number < 1 ? o->number * 400000
                                                                      : o->number);
    return part;
}

/* Set a part inside another; the outer one does not free it. */
static inline void set_part(td_part *part, const char *name, td_part inner)
{
    const td_option *o = find_option(part->plugin, name);
    cr_assert_eq(o->type, TD_TYPE_PART);
    *(td_part *)(void *)((char *)(uintptr_t)part->config + o->offset) = inner;
}

static inline void free_part(td_part *part) { free((void *)(uintptr_t)part->config); }

#endif
