/* cross_entropy.cu - cross-entropy over the projection to the vocabulary, with z-loss (PaLM, 2022)
 * and label smoothing as in T5X. The formula is td_cross_entropy's in ops.h.
 *
 * Rows are processed in chunks: a product computes the chunk's logits in float, a block for each
 * row computes its statistics and the gradients of its logits, and two products pass these on.
 * Gradients of f32 hidden states take the logits' place; those of bf16 are rounded to operands of
 * the products. Rows of weight 0 do not count, whatever they hold: they enter the products as
 * zeros.
 */
#include <math_constants.h>

#include "device.cuh"
#include "kernels.h"
#include "tandem/ops.h"

/* The most logits in a chunk, unless one row has more. Blocks are so large that the rows being
 * processed fit into the L2 cache, from which they are read again. */
enum { CHUNK_LOGITS = 1 << 27, ROW_THREADS = 1024 };

/* The number of rows in a chunk, which depends only on dims. */
static int64_t chunk_rows(int64_t rows, int64_t vocab)
{
    int64_t n = CHUNK_LOGITS / (vocab ? vocab : 1);
    n = n > 128 ? n / 128 * 128 : n < 1 ? 1 : n;
    return n < rows ? n : rows;
}

typedef struct ce_args {
    const float *weights, *divisor;
    const int   *labels;
    td_reals     hidden, copy, gradient; /* hidden states, the chunk's, its logits' gradients */
    float       *logits;                 /* of the chunk */
    float       *nll;                    /* [rows], or NULL */
    double      *losses, *sums;          /* [rows] */
    int64_t      rows, first, width, vocab;
    float        cap, z_loss, on, off, entropy;
    bool         gradients;
    int         *fault;
} ce_args;

/* Whether row n counts. */
__device__ inline bool counts(const ce_args &a, int64_t n)
{
    return a.weights[n] != 0 && a.labels[n] >= 0 && a.labels[n] < a.vocab;
}

/* The chunk's hidden states, zeros for rows that do not count. Block (row). */
__global__ void copy_rows(ce_args a)
{
    int64_t n = a.first + blockIdx.x;
    bool    wanted = counts(a, n);
    if (threadIdx.x == 0 && !wanted && a.weights[n] != 0)
        *a.fault = 1;
    for (int64_t d = threadIdx.x; d < a.width; d += TD_CUDA_THREADS)
        td_set(a.copy, blockIdx.x * a.width + d, wanted ? td_get(a.hidden, n * a.width + d) : 0);
}

/* A thread's share of a row: its largest logit, sum e^(z - top), sum z. */
typedef struct share {
    float  top, sum;
    double z_sum;
} share;

/* When a larger logit comes, the sum so far shrinks by e^(old - new). Four logits at a time. */
__device__ inline void take_four(share &s, const float (&z)[4])
{
    float top = fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3]));
    if (top > s.top) {
        s.sum *= expf(s.top - top);
        s.top = top;
    }
    for (int k = 0; k < 4; k++)
        s.sum += z[k] == -CUDART_INF_F ? 0 : expf(z[k] - s.top);
    s.z_sum += (z[0] + z[1]) + (z[2] + z[3]);
}

__device__ inline void load_four(float (&to)[4], const float *z, bool aligned)
{
    if (aligned) {
        float4 x = *(const float4 *)z;
        to[0] = x.x;
        to[1] = x.y;
        to[2] = x.z;
        to[3] = x.w;
    } else
        for (int k = 0; k < 4; k++)
            to[k] = z[k];
}

__device__ inline share share_of(const float *z, int64_t vocab)
{
    share s = { -CUDART_INF_F, 0, 0 };
    bool  aligned = vocab % 4 == 0;
    for (int64_t v = 4 * (int64_t)threadIdx.x; v + 4 <= vocab; v += 4 * ROW_THREADS) {
        float four[4];
        load_four(four, z + v, aligned);
        take_four(s, four);
    }
    if (threadIdx.x < vocab % 4) {
        float  x = z[vocab - 1 - threadIdx.x];
        float  four[4] = { x, -CUDART_INF_F, -CUDART_INF_F, -CUDART_INF_F };
        /* -infinity adds nothing to the sum of exponentials, but would to that of logits */
        double z_sum = s.z_sum;
        take_four(s, four);
        s.z_sum = z_sum + x;
    }
    return s;
}

/* w (log Z - sum_v t_v z_v + sum_v t_v log t_v + z_loss (log Z)^2) of a row. */
__device__ inline void store_losses(const ce_args &a, int64_t n, bool wanted, float log_z,
                                    float z_y, double z_sum)
{
    double w = wanted ? a.weights[n] : 0;
    double target = (double)(a.on - a.off) * z_y + a.off * z_sum;
    a.losses[n] = wanted ? w * (log_z - target + a.entropy + (double)a.z_loss * log_z * log_z) : 0;
    a.sums[n] = wanted ? w * ((double)log_z - z_y) : 0;
    if (a.nll)
        a.nll[n] = log_z - z_y;
}

/* Logits of a row under the cap, in their place. */
__device__ inline void cap_logits(const ce_args &a, float *z)
{
    for (int64_t v = threadIdx.x; v < a.vocab; v += ROW_THREADS)
        z[v] = a.cap * tanhf(z[v] / a.cap);
    __syncthreads();
}

/* The slope of the cap, from a logit under it. */
__device__ inline float cap_slope(const ce_args &a, float z)
{
    float share = z / a.cap;
    return 1 - share * share;
}

/* dz = w/divisor (p (1 + 2 z_loss log Z) - t) of a row; with a cap, times its slope. */
__device__ inline void store_gradients(const ce_args &a, const float *z, int64_t n, bool wanted,
                                       float log_z)
{
    int64_t row = blockIdx.x * a.vocab;
    float   by = wanted ? a.weights[n] / td_scalar_at(a.divisor, 1) : 0;
    float   p = by * (1 + 2 * a.z_loss * log_z);
    int     label = wanted ? a.labels[n] : 0;
    bool    vectors = a.vocab % TD_VECTOR == 0;
    for (int64_t v = TD_VECTOR * (int64_t)threadIdx.x; vectors && v < a.vocab;
         v += TD_VECTOR * ROW_THREADS) {
        float    x[TD_VECTOR];
        td_reals from = { a.logits, false };
        td_get_some<TD_VECTOR>(from, row + v, x);
        for (int k = 0; k < TD_VECTOR; k++) {
            float slope = a.cap > 0 ? cap_slope(a, x[k]) : 1;
            x[k] = wanted ? p * expf(x[k] - log_z) - by * (v + k == label ? a.on : a.off) : 0;
            x[k] *= slope;
        }
        td_set_some<TD_VECTOR>(a.gradient, row + v, x);
    }
    for (int64_t v = threadIdx.x; !vectors && v < a.vocab; v += ROW_THREADS) {
        float slope = a.cap > 0 ? cap_slope(a, z[v]) : 1;
        float dz = wanted ? p * expf(z[v] - log_z) - by * (v == label ? a.on : a.off) : 0;
        td_set(a.gradient, row + v, dz * slope);
    }
}

/* Losses of a row, and its logits' gradients. Block (row). */
__global__ void row_losses(ce_args a)
{
    int64_t      n = a.first + blockIdx.x;
    const float *z = a.logits + blockIdx.x * a.vocab;
    bool         wanted = counts(a, n);
    share        s = { -CUDART_INF_F, 0, 0 };
    float        top, log_z, z_y;
    double       sum, z_sum;

    if (wanted && a.cap > 0)
        cap_logits(a, a.logits + blockIdx.x * a.vocab);
    if (wanted)
        s = share_of(z, a.vocab);
    top = td_block_reduce(s.top, td_larger());
    sum = td_block_sum((double)(s.sum == 0 ? 0 : s.sum * expf(s.top - top)));
    z_sum = td_block_sum(s.z_sum);
    log_z = wanted ? top + (float)log(sum) : 0;
    z_y = wanted ? z[a.labels[n]] : 0;
    if (threadIdx.x == 0)
        store_losses(a, n, wanted, log_z, z_y, z_sum);
    if (!a.gradients)
        return;
    __syncthreads(); /* the label's logit has been read: gradients may now overwrite the logits */
    store_gradients(a, z, n, wanted, log_z);
}

/* If all weights are 0, the divisor may also be 0, and the loss is 0, not NaN. One block. */
__global__ void total_losses(ce_args a, float *loss, float *sum)
{
    double l = 0, s = 0;
    int    any = 0;
    for (int64_t n = threadIdx.x; n < a.rows; n += TD_CUDA_THREADS) {
        l += a.losses[n];
        s += a.sums[n];
        any |= a.weights[n] != 0;
    }
    l = td_block_sum(l);
    s = td_block_sum(s);
    any = __syncthreads_or(any);
    if (threadIdx.x)
        return;
    if (loss)
        *loss = any ? (float)(l / td_scalar_at(a.divisor, 1)) : 0;
    if (sum)
        *sum = (float)s;
}

/* The workspace: logits, their gradients in bf16, and hidden states of a chunk, losses and sums of
 * all rows. */
typedef struct ce_parts {
    size_t gradient, copy, losses, sums, bytes;
} ce_parts;

static ce_parts parts_of(const td_view *hidden, int64_t vocab)
{
    int64_t  rows = hidden->dim[0], chunk = chunk_rows(rows, vocab);
    size_t   list = td_cuda_align((size_t)rows * sizeof(double)), logits = (size_t)(chunk * vocab);
    size_t   size = (size_t)td_cuda_size(hidden);
    ce_parts p;
    p.gradient = td_cuda_align(logits * sizeof(float));
    p.copy = p.gradient + (size == 2 ? td_cuda_align(logits * size) : 0);
    p.losses = p.copy + td_cuda_align((size_t)(chunk * hidden->dim[1]) * size);
    p.sums = p.losses + list;
    p.bytes = p.sums + list;
    return p;
}

size_t td_cuda_cross_entropy_workspace(const td_call *call)
{
    return parts_of(&call->in[TD_CE_HIDDEN], call->in[TD_CE_EMBEDDING].dim[0]).bytes;
}

/* The gradient of the embedding is a sum, so it is in float, like its start value. */
bool td_cuda_accepts_cross_entropy(const td_call *call)
{
    const td_view *acc = td_cuda_in(call, TD_CE_ACC), *de = td_cuda_out(call, TD_CE_GRAD_EMBEDDING);
    return call->in[TD_CE_HIDDEN].rank == 2 && call->in[TD_CE_EMBEDDING].rank == 2 &&
           (!acc || acc->dtype == TD_F32) && (!de || de->dtype == TD_F32);
}

static float *wanted(const td_call *call, int k)
{
    const td_view *v = td_cuda_out(call, k);
    return v ? (float *)v->data : NULL;
}

static ce_args ce_args_of(const td_call *call)
{
    const td_view *h = &call->in[TD_CE_HIDDEN];
    double         s = call->attrs->f[2];
    ce_args        a = {};
    ce_parts       p;
    char          *workspace = (char *)call->workspace;

    a.rows = h->dim[0];
    a.width = h->dim[1];
    a.vocab = call->in[TD_CE_EMBEDDING].dim[0];
    p = parts_of(h, a.vocab);
    a.hidden = td_reals_of(h);
    a.labels = (const int *)call->in[TD_CE_LABELS].data;
    a.weights = (const float *)call->in[TD_CE_WEIGHTS].data;
    a.divisor = td_cuda_scalar(call, TD_CE_DIVISOR);
    a.logits = (float *)workspace;
    /* in float32 the gradients of logits replace them; in bf16 they have memory of their own */
    a.gradient = a.copy = a.hidden;
    a.gradient.data = workspace + (a.hidden.narrow ? p.gradient : 0);
    a.copy.data = workspace + p.copy;
    a.losses = (double *)(workspace + p.losses);
    a.sums = (double *)(workspace + p.sums);
    a.nll = wanted(call, TD_CE_NLL);
    a.z_loss = (float)call->attrs->f[1];
    a.cap = (float)call->attrs->f[3];
    a.on = (float)(1 - s);
    a.off = a.vocab > 1 ? (float)(s / (double)(a.vocab - 1)) : 0;
    if (s > 0 && a.vocab > 1)
        a.entropy = (float)((1 - s) * log(1 - s) + s * log(s / (double)(a.vocab - 1)));
    a.gradients = td_cuda_out(call, TD_CE_GRAD_HIDDEN) || td_cuda_out(call, TD_CE_GRAD_EMBEDDING);
    a.fault = td_cuda_of(call)->faults_seen + TD_CUDA_BAD_ID;
    return a;
}

/* A dense matrix of operands, of the hidden states' dtype. */
static td_cuda_matrix operand_of(const ce_args *a, void *data, int64_t width)
{
    td_cuda_matrix m = { data, width, 1, 0, a->hidden.narrow != 0 };
    return m;
}

static td_cuda_matrix transposed(td_cuda_matrix m)
{
    td_cuda_matrix t = { m.data, m.column, m.row, m.batch, m.narrow };
    return t;
}

static int hidden_gradient(const td_call *call, const ce_args *a, int64_t n)
{
    const td_view *dh = td_cuda_out(call, TD_CE_GRAD_HIDDEN);
    td_cuda_matrix dz = operand_of(a, a->gradient.data, a->vocab), none = {};
    td_cuda_matrix e = operand_of(a, call->in[TD_CE_EMBEDDING].data, a->width);
    td_cuda_matrix to = { NULL, a->width, 1, 0, false };
    if (!dh)
        return 0;
    to.narrow = dh->dtype == TD_BF16;
    to.data = (char *)dh->data + a->first * a->width * td_cuda_size(dh);
    return td_cuda_gemm(td_cuda_of(call), n, a->width, a->vocab, 1, (float)call->attrs->f[0], dz, e,
                        0, none, to);
}

/* In the first chunk the sum starts from the accumulator, in later ones from itself. */
static int embedding_gradient(const td_call *call, const ce_args *a, int64_t n)
{
    const td_view *acc = td_cuda_in(call, TD_CE_ACC);
    td_cuda_matrix dz = operand_of(a, a->gradient.data, a->vocab);
    td_cuda_matrix h = operand_of(a, a->copy.data, a->width);
    td_cuda_matrix to = { wanted(call, TD_CE_GRAD_EMBEDDING), a->width, 1, 0, false }, from = to;
    if (!to.data)
        return 0;
    if (!a->first)
        from.data = acc ? acc->data : NULL;
    return td_cuda_gemm(td_cuda_of(call), a->vocab, a->width, n, 1, (float)call->attrs->f[0],
                        transposed(dz), h, from.data ? 1 : 0, from, to);
}

static int run_chunk(const td_call *call, const ce_args *a, int64_t n)
{
    td_cuda       *cuda = td_cuda_of(call);
    td_cuda_matrix z = { a->logits, a->vocab, 1, 0, false }, none = {};
    td_cuda_matrix h = operand_of(a, a->copy.data, a->width);
    td_cuda_matrix e = operand_of(a, call->in[TD_CE_EMBEDDING].data, a->width);
    int            code;

    copy_rows<<<(unsigned)n, TD_CUDA_THREADS, 0, cuda->stream>>>(*a);
    if (td_cuda_launched(cuda))
        return TD_EIO;
    code = td_cuda_gemm(cuda, n, a->vocab, a->width, 1, (float)call->attrs->f[0], h, transposed(e),
                        0, none, z);
    if (code)
        return code;
    row_losses<<<(unsigned)n, ROW_THREADS, 0, cuda->stream>>>(*a);
    if (td_cuda_launched(cuda))
        return TD_EIO;
    /* an evaluation reads only the losses */
    if (!a->gradients)
        return 0;
    code = hidden_gradient(call, a, n);
    return code ? code : embedding_gradient(call, a, n);
}

/* No rows: the gradient of the embedding is the accumulator, or 0. */
static int without_rows(const td_call *call)
{
    const td_view *de = td_cuda_out(call, TD_CE_GRAD_EMBEDDING), *acc = td_cuda_in(call, TD_CE_ACC);
    td_cuda       *cuda = td_cuda_of(call);
    if (de && !acc)
        return td_cuda_fill(cuda, de, 0);
    if (de && acc->data != de->data)
        return cudaMemcpyAsync(de->data, acc->data, (size_t)td_cuda_count(de) * sizeof(float),
                               cudaMemcpyDeviceToDevice, cuda->stream)
                   ? TD_EIO
                   : 0;
    return 0;
}

int td_cuda_cross_entropy(const td_call *call)
{
    td_cuda *cuda = td_cuda_of(call);
    ce_args  a = ce_args_of(call);
    int64_t  chunk = chunk_rows(a.rows, a.vocab);
    int      code = a.rows ? 0 : without_rows(call);

    /* in chunks: the logits of all rows would be the largest tensor of a step */
    for (a.first = 0; a.first < a.rows && !code; a.first += chunk)
        code = run_chunk(call, &a, a.rows - a.first < chunk ? a.rows - a.first : chunk);
    if (code)
        return code;
    total_losses<<<1, TD_CUDA_THREADS, 0, cuda->stream>>>(a, wanted(call, TD_CE_LOSS),
                                                          wanted(call, TD_CE_SUM));
    return td_cuda_launched(cuda);
}
