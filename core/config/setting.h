/* setting.h - the tree behind a config, as read and as resolved. Shared by the files of
 * core/config. */
#ifndef TD_CONFIG_SETTING_H
#define TD_CONFIG_SETTING_H

#include "config/config.h"

typedef enum td_setting_type {
    TD_SETTING_GROUP,
    TD_SETTING_LIST,
    TD_SETTING_INT,
    TD_SETTING_FLOAT,
    TD_SETTING_BOOL,
    TD_SETTING_STRING
} td_setting_type;

struct td_setting {
    const char *name; /* "" in lists */
    int32_t     type; /* td_setting_type */
    int64_t     integer;
    double      number;
    const char *text; /* of a string; from the command line, of any scalar as it was given */
    td_setting *first, *last, *next; /* children; the next sibling */
    const char *file;                /* NULL: the command line */
    int         line;
    const char *origin; /* "file.cfg:12" or "command line" */
    bool        used;
    bool        wrong; /* an error was told of it: it says nothing more */
    /* A group that another file than its first gives a plugin: what was said before is of the
     * default plugin, if that is another one. Which plugin is default is known only when the group
     * is bound. Until then `mark` is the bit of this group, and `marks` of a value are the groups
     * around it that got their plugins after it. */
    uint64_t    mark, marks;
};

/* A resolved value: what an option got, and from where. */
typedef struct td_resolved {
    const char         *name, *text;                 /* text NULL: a group or list of groups */
    const char         *origin, *owner, *doc, *kind; /* kind: "int 1 .. 4096, default 8" */
    bool                list;
    struct td_resolved *first, *last, *next;
} td_resolved;

/* A plugin that a group was bound to. */
typedef struct td_bound {
    const td_plugin *plugin;
    struct td_bound *next;
} td_bound;

struct td_config {
    td_arena   *arena;
    td_setting *root;
    td_resolved resolved;
    td_bound   *bound, *last_bound;
};

td_setting       *td_setting_child(const td_setting *group, const char *name);
td_setting *td_setting_new(td_arena *, int type, const char *name, const char *file, int line);
void        td_setting_append(td_setting *parent, td_setting *child);
/* The option in a group, or in one of its groups, that a message names first; NULL: none. */
const td_setting *td_setting_named(const td_setting *group, const char *text);
/* Later wins; a group that names another plugin starts anew. */
void              td_setting_merge(td_setting *into, td_setting *from);
/* Forget what was said in a group before it named its plugin. */
void              td_setting_forget_default(td_setting *group);

/* One file without its `extends`, or a value given on the command line. NULL after adding
 * errors. */
td_setting *td_setting_parse(td_arena *, const char *text, const char *file, td_errors *errors);
td_setting *td_setting_parse_override(td_arena *, const char *override, td_setting *root,
                                      td_errors *errors);

/* Bind the rows of a table to what a group says; `at` gets the resolved values. */
void td_config_bind_rows(td_config *, td_registry *, const char *owner, td_setting *group,
                         const td_option *table, void *out, td_resolved *at, td_errors *errors);

enum { TD_MOST_UNKNOWN = 100 }; /* names that are told one by one */

#endif
