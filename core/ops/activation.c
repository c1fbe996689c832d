/* activation.c - activations and gated linear units (Shazeer 2020); GELU in its tanh form. */
#include "define.h"

#define GELU_ROOT 0.79788456080286535588 /* sqrt(2 / pi) */
#define GELU_CUBIC 0.044715

static td_tensor *gelu_tanh(td_tensor *x)
{
    td_tensor *cubic = td_affine(td_mul(x, x), GELU_CUBIC, 1); /* 1 + c x^2 */
    return td_tanh(td_scale(td_mul(x, cubic), GELU_ROOT));
}

static td_tensor *activated(td_tensor *x, int64_t f)
{
    td_tensor *zero = td_scalar(x->graph, 0), *positive;
    switch (f) {
    case TD_SILU:
        return td_mul(x, td_sigmoid(x));
    case TD_GELU:
        return td_mul(td_scale(x, 0.5), td_affine(gelu_tanh(x), 1, 1));
    case TD_RELU:
        return td_maximum(x, zero);
    case TD_RELU2:
        positive = td_maximum(x, zero);
        return td_mul(positive, positive);
    default:
        return td_sigmoid(x);
    }
}

static td_tensor *derivative(td_tensor *x, int64_t f)
{
    td_tensor *zero = td_scalar(x->graph, 0), *s, *t, *slope;
    switch (f) {
    case TD_SILU:
        s = td_sigmoid(x);
        return td_mul(s, td_affine(td_mul(x, td_affine(s, -1, 1)), 1, 1));
    case TD_GELU:
        t = gelu_tanh(x);
        slope = td_affine(td_mul(x, x), 3 * GELU_CUBIC * GELU_ROOT, GELU_ROOT);
        return td_add(td_affine(t, 0.5, 0.5),
                      td_scale(td_mul(td_mul(x, slope), td_affine(td_mul(t, t), -1, 1)), 0.5));
    case TD_RELU:
        return td_less(zero, x);
    case TD_RELU2:
        return td_scale(td_maximum(x, zero), 2);
    default:
        s = td_sigmoid(x);
        return td_mul(s, td_affine(s, -1, 1));
    }
}

static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    if (a->i[0] < TD_SILU || a->i[0] > TD_SIGMOID)
        return td_fail(error, TD_EGRAPH, "there is no activation %lld", (long long)a->i[0]);
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    for (int k = 0; k < n; k++)
        if (!td_is_real(in[k]) || !td_is_alike(in[0], in[k]))
            return td_fail(error, TD_EGRAPH, "operands must be reals of the same dims");
    return td_infer_same(in, n, a, out, error);
}

static void vjp(TD_VJP_PARAMETERS)
{
    td_tensor *inputs[] = { grad_out[0], in[0] };
    grad_in[0] = td_emit_("activation_grad", inputs, 2, a);
}

static void lower(td_graph *g, td_tensor *const *in, int n, const td_attrs *a, const bool *used,
                  td_tensor **out)
{
    out[0] = activated(in[0], a->i[0]);
}

static void lower_grad(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                       const bool *used, td_tensor **out)
{
    out[0] = td_mul(in[0], derivative(in[1], a->i[0]));
}

TD_DEFINE_OP(td_op_activation, "activation", 1, 1, "silu, gelu, relu, relu2 or sigmoid",
             .flags = TD_OP_ELEMENTWISE, .infer = infer, .vjp = vjp, .lower = lower);
TD_DEFINE_OP(td_op_activation_grad, "activation_grad", 2, 2, "gradient of activation (dy, x)",
             .flags = TD_OP_ELEMENTWISE, .infer = infer, .lower = lower_grad);

/* ---- gated ----------------------------------------------------------------------------------- */

static void vjp_glu(TD_VJP_PARAMETERS)
{
    td_tensor *inputs[] = { grad_out[0], in[0], in[1] };
    grad_in[0] = td_emit_("glu_grad", inputs, 3, a);
    grad_in[1] = td_output(grad_in[0], 1);
}

static void lower_glu(td_graph *g, td_tensor *const *in, int n, const td_attrs *a, const bool *used,
                      td_tensor **out)
{
    out[0] = td_mul(activated(in[0], a->i[0]), in[1]);
}

static int infer_glu_grad(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                          td_error *error)
{
    int code = infer(in, n, a, out, error);
    out[1] = out[0];
    return code < 0 ? code : 2;
}

static void lower_glu_grad(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                           const bool *used, td_tensor **out)
{
    out[0] = td_mul(td_mul(in[0], in[2]), derivative(in[1], a->i[0]));
    out[1] = td_mul(in[0], activated(in[1], a->i[0]));
}

TD_DEFINE_OP(td_op_glu, "glu", 2, 2, "f(gate) up", .flags = TD_OP_ELEMENTWISE, .infer = infer,
             .vjp = vjp_glu, .lower = lower_glu);
TD_DEFINE_OP(td_op_glu_grad, "glu_grad", 3, 3, "gradients of glu (dy, gate, up)",
             .flags = TD_OP_ELEMENTWISE, .infer = infer_glu_grad, .lower = lower_glu_grad);
