/* comm.c - requirements on every communicator, as far as one process can test them: open, count the
 * ranks, add up, broadcast, close. */
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
             !m->all_reduce(state, wide, 0, TD_F64, &e), /* summing 0 numbers is allowed */
         "all_reduce fails: %s", td_check_error(&e));
    for (int k = 0; k < 3; k++)
        /* exact comparison: a sum in any order is exact here */
        if ((double)narrow[k] != size * contributed[k] || wide[k] != size * contributed[k])
            td_check_finding(c,
                             "all_reduce over %d processes that contribute %g each yields %g in "
                             "float and %g in double",
                             size, contributed[k], (double)narrow[k], wide[k]);
}

/* Rank r sends 100 r + d to rank d, or 100 r to all. */
static void check_parts(td_check *c, const td_comm *m, void *state, int size, int rank)
{
    int32_t *send = td_arena_alloc(c->arena, (size_t)size * sizeof *send), one = 100 * rank;
    int32_t *receive = td_arena_alloc(c->arena, (size_t)size * sizeof *receive);
    td_error e = { 0 };
    for (int d = 0; d < size; d++)
        send[d] = 100 * rank + d;
    MUST(c, !m->all_to_all(state, send, receive, sizeof *send, &e), "all_to_all fails: %s",
         td_check_error(&e));
    for (int r = 0; r < size; r++)
        if (receive[r] != 100 * r + rank)
            td_check_finding(c,
                             "all_to_all: part %d of what rank %d receives is not what rank %d "
                             "sent it",
                             r, rank, r);
    MUST(c, !m->all_gather(state, &one, receive, sizeof one, &e), "all_gather fails: %s",
         td_check_error(&e));
    for (int r = 0; r < size; r++)
        if (receive[r] != 100 * r)
            td_check_finding(c, "all_gather: part %d is not what rank %d sent", r, r);
}

static void check_moves(td_check *c, const td_comm *m, void *state, int size, int rank)
{
    double   sent[] = { 1, -2, 0.5 };
    td_error e = { 0 };
    check_parts(c, m, state, size, rank);
    MUST(c, !m->broadcast(state, sent, sizeof sent, 0, &e) && sent[1] == -2,
         "broadcast fails, or changes data that all ranks share: %s", td_check_error(&e));
}

void td_check_comm(td_check *c)
{
    td_part        part = td_check_part(c);
    const td_comm *m = (const void *)part.plugin;
    void          *state = NULL;
    td_error       e = { 0 };
    int            size, rank, code = m->open(part.config, td_check_services(c, 1), &state, &e);

    if (code)
        td_check_failure(c, "open", code, &e);
    MUST(c, !code, "it cannot be opened: %s", td_check_error(&e));
    size = m->size(state);
    rank = m->rank(state);
    MUST(c, size >= 1 && rank >= 0 && rank < size, "it claims rank %d of %d", rank, size);
    check_sums(c, m, state, size);
    check_moves(c, m, state, size, rank);
    m->close(state);
}

/* The minimum that a run does with a comm. */
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
