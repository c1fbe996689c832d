/* dropout.c - x / (1 - rate) where a random number keeps it, else 0 (Srivastava et al. 2014).
 *
 * The random number of an element is a function of where it is: for example e at step s, word n % 4
 * of philox(seed, stream, n / 4), with n its number within the example. All backends share this
 * formula, so they drop the same elements. */
#include "kernels.h"
#include "reference.h"

#include "tandem/random.h"

/* The number of an element within its example, to which the axes in the bit set `shared` do not
 * contribute. */
static uint64_t number(const td_view *x, const int64_t *index, int64_t shared)
{
    int64_t n = 0;
    for (int a = 1; a < x->rank; a++)
        if (!(shared >> a & 1))
            n = n * x->dim[a] + index[a];
    return (uint64_t)n;
}

/* a: f[0] rate; i[0] place, i[1] shared axes, i[2] seed. Inputs: x, step, the example of each
 * row. */
int td_ref_dropout(const td_call *call)
{
    const td_view  *x = &call->in[0], *y = &call->out[0];
    const td_attrs *a = call->attrs;
    uint64_t        step = (uint32_t)(int32_t)td_ref_scalar(call, 1, 0);
    int64_t         index[TD_MAX_RANK] = { 0 };

    for (int64_t i = 0; i < td_ref_count(x); i++) {
        uint64_t example, stream, n;
        td_ref_unravel(x, i, index);
        n = number(x, index, a->i[1]);
        example = (uint32_t)(int32_t)td_ref_read(&call->in[2], index[0]);
        /* the constants spread small steps and examples over all 64 bits */
        stream = (uint64_t)a->i[0] + 0x9E3779B97F4A7C15u * step + 0xD1B54A32D192ED03u * example;
        if (td_philox((uint64_t)a->i[2], stream, n >> 2).v[n & 3] >=
            (uint32_t)(a->f[0] * 4294967296.0))
            td_ref_write(y, i, td_ref_read(x, i) / (1 - a->f[0]));
        else
            td_ref_write(y, i, 0);
    }
    return 0;
}
