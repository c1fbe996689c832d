/* attend.c - attention without the matrix of scores: online softmax over blocks of keys (Dao et al.
 * 2022, arXiv:2205.14135; Milakov and Gimelshein 2018, arXiv:1805.02867). A task is 64 queries of
 * one head, so no two tasks write the same output. With m the largest score so far, for each block
 * of keys:
 *
 *     s = cap(scale q k^T) + bias;  m' = max(m, s);  f = e^(m - m')
 *     sum = f sum + sum_j e^(s_j - m');  o = f o + sum_j e^(s_j - m') v_j
 *
 * and at the end o / sum, and the logsumexp m + log(sum), which the backward pass needs. */
#include "attend.h"
#include "kernels.h"

typedef struct scratch {  /* of one thread */
    float *rows;          /* [64][e or f], on the way in or out of the transposed ones */
    float *q;             /* scale q^T [e][64] */
    float *o;             /* o^T [f][64] */
    float *scores;        /* [keys][64] */
    float *keys, *values; /* [64][e or f], if they are bf16 */
    float  top[TD_BLOCK], sum[TD_BLOCK], fade[TD_BLOCK];
} scratch;

/* For both kernels. Inputs and attributes of the gradient begin with those of the forward op. */
td_attend_shape td_attend_shape_of(const td_call *call)
{
    const td_view *q = call->in + TD_ATTEND_Q, *k = call->in + TD_ATTEND_K,
                  *v = call->in + TD_ATTEND_V;

    /* attributes are documented at td_attend in ops.h */
    return (td_attend_shape){ .call = call,
                              .batch = q->dim[0],
                              .heads = q->dim[1],
                              .groups = k->dim[1],
                              .queries = q->dim[2],
                              .keys = k->dim[2],
                              .e = q->dim[3],
                              .f = v->dim[3],
                              .e_wide = td_attend_wide(q->dim[3]),
                              .f_wide = td_attend_wide(v->dim[3]),
                              .causal = call->attrs->i[0] != 0,
                              .window = call->attrs->i[1],
                              .self = call->attrs->i[2] != 0,
                              .offset = call->attrs->i[3],
                              .scale = (float)call->attrs->f[0],
                              .cap = (float)call->attrs->f[1] };
}

size_t td_attend_slice_floats(const td_attend_shape *s)
{
    return (size_t)(TD_BLOCK *
                    (td_cpu_max(s->e_wide, s->f_wide) + s->e_wide + s->f_wide + TD_BLOCK)) +
           td_attend_room(s);
}

size_t td_cpu_attend_workspace(const td_call *call)
{
    td_attend_shape s = td_attend_shape_of(call);
    return (size_t)call->services->threads * td_attend_slice_floats(&s) * sizeof(float);
}

/* The thread's part of the workspace, and the state of a softmax that has seen nothing. */
static void take_slice(const td_attend_shape *s, int thread, scratch *w)
{
    w->rows = (float *)s->call->workspace + (size_t)thread * td_attend_slice_floats(s);
    w->q = w->rows + TD_BLOCK * td_cpu_max(s->e_wide, s->f_wide);
    w->o = w->q + TD_BLOCK * s->e_wide;
    w->scores = w->o + TD_BLOCK * s->f_wide;
    w->keys = w->scores + TD_BLOCK * TD_BLOCK;
    w->values = w->keys + TD_BLOCK * s->e_wide;
    for (int i = 0; i < TD_BLOCK; i++) {
        w->top[i] = -INFINITY;
        w->sum[i] = 0;
    }
}

/* scale q^T of a block. Lanes without a query are 0: they are computed like the others, and
 * dropped. */
static void load_queries(const td_attend_shape *s, const td_attend_side *q, scratch *w)
{
    const td_view *v = s->call->in + TD_ATTEND_Q;
    for (int64_t i = 0; i < TD_BLOCK; i++) {
        if (i < q->count)
            td_attend_load_row(w->rows + i * s->e_wide, v, q->batch, q->head, q->first + i, s->e,
                               s->scale);
        else
            memset(w->rows + i * s->e_wide, 0, (size_t)s->e * sizeof(float));
    }
    td_tile_transpose(w->rows, s->e_wide, TD_BLOCK, s->e, w->q, TD_BLOCK);
}

TD_CPU_CLONES static void soften(float *scores, int64_t keys, int64_t lanes, float *top, float *sum,
                                 float *fade)
{
    for (int64_t i = 0; i < lanes; i += TD_LANES) {
        td_vf was = td_vload(top + i), most = was, base, total, by;
        for (int64_t j = 0; j < keys; j++)
            most = td_vmax(most, td_vload(scores + j * TD_BLOCK + i));
        /* a query that has seen nothing yet: weights e^(-inf - 0) = 0, where -inf - -inf would be
         * NaN */
        base = td_vpick(most == -INFINITY, td_vset(0), most);
        by = td_vexp(was - base);
        total = td_vload(sum + i) * by;
        for (int64_t j = 0; j < keys; j++) {
            td_vf p = td_vexp(td_vload(scores + j * TD_BLOCK + i) - base);
            td_vstore(scores + j * TD_BLOCK + i, p);
            total += p;
        }
        td_vstore(top + i, most);
        td_vstore(sum + i, total);
        td_vstore(fade + i, by);
    }
}

/* Not a function with clones itself, which would be exported. */
void td_attend_soften(float *scores, int64_t keys, int64_t lanes, float *top, float *sum,
                      float *fade)
{
    soften(scores, keys, lanes, top, sum, fade);
}

TD_CPU_CLONES static void rescale(float *o, int64_t f, int64_t lanes, const float *by)
{
    for (int64_t k = 0; k < f; k++)
        for (int64_t i = 0; i < lanes; i += TD_LANES)
            td_vstore(o + k * TD_BLOCK + i, td_vload(o + k * TD_BLOCK + i) * td_vload(by + i));
}

/* Attend to one block of keys. */
static void add_block(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k,
                      int sees, scratch *w)
{
    const td_view  *kv = s->call->in + TD_ATTEND_K, *vv = s->call->in + TD_ATTEND_V;
    int64_t         group = q->head / (s->heads / s->groups), lanes = td_attend_wide(q->count);
    td_attend_block keys = td_attend_floats(kv, k, group, s->e_wide, w->keys);
    td_attend_block values = td_attend_floats(vv, k, group, s->f_wide, w->values);
    td_tile_product qk = td_attend_rows(&keys, k, s->e, lanes, w->q, w->scores);
    td_tile_product pv = td_attend_columns(&values, k, s->f, lanes, w->scores, w->o);

    /* S^T = k (scale q^T), capped; softmax; o^T += v^T P^T */
    td_attend_product(s, q, k, sees, TD_KEYS_BY_LANES, &qk);
    td_attend_cap(s, k->count, lanes, w->scores, NULL);
    td_attend_mask(s, q, k, sees, w->scores);
    soften(w->scores, k->count, lanes, w->top, w->sum, w->fade);
    rescale(w->o, s->f, lanes, w->fade);
    td_attend_product(s, q, k, sees, TD_OVER_KEYS, &pv);
}

/* o / sum and the logsumexp of a block of queries; 0 and -inf for a query that sees nothing. */
static void store_block(const td_attend_shape *s, const td_attend_side *q, scratch *w)
{
    const td_view *o = s->call->out, *lse = s->call->out + 1;
    float         *to = lse->data;
    if (o->data)
        td_tile_transpose(w->o, TD_BLOCK, s->f, q->count, w->rows, s->f_wide);
    /* dividing comes last: once per query, not per block */
    for (int64_t i = 0; o->data && i < q->count; i++) {
        float by = w->sum[i] == 0 ? 0 : 1 / w->sum[i];
        td_attend_store_row(o, q->batch, q->head, q->first + i, w->rows + i * s->f_wide, s->f, by);
    }
    if (s->call->n_out < 2 || !to)
        return;
    to += q->batch * lse->stride[0] + q->head * lse->stride[1] + q->first * lse->stride[2];
    for (int64_t i = 0; i < q->count; i++)
        to[i * lse->stride[2]] = td_attend_lse(w->top[i], w->sum[i]);
}

/* A block of queries of one head with all keys that it sees. */
static void attend_task(void *arg, int64_t task, int thread)
{
    const td_attend_shape *s = arg;
    int64_t                blocks = td_cpu_ceil(s->queries, TD_BLOCK), head = task / blocks;
    int64_t                keys = td_attend_keys(s, head / s->heads);
    td_attend_side         q, k;
    scratch                w;

    take_slice(s, thread, &w);
    /* Under a causal mask the last queries see the most keys. They come first, so that no long task
     * is left for the end, when other threads have nothing to do. */
    td_attend_load(s, false, head / s->heads, head % s->heads,
                   (blocks - 1 - task % blocks) * TD_BLOCK, &q);
    load_queries(s, &q, &w);
    memset(w.o, 0, (size_t)(s->f_wide * TD_BLOCK) * sizeof(float));
    for (int64_t first = 0; first < keys; first += TD_BLOCK) {
        int sees;
        td_attend_load(s, true, q.batch, q.head, first, &k);
        sees = td_attend_sees(s, &q, &k);
        if (sees != TD_SEES_NONE)
            add_block(s, &q, &k, sees, &w);
    }
    store_block(s, &q, &w);
}

int td_cpu_attend(const td_call *call)
{
    td_attend_shape s = td_attend_shape_of(call);
    if (td_attend_is_few(&s))
        td_parallel(call->services, s.batch * s.heads, td_attend_few_task, &s);
    else
        td_parallel(call->services, s.batch * s.heads * td_cpu_ceil(s.queries, TD_BLOCK),
                    attend_task, &s);
    return 0;
}
