/* activation.c - activations, gated linear units (Shazeer 2020) and softmax, with their
 * gradients. */
#include "cpu.h"
#include "kernels.h"

#include "tandem/ops.h"

#define GELU_ROOT 0.7978845608f /* sqrt(2 / pi) */
#define GELU_CUBIC 0.044715f

/* Keeps NaN, where max(x, 0) would drop it. */
TD_CPU_INLINE td_vf positive(td_vf x)
{
    return td_vpick(td_vabove(x, td_vset(0)) | td_vnan(x), x, td_vset(0));
}

/* The kind is the same for a whole tensor, so the compiler moves the switch out of the loops. */
TD_CPU_INLINE td_vf activate(int64_t kind, td_vf x)
{
    /* in the order of td_activation; the sigmoid is last */
    switch (kind) {
    case TD_SILU:
        return x * td_vsigmoid(x);
    case TD_GELU:
        return 0.5f * x * (1.0f + td_vtanh(GELU_ROOT * (x + GELU_CUBIC * x * x * x)));
    case TD_RELU:
        return positive(x);
    case TD_RELU2:
        return positive(x) * positive(x);
    default:
        return td_vsigmoid(x);
    }
}

/* Returns the derivative, and the value in *value: they share the expensive part. */
TD_CPU_INLINE td_vf slope(int64_t kind, td_vf x, td_vf *value)
{
    td_vf s;

    /* at 0, relu has slope 0 */
    switch (kind) {
    case TD_SILU:
        s = td_vsigmoid(x);
        *value = x * s;
        return s + *value * (1.0f - s);
    case TD_GELU:
        s = td_vtanh(GELU_ROOT * (x + GELU_CUBIC * x * x * x));
        *value = 0.5f * x * (1.0f + s);
        return 0.5f * (1.0f + s) +
               0.5f * x * (1.0f - s * s) * GELU_ROOT * (1.0f + 3 * GELU_CUBIC * x * x);
    case TD_RELU:
        *value = positive(x);
        return td_vpick(td_vabove(x, td_vset(0)), td_vset(1), td_vset(0));
    case TD_RELU2:
        *value = positive(x) * positive(x);
        return 2.0f * positive(x);
    default:
        s = td_vsigmoid(x);
        *value = s;
        return s * (1.0f - s);
    }
}

/* Elements i .. i + 15 of input or output i_. */
#define LOAD(i_) td_vload_n((const float *)in[i_] + i, n - i)
#define STORE(i_, value_) td_vstore_n((float *)out[i_] + i, value_, n - i)

TD_CPU_CLONES static void activation_leaf(void *const *out, const void *const *in, int64_t n,
                                          const td_attrs *a)
{
    for (int64_t i = 0; i < n; i += TD_LANES)
        STORE(0, activate(a->i[0], LOAD(0)));
}

TD_CPU_CLONES static void activation_grad_leaf(void *const *out, const void *const *in, int64_t n,
                                               const td_attrs *a)
{
    for (int64_t i = 0; i < n; i += TD_LANES) {
        td_vf value;
        STORE(0, LOAD(0) * slope(a->i[0], LOAD(1), &value));
    }
}

TD_CPU_CLONES static void glu_leaf(void *const *out, const void *const *in, int64_t n,
                                   const td_attrs *a)
{
    for (int64_t i = 0; i < n; i += TD_LANES)
        STORE(0, activate(a->i[0], LOAD(0)) * LOAD(1));
}

/* dy, gate, up -> dgate, dup. The value f(gate) is recomputed, not kept. */
TD_CPU_CLONES static void glu_grad_leaf(void *const *out, const void *const *in, int64_t n,
                                        const td_attrs *a)
{
    for (int64_t i = 0; i < n; i += TD_LANES) {
        td_vf dy = LOAD(0), up = LOAD(2), value, derivative = slope(a->i[0], LOAD(1), &value);
        STORE(0, dy * up * derivative);
        STORE(1, dy * value);
    }
}

int td_cpu_activation(const td_call *call) { return td_cpu_map(call, 1, activation_leaf); }
int td_cpu_activation_grad(const td_call *call)
{
    return td_cpu_map(call, 2, activation_grad_leaf);
}
int td_cpu_glu(const td_call *call) { return td_cpu_map(call, 2, glu_leaf); }
int td_cpu_glu_grad(const td_call *call) { return td_cpu_map(call, 3, glu_grad_leaf); }

/* ---- softmax over the last axis of dense tensors --------------------------------------------- */

typedef struct softmax_job {
    const float *x, *y; /* y: the softmax itself, for the gradient; NULL: forward */
    float       *out;
    int64_t      n, rows, rows_per_item;
} softmax_job;

/* y = e^(x - max) / sum. The last lanes are added one by one, because those after the end hold
 * e^-max, not 0. */
TD_CPU_CLONES static void softmax_row(float *y, const float *x, int64_t n)
{
    td_vf   sum = { 0 };
    float   largest = td_vtop(x, n), scale;
    int64_t i = 0;

    for (; i + TD_LANES <= n; i += TD_LANES) {
        td_vf e = td_vexp(td_vload(x + i) - largest);
        td_vstore(y + i, e);
        sum += e;
    }
    scale = td_vsum(sum);
    if (i < n) {
        td_vf e = td_vexp(td_vload_n(x + i, n - i) - largest);
        td_vstore_n(y + i, e, n - i);
        for (int64_t j = i; j < n; j++)
            scale += y[j];
    }
    /* one division for the row */
    for (i = 0; i < n; i += TD_LANES)
        td_vstore_n(y + i, td_vload_n(y + i, n - i) * (1.0f / scale), n - i);
}

/* dx = y (dy - sum(dy y)) */
TD_CPU_CLONES static void softmax_grad_row(float *dx, const float *dy, const float *y, int64_t n)
{
    float sum = td_vdot(dy, y, n);
    for (int64_t i = 0; i < n; i += TD_LANES)
        td_vstore_n(dx + i, td_vload_n(y + i, n - i) * (td_vload_n(dy + i, n - i) - sum), n - i);
}

static void softmax_item(void *arg, int64_t item, int thread)
{
    const softmax_job *j = arg;
    int64_t first = item * j->rows_per_item, end = td_cpu_min(j->rows, first + j->rows_per_item);

    for (int64_t at = first * j->n; at < end * j->n; at += j->n) {
        if (j->y)
            softmax_grad_row(j->out + at, j->x + at, j->y + at, j->n);
        else
            softmax_row(j->out + at, j->x + at, j->n);
    }
}

static int softmax(const td_call *call, const float *y)
{
    softmax_job j = {
        .x = call->in[0].data, .y = y, .out = call->out[0].data, .n = td_view_last(&call->in[0])
    };

    if (!j.n)
        return 0;
    j.rows = td_view_count(&call->in[0]) / j.n;
    j.rows_per_item = td_cpu_max(1, (1 << 14) / j.n);
    td_parallel(call->services, td_cpu_ceil(j.rows, j.rows_per_item), softmax_item, &j);
    return 0;
}

int td_cpu_softmax(const td_call *call) { return softmax(call, NULL); }
int td_cpu_softmax_grad(const td_call *call) { return softmax(call, call->in[1].data); }
