/* update.c - optimizer updates in place, sums of squares, assign. Papers: Loshchilov and Hutter
 * 2019 (AdamW), Shazeer and Stern 2018 (Adafactor, here not factored).
 *
 * An update is bound by memory, so each reads and writes every tensor once. Sums over a tensor are
 * kept for each piece of a fixed size and added in order, so they do not depend on threads. A
 * closed gate (0) leaves everything as it was: that is how a step with NaN is skipped. */
#include "cpu.h"
#include "kernels.h"

#include "tandem/ops.h"

enum {
    PIECE = 1 << 15, /* elements of a task */
    SPAN = 1024      /* elements summed in float; their sums are in double */
};

typedef struct step_job {
    const float *p_in, *g, *m_in, *v_in;
    float       *p, *m, *v;
    double      *partial; /* of each piece */
    int64_t      n;
    float        lr, clip, b1, b2, eps, decay;
    float        correct_m, correct_v; /* 1 / (1 - b1^t), 1 / (1 - b2^t) */
    /* Computed in double, then rounded. From a rounded b2 they would be off: by 1e-5 of themselves
     * for 0.999, by 1e-3 for Adafactor's 3e-5 at t = 400000. */
    float        one_minus_b1, one_minus_b2;
} step_job;

static int64_t pieces_of(const td_view *v) { return td_cpu_ceil(td_view_count(v), PIECE); }

/* A gate may be a real or an integer; none is open. */
static bool gate_open(const td_view *gate)
{
    if (!gate->data)
        return true;
    return gate->dtype == TD_I32 ? *(const int32_t *)gate->data != 0
                                 : *(const float *)gate->data != 0;
}

/* Copy, unless both are the same memory: the output of an update usually is its input. */
static void keep(const td_view *from, const td_view *to)
{
    if (to->data && from->data && to->data != from->data)
        memcpy(to->data, from->data, (size_t)(td_view_count(to) * td_view_size(to)));
}

/* True if the gate, input `gate`, is closed. Then outputs 0 .. n - 1 keep what the inputs `state`
 * hold. */
static bool skipped(const td_call *call, int gate, int n, const int *state)
{
    if (gate_open(&call->in[gate]))
        return false;
    for (int k = 0; k < n && k < call->n_out; k++)
        keep(&call->in[state[k]], &call->out[k]);
    return true;
}

/* Where to write a state's new value: output `out`, or the memory of input `in` if that output is
 * not read. The state must change either way. */
static float *updated(const td_call *call, int out, int in)
{
    float *to = out < call->n_out ? call->out[out].data : NULL;
    return to ? to : call->in[in].data;
}

/* ---- sums of squares ------------------------------------------------------------------------- */

TD_CPU_CLONES static double squares(const float *x, int64_t n)
{
    double total = 0;
    for (int64_t i = 0; i < n; i += SPAN)
        total += (double)td_vdot(x + i, x + i, td_cpu_min(SPAN, n - i));
    return total;
}

static void squares_item(void *arg, int64_t item, int thread)
{
    const step_job *j = arg;
    int64_t         first = item * PIECE;

    j->partial[item] = squares(j->g + first, td_cpu_min(PIECE, j->n - first));
}

static float total_of(const double *partial, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += partial[i];
    return (float)sum;
}

size_t td_cpu_sum_squares_workspace(const td_call *call)
{
    return (size_t)pieces_of(&call->in[0]) * sizeof(double);
}

int td_cpu_sum_squares(const td_call *call)
{
    step_job j = { .g = call->in[0].data,
                   .partial = call->workspace,
                   .n = td_view_count(&call->in[0]) };

    td_parallel(call->services, pieces_of(&call->in[0]), squares_item, &j);
    *(float *)call->out[0].data = total_of(j.partial, pieces_of(&call->in[0]));
    return 0;
}

/* ---- assign ---------------------------------------------------------------------------------- */

static void assign_leaf(void *const *out, const void *const *in, int64_t n, const td_attrs *a)
{
    memmove(out[0], in[0], (size_t)n * 4);
}

/* Inputs: the state, its new value, the gate. Output 0 is the state's memory. */
int td_cpu_assign(const td_call *call)
{
    td_call from = *call;

    if (!gate_open(&call->in[2])) {
        keep(&call->in[0], &call->out[0]);
        return 0;
    }
    from.in[0] = call->in[1];
    from.n_out = 1;
    return td_cpu_map(&from, 1, assign_leaf);
}

/* ---- AdamW ----------------------------------------------------------------------------------- */

/* m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; p -= lr (m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) +
 * decay p) */
TD_CPU_CLONES static void adamw_span(const step_job *j, int64_t first, int64_t n)
{
    for (int64_t i = first, left = n; left > 0; i += TD_LANES, left -= TD_LANES) {
        td_vf p = td_vload_n(j->p_in + i, left), g = td_vload_n(j->g + i, left) * j->clip;
        td_vf m = td_vload_n(j->m_in + i, left) * j->b1 + g * j->one_minus_b1;
        td_vf v = td_vload_n(j->v_in + i, left) * j->b2 + g * g * j->one_minus_b2;
        td_vf u = m * j->correct_m / (td_vsqrt(v * j->correct_v) + j->eps);
        td_vstore_n(j->m + i, m, left);
        td_vstore_n(j->v + i, v, left);
        td_vstore_n(j->p + i, p - j->lr * (u + j->decay * p), left);
    }
}

static void adamw_item(void *arg, int64_t item, int thread)
{
    const step_job *j = arg;
    adamw_span(j, item * PIECE, td_cpu_min(PIECE, j->n - item * PIECE));
}

int td_cpu_adamw_step(const td_call *call)
{
    const td_view *in = call->in;
    const double  *f = call->attrs->f;
    double         t = (double)td_view_scalar(&in[TD_STEP_T], 1);
    step_job       j = { .p_in = in[TD_STEP_P].data,
                         .g = in[TD_STEP_G].data,
                         .m_in = in[TD_STEP_M].data,
                         .v_in = in[TD_STEP_V].data,
                         .p = updated(call, 0, TD_STEP_P),
                         .m = updated(call, 1, TD_STEP_M),
                         .v = updated(call, 2, TD_STEP_V),
                         .n = td_view_count(&in[TD_STEP_P]),
                         .lr = td_view_scalar(&in[TD_STEP_LR], 0),
                         .clip = td_view_scalar(&in[TD_STEP_CLIP], 1),
                         .b1 = (float)f[0],
                         .b2 = (float)f[1],
                         .eps = (float)f[2],
                         .decay = (float)f[3],
                         .one_minus_b1 = (float)(1 - f[0]),
                         .one_minus_b2 = (float)(1 - f[1]) };

    if (skipped(call, TD_STEP_GATE, 3, (const int[]){ TD_STEP_P, TD_STEP_M, TD_STEP_V }))
        return 0;
    /* in double: b2^t stays near 1 for a long time, where a float would lose all digits of the
     * difference */
    j.correct_m = (float)(1 / (1 - pow(f[0], t)));
    j.correct_v = (float)(1 / (1 - pow(f[1], t)));
    td_parallel(call->services, pieces_of(&in[TD_STEP_P]), adamw_item, &j);
    return 0;
}

/* ---- Adafactor ------------------------------------------------------------------------------- */

/* v = b2 v + (1-b2) (g^2 + 1e-30); returns the sum of g^2 / v. */
TD_CPU_CLONES static double moment_span(const step_job *j, int64_t first, int64_t n)
{
    double total = 0;
    td_vf  sum = { 0 };

    for (int64_t i = first; i < first + n; i += TD_LANES) {
        int64_t left = first + n - i;
        td_vf   g = td_vload_n(j->g + i, left) * j->clip, s = g * g + 1e-30f;
        td_vf   v = td_vload_n(j->v_in + i, left) * j->b2 + s * j->one_minus_b2, u2 = g * g / v;
        td_vstore_n(j->v + i, v, left);
        sum += u2;
        /* the last vector of a span */
        if ((i - first) % SPAN == SPAN - TD_LANES) {
            total += (double)td_vsum(sum);
            sum = td_vset(0);
        }
    }
    return total + (double)td_vsum(sum);
}

static void moment_item(void *arg, int64_t item, int thread)
{
    const step_job *j = arg;
    j->partial[item] = moment_span(j, item * PIECE, td_cpu_min(PIECE, j->n - item * PIECE));
}

size_t td_cpu_adafactor_moment_workspace(const td_call *call)
{
    return (size_t)pieces_of(&call->in[TD_MOMENT_G]) * sizeof(double);
}

/* The first half of Adafactor, with the sum that the second half clips by. */
int td_cpu_adafactor_moment(const td_call *call)
{
    const td_view *in = call->in;
    float         *sum = call->n_out > 1 ? call->out[1].data : NULL;
    double         one_minus_b2;
    step_job       j = { .g = in[TD_MOMENT_G].data,
                         .v_in = in[TD_MOMENT_V].data,
                         .partial = call->workspace,
                         .v = updated(call, 0, TD_MOMENT_V) };

    if (skipped(call, TD_MOMENT_GATE, 1, (const int[]){ TD_MOMENT_V })) {
        if (sum)
            *sum = 0;
        return 0;
    }
    /* b2 = 1 - t^-rate: the difference is known exactly, and only b2 is rounded */
    j.n = td_view_count(&in[TD_MOMENT_G]);
    j.clip = td_view_scalar(&in[TD_MOMENT_CLIP], 1);
    one_minus_b2 = pow((double)td_view_scalar(&in[TD_MOMENT_T], 1), -call->attrs->f[0]);
    j.one_minus_b2 = (float)one_minus_b2;
    j.b2 = (float)(1 - one_minus_b2);
    td_parallel(call->services, pieces_of(&in[TD_MOMENT_G]), moment_item, &j);
    if (sum)
        *sum = total_of(j.partial, pieces_of(&in[TD_MOMENT_G]));
    return 0;
}

/* u = lr g / sqrt(v); m = b1 m + (1-b1) u, if there is momentum; p = (1 - decay) p - (m or u).
 * lr is the whole factor here, including both clips and the parameter's size. */
TD_CPU_CLONES static void factor_span(const step_job *j, int64_t first, int64_t n)
{
    for (int64_t i = first; i < first + n; i++) {
        float delta = j->lr * (j->g[i] / sqrtf(j->v_in[i]));
        if (j->m) {
            delta = j->b1 * j->m_in[i] + j->one_minus_b1 * delta;
            j->m[i] = delta;
        }
        j->p[i] = (1 - j->decay) * j->p_in[i] - delta;
    }
}

static void factor_item(void *arg, int64_t item, int thread)
{
    const step_job *j = arg;
    factor_span(j, item * PIECE, td_cpu_min(PIECE, j->n - item * PIECE));
}

/* The root mean square of n elements, from the sum of their squares. */
static double root_mean(const td_view *sum, int64_t n)
{
    return sqrt((double)td_view_scalar(sum, 0) / (double)n);
}

/* The second half of Adafactor. */
int td_cpu_adafactor_step(const td_call *call)
{
    const td_view *in = call->in;
    const double  *f = call->attrs->f;
    double         lr = (double)td_view_scalar(&in[TD_FACTOR_LR], 0);
    double         clip = (double)td_view_scalar(&in[TD_FACTOR_CLIP], 1);
    step_job       j = { .p_in = in[TD_FACTOR_P].data,
                         .g = in[TD_FACTOR_G].data,
                         .v_in = in[TD_FACTOR_V].data,
                         .m_in = in[TD_FACTOR_M].data,
                         .p = updated(call, 0, TD_FACTOR_P),
                         .n = td_view_count(&in[TD_FACTOR_P]),
                         .b1 = (float)f[0],
                         .one_minus_b1 = (float)(1 - f[0]),
                         .decay = (float)(f[1] < 0 ? lr * lr : f[1]) };

    if (skipped(call, TD_FACTOR_GATE, 2, (const int[]){ TD_FACTOR_P, TD_FACTOR_M }))
        return 0;
    if (f[0] > 0 && j.m_in)
        j.m = updated(call, 1, TD_FACTOR_M);
    /* everything that is the same for all elements: the global clip, the update's own, the rate,
     * and the parameter's size */
    j.lr = (float)(clip / fmax(1, root_mean(&in[TD_FACTOR_SUM_U2], j.n) / f[2]) * lr *
                   fmax(f[3], root_mean(&in[TD_FACTOR_SUM_P2], j.n)));
    td_parallel(call->services, pieces_of(&in[TD_FACTOR_P]), factor_item, &j);
    return 0;
}
