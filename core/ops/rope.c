/* rope.c - rotary position embedding, half-split layout. Paper: Su et al., "RoFormer", 2021.
 *
 * The angles are an input: whatever a position plugin does to frequencies and positions, the
 * rotation is the same.
 */
#include "define.h"

static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    const td_tensor *x = in[0];
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    if (!td_is_real(x) || in[1]->dtype != x->dtype || in[2]->dtype != x->dtype)
        return td_fail(error, TD_EGRAPH, "the input, cosines and sines must be reals of one dtype");
    if (x->rank != 4 || x->dim[3] % 2)
        return td_fail(error, TD_EGRAPH,
                       "the input must be [B, H, T, E] with an even E; it has rank %d and E = %lld",
                       x->rank, (long long)td_dim(x, -1));
    /* one angle for each pair of a token, the same for all heads */
    for (int k = 1; k < 3; k++)
        if (in[k]->rank != 3 || in[k]->dim[0] != x->dim[0] || in[k]->dim[1] != x->dim[2] ||
            in[k]->dim[2] != x->dim[3] / 2)
            return td_fail(error, TD_EGRAPH,
                           "cosines and sines must be [B, T, E/2] = [%lld, %lld, %lld]",
                           (long long)x->dim[0], (long long)x->dim[2], (long long)x->dim[3] / 2);
    return td_infer_same(in, n, a, out, error);
}

/* A rotation's transpose is the rotation by the opposite angle. */
static void vjp(TD_VJP_PARAMETERS)
{
    td_tensor *inputs[] = { grad_out[0], in[1], in[2] };
    td_attrs   back = *a;
    back.i[0] = !a->i[0];
    grad_in[0] = td_emit_("rope", inputs, 3, &back);
}

/*     (u, v) -> (u cos - v sin, v cos + u sin); back with -sin */
static void lower(td_graph *g, td_tensor *const *in, int n, const td_attrs *a, const bool *used,
                  td_tensor **out)
{
    int64_t    half = in[0]->dim[3] / 2, dims[] = { in[1]->dim[0], 1, in[1]->dim[1], half };
    td_tensor *c = td_reshape(in[1], dims, 4), *s = td_reshape(in[2], dims, 4);
    /* pairs are (i, i + E/2), as in Llama, not (2i, 2i + 1), as in the paper */
    td_tensor *u = td_slice(in[0], 3, 0, half), *v = td_slice(in[0], 3, half, half), *parts[2];
    if (a->i[0])
        s = td_neg(s);
    parts[0] = td_sub(td_mul(u, c), td_mul(v, s));
    parts[1] = td_add(td_mul(v, c), td_mul(u, s));
    out[0] = td_concat(parts, 2, 3);
}

/* Two products and a sum for each element. */
static void flops(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                  double pairs, td_flops *f)
{
    f->elementwise = 3.0 * (double)td_count(in[0]);
}

TD_DEFINE_OP(td_op_rope, "rope", 3, 3, "rotate halves by position", .infer = infer, .vjp = vjp,
             .lower = lower, .flops = flops);
