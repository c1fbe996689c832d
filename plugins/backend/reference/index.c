/* index.c - gather, scatter_add, assign, append. */
#include "kernels.h"
#include "reference.h"

#include "tandem/generation.h"

/* Checked before anything is read or written: ids come from data. */
static bool fits(const td_view *ids, int64_t rows)
{
    for (int64_t n = 0; n < td_ref_count(ids); n++)
        if (td_ref_read(ids, n) < 0 || td_ref_read(ids, n) >= (double)rows)
            return false;
    return true;
}

/* Row ids[i] of a table, for every i. */
int td_ref_gather(const td_call *call)
{
    const td_view *table = &call->in[0], *ids = &call->in[1], *y = &call->out[0];
    int64_t        width = table->dim[0] ? td_ref_count(table) / table->dim[0] : 0;

    if (!fits(ids, table->dim[0]))
        return TD_EFORMAT;
    for (int64_t n = 0; n < td_ref_count(y); n++)
        td_ref_write(y, n,
                     td_ref_read(table, (int64_t)td_ref_read(ids, n / width) * width + n % width));
    return 0;
}

/* out[ids[i]] += rows[i], in the order of i. */
int td_ref_scatter_add(const td_call *call)
{
    const td_view *ids = &call->in[0], *src = &call->in[1], *y = &call->out[0];
    int64_t        width = y->dim[0] ? td_ref_count(y) / y->dim[0] : 0;

    if (!fits(ids, y->dim[0]))
        return TD_EFORMAT;
    td_ref_start(td_ref_in(call, 2), y);
    for (int64_t n = 0; n < td_ref_count(src) && width; n++)
        td_ref_add_to(y, (int64_t)td_ref_read(ids, n / width) * width + n % width,
                      td_ref_read(src, n));
    return 0;
}

/* Inputs: the state, its new value, the gate. Output 0 is the state's memory. */
int td_ref_assign(const td_call *call)
{
    bool open = td_ref_scalar(call, 2, 1) != 0;
    td_ref_keep(&call->in[open ? 1 : 0], &call->out[0]);
    return 0;
}

/* Entry `row` of the lengths or counts of an append. */
static int64_t number(const td_call *call, int input, int64_t row)
{
    const td_view *v = &call->in[input];
    return (int64_t)td_ref_get(v, row * v->stride[0]);
}

/* A ring (i[1]) accepts any number of tokens over time, but no pass may overwrite its own
 * tokens. */
static bool has_room(const td_call *call, int64_t row)
{
    const td_view *x = &call->in[TD_APPEND_NEW], *buffer = &call->out[0];
    int64_t        axis = call->attrs->i[0], slots = buffer->dim[axis];
    int64_t        length = number(call, TD_APPEND_LENGTHS, row),
            count = number(call, TD_APPEND_COUNTS, row);
    return length >= 0 && count >= 0 && count <= x->dim[axis] && count <= slots &&
           (call->attrs->i[1] || length + count <= slots);
}

/* Nothing is written unless the tokens of all rows fit. */
int td_ref_append(const td_call *call)
{
    const td_view *x = &call->in[TD_APPEND_NEW], *buffer = &call->out[0];
    int64_t        axis = call->attrs->i[0], slots = buffer->dim[axis], index[TD_MAX_RANK];

    /* % slots: in a ring, tokens continue at the front */
    for (int64_t row = 0; row < buffer->dim[0]; row++)
        if (!has_room(call, row))
            return TD_ERANGE;
    for (int64_t n = 0; n < td_ref_count(x); n++) {
        double value = td_ref_read(x, n);
        td_ref_unravel(x, n, index);
        if (index[axis] >= number(call, TD_APPEND_COUNTS, index[0]))
            continue;
        index[axis] = (number(call, TD_APPEND_LENGTHS, index[0]) + index[axis]) % slots;
        td_ref_put(buffer, td_ref_offset(buffer, index, buffer->rank), value);
    }
    return 0;
}
