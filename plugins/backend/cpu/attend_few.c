/* attend_few.c - attention of a few queries, as in a step of generation.
 *
 * The blocks of attend.c keep queries in vector lanes, of which a single query would fill one in
 * sixteen. Here vectors run along the width of a head, so a key takes e / 16 multiplications, and
 * the time is spent reading keys and values, each once. Scores are still kept as in attend.c, one
 * query per lane, for the mask and the softmax.
 */
#include "attend.h"

enum { FEW = 4 }; /* beyond, blocks of lanes are faster */

typedef struct scratch {  /* of one thread */
    float *q;             /* scale q [FEW][e] */
    float *o;             /* [FEW][f] */
    float *scores;        /* [keys][64] */
    float *keys, *values; /* [64][e or f], if they are bf16 */
    float  top[TD_LANES], sum[TD_LANES], fade[TD_LANES];
} scratch;

bool td_attend_is_few(const td_attend_shape *s)
{
    return s->queries <= FEW && s->call->in[TD_ATTEND_K].stride[3] == 1 &&
           s->call->in[TD_ATTEND_V].stride[3] == 1;
}

static void take_slice(const td_attend_shape *s, int thread, scratch *w)
{
    w->q = (float *)s->call->workspace + (size_t)thread * td_attend_slice_floats(s);
    w->o = w->q + FEW * s->e_wide;
    w->scores = w->o + FEW * s->f_wide;
    w->keys = w->scores + TD_BLOCK * TD_BLOCK;
    w->values = w->keys + TD_BLOCK * s->e_wide;
    memset(w->o, 0, (size_t)(FEW * s->f_wide) * sizeof(float));
    for (int i = 0; i < TD_LANES; i++) {
        w->top[i] = -INFINITY;
        w->sum[i] = 0;
    }
}

static void load_queries(const td_attend_shape *s, const td_attend_side *q, scratch *w)
{
    const td_view *v = s->call->in + TD_ATTEND_Q;
    for (int64_t i = 0; i < q->count; i++)
        td_attend_load_row(w->q + i * s->e_wide, v, q->batch, q->head, i, s->e, s->scale);
}

/* scores[j][i] = q_i k_j; lanes without a query are 0. */
TD_CPU_CLONES static void score(const float *q, int64_t ld_q, int64_t queries, const float *k,
                                int64_t ld_k, int64_t keys, int64_t e, float *scores)
{
    for (int64_t j = 0; j < keys; j++) {
        td_vstore(scores + j * TD_BLOCK, td_vset(0));
        for (int64_t i = 0; i < queries; i++)
            scores[j * TD_BLOCK + i] = td_vdot(q + i * ld_q, k + j * ld_k, e);
    }
}

/* o[f] = by o + sum_j p_j v_j for one query, whose weights are 64 floats apart; 64 of f at a time
 * stay in registers. */
TD_CPU_CLONES static void gather(float *o, float by, const float *p, const float *v, int64_t ld_v,
                                 int64_t keys, int64_t f)
{
    int64_t c = 0;
    for (; c + 4 * TD_LANES <= f; c += 4 * TD_LANES) {
        td_vf s[4];
        for (int u = 0; u < 4; u++)
            s[u] = td_vload(o + c + u * TD_LANES) * by;
        for (int64_t j = 0; j < keys; j++)
            for (int u = 0; u < 4; u++)
                s[u] += td_vload(v + j * ld_v + c + u * TD_LANES) * p[j * TD_BLOCK];
        for (int u = 0; u < 4; u++)
            td_vstore(o + c + u * TD_LANES, s[u]);
    }
    for (; c < f; c += TD_LANES) {
        int64_t n = td_cpu_min(TD_LANES, f - c);
        td_vf   s = td_vload(o + c) * by; /* rows of o are whole vectors */
        for (int64_t j = 0; j < keys; j++)
            s += td_vload_n(v + j * ld_v + c, n) * p[j * TD_BLOCK];
        td_vstore(o + c, s);
    }
}

static void add_block(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k,
                      int sees, scratch *w)
{
    const td_view  *kv = s->call->in + TD_ATTEND_K, *vv = s->call->in + TD_ATTEND_V;
    int64_t         group = q->head / (s->heads / s->groups);
    td_attend_block keys = td_attend_floats(kv, k, group, s->e_wide, w->keys);
    td_attend_block values = td_attend_floats(vv, k, group, s->f_wide, w->values);

    score(w->q, s->e_wide, q->count, keys.data, keys.row, k->count, s->e, w->scores);
    td_attend_cap(s, k->count, TD_LANES, w->scores, NULL);
    td_attend_mask(s, q, k, sees, w->scores);
    td_attend_soften(w->scores, k->count, TD_LANES, w->top, w->sum, w->fade);
    for (int64_t i = 0; i < q->count; i++)
        gather(w->o + i * s->f_wide, w->fade[i], w->scores + i, values.data, values.row, k->count,
               s->f);
}

static void store(const td_attend_shape *s, const td_attend_side *q, scratch *w)
{
    const td_view *o = s->call->out, *lse = s->call->out + 1;
    for (int64_t i = 0; i < q->count; i++) {
        float by = w->sum[i] == 0 ? 0 : 1 / w->sum[i];
        if (o->data)
            td_attend_store_row(o, q->batch, q->head, i, w->o + i * s->f_wide, s->f, by);
        if (s->call->n_out > 1 && lse->data)
            ((float *)lse->data)[q->batch * lse->stride[0] + q->head * lse->stride[1] +
                                 i * lse->stride[2]] = td_attend_lse(w->top[i], w->sum[i]);
    }
}

void td_attend_few_task(void *arg, int64_t head, int thread)
{
    const td_attend_shape *s = arg;
    int64_t                keys = td_attend_keys(s, head / s->heads);
    td_attend_side         q, k;
    scratch                w;

    take_slice(s, thread, &w);
    td_attend_load(s, false, head / s->heads, head % s->heads, 0, &q);
    load_queries(s, &q, &w);
    for (int64_t first = 0; first < keys; first += TD_BLOCK) {
        int sees;
        td_attend_load(s, true, q.batch, q.head, first, &k);
        /* for the whole block, so that hidden ones cost nothing and visible ones need no test per
         * pair */
        sees = td_attend_sees(s, &q, &k);
        if (sees != TD_SEES_NONE)
            add_block(s, &q, &k, sees, &w);
    }
    store(s, &q, &w);
}
