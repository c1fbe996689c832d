/* attention_mean.c - turns sums of attention weights into means. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/attention.h"

/* A part in which no query sees a key gives 0 / 0 = NaN: unknown. */
static td_attention_part part_of(const td_weights *w, int64_t k, int64_t before, bool own)
{
    return (td_attention_part){ .from = before + td_weights_part(k, w->queries, w->query_parts),
                                .to = before + td_weights_part(k + 1, w->queries, w->query_parts),
                                .locality = own ? w->locality[k] / w->count[k] : (double)NAN,
                                .entropy = w->entropy[k] / w->count[k],
                                .distance = w->distance[k] / w->count[k] };
}

static double sum_of(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += x[k];
    return sum;
}

/* Divides each row of sums by its number of queries; NULL when out of memory. */
static double *divided(const double *rows, int64_t columns, const td_weights *w)
{
    double *out = malloc((size_t)(w->query_parts * columns) * sizeof *out + 1);
    for (int64_t r = 0; out && r < w->query_parts; r++)
        for (int64_t c = 0; c < columns; c++)
            out[r * columns + c] = rows[r * columns + c] / w->count[r];
    return out;
}

/* Every query counts equally, although parts differ in size. */
static double *coverage_of(const td_weights *w, double count)
{
    double *out = calloc((size_t)w->memory + 1, sizeof *out);
    for (int64_t r = 0; out && r < w->query_parts; r++)
        for (int64_t k = 0; k < w->memory; k++)
            out[k] += w->received[r * w->memory + k];
    for (int64_t k = 0; out && k < w->memory; k++)
        out[k] /= count;
    return out;
}

bool td_attention_average(td_attention_mean *out, const td_weights *w, int64_t before)
{
    double count = sum_of(w->count, w->query_parts);

    out->n_parts = w->query_parts;
    out->own = w->own;
    out->own_parts = w->own_parts;
    out->memory_tokens = w->memory;
    out->memory_parts = w->memory_parts;
    /* queries without keys of their own (cross-attention) have no neighbours */
    out->locality = w->own ? sum_of(w->locality, w->query_parts) / count : (double)NAN;
    out->entropy = sum_of(w->entropy, w->query_parts) / count;
    out->distance = sum_of(w->distance, w->query_parts) / count;
    out->memory = sum_of(w->received, w->query_parts * w->memory) / count;
    out->parts = calloc((size_t)out->n_parts + 1, sizeof *out->parts);
    for (int64_t k = 0; out->parts && k < out->n_parts; k++)
        out->parts[k] = part_of(w, k, before, w->own > 0);
    out->own_map = divided(w->own_map, w->own_parts, w);
    out->memory_map = divided(w->memory_map, w->memory_parts, w);
    out->coverage = coverage_of(w, count);
    return out->parts && out->own_map && out->memory_map && out->coverage;
}

static void free_mean(td_attention_mean *m)
{
    free(m->parts);
    free(m->own_map);
    free(m->memory_map);
    free(m->coverage);
}

void td_analysis_free(td_analysis *a)
{
    for (size_t k = 0; k < a->n_attentions; k++) {
        free((char *)(uintptr_t)a->attentions[k].name);
        free_mean(&a->attentions[k]);
    }
    /* the names of these are constants */
    for (size_t k = 0; k < TD_READS; k++)
        free_mean(&a->all[k]);
    for (size_t k = 0; k < a->n_without; k++)
        free((char *)(uintptr_t)a->without[k]);
    free(a->attentions);
    free(a->without);
    free(a->logprobs);
    memset(a, 0, sizeof *a);
}
