/* team.c - the processes of a run, connected by a comm. */
#include "train/team.h"

#include <stdlib.h>
#include <string.h>

#include "base/ranks.h"
#include "plugin/hook.h"
#include "tandem/random.h"

enum { TEXT = sizeof((td_error *)0)->text };

struct td_team {
    const td_comm *comm;
    void          *state;
    int            rank, size;
    char (*words)[TEXT]; /* [size]: the message of each rank */
    int32_t *codes;      /* [size] */
};

/* ---- joining --------------------------------------------------------------------------------- */

/* Processes that do not know about each other would all write to the same directory. */
static int check_size(const td_team *t, td_error *error)
{
    td_ranks r = td_ranks_of_environment();
    if (t->size == r.size)
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "%s started %d processes, but comm '%s' connects %d: start it with mpirun, or "
                   "with srun --mpi=pmix, of the MPI that tandem was built with",
                   r.launcher ? r.launcher : "nothing", r.size, t->comm->plugin.name, t->size);
}

td_team *td_team_join(const td_part *comm, const td_services *services, td_error *error)
{
    td_team *t = calloc(1, sizeof *t);
    if (!t) {
        td_fail(error, TD_ENOMEM, "out of memory while joining the other processes");
        return NULL;
    }
    t->comm = (const void *)comm->plugin;
    if (TD_HOOK(t->comm, open, comm->config, services, &t->state, error)) {
        td_fail(error, TD_EIO, "comm '%s' cannot be opened", t->comm->plugin.name);
        free(t);
        return NULL;
    }
    t->rank = t->comm->rank(t->state);
    t->size = t->comm->size(t->state);
    t->words = calloc((size_t)t->size, sizeof *t->words);
    t->codes = calloc((size_t)t->size, sizeof *t->codes);
    if (!t->words || !t->codes)
        td_fail(error, TD_ENOMEM, "out of memory for the messages of %d processes", t->size);
    else if (!check_size(t, error))
        return t;
    td_team_leave(t);
    return NULL;
}

void td_team_leave(td_team *t)
{
    if (!t)
        return;
    TD_HOOK(t->comm, close, t->state);
    free(t->words);
    free(t->codes);
    free(t);
}

int  td_team_rank(const td_team *t) { return t ? t->rank : 0; }
int  td_team_size(const td_team *t) { return t ? t->size : 1; }
bool td_team_leads(const td_team *t) { return !td_team_rank(t); }

const td_comm *td_team_comm(const td_team *t, void **state)
{
    *state = t->state;
    return t->comm;
}

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

int td_team_agree(td_team *t, int code, td_error *error)
{
    int32_t own = code;
    int     r;
    if (td_team_size(t) == 1)
        return code;
    if (TD_HOOK(t->comm, all_gather, t->state, &own, t->codes, sizeof own, error))
        return td_failed(error, TD_EIO);
    r = speaker(t);
    if (r < 0)
        return 0;
    /* messages are long, so they move only when there is one */
    if (TD_HOOK(t->comm, all_gather, t->state, error->text, t->words, sizeof *t->words, error))
        return td_failed(error, TD_EIO);
    if (t->codes[r] == TD_EEND || r == t->rank)
        return t->codes[r];
    *error = (td_error){ 0 };
    return td_fail(error, t->codes[r], "rank %d: %.*s", r, TEXT - 20, t->words[r]);
}

int td_team_share(td_team *t, void *data, size_t bytes, td_error *error)
{
    if (td_team_size(t) == 1)
        return 0;
    return TD_HOOK(t->comm, broadcast, t->state, data, bytes, 0, error) ? td_failed(error, TD_EIO)
                                                                        : 0;
}

int td_team_sum(td_team *t, double *data, int64_t count, td_error *error)
{
    if (td_team_size(t) == 1)
        return 0;
    return TD_HOOK(t->comm, all_reduce, t->state, data, count, TD_F64, error)
               ? td_failed(error, TD_EIO)
               : 0;
}

int td_team_same(td_team *t, const char *text, const char *what, td_error *error)
{
    uint64_t own = td_hash(td_random_stream(""), text, strlen(text)), *all;
    int      code = 0;
    if (td_team_size(t) == 1)
        return 0;
    all = (uint64_t *)(void *)t->words; /* large enough, and unused between calls */
    if (TD_HOOK(t->comm, all_gather, t->state, &own, all, sizeof own, error))
        return td_failed(error, TD_EIO);
    for (int r = 1; r < t->size && !code; r++)
        if (all[r] != all[0])
            code = td_fail(error, TD_ECONFIG,
                           "rank %d has a different %s from rank 0: start all processes with the "
                           "same command, files and tandem",
                           r, what);
    return code;
}

/* ---- variables ------------------------------------------------------------------------------- */

enum { PIECE = 1 << 24 }; /* bytes sent at a time */

/* A rank whose device fails still takes part in all broadcasts, because the others do. */
static int share_variable(td_team *t, const td_device *d, td_variable *x, char *piece,
                          td_error *error)
{
    bool leads = td_team_leads(t), well = true;
    for (size_t at = 0; at < x->bytes; at += PIECE) {
        size_t n = x->bytes - at < PIECE ? x->bytes - at : PIECE;
        char  *place = (char *)x->memory + at;
        if (leads)
            well &= !td_device_read(d, piece, place, n);
        if (td_team_share(t, piece, n, error))
            return td_failed(error, TD_EIO);
        if (!leads)
            well &= !td_device_write(d, place, piece, n);
    }
    if (!well)
        return td_fail(error, TD_EIO, "'%s' cannot be copied to or from the device", x->name);
    return x->copied && !leads ? td_variable_write_copy(x, d, td_device_real(d), error) : 0;
}

int td_team_share_variables(td_team *t, td_engine *e, td_error *error)
{
    td_variables *v = td_engine_variables(e);
    char         *piece;
    int           code;
    if (td_team_size(t) == 1)
        return 0;
    piece = malloc(PIECE);
    code = td_team_agree(t, piece ? 0 : td_fail(error, TD_ENOMEM, "out of memory for messages"),
                         error);
    if (!code) {
        for (size_t i = 0; i < td_variables_count(v); i++)
            if (td_variables_at(v, i)->kind != TD_VARIABLE_GRAD)
                code |= share_variable(t, td_engine_device(e), td_variables_at(v, i), piece, error);
        code = td_team_agree(t, code ? td_failed(error, TD_EIO) : 0, error);
    }
    free(piece);
    return code;
}
