/* team.c - the processes of a run, connected by a comm. */
#include "team/team.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/ranks.h"
#include "plugin/hook.h"
#include "tandem/random.h"
#include "team/internal.h"

/* ---- calls ----------------------------------------------------------------------------------- */

/* Called by the alarm. Every rank but the one that hangs says the same: none knows which that is. */
static void ring(void *arg, const char *call)
{
    const td_team *t = arg;
    char           text[600];
    snprintf(text, sizeof text,
             "rank %d of %d has waited %g s for the others, in %s of comm '%s': a process hangs or "
             "was stopped, or a host cannot be reached (comm.timeout is this limit)",
             td_ranks_of_environment().rank, td_ranks_of_environment().size, t->spec.timeout, call,
             t->comm->plugin.name);
    t->spec.lost(t->spec.arg, text);
}

int td_team_end_call(td_team *t, int code, td_error *error)
{
    td_alarm_end(t->alarm);
    t->lost |= code == TD_EIO && t->size > 1;
    return !code ? 0
                 : td_fail(error, td_failed(error, TD_EIO), "comm '%s' failed without a message",
                           t->comm->plugin.name);
}

int td_team_all_reduce(td_team *t, void *data, int64_t count, int dtype, td_error *error)
{
    td_alarm_begin(t->alarm, "all_reduce");
    return td_team_end_call(t, TD_HOOK(t->comm, all_reduce, t->state, data, count, dtype, error),
                            error);
}

int td_team_all_to_all(td_team *t, const void *send, void *receive, size_t bytes, td_error *error)
{
    td_alarm_begin(t->alarm, "all_to_all");
    return td_team_end_call(t, TD_HOOK(t->comm, all_to_all, t->state, send, receive, bytes, error),
                            error);
}

int td_team_all_gather(td_team *t, const void *send, void *receive, size_t bytes, td_error *error)
{
    td_alarm_begin(t->alarm, "all_gather");
    return td_team_end_call(t, TD_HOOK(t->comm, all_gather, t->state, send, receive, bytes, error),
                            error);
}

int td_team_share_from(td_team *t, void *data, size_t bytes, int root, td_error *error)
{
    td_alarm_begin(t->alarm, "broadcast");
    return td_team_end_call(t, TD_HOOK(t->comm, broadcast, t->state, data, bytes, root, error),
                            error);
}

int td_team_share(td_team *t, void *data, size_t bytes, td_error *error)
{
    return td_team_size(t) == 1 ? 0 : td_team_share_from(t, data, bytes, 0, error);
}

/* ---- solos ----------------------------------------------------------------------------------- */

/* What the leader tells the others in a solo. */
typedef struct order {
    enum { GO_ON, END, READ, WRITE } what;
    int32_t  owner;         /* whom it concerns: the rank that has .. */
    int64_t  variable;      /* .. these bytes of the variable of this index */
    uint64_t offset, bytes; /* at most TD_TEAM_PIECE */
} order;

static int tell(td_team *t, order *o, td_error *error)
{
    td_alarm_begin(t->alarm, "broadcast");
    /* quick: the process belongs to the leader's own work, on another thread */
    return td_team_end_call(t, TD_HOOK_QUICK(t->comm, broadcast, t->state, o, sizeof *o, 0, error),
                            error);
}

/* In a thread of its own: the leader's main thread is busy with the solo. */
static void pulse(void *arg)
{
    td_team *t = arg;
    order    o = { .what = GO_ON };
    pthread_mutex_lock(&t->lock);
    if (t->solo && !t->solo_code)
        t->solo_code = tell(t, &o, NULL);
    pthread_mutex_unlock(&t->lock);
}

/* ---- the leader asks the others for bytes ----------------------------------------------------- */

/* Every rank's part in a READ or WRITE. The owner's code follows the bytes: a device that fails on one
 * rank is reported as a failure there, and the others do not wait for it. */
static int move(td_team *t, const order *o, int32_t *code, td_error *error)
{
    bool             own = o->owner == t->rank;
    const td_device *d = own ? td_engine_device(t->lent) : NULL;
    td_variables    *v = own ? td_engine_variables(t->lent) : NULL;
    char            *at = own ? td_variables_at(v, (size_t)o->variable)->memory : NULL;
    *code = own && o->what == READ ? td_device_read(d, t->piece, at + o->offset, (size_t)o->bytes)
                                   : 0;
    if (td_team_share_from(t, t->piece, (size_t)o->bytes, o->what == READ ? o->owner : 0, error))
        return TD_EIO;
    if (own && o->what == WRITE)
        *code = td_device_write(d, at + o->offset, t->piece, (size_t)o->bytes);
    return td_team_share_from(t, code, sizeof *code, o->owner, error);
}

/* The leader asks for one piece. */
static int ask(td_team *t, order *o, const td_variable *x, td_error *error)
{
    int32_t code;
    if (t->lost || t->solo_code || !t->solo)
        return td_fail(error, TD_EIO, "'%s' is on rank %d, which cannot be reached", x->name,
                       x->owner);
    if (tell(t, o, error) || move(t, o, &code, error))
        return td_failed(error, TD_EIO);
    return code ? td_fail(error, TD_EIO, "rank %d cannot copy '%s' to or from its device", x->owner,
                          x->name)
                : 0;
}

static order order_of(const td_variable *x, int what, size_t offset, size_t left)
{
    return (order){ .what = what,
                    .owner = x->owner,
                    .variable = x->index,
                    .offset = offset,
                    .bytes = left < TD_TEAM_PIECE ? left : TD_TEAM_PIECE };
}

static int read_remote(void *arg, const td_variable *x, size_t offset, size_t bytes, void *out,
                       td_error *error)
{
    td_team *t = arg;
    int      code = 0;
    for (size_t at = 0; at < bytes && !code; at += TD_TEAM_PIECE) {
        order o = order_of(x, READ, offset + at, bytes - at);
        /* between two pulses, not within one */
        pthread_mutex_lock(&t->lock);
        code = ask(t, &o, x, error);
        if (!code)
            memcpy((char *)out + at, t->piece, (size_t)o.bytes);
        pthread_mutex_unlock(&t->lock);
    }
    return code;
}

static int write_remote(void *arg, const td_variable *x, size_t offset, size_t bytes,
                        const void *data, td_error *error)
{
    td_team *t = arg;
    int      code = 0;
    for (size_t at = 0; at < bytes && !code; at += TD_TEAM_PIECE) {
        order o = order_of(x, WRITE, offset + at, bytes - at);
        pthread_mutex_lock(&t->lock);
        memcpy(t->piece, (const char *)data + at, (size_t)o.bytes);
        code = ask(t, &o, x, error);
        pthread_mutex_unlock(&t->lock);
    }
    return code;
}

void td_team_lend(td_team *t, td_engine *engine)
{
    if (td_team_size(t) == 1)
        return;
    if (t->lent)
        td_variables_reach(td_engine_variables(t->lent), NULL);
    t->lent = engine;
    if (engine)
        td_variables_reach(td_engine_variables(engine), &t->remote);
}

/* ---- beginning and ending a solo -------------------------------------------------------------- */

static void set_solo(td_team *t, bool solo)
{
    pthread_mutex_lock(&t->lock);
    t->solo = solo;
    pthread_mutex_unlock(&t->lock);
}

void td_team_begin_solo(td_team *t)
{
    if (td_team_size(t) > 1 && td_team_leads(t))
        set_solo(t, true);
}

/* Reports to the others that it is over, or waits for that report. */
static int end_solo(td_team *t, td_error *error)
{
    order   o = { .what = END };
    int32_t moved;
    int     code = 0;
    if (td_team_leads(t)) {
        set_solo(t, false); /* from now on the comm is this thread's */
        code = t->solo_code ? td_fail(error, TD_EIO, "the other processes cannot be reached")
                            : tell(t, &o, error);
        t->solo_code = 0;
        return code;
    }
    do {
        code = tell(t, &o, error);
        if (!code && (o.what == READ || o.what == WRITE))
            code = move(t, &o, &moved, error);
    } while (!code && o.what != END);
    return code;
}

int td_team_end_solo(td_team *t, int code, td_error *error)
{
    td_error lost = { 0 };
    if (td_team_size(t) == 1)
        return code;
    if (end_solo(t, &lost))
        return td_fail(error, lost.code, "%s", lost.text);
    return td_team_agree(t, code, error);
}

double td_team_interval(const td_team *t)
{
    return t && t->spec.timeout > 0 && t->spec.timeout < 8 ? t->spec.timeout / 8 : 1;
}

static int start_pulse(td_team *t, td_error *error)
{
    if (!t->alarm || !td_team_leads(t))
        return 0; /* the others may wait forever, or this rank is one of them */
    t->pulse = td_ticker_new(td_team_interval(t), pulse, t);
    return t->pulse ? 0
                    : td_fail(error, TD_ENOMEM,
                              "cannot start a thread that tells other processes that this one is "
                              "alive");
}

/* ---- joining --------------------------------------------------------------------------------- */

/* Processes that do not know about each other would all write to the same directory. */
static int check_size(const td_team *t, td_error *error)
{
    td_ranks r = td_ranks_of_environment();
    if (t->size == r.size)
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "%s started %d processes, but comm '%s' connects %d: use the mpirun of the MPI "
                   "that tandem was built with, or srun --mpi=pmix",
                   r.launcher ? r.launcher : "nothing", r.size, t->comm->plugin.name, t->size);
}

/* Opening, too, waits for the other processes. */
static int open_comm(td_team *t, td_error *error)
{
    int code;
    if (t->spec.lost && t->spec.timeout > 0 && td_ranks_of_environment().size > 1 &&
        !(t->alarm = td_alarm_new(t->spec.timeout, ring, t, error)))
        return td_failed(error, TD_ENOMEM);
    td_alarm_begin(t->alarm, "open");
    code = TD_HOOK(t->comm, open, t->spec.comm->config, t->spec.services, &t->state, error);
    td_alarm_end(t->alarm);
    if (code)
        return td_fail(error, TD_EIO, "comm '%s' cannot be opened", t->comm->plugin.name);
    t->opened = true;
    t->rank = t->comm->rank(t->state);
    t->size = t->comm->size(t->state);
    t->words = calloc((size_t)t->size, sizeof *t->words);
    t->codes = calloc((size_t)t->size, sizeof *t->codes);
    t->piece = t->size > 1 ? malloc(TD_TEAM_PIECE) : NULL;
    return t->words && t->codes && (t->piece || t->size == 1)
               ? 0
               : td_fail(error, TD_ENOMEM, "out of memory for the messages of %d processes",
                         t->size);
}

/* The others wait as long as their own timeout says, and the leader reports that it is alive as
 * often as its own timeout requires. */
static int check_timeout(td_team *t, td_error *error)
{
    char text[40];
    snprintf(text, sizeof text, "%.17g", t->spec.timeout);
    return td_team_same(t, text, "comm.timeout", error);
}

td_team *td_team_join(const td_team_spec *spec, td_error *error)
{
    td_team *t = calloc(1, sizeof *t);
    if (!t) {
        td_fail(error, TD_ENOMEM, "out of memory while joining the other processes");
        return NULL;
    }
    pthread_mutex_init(&t->lock, NULL);
    t->spec = *spec;
    t->remote = (td_remote){ read_remote, write_remote, t };
    t->comm = (const void *)spec->comm->plugin;
    if (!open_comm(t, error) && !check_size(t, error) && !check_timeout(t, error) &&
        !start_pulse(t, error))
        return t;
    td_team_leave(t);
    return NULL;
}

void td_team_leave(td_team *t)
{
    if (!t)
        return;
    td_ticker_free(t->pulse);
    td_team_detach(t);
    if (t->opened)
        TD_HOOK(t->comm, close, t->state);
    td_alarm_free(t->alarm);
    pthread_mutex_destroy(&t->lock);
    free(t->words);
    free(t->codes);
    free(t->piece);
    free(t);
}

int  td_team_rank(const td_team *t) { return t ? t->rank : 0; }
int  td_team_size(const td_team *t) { return t ? t->size : 1; }
bool td_team_leads(const td_team *t) { return !td_team_rank(t); }
bool td_team_is_lost(const td_team *t) { return t && t->lost; }

/* ---- agreeing -------------------------------------------------------------------------------- */

/* The lowest rank with an error; if there is none, the lowest that wants to end; otherwise -1. */
static int speaker(const td_team *t)
{
    int ends = -1;
    for (int r = t->size - 1; r >= 0; r--)
        if (t->codes[r] == TD_EEND)
            ends = r;
    for (int r = 0; r < t->size; r++)
        if (t->codes[r] && t->codes[r] != TD_EEND)
            return r;
    return ends;
}

int td_team_failure(td_error *error, int otherwise)
{
    int code = td_failed(error, otherwise);
    if (code == TD_EEND)
        code = error->code = otherwise;
    return code;
}

int td_team_agree(td_team *t, int code, td_error *error)
{
    int32_t own = code;
    int     r;
    if (td_team_size(t) == 1)
        return code;
    if (td_team_all_gather(t, &own, t->codes, sizeof own, error))
        return td_failed(error, TD_EIO);
    r = speaker(t);
    if (r < 0)
        return 0;
    /* messages are long, so they move only when there is one */
    if (td_team_all_gather(t, error->text, t->words, sizeof *t->words, error))
        return td_failed(error, TD_EIO);
    if (t->codes[r] == TD_EEND || r == t->rank)
        return t->codes[r];
    *error = (td_error){ 0 };
    return td_fail(error, t->codes[r], "rank %d: %.*s", r, TD_TEAM_TEXT - 20, t->words[r]);
}

int td_team_settle(td_team *t, int code, td_error *error)
{
    code = code ? td_team_failure(error, TD_EIO) : 0;
    return td_team_is_lost(t) ? code : td_team_agree(t, code, error);
}

double *td_team_zeros(td_team *t, int64_t count, td_error *error)
{
    double *data = calloc((size_t)count + 1, sizeof *data);
    int     code = data ? 0
                        : td_fail(error, TD_ENOMEM, "out of memory for %lld numbers of all processes",
                                  (long long)count);
    if (!td_team_agree(t, code, error))
        return data;
    free(data);
    return NULL;
}

int td_team_sum(td_team *t, double *data, int64_t count, td_error *error)
{
    if (td_team_size(t) == 1)
        return 0;
    return td_team_settle(t, td_team_all_reduce(t, data, count, TD_F64, error), error);
}

/* A rank's bytes go out in pieces, and the others take them piece by piece. */
static int collect_from(td_team *t, int rank, const char *own, uint64_t bytes, td_text *out,
                        td_error *error)
{
    int code = 0;
    for (uint64_t at = 0; at < bytes && !code; at += TD_TEAM_PIECE) {
        size_t n = (size_t)(bytes - at < TD_TEAM_PIECE ? bytes - at : TD_TEAM_PIECE);
        if (rank == t->rank)
            memcpy(t->piece, own + at, n);
        code = td_team_share_from(t, t->piece, n, rank, error);
        if (!code)
            td_text_append(out, t->piece, n);
    }
    return code;
}

int td_team_collect(td_team *t, const void *own, size_t bytes, td_text *out, td_error *error)
{
    uint64_t length = bytes, *all;
    int      code = 0;
    if (td_team_size(t) == 1)
        td_text_append(out, own, bytes);
    else {
        all = (uint64_t *)(void *)t->words; /* large enough, and unused between calls */
        code = td_team_all_gather(t, &length, all, sizeof length, error);
        for (int r = 0; r < t->size && !code; r++)
            code = collect_from(t, r, own, all[r], out, error);
    }
    if (code)
        return td_failed(error, TD_EIO);
    /* a rank without memory must not go on alone */
    return td_team_agree(t,
                         out->failed ? td_fail(error, TD_ENOMEM,
                                               "out of memory for the results of other processes")
                                     : 0,
                         error);
}

int td_team_same(td_team *t, const char *text, const char *what, td_error *error)
{
    uint64_t own = td_hash(td_random_stream(""), text, strlen(text)), *all;
    int      code = 0;
    if (td_team_size(t) == 1)
        return 0;
    all = (uint64_t *)(void *)t->words; /* large enough, and unused between calls */
    if (td_team_all_gather(t, &own, all, sizeof own, error))
        return td_failed(error, TD_EIO);
    for (int r = 1; r < t->size && !code; r++)
        if (all[r] != all[0])
            code = td_fail(
                error, TD_ECONFIG,
                "rank %d has a different %s from rank 0's: start all processes with the same "
                "command, files and tandem",
                r, what);
    return code;
}

int td_team_meet(td_team *t, td_engine *e, const td_batch *batch, bool scores, td_error *error)
{
    uint64_t order = 0;
    char     text[20];
    int      code = td_engine_order(e, batch, scores, &order, error);
    if (code)
        code = td_team_failure(error, TD_EGRAPH);
    /* a rank without a plan must not leave the others waiting for its transfers */
    code = td_team_agree(t, code, error);
    snprintf(text, sizeof text, "%016" PRIx64, order);
    return code ? code : td_team_same(t, text, "order of parameters in its batch's plan", error);
}
