/* variables.c - parameters and optimizer states from one rank to all others. */
#include "team/internal.h"

/* From the memory of rank `root` to that of all others. A rank whose device fails still takes part in
 * all broadcasts, because the others do. */
static int share_variable(td_team *t, const td_device *d, td_variable *x, int root, td_error *error)
{
    bool gives = t->rank == root, here = !d->backend->upload, well = true;
    for (size_t at = 0; at < x->bytes; at += TD_TEAM_PIECE) {
        size_t n = x->bytes - at < TD_TEAM_PIECE ? x->bytes - at : TD_TEAM_PIECE;
        char  *place = (char *)x->memory + at, *piece = here ? place : t->piece;
        if (gives && !here)
            well &= !td_device_read(d, piece, place, n);
        if (td_team_share_from(t, piece, n, root, error))
            return td_failed(error, TD_EIO);
        if (!gives && !here)
            well &= !td_device_write(d, place, piece, n);
    }
    if (!well)
        return td_fail(error, TD_EIO, "'%s' cannot be copied to or from the device", x->name);
    return x->copied && !gives ? td_variable_write_copy(x, d, td_device_real(d), error) : 0;
}

/* The same from device to device: queued. Products read the copy in bf16, so it moves, too. */
static int queue_variable(td_team *t, const td_variable *x, int root, td_error *error)
{
    size_t bytes = (size_t)x->count * td_dtype_size(TD_BF16);
    int    code = td_team_device_broadcast(t, x->memory, x->bytes, root, error);
    if (x->copied)
        code |= td_team_device_broadcast(t, x->copy, bytes, root, error);
    return code;
}

/* The rank whose values all others get; -1: each keeps its own. */
typedef int root_of(td_engine *, const td_variable *);

static int share_all(td_team *t, td_engine *e, root_of *root, td_error *error)
{
    td_variables *v = td_engine_variables(e);
    int           code = t->attached ? td_team_device_begin(t, error) : 0;
    for (size_t i = 0; i < td_variables_count(v); i++) {
        td_variable *x = td_variables_at(v, i);
        int          from = root(e, x);
        if (from < 0)
            continue;
        code |= t->attached ? queue_variable(t, x, from, error)
                            : share_variable(t, td_engine_device(e), x, from, error);
    }
    if (t->attached) {
        code |= td_team_device_end(t, error);
        code |= td_team_device_wait(t, error);
    }
    return code ? td_failed(error, TD_EIO) : 0;
}

static int leader_of_common(td_engine *e, const td_variable *x)
{
    bool owned = x->owner >= 0 && (x->kind == TD_VARIABLE_STATE || td_engine_exchanges(e));
    return x->kind == TD_VARIABLE_GRAD || owned ? -1 : 0;
}

int td_team_share_variables(td_team *t, td_engine *e, td_error *error)
{
    if (td_team_size(t) == 1)
        return 0;
    return td_team_agree(t, share_all(t, e, leader_of_common, error), error);
}

static int owner_of_parameter(td_engine *e, const td_variable *x)
{
    return x->kind == TD_VARIABLE_PARAM ? x->owner : -1;
}

int td_team_share_owned(td_team *t, td_engine *e, td_error *error)
{
    return share_all(t, e, owner_of_parameter, error);
}
