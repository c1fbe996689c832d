/* weights.c - attention weights from queries and keys, summed up as they are made.
 *
 * An item of the parallel work is a part of the queries, which is a row of the maps: it alone writes
 * to that row, so the order of the sums is the same on any number of threads.
 */
#include "evaluate/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clones.h"

/* The number of keys scored side by side, and of queries that share the loaded keys. */
enum { TILE = 64, LANES = 16, BLOCK = 16 };

#define HIDDEN -1e30F /* below any score */

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* The keys that a query sees lie in [from, to). */
typedef struct span {
    int64_t from, to;
} span;

/* One thread's scratch. */
typedef struct scratch {
    float   *scores;  /* [BLOCK][stride] */
    uint8_t *visible; /* [BLOCK][stride] */
    span     seen[BLOCK];
} scratch;

typedef struct job {
    td_weights          *sums;
    const td_weights_in *in;
    float               *q;       /* [heads][queries][width] */
    float               *k;       /* [groups][width][stride]: transposed */
    int64_t              stride;  /* keys, rounded up to whole tiles */
    scratch             *scratch; /* [threads] */
    int                  threads;
} job;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- scores ---------------------------------------------------------------------------------- */

/* scale q . k for TILE keys; each sum runs over the width in order. */
TD_CLONES static void score_tile(const float *q, const float *k, int64_t width, int64_t stride,
                                 float scale, float *out)
{
    lanes a = { 0 }, b = a, c = a, d = a, factor = a + scale;
    for (int64_t e = 0; e < width; e++) {
        const lanes *at = (const lanes *)(k + e * stride);
        a += q[e] * at[0];
        b += q[e] * at[1];
        c += q[e] * at[2];
        d += q[e] * at[3];
    }
    ((lanes *)out)[0] = factor * a;
    ((lanes *)out)[1] = factor * b;
    ((lanes *)out)[2] = factor * c;
    ((lanes *)out)[3] = factor * d;
}

/* Which keys the queries [first, first + n) see; the mask is the same for all heads. Returns the keys
 * that any of them sees. */
static span see(const job *j, scratch *s, int64_t first, int64_t n)
{
    span all = { j->in->keys, 0 };
    for (int64_t i = 0; i < n; i++) {
        uint8_t *visible = s->visible + i * j->stride;
        span     own = { j->in->keys, 0 };
        for (int64_t k = 0; k < j->in->keys; k++) {
            visible[k] = td_mask_sees(&j->in->rule, 0, first + i, k);
            if (visible[k]) {
                own.from = least(own.from, k);
                own.to = k + 1;
            }
        }
        s->seen[i] = own;
        all.from = least(all.from, own.from);
        all.to = most(all.to, own.to);
    }
    return all;
}

static void cap_tile(float *scores, float cap)
{
    for (int k = 0; k < TILE; k++)
        scores[k] = cap * tanhf(scores[k] / cap);
}

static void score_block(const job *j, scratch *s, int64_t head, int64_t first, int64_t n, span all)
{
    const td_weights_in *in = j->in;
    const float         *k = j->k + head / (in->heads / in->groups) * in->width * j->stride;
    const float         *q = j->q + (head * in->queries + first) * in->width;
    /* a tile of keys stays in the cache while the queries pass over it */
    for (int64_t at = all.from / TILE * TILE; at < all.to; at += TILE)
        for (int64_t i = 0; i < n; i++) {
            float *out = s->scores + i * j->stride + at;
            score_tile(q + i * in->width, k + at, in->width, j->stride, (float)in->scale, out);
            if (in->cap > 0)
                cap_tile(out, (float)in->cap);
        }
}

static void add_table(const td_weights_in *in, int64_t head, int64_t query, span seen,
                      float *scores)
{
    const double *row = in->table + head * in->distances;
    for (int64_t k = seen.from; k < seen.to; k++) {
        int64_t d = (int64_t)in->k_position[k] - in->q_position[query] + in->offset;
        scores[k] += (float)row[least(most(d, 0), in->distances - 1)];
    }
}

static void add_dense(const td_weights_in *in, int64_t head, int64_t query, span seen,
                      float *scores)
{
    const double *row = in->dense +
                        ((in->dense_heads > 1 ? head : 0) * in->queries + query) * in->keys;
    for (int64_t k = seen.from; k < seen.to; k++)
        scores[k] += (float)row[k];
}

/* ---- one query ------------------------------------------------------------------------------- */

/* Scores to weights that add up to 1, in place. Returns their entropy; negative: no key is seen.
 *
 *     p_j = e^(s_j - top) / sum;   -sum_j p_j log p_j = log sum - sum_j p_j (s_j - top)
 */
static double normalize(float *w, const uint8_t *visible, span seen)
{
    double sum = 0, mean = 0;
    float  top = HIDDEN;
    for (int64_t k = seen.from; k < seen.to; k++)
        top = visible[k] && w[k] > top ? w[k] : top;
    for (int64_t k = seen.from; k < seen.to; k++) {
        float below = w[k] - top;
        w[k] = visible[k] ? expf(below) : 0;
        sum += (double)w[k];
        /* a bias of -infinity also hides a key */
        mean += w[k] != 0 ? (double)w[k] * (double)below : 0;
    }
    if (sum == 0)
        return -1;
    for (int64_t k = seen.from; k < seen.to; k++)
        w[k] = (float)((double)w[k] / sum);
    return log(sum) - mean / sum;
}

/* row[c] += the weight on part c of the keys [first, first + n). */
static void add_parts(const float *w, span seen, int64_t first, int64_t n, int64_t parts,
                      double *row)
{
    for (int64_t c = 0; c < parts; c++) {
        int64_t from = most(seen.from, first + td_weights_part(c, n, parts));
        int64_t to = least(seen.to, first + td_weights_part(c + 1, n, parts));
        double  sum = 0;
        for (int64_t k = from; k < to; k++)
            sum += (double)w[k];
        row[c] += sum;
    }
}

static double locality(const td_weights_in *in, const float *w, span seen, int64_t query)
{
    int64_t to = least(least(query + 1, in->own), seen.to);
    double  sum = 0;
    for (int64_t k = most(query - TD_WEIGHTS_NEAR, seen.from); k < to; k++)
        sum += (double)w[k];
    return sum;
}

/* In tokens of the text: an encoder's tokens come before those of the queries. */
static double distance(const td_weights_in *in, const float *w, span seen, int64_t query)
{
    double sum = 0;
    for (int64_t k = seen.from; k < seen.to; k++) {
        int64_t d = k < in->own ? query - k : in->before + query - (k - in->own);
        sum += (double)w[k] * (double)llabs(d);
    }
    return sum;
}

/* Part of the job's rows; items write to different ones. */
static void keep_row(const td_weights_in *in, size_t head, int64_t query, const float *w, span seen)
{
    float *row = in->rows + ((int64_t)head * in->queries + query) * in->keys;
    memcpy(row + seen.from, w + seen.from, (size_t)(seen.to - seen.from) * sizeof *row);
}

static void add_query(const job *j, int64_t part, size_t head, int64_t query,
                      const uint8_t *visible, float *w, span seen)
{
    const td_weights_in *in = j->in;
    td_weights          *s = j->sums;
    double               entropy = normalize(w, visible, seen), *received;
    if (entropy < 0 && !isnan(entropy)) /* NaN is a valid result: it shows broken parameters */
        return;
    if (in->rows)
        keep_row(in, head, query, w, seen);
    s->count[part]++;
    s->entropy[part] += entropy;
    s->locality[part] += locality(in, w, seen, query);
    s->distance[part] += distance(in, w, seen, query);
    add_parts(w, seen, 0, s->own, s->own_parts, s->own_map + part * s->own_parts);
    add_parts(w, seen, s->own, s->memory, s->memory_parts, s->memory_map + part * s->memory_parts);
    received = s->received + part * s->memory;
    for (int64_t k = most(seen.from, in->own); k < seen.to; k++)
        received[k - in->own] += (double)w[k];
}

/* ---- all queries ----------------------------------------------------------------------------- */

static void add_block(const job *j, scratch *s, int64_t part, int64_t first, int64_t n)
{
    const td_weights_in *in = j->in;
    span                 all = see(j, s, first, n);
    for (size_t h = 0; h < in->n_chosen; h++) {
        score_block(j, s, in->chosen[h], first, n, all);
        for (int64_t i = 0; i < n; i++) {
            float *scores = s->scores + i * j->stride;
            /* padding may see itself, but its weights mean nothing */
            bool   padding = in->rule.q_segment && !in->rule.q_segment[first + i];
            if (padding || s->seen[i].from >= s->seen[i].to)
                continue;
            if (in->table)
                add_table(in, in->chosen[h], first + i, s->seen[i], scores);
            if (in->dense)
                add_dense(in, in->chosen[h], first + i, s->seen[i], scores);
            add_query(j, part, h, first + i, s->visible + i * j->stride, scores, s->seen[i]);
        }
    }
}

static void add_part(void *arg, int64_t part, int thread)
{
    const job *j = arg;
    int64_t    parts = j->sums->query_parts;
    int64_t    to = td_weights_part(part + 1, j->in->queries, parts);
    for (int64_t at = td_weights_part(part, j->in->queries, parts); at < to; at += BLOCK)
        add_block(j, &j->scratch[thread], part, at, least(BLOCK, to - at));
}

static void copy_queries(job *j)
{
    int64_t n = j->in->heads * j->in->queries * j->in->width;
    for (int64_t i = 0; i < n; i++)
        j->q[i] = (float)j->in->q[i];
}

static void copy_keys(job *j)
{
    const td_weights_in *in = j->in;
    for (int64_t g = 0; g < in->groups; g++)
        for (int64_t k = 0; k < in->keys; k++)
            for (int64_t e = 0; e < in->width; e++)
                j->k[(g * in->width + e) * j->stride + k] =
                    (float)in->k[(g * in->keys + k) * in->width + e];
}

static bool open_job(job *j)
{
    const td_weights_in *in = j->in;
    size_t               room = (size_t)(BLOCK * j->stride);
    bool                 ok;
    j->q = malloc((size_t)(in->heads * in->queries * in->width) * sizeof *j->q + 1);
    /* zeroed, because the last tile extends past the keys and is multiplied whole */
    j->k = calloc((size_t)(in->groups * in->width * j->stride) + 1, sizeof *j->k);
    j->scratch = calloc((size_t)j->threads, sizeof *j->scratch);
    ok = j->q && j->k && j->scratch;
    for (int t = 0; ok && t < j->threads; t++) {
        j->scratch[t].scores = malloc(room * sizeof(float) + 1);
        j->scratch[t].visible = malloc(room + 1);
        ok = j->scratch[t].scores && j->scratch[t].visible;
    }
    return ok;
}

static void close_job(job *j)
{
    for (int t = 0; j->scratch && t < j->threads; t++) {
        free(j->scratch[t].scores);
        free(j->scratch[t].visible);
    }
    free(j->scratch);
    free(j->q);
    free(j->k);
}

bool td_weights_add(td_weights *sums, const td_weights_in *in, const td_services *services)
{
    job  j = { .sums = sums,
               .in = in,
               .stride = (in->keys + TILE - 1) / TILE * TILE,
               .threads = services->threads };
    bool ok = open_job(&j);
    if (ok) {
        copy_queries(&j);
        copy_keys(&j);
        /* an item owns its part's sums, so their order does not depend on the number of threads */
        td_parallel(services, sums->query_parts, add_part, &j);
    }
    close_job(&j);
    return ok;
}

/* ---- sums ------------------------------------------------------------------------------------ */

bool td_weights_open(td_weights *s, int64_t queries, int64_t own, int64_t memory)
{
    *s = (td_weights){ .queries = queries,
                       .own = own,
                       .memory = memory,
                       .query_parts = least(queries, TD_WEIGHTS_PARTS),
                       .own_parts = least(own, TD_WEIGHTS_PARTS),
                       .memory_parts = least(memory, TD_WEIGHTS_PARTS) };
    /* Maps have a fixed number of parts, so they stay small for long texts. Only `received` has
     * every token of the memory: coverage is a curve over its tokens. */
    s->count = calloc((size_t)s->query_parts + 1, sizeof(double));
    s->locality = calloc((size_t)s->query_parts + 1, sizeof(double));
    s->entropy = calloc((size_t)s->query_parts + 1, sizeof(double));
    s->distance = calloc((size_t)s->query_parts + 1, sizeof(double));
    s->own_map = calloc((size_t)(s->query_parts * s->own_parts) + 1, sizeof(double));
    s->memory_map = calloc((size_t)(s->query_parts * s->memory_parts) + 1, sizeof(double));
    s->received = calloc((size_t)(s->query_parts * memory) + 1, sizeof(double));
    return s->count && s->locality && s->entropy && s->distance && s->own_map && s->memory_map &&
           s->received;
}

void td_weights_free(td_weights *s)
{
    free(s->count);
    free(s->locality);
    free(s->entropy);
    free(s->distance);
    free(s->own_map);
    free(s->memory_map);
    free(s->received);
    *s = (td_weights){ 0 };
}

static void join(double *to, const double *from, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        to[k] += from[k];
}

void td_weights_join(td_weights *s, const td_weights *more)
{
    join(s->count, more->count, s->query_parts);
    join(s->locality, more->locality, s->query_parts);
    join(s->entropy, more->entropy, s->query_parts);
    join(s->distance, more->distance, s->query_parts);
    join(s->own_map, more->own_map, s->query_parts * s->own_parts);
    join(s->memory_map, more->memory_map, s->query_parts * s->memory_parts);
    join(s->received, more->received, s->query_parts * s->memory);
}
