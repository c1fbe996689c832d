/* mask.c - the mask rule of an attention node on a batch's own integers: how many pairs of tokens
 * it shows, and which, as a picture.
 *
 * The rule is td_mask's (tandem/ops.h), written a second time for the host: FLOPs are counted
 * without executing the graph, by lengths of runs rather than pair by pair. tests/graph/mask.c
 * compares the count with the picture for every combination of the rule's parts.
 */
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"
#include "graph/mask.h"
#include "tandem/ops.h"

/* ---- the rule -------------------------------------------------------------------------------- */

enum { MASKS = TD_ATTEND_K_INDEX - TD_ATTEND_Q_SEGMENT + 2 };

/* The integers of the rule: those per token in the order of the op's inputs, then the lengths. */
static const td_value *mask_input(const td_node *n, int k)
{
    int input = k == MASKS - 1 ? TD_ATTEND_K_LENGTH : TD_ATTEND_Q_SEGMENT + k;
    return input < n->n_in ? n->in[input] : NULL;
}

static bool is_computed(const td_value *v) { return v && v->node->kind != TD_NODE_INPUT; }

int64_t td_mask_room(const td_node *n)
{
    int64_t room = 0;
    for (int k = 0; k < MASKS; k++)
        room += is_computed(mask_input(n, k)) ? td_count(&mask_input(n, k)->t) : 0;
    return room;
}

/* The integers of one input: the batch's own, or computed into `room`, which is advanced. False:
 * they are unknown. */
static bool find_numbers(const td_value *v, const td_batch *b, int32_t **room, const int32_t **out)
{
    const td_array *a = v && !is_computed(v) && b ? td_batch_find(b, v->node->input) : NULL;
    double          x;
    *out = NULL;
    if (!v) /* absent: the rule does not need it */
        return true;
    if (!is_computed(v)) {
        *out = a && a->dtype == TD_I32 ? a->data : NULL;
        return *out != NULL;
    }
    *out = *room;
    for (int64_t k = 0; k < td_count(&v->t); k++, (*room)++) {
        if (!td_number_at(v, k, b, &x))
            return false;
        **room = (int32_t)x;
    }
    return true;
}

/* The node's rule on a batch. `room` has space for td_mask_room integers, or is NULL: then the
 * space is allocated here, and the caller must free *own in any case. False if the rule does not
 * follow from the batch. */
static bool find_rule(const td_node *n, const td_batch *b, int32_t *room, td_mask_rule *r,
                      int32_t **own)
{
    const int32_t *in[MASKS];
    int64_t        wanted = td_mask_room(n);
    memset(r, 0, sizeof *r);
    *own = NULL;
    if (wanted && !room)
        room = *own = malloc((size_t)wanted * sizeof *room);
    if (wanted && !room)
        return false;
    /* in the order of attend's inputs */
    for (int k = 0; k < MASKS; k++)
        if (!find_numbers(mask_input(n, k), b, &room, &in[k]))
            return false;
    r->q_segment = in[0];
    r->k_segment = in[1];
    r->q_input = in[2];
    r->k_input = in[3];
    r->q_index = in[4];
    r->k_index = in[5];
    r->k_length = in[6];
    r->rows = n->in[0]->t.dim[0];
    r->q = n->in[0]->t.dim[2];
    r->k = n->in[1]->t.dim[2];
    r->causal = n->attrs.i[0];
    r->window = n->attrs.i[1];
    r->self = n->attrs.i[2];
    return true;
}

static int64_t keys_of(const td_mask_rule *r, int64_t row)
{
    return r->k_length && r->k_length[row] < r->k ? r->k_length[row] : r->k;
}

bool td_mask_sees(const td_mask_rule *r, int64_t row, int64_t i, int64_t j)
{
    int64_t q = row * r->q + i, k = row * r->k + j;
    int64_t qi = r->q_index ? r->q_index[q] : i, kj = r->k_index ? r->k_index[k] : j;
    bool    both = r->q_input && r->q_input[q] && r->k_input[k];
    if (j >= keys_of(r, row))
        return false;
    /* a padding query sees itself if the rule says so, and nothing else */
    if (r->self && r->q_segment && r->q_segment[q] == 0)
        return qi == kj;
    if (r->q_segment && (r->q_segment[q] != r->k_segment[k] || r->q_segment[q] == 0))
        return false;
    if (r->causal && kj > qi && !both)
        return false;
    return r->window <= 0 || qi - kj < r->window;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

/* In a batch as architectures arrange it, tokens of one segment are adjacent and their indices
 * count up. So a row is a few runs, and the pairs of two runs are counted along the queries: a row
 * costs its length times its number of runs, not the square of its length. Rows that are arranged
 * otherwise are counted correctly too, in shorter runs. */

/* Tokens [from, to) of one segment, whose indices are base, base + step, ..; step is 0 or 1. */
typedef struct span {
    int64_t from, to, base, step;
} span;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t index_at(const int32_t *index, int64_t at) { return index ? index[at] : at; }
static int64_t index_in(const span *s, int64_t at) { return s->base + s->step * (at - s->from); }

/* The longest run from token `at` on. */
static span run_from(const int32_t *segment, const int32_t *index, int64_t at, int64_t n)
{
    span s = { at, at + 1, at < n ? index_at(index, at) : 0, 1 };
    bool more = s.to < n && (!segment || segment[s.to] == segment[at]);
    /* its second token decides whether indices count up or stay */
    if (more && index_at(index, s.to) == s.base)
        s.step = 0;
    while (s.to < n && (!segment || segment[s.to] == segment[at]) &&
           index_at(index, s.to) == index_in(&s, s.to))
        s.to++;
    return s;
}

/* The number of keys of the run with an index in [low, high). */
static int64_t keys_within(const span *k, int64_t low, int64_t high)
{
    if (!k->step)
        return k->base >= low && k->base < high ? k->to - k->from : 0;
    return most(0, least(high, k->base + k->to - k->from) - most(low, k->base));
}

/* Pairs of the queries and keys of two runs of one segment: each query sees keys up to itself, as
 * far as the window reaches, and an input sees the inputs ahead of it too. */
static int64_t between(const td_mask_rule *r, int64_t row, const span *q, const span *k)
{
    const int32_t *input = r->causal && r->q_input ? r->k_input + row * r->k : NULL;
    int64_t        count = 0, ahead = 0, p = k->to;
    /* from the last query back, so that the inputs ahead of a query only grow: p moves once
     * through the keys. Any index of a later key exceeds `at`, so the window, which looks back,
     * hides none. */
    for (int64_t i = q->to - 1; i >= q->from; i--) {
        int64_t at = index_in(q, i);
        count += keys_within(k, r->window > 0 ? at - r->window + 1 : INT64_MIN,
                             r->causal ? at + 1 : INT64_MAX);
        for (; input && p > k->from && index_in(k, p - 1) > at; p--)
            ahead += input[p - 1] != 0;
        count += input && r->q_input[row * r->q + i] ? ahead : 0;
    }
    return count;
}

static int64_t by_runs(const td_mask_rule *r, int64_t row)
{
    const int32_t *qs = r->q_segment ? r->q_segment + row * r->q : NULL,
                  *ks = r->q_segment ? r->k_segment + row * r->k : NULL,
                  *qi = r->q_index ? r->q_index + row * r->q : NULL,
                  *ki = r->k_index ? r->k_index + row * r->k : NULL;
    int64_t keys = keys_of(r, row), count = 0;
    for (span q = run_from(qs, qi, 0, r->q); q.from < r->q; q = run_from(qs, qi, q.to, r->q))
        for (span k = run_from(ks, ki, 0, keys); k.from < keys; k = run_from(ks, ki, k.to, keys)) {
            bool padding = qs && !qs[q.from]; /* segment 0: sees itself, or nothing */
            for (int64_t i = q.from; padding && r->self && i < q.to; i++)
                count += keys_within(&k, index_in(&q, i), index_in(&q, i) + 1);
            if (!padding && (!qs || ks[k.from] == qs[q.from]))
                count += between(r, row, &q, &k);
        }
    return count;
}

double td_visible_pairs(const td_node *n, const td_batch *b, int32_t *room)
{
    td_mask_rule r;
    int32_t     *own;
    int64_t      count = 0;
    bool         known = find_rule(n, b, room, &r, &own) && r.rows && r.q && r.k;
    for (int64_t row = 0; known && row < r.rows; row++)
        count += by_runs(&r, row);
    free(own);
    /* unknown: all pairs, as a kernel that cannot skip any would compute them */
    return known ? (double)count / ((double)r.rows * (double)r.q * (double)r.k) : 1;
}

/* The same tensors, not equal ones: equal nodes were merged when they were built. */
bool td_same_mask(const td_node *a, const td_node *b)
{
    bool same = !memcmp(a->attrs.i, b->attrs.i, 3 * sizeof *a->attrs.i) &&
                a->in[0]->t.dim[2] == b->in[0]->t.dim[2] &&
                a->in[1]->t.dim[2] == b->in[1]->t.dim[2];
    for (int k = 0; same && k < MASKS; k++)
        same = mask_input(a, k) == mask_input(b, k);
    return same;
}

/* ---- a picture ------------------------------------------------------------------------------- */

/* Lists the attentions of the graph, and the one with the nearest name. */
static int no_such_attention(const td_graph_full *g, const char *path, td_error *error)
{
    td_text     names = { 0 };
    const char *last = "", *all[256], *nearest;
    size_t      n = 0;
    int         code;
    for (int32_t i = 0; i < g->n_nodes && n < 256; i++)
        /* one attention may have several nodes, side by side */
        if (td_node_is(g->nodes[i], "attend") && strcmp(last, g->nodes[i]->path)) {
            all[n++] = g->nodes[i]->path;
            td_text_print(&names, "%s%s", *last ? ", " : "", g->nodes[i]->path);
            last = g->nodes[i]->path;
        }
    nearest = td_nearest(path, all, n);
    code = td_fail(error, TD_ECONFIG, "no attention at '%s'%s%s%s; the graph has: %s", path,
                   nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "",
                   td_text_get(&names));
    td_text_free(&names);
    return code;
}

/* Whether a path is `group` or is inside it: layers.10 is not inside layers.1. */
static bool is_within(const char *path, const char *group)
{
    size_t n = strlen(group);
    return !strncmp(path, group, n) && (!path[n] || path[n] == '.');
}

/* A line for each query, a character for each key. */
static void print_rule(const td_mask_rule *r, int64_t row, td_text *out)
{
    for (int64_t q = 0; q < r->q; q++) {
        for (int64_t k = 0; k < r->k; k++)
            td_text_append(out, td_mask_sees(r, row, q, k) ? "#" : ".", 1);
        td_text_append(out, "\n", 1);
    }
}

static int print_mask(const td_node *n, const td_batch *batch, int64_t row, td_text *out,
                      td_error *error)
{
    td_mask_rule r;
    int32_t     *own;
    int          code = 0;
    if (!find_rule(n, batch, NULL, &r, &own))
        code = td_fail(error, TD_EUNSUPPORTED,
                       "cannot show the mask of '%s': the graph computes it from more than the "
                       "batch's integers",
                       n->path);
    else if (row < 0 || row >= r.rows)
        code = td_fail(error, TD_ECONFIG, "cannot show row %lld: the batch has %lld rows",
                       (long long)row, (long long)r.rows);
    else {
        td_text_print(out, "%s: %lld queries (down) by %lld keys\n", n->path, (long long)r.q,
                      (long long)r.k);
        print_rule(&r, row, out);
    }
    free(own);
    return code;
}

int td_graph_dump_mask(const td_graph *graph, const td_batch *batch, const char *path, int64_t row,
                       td_text *out, td_error *error)
{
    const td_graph_full *g = td_full_of(graph);
    for (int32_t i = 0; i < g->n_nodes; i++)
        if (td_node_is(g->nodes[i], "attend") && is_within(g->nodes[i]->path, path))
            return print_mask(g->nodes[i], batch, row, out, error);
    return no_such_attention(g, path, error);
}
