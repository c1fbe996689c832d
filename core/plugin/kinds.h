/* kinds.h - the kinds of plugins that this host knows, and the requirements of each.
 *
 * A kind is a contract: a struct of hooks in tandem/kind/KIND.h, with a revision in its id. A
 * module that was built against another revision is refused.
 */
#ifndef TD_PLUGIN_KINDS_H
#define TD_PLUGIN_KINDS_H

#include "tandem/plugin.h"

typedef struct td_kind {
    const char *id;    /* "attention/1" */
    const char *name;  /* "attention": as in file names and in tandem/kind/NAME.h */
    const char *brief; /* one line */
    size_t      size;  /* of the host's struct; an older module's may be smaller */
} td_kind;

/* All kinds, by name; `id` is NULL at the end. */
const td_kind *td_kinds(void);
/* By id; NULL: not a kind of this host. */
const td_kind *td_kind_find(const char *id);

/* The first hook that the host calls without testing and that the plugin does not set; NULL: none
 * is missing. */
const char *td_kind_missing_hook(const td_plugin *);

#endif
