/* pace.c - meetings of ranks that work at their own pace. */
#include "team/pace.h"

#include <stdlib.h>

#include "base/clock.h"

/* What a rank tells the others. */
typedef struct word {
    int64_t done;
    enum { WORKS, FINISHED, FAILED } state;
} word;

/* Every rank takes part in every meeting, so they are numbered alike without being counted. */
static int meet(td_pace *p, word own, td_error *error)
{
    int   size = td_team_size(p->team), finished = 0, code;
    word *all = calloc((size_t)size, sizeof *all);
    if (!all)
        return td_fail(error, TD_ENOMEM, "out of memory for %d ranks", size);
    code = td_team_all_gather(p->team, &own, all, sizeof own, error);
    p->others = -own.done;
    for (int r = 0; !code && r < size; r++) {
        p->others += all[r].done;
        p->over |= all[r].state == FAILED;
        finished += all[r].state == FINISHED;
    }
    p->over |= code || finished == size;
    free(all);
    p->met = td_now();
    return code;
}

int td_pace_tick(td_pace *p, int64_t done, int64_t *sum)
{
    int code = 0;
    if (td_team_size(p->team) > 1 && !p->over) {
        if (!(p->met > 0))
            p->met = td_now();
        if (td_now() - p->met >= td_team_interval(p->team))
            code = meet(p, (word){ done, WORKS }, NULL);
    }
    *sum = p->others + done;
    return code || p->over ? TD_EEND : 0;
}

int td_pace_end(td_pace *p, int64_t done, int code, td_error *error)
{
    /* a request to stop has no message: this is a plugin that failed with TD_EEND */
    if (code == TD_EEND && error->code)
        code = td_team_failure(error, TD_EIO);
    if (td_team_size(p->team) == 1)
        return code;
    while (!p->over)
        if (meet(p, (word){ done, code ? FAILED : FINISHED }, error))
            return td_failed(error, TD_EIO);
    return td_team_agree(p->team, code, error);
}
