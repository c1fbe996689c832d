/* plain_attention.h - attention with the matrix of all weights, written as plainly as possible. */
#ifndef TESTS_PLAIN_ATTENTION_H
#define TESTS_PLAIN_ATTENTION_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "graph/attention.h"
#include "tandem/ops.h"

/* All weights of one attention on one sequence, and its inputs. */
typedef struct plain {
    td_attention_node node;
    int64_t           heads, queries, keys;
    double           *in[TD_ATTEND_INPUTS], *out;
    double           *weight; /* [heads][queries][keys] */
} plain;

static inline bool has(const plain *p, int input) { return p->in[input] != NULL; }

/* td_mask's words, one by one. */
static inline bool sees(const plain *p, int64_t i, int64_t j)
{
    const td_attrs *a = &p->node.attrs;
    double          qi = has(p, TD_ATTEND_Q_INDEX) ? p->in[TD_ATTEND_Q_INDEX][i] : (double)i;
    double          kj = has(p, TD_ATTEND_K_INDEX) ? p->in[TD_ATTEND_K_INDEX][j] : (double)j;
    bool            inputs = has(p, TD_ATTEND_Q_INPUT) && p->in[TD_ATTEND_Q_INPUT][i] != 0 &&
                  p->in[TD_ATTEND_K_INPUT][j] != 0;
    if (has(p, TD_ATTEND_Q_SEGMENT) &&
        p->in[TD_ATTEND_Q_SEGMENT][i] != p->in[TD_ATTEND_K_SEGMENT][j])
        return false;
    if (a->i[0] && kj > qi && !inputs)
        return false;
    return a->i[1] <= 0 || qi - kj < (double)a->i[1];
}

static inline double score(const plain *p, int64_t h, int64_t i, int64_t j)
{
    const td_tensor *q = p->node.in[TD_ATTEND_Q], *k = p->node.in[TD_ATTEND_K];
    int64_t          width = q->dim[3], g = h / (q->dim[1] / k->dim[1]);
    double           s = 0;
    for (int64_t e = 0; e < width; e++)
        s += p->in[TD_ATTEND_Q][(h * p->queries + i) * width + e] *
             p->in[TD_ATTEND_K][(g * p->keys + j) * width + e];
    s *= p->node.attrs.f[0];
    if (p->node.attrs.f[1] > 0)
        s = p->node.attrs.f[1] * tanh(s / p->node.attrs.f[1]);
    if (has(p, TD_ATTEND_TABLE)) {
        int64_t r = p->node.in[TD_ATTEND_TABLE]->dim[1];
        double  d = p->in[TD_ATTEND_K_POSITION][j] - p->in[TD_ATTEND_Q_POSITION][i] +
                   (double)p->node.attrs.i[3];
        s += p->in[TD_ATTEND_TABLE][h * r + (int64_t)fmin(fmax(d, 0), (double)r - 1)];
    }
    if (has(p, TD_ATTEND_DENSE)) {
        int64_t b = p->node.in[TD_ATTEND_DENSE]->dim[1] > 1 ? h : 0;
        s += p->in[TD_ATTEND_DENSE][(b * p->queries + i) * p->keys + j];
    }
    return s;
}

static inline void weigh(plain *p)
{
    for (int64_t r = 0; r < p->heads * p->queries; r++) {
        double *w = p->weight + r * p->keys, top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < p->keys; j++) {
            bool seen = sees(p, r % p->queries, j);
            w[j] = seen ? score(p, r / p->queries, r % p->queries, j) : (double)-INFINITY;
            top = fmax(top, w[j]);
        }
        for (int64_t j = 0; j < p->keys; j++)
            sum += w[j] = exp(w[j] - top);
        for (int64_t j = 0; j < p->keys; j++)
            w[j] /= sum;
    }
}

/* The weights make the output that the kernel made, so they are its own. */
static inline void expect_output(const plain *p, const char *config)
{
    const td_tensor *v = p->node.in[TD_ATTEND_V];
    int64_t          width = v->dim[3];
    double           worst = 0;
    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t i = 0; i < p->queries; i++)
            for (int64_t e = 0; e < width; e++) {
                int64_t g = h / (p->heads / v->dim[1]);
                double  sum = 0;
                for (int64_t j = 0; j < p->keys; j++)
                    sum += p->weight[(h * p->queries + i) * p->keys + j] *
                           p->in[TD_ATTEND_V][(g * p->keys + j) * width + e];
                worst = fmax(worst, fabs(sum - p->out[(h * p->queries + i) * width + e]));
            }
    cr_assert(worst < 2e-5, "%s, %s: outputs differ by %g", config, p->node.path, worst);
}

static inline void free_plain(plain *p, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        for (int i = 0; i < TD_ATTEND_INPUTS; i++)
            free(p[k].in[i]);
        free(p[k].out);
        free(p[k].weight);
    }
}

#endif
