/* setting.h - the tree of a config as it is written: groups, lists and scalars, each with the place
 * that it comes from.
 *
 * Nodes live in the config's arena, and their children are linked lists: groups are small, and kept
 * in the order of the file, which messages and listings follow.
 */
#ifndef TD_CONFIG_SETTING_H
#define TD_CONFIG_SETTING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"

typedef enum td_setting_type {
    TD_SETTING_GROUP,
    TD_SETTING_LIST,
    TD_SETTING_INT,
    TD_SETTING_FLOAT,
    TD_SETTING_BOOL,
    TD_SETTING_STRING
} td_setting_type;

typedef struct td_setting td_setting;

struct td_setting {
    const char *name;              /* "" in lists */
    int32_t     type;              /* td_setting_type */
    int64_t     integer;           /* of INT, and BOOL as 0 or 1 */
    double      number;            /* of FLOAT, and of INT too: an integer is accepted as a float */
    const char *text;              /* of STRING; from the command line, of any scalar as typed */
    td_setting *first, *last;      /* children of a group or list */
    td_setting *next;              /* sibling */
    const char *file;              /* NULL: the command line */
    int         line;              /* in the file */
    const char *origin;            /* "file.cfg:12" or "command line" */
    bool        used;              /* it has been looked up, so the name is known */
    bool        wrong;             /* its error is reported already; later checks skip it */
    bool        kept;              /* read from a config that a run kept: see config.h */
    uint64_t    mark, stale_marks; /* of merging: see merge.h */
    bool        told;              /* .. and whether that is to be reported */
    const char *written_for;       /* .. the plugin; "": the default; NULL: the present one */
};

/* NULL when out of memory. `file` is not copied: it must live as long as the arena. */
td_setting *td_setting_new(td_arena *, int type, const char *name, const char *file, int line);
/* With everything below it; names and texts are shared. NULL when out of memory. */
td_setting *td_setting_copy(td_arena *, const td_setting *);
void        td_setting_append(td_setting *parent, td_setting *child);
td_setting *td_setting_child(const td_setting *group, const char *name); /* NULL: none */
/* "model.attention": the names from below `root` down to the setting; NULL: it is not there, or in a
 * list. */
const char *td_setting_path(td_arena *, const td_setting *root, const td_setting *target);

/* Whether it is an integer, or a float that equals one exactly, as in steps = 1e3. */
bool td_setting_is_whole(const td_setting *, int64_t *out);

/* "file.cfg:12" or "command line". */
const char *td_setting_origin(const td_setting *);
/* "a group { }", "an integer": for messages. */
const char *td_setting_type_name(const td_setting *);

/* The option, in a group or in the groups within it, whose name comes first in a message; NULL:
 * none does. */
const td_setting *td_setting_mentioned(const td_setting *group, const char *message);

#endif
