/* move.c - tensors that are converted while they are written. */
#include "convert/move.h"

#include <math.h>
#include <string.h>

#include "plan/elements.h"

enum { PIECE = 1024 }; /* elements at a time, on the stack: whole blocks of Q8_0 */

/* ---- elements -------------------------------------------------------------------------------- */

/* The row of `from` that becomes row `row`. */
static int64_t source_row(const td_move *m, int64_t row)
{
    int64_t n = m->interleaved, k = row % n, first = row - k;
    if (m->back)
        return first + (k < n / 2 ? 2 * k : 2 * (k - n / 2) + 1);
    return first + (k % 2 ? n / 2 : 0) + k / 2;
}

/* Elements [first, first + n), row by row where rows change places. */
static int take_rows(const td_move *m, int64_t first, int64_t n, double *out, td_error *error)
{
    int64_t width = m->from->rank > 1 ? m->from->dim[m->from->rank - 1] : 1, size;
    int     code = 0;
    for (; !code && n; n -= size) {
        int64_t column = first % width;
        size = width - column < n ? width - column : n;
        code = td_stored_range(m->from, source_row(m, first / width) * width + column, size, out,
                               error);
        first += size;
        out += size;
    }
    return code;
}

static double changed(const td_move *m, double x)
{
    return m->back ? (x + m->shift) * m->scale : x * m->scale - m->shift;
}

/* Elements [first, first + n), n <= PIECE. */
static int take(const td_move *m, int64_t first, int64_t n, double *out, td_error *error)
{
    int code = 0;
    if (m->from)
        code = m->interleaved ? take_rows(m, first, n, out, error)
                              : td_stored_range(m->from, first, n, out, error);
    for (int64_t k = 0; !code && k < n; k++)
        out[k] = m->from ? changed(m, out[k]) : m->fill;
    return code;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* A number that is not negative, as IEEE 754 binary16, rounded to nearest, ties to even. */
static uint16_t to_f16(double x)
{
    int    exponent;
    double mantissa = frexp(x, &exponent);
    if (x < 0x1p-14) /* 0, or subnormal: multiples of 2^-24 */
        return (uint16_t)rint(ldexp(x, 24));
    /* rounding up to the next power of two carries into the exponent */
    return (uint16_t)((exponent + 13) * 1024 + (int)rint(ldexp(mantissa, 11)));
}

/* A block of Q8_0: the largest magnitude becomes 127. In single precision and in this order, as
 * llama.cpp does it, so that the bytes are the same. */
static int store_block(const double *x, unsigned char *out, td_error *error)
{
    float    largest = 0, factor, inverse;
    uint16_t half;
    for (int k = 0; k < TD_STORED_BLOCK; k++) {
        float size = fabsf((float)x[k]);
        if (!(size / 127 < 65504)) /* NaN, too */
            return td_fail(error, TD_EFORMAT,
                           "an element is %g: Q8_0 takes numbers below 8e6; use another --dtype",
                           x[k]);
        largest = size > largest ? size : largest;
    }
    factor = largest / 127;
    half = to_f16((double)factor);
    /* where that is infinite, the factor is 0 in half precision, too */
    inverse = factor > 0 && isfinite(1 / factor) ? 1 / factor : 0;
    memcpy(out, &half, sizeof half);
    for (int k = 0; k < TD_STORED_BLOCK; k++)
        out[2 + k] = (unsigned char)(signed char)roundf((float)x[k] * inverse);
    return 0;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static int store(int type, const double *piece, int64_t n, unsigned char *out, td_error *error)
{
    int dtype = type == TD_STORED_BF16 ? TD_BF16 : TD_F32, code = 0;
    for (int64_t k = 0; type != TD_STORED_Q8_0 && k < n; k++)
        td_element_store(out, dtype, k, piece[k]);
    for (int64_t k = 0; type == TD_STORED_Q8_0 && !code && k < n; k += TD_STORED_BLOCK)
        code = store_block(piece + k, out + k / TD_STORED_BLOCK * TD_STORED_BLOCK_BYTES, error);
    return code;
}

/* The hook of td_stored. Pieces of a stream are whole elements and blocks. */
static int stream(void *arg, size_t offset, size_t size, void *out, td_error *error)
{
    const td_move *m = arg;
    double         piece[PIECE];
    bool           blocks = m->type == TD_STORED_Q8_0;
    int64_t        unit = blocks ? TD_STORED_BLOCK : 1; /* elements, and their bytes */
    int64_t        bytes = blocks ? TD_STORED_BLOCK_BYTES : (int64_t)td_stored_width(m->type);
    int64_t        first = (int64_t)offset / bytes * unit, all = (int64_t)size / bytes * unit;
    int            code = 0;
    for (int64_t done = 0; !code && done < all; done += PIECE) {
        int64_t n = all - done < PIECE ? all - done : PIECE;
        code = take(m, first + done, n, piece, error);
        if (!code)
            code = store(m->type, piece, n, (unsigned char *)out + done / unit * bytes, error);
    }
    return code;
}

td_stored td_move_to(const char *name, td_move *move, int rank, const int64_t *dim)
{
    td_stored t = { .name = name, .type = move->type, .rank = rank, .stream = stream, .arg = move };
    memcpy(t.dim, dim, (size_t)rank * sizeof *dim);
    return t;
}
