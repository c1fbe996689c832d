/* pace.h - ranks that work at their own pace on shares of the same work, such as a task's items.
 * They meet about once a second, so that none waits longer for another than a piece of the work
 * takes, all know how much is done, and all stop when one has to.
 *
 *     td_pace p = { .team = team };
 *     while (there are pieces left && !code)
 *         compute one; code = td_pace_tick(&p, ++done, &all_done);
 *     code = td_pace_end(&p, done, code, &error);
 *
 * In a team of one, ticks do nothing.
 */
#ifndef TD_TEAM_PACE_H
#define TD_TEAM_PACE_H

#include "team/team.h"

typedef struct td_pace {
    td_team *team;
    /* private */
    double   met;    /* clock of the last meeting; 0: none yet */
    int64_t  others; /* what the others had done then */
    bool     over;   /* all are finished, or one has failed */
} td_pace;

/* Between pieces: this rank has done `done`, and all ranks together `*sum`. Returns TD_EEND if
 * another rank has failed or was asked to stop. */
int td_pace_tick(td_pace *, int64_t done, int64_t *sum);
/* After the last piece, or after a failure (`code`): waits for the others. Ends like td_team_agree. */
int td_pace_end(td_pace *, int64_t done, int code, td_error *error);

#endif
