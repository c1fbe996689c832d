/* internal.h - what the files of a team share: team.c has the calls, solos and agreements, device.c the
 * transfers between devices, variables.c those of parameters.
 */
#ifndef TD_TEAM_INTERNAL_H
#define TD_TEAM_INTERNAL_H

#include <pthread.h>

#include "base/ticker.h"
#include "team/alarm.h"
#include "team/team.h"

enum {
    TD_TEAM_TEXT = sizeof((td_error *)0)->text,
    TD_TEAM_PIECE = 1 << 24 /* bytes of a variable that are sent at a time */
};

struct td_team {
    td_team_spec   spec;
    const td_comm *comm;
    void          *state;
    bool           opened, lost, attached;
    int            rank, size;
    char (*words)[TD_TEAM_TEXT]; /* [size]: the message of each rank */
    int32_t  *codes;             /* [size] */
    char     *piece; /* [TD_TEAM_PIECE]: of a variable, in transit; NULL in a team of one */
    td_alarm *alarm; /* NULL: calls may wait forever */

    td_engine *lent;   /* whose variables the leader may ask for in a solo */
    td_remote  remote; /* .. by this */

    td_ticker      *pulse; /* of the leader: tells the others in a solo that it is alive */
    pthread_mutex_t lock;  /* guards the rest, and the comm in a solo */
    bool            solo;
    int             solo_code; /* of the last pulse */
};

/* The end of a call that began with td_alarm_begin. */
int td_team_end_call(td_team *, int code, td_error *error);

#endif
