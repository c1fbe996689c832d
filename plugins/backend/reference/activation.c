/* activation.c - activations, gated linear units (Shazeer 2020) and their gradients; GELU in its
 * tanh form. */
#include "kernels.h"
#include "reference.h"

static const double root = 0.79788456080286535588; /* sqrt(2 / pi) */
static const double cubic = 0.044715;

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double gelu_tanh(double x) { return tanh(root * (x + cubic * x * x * x)); }

/* f(x). x <= 0 lets NaN through. */
static double value(double x, int64_t f)
{
    /* in the order of td_activation; the sigmoid is last */
    switch (f) {
    case TD_SILU:
        return x * sigmoid(x);
    case TD_GELU:
        return 0.5 * x * (1 + gelu_tanh(x));
    case TD_RELU:
        return x <= 0 ? 0 : x;
    case TD_RELU2:
        return x <= 0 ? 0 : x * x;
    default:
        return sigmoid(x);
    }
}

/* f'(x) */
static double slope(double x, int64_t f)
{
    double s = sigmoid(x), t = gelu_tanh(x);

    /* at 0, relu has slope 0 */
    switch (f) {
    case TD_SILU:
        return s * (1 + x * (1 - s));
    case TD_GELU:
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * cubic * x * x);
    case TD_RELU:
        return x > 0;
    case TD_RELU2:
        return x <= 0 ? 0 : 2 * x;
    default:
        return s * (1 - s);
    }
}

int td_ref_activation(const td_call *call)
{
    for (int64_t n = 0; n < td_ref_count(&call->out[0]); n++)
        td_ref_write(&call->out[0], n, value(td_ref_read(&call->in[0], n), call->attrs->i[0]));
    return 0;
}

int td_ref_activation_grad(const td_call *call)
{
    for (int64_t n = 0; n < td_ref_count(&call->out[0]); n++) {
        double dy = td_ref_read(&call->in[0], n), x = td_ref_read(&call->in[1], n);
        td_ref_write(&call->out[0], n, dy * slope(x, call->attrs->i[0]));
    }
    return 0;
}

/* f(gate) up */
int td_ref_glu(const td_call *call)
{
    for (int64_t n = 0; n < td_ref_count(&call->out[0]); n++) {
        double gate = td_ref_read(&call->in[0], n), up = td_ref_read(&call->in[1], n);
        td_ref_write(&call->out[0], n, value(gate, call->attrs->i[0]) * up);
    }
    return 0;
}

int td_ref_glu_grad(const td_call *call)
{
    const td_view *dgate = td_ref_out(call, 0), *dup = td_ref_out(call, 1);

    for (int64_t n = 0; n < td_ref_count(&call->in[0]); n++) {
        double dy = td_ref_read(&call->in[0], n), gate = td_ref_read(&call->in[1], n),
               up = td_ref_read(&call->in[2], n);
        if (dgate)
            td_ref_write(dgate, n, dy * up * slope(gate, call->attrs->i[0]));
        if (dup)
            td_ref_write(dup, n, dy * value(gate, call->attrs->i[0]));
    }
    return 0;
}
