/* comm.c - what every communicator must do, as far as one process can tell: open, count the ranks,
 * add up, broadcast, close. */
#include "tandem/kind/comm.h"

#include "check/cases.h"
#include "check/internal.h"

/* Every rank contributes the same numbers, so sums are multiples of them by the number of ranks.
 * All are exact in float. */
static void check_sums(td_check *c, const td_comm *m, void *state, int size)
{
    const double contributed[] = { 1, -2, 0.5 };
    float        narrow[] = { 1, -2, 0.5f };
    double       wide[] = { 1, -2, 0.5 };
    td_error     e = { 0 };
    MUST(c,
         !m->all_reduce(state, narrow, 3, TD_F32, &e) &&
             !m->all_reduce(state, wide, 3, TD_F64, &e) &&
             !m->all_reduce(state, wide, 0, TD_F64, &e), /* nothing to add is no error */
         "all_reduce fails: %s", td_check_error(&e));
    for (int k = 0; k < 3; k++)
        /* exact comparison: a sum in any order is exact here */
        if ((double)narrow[k] != size * contributed[k] || wide[k] != size * contributed[k])
            td_check_finding(c,
                             "all_reduce over %d processes that contribute %g each yields %g in "
                             "float and %g in double",
                             size, contributed[k], (double)narrow[k], wide[k]);
}

void td_check_comm(td_check *c)
{
    td_part        part = td_check_part(c);
    const td_comm *m = (const void *)part.plugin;
    void          *state = NULL;
    td_error       e = { 0 };
    double         sent[] = { 1, -2, 0.5 };
    int            size, rank, code = m->open(part.config, td_check_services(c, 1), &state, &e);

    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "it cannot be opened: %s", td_check_error(&e));
    /* both hooks are optional: without them there is one process */
    size = m->size ? m->size(state) : 1;
    rank = m->rank ? m->rank(state) : 0;
    MUST(c, size >= 1 && rank >= 0 && rank < size, "it claims rank %d of %d", rank, size);
    check_sums(c, m, state, size);
    if (m->broadcast)
        MUST(c, !m->broadcast(state, sent, sizeof sent, 0, &e) && sent[1] == -2,
             "broadcast fails, or changes data that all ranks share: %s", td_check_error(&e));
    if (m->barrier)
        MUST(c, !m->barrier(state, &e), "barrier fails: %s", td_check_error(&e));
    m->close(state);
}

/* What a run does with a comm at least. */
static void join_and_leave(td_check *c, void *argument)
{
    const td_part *part = argument;
    const td_comm *m = (const void *)part->plugin;
    void          *state = NULL;
    td_error       e = { 0 };
    MUST(c, !m->open(part->config, td_check_services(c, 1), &state, &e), "open fails: %s",
         td_check_error(&e));
    m->close(state);
}

void td_check_comm_leak(td_check *c)
{
    td_part part = td_check_part(c);
    td_check_need_options(c);
    td_check_leak(c, "opening and closing", join_and_leave, &part);
}
