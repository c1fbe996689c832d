/* ablations.h - the shipped configs/ablations: finds those that use a plugin. */
#ifndef TD_TOOLS_MANUAL_ABLATIONS_H
#define TD_TOOLS_MANUAL_ABLATIONS_H

#include "base/text.h"
#include "config/config.h"
#include "config/setting.h"
#include "manual/places.h"

enum { TD_ABLATIONS = 256 };

typedef struct td_ablation {
    char      *file; /* "alibi.cfg" */
    td_config *config;
} td_ablation;

typedef struct td_ablations {
    td_ablation at[TD_ABLATIONS]; /* sorted by file */
    size_t      count;
} td_ablations;

/* Every file of `configs`/ablations that can be read; zero-initialize. */
void td_ablations_open(td_ablations *, const char *configs);
void td_ablations_close(td_ablations *);
/* Append a line with links to those that name the plugin at one of the places; nothing if none
 * do. */
void td_ablations_put(const td_ablations *, const td_places *, const char *plugin, td_text *out);

#endif
