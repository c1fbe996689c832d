/* dropout.c - x / (1 - rate) where a random number keeps it, else 0 (Srivastava et al. 2014).
 *
 * The random number of an element is a function of where it is, so nothing is stored, the gradient
 * is the same op, and neither batch size, packing nor threads matter: for example e at step s, word
 * n % 4 of philox(seed, stream, n / 4). The stream mixes place, s and e by odd constants (fractions
 * of the golden ratio and of another irrational); n is the element's row-major index within its
 * example, to which a shared axis does not contribute.
 */
#include "cpu.h"
#include "kernels.h"

#include "tandem/random.h"

enum { BLOCK = 256 };

typedef struct dropout_job {
    const float   *x;
    float         *y;
    const int32_t *example;
    uint64_t       seed, stream;
    uint32_t       threshold; /* words below it drop */
    float          scale;
    int            rank;
    /* of the axes after the first: size, and step of n (0: shared) */
    int64_t        dim[TD_MAX_RANK], step[TD_MAX_RANK];
    int64_t        last, rows, rows_per_item, items;
} dropout_job;

/* The words of `blocks` groups of four. */
TD_CPU_CLONES static void words(uint32_t *out, uint64_t seed, uint64_t stream, uint64_t first,
                                int64_t blocks)
{
    for (int64_t i = 0; i < blocks; i++) {
        td_random4 r = td_philox(seed, stream, first + (uint64_t)i);
        for (int k = 0; k < 4; k++)
            out[4 * i + k] = r.v[k];
    }
}

/* n of the first element of a row. */
static int64_t index_of(const dropout_job *j, int64_t row)
{
    int64_t n = 0;
    for (int a = j->rank - 2; a >= 0; a--) {
        n += row % j->dim[a] * j->step[a];
        row /= j->dim[a];
    }
    return n;
}

TD_CPU_CLONES static void apply(float *y, const float *x, const uint32_t *word, int64_t n,
                                uint32_t threshold, float scale)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = word[i] >= threshold ? x[i] * scale : 0.0f;
}

/* A row along a shared axis has one random number. 0, not x * 0, where it drops: x may be NaN. */
static void apply_shared(const dropout_job *j, float *y, const float *x, uint64_t stream, int64_t n)
{
    td_random4 r = td_philox(j->seed, stream, (uint64_t)n >> 2);
    float      scale = r.v[n & 3] >= j->threshold ? j->scale : 0.0f;
    for (int64_t i = 0; i < j->last; i++)
        y[i] = scale != 0 ? x[i] * scale : 0.0f;
}

/* A row's numbers are consecutive, so its words are generated four at a time, a block before it is
 * used. */
static void drop_row(const dropout_job *j, float *y, const float *x, uint64_t stream, int64_t n)
{
    uint32_t word[BLOCK + 8]; /* n may begin and end within a group of 4 */

    if (j->rank && !j->step[j->rank - 1]) {
        apply_shared(j, y, x, stream, n);
        return;
    }
    for (int64_t i = 0; i < j->last; i += BLOCK) {
        int64_t count = td_cpu_min(BLOCK, j->last - i), skip = (n + i) & 3;
        words(word, j->seed, stream, (uint64_t)(n + i) >> 2, (skip + count + 3) / 4);
        apply(y + i, x + i, word + skip, count, j->threshold, j->scale);
    }
}

static void dropout_item(void *arg, int64_t item, int thread)
{
    const dropout_job *j = arg;
    int64_t            b = item / j->items, first = item % j->items * j->rows_per_item;
    uint64_t           e = (uint32_t)j->example[b], stream = j->stream + 0xD1B54A32D192ED03u * e;

    for (int64_t row = first; row < td_cpu_min(j->rows, first + j->rows_per_item); row++) {
        int64_t at = (b * j->rows + row) * j->last;
        drop_row(j, j->y + at, j->x + at, stream, index_of(j, row));
    }
}

/* Sizes, and steps of n from the right over the axes that are not shared. */
static void lay_out(dropout_job *j, const td_view *x, int64_t shared_axes)
{
    int64_t n = 1;
    j->rank = x->rank - 1;
    j->rows = 1;
    for (int k = x->rank - 1; k > 0; k--) {
        bool shared = shared_axes >> k & 1;
        j->dim[k - 1] = x->dim[k];
        j->step[k - 1] = shared ? 0 : n;
        n *= shared ? 1 : x->dim[k];
        j->rows *= k < x->rank - 1 ? x->dim[k] : 1;
    }
    j->last = x->rank > 1 ? x->dim[x->rank - 1] : 1;
}

/* a: f[0] rate; i[0] place, i[1] shared axes, i[2] seed */
int td_cpu_dropout(const td_call *call)
{
    const td_view  *x = &call->in[0];
    const td_attrs *a = call->attrs;
    uint32_t        step = call->in[1].data ? (uint32_t) * (const int32_t *)call->in[1].data : 0;
    dropout_job     j = { .x = x->data,
                          .y = call->out[0].data,
                          .example = call->in[2].data,
                          .seed = (uint64_t)a->i[2],
                          .stream = (uint64_t)a->i[0] + 0x9E3779B97F4A7C15u * (uint64_t)step,
                          .threshold = (uint32_t)(a->f[0] * 4294967296.0),
                          .scale = (float)(1 / (1 - a->f[0])) };

    lay_out(&j, x, a->i[1]);
    if (!td_view_count(x))
        return 0;
    /* items are cut by size alone, so that threads change nothing */
    j.rows_per_item = td_cpu_max(1, 4096 / j.last);
    j.items = td_cpu_ceil(j.rows, j.rows_per_item);
    td_parallel(call->services, x->dim[0] * j.items, dropout_item, &j);
    return 0;
}
