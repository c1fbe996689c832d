/* activation.c - activations and gated linear units (Shazeer 2020); GELU in its tanh form
 * (Hendrycks and Gimpel 2016), which the models of the papers use.
 *
 * The gradients take x rather than the activation's output: those of SiLU and GELU do not follow
 * from the output, and one form serves all.
 */
#include "define.h"

#define GELU_ROOT 0.79788456080286535588 /* sqrt(2 / pi) */
#define GELU_CUBIC 0.044715

/* tanh(u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
static td_tensor *gelu_tanh(td_tensor *x)
{
    td_tensor *cubic = td_affine(td_mul(x, x), GELU_CUBIC, 1); /* 1 + c x^2 */
    return td_tanh(td_scale(td_mul(x, cubic), GELU_ROOT));
}

/* f(x) */
static td_tensor *activated(td_tensor *x, int64_t f)
{
    td_tensor *zero = td_scalar(x->graph, 0), *positive;
    /* maximum keeps NaN: a ReLU must not hide that training diverged */
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

/* f'(x) */
static td_tensor *derivative(td_tensor *x, int64_t f)
{
    td_tensor *zero = td_scalar(x->graph, 0), *s, *t, *slope;
    switch (f) {
    case TD_SILU: /* s (1 + x (1 - s)) */
        s = td_sigmoid(x);
        return td_mul(s, td_affine(td_mul(x, td_affine(s, -1, 1)), 1, 1));
    case TD_GELU: /* with t = tanh(u): (1 + t) / 2 + x u' (1 - t^2) / 2 */
        t = gelu_tanh(x);
        slope = td_affine(td_mul(x, x), 3 * GELU_CUBIC * GELU_ROOT, GELU_ROOT);
        return td_add(td_affine(t, 0.5, 0.5),
                      td_scale(td_mul(td_mul(x, slope), td_affine(td_mul(t, t), -1, 1)), 0.5));
    case TD_RELU: /* 0 at 0 */
        return td_less(zero, x);
    case TD_RELU2:
        return td_scale(td_maximum(x, zero), 2);
    default:
        s = td_sigmoid(x);
        return td_mul(s, td_affine(s, -1, 1));
    }
}

/* For activation, glu and their gradients: one to three operands of the same dims and dtype. */
static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    if (a->i[0] < TD_SILU || a->i[0] > TD_SIGMOID)
        return td_fail(error, TD_EGRAPH, "there is no activation %lld: use a td_activation",
                       (long long)a->i[0]);
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    /* no broadcasting: a gate and its operand come from products of the same shape */
    for (int k = 0; k < n; k++) {
        char one[TD_DIMS_TEXT], other[TD_DIMS_TEXT];
        if (!td_is_real(in[k]) || !td_is_alike(in[0], in[k]))
            return td_fail(error, TD_EGRAPH,
                           "operands must be reals of the same dims, not %s and %s",
                           td_dims_text(in[0], one), td_dims_text(in[k], other));
    }
    return td_infer_same(in, n, a, out, error);
}

/* A separate op, so that a backend may fuse it; others run the lowering. */
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

/* dx = dy f'(x) */
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

/* dgate = dy up f'(gate); dup = dy f(gate) */
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
