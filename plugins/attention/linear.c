/* linear.c - linear attention. Papers: Katharopoulos et al. 2020; with rotary positions: Su et al.
 * 2021, section 3.3.
 *
 *     o_i = sum_j (f(q_i) . f(k_j)) v_j / sum_j f(q_i) . f(k_j),   f(x) = elu(x) + 1
 *
 * over the keys that a token sees. There is no matrix of T x T: a row is cut into chunks of C
 * tokens, pairs within a chunk are computed as they are, and what comes from other chunks goes
 * through their states, sums of f(k) v^T (Hua et al. 2022 call this mixed chunk attention). A sum of
 * states is one product with a 0/1 matrix of chunks, [T/C, T/C]. The op is in chunks.h.
 *
 * Segments. Those of a row are runs of tokens, in ascending order and with padding behind them: what
 * packing makes. So a token sees beyond its chunk only tokens of the segment that lies across the
 * chunk's border. A chunk gives two states: of its keys in the segment at its end, for later
 * chunks, and of those in the segment at its beginning, for earlier chunks where they may be seen (in
 * an encoder, and given tokens by given tokens). No state is ever subtracted, so segments are exactly
 * apart. In cross-attention queries and keys are not side by side; they are put so, each segment's
 * keys before its queries, and taken out again: that compares all their segments, once for all
 * layers.
 *
 * Positions. A scheme that rotates turns f(q) and f(k) in the numerator only; one that biases scores
 * is refused. Dropout of weights drops values, as elsewhere, with the weights' sum as it is.
 *
 * Generation carries one state per head, [E, F] and [E], whatever the length. */
#include "chunks.h"
#include "heads.h"

static const td_option options[] = {
    HEADS_SIZES,
    TD_OPTION_INT(struct heads, chunk, 64, 1, 65536,
                  "tokens of a chunk: pairs within it are computed one by one"),
    HEADS_QKV_NORM,
    HEADS_OUTPUT_NORM,
    HEADS_BIAS_AND_EPS,
    TD_OPTION_END
};

/* What each token of a sequence is, [B, T]; `input` NULL: nobody sees what comes after it. */
struct tokens {
    td_tensor *segment, *input;
    bool       both, self; /* all see both sides; padding sees itself */
};

/* Features q and k, for the sum of weights, and as rotated, for the numerator; values. [B, H, T, E] */
struct features {
    td_tensor *q, *k, *turned_q, *turned_k, *v;
};

/* What the tokens saw: sums of weighted values [B, H, T, F] and of weights [B, H, T, 1]. */
struct seen {
    td_tensor *values, *weights;
};

/* ---- integers per token ---------------------------------------------------------------------- */

static td_tensor *number(td_graph *g, int64_t x) { return td_full(g, TD_I32, 0, 0, (double)x); }
static td_tensor *not_(td_tensor *x) { return td_affine(x, -1, 1); }
static td_tensor *is_zero(td_tensor *x) { return td_equal(x, number(x->graph, 0)); }
static td_tensor *reshape3(td_tensor *x, int64_t a, int64_t b, int64_t c)
{
    return td_reshape(x, (int64_t[]){ a, b, c }, 3);
}

/* x [B, N, C] as real [B, 1, N, C, 1]: a factor of heads in chunks */
static td_tensor *factor(td_tensor *x)
{
    int64_t dims[] = { td_dim(x, 0), 1, td_dim(x, 1), td_dim(x, 2), 1 };
    return td_reshape(td_cast(x, TD_REAL), dims, 5);
}

/* A row in chunks: segments and inputs [B, N, C]; segment at the beginning and end of each [B, N]. */
struct chunks {
    int64_t    rows, count, length;
    td_tensor *segment, *input, *begin, *end;
};

static td_tensor *in_chunks(const struct chunks *c, td_tensor *x)
{
    return reshape3(td_pad(x, 1, 0, c->count * c->length - td_dim(x, 1)), c->rows, c->count,
                    c->length);
}

static struct chunks cut(const struct heads *h, const struct tokens *t)
{
    int64_t       tokens = td_dim(t->segment, 1);
    struct chunks c = { .rows = td_dim(t->segment, 0),
                        .length = h->chunk < tokens ? h->chunk : tokens };
    int64_t       dims[2];
    c.count = (tokens + c.length - 1) / c.length;
    dims[0] = c.rows;
    dims[1] = c.count;
    c.segment = in_chunks(&c, t->segment);
    c.input = t->input ? in_chunks(&c, t->input) : NULL;
    c.begin = td_reshape(td_slice(c.segment, 2, 0, 1), dims, 2);
    c.end = td_reshape(td_slice(c.segment, 2, c.length - 1, 1), dims, 2);
    return c;
}

/* Which pairs of a chunk see each other: real [B, 1, N, C, C]. */
static td_tensor *pairs(const struct chunks *c, const struct tokens *t)
{
    td_graph  *g = t->segment->graph;
    int64_t    q[] = { c->rows, c->count, c->length, 1 }, k[] = { c->rows, c->count, 1, c->length };
    int64_t    down[] = { c->length, 1 }, dims[] = { c->rows, 1, c->count, c->length, c->length };
    td_tensor *place = td_iota(g, TD_I32, c->length), *row = td_reshape(place, down, 2);
    td_tensor *qs = td_reshape(c->segment, q, 4), *ks = td_reshape(c->segment, k, 4);
    td_tensor *see = td_mul(td_equal(qs, ks), not_(is_zero(qs))),
              *order = not_(td_less(row, place));

    if (c->input)
        order = td_maximum(order, not_(is_zero(td_mul(td_reshape(c->input, q, 4),
                                                      td_reshape(c->input, k, 4)))));
    if (!t->both)
        see = td_mul(see, order);
    if (t->self)
        see = td_maximum(see, td_mul(is_zero(qs), td_equal(row, place)));
    return td_reshape(td_cast(see, TD_REAL), dims, 5);
}

/* x [B, N] of the neighbouring chunk, behind or ahead; 0 where there is none. */
static td_tensor *neighbour(td_tensor *x, bool ahead)
{
    int64_t n = td_dim(x, 1);
    return ahead ? td_pad(td_slice(x, 1, 1, n - 1), 1, 0, 1)
                 : td_pad(td_slice(x, 1, 0, n - 1), 1, 1, 0);
}

/* Which chunks' states each chunk adds up: real [B, 1, N, N]. A state is of the segment `own`, what
 * is wanted is the segment across the border. */
static td_tensor *chunk_pairs(const struct chunks *c, td_tensor *across, td_tensor *own, bool ahead)
{
    int64_t    dims[] = { c->rows, 1, c->count, c->count }, down[] = { c->count, 1 };
    td_tensor *place = td_iota(own->graph, TD_I32, c->count), *row = td_reshape(place, down, 2);
    td_tensor *same = td_equal(reshape3(across, c->rows, c->count, 1),
                               reshape3(own, c->rows, 1, c->count));
    same = td_mul(same, ahead ? td_less(row, place) : td_less(place, row));
    return td_reshape(td_cast(same, TD_REAL), dims, 4);
}

/* ---- a row ----------------------------------------------------------------------------------- */

/* What each token sees in the chunks behind it or ahead of it. */
static struct link link_of(const struct chunks *c, bool ahead)
{
    td_tensor *own = ahead ? c->begin : c->end, *across = neighbour(own, ahead);
    td_tensor *give = td_equal(c->segment, reshape3(own, c->rows, c->count, 1));
    td_tensor *take = td_mul(td_equal(c->segment, reshape3(across, c->rows, c->count, 1)),
                             not_(is_zero(c->segment)));

    if (ahead && c->input) {
        give = td_mul(give, not_(is_zero(c->input)));
        take = td_mul(take, not_(is_zero(c->input)));
    }
    return (struct link){ chunk_pairs(c, across, own, ahead), factor(give), factor(take) };
}

static struct chunk_mask mask_of(const struct chunks *c, const struct tokens *t)
{
    struct chunk_mask m = { .see = pairs(c, t) };
    if (c->count > 1)
        m.link[0] = link_of(c, false);
    if (c->count > 1 && (t->both || t->input))
        m.link[1] = link_of(c, true);
    return m;
}

/* [B, H, T, E] -> [B, H, N, C, E] */
static td_tensor *heads_in_chunks(const struct chunks *c, td_tensor *x)
{
    int64_t dims[] = { td_dim(x, 0), td_dim(x, 1), c->count, c->length, td_dim(x, 3) };
    return td_reshape(td_pad(x, 2, 0, c->count * c->length - td_dim(x, 2)), dims, 5);
}

static td_tensor *from_chunks(td_tensor *x, int64_t tokens)
{
    int64_t dims[] = { td_dim(x, 0), td_dim(x, 1), td_dim(x, 2) * td_dim(x, 3), td_dim(x, 4) };
    return td_slice(td_reshape(x, dims, 4), 2, 0, tokens);
}

/* All that the tokens of a row see of each other. The sum of weights is the same product with values
 * of 1. */
static struct seen see_row(const struct heads *h, const struct tokens *t, const struct features *x)
{
    struct chunks     c = cut(h, t);
    struct chunk_mask m = mask_of(&c, t);
    int64_t    tokens = td_dim(x->q, 2), dims[] = { c.rows, td_dim(x->q, 1), c.count, c.length, 1 };
    td_tensor *ones = td_full(x->q->graph, TD_REAL, dims, 5, 1);
    td_tensor *values = chunk_attend(&m, heads_in_chunks(&c, x->turned_q),
                                     heads_in_chunks(&c, x->turned_k), heads_in_chunks(&c, x->v));
    td_tensor *weights = chunk_attend(&m, heads_in_chunks(&c, x->q), heads_in_chunks(&c, x->k),
                                      ones);
    return (struct seen){ from_chunks(values, tokens), from_chunks(weights, tokens) };
}

/* ---- queries and keys of two sequences ------------------------------------------------------- */

/* Of each token of a, the tokens of b with a smaller segment, or one not greater: i32 [B, T]. In
 * pieces, so that no matrix of all pairs is there at once. */
static td_tensor *count_before(td_tensor *a, td_tensor *b, bool equal_too)
{
    enum { PIECE = 256 };
    int64_t    rows = td_dim(a, 0), n = td_dim(a, 1), m = td_dim(b, 1);
    td_tensor *sum = NULL;
    for (int64_t at = 0; at < m; at += PIECE) {
        int64_t    count = m - at < PIECE ? m - at : PIECE;
        td_tensor *one = reshape3(a, rows, n, 1),
                  *other = reshape3(td_slice(b, 1, at, count), rows, 1, count);
        td_tensor *before = equal_too ? not_(td_less(one, other)) : td_less(other, one);
        before = td_sum(before, 2);
        sum = sum ? td_add(sum, before) : before;
    }
    return td_reshape(sum, (int64_t[]){ rows, n }, 2);
}

/* Rows of x [B, H, T, E] at `place` (i32 [B, T], counted through all rows) of B rows of `length`, 0
 * elsewhere. */
static td_tensor *put(td_tensor *x, td_tensor *place, int64_t length)
{
    int64_t    rows = td_dim(x, 0), heads = td_dim(x, 1), width = td_dim(x, 3);
    int64_t    dims[] = { rows, length, heads, width };
    td_tensor *y = td_scatter_add(place, td_transpose(x, 1, 2), NULL, rows * length);
    return td_transpose(td_reshape(y, dims, 4), 1, 2);
}

/* And taken out again. */
static td_tensor *take(td_tensor *x, td_tensor *place)
{
    int64_t dims[] = { td_dim(x, 0) * td_dim(x, 2), td_dim(x, 1), td_dim(x, 3) };
    return td_transpose(td_gather(td_reshape(td_transpose(x, 1, 2), dims, 3), place), 1, 2);
}

static td_tensor *put_numbers(td_tensor *x, td_tensor *place, int64_t length)
{
    int64_t    rows = td_dim(x, 0);
    td_tensor *y = td_scatter_add(place, td_cast(x, TD_REAL), NULL, rows * length);
    return td_cast(td_reshape(y, (int64_t[]){ rows, length }, 2), TD_I32);
}

/* Segments for ordering: padding is last. */
static td_tensor *order_of(td_tensor *segment)
{
    return td_where(is_zero(segment), number(segment->graph, INT32_MAX), segment);
}

/* Keys and queries in one row, the keys of each segment before its queries: then what a query sees
 * are the keys behind it. */
static struct seen see_other(const struct heads *h, const td_mask *m, const struct features *x)
{
    int64_t    rows = td_dim(x->q, 0), queries = td_dim(x->q, 2), keys = td_dim(x->k, 2);
    int64_t    length = queries + keys, column[] = { rows, 1 };
    td_tensor *q_order = order_of(m->q_segment), *k_order = order_of(m->k_segment);
    td_tensor *row = td_affine(td_reshape(td_iota(x->q->graph, TD_I32, rows), column, 2),
                               (double)length, 0);
    td_tensor *q_place = td_add(row, td_add(count_from(m->q_segment, queries, 0),
                                            count_before(q_order, k_order, true))),
              *k_place = td_add(row, td_add(count_from(m->k_segment, keys, 0),
                                            count_before(k_order, q_order, false)));
    struct tokens   t = { .segment = td_add(put_numbers(m->q_segment, q_place, length),
                                            put_numbers(m->k_segment, k_place, length)) };
    struct features all = { put(x->q, q_place, length), put(x->k, k_place, length),
                            put(x->turned_q, q_place, length), put(x->turned_k, k_place, length),
                            put(x->v, k_place, length) };
    struct seen     s = see_row(h, &t, &all);
    s.values = take(s.values, q_place);
    s.weights = take(s.weights, q_place);
    return s;
}

/* ---- generation ------------------------------------------------------------------------------ */

/* The state of all keys that are no padding, [B, H, E, F], and of their weights, [B, H, 1, E]: in
 * generation a row is one example. */
static struct seen state_of(const struct features *x, td_tensor *segment)
{
    int64_t     dims[] = { td_dim(segment, 0), 1, td_dim(segment, 1), 1 };
    td_tensor  *real = td_reshape(td_cast(not_(is_zero(segment)), TD_REAL), dims, 4);
    struct seen s;
    s.values = td_matmul(td_transpose(td_mul(x->turned_k, real), 2, 3), x->v);
    s.weights = td_sum(td_mul(x->k, real), 2);
    return s;
}

static struct seen see_state(const struct features *x, const struct seen *state)
{
    struct seen s = { td_matmul(x->turned_q, state->values),
                      td_sum(td_mul(x->q, state->weights), 3) };
    return s;
}

/* The encoder's tokens, all behind the query. */
static struct seen see_kept(const struct features *x, td_tensor *segment)
{
    struct seen state = state_of(x, segment);
    state.values = td_remember_axis("values", state.values, 0, 0, TD_REMEMBER_WHOLE);
    state.weights = td_remember_axis("weights", state.weights, 0, 0, TD_REMEMBER_WHOLE);
    return see_state(x, &state);
}

/* Add what came in earlier passes, and leave the state for later ones. */
static void carry_on(const struct features *x, td_tensor *segment, struct seen *s)
{
    td_graph   *g = x->q->graph;
    struct seen now = state_of(x, segment), before, old;
    before.values = td_carry(g, "values", now.values->dim, 4);
    before.weights = td_carry(g, "weights", now.weights->dim, 4);
    old = see_state(x, &before);
    s->values = td_add(s->values, old.values);
    s->weights = td_add(s->weights, old.weights);
    td_carry_on(before.values, td_add(before.values, now.values));
    td_carry_on(before.weights, td_add(before.weights, now.weights));
}

/* ---- building -------------------------------------------------------------------------------- */

/* Grouped heads written out: [B, G, S, E] -> [B, H, S, E]. */
static td_tensor *each_head(td_tensor *x, int64_t heads)
{
    int64_t groups = td_dim(x, 1), one[] = { td_dim(x, 0), groups, 1, td_dim(x, 2), td_dim(x, 3) };
    int64_t wide[] = { one[0], groups, heads / groups, one[3], one[4] };
    int64_t dims[] = { one[0], heads, one[3], one[4] };
    return groups == heads ? x : td_reshape(td_expand(td_reshape(x, one, 5), wide), dims, 4);
}

static struct features features_of(const struct heads *c, const td_attention_in *in)
{
    struct qkv      x = heads_of(c, in->query, in->key);
    struct features f = { .q = elu_plus_one(x.q), .k = elu_plus_one(x.k) };
    f.turned_q = td_rotate(in, f.q, true);
    f.turned_k = each_head(td_rotate(in, f.k, false), c->heads);
    f.k = each_head(f.k, c->heads);
    f.v = each_head(drop_values(in, x.v, "weights"), c->heads);
    return f;
}

/* Without segments all tokens are of one. */
static td_tensor *ones_for(td_tensor *segment, const td_tensor *like)
{
    int64_t dims[] = { td_dim(like, 0), td_dim(like, 1) };
    return segment ? segment : td_full(like->graph, TD_I32, dims, 2, 1);
}

static struct seen see(const struct heads *c, const td_attention_in *in, const struct features *f)
{
    td_graph *g = in->query->graph;
    td_mask   m = in->mask;
    m.q_segment = ones_for(m.q_segment, in->query);
    m.k_segment = ones_for(m.k_segment, in->key);
    if (in->role == TD_ROLE_CROSS)
        return td_keeps_keys(in) ? see_kept(f, m.k_segment) : see_other(c, &m, f);

    /* a row may have fewer new tokens than the pass has places */
    if (td_keeps_keys(in))
        m.k_segment = td_mul(m.k_segment, td_new_tokens(g, td_dim(in->key, 0), td_dim(in->key, 1)));

    struct tokens t = { m.k_segment, m.causal ? m.k_input : NULL, !m.causal, m.self };
    struct seen   s = see_row(c, &t, f);
    if (td_keeps_keys(in))
        carry_on(f, m.k_segment, &s);
    return s;
}

static td_tensor *build(const void *config, const td_attention_in *in)
{
    const struct heads *c = config;
    td_graph           *g = in->query->graph;
    struct features     f;
    struct seen         s;

    if (td_position_of(&in->position)->bias)
        return td_graph_fail(
            g,
            "attention 'linear' has no scores that position '%s' could bias: take "
            "one that rotates or embeds, such as rope, xpos or sinusoidal, or none",
            in->position.plugin->name);
    if (in->mask.dense || in->mask.window > 0)
        return td_graph_fail(g, "attention 'linear' knows neither dense masks nor windows: take "
                                "attention 'softmax' or 'sliding-window'");
    f = features_of(c, in);
    s = see(c, in, &f);
    /* what sees nothing gets 0 */
    return heads_out(c, in,
                     td_div(s.values, td_add(s.weights, td_equal(s.weights, td_scalar(g, 0)))));
}

static const td_attention linear = {
    .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "linear", options, struct heads,
                        .brief = "linear attention: sums of features in place of a softmax",
                        .paper = "Katharopoulos et al., Transformers are RNNs, 2020",
                        .check = heads_check),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
    .build = build,
    .head_dim = heads_dim,
};

TD_MODULE("linear", "1.0", "tandem", "MIT", &linear.plugin, &chunk_attend_op.plugin,
          &elu_plus_one_op.plugin)
