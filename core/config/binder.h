/* binder.h - shared by the files that bind settings to options. */
#ifndef TD_CONFIG_BINDER_H
#define TD_CONFIG_BINDER_H

#include "config/resolved.h"

/* One call of td_config_bind or of its variants. */
typedef struct td_binder {
    td_config   *config;
    td_registry *registry;
    td_errors   *errors;
    const char  *owner;     /* whose options are being bound: "attention 'softmax'", or "train" */
    size_t       row_size;  /* bytes of a row of the table being bound, in its module's headers */
    int64_t      steps;     /* of which shares are taken: train.steps, or the group's own length */
    bool         own_steps; /* the group sets its own length */
    int          depth;     /* of parts in parts */
    bool         too_deep;  /* reported already */
    size_t       rules;     /* errors that came from a plugin's `check`, not from an option */
} td_binder;

/* The targets that a group is bound to. */
typedef struct td_slot {
    const char      *path, *kind;
    const char      *fallback; /* the plugin if the group names none; NULL: it must name one */
    const td_option *extra;    /* the host's options in the group, besides the plugin's; or NULL */
    void            *extra_out;
} td_slot;

/* Decide which options of an earlier plugin the group keeps for plugin `p`, drop the others, and note
 * both in the config. */
void td_bind_settle(td_binder *, td_setting *group, const td_slot *, const td_plugin *p);

/* Add "file:line: OWNER: option 'NAME' ..". */
void td_bind_error(td_binder *, const td_setting *v, const char *name, const char *format, ...)
    TD_PRINTF(4, 5);
/* Add the error that the setting's type is not the option's. */
void td_bind_wrong_type(td_binder *, const td_setting *v, const td_option *o);

/* Store a setting of any type but PART, PARTS and LIST in the option's field, which holds the
 * default; record it at `at`. `v` NULL: only record the default. */
void td_bind_value(td_binder *, const td_setting *v, const td_option *o, char *field,
                   td_resolved *at);

/* Set b->steps and b->own_steps: the steps of which the group's options take shares. */
void td_bind_length(td_binder *, const td_setting *group, const td_option *table, size_t size);

/* An option that names files: the value that the plugin gets, and the same from any directory. */
const char *td_bind_file(td_config *, const td_setting *v);
const char *td_bind_whole(td_config *, const char *value);
/* The same, but only for files in the working directory: names of shipped or missing files stay as they
 * are. */
const char *td_bind_here(td_config *, const char *value);

/* Bind a group to a table of the host, and record it at `at`. Keys that the table does not
 * have are left alone. */
void td_config_bind_rows(td_config *, td_registry *, const char *owner, td_setting *group,
                         const td_option *table, void *out, td_resolved *at, td_errors *errors);

enum { TD_MOST_UNKNOWN = 100 }; /* unknown names of a group that are reported one by one */

#endif
