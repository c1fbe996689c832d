/* team.h - the processes of a run, as training sees them. Rank 0 is the leader: only it writes
 * files, scores tasks and prints. The others compute their share of every step and evaluation, and
 * wait.
 *
 *     td_team *t = td_team_join(&spec, &error);
 *     code = td_team_agree(t, do_my_part(.., &error), &error);    all succeed, or all fail
 *
 *     td_team_begin_solo(t);                                      the leader works, which may take
 *     code = td_team_leads(t) ? save(.., &error) : 0;             long; the others wait for it
 *     code = td_team_end_solo(t, code, &error);
 *
 * Every function except those that return the rank or the size is a collective call: all ranks must
 * make it, in the same order. A team of one does nothing.
 *
 * A rank that waits longer than `timeout` in one call has lost the others, or waits for one that
 * hangs. During a solo the leader reports to the others from time to time that it is alive, so
 * their waiting has no limit.
 */
#ifndef TD_TEAM_TEAM_H
#define TD_TEAM_TEAM_H

#include "base/text.h"
#include "model/engine.h"
#include "tandem/kind/comm.h"

typedef struct td_team td_team;

typedef struct td_team_spec {
    const td_part     *comm;
    const td_services *services;
    double             timeout; /* seconds that a call may wait for other ranks; 0: forever */
    /* The other ranks are lost. Called on another thread, while the call that waits for them has
     * not returned: ending the process is all that can be done. NULL: the wait continues. */
    void (*lost)(void *arg, const char *why);
    void *arg;
} td_team_spec;

/* NULL with `error`, also if a launcher started several processes and the comm connects only
 * one. */
td_team *td_team_join(const td_team_spec *, td_error *error);
void     td_team_leave(td_team *);

int    td_team_rank(const td_team *); /* 0 for a NULL team */
int    td_team_size(const td_team *); /* 1 for a NULL team */
bool   td_team_leads(const td_team *);
/* Seconds between signs of life: a few fit into the others' timeout, but not too many. */
double td_team_interval(const td_team *);
/* A call has failed (TD_EIO): the other ranks can no longer be reached. */
bool   td_team_is_lost(const td_team *);

/* The code that all ranks continue with: 0 if every rank's code is 0; otherwise the code of the
 * lowest rank with an error, whose message is put into `error`. An error takes precedence over
 * TD_EEND. */
int     td_team_agree(td_team *, int code, td_error *error);
/* The same after transfers, which may have failed on one rank alone; ranks that cannot be reached
 * any more are not asked. */
int     td_team_settle(td_team *, int code, td_error *error);
/* Between these two calls the leader calls no other function of the team, and the others do
 * nothing. td_team_end_solo includes td_team_agree. */
void    td_team_begin_solo(td_team *);
int     td_team_end_solo(td_team *, int code, td_error *error);
/* From now on the leader can read and write, during a solo, the variables of this engine that only
 * another rank has (td_remote); the others serve them while they wait for the solo to end. NULL: no
 * more. */
void    td_team_lend(td_team *, td_engine *);
/* Everyone gets the leader's `data`, .. */
int     td_team_share(td_team *, void *data, size_t bytes, td_error *error);
/* .. or the data of rank `root`. */
int     td_team_share_from(td_team *, void *data, size_t bytes, int root, td_error *error);
/* Everyone gets the leader's parameters and optimizer states, as far as all ranks have them. */
int     td_team_share_variables(td_team *, td_engine *, td_error *error);
/* Everyone gets each parameter from the rank that updates it (model/shard.h). */
int     td_team_share_owned(td_team *, td_engine *, td_error *error);
/* Call it before ranks compute together (td_engine_order): it checks that their plans have the same
 * transfers. */
int     td_team_meet(td_team *, td_engine *, const td_batch *, bool scores, td_error *error);
/* The code of the recorded failure, or `otherwise`, but never TD_EEND, which would be taken for a
 * request to stop: a plugin that returns it by mistake fails. */
int     td_team_failure(td_error *error, int otherwise);
/* [count] zeros; either all ranks get them or none does: a rank without memory must not leave the
 * others waiting in a sum. NULL with `error`; free() them. */
double *td_team_zeros(td_team *, int64_t count, td_error *error);
/* Sums over all ranks, in double; either all ranks get them or none does. */
int     td_team_sum(td_team *, double *data, int64_t count, td_error *error);
/* Append what all ranks have, in the order of ranks, to every rank's `out`. */
int     td_team_collect(td_team *, const void *own, size_t bytes, td_text *out, td_error *error);
/* An error unless all ranks have the same `text`: "the config", "the plugins". */
int     td_team_same(td_team *, const char *text, const char *what, td_error *error);

/* The comm's hooks of these names (tandem/kind/comm.h), for gradients. */
int td_team_all_reduce(td_team *, void *data, int64_t count, int dtype, td_error *error);
int td_team_all_to_all(td_team *, const void *send, void *receive, size_t bytes, td_error *error);
int td_team_all_gather(td_team *, const void *send, void *receive, size_t bytes, td_error *error);

/* ---- between devices (device.c) -------------------------------------------------------------- */

/* Whether the comm connects devices of this kind, and the backend adds up in their memory. */
bool td_team_reaches(const td_team *, const td_device *);
/* Connect all ranks' devices, if the team reaches them; until then, and if it does not, data in
 * their memory goes through the host's memory. All succeed, or all fail. Detach before the device
 * is closed. */
int  td_team_attach(td_team *, const td_device *, td_error *error);
void td_team_detach(td_team *);
bool td_team_is_attached(const td_team *);
/* The comm's hooks. They only queue: what others have sent has arrived after the wait, and for work
 * that is queued later. Every exchange ends with a wait, because nothing else notices a lost
 * rank. */
int  td_team_device_begin(td_team *, td_error *error);
int  td_team_device_end(td_team *, td_error *error);
int  td_team_device_all_reduce(td_team *, void *data, int64_t count, int dtype, td_error *error);
int  td_team_device_all_to_all(td_team *, const void *send, void *receive, size_t bytes,
                               td_error *error);
int  td_team_device_all_gather(td_team *, const void *send, void *receive, size_t bytes,
                               td_error *error);
int  td_team_device_broadcast(td_team *, void *data, size_t bytes, int root, td_error *error);
int  td_team_device_wait(td_team *, td_error *error);

#endif
