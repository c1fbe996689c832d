/* setting.h - the tree of a config as it is written: groups, lists and scalars, each with the place
 * that it comes from.
 *
 * Nodes live in the config's arena, and their children are linked lists: groups are small, and
 * keeping the order of the file keeps messages and listings in it.
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
    double      number;            /* of FLOAT, and of INT too: an integer is taken for a float */
    const char *text;              /* of STRING; from the command line, of any scalar as typed */
    td_setting *first, *last;      /* children of a group or list */
    td_setting *next;              /* sibling */
    const char *file;              /* NULL: the command line */
    int         line;              /* in the file */
    const char *origin;            /* "file.cfg:12" or "command line" */
    bool        used;              /* somebody has asked for it: not an unknown name */
    bool        wrong;             /* its error is reported already; later checks skip it */
    uint64_t    mark, stale_marks; /* of merging: see merge.h */
};

/* NULL when out of memory. `file` is not copied: it must live as long as the arena. */
td_setting *td_setting_new(td_arena *, int type, const char *name, const char *file, int line);
void        td_setting_append(td_setting *parent, td_setting *child);
td_setting *td_setting_child(const td_setting *group, const char *name); /* NULL: none */

/* "file.cfg:12" or "command line". */
const char *td_setting_origin(const td_setting *);
/* "a group { }", "an integer": for messages. */
const char *td_setting_type_name(const td_setting *);

/* The option, in a group or in the groups within it, whose name comes first in a message; NULL:
 * none does. */
const td_setting *td_setting_mentioned(const td_setting *group, const char *message);

#endif
