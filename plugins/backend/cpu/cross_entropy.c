/* cross_entropy.c - the loss over the projection to the vocabulary, with its gradients. The matrix
 * of all logits is never stored.
 *
 *     z = scale h E^T;  t = (1-s) onehot(y) + s/(V-1) elsewhere;  log Z = log sum_v e^(z_v)
 *     loss = w (log Z - sum_v t_v z_v + z_loss (log Z)^2 + sum_v t_v log t_v) / divisor
 *     dloss/dz = w/divisor (e^z/Z (1 + 2 z_loss log Z) - t)
 *
 * With a cap, z = cap tanh(scale h E^T / cap), and dloss/dz is multiplied by its slope, 1 -
 * (z/cap)^2.
 *
 * Rows of weight 0 are left out. The others are processed in chunks: logits, statistics, the
 * gradient of the logits in their place, and its products with embedding and hidden states. So the
 * forward pass does the work of the backward one, while the logits are there. Each row belongs to
 * one task, and sums over rows are taken in order.
 */
#include "cpu.h"
#include "kernels.h"

#include "tandem/ops.h"

enum { SPAN = 4096 }; /* logits summed in float; their sums are in double */

typedef struct ce_job {
    const td_view *hidden;
    td_view       *grad_hidden; /* `data` NULL: not wanted */
    const float   *weights;
    const int32_t *labels;
    int64_t        n, d, v;
    int64_t        chunk;       /* rows of a chunk, at most */
    int64_t        first, rows; /* of the present one: kept[first] .. */
    float          divisor, scale, cap, z_loss, smoothing;
    float          constant; /* the loss of a perfect prediction under smoothing, subtracted */
    bool           backward;
    float         *nll;
    /* in the workspace */
    double        *row_loss, *row_nll; /* of the kept rows */
    int32_t       *kept;               /* numbers of rows with a weight */
    float         *h, *dh, *logits;    /* of a chunk */
    int            threads;
    float         *exps; /* with a cap: [v] for each thread, as slopes need the logits themselves */
} ce_job;

/* Rows of a chunk: 64 MiB of logits, but at least 128 rows for an efficient product, and at most
 * 512, all chunks of about one size. */
static int64_t chunk_of(int64_t n, int64_t v)
{
    int64_t most = td_cpu_min(512, td_cpu_max(128, ((int64_t)1 << 24) / td_cpu_max(1, v)));
    return td_cpu_max(1, td_cpu_ceil(n, td_cpu_max(1, td_cpu_ceil(n, most))));
}

/* Parts of the workspace at `base`; returns their size. NULL: only that. */
static size_t lay_out(ce_job *j, char *base)
{
    size_t at = 0;
    size_t n = (size_t)j->n, rows = (size_t)j->chunk;
    size_t v = (size_t)j->v, exps = j->cap > 0 ? (size_t)j->threads * v * 4 : 0;
    size_t bytes[7] = { n * sizeof(double),
                        n * sizeof(double),
                        n * sizeof(int32_t),
                        rows * (size_t)j->d * 4,
                        rows * (size_t)j->d * 4,
                        rows * v * 4,
                        exps };
    char  *part[7];

    /* each part begins on a cache line */
    for (int i = 0; i < 7; i++) {
        part[i] = base ? base + at : NULL;
        at += td_cpu_align(bytes[i]);
    }
    j->row_loss = (void *)part[0];
    j->row_nll = (void *)part[1];
    j->kept = (void *)part[2];
    j->h = (void *)part[3];
    j->dh = (void *)part[4];
    j->logits = (void *)part[5];
    j->exps = (void *)part[6];
    return at;
}

/* By shapes and attributes alone, as the plan needs them before there are data. */
static ce_job sizes(const td_call *call)
{
    ce_job j = { .n = call->in[TD_CE_HIDDEN].dim[0],
                 .d = call->in[TD_CE_HIDDEN].dim[1],
                 .v = call->in[TD_CE_EMBEDDING].dim[0],
                 .cap = (float)call->attrs->f[3] };
    j.threads = j.cap > 0 ? call->services->threads : 0; /* each needs a row then */
    j.chunk = chunk_of(j.n, j.v);
    return j;
}

size_t td_cpu_cross_entropy_workspace(const td_call *call)
{
    ce_job j = sizes(call);
    return lay_out(&j, NULL);
}

/* ---- one row --------------------------------------------------------------------------------- */

TD_CPU_CLONES static float  row_max(const float *z, int64_t n) { return td_vtop(z, n); }
TD_CPU_CLONES static double row_sum(const float *z, int64_t n) { return td_vtotal(z, n); }

/* to = exp(z - top), which may be z itself; returns the sum. Lanes beyond the end hold exp(-top) and
 * are not summed. */
TD_CPU_CLONES static double row_exp(float *to, const float *z, int64_t n, float top)
{
    double total = 0;
    for (int64_t start = 0; start < n; start += SPAN) {
        int64_t end = td_cpu_min(n, start + SPAN), i = start;
        td_vf   sum = { 0 };
        for (; i + TD_LANES <= end; i += TD_LANES) {
            td_vf e = td_vexp(td_vload(z + i) - top);
            td_vstore(to + i, e);
            sum += e;
        }
        total += (double)td_vsum(sum);
        /* a span's last few: those lanes that exist are added in double */
        if (i < end) {
            td_vstore_n(to + i, td_vexp(td_vload_n(z + i, end - i) - top), end - i);
            for (; i < end; i++)
                total += (double)to[i];
        }
    }
    return total;
}

TD_CPU_CLONES static void row_affine(float *z, int64_t n, float scale, float shift)
{
    for (int64_t i = 0; i < n; i += TD_LANES)
        td_vstore_n(z + i, td_vload_n(z + i, n - i) * scale + shift, n - i);
}

TD_CPU_CLONES static void row_cap(float *z, int64_t n, float cap)
{
    for (int64_t i = 0; i < n; i += TD_LANES)
        td_vstore_n(z + i, cap * td_vtanh(td_vload_n(z + i, n - i) / cap), n - i);
}

/* z = g (1 - (z / cap)^2): the gradients of logits before the cap. */
TD_CPU_CLONES static void row_slope(float *z, const float *g, int64_t n, float cap)
{
    for (int64_t i = 0; i < n; i += TD_LANES) {
        td_vf share = td_vload_n(z + i, n - i) / cap;
        td_vstore_n(z + i, td_vload_n(g + i, n - i) * (1.0f - share * share), n - i);
    }
}

/* The gradients of a row's logits from e = e^(z - top), whose sum is known, in its memory: dividing
 * makes it the softmax; t's label is subtracted separately. Times `scale`: z = scale h E^T, but the
 * products that follow do not multiply by it. */
static void row_gradients(const ce_job *j, float *e, int32_t label, float weight, double sum,
                          double log_z)
{
    double s = (double)j->smoothing, other = s > 0 ? s / (double)(j->v - 1) : 0;
    double k = (double)(weight / j->divisor * j->scale);
    row_affine(e, j->v, (float)(k * (1 + 2 * (double)j->z_loss * log_z) / sum),
               (float)(-k * other));
    e[label] -= (float)(k * (1 - s - other));
}

/* The loss of row i of the chunk. Its logits become their gradients. */
static void ce_row(void *arg, int64_t i, int thread)
{
    const ce_job *j = arg;
    int64_t       at = j->first + i, row = j->kept[at];
    int32_t       label = j->labels[row];
    float        *z = j->logits + i * j->v, *e = j->cap > 0 ? j->exps + thread * j->v : z;
    float         top, z_y, weight = j->weights[row];
    double        s = (double)j->smoothing, other = s > 0 ? s / (double)(j->v - 1) : 0;
    double        sum, log_z, target;

    if (j->cap > 0)
        row_cap(z, j->v, j->cap);
    top = row_max(z, j->v);
    z_y = z[label];
    target = (double)z_y;
    /* sum_v t_v z_v, before the logits are overwritten */
    if (s > 0)
        target = (1 - s - other) * (double)z_y + other * row_sum(z, j->v);
    sum = row_exp(e, z, j->v, top);
    log_z = (double)top + log(sum);
    j->row_nll[at] = (log_z - (double)z_y) * (double)weight;
    j->row_loss[at] = (log_z - target + (double)j->z_loss * log_z * log_z - (double)j->constant) *
                      (double)weight;
    if (j->nll)
        j->nll[row] = (float)(log_z - (double)z_y);
    if (j->backward)
        row_gradients(j, e, label, weight, sum, log_z);
    if (j->backward && j->cap > 0)
        row_slope(z, e, j->v, j->cap);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* List the rows with a weight, in order; -1 if one of them has a label outside the vocabulary. */
static int64_t keep_rows(const ce_job *j)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < j->n; i++) {
        if (j->weights[i] == 0)
            continue;
        if (j->labels[i] < 0 || j->labels[i] >= j->v)
            return -1;
        j->kept[kept++] = (int32_t)i;
    }
    return kept;
}

/* Row i of a dense matrix of reals, as floats; and from floats. */
static void load_row(float *to, const td_view *v, int64_t i, int64_t d)
{
    if (v->dtype == TD_BF16)
        td_cpu_widen(to, (const uint16_t *)v->data + i * d, 1, d);
    else
        memcpy(to, (const float *)v->data + i * d, (size_t)d * sizeof(float));
}

static void store_row(const td_view *v, int64_t i, const float *from, int64_t d)
{
    if (v->dtype == TD_BF16)
        td_cpu_narrow((uint16_t *)v->data + i * d, 1, from, d);
    else
        memcpy((float *)v->data + i * d, from, (size_t)d * sizeof(float));
}

/* Gather the chunk's hidden states, and turn them into logits and losses. */
static void forward_chunk(const td_call *call, ce_job *j, td_cpu_matrix embedding)
{
    td_cpu_matrix h = { .data = j->h, .ld = j->d };

    for (int64_t i = 0; i < j->rows; i++)
        load_row(j->h + i * j->d, j->hidden, j->kept[j->first + i], j->d);
    embedding.trans = true;
    td_cpu_gemm(call->backend, h, embedding, j->rows, j->v, j->d, j->scale, 0, j->logits, j->v);
    td_parallel(call->services, j->rows, ce_row, j);
}

/* dh = g E to the rows they came from, and dE += g^T h. beta 0: the first chunk, dE is
 * overwritten. */
static void backward_chunk(const td_call *call, ce_job *j, td_cpu_matrix embedding,
                           float *grad_embedding, float beta)
{
    td_cpu_matrix g = { .data = j->logits, .ld = j->v }, gt = g, h = { .data = j->h, .ld = j->d };

    /* dh goes to rows that are not contiguous in the output, so it is computed separately */
    gt.trans = true;
    if (j->grad_hidden->data) {
        td_cpu_gemm(call->backend, g, embedding, j->rows, j->d, j->v, 1, 0, j->dh, j->d);
        for (int64_t i = 0; i < j->rows; i++)
            store_row(j->grad_hidden, j->kept[j->first + i], j->dh + i * j->d, j->d);
    }
    if (grad_embedding)
        td_cpu_gemm(call->backend, gt, h, j->v, j->d, j->rows, 1, beta, grad_embedding, j->d);
}

static float *wanted(const td_call *call, int i)
{
    return i < call->n_out ? call->out[i].data : NULL;
}

/* The job before its first chunk. The constant is the entropy of t: no prediction can have a
 * lower loss. */
static ce_job begin(const td_call *call, td_view *grad_hidden)
{
    ce_job j = sizes(call);
    double s = call->attrs->f[2];

    j.hidden = &call->in[TD_CE_HIDDEN];
    j.grad_hidden = grad_hidden;
    *grad_hidden = call->out[TD_CE_GRAD_HIDDEN];
    grad_hidden->data = wanted(call, TD_CE_GRAD_HIDDEN);
    j.labels = call->in[TD_CE_LABELS].data;
    j.weights = call->in[TD_CE_WEIGHTS].data;
    j.divisor = td_view_scalar(&call->in[TD_CE_DIVISOR], 1);
    j.scale = (float)call->attrs->f[0];
    j.z_loss = (float)call->attrs->f[1];
    j.smoothing = (float)s;
    /* with one word there is nothing to smooth over */
    j.constant = s > 0 && j.v > 1 ? (float)-((1 - s) * log(1 - s) + s * log(s / (double)(j.v - 1)))
                                  : 0;
    j.nll = wanted(call, TD_CE_NLL);
    j.backward = grad_hidden->data || wanted(call, TD_CE_GRAD_EMBEDDING);
    lay_out(&j, call->workspace);
    return j;
}

/* The gradients before the first chunk: zeros where no chunk writes, and the summand of the
 * embedding's, if there is one. Returns whether the chunks must add to that. */
static bool start_gradients(const td_call *call, const ce_job *j, int64_t kept,
                            float *grad_embedding)
{
    const td_view *acc = &call->in[TD_CE_ACC];
    size_t         bytes = (size_t)(j->v * j->d) * sizeof(float);
    bool           sum = call->n_in > TD_CE_ACC && acc->data;

    /* rows without weight are in no chunk, so they must be 0 already */
    if (j->nll)
        memset(j->nll, 0, (size_t)j->n * sizeof(float));
    if (j->grad_hidden->data && kept < j->n)
        memset(j->grad_hidden->data, 0, (size_t)(j->n * j->d * td_view_size(j->grad_hidden)));
    if (grad_embedding && sum && acc->data != grad_embedding)
        memcpy(grad_embedding, acc->data, bytes);
    if (grad_embedding && !sum && !kept)
        memset(grad_embedding, 0, bytes);
    return sum;
}

static float total(const double *x, int64_t n, float divisor)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return (float)(sum / (double)divisor);
}

int td_cpu_cross_entropy(const td_call *call)
{
    td_view       grad_hidden;
    ce_job        j = begin(call, &grad_hidden);
    int64_t       kept = keep_rows(&j);
    float        *loss = wanted(call, TD_CE_LOSS), *sum = wanted(call, TD_CE_SUM);
    float        *grad_embedding = wanted(call, TD_CE_GRAD_EMBEDDING);
    td_cpu_matrix embedding = { .data = call->in[TD_CE_EMBEDDING].data,
                                .ld = j.d,
                                .narrow = call->in[TD_CE_EMBEDDING].dtype == TD_BF16 };
    bool          add;

    /* one chunk after another: their logits share memory, and dE is added up in order */
    if (kept < 0)
        return TD_EFORMAT;
    add = start_gradients(call, &j, kept, grad_embedding);
    for (j.first = 0; j.first < kept; j.first += j.chunk) {
        j.rows = td_cpu_min(j.chunk, kept - j.first);
        forward_chunk(call, &j, embedding);
        if (j.backward)
            backward_chunk(call, &j, embedding, grad_embedding, add || j.first ? 1.0f : 0.0f);
    }
    if (loss)
        *loss = kept ? total(j.row_loss, kept, j.divisor) : 0;
    if (sum)
        *sum = total(j.row_nll, kept, 1);
    return 0;
}
