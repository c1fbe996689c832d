/* attend_grad.c - the gradients of attention, from the output and its logsumexp (Dao et al. 2022,
 * arXiv:2205.14135, appendix B).
 *
 *     p = e^(cap(scale q k^T) + bias - lse),  delta = sum_f do o      weights, recomputed
 *     dv = p^T do,  ds = p (do v^T - delta),  dq = scale ds k,  dk = scale ds^T q,  dbias = ds
 *
 * with ds times the slope of the cap, if there is one, in dq and dk.
 *
 * No softmax is needed: the logsumexp gives each weight at once. Nor is sum_j p_j dp_j, the term
 * that softmax's gradient subtracts: it equals delta.
 *
 * A task is all query heads of one key head of one example. No other task adds to its dk and dv, so
 * the bits do not depend on threads, and no atomics are needed. If there are too few such groups to
 * occupy the threads, a task is a part of the heads of a group, and the parts' dk and dv are added
 * in order afterwards. */
#include "attend.h"
#include "kernels.h"

enum { OUT_Q, OUT_K, OUT_V, OUT_TABLE, OUT_DENSE };
enum { ENOUGH_TASKS = 8 }; /* a constant, not the number of threads: it decides the order of sums */

typedef struct scratch {     /* of one thread */
    float *q_rows, *q;       /* scale q [64][e_wide], and transposed [e][64] */
    float *grad_rows, *grad; /* do [64][f_wide], and transposed [f][64] */
    float *p, *ds, *slopes;  /* [keys][64]; slopes: of a cap */
    float *dq;               /* [e][64] */
    float *keys, *values;    /* [64][e or f], if they are bf16 */
    float *dk, *dv;          /* [all keys][e_wide], [all keys][f_wide] */
    float  lse[TD_BLOCK], delta[TD_BLOCK];
} scratch;

typedef struct pair { /* a block of queries with a block of keys */
    const td_attend_shape *s;
    const td_attend_side  *q, *k;
    td_attend_block        keys, values;
    int64_t                group, lanes;
    int                    sees;
} pair;

static size_t slice_floats(const td_attend_shape *s)
{
    int64_t blocks = s->cap > 0 ? 3 : 2; /* p, ds, slopes */
    return (size_t)(TD_BLOCK * (3 * s->e_wide + 2 * s->f_wide + blocks * TD_BLOCK)) +
           td_attend_room(s);
}

static size_t key_floats(const td_attend_shape *s)
{
    return (size_t)(s->keys * (s->e_wide + s->f_wide));
}

/* The number of tasks that share the heads of a group: by shape alone. */
static int64_t parts_of(const td_attend_shape *s)
{
    const td_view *dense = s->call->out + OUT_DENSE;
    int64_t        tasks = td_cpu_max(1, s->batch * s->groups);
    if (dense->data && (dense->dim[0] == 1 || dense->dim[1] == 1))
        return 1; /* heads or examples share the bias: one task for all, see batches_of_task */
    return td_cpu_min(s->heads / td_cpu_max(1, s->groups), td_cpu_ceil(ENOUGH_TASKS, tasks));
}

/* The number of pairs of dk and dv in the workspace: one per thread, reused by its tasks, or one
 * per task if they are to be added up. */
static int64_t key_sums(const td_attend_shape *s)
{
    int64_t parts = parts_of(s);
    return parts > 1 ? s->batch * s->groups * parts : s->call->services->threads;
}

/* Sums for the bias table, one per distance of each (example, head), in double: a distance may be
 * summed over millions of pairs. `data` tells whether the gradient is wanted, even while the plan
 * is made. */
static size_t table_bytes(const td_attend_shape *s)
{
    const td_view *table = s->call->out + OUT_TABLE;
    return table->data ? (size_t)(s->batch * s->heads * table->dim[1]) * sizeof(double) : 0;
}

/* The workspace: sums of the table, a slice per thread, pairs of dk and dv. */
size_t td_cpu_attend_grad_workspace(const td_call *call)
{
    td_attend_shape s = td_attend_shape_of(call);
    return td_cpu_align(table_bytes(&s)) + ((size_t)call->services->threads * slice_floats(&s) +
                                            (size_t)key_sums(&s) * key_floats(&s)) *
                                               sizeof(float);
}

/* The index-th pair of dk and dv. */
static float *key_sum(const td_attend_shape *s, int64_t index)
{
    char *base = (char *)s->call->workspace + td_cpu_align(table_bytes(s));
    return (float *)(void *)base + (size_t)s->call->services->threads * slice_floats(s) +
           (size_t)index * key_floats(s);
}

/* The thread's part of the workspace, with the `sum`-th pair of dk and dv. */
static void take_slice(const td_attend_shape *s, int thread, int64_t sum, scratch *w)
{
    char *base = (char *)s->call->workspace + td_cpu_align(table_bytes(s));
    w->q_rows = (float *)(void *)base + (size_t)thread * slice_floats(s);
    w->q = w->q_rows + TD_BLOCK * s->e_wide;
    w->dq = w->q + TD_BLOCK * s->e_wide;
    w->grad_rows = w->dq + TD_BLOCK * s->e_wide;
    w->grad = w->grad_rows + TD_BLOCK * s->f_wide;
    w->p = w->grad + TD_BLOCK * s->f_wide;
    w->ds = w->p + TD_BLOCK * TD_BLOCK;
    w->slopes = w->ds + TD_BLOCK * TD_BLOCK;
    w->keys = w->slopes + (s->cap > 0 ? TD_BLOCK * TD_BLOCK : 0);
    w->values = w->keys + TD_BLOCK * s->e_wide;
    w->dk = key_sum(s, sum);
    w->dv = w->dk + s->keys * s->e_wide;
}

/* ---- a block of queries ---------------------------------------------------------------------- */

/* The rows of a block of queries, zeros after the last, and their transpose. Products need both: a
 * row of either by vectors. */
static void load_rows(const td_view *v, const td_attend_side *q, int64_t width, int64_t wide,
                      float scale, float *rows, float *across)
{
    memset(rows, 0, (size_t)(TD_BLOCK * wide) * sizeof(float));
    for (int64_t i = 0; i < q->count; i++)
        td_attend_load_row(rows + i * wide, v, q->batch, q->head, q->first + i, width, scale);
    td_tile_transpose(rows, wide, TD_BLOCK, width, across, TD_BLOCK);
}

static float dot_bf16(const td_view *o, const td_attend_side *q, const float *grad, int64_t t)
{
    const uint16_t *row = (const uint16_t *)o->data + q->batch * o->stride[0] +
                          q->head * o->stride[1] + t * o->stride[2];
    float sum = 0;
    for (int64_t f = 0; f < o->dim[3]; f++)
        sum += grad[f] * td_bf16_to_float(row[f * o->stride[3]]);
    return sum;
}

/* delta of query i: sum_f do o */
static float dot_output(const td_attend_shape *s, const td_attend_side *q, const float *grad,
                        int64_t i)
{
    const td_view *o = s->call->in + TD_ATTEND_OUT;
    const float   *row = td_attend_at(o, q->batch, q->head, q->first + i);
    float          sum = 0;
    if (o->dtype == TD_BF16)
        return dot_bf16(o, q, grad, q->first + i);
    if (o->stride[3] == 1)
        return td_vdot(grad, row, s->f);
    for (int64_t f = 0; f < s->f; f++)
        sum += grad[f] * row[f * o->stride[3]];
    return sum;
}

/* Everything that the gradients need of a block of queries: q, do, lse and delta. */
static void load_queries(const td_attend_shape *s, const td_attend_side *q, scratch *w)
{
    const td_view *v = s->call->in + TD_ATTEND_LSE;
    const float   *lse = (const float *)v->data + q->batch * v->stride[0] + q->head * v->stride[1];
    load_rows(s->call->in + TD_ATTEND_Q, q, s->e, s->e_wide, s->scale, w->q_rows, w->q);
    load_rows(s->call->in + TD_ATTEND_GRAD, q, s->f, s->f_wide, 1, w->grad_rows, w->grad);
    memset(w->dq, 0, (size_t)(TD_BLOCK * s->e_wide) * sizeof(float));
    for (int64_t i = 0; i < TD_BLOCK; i++) {
        /* An lse of infinity makes all weights e^(s - inf) = 0: for a query that sees nothing,
         * and for lanes without a query. */
        float x = i < q->count ? lse[(q->first + i) * v->stride[2]] : INFINITY;
        w->lse[i] = x == -INFINITY ? INFINITY : x;
        w->delta[i] = i < q->count ? dot_output(s, q, w->grad_rows + i * s->f_wide, i) : 0;
    }
}

/* dq is kept transposed and without the scale until the block is done. */
static void store_queries(const td_attend_shape *s, const td_attend_side *q, scratch *w)
{
    const td_view *v = s->call->out + OUT_Q;
    if (!v->data)
        return;
    td_tile_transpose(w->dq, TD_BLOCK, s->e, q->count, w->q_rows, s->e_wide);
    for (int64_t i = 0; i < q->count; i++)
        td_attend_store_row(v, q->batch, q->head, q->first + i, w->q_rows + i * s->e_wide, s->e,
                            s->scale);
}

/* ---- a block of scores ----------------------------------------------------------------------- */

/* p = e^(s - lse): scores become weights. */
TD_CPU_CLONES static void weigh(float *p, int64_t keys, int64_t lanes, const float *lse)
{
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i += TD_LANES)
            td_vstore(p + j * TD_BLOCK + i,
                      td_vexp(td_vload(p + j * TD_BLOCK + i) - td_vload(lse + i)));
}

/* ds = p (dp - delta), but exactly 0 where p is: a hidden key may hold NaN, which 0 times would not
 * remove. */
TD_CPU_CLONES static void score_grad(const float *p, float *ds, int64_t keys, int64_t lanes,
                                     const float *delta)
{
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i += TD_LANES) {
            td_vf w = td_vload(p + j * TD_BLOCK + i),
                  d = td_vload(ds + j * TD_BLOCK + i) - td_vload(delta + i);
            td_vstore(ds + j * TD_BLOCK + i, td_vpick(td_vabove(w, td_vset(0)), w * d, td_vset(0)));
        }
}

/* Sum ds along its diagonals, on which the distance is constant: row j is added to the runs where
 * td_attend_run has put its entries. */
TD_CPU_CLONES static void sum_runs(const float *ds, int64_t keys, int64_t lanes, float *runs)
{
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i += TD_LANES) {
            float *to = runs + keys - 1 - j + i;
            td_vstore(to, td_vload(to) + td_vload(ds + j * TD_BLOCK + i));
        }
}

/* dtable[h, distance] += ds. In a block a run has at most 64 summands, so float will do there. */
static void table_grad(const pair *x, const float *ds)
{
    const td_attend_shape *s = x->s;
    const td_attend_side  *q = x->q, *k = x->k;
    float                  runs[TD_RUNS] = { 0 };
    double                *sums = (double *)s->call->workspace +
                   (q->batch * s->heads + q->head) * s->call->in[TD_ATTEND_TABLE].dim[1];

    /* one addition in double per distance, not per pair */
    if (td_attend_in_runs(q, k)) {
        sum_runs(ds, k->count, x->lanes, runs);
        for (int64_t r = 0; r < TD_RUNS; r++)
            sums[td_attend_run(s, q, k, r)] += (double)runs[r];
        return;
    }
    for (int64_t j = 0; j < k->count; j++)
        for (int64_t i = 0; i < q->count; i++)
            sums[td_attend_distance(s, q->position[i], k->position[j])] += (double)
                ds[j * TD_BLOCK + i];
}

/* dbias += ds, in the table, the dense bias, or both. */
static void bias_grad(const pair *x, const float *ds)
{
    const td_attend_shape *s = x->s;
    const td_attend_side  *q = x->q, *k = x->k;
    const td_view         *dense = s->call->out + OUT_DENSE;
    if (s->call->out[OUT_TABLE].data)
        table_grad(x, ds);
    if (dense->data) {
        float *to = td_attend_dense(dense, q->batch, q->head) + q->first * dense->stride[2] +
                    k->first * dense->stride[3];
        for (int64_t i = 0; i < q->count; i++)
            for (int64_t j = 0; j < k->count; j++)
                to[i * dense->stride[2] + j * dense->stride[3]] += ds[j * TD_BLOCK + i];
    }
}

/* p = e^(cap(scale q k^T) + bias - lse), transposed: [keys][queries] */
static void weights(const pair *x, scratch *w)
{
    td_tile_product qk = td_attend_rows(&x->keys, x->k, x->s->e, x->lanes, w->q, w->p);

    /* the same steps, and so the same bits, as in the forward pass */
    td_attend_product(x->s, x->q, x->k, x->sees, TD_KEYS_BY_LANES, &qk);
    td_attend_cap(x->s, x->k->count, x->lanes, w->p, w->slopes);
    td_attend_mask(x->s, x->q, x->k, x->sees, w->p);
    weigh(w->p, x->k->count, x->lanes, w->lse);
}

/* ds = p (do v^T - delta), transposed */
static void scores_grad(const pair *x, scratch *w)
{
    td_tile_product dp = td_attend_rows(&x->values, x->k, x->s->f, x->lanes, w->grad, w->ds);

    /* dp = v do^T is computed in ds's memory, then turned into ds there */
    td_attend_product(x->s, x->q, x->k, x->sees, TD_KEYS_BY_LANES, &dp);
    score_grad(w->p, w->ds, x->k->count, x->lanes, w->delta);
}

/* dq^T += k^T ds^T */
static void query_grad(const pair *x, scratch *w)
{
    td_tile_product dq = td_attend_columns(&x->keys, x->k, x->s->e, x->lanes, w->ds, w->dq);

    td_attend_product(x->s, x->q, x->k, x->sees, TD_OVER_KEYS, &dq);
}

/* dk += ds^T (scale q), or dv += p^T do: `to` [keys][wide] += scores [keys][queries] rows
 * [queries][wide] */
static void key_grad(const pair *x, const float *scores, const float *rows, float *to, int64_t wide)
{
    td_tile_product sum = { .a = scores,
                            .row = TD_BLOCK,
                            .column = 1,
                            .b = rows,
                            .ldb = wide,
                            .c = to + x->k->first * wide,
                            .ldc = wide,
                            .m = x->k->count,
                            .n = wide,
                            .k = x->q->count,
                            .add = true };

    td_attend_product(x->s, x->q, x->k, x->sees, TD_OVER_QUERIES, &sum);
}

/* All gradients of one block of scores. Five products, where the forward pass has two. */
static void add_pair(pair *x, scratch *w)
{
    const td_view *in = x->s->call->in;
    x->keys = td_attend_floats(in + TD_ATTEND_K, x->k, x->group, x->s->e_wide, w->keys);
    x->values = td_attend_floats(in + TD_ATTEND_V, x->k, x->group, x->s->f_wide, w->values);
    weights(x, w);
    key_grad(x, w->p, w->grad_rows, w->dv, x->s->f_wide);
    scores_grad(x, w);
    bias_grad(x, w->ds); /* biases are added after the cap */
    if (x->s->cap > 0)
        td_attend_cap_grad(x->k->count, x->lanes, w->slopes, w->ds);
    query_grad(x, w);
    key_grad(x, w->ds, w->q_rows, w->dk, x->s->e_wide);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

/* One query head with all keys. Queries are the outer loop: dq is summed in the cache, and dk and
 * dv, which every block of queries adds to, are the task's own. */
static void head_grad(const td_attend_shape *s, int64_t batch, int64_t head, scratch *w)
{
    td_attend_side q, k;
    for (int64_t first = 0; first < s->queries; first += TD_BLOCK) {
        td_attend_load(s, false, batch, head, first, &q);
        load_queries(s, &q, w);
        for (int64_t at = 0; at < td_attend_keys(s, batch); at += TD_BLOCK) {
            pair x = { .s = s,
                       .q = &q,
                       .k = &k,
                       .group = head / (s->heads / s->groups),
                       .lanes = td_attend_wide(q.count) };
            td_attend_load(s, true, batch, head, at, &k);
            x.sees = td_attend_sees(s, &q, &k);
            /* under a causal mask half of the blocks end here */
            if (x.sees != TD_SEES_NONE)
                add_pair(&x, w);
        }
        store_queries(s, &q, w);
    }
}

/* Rows first .. end - 1 of dk or dv to their output, if it is wanted. */
static void store_keys(const td_view *v, int64_t batch, int64_t group, float *from, int64_t wide,
                       int64_t first, int64_t end)
{
    for (int64_t t = first; v->data && t < end; t++)
        td_attend_store_row(v, batch, group, t, from + t * wide, v->dim[3], 1);
}

static void store_group(const td_attend_shape *s, int64_t batch, int64_t group, float *dk,
                        int64_t first, int64_t end)
{
    float *dv = dk + s->keys * s->e_wide;
    store_keys(s->call->out + OUT_K, batch, group, dk, s->e_wide, first, end);
    store_keys(s->call->out + OUT_V, batch, group, dv, s->f_wide, first, end);
}

/* The part-th part of the heads of a group. The scale of dk is in q_rows already. */
static void group_grad(const td_attend_shape *s, int64_t batch, int64_t group, int64_t part,
                       scratch *w)
{
    int64_t shared = s->heads / s->groups, parts = parts_of(s);
    memset(w->dk, 0, (size_t)(s->keys * (s->e_wide + s->f_wide)) * sizeof(float));
    for (int64_t h = shared * part / parts; h < shared * (part + 1) / parts; h++)
        head_grad(s, batch, group * shared + h, w);
    if (parts == 1)
        store_group(s, batch, group, w->dk, 0, s->keys);
}

/* If a dense bias is shared by examples or by heads, one task does all of them, in order: its
 * gradient is a sum over them. */
static int64_t batches_of_task(const td_attend_shape *s)
{
    const td_view *dense = s->call->out + OUT_DENSE;
    return dense->data && dense->dim[0] == 1 ? s->batch : 1;
}

static int64_t groups_of_task(const td_attend_shape *s)
{
    const td_view *dense = s->call->out + OUT_DENSE;
    return dense->data && dense->dim[1] == 1 ? s->groups : 1;
}

/* A task's number counts examples, groups and parts, the parts fastest. */
static void grad_task(void *arg, int64_t task, int thread)
{
    const td_attend_shape *s = arg;
    int64_t                nb = batches_of_task(s), ng = groups_of_task(s), across = s->groups / ng;
    int64_t                parts = parts_of(s), part = task % parts;
    scratch                w;
    /* dk and dv outlive the task if its parts are to be added */
    take_slice(s, thread, parts > 1 ? task : thread, &w);
    task /= parts;
    for (int64_t b = task / across * nb; b < (task / across + 1) * nb; b++)
        for (int64_t g = task % across * ng; g < (task % across + 1) * ng; g++)
            group_grad(s, b, g, part, &w);
}

static void add_rows(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* Add up the parts of a group for a block of keys, in order, and store them. */
static void join_task(void *arg, int64_t task, int thread)
{
    const td_attend_shape *s = arg;
    int64_t                parts = parts_of(s), blocks = td_cpu_ceil(s->keys, TD_BLOCK);
    int64_t                group = task / blocks, first = task % blocks * TD_BLOCK;
    int64_t                end = td_cpu_min(s->keys, first + TD_BLOCK);
    float                 *dk = key_sum(s, group * parts), *dv = dk + s->keys * s->e_wide;

    /* into the first part, which is then the sum */
    for (int64_t p = 1; p < parts; p++) {
        const float *from = key_sum(s, group * parts + p);
        add_rows(dk + first * s->e_wide, from + first * s->e_wide, (end - first) * s->e_wide);
        from += s->keys * s->e_wide;
        add_rows(dv + first * s->f_wide, from + first * s->f_wide, (end - first) * s->f_wide);
    }
    store_group(s, group / s->groups, group % s->groups, dk, first, end);
}

/* The sums of all examples, in order. */
static void store_table(const td_attend_shape *s)
{
    const td_view *v = s->call->out + OUT_TABLE;
    const double  *sums = s->call->workspace;
    for (int64_t h = 0; h < s->heads; h++)
        for (int64_t r = 0; r < v->dim[1]; r++) {
            double sum = 0;
            for (int64_t b = 0; b < s->batch; b++)
                sum += sums[(b * s->heads + h) * v->dim[1] + r];
            ((float *)v->data)[h * v->stride[0] + r * v->stride[1]] = (float)sum;
        }
}

static void clear_dense(const td_view *v)
{
    for (int64_t b = 0; b < v->dim[0]; b++)
        for (int64_t h = 0; h < v->dim[1]; h++)
            for (int64_t i = 0; i < v->dim[2]; i++)
                for (int64_t j = 0; j < v->dim[3]; j++)
                    td_attend_at(v, b, h, i)[j * v->stride[3]] = 0;
}

int td_cpu_attend_grad(const td_call *call)
{
    td_attend_shape s = td_attend_shape_of(call);
    int64_t         parts = parts_of(&s);
    /* many blocks add to the biases' gradients, so they start from 0 */
    if (call->out[OUT_TABLE].data)
        memset(call->workspace, 0, table_bytes(&s));
    if (call->out[OUT_DENSE].data)
        clear_dense(call->out + OUT_DENSE);
    td_parallel(call->services,
                s.batch / td_cpu_max(1, batches_of_task(&s)) *
                    (s.groups / td_cpu_max(1, groups_of_task(&s))) * parts,
                grad_task, &s);
    if (parts > 1)
        td_parallel(call->services, s.batch * s.groups * td_cpu_ceil(s.keys, TD_BLOCK), join_task,
                    &s);
    if (call->out[OUT_TABLE].data)
        store_table(&s);
    return 0;
}
