/* mask.c - the mask rule of an attention node on a batch's own numbers: how many pairs it shows,
 * and which, as a picture. */
#include <string.h>

#include "graph/internal.h"
#include "tandem/ops.h"

/* ---- the rule -------------------------------------------------------------------------------- */

static const int32_t *numbers(const td_node *n, int k, const td_batch *b)
{
    const td_value *v = k < n->n_in ? n->in[k] : NULL;
    const td_array *a = v && v->node->kind == TD_NODE_INPUT && b ? td_batch_find(b, v->node->input)
                                                                 : NULL;
    return a && a->dtype == TD_I32 ? a->data : NULL;
}

typedef struct rule {
    const int32_t *q_segment, *k_segment, *q_input, *k_input, *q_index, *k_index;
    int64_t        rows, q, k, causal, window, self;
} rule;

/* False when a mask input is computed in the graph, so that the batch does not tell it. */
static bool find_rule(const td_node *n, const td_batch *b, rule *r)
{
    for (int i = TD_ATTEND_Q_SEGMENT; i <= TD_ATTEND_K_INDEX; i++)
        if (i < n->n_in && n->in[i] && !numbers(n, i, b))
            return false;
    *r = (rule){ numbers(n, TD_ATTEND_Q_SEGMENT, b),
                 numbers(n, TD_ATTEND_K_SEGMENT, b),
                 numbers(n, TD_ATTEND_Q_INPUT, b),
                 numbers(n, TD_ATTEND_K_INPUT, b),
                 numbers(n, TD_ATTEND_Q_INDEX, b),
                 numbers(n, TD_ATTEND_K_INDEX, b),
                 n->in[0]->t.dim[0],
                 n->in[0]->t.dim[2],
                 n->in[1]->t.dim[2],
                 n->attrs.i[0],
                 n->attrs.i[1],
                 n->attrs.i[2] };
    return true;
}

static bool sees(const rule *r, int64_t row, int64_t i, int64_t j)
{
    int64_t q = row * r->q + i, k = row * r->k + j;
    int64_t qi = r->q_index ? r->q_index[q] : i, kj = r->k_index ? r->k_index[k] : j;
    bool    both = r->q_input && r->q_input[q] && r->k_input[k];
    if (r->self && r->q_segment && r->q_segment[q] == 0)
        return qi == kj;
    if (r->q_segment && (r->q_segment[q] != r->k_segment[k] || r->q_segment[q] == 0))
        return false;
    if (r->causal && kj > qi && !both)
        return false;
    return r->window <= 0 || qi - kj < r->window;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

typedef struct span {
    int64_t from, to;
} span;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t one_by_one(const rule *r, int64_t row)
{
    int64_t count = 0;
    for (int64_t i = 0; i < r->q; i++)
        for (int64_t j = 0; j < r->k; j++)
            count += sees(r, row, i, j);
    return count;
}

/* Of queries and keys of one segment, whose index is their place: each query sees keys up to itself
 * as far as the window reaches, and an input sees the inputs ahead of it too. */
static int64_t between(const rule *r, int64_t row, span q, span k)
{
    const int32_t *given = r->causal && r->q_input ? r->k_input + row * r->k : NULL;
    int64_t        count = 0, ahead = 0;
    for (int64_t j = most(q.to, k.from); given && j < k.to; j++)
        ahead += given[j] != 0;
    for (int64_t i = q.to - 1; i >= q.from; i--) {
        int64_t low = r->window > 0 ? most(k.from, i - r->window + 1) : k.from;
        int64_t high = r->causal ? least(k.to, i + 1) : k.to;
        count += high > low ? high - low : 0;
        if (!given)
            continue;
        count += r->q_input[row * r->q + i] ? ahead : 0;
        ahead += i >= k.from && i < k.to && given[i];
    }
    return count;
}

/* Places from `at` on with the same segment; without segments, all. */
static span run_from(const int32_t *segment, int64_t at, int64_t n)
{
    span s = { at, at + 1 };
    while (s.to < n && (!segment || segment[s.to] == segment[at]))
        s.to++;
    return s;
}

/* Segments come in runs, so a row costs its length, not the square of it. */
static int64_t by_runs(const rule *r, int64_t row)
{
    const int32_t *qs = r->q_segment ? r->q_segment + row * r->q : NULL,
                  *ks = r->q_segment ? r->k_segment + row * r->k : NULL;
    int64_t count = 0;
    for (span q = run_from(qs, 0, r->q); q.from < r->q; q = run_from(qs, q.to, r->q)) {
        if (qs && !qs[q.from]) { /* padding sees itself, or nothing */
            count += r->self ? most(0, least(q.to, r->k) - q.from) : 0;
            continue;
        }
        for (span k = run_from(ks, 0, r->k); k.from < r->k; k = run_from(ks, k.to, r->k))
            if (!qs || ks[k.from] == qs[q.from])
                count += between(r, row, q, k);
    }
    return count;
}

double td_visible_pairs(const td_node *n, const td_batch *b)
{
    rule    r;
    int64_t count = 0;
    if (!find_rule(n, b, &r) || !r.rows || !r.q || !r.k)
        return 1;
    for (int64_t row = 0; row < r.rows; row++)
        count += r.q_index || r.k_index ? one_by_one(&r, row) : by_runs(&r, row);
    return (double)count / ((double)r.rows * (double)r.q * (double)r.k);
}

bool td_same_mask(const td_node *a, const td_node *b)
{
    bool same = !memcmp(a->attrs.i, b->attrs.i, 3 * sizeof *a->attrs.i) &&
                a->in[0]->t.dim[2] == b->in[0]->t.dim[2] &&
                a->in[1]->t.dim[2] == b->in[1]->t.dim[2];
    for (int k = TD_ATTEND_Q_SEGMENT; same && k <= TD_ATTEND_K_INDEX; k++)
        same = a->in[k] == b->in[k];
    return same;
}

/* ---- a picture ------------------------------------------------------------------------------- */

/* What could have been asked for. */
static int no_such_attention(const td_graph_full *g, const char *path, td_error *error)
{
    td_text     names = { 0 };
    const char *last = "", *all[256], *nearest;
    size_t      n = 0;
    int         code;
    for (int32_t i = 0; i < g->n_nodes && n < 256; i++)
        if (td_node_is(g->nodes[i], "attend") && strcmp(last, g->nodes[i]->path)) {
            all[n++] = g->nodes[i]->path;
            td_text_print(&names, "%s%s", *last ? ", " : "", g->nodes[i]->path);
            last = g->nodes[i]->path;
        }
    nearest = td_nearest(path, all, n);
    code = td_fail(error, TD_ECONFIG, "no attention is at '%s'%s%s%s; there are: %s", path,
                   nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "",
                   td_text_get(&names));
    td_text_free(&names);
    return code;
}

/* Whether a path is `group` or lies in it: layers.10 does not lie in layers.1. */
static bool is_within(const char *path, const char *group)
{
    size_t n = strlen(group);
    return !strncmp(path, group, n) && (!path[n] || path[n] == '.');
}

int td_graph_dump_mask(const td_graph *graph, const td_batch *batch, const char *path, int64_t row,
                       td_text *out, td_error *error)
{
    const td_graph_full *g = td_full_of(graph);
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const td_node *n = g->nodes[i];
        rule           r;
        if (!td_node_is(n, "attend") || !is_within(n->path, path))
            continue;
        if (!find_rule(n, batch, &r))
            return td_fail(error, TD_EUNSUPPORTED,
                           "the mask of '%s' is computed in the graph, not given by the batch",
                           n->path);
        if (row < 0 || row >= r.rows)
            return td_fail(error, TD_ECONFIG, "row %lld of a batch of %lld", (long long)row,
                           (long long)r.rows);
        td_text_print(out, "%s: %lld queries (down) by %lld keys\n", n->path, (long long)r.q,
                      (long long)r.k);
        for (int64_t q = 0; q < r.q; q++, td_text_append(out, "\n", 1))
            for (int64_t k = 0; k < r.k; k++)
                td_text_append(out, sees(&r, row, q, k) ? "#" : ".", 1);
        return 0;
    }
    return no_such_attention(g, path, error);
}
