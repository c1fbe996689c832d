/* team.c - two processes of a run: long work of one does not count as silence, a rank that hangs is
 * noticed, and one that cannot be reached is an error. The comm is a pair of sockets. */
#include "team/pace.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMEOUT_MS = 400 };

static int wire, own_rank; /* this process's end of the sockets */

static int join(const void *config, const td_services *services, void **state, td_error *error)
{
    *state = &wire;
    return 0;
}
static void leave(void *state) {}
static int  rank_of(void *state) { return own_rank; }
static int  size_of(void *state) { return 2; }

static int move(void *data, size_t bytes, bool out, td_error *error)
{
    for (size_t at = 0; at < bytes;) {
        char   *place = (char *)data + at;
        ssize_t n = out ? send(wire, place, bytes - at, MSG_NOSIGNAL)
                        : recv(wire, place, bytes - at, 0);
        if (n <= 0)
            return td_fail(error, TD_EIO, "the other end of the sockets is closed");
        at += (size_t)n;
    }
    return 0;
}

static int broadcast(void *state, void *data, size_t bytes, int root, td_error *error)
{
    return move(data, bytes, own_rank == root, error);
}

static int all_gather(void *state, const void *part, void *receive, size_t bytes, td_error *error)
{
    memcpy((char *)receive + (size_t)own_rank * bytes, part, bytes);
    return broadcast(state, receive, bytes, 0, error) ||
                   broadcast(state, (char *)receive + bytes, bytes, 1, error)
               ? TD_EIO
               : 0;
}

/* Of one number, or of two. Rank 1 has no memory for two, and says so once it has taken part. */
static int all_reduce(void *state, void *data, int64_t count, int dtype, td_error *error)
{
    double both[4], *sum = data;
    if (all_gather(state, data, both, (size_t)count * sizeof *sum, error))
        return TD_EIO;
    for (int64_t i = 0; i < count; i++)
        sum[i] = both[i] + both[count + i];
    return count == 2 && own_rank ? td_fail(error, TD_ENOMEM, "no memory for two numbers") : 0;
}
static int no_parts(void *state, const void *part, void *receive, size_t bytes, td_error *error)
{
    return td_fail(error, TD_EUNSUPPORTED, "nothing is exchanged here");
}

static const td_comm sockets = {
    .plugin = TD_PLUGIN(td_comm, TD_COMM_KIND, "sockets", NULL, int, .brief = "two processes"),
    .open = join,
    .close = leave,
    .rank = rank_of,
    .size = size_of,
    .all_reduce = all_reduce,
    .all_to_all = no_parts,
    .all_gather = all_gather,
    .broadcast = broadcast,
};

enum { LOST = 75 };

static void end(void *arg, const char *why)
{
    _exit(strstr(why, "has waited 0.4 s for the others") ? LOST : 1);
}

static td_team *open_team(td_error *e)
{
    td_part part = { .plugin = &sockets.plugin };
    return td_team_join(&(td_team_spec){ .comm = &part, .timeout = 1e-3 * TIMEOUT_MS, .lost = end },
                        e);
}

/* Starts a rank, which runs `work` with its team. */
static pid_t start(int rank, const int ends[2], int (*work)(td_team *, td_error *))
{
    td_error e = { 0 };
    td_team *t;
    pid_t    pid;
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    setenv("OMPI_COMM_WORLD_RANK", rank ? "1" : "0", 1);
    pid = fork();
    if (pid)
        return pid;
    own_rank = rank;
    wire = ends[rank];
    close(ends[!rank]);
    t = open_team(&e);
    _exit(t ? work(t, &e) : 99);
}

static int exit_code_of(pid_t pid)
{
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The exit codes of the two ranks. `stops`: rank 0 stops itself, and is killed at the end. */
static void run_both(int (*work)(td_team *, td_error *), bool stops, int codes[2])
{
    int   ends[2];
    pid_t pids[2];
    cr_assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    for (int r = 0; r < 2; r++)
        pids[r] = start(r, ends, work);
    close(ends[0]);
    close(ends[1]);
    codes[1] = exit_code_of(pids[1]);
    if (stops)
        kill(pids[0], SIGKILL);
    codes[0] = exit_code_of(pids[0]);
}

static void work_long(void) { usleep(4 * TIMEOUT_MS * 1000); }

/* Twice: what is left of the first solo must not be taken for the second. */
static int solo(td_team *t, td_error *e)
{
    int code = 0;
    for (int k = 0; k < 2 && !code; k++) {
        td_team_begin_solo(t);
        if (td_team_leads(t))
            work_long();
        code = td_team_end_solo(t, 0, e);
    }
    td_team_leave(t);
    return code;
}

static int solo_that_fails(td_team *t, td_error *e)
{
    int code = 0;
    td_team_begin_solo(t);
    if (td_team_leads(t))
        code = td_fail(e, TD_EFORMAT, "a file is damaged");
    code = td_team_end_solo(t, code, e);
    td_team_leave(t);
    return code == TD_EFORMAT && strstr(e->text, "a file is damaged") ? 7 : 1;
}

static int hang(td_team *t, td_error *e)
{
    if (td_team_rank(t) == 1)
        work_long();
    return td_team_agree(t, 0, e) ? 1 : 0;
}

static int hang_in_solo(td_team *t, td_error *e)
{
    td_team_begin_solo(t);
    if (td_team_leads(t)) {
        kill(getpid(), SIGSTOP);
        return 1;
    }
    return td_team_end_solo(t, 0, e);
}

/* All have a sum, or none has. */
static int sum(td_team *t, td_error *e)
{
    double x[] = { 3 + td_team_rank(t), 5 };
    int    code = td_team_sum(t, x, 1, e);
    if (code || x[0] != 7)
        return 1;
    code = td_team_sum(t, x, 2, e);
    return code == TD_ENOMEM && !td_team_is_lost(t) && strstr(e->text, "no memory for two") ? 7 : 2;
}

static int die(td_team *t, td_error *e)
{
    if (td_team_rank(t) == 1)
        _exit(5);
    return td_team_agree(t, 0, e) == TD_EIO && td_team_is_lost(t) &&
                   strstr(e->text, "the other end of the sockets is closed")
               ? LOST
               : 1;
}

/* Rank 1 works much longer than a rank waits; both know of all that is done. */
static int keep_pace(td_team *t, td_error *e)
{
    td_pace p = { .team = t };
    bool    leads = td_team_leads(t);
    int64_t all = 0, pieces = leads ? 2 : 30;
    int     code = 0;
    for (int64_t done = 1; done <= pieces && !code; done++) {
        usleep(TIMEOUT_MS * 1000 / 8);
        code = td_pace_tick(&p, done, &all);
    }
    code = td_pace_end(&p, pieces, code, e);
    td_team_leave(t);
    return code ? 1 : all >= pieces && (!leads || all <= 32) ? 0 : 2;
}

/* Rank 0 has finished, and rank 1 fails with `own`: both fail with `both`, and its message. */
static int end_with(td_team *t, int own, int both, td_error *e)
{
    td_pace p = { .team = t };
    int64_t all;
    int     code = td_pace_tick(&p, 1, &all);
    if (td_team_rank(t))
        code = td_fail(e, own, "piece 2 is damaged");
    code = td_pace_end(&p, 1, code, e);
    return code == both && strstr(e->text, "piece 2 is damaged") ? 7 : 1;
}

static int fail_at_own_pace(td_team *t, td_error *e)
{
    return end_with(t, TD_EFORMAT, TD_EFORMAT, e);
}

/* A plugin's code is that of a request to stop, which it is not. */
static int end_by_mistake(td_team *t, td_error *e) { return end_with(t, TD_EEND, TD_EIO, e); }

/* Of different lengths, one of them more than is sent at a time, and one empty. */
static int collect(td_team *t, td_error *e)
{
    size_t  size = td_team_rank(t) ? 3 : (1 << 24) + 5;
    char   *own = malloc(size);
    td_text all = { 0 };
    int     code;
    memset(own, 'a' + td_team_rank(t), size);
    code = td_team_collect(t, own, size, &all, e);
    if (!code)
        code = td_team_collect(t, "z", td_team_rank(t) ? 0 : 1, &all, e);
    code |= all.size != (1 << 24) + 9 || all.data[(1 << 24) + 4] != 'a' ||
            strcmp(all.data + (1 << 24) + 5, "bbbz") != 0;
    free(own);
    td_text_free(&all);
    return code;
}

static void expect_both(int (*work)(td_team *, td_error *), int expected)
{
    int codes[2];
    run_both(work, false, codes);
    cr_expect(codes[0] == expected && codes[1] == expected, "%d and %d", codes[0], codes[1]);
}

Test(team, ranks_keep_pace) { expect_both(keep_pace, 0); }

Test(team, a_failure_ends_the_pace_of_all) { expect_both(fail_at_own_pace, 7); }

Test(team, a_failure_at_its_own_pace_is_not_a_request_to_stop) { expect_both(end_by_mistake, 7); }

Test(team, what_all_have_is_collected) { expect_both(collect, 0); }

Test(team, a_sum_that_fails_for_one_fails_for_all) { expect_both(sum, 7); }

Test(team, long_work_of_the_leader_is_not_silence)
{
    int codes[2];
    run_both(solo, false, codes);
    cr_expect_eq(codes[0], 0);
    cr_expect_eq(codes[1], 0);
}

Test(team, what_the_leader_fails_in_fails_all)
{
    int codes[2];
    run_both(solo_that_fails, false, codes);
    cr_expect_eq(codes[0], 7);
    cr_expect_eq(codes[1], 7);
}

Test(team, a_rank_that_hangs_is_noticed)
{
    int codes[2];
    run_both(hang, false, codes);
    cr_expect_eq(codes[0], LOST, "the leader ends with %d", codes[0]);
}

Test(team, a_leader_that_hangs_alone_is_noticed)
{
    int codes[2];
    run_both(hang_in_solo, true, codes);
    cr_expect_eq(codes[1], LOST, "the other ends with %d", codes[1]);
}

Test(team, a_rank_that_cannot_be_reached_is_an_error)
{
    int codes[2];
    run_both(die, false, codes);
    cr_expect_eq(codes[0], LOST);
}

/* A plugin's own TD_EEND, of a data source that ends too early, say. */
Test(team, a_failure_is_not_a_request_to_stop)
{
    td_error e = { .code = TD_EEND };
    cr_expect_eq(td_team_failure(&e, TD_EIO), TD_EIO);
    cr_expect_eq(e.code, TD_EIO);
    e.code = TD_EFORMAT;
    cr_expect_eq(td_team_failure(&e, TD_EIO), TD_EFORMAT);
    cr_expect_eq(td_team_failure(NULL, TD_EGRAPH), TD_EGRAPH);
}
