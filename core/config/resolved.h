/* resolved.h - a resolved config: every option of every bound group with its value, defaults
 * included. For the files of core/config, and for printing reference pages. */
#ifndef TD_CONFIG_RESOLVED_H
#define TD_CONFIG_RESOLVED_H

#include "config/config.h"

/* An option and its value, or a group or list of them. Values are kept as text: the output must
 * be readable as a config again, to the last bit of a float. */
typedef struct td_resolved {
    const char *name;  /* "" for an item of a list */
    const char *text;  /* as in a config; NULL: a group, or a list of groups */
    const char *whole; /* of an option that names files: the same from any directory; else NULL */
    /* .. and the same from any directory of any machine that has the shipped files, which keep their
     * names: only what is found in the working directory has an absolute path */
    const char *here;
    /* of an option in steps: what a run keeps in its place, since the run may be made longer: a share
     * of the steps, or "" for all of them; else NULL */
    const char *share;
    const char *origin; /* "file.cfg:12", "command line", "default of attention 'softmax'" */
    const char *owner;  /* "attention 'softmax'" */
    const char *doc;
    const char *takes; /* "int 1 .. 4096, default 8"; "": not an option */
    bool        list;
    bool        note; /* printed as a comment: whoever reads the config derives it again */
    struct td_resolved *first, *last, *next;
} td_resolved;

/* A plugin that a group was bound to. */
typedef struct td_bound {
    const td_plugin *plugin;
    struct td_bound *next;
} td_bound;

struct td_config {
    td_arena   *arena;
    td_setting *root;     /* as written, after merging */
    td_resolved resolved; /* as bound: its children are the groups, in the order of binding */
    td_bound   *bound, *last_bound;
    const char *shipped;      /* the directory of the shipped files, beside configs/; NULL: none */
    const char *search;       /* of a config in layers: the directory of files found nowhere else */
    bool        untrusted;    /* its plugin_path is not followed .. */
    bool        ignores_path; /* .. and it has one */
    bool        as_text;      /* taken as written, not bound */
    td_text     notes;        /* for td_config_notes */
    int64_t     steps;        /* of the run; 0: not set, -1: not known yet */
    bool        derived; /* .. from a budget: values that follow from it are shown as derived */
};

/* Add a node to `parent`. It came from `from`, or is a default (NULL); `option` describes it, or
 * is NULL for a group's plugin and an item of a list. When out of memory it returns `parent`:
 * binding continues, and only the output lacks a node. */
td_resolved *td_resolved_add(td_config *, td_resolved *parent, const char *name, const char *text,
                             const char *owner, const td_setting *from, const td_option *option);

/* Call `file` for each file or pattern that the options of a group name, as an absolute path. */
void td_config_each_file(const td_config *, const char                   *group,
                         void (*file)(void *arg, const char *path), void *arg);

/* Values as config text: read back, they are the same. */
void td_print_integer(td_text *, int64_t x);
void td_print_number(td_text *, double x);
void td_print_string(td_text *, const char *s);

#endif
