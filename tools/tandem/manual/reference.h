/* plugins_reference.h - `tandem plugins reference`, and what it shares with `tandem plugins
 * matrix`. */
#ifndef TD_TOOLS_PLUGINS_REFERENCE_H
#define TD_TOOLS_PLUGINS_REFERENCE_H

#include "command.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/op.h"

extern const td_usage td_usage_plugins_reference;
int                   td_plugins_reference(td_tool *, int argc, char **argv);

/* How an op runs on a backend: "kernel", "kernel +i32", "lowered", "view", or "-". */
const char *td_plugins_how(const td_registry *, const td_backend *, const td_op *);

#endif
