/* op_cases.h - test cases for the kernels of every built-in op.
 *
 * Dims are primes, 1 and odd lengths, with broadcasting, because code with tiles and vectors goes
 * wrong there first. Ops on ids and masks get constant ones. A case may put its op between others:
 * td_exp after a view makes sure that the view is read with its strides. Included by op_lab.c and
 * by the tests of backends. */
#ifndef TD_CHECK_OP_CASES_H
#define TD_CHECK_OP_CASES_H

#include "check/op_case.h"
#include "tandem/layers.h"

/* A case's build: x are its inputs, o its option; returns the tensor to compare. */
#define BUILD(name) static td_tensor *name(td_graph *g, td_tensor **x, int64_t o)

/* Emit an op of one input that has no function in ops.h. */
static td_tensor *emit(const char *op, td_tensor *x, int n_attrs, const int64_t *i, double f0)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    for (int k = 0; k < n_attrs; k++)
        a.i[k] = i[k];
    a.f[0] = f0;
    return td_emit(x->graph, op, in, 1, &a);
}

/* Integers [rows, columns] from a list. */
static td_tensor *ints(td_graph *g, const double *values, int64_t rows, int64_t columns)
{
    int64_t dims[] = { rows, columns };
    return td_constant(g, TD_I32, dims, 2, values);
}

/* Integers [n]. */
static td_tensor *numbers(td_graph *g, const double *values, int64_t n)
{
    return td_constant(g, TD_I32, &n, 1, values);
}

/* ---- elementwise and movement ---------------------------------------------------------------- */

/* clang-format off */
#define UNARY_BUILD(name) BUILD(build_##name) { return td_##name(x[0]); }
#define BINARY_BUILD(name) BUILD(build_##name) { return td_##name(x[0], x[1]); }

UNARY_BUILD(neg) UNARY_BUILD(exp) UNARY_BUILD(log) UNARY_BUILD(sqrt) UNARY_BUILD(rsqrt)
UNARY_BUILD(sin) UNARY_BUILD(cos) UNARY_BUILD(tanh) UNARY_BUILD(sigmoid) UNARY_BUILD(abs)
UNARY_BUILD(sign) UNARY_BUILD(floor) UNARY_BUILD(softmax) UNARY_BUILD(sum_squares)
BINARY_BUILD(add) BINARY_BUILD(sub) BINARY_BUILD(mul) BINARY_BUILD(div) BINARY_BUILD(maximum)
BINARY_BUILD(less) BINARY_BUILD(equal) BINARY_BUILD(matmul)
    /* clang-format on */

    BUILD(build_affine)
{
    return td_affine(x[0], -1.75, 0.5);
}
/* The condition is detached: gradients go to the chosen values alone. */
BUILD(build_where) { return td_where(td_less(td_detach(x[0]), td_scalar(g, 0)), x[0], x[1]); }
/* The input is transposed, because a copy of a dense tensor would be left out. */
BUILD(build_copy) { return emit("copy", td_transpose(x[0], 0, 1), 0, 0, 0); }
/* The gradient is 1, not 1 + e^x. Central differences would find the latter, so the case has no
 * gradient. */
BUILD(build_detach) { return td_add(x[0], td_detach(td_exp(x[0]))); }
BUILD(build_permute) { return td_exp(td_permute(x[0], (const int[]){ 2, 0, 1 })); }
BUILD(build_pad) { return td_pad(x[0], (int)o, 2, 1); }
BUILD(build_slice) { return td_exp(td_slice(x[0], (int)o, 1, td_dim(x[0], (int)o) - 2)); }
BUILD(build_concat) { return td_concat(x, 3, (int)o); }
BUILD(build_sum) { return td_sum_axes(x[0], o); }
BUILD(build_max) { return td_max(x[0], (int)o); }
/* The option: the axis, and above bit 1 whether to sum from the end. */
BUILD(build_cumsum) { return td_cumsum(x[0], (int)(o & 3), o >> 2); }
BUILD(build_topk) { return td_topk(x[0], o, 0); }
BUILD(build_iota) { return td_mul(x[0], td_iota(g, TD_REAL, o)); }

BUILD(build_reshape)
{
    int64_t dims[] = { td_count(x[0]) };
    return td_exp(td_reshape(td_transpose(x[0], 0, 1), dims, 1));
}

BUILD(build_expand)
{
    int64_t dims[] = { 3, x[0]->dim[1], 5 };
    return td_expand(x[0], dims);
}

/* Some ids occur twice, others not at all. */
BUILD(build_gather) { return td_gather(x[0], ints(g, (const double[]){ 0, 4, 2, 2, 1, 4 }, 2, 3)); }

/* With and without a tensor to add to. */
BUILD(build_scatter)
{
    return td_scatter_add(ints(g, (const double[]){ 0, 4, 2, 2, 1, 4 }, 2, 3), x[0], o ? x[1] : 0,
                          5);
}

/* A product with a summand, as the planner would fold it in. */
BUILD(build_product_sum)
{
    td_tensor *in[] = { x[0], x[1], x[2] };
    return td_emit(g, "matmul", in, 3, 0);
}

/* Operands that are views with strides. */
BUILD(build_transposed)
{
    return td_matmul(td_transpose(x[0], -1, -2), td_transpose(x[1], -1, -2));
}

/* Group numbers -1 .. 4 for the rows of x: some groups are empty, and rows of -1 belong to none. */
static td_tensor *groups_of(td_graph *g, const td_tensor *x, bool sorted)
{
    double  group[512];
    int64_t n = x->dim[0];
    for (int64_t k = 0; k < n; k++)
        group[k] = sorted ? (double)(k * 6 / n) - 1 : (double)(k * 7 % 6) - 1;
    return td_constant(g, TD_I32, &n, 1, group);
}

/* Bit 0: transposed; bit 1: sorted. */
BUILD(build_grouped_matmul)
{
    return td_grouped_matmul(x[0], x[1], groups_of(g, x[0], o & 2), o & 1);
}

/* Bit 0: plus x[2]; bit 1: sorted. */
BUILD(build_grouped_outer)
{
    td_tensor *in[] = { x[0], x[1], groups_of(g, x[0], o & 2), o & 1 ? x[2] : 0 };
    td_attrs   a = { { 5 }, { 0 } };
    return td_emit(g, "grouped_outer", in, 4, &a);
}

/* ---- layers ---------------------------------------------------------------------------------- */

BUILD(build_activation) { return td_activate(x[0], (td_activation)o); }
BUILD(build_glu) { return td_glu(x[0], x[1], (td_activation)o); }
BUILD(build_rms) { return td_rms_norm(x[0], o ? x[1] : 0, 1e-6); }
BUILD(build_layer) { return td_layer_norm(x[0], o > 0 ? x[1] : 0, o > 1 ? x[2] : 0, 1e-5); }
/* Angles as inputs: without gradients, as rope has none for them. */
BUILD(build_rope) { return td_rope(x[0], td_detach(td_cos(x[1])), td_detach(td_sin(x[2]))); }

/* Rope with constant angles, as models have them: only x has a gradient. */
BUILD(build_rope_data)
{
    double  angle[42], c[42], s[42];
    int64_t dims[] = { 2, 7, 3 };
    for (int n = 0; n < 42; n++) {
        angle[n] = td_op_noise(3, n, -3, 3);
        c[n] = cos(angle[n]);
        s[n] = sin(angle[n]);
    }
    return td_rope(x[0], td_constant(g, TD_REAL, dims, 3, c), td_constant(g, TD_REAL, dims, 3, s));
}

BUILD(build_dropout)
{
    int64_t    one = td_dim(x[0], 0);
    td_tensor *step = td_full(g, TD_I32, 0, 0, 17), *example = td_iota(g, TD_I32, one);
    return td_dropout_at(x[0], step, example, 0.375, o, "here");
}

/* Two of the five rows have weight 0 and labels that do not exist. */
static td_tensor *cross_entropy(td_graph *g, td_tensor **x, double cap, double z_loss,
                                double smoothing)
{
    static const double labels[] = { 0, 6, -1, 3, 99 }, weights[] = { 1, 0.5, 0, 2, 0 };
    int64_t             n[] = { 5 };
    return td_cross_entropy_capped(x[0], x[1], td_constant(g, TD_I32, n, 1, labels),
                                   td_constant(g, TD_REAL, n, 1, weights), td_scalar(g, 3.5), 0.75,
                                   cap, z_loss, smoothing);
}

BUILD(build_cross_entropy)
{
    return cross_entropy(g, x, o & 4 ? 1.25 : 0, o & 1 ? 0.01 : 0, o & 2 ? 0.1 : 0);
}

/* ---- attention: rows of two packed examples and padding -------------------------------------- */

/* Two rows of 7 tokens: segments (0 is padding), which tokens are input, and places in the
 * example. */
static const double segments[] = { 1, 1, 1, 1, 2, 2, 0, 1, 1, 2, 2, 2, 2, 2 };
static const double inputs[] = { 1, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0 };
static const double indices[] = { 0, 1, 2, 3, 0, 1, 6, 0, 1, 0, 1, 2, 3, 4 };

/* Options of build_attend, to be combined. */
enum {
    CAUSAL = 1,
    SEGMENTS = 2,
    INPUTS_ = 4,
    INDICES = 8,
    SELF = 16,
    WINDOW = 32,
    TABLE = 64,
    DENSE = 128,
    LENGTHS = 256,
    CAP = 512
};

/* q [2, H, 7, E], k and v [2, G, 7, ..]; then the table [H, 5] or the dense bias, if asked for. */
BUILD(build_attend)
{
    td_mask m = { .causal = o & CAUSAL, .self = o & SELF, .window = o & WINDOW ? 3 : 0 };
    td_bias b = { 0 };
    /* one tensor for queries and keys, as in self-attention: the graph must not confuse the
     * inputs */
    if (o & SEGMENTS)
        m.q_segment = m.k_segment = ints(g, segments, 2, 7);
    if (o & INPUTS_)
        m.q_input = m.k_input = ints(g, inputs, 2, 7);
    if (o & INDICES)
        m.q_index = m.k_index = ints(g, indices, 2, 7);
    if (o & TABLE) {
        b.table = x[3];
        b.q_position = b.k_position = ints(g, indices, 2, 7);
        b.offset = 2;
    }
    if (o & DENSE)
        m.dense = x[3];
    if (o & LENGTHS)
        m.k_length = numbers(g, (const double[]){ 5, 1 }, 2);
    return td_attend_capped(x[0], x[1], x[2], &m, &b, 0.6, o & CAP ? 0.75 : 0);
}

/* Two rows that hold o % 1000 and o / 1000 keys. */
BUILD(build_attend_held)
{
    td_mask m = { 0 };
    m.k_length = numbers(g, (const double[]){ (double)(o % 1000), (double)(o / 1000) }, 2);
    return td_attend(x[0], x[1], x[2], &m, 0, 0.6);
}

/* Cross-attention: fewer queries than keys, segments in any order, one query without a key. */
BUILD(build_cross)
{
    td_mask m = { 0 };
    m.q_segment = ints(g, (const double[]){ 1, 2, 3 }, 1, 3);
    m.k_segment = ints(g, (const double[]){ 2, 1, 1, 0, 2 }, 1, 5);
    return td_attend(x[0], x[1], x[2], &m, 0, 0.6);
}

/* ---- updates in place, and integers ---------------------------------------------------------- */

/* p, m and v after the update; option 0 closes the gate. */
BUILD(build_adamw)
{
    td_tensor *in[TD_STEP_INPUTS] = { x[0],
                                      x[1],
                                      x[2],
                                      x[3],
                                      td_scalar(g, 0.125),
                                      td_scalar(g, 3),
                                      td_scalar(g, 0.5),
                                      td_scalar(g, (double)o) };
    /* three outputs in one, as a case has one root */
    td_tensor *p = td_adamw_step(in, 0.9, 0.95, 1e-6, 0.1),
              *parts[] = { p, td_output(p, 1), td_output(p, 2) };
    return td_concat(parts, 3, 0);
}

/* With the gate closed the sum has no reader, and kernels need not compute it. */
BUILD(build_moment)
{
    td_tensor *in[] = { x[0], x[1], td_scalar(g, 3), td_scalar(g, 0.5), td_scalar(g, (double)o) };
    td_tensor *v = td_adafactor_moment(in, 0.8);
    return o ? td_mul(v, td_output(v, 1)) : v;
}

/* p and m after the update; bit 0 opens the gate, bit 1: decay lr^2. */
BUILD(build_adafactor)
{
    td_tensor *in[] = { x[0],
                        x[1],
                        x[2],
                        x[3],
                        td_scalar(g, 40),
                        td_scalar(g, 11),
                        td_scalar(g, 0.125),
                        td_scalar(g, 0.5),
                        td_scalar(g, (double)(o & 1)) };
    td_tensor *p = td_adafactor_step(in, 0.9, o & 2 ? -1 : 0.1, 1, 1e-3),
              *parts[] = { p, td_output(p, 1) };
    return td_concat(parts, 2, 0);
}

/* From a transposed value, into a dense state. */
BUILD(build_assign)
{
    return td_assign(x[0], td_exp(td_transpose(x[1], 0, 1)), td_scalar(g, (double)o));
}

/* Three rows, of which one is full and one gets nothing; along axis 1 or 2. */
BUILD(build_append)
{
    td_tensor *lengths = numbers(g, (const double[]){ 0, 8, 3 }, 3),
              *counts = numbers(g, (const double[]){ 2, 3, 0 }, 3);
    return td_append(x[0], x[1], lengths, counts, (int)o, false);
}

/* A ring: tokens wrap around its end, or begin after it. */
BUILD(build_append_ring)
{
    td_tensor *lengths = numbers(g, (const double[]){ 4, 3, 15 }, 3),
              *counts = numbers(g, (const double[]){ 1, 4, 3 }, 3);
    return td_append(x[0], x[1], lengths, counts, (int)o, true);
}

BUILD(build_append_integers)
{
    td_tensor *buffer = ints(g, (const double[]){ 9, 8, 7, 6, 5, 4, 3, 2, -1, 0 }, 2, 5),
              *tokens = ints(g, (const double[]){ 10, 20, 30, -16777215, 16777215, 50 }, 2, 3);
    return td_cast(td_append(buffer, tokens, numbers(g, (const double[]){ 1, 4 }, 2),
                             numbers(g, (const double[]){ 3, 2 }, 2), 1, true),
                   TD_REAL);
}

/* Every op that takes integers, side by side. */
BUILD(build_integers)
{
    /* rows of 3 throughout, so that the results can be joined; some of them wrap around */
    td_tensor *a = ints(g, (const double[]){ 3, -7, 0, 11, 2147483647, -5 }, 2, 3),
              *b = ints(g, (const double[]){ 5, -2, 0 }, 1, 3);
    td_tensor *parts[] = { td_add(a, b),
                           td_sub(a, b),
                           td_mul(a, b),
                           td_maximum(a, b),
                           td_less(a, b),
                           td_equal(a, b),
                           td_where(td_less(a, b), a, b),
                           td_affine(a, -0.75, 2),
                           td_neg(a),
                           td_abs(b),
                           td_sign(a),
                           td_cumsum(a, 1, true),
                           td_sum(a, 0),
                           td_max(a, 0),
                           td_pad(b, 0, 1, 1),
                           emit("copy", a, 0, 0, 0),
                           td_gather(a, td_full(g, TD_I32, (const int64_t[]){ 1 }, 1, 1)),
                           td_cast(td_floor(td_cast(b, TD_REAL)), TD_I32) };
    return td_cast(td_concat(parts, sizeof parts / sizeof parts[0], 0), TD_REAL);
}

#define ALL_MASKS (CAUSAL | SEGMENTS | INPUTS_ | INDICES | SELF | WINDOW)
/* One operand: a matrix and a single element. Two: equal dims, broadcast to both sides, against a
 * scalar, of other ranks. Kernels have a separate path for each. */
/* clang-format off */
#define UNARY_CASES(name, low, high) \
    { #name, "3x5", low, high, build_##name, 0, false }, \
    { #name, "1", low, high, build_##name, 0, false }
#define BINARY_CASES(name, low, high) \
    { #name, "3x5,3x5", low, high, build_##name, 0, false }, \
    { #name, "2x1x7,3x1", low, high, build_##name, 0, false }, \
    { #name, "5,-", low, high, build_##name, 0, false }, \
    { #name, "1x3,2x1x3", low, high, build_##name, 0, false }
/* clang-format on */

static const td_op_case cases[] = {
    UNARY_CASES(neg, -2, 2),
    UNARY_CASES(exp, -2, 2),
    UNARY_CASES(log, 0.5, 3),
    UNARY_CASES(sqrt, 0.5, 3),
    UNARY_CASES(rsqrt, 0.5, 3),
    UNARY_CASES(sin, -3, 3),
    UNARY_CASES(cos, -3, 3),
    UNARY_CASES(tanh, -2, 2),
    UNARY_CASES(sigmoid, -4, 4),
    UNARY_CASES(abs, -2, 2),
    UNARY_CASES(affine, -2, 2),
    BINARY_CASES(add, -2, 2),
    BINARY_CASES(sub, -2, 2),
    BINARY_CASES(mul, -2, 2),
    BINARY_CASES(div, 0.5, 2),
    BINARY_CASES(maximum, -2, 2),
    BINARY_CASES(where, -2, 2),
    { "copy", "3x5x2", -2, 2, build_copy, 0, false },
    { "reshape", "3x5x2", -2, 2, build_reshape, 0, false },
    { "permute", "3x5x2", -2, 2, build_permute, 0, false },
    { "expand", "1x7x1", -2, 2, build_expand, 0, false },
    { "pad", "3x5", -2, 2, build_pad, 0, false },
    { "pad", "3x5", -2, 2, build_pad, 1, false },
    { "slice", "3x5", -2, 2, build_slice, 0, false },
    { "slice", "3x5", -2, 2, build_slice, 1, false },
    { "concat", "2x3,5x3,1x3", -2, 2, build_concat, 0, false },
    { "concat", "3x2,3x1,3x7", -2, 2, build_concat, 1, false },
    { "sum", "3x5x2", -2, 2, build_sum, 2, false },
    { "sum", "3x5x2", -2, 2, build_sum, 5, false },
    { "sum", "31x37", -2, 2, build_sum, 3, false },
    { "max", "3x5x2", -2, 2, build_max, 1, false },
    { "max", "11x17", -2, 2, build_max, 1, false },
    { "cumsum", "3x5x2", -2, 2, build_cumsum, 0, false },
    { "cumsum", "3x5x2", -2, 2, build_cumsum, 5, false },
    { "cumsum", "7", -2, 2, build_cumsum, 0, false },
    { "topk", "3x7", -2, 2, build_topk, 1, false },
    { "topk", "3x7", -2, 2, build_topk, 3, false },
    { "topk", "2x2x5", -2, 2, build_topk, 5, false },
    { "gather", "5x3", -2, 2, build_gather, 0, false },
    { "gather", "5", -2, 2, build_gather, 0, false },
    { "scatter_add", "2x3x7", -2, 2, build_scatter, 0, false },
    { "scatter_add", "2x3x7,5x7", -2, 2, build_scatter, 1, false },
    { "matmul", "3x5,5x7", -2, 2, build_matmul, 0, false },
    { "grouped_matmul", "11x3,5x3x7", -2, 2, build_grouped_matmul, 0, false },
    { "grouped_matmul", "11x3,5x7x3", -2, 2, build_grouped_matmul, 1, false },
    { "grouped_matmul", "13x3,3x3x2", -2, 2, build_grouped_matmul, 2, false },
    { "grouped_matmul", "1x5,1x5x3", -2, 2, build_grouped_matmul, 0, false },
    { "grouped_outer", "11x3,11x7", -2, 2, build_grouped_outer, 0, false },
    { "grouped_outer", "3x5,3x2,5x5x2", -2, 2, build_grouped_outer, 1, false },
    { "grouped_outer", "13x3,13x1", -2, 2, build_grouped_outer, 2, false },
    { "grouped_outer", "3x5,3x2", -2, 2, build_grouped_outer, 0, false },
    { "matmul", "1x1,1x1", -2, 2, build_matmul, 0, false },
    { "matmul", "2x1x3x5,1x3x5x2", -2, 2, build_matmul, 0, false },
    { "matmul", "17x31,31x13", -2, 2, build_matmul, 0, false },
    { "matmul", "2x5x3,2x7x5", -2, 2, build_transposed, 0, false },
    { "matmul", "3x5,5x7,3x7", -2, 2, build_product_sum, 0, false },
    { "softmax", "3x5", -2, 2, build_softmax, 0, false },
    { "softmax", "2x3x17", -2, 2, build_softmax, 0, false },
    { "sum_squares", "3x5", -2, 2, build_sum_squares, 0, false },
    { "sum_squares", "1", -2, 2, build_sum_squares, 0, false },
    { "activation", "3x5", -2, 2, build_activation, TD_SILU, false },
    { "activation", "3x5", -2, 2, build_activation, TD_GELU, false },
    { "activation", "3x5", -2, 2, build_activation, TD_RELU, false },
    { "activation", "17", -2, 2, build_activation, TD_RELU2, false },
    { "activation", "3x5", -2, 2, build_activation, TD_SIGMOID, false },
    { "glu", "3x5,3x5", -2, 2, build_glu, TD_SILU, false },
    { "glu", "3x17,3x17", -2, 2, build_glu, TD_GELU, false },
    { "glu", "1,1", -2, 2, build_glu, TD_RELU, false },
    { "rms_norm", "3x5", -2, 2, build_rms, 0, false },
    { "rms_norm", "2x3x17,17", -2, 2, build_rms, 1, false },
    { "layer_norm", "3x5", -2, 2, build_layer, 0, false },
    { "layer_norm", "3x17,17", -2, 2, build_layer, 1, false },
    { "layer_norm", "2x3x5,5,5", -2, 2, build_layer, 2, false },
    { "rope", "2x3x7x6", -2, 2, build_rope_data, 0, false },
    { "dropout", "3x5x7", -2, 2, build_dropout, 0, false },
    { "dropout", "3x5x7", -2, 2, build_dropout, 2, false },
    { "dropout", "2x5x7", -2, 2, build_dropout, 4, false },
    { "dropout", "3", -2, 2, build_dropout, 0, false },
    { "cross_entropy", "5x3,7x3", -2, 2, build_cross_entropy, 0, false },
    { "cross_entropy", "5x3,7x3", -2, 2, build_cross_entropy, 1, false },
    { "cross_entropy", "5x11,13x11", -1, 1, build_cross_entropy, 3, false },
    { "cross_entropy", "5x3,7x3", -2, 2, build_cross_entropy, 4, false },
    { "cross_entropy", "5x11,13x11", -1, 1, build_cross_entropy, 7, false },
    { "attend", "2x2x7x3,2x2x7x3,2x2x7x5", -1, 1, build_attend, 0, false },
    { "attend", "2x4x7x3,2x2x7x3,2x2x7x3", -1, 1, build_attend, CAUSAL, false },
    { "attend", "2x3x7x5,2x1x7x5,2x1x7x2", -1, 1, build_attend, ALL_MASKS, false },
    { "attend", "2x2x7x3,2x2x7x3,2x2x7x3", -1, 1, build_attend, CAUSAL | SEGMENTS | INDICES,
      false },
    { "attend", "2x2x7x3,2x2x7x3,2x2x7x3,2x5", -1, 1, build_attend, ALL_MASKS | TABLE, false },
    { "attend", "2x2x7x3,2x2x7x3,2x2x7x3,2x2x7x7", -1, 1, build_attend, CAUSAL | DENSE, false },
    { "attend", "2x2x7x3,2x2x7x3,2x2x7x3,1x2x7x7", -1, 1, build_attend, SEGMENTS | DENSE, false },
    { "attend", "1x2x3x5,1x2x5x5,1x2x5x3", -1, 1, build_cross, 0, false },
    { "attend", "2x2x7x3,2x2x7x3,2x2x7x3", -1, 1, build_attend, CAUSAL | LENGTHS, false },
    { "attend", "2x4x7x3,2x2x7x3,2x2x7x5,4x5", -1, 1, build_attend, ALL_MASKS | TABLE | LENGTHS,
      false },
    { "attend", "2x2x7x3,2x2x7x3,2x2x7x3,2x2x7x7", -1, 1, build_attend, DENSE | LENGTHS, false },
    { "attend", "2x4x7x3,2x2x7x3,2x2x7x5", -2, 2, build_attend, CAP, false },
    { "attend", "2x2x7x3,2x2x7x3,2x2x7x3,2x5", -2, 2, build_attend, ALL_MASKS | TABLE | CAP,
      false },
    { "attend", "2x2x7x3,2x2x7x3,2x2x7x3,2x2x7x7", -2, 2, build_attend,
      CAUSAL | DENSE | LENGTHS | CAP, false },
    { "attend", "2x2x3x5,2x2x11x5,2x2x11x3", -1, 1, build_attend_held, 11000, false },
    { "attend", "2x2x1x5,2x2x11x5,2x2x11x3", -1, 1, build_attend_held, 7001, false },
    /* without gradients */
    { "sign", "3x5", -2, 2, build_sign, 0, true },
    { "floor", "3x5", -2, 2, build_floor, 0, true },
    { "less", "3x5,5", -2, 2, build_less, 0, true },
    { "equal", "3x5,5", -2, 2, build_equal, 0, true },
    { "iota", "3x5", -2, 2, build_iota, 5, true },
    { "detach", "3x5", -2, 2, build_detach, 0, true },
    { "rope", "2x3x7x6,2x7x3,2x7x3", -2, 2, build_rope, 0, true },
    { "cumsum", "-", -2, 2, build_integers, 0, true },
    { "adamw_step", "5x3,5x3,5x3,5x3", 0.25, 2, build_adamw, 1, true },
    { "adamw_step", "5x3,5x3,5x3,5x3", 0.25, 2, build_adamw, 0, true },
    { "adafactor_moment", "5x7,5x7", 0.25, 2, build_moment, 1, true },
    { "adafactor_moment", "5x7,5x7", 0.25, 2, build_moment, 0, true },
    { "adafactor_step", "5x3,5x3,5x3,5x3", 0.25, 2, build_adafactor, 1, true },
    { "adafactor_step", "5x3,5x3,5x3,5x3", 0.25, 2, build_adafactor, 3, true },
    { "adafactor_step", "5x3,5x3,5x3,5x3", 0.25, 2, build_adafactor, 0, true },
    { "assign", "3x5,5x3", -1, 1, build_assign, 1, true },
    { "assign", "3x5,5x3", -1, 1, build_assign, 0, true },
    { "append", "3x11x2,3x4x2", -1, 1, build_append, 1, true },
    { "append", "3x2x11x5,3x2x4x5", -1, 1, build_append, 2, true },
    { "append", "3x11,3x4", -1, 1, build_append, 1, true },
    { "append", "3x5x2,3x4x2", -1, 1, build_append_ring, 1, true },
    { "append", "3x2x5x3,3x2x4x3", -1, 1, build_append_ring, 2, true },
    { "append", "-", -1, 1, build_append_integers, 0, true },
};

enum { CASES = sizeof cases / sizeof cases[0] };

#endif
