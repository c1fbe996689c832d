/* heads.cu - what comes between the projections of heads and their attention, in one launch: norms,
 * rotations, and appending to the cache. Computed one by one, these are up to seven kernels, each
 * of which takes longer to start than to run.
 *
 * A job is a chain of such calls: norm, then rotation, then append, each of which may be missing. The
 * 16 threads that have a head's row pass it on in registers, rounded as if it had been stored. Blocks
 * belong to one job, so all their threads do the same.
 */
#include "device.cuh"
#include "kernels.h"
#include "rotate.cuh"
#include "tandem/generation.h"

enum {
    LANES = 16,
    WIDEST = LANES * TD_VECTOR,
    ROWS = TD_CUDA_THREADS / LANES, /* of a block */
    MOST_JOBS = 3,
    MOST_ROWS = 1 << 14 /* of a call: more keep the GPU busy for longer than it takes to start */
};

/* Where the rows of [B, H, T, E] are; at.data is NULL: absent, or not to be stored. */
typedef struct row_axes {
    td_reals at;
    int64_t  step[3]; /* of examples, heads, tokens */
} row_axes;

typedef struct job {
    int            heads, tokens, rows, end; /* end: the block after the job's last */
    int            width;
    bool           norms, rotates, appends;
    row_axes       in, normed, roots, rotated, buffer;
    td_reals       weight;
    float          eps, sign;
    row_axes       cosine, sine; /* [B, T, E/2] */
    /* the slots of the buffer; for each example, the tokens in it and the new ones */
    int            slots, examples;
    bool           ring;
    const int32_t *lengths, *counts;
    int            length_step, count_step;
} job;

typedef struct head_args {
    job  jobs[MOST_JOBS];
    int *fault;
} head_args;

/* A thread's row and its part of it, 8 elements from `e` on. Threads without one take part in sums
 * with zeros. */
typedef struct part {
    int   b, h, t, e;
    bool  there;
    float x[TD_VECTOR], cosine[TD_VECTOR], sine[TD_VECTOR];
} part;

__device__ inline int64_t row_at(const row_axes &x, const part &p)
{
    return p.b * x.step[0] + p.h * x.step[1] + p.t * x.step[2];
}

/* Rows in the order of tokens, whose heads are neighbours in memory. */
__device__ inline part part_of(const job &j, int first_block)
{
    int  r = ((int)blockIdx.x - first_block) * ROWS + (int)threadIdx.x / LANES;
    part p = {};
    p.e = (int)threadIdx.x % LANES * TD_VECTOR;
    p.there = r < j.rows && p.e < j.width;
    r = r < j.rows ? r : 0;
    p.h = r % j.heads;
    p.t = r / j.heads % j.tokens;
    p.b = r / j.heads / j.tokens;
    if (p.there)
        td_get_some<TD_VECTOR>(j.in.at, row_at(j.in, p) + p.e, p.x);
    /* both halves of a head have the same angles; they are on their way before a norm is computed */
    if (p.there && j.rotates) {
        int e = p.e % (j.width / 2);
        td_get_some<TD_VECTOR>(j.cosine.at, row_at(j.cosine, p) + e, p.cosine);
        td_get_some<TD_VECTOR>(j.sine.at, row_at(j.sine, p) + e, p.sine);
    }
    return p;
}

/* Round to the dtype of `y`, and store if it is wanted. */
__device__ inline void put(const row_axes &y, part &p)
{
#pragma unroll
    for (int k = 0; k < TD_VECTOR; k++)
        p.x[k] = td_rounded(p.x[k], y.at.narrow);
    if (y.at.data && p.there)
        td_set_some<TD_VECTOR>(y.at, row_at(y, p) + p.e, p.x);
}

/* As norm.cu computes it. */
__device__ inline void normalize(const job &j, part &p)
{
    float square = 0, root;
#pragma unroll
    for (int k = 0; k < TD_VECTOR; k++)
        square += p.x[k] * p.x[k];
    for (int k = LANES / 2; k > 0; k /= 2)
        square += __shfl_xor_sync(0xffffffffu, square, k);
    root = 1 / sqrtf(square / (float)j.width + j.eps);
#pragma unroll
    for (int k = 0; k < TD_VECTOR; k++)
        p.x[k] = p.x[k] * root * (j.weight.data && p.there ? td_get(j.weight, p.e + k) : 1) + 0.0f;
    if (j.roots.at.data && p.there && p.e == 0)
        td_set(j.roots.at, row_at(j.roots, p), root);
    put(j.normed, p);
}

/* The other half of a head is in other threads. */
__device__ inline void turn(const job &j, part &p)
{
    int  half = j.width / 2, lane = (int)threadIdx.x % LANES, apart = half / TD_VECTOR;
    bool second = p.e >= half;
#pragma unroll
    for (int k = 0; k < TD_VECTOR; k++) {
        float s = j.sign * p.sine[k];
        float other = __shfl_sync(0xffffffffu, p.x[k], second ? lane - apart : lane + apart, LANES);
        p.x[k] = second ? td_second_turned(other, p.x[k], p.cosine[k], s)
                        : td_first_turned(p.x[k], other, p.cosine[k], s);
    }
    put(j.rotated, p);
}

/* Whether there is room for the new tokens of all examples; otherwise nothing is written. */
__device__ inline bool has_room(const job &j)
{
    bool full = false;
    for (int r = threadIdx.x; r < j.examples; r += TD_CUDA_THREADS) {
        int64_t length = j.lengths[r * j.length_step], count = j.counts[r * j.count_step];
        full |= length < 0 || count < 0 || count > j.tokens || count > j.slots ||
                (!j.ring && length + count > j.slots);
    }
    return !__syncthreads_or(full);
}

__device__ inline void append(const job &j, part &p)
{
    int64_t slot = ((int64_t)j.lengths[p.b * j.length_step] + p.t) % j.slots;
    if (!p.there || p.t >= j.counts[p.b * j.count_step])
        return;
    td_set_some<TD_VECTOR>(j.buffer.at,
                           p.b * j.buffer.step[0] + p.h * j.buffer.step[1] +
                               slot * j.buffer.step[2] + p.e,
                           p.x);
}

__global__ void __launch_bounds__(TD_CUDA_THREADS) heads(const __grid_constant__ head_args a)
{
    int n = 0;
    while ((int)blockIdx.x >= a.jobs[n].end)
        n++;
    const job &j = a.jobs[n];
    td_begin();
    part p = part_of(j, n ? a.jobs[n - 1].end : 0);
    bool room = j.appends && has_room(j);
    if (j.norms)
        normalize(j, p);
    if (j.rotates)
        turn(j, p);
    if (room)
        append(j, p);
    else if (j.appends && threadIdx.x == 0)
        *a.fault = 1;
}

/* ---- which calls ----------------------------------------------------------------------------- */

/* Jobs as they are found, and for each the value that its last call computes. */
typedef struct plan {
    head_args      args;
    const td_view *last[MOST_JOBS];
    int            jobs;
} plan;

static row_axes axes_of(const td_view *v)
{
    row_axes x = {};
    x.at = td_reals_of(v);
    for (int k = 0; v && k < 3 && k < v->rank - 1; k++)
        x.step[k] = v->dim[k] == 1 ? 0 : v->stride[k];
    return x;
}

/* The output of a call, which is not stored if only calls here read it. */
static row_axes stored(const td_call *call, int k)
{
    row_axes x = axes_of(td_cuda_out(call, k));
    if (call->inner >> k & 1)
        x.at.data = NULL;
    return x;
}

/* [B, T, E/2], which has no heads. */
static row_axes angles_of(const td_view *v)
{
    row_axes x = {};
    x.at = td_reals_of(v);
    x.step[0] = v->dim[0] == 1 ? 0 : v->stride[0];
    x.step[2] = v->stride[1];
    return x;
}

/* Rows of bf16 that threads can hold. */
static bool are_heads(const td_view *v)
{
    return v && v->rank == 4 && v->dtype == TD_BF16 && v->dim[3] > 0 && v->dim[3] <= WIDEST &&
           td_has_vector_steps(v) && v->dim[2] < 1 << 30;
}

static bool are_few(const td_view *v)
{
    return td_cuda_rows(v) > 0 && td_cuda_rows(v) <= MOST_ROWS;
}

static bool same_place(const td_view *x, const td_view *y)
{
    if (x->data != y->data || x->rank != y->rank)
        return false;
    for (int a = 0; a < x->rank; a++)
        if (x->dim[a] != y->dim[a] || (x->dim[a] != 1 && x->stride[a] != y->stride[a]))
            return false;
    return true;
}

/* The job that continues with input `from` of call k: one whose last value this is, or a new one;
 * NULL: there is none, or jobs would write what others read. */
static job *job_for(plan *p, const td_call *const *calls, int k, int from)
{
    const td_view *x = &calls[k]->in[from];
    for (int n = 0; n < p->jobs; n++)
        if (p->last[n] && same_place(p->last[n], x))
            return td_cuda_is_apart(calls, k, 1u << from) ? &p->args.jobs[n] : NULL;
    if (p->jobs == MOST_JOBS || !are_few(x) || !td_cuda_is_apart(calls, k, 0))
        return NULL;
    job *j = &p->args.jobs[p->jobs++];
    j->heads = (int)x->dim[1];
    j->tokens = (int)x->dim[2];
    j->rows = (int)td_cuda_rows(x);
    j->width = (int)x->dim[3];
    j->end = (int)td_cuda_pieces(j->rows, ROWS) + (p->jobs > 1 ? j[-1].end : 0);
    j->in = axes_of(x);
    return j;
}

static bool add_norm(plan *p, const td_call *const *calls, int k)
{
    const td_call *call = calls[k];
    job           *j;
    if (!are_heads(&call->in[0]) || !are_heads(td_cuda_out(call, 0)))
        return false;
    j = job_for(p, calls, k, 0);
    if (!j || j->norms || j->rotates || j->appends)
        return false;
    j->norms = true;
    j->weight = td_reals_of(td_cuda_in(call, 1));
    j->eps = (float)call->attrs->f[0];
    j->normed = stored(call, 0);
    j->roots = axes_of(td_cuda_out(call, 1));
    p->last[j - p->args.jobs] = &call->out[0];
    return true;
}

static bool add_rotation(plan *p, const td_call *const *calls, int k)
{
    const td_call *call = calls[k];
    const td_view *x = &call->in[0], *cosine = &call->in[1], *sine = &call->in[2];
    job           *j;
    if (!are_heads(x) || !are_heads(td_cuda_out(call, 0)) || x->dim[3] % (2 * TD_VECTOR) ||
        !td_has_vector_steps(cosine) || !td_has_vector_steps(sine))
        return false;
    j = job_for(p, calls, k, 0);
    if (!j || j->rotates || j->appends)
        return false;
    j->rotates = true;
    j->cosine = angles_of(cosine);
    j->sine = angles_of(sine);
    j->sign = call->attrs->i[0] ? -1.0f : 1.0f;
    j->rotated = stored(call, 0);
    p->last[j - p->args.jobs] = &call->out[0];
    return true;
}

static bool add_append(plan *p, const td_call *const *calls, int k)
{
    const td_call *call = calls[k];
    const td_view *x = &call->in[TD_APPEND_NEW], *buffer = &call->out[0];
    const td_view *lengths = &call->in[TD_APPEND_LENGTHS], *counts = &call->in[TD_APPEND_COUNTS];
    job           *j;
    if (!are_heads(x) || !are_heads(buffer) || call->attrs->i[0] != 2)
        return false;
    j = job_for(p, calls, k, TD_APPEND_NEW);
    if (!j || j->appends)
        return false;
    j->appends = true;
    j->buffer = axes_of(buffer);
    j->slots = (int)buffer->dim[2];
    j->examples = (int)buffer->dim[0];
    j->ring = call->attrs->i[1] != 0;
    j->lengths = (const int32_t *)lengths->data;
    j->counts = (const int32_t *)counts->data;
    /* one number may serve all examples */
    j->length_step = lengths->dim[0] == 1 ? 0 : (int)lengths->stride[0];
    j->count_step = counts->dim[0] == 1 ? 0 : (int)counts->stride[0];
    p->last[j - p->args.jobs] = NULL;
    return true;
}

/* Add calls until one does not fit; returns how many were added. */
static int add_calls(plan *p, const td_call *const *calls, const td_kernel *const *kernels,
                     int count)
{
    int  k = 0;
    bool fits = true;
    for (; k < count; k += fits) {
        int (*run)(const td_call *) = kernels[k]->run;
        fits = run == td_cuda_rms_norm ? add_norm(p, calls, k)
               : run == td_cuda_rope   ? add_rotation(p, calls, k)
               : run == td_cuda_append ? add_append(p, calls, k)
                                       : false;
        if (!fits)
            break;
    }
    return k;
}

int td_cuda_takes_heads(const td_call *const *calls, const td_kernel *const *kernels, int count)
{
    plan p = {};
    int  n = td_cuda_overlaps(td_cuda_of(calls[0])) ? add_calls(&p, calls, kernels, count) : 0;
    return n > 1 ? n : 0;
}

static bool is_aligned(const row_axes &x) { return (uintptr_t)x.at.data % 16 == 0; }

static bool are_aligned(const plan &p)
{
    for (int n = 0; n < p.jobs; n++) {
        const job &j = p.args.jobs[n];
        if (!is_aligned(j.in) || !is_aligned(j.normed) || !is_aligned(j.rotated) ||
            !is_aligned(j.buffer) || !is_aligned(j.cosine) || !is_aligned(j.sine))
            return false;
    }
    return true;
}

int td_cuda_heads(const td_call *const *calls, const td_kernel *const *kernels, int count)
{
    td_cuda *cuda = td_cuda_of(calls[0]);
    plan     p = {};

    /* addresses are known only now; strides were checked when the plan was made */
    if (add_calls(&p, calls, kernels, count) != count || !are_aligned(p))
        return td_cuda_one_by_one(calls, kernels, count);
    p.args.fault = cuda->faults_seen + TD_CUDA_NO_ROOM;
    return td_cuda_launch(cuda, dim3((unsigned)p.args.jobs[p.jobs - 1].end), 0, 1, heads, p.args);
}
