/* shard.h - which process owns a parameter: it alone has its optimizer states, or the parameter
 * itself. Paper: Rajbhandari et al. 2020 (ZeRO, stages 1 and 3).
 *
 * Parameters are owned whole, so that any optimizer computes what it computes in one process: the
 * owner updates the parameter and sends it to the others (td_team_share_owned). The states of other
 * ranks are declared, so that names and dims in checkpoints do not depend on ranks, but absent:
 * they never have memory here. If parameters are sharded, the parameters of others are absent, too,
 * and so are their gradients: a plan has them in windows (plan/windows.c).
 */
#ifndef TD_MODEL_SHARD_H
#define TD_MODEL_SHARD_H

#include "model/model.h"

/* Decide the owner of every trained parameter and its gradient, balanced by the bytes of their states,
 * and declare all states; all ranks do the same. Refuses an optimizer if one update reads what
 * belongs to another. Without several processes it does nothing. */
int    td_shard_assign(const td_model *, td_variables *, td_error *error);
/* Whether parameters and gradients are sharded, too. */
bool   td_shard_parameters(const td_model *);
/* Whether this process updates the parameter, or has the sum of the gradient. */
bool   td_shard_has(const td_model *, const td_variable *);
/* Bytes of the variables of a kind (td_variable_kind) on the rank that has the most. */
size_t td_shard_most(const td_model *, const td_variables *, int kind);

#endif
