/* matrix.h - `tandem plugins matrix`: how each op runs on each backend. */
#ifndef TD_TOOLS_PLUGINS_MATRIX_H
#define TD_TOOLS_PLUGINS_MATRIX_H

#include "plugin/registry.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/op.h"

/* How an op runs on a backend: "kernel", "kernel +i32" (one for integers too), "lowered" to
 * simpler ops, "view" (it only describes memory differently), or "-" if it cannot. */
const char *td_plugins_how(const td_registry *, const td_backend *, const td_op *);

/* Print the table of all ops and backends that the registry has found. */
void td_plugins_matrix(const td_registry *);

#endif
