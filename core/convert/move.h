/* move.h - copies tensors from one file to another, converted piece by piece, so that a model is
 * never in memory as a whole. */
#ifndef TD_CONVERT_MOVE_H
#define TD_CONVERT_MOVE_H

#include "io/safetensors.h"
#include "tandem/kind/format.h"

/* The elements of one tensor to write: those of `from` times `scale`, minus `shift` (with `back`:
 * plus `shift`, times `scale`) or, without `from`, all `fill`. */
typedef struct td_move {
    const td_stored *from; /* of an open file */
    double           scale, fill, shift;
    int              type; /* TD_STORED_F32, TD_STORED_BF16 or TD_STORED_Q8_0 */
    int64_t interleaved;   /* rows that change places together, as in kind/format.h; 0: none */
    bool    back;          /* from the other program to us */
} td_move;

/* The tensor to write; `name` and `move` must outlive it. */
td_stored td_move_to(const char *name, td_move *move, int rank, const int64_t *dim);

#endif
