/* elementwise.c - ops on single elements; operands broadcast. */
#include "kernels.h"
#include "reference.h"

typedef double element(const double *x, const td_attrs *a);

/* Compute each element of the output from the elements of the inputs that are broadcast to it. */
static int map(const td_call *call, int inputs, element *f)
{
    const td_view *y = &call->out[0];
    int64_t        index[TD_MAX_RANK];
    double         x[3];

    for (int64_t n = 0; n < td_ref_count(y); n++) {
        td_ref_unravel(y, n, index);
        for (int k = 0; k < inputs; k++)
            x[k] = td_ref_get(&call->in[k], td_ref_offset(&call->in[k], index, y->rank));
        td_ref_put(y, td_ref_offset(y, index, y->rank), f(x, call->attrs));
    }
    return 0;
}

/* The op `name`: an expression of its inputs x[0], x[1], .. */
#define ELEMENT(name, inputs, ...)                                                      \
    static double name##_of(const double *x, const td_attrs *a) { return __VA_ARGS__; } \
    int           td_ref_##name(const td_call *call) { return map(call, inputs, name##_of); }

ELEMENT(neg, 1, -x[0])
ELEMENT(exp, 1, exp(x[0]))
ELEMENT(log, 1, log(x[0]))
ELEMENT(sqrt, 1, sqrt(x[0]))
ELEMENT(rsqrt, 1, 1 / sqrt(x[0]))
ELEMENT(sin, 1, sin(x[0]))
ELEMENT(cos, 1, cos(x[0]))
ELEMENT(tanh, 1, tanh(x[0]))
ELEMENT(sigmoid, 1, 1 / (1 + exp(-x[0])))
ELEMENT(abs, 1, fabs(x[0]))
ELEMENT(sign, 1, (double)((x[0] > 0) - (x[0] < 0)))
ELEMENT(floor, 1, floor(x[0]))
ELEMENT(add, 2, x[0] + x[1])
ELEMENT(sub, 2, x[0] - x[1])
ELEMENT(div, 2, x[0] / x[1])
ELEMENT(maximum, 2, x[0] > x[1] || isnan(x[0]) ? x[0] : x[1])
ELEMENT(less, 2, x[0] < x[1])
ELEMENT(equal, 2, x[0] == x[1])
ELEMENT(where, 3, x[0] != 0 ? x[1] : x[2])

/* ---- where integers differ ------------------------------------------------------------------- */

/* Clamped to the range of an i32; NaN becomes 0. */
static double clamped(double x)
{
    return isnan(x) ? 0 : fmin(fmax(x, -2147483648.0), 2147483647.0);
}

static double real_affine(const double *x, const td_attrs *a) { return a->f[0] * x[0] + a->f[1]; }

static double integer_affine(const double *x, const td_attrs *a)
{
    return clamped(floor(real_affine(x, a)));
}

int td_ref_affine(const td_call *call)
{
    return map(call, 1, call->out[0].dtype == TD_I32 ? integer_affine : real_affine);
}

static double same(const double *x, const td_attrs *a) { return x[0]; }

static double truncated(const double *x, const td_attrs *a) { return trunc(clamped(x[0])); }

int td_ref_cast(const td_call *call)
{
    return map(call, 1, call->out[0].dtype == TD_I32 ? truncated : same);
}

static double real_mul(const double *x, const td_attrs *a) { return x[0] * x[1]; }

/* The low 32 bits: a product of two integers may have more than a double's 53. */
static double integer_mul(const double *x, const td_attrs *a)
{
    return (double)(uint32_t)((uint64_t)(int64_t)x[0] * (uint64_t)(int64_t)x[1]);
}

int td_ref_mul(const td_call *call)
{
    return map(call, 2, call->out[0].dtype == TD_I32 ? integer_mul : real_mul);
}
