/* chunks.h - the two ops of linear attention: products of queries, keys and values by chunks, and
 * the feature map.
 *
 * They are ops, not functions that emit primitives, for the sake of memory: the gradient of each
 * is written in the op itself, so the backward pass recomputes the inner tensors and the forward
 * pass keeps none of them. */
#ifndef TANDEM_PLUGINS_CHUNKS_H
#define TANDEM_PLUGINS_CHUNKS_H

#include "tandem/kind/op.h"
#include "tandem/layers.h"

/* ---- chunk_attend ----------------------------------------------------------------------------
 *
 *     o_i = sum_j M_ij (q_i . k_j) v_j
 *
 * for queries and keys in N chunks of C: q, k [B, H, N, C, E], v [B, H, N, C, F]. M is 0 or 1.
 * Within a chunk it is the matrix `see` [B, 1, N, C, C]. Across chunks it is the sum of up to two
 * links, each of which factors, so that chunks need only exchange their states, sums of k v^T:
 *
 *     M_ij = take_i which_(chunk of i, chunk of j) give_j
 *
 * with which [B, 1, N, N], give and take [B, 1, N, C, 1]. "chunk_attend": i[0] 1: M is transposed.
 *
 * Let w be the gradient of o, and op' the op with M transposed. The gradients are the same op
 * again:
 *     dq = op(w, v, k),  dk = op'(v, w, q),  dv = op'(k, q, w)
 */
enum {
    CHUNK_Q,
    CHUNK_K,
    CHUNK_V,
    CHUNK_SEE,
    CHUNK_LINK, /* which, give, take */
    CHUNK_SECOND_LINK = CHUNK_LINK + 3,
    CHUNK_INPUTS = CHUNK_SECOND_LINK + 3
};

struct link {
    td_tensor *which, *give, *take; /* all NULL: chunks see nothing in that direction */
};

/* M in its factors. */
struct chunk_mask {
    td_tensor  *see;
    struct link link[2];
};

/* rest: the inputs of another chunk_attend, whose mask is used. */
static inline td_tensor *chunk_emit(td_tensor *const *rest, td_tensor *q, td_tensor *k,
                                    td_tensor *v, bool transposed)
{
    td_tensor *in[CHUNK_INPUTS] = { q, k, v };
    td_attrs   a;
    memset(&a, 0, sizeof a);
    a.i[0] = transposed;
    for (int i = CHUNK_SEE; i < CHUNK_INPUTS; i++)
        in[i] = rest[i];
    return td_emit(q->graph, "chunk_attend", in, CHUNK_INPUTS, &a);
}

/* Output [B, H, N, C, F]. */
static inline td_tensor *chunk_attend(const struct chunk_mask *m, td_tensor *q, td_tensor *k,
                                      td_tensor *v)
{
    td_tensor *in[CHUNK_INPUTS] = { NULL };
    in[CHUNK_SEE] = m->see;
    for (int l = 0; l < 2; l++) {
        in[CHUNK_LINK + 3 * l] = m->link[l].which;
        in[CHUNK_LINK + 3 * l + 1] = m->link[l].give;
        in[CHUNK_LINK + 3 * l + 2] = m->link[l].take;
    }
    return chunk_emit(in, q, k, v, false);
}

/* 0 if x has these dims (-1: any) and the dtype of q. */
static int has_dims(const td_tensor *x, const td_tensor *q, const char *what, const int64_t *dims,
                    int rank, td_error *error)
{
    bool same = x && x->dtype == q->dtype && x->rank == rank;
    for (int a = 0; same && a < rank; a++)
        same = dims[a] < 0 || x->dim[a] == dims[a];
    return same ? 0
                : td_fail(error, TD_EGRAPH, "%s: the dims or the dtype do not match the queries",
                          what);
}

/* The output has the dims of q, but the width of v. */
static int infer_chunks(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    const td_tensor *q = in[CHUNK_Q];
    if (!q || q->rank != 5 || q->dtype == TD_I32)
        return td_fail(error, TD_EGRAPH, "queries must be real [B, H, N, C, E]");
    const int64_t b = q->dim[0], chunks = q->dim[2], c = q->dim[3];
    const int64_t k[] = { b, q->dim[1], chunks, c, q->dim[4] },
                  v[] = { b, q->dim[1], chunks, c, -1 };
    const int64_t see[] = { b, 1, chunks, c, c }, which[] = { b, 1, chunks, chunks },
                  factor[] = { b, 1, chunks, c, 1 };
    if (has_dims(in[CHUNK_K], q, "keys", k, 5, error) ||
        has_dims(in[CHUNK_V], q, "values", v, 5, error) ||
        has_dims(in[CHUNK_SEE], q, "the mask within chunks", see, 5, error))
        return TD_EGRAPH;
    /* a link is whole or absent */
    for (int l = CHUNK_LINK; l < CHUNK_INPUTS; l += 3)
        if ((in[l] || in[l + 1] || in[l + 2]) &&
            (has_dims(in[l], q, "the mask between chunks", which, 4, error) ||
             has_dims(in[l + 1], q, "the factors of keys", factor, 5, error) ||
             has_dims(in[l + 2], q, "the factors of queries", factor, 5, error)))
            return TD_EGRAPH;
    out[0].dtype = q->dtype;
    out[0].rank = 5;
    memcpy(out[0].dim, q->dim, sizeof out[0].dim);
    out[0].dim[4] = in[CHUNK_V]->dim[4];
    return 1;
}

/* The three formulas above: no other op is needed, so second derivatives work too. */
static void vjp_chunks(td_tensor *const *in, int n, td_tensor *const *out,
                       td_tensor *const *grad_out, const td_attrs *a, const bool *need,
                       td_tensor **grad_in)
{
    td_tensor *q = in[CHUNK_Q], *k = in[CHUNK_K], *v = in[CHUNK_V], *w = grad_out[0];
    bool       turned = a->i[0] != 0;
    /* M is made of integers, so a caller who asks for its gradient has made a mistake */
    for (int i = CHUNK_SEE; i < CHUNK_INPUTS; i++)
        if (i < n && need[i])
            td_graph_fail(q->graph, "chunk_attend has no gradient for its mask: detach it with "
                                    "td_detach");
    if (need[CHUNK_Q])
        grad_in[CHUNK_Q] = chunk_emit(in, w, v, k, turned);
    if (need[CHUNK_K])
        grad_in[CHUNK_K] = chunk_emit(in, v, w, q, !turned);
    if (need[CHUNK_V])
        grad_in[CHUNK_V] = chunk_emit(in, k, q, w, !turned);
}

/* (factor x)^T y in each chunk. The factor belongs to a row, so it may scale either operand: scale
 * the narrower one, which is less work. */
static td_tensor *outer(td_tensor *x, td_tensor *y, td_tensor *factor)
{
    if (td_dim(x, -1) <= td_dim(y, -1))
        x = td_mul(x, factor);
    else
        y = td_mul(y, factor);
    return td_matmul(td_transpose(x, 3, 4), y);
}

/* factor (x y), scaled before or after the product, whichever is narrower. */
static td_tensor *inner(td_tensor *x, td_tensor *y, td_tensor *factor)
{
    return td_dim(x, -1) <= td_dim(y, -1) ? td_matmul(td_mul(x, factor), y)
                                          : td_mul(td_matmul(x, y), factor);
}

/* The contribution that other chunks' states make to queries. A state is flattened to one row,
 * so that a single product with `which` sums the states that each chunk sees. */
static td_tensor *across(td_tensor *const *in, const struct link *l)
{
    td_tensor *state = outer(in[CHUNK_K], in[CHUNK_V], l->give); /* [B, H, N, E, F] */
    int64_t flat[] = { state->dim[0], state->dim[1], state->dim[2], state->dim[3] * state->dim[4] };
    td_tensor *sums = td_matmul(l->which, td_reshape(state, flat, 4));
    return inner(in[CHUNK_Q], td_reshape(sums, state->dim, 5), l->take);
}

/* ((q k^T) * see) v within chunks, plus what each link brings. Nothing larger than [C, C] per chunk
 * and [E, F] per state is formed. */
static void lower_chunks(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                         const bool *used, td_tensor **out)
{
    bool       turned = a->i[0] != 0;
    td_tensor *see = turned ? td_transpose(in[CHUNK_SEE], 3, 4) : in[CHUNK_SEE];
    td_tensor *scores = td_matmul(in[CHUNK_Q], td_transpose(in[CHUNK_K], 3, 4));
    out[0] = td_matmul(td_mul(scores, see), in[CHUNK_V]);
    for (int at = CHUNK_LINK; at < CHUNK_INPUTS; at += 3) {
        /* transposed, which_NM swaps queries and keys, and so give_M and take_N */
        struct link l = { in[at], in[at + 1], in[at + 2] };
        if (l.which && turned)
            l = (struct link){ td_transpose(l.which, 2, 3), l.take, l.give };
        if (l.which)
            out[0] = td_add(out[0], across(in, &l));
    }
}

static void flops_chunks(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                         double pairs, td_flops *f)
{
    const td_tensor *q = in[CHUNK_Q];
    double c = (double)q->dim[3], e = (double)q->dim[4], width = (double)in[CHUNK_V]->dim[4],
           rows = (double)td_count(q) / e, links = 0;
    for (int at = CHUNK_LINK; at < CHUNK_INPUTS; at += 3)
        links += in[at] != NULL;
    /* per row: scores and values within its chunk; making and reading a state; and its part of the
     * N^2 additions of states that N C rows share */
    f->matmul = rows * (2 * c * (e + width) +
                        links * (4 * e * width + 2 * (double)q->dim[2] / c * e * width));
    f->visible = f->matmul;
    f->elementwise = rows * (c + 2 * links * (e + width));
}

/* Two chunks, of which the second reads the first; then the same with the mask transposed. */
static int example_chunks(td_graph *g, int n, td_tensor **in, td_attrs *attrs)
{
    enum { EB = 1, EH = 2, EN = 2, EC = 3, EE = 2, EF = 5 };
    const int64_t q[] = { EB, EH, EN, EC, EE }, v[] = { EB, EH, EN, EC, EF },
                  see[] = { EB, 1, EN, EC, EC }, which[] = { EB, 1, EN, EN },
                  factor[] = { EB, 1, EN, EC, 1 };
    /* some rows see nothing in their chunk, some give or take nothing: every factor matters */
    const double pairs[EN * EC * EC] = { 1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 1 };
    const double chunks[EN * EN] = { 0, 0, 1, 0 }, give[EN * EC] = { 0, 1, 1, 1, 1, 0 },
                             take[EN * EC] = { 1, 1, 1, 1, 1, 0 };
    if (n > 1)
        return 0;
    in[CHUNK_Q] = td_param(g, "q", q, 5, td_normal(1));
    in[CHUNK_K] = td_param(g, "k", q, 5, td_normal(1));
    in[CHUNK_V] = td_param(g, "v", v, 5, td_normal(1));
    in[CHUNK_SEE] = td_constant(g, TD_REAL, see, 5, pairs);
    in[CHUNK_LINK] = td_constant(g, TD_REAL, which, 4, chunks);
    in[CHUNK_LINK + 1] = td_constant(g, TD_REAL, factor, 5, give);
    in[CHUNK_LINK + 2] = td_constant(g, TD_REAL, factor, 5, take);
    attrs->i[0] = n;
    return CHUNK_INPUTS;
}

static const td_op chunk_attend_op = {
    .plugin = { .size = sizeof(td_op),
                .kind = TD_OP_KIND,
                .name = "chunk_attend",
                .option_size = sizeof(td_option),
                .brief = "masked (q k^T) v by chunks, without a matrix of all pairs" },
    .min_inputs = CHUNK_INPUTS,
    .max_inputs = CHUNK_INPUTS,
    .infer = infer_chunks,
    .vjp = vjp_chunks,
    .lower = lower_chunks,
    .flops = flops_chunks,
    .example = example_chunks,
};

/* ---- elu_plus_one ----------------------------------------------------------------------------
 *
 * y = elu(x) + 1: exp(x) below 0, x + 1 above. dy/dx = min(y, 1), so the backward pass needs only
 * y.
 */
static inline td_tensor *elu_plus_one(td_tensor *x)
{
    return td_emit(x->graph, "elu_plus_one", &x, 1, NULL);
}

static int infer_elu(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    if (!in[0] || in[0]->dtype == TD_I32)
        return td_fail(error, TD_EGRAPH, "needs a real tensor");
    out[0].dtype = in[0]->dtype;
    out[0].rank = in[0]->rank;
    memcpy(out[0].dim, in[0]->dim, sizeof out[0].dim);
    return 1;
}

static void vjp_elu(td_tensor *const *in, int n, td_tensor *const *out, td_tensor *const *grad_out,
                    const td_attrs *a, const bool *need, td_tensor **grad_in)
{
    td_tensor *one = td_scalar(in[0]->graph, 1);
    grad_in[0] = td_mul(grad_out[0], td_where(td_less(out[0], one), out[0], one));
}

static void lower_elu(td_graph *g, td_tensor *const *in, int n, const td_attrs *a, const bool *used,
                      td_tensor **out)
{
    td_tensor *below = td_less(in[0], td_scalar(g, 0));
    out[0] = td_where(below, td_exp(in[0]), td_affine(in[0], 1, 1));
}

static int example_elu(td_graph *g, int n, td_tensor **in, td_attrs *attrs)
{
    const int64_t dims[] = { 3, 7 };
    in[0] = n ? NULL : td_param(g, "x", dims, 2, td_normal(1));
    return n == 0;
}

static const td_op elu_plus_one_op = {
    .plugin = { .size = sizeof(td_op),
                .kind = TD_OP_KIND,
                .name = "elu_plus_one",
                .option_size = sizeof(td_option),
                .brief = "exp(x) below 0, x + 1 above" },
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = infer_elu,
    .vjp = vjp_elu,
    .lower = lower_elu,
    .example = example_elu,
};

#endif
