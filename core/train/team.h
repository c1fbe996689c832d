/* team.h - the processes of a run, as training sees them. Rank 0 is the leader: only it writes
 * files, evaluates and prints. The others compute their share of every step, and wait.
 *
 *     td_team *t = td_team_join(&comm, services, &error);
 *     code = td_team_agree(t, do_my_part(.., &error), &error);    all succeed, or all fail
 *
 * Every function except those that return the rank or the size is a collective call: all ranks must
 * make it, in the same order. A team of one does nothing.
 */
#ifndef TD_TRAIN_TEAM_H
#define TD_TRAIN_TEAM_H

#include "model/engine.h"
#include "tandem/kind/comm.h"

typedef struct td_team td_team;

/* NULL with `error`, also if a launcher started several processes and the comm connects only one. */
td_team *td_team_join(const td_part *comm, const td_services *services, td_error *error);
void     td_team_leave(td_team *);

int  td_team_rank(const td_team *); /* of a NULL team 0, .. */
int  td_team_size(const td_team *); /* .. of 1 */
bool td_team_leads(const td_team *);

/* The code that all ranks continue with: 0 if every rank's code is 0; otherwise that of the
 * lowest rank with an error, whose message is put into `error`. An error takes precedence over
 * TD_EEND. */
int td_team_agree(td_team *, int code, td_error *error);
/* Everyone gets the leader's `data`. */
int td_team_share(td_team *, void *data, size_t bytes, td_error *error);
/* Everyone gets the leader's parameters and optimizer states. */
int td_team_share_variables(td_team *, td_engine *, td_error *error);
/* Sums over all ranks, in double. */
int td_team_sum(td_team *, double *data, int64_t count, td_error *error);
/* An error unless all ranks have the same `text`: "the config", "the plugins". */
int td_team_same(td_team *, const char *text, const char *what, td_error *error);

const td_comm *td_team_comm(const td_team *, void **state);

#endif
