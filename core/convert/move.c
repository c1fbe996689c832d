/* move.c - tensors that are converted while they are written. */
#include "convert/move.h"

#include <string.h>

#include "plan/elements.h"

enum { PIECE = 1024 }; /* elements at a time, on the stack */

/* Elements [first, first + n), n <= PIECE. */
static int take(const td_move *m, int64_t first, int64_t n, double *out, td_error *error)
{
    int code = m->from ? td_stored_range(m->from, first, n, out, error) : 0;
    for (int64_t k = 0; !code && k < n; k++)
        out[k] = m->from ? out[k] * m->scale : m->fill;
    return code;
}

/* The hook of td_stored. Pieces of a stream are whole elements: their size is a power of two. */
static int stream(void *arg, size_t offset, size_t size, void *out, td_error *error)
{
    const td_move *m = arg;
    double         piece[PIECE];
    int64_t        width = (int64_t)td_stored_width(m->type), first = (int64_t)offset / width;
    int            dtype = m->type == TD_STORED_BF16 ? TD_BF16 : TD_F32, code = 0;
    for (int64_t done = 0, all = (int64_t)size / width; !code && done < all; done += PIECE) {
        int64_t n = all - done < PIECE ? all - done : PIECE;
        code = take(m, first + done, n, piece, error);
        for (int64_t k = 0; !code && k < n; k++)
            td_element_store(out, dtype, done + k, piece[k]);
    }
    return code;
}

td_stored td_move_to(const char *name, td_move *move, int rank, const int64_t *dim)
{
    td_stored t = { .name = name, .type = move->type, .rank = rank, .stream = stream, .arg = move };
    memcpy(t.dim, dim, (size_t)rank * sizeof *dim);
    return t;
}
