/* rope.c - rotary positions (Su et al. 2021), half-split layout: (u cos - v sin, v cos + u sin). */
#include "cpu.h"
#include "kernels.h"

typedef struct rope_job {
    td_view x, y;
    td_view cosine, sine; /* [B, T, E/2] */
    int64_t half;
    float   sign; /* -1: rotate back, which is the gradient */
} rope_job;

/* Element i of the first half with element i of the second, as in Hugging Face; not neighbours. */
TD_CPU_INLINE void rotate(float *y, const float *x, const float *c, const float *s, int64_t half,
                          float sign)
{
    for (int64_t i = 0; i < half; i += TD_LANES) {
        td_vf u = td_vload_n(x + i, half - i), v = td_vload_n(x + half + i, half - i);
        td_vf a = td_vload_n(c + i, half - i), b = td_vload_n(s + i, half - i) * sign;
        td_vstore_n(y + i, u * a - v * b, half - i);
        td_vstore_n(y + half + i, v * a + u * b, half - i);
    }
}

/* The row of a table for token t of example b. Tables may be shared by all examples, or tokens:
 * dims of 1. */
static const float *table_row(const td_view *v, int64_t b, int64_t t)
{
    return (const float *)v->data + (v->dim[0] == 1 ? 0 : b * v->stride[0]) +
           (v->dim[1] == 1 ? 0 : t * v->stride[1]);
}

/* The same in bf16, from offset `at` of x to offset `to` of y. */
static void rotate_narrow(const rope_job *j, int64_t to, int64_t at, const float *c, const float *s)
{
    float x[TD_CPU_WIDEST_HEAD], y[TD_CPU_WIDEST_HEAD];
    if (j->x.dtype == TD_BF16)
        td_cpu_widen(x, (const uint16_t *)j->x.data + at, 1, 2 * j->half);
    else
        memcpy(x, (const float *)j->x.data + at, (size_t)(2 * j->half) * sizeof *x);
    rotate(y, x, c, s, j->half, j->sign);
    if (j->y.dtype == TD_BF16)
        td_cpu_narrow((uint16_t *)j->y.data + to, 1, y, 2 * j->half);
    else
        memcpy((float *)j->y.data + to, y, (size_t)(2 * j->half) * sizeof *y);
}

static void rotate_narrow_tokens(const rope_job *j, int64_t b, int64_t first, int64_t end)
{
    for (int64_t t = first; t < end; t++) {
        const float *c = table_row(&j->cosine, b, t), *s = table_row(&j->sine, b, t);
        for (int64_t h = 0; h < j->x.dim[1]; h++)
            rotate_narrow(j, b * j->y.stride[0] + h * j->y.stride[1] + t * j->y.stride[2],
                          b * j->x.stride[0] + h * j->x.stride[1] + t * j->x.stride[2], c, s);
    }
}

/* All heads of tokens first .. end - 1: heads are the inner loop, as they share a row of the
 * tables. */
TD_CPU_CLONES static void rotate_tokens(const rope_job *j, int64_t b, int64_t first, int64_t end)
{
    const float *x = (const float *)j->x.data + b * j->x.stride[0];
    float       *y = (float *)j->y.data + b * j->y.stride[0];

    for (int64_t t = first; t < end; t++) {
        const float *c = table_row(&j->cosine, b, t), *s = table_row(&j->sine, b, t);
        for (int64_t h = 0; h < j->x.dim[1]; h++)
            rotate(y + h * j->y.stride[1] + t * j->y.stride[2],
                   x + h * j->x.stride[1] + t * j->x.stride[2], c, s, j->half, j->sign);
    }
}

enum { TOKENS = 16 }; /* of a task */

static void rope_item(void *arg, int64_t item, int thread)
{
    const rope_job *j = arg;
    int64_t         pieces = td_cpu_ceil(j->x.dim[2], TOKENS), first = item % pieces * TOKENS;

    if (j->x.dtype == TD_BF16 || j->y.dtype == TD_BF16)
        rotate_narrow_tokens(j, item / pieces, first, td_cpu_min(j->x.dim[2], first + TOKENS));
    else
        rotate_tokens(j, item / pieces, first, td_cpu_min(j->x.dim[2], first + TOKENS));
}

int td_cpu_rope(const td_call *call)
{
    rope_job j = { .x = call->in[0],
                   .y = call->out[0],
                   .cosine = call->in[1],
                   .sine = call->in[2],
                   .half = call->in[0].dim[3] / 2,
                   .sign = call->attrs->i[0] ? -1.0f : 1.0f };

    td_parallel(call->services, j.x.dim[0] * td_cpu_ceil(j.x.dim[2], TOKENS), rope_item, &j);
    return 0;
}
