/* places.h - where a config can name plugins of a kind: "model.attention", "run.loggers". */
#ifndef TD_TOOLS_MANUAL_PLACES_H
#define TD_TOOLS_MANUAL_PLACES_H

#include "plugin/registry.h"

enum { TD_PLACES = 32 };

typedef struct td_places {
    char   at[TD_PLACES][96]; /* sorted, each once */
    size_t count;
} td_places;

/* Zero-initialize `out`. Looks at the host's groups and at the options of all plugins that the
 * registry has found. */
void td_places_find(const td_registry *, const char *kind, td_places *out);

#endif
