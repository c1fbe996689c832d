/* linear.c - linear attention. Papers: Katharopoulos et al. 2020; with rotary positions: Su et al.
 * 2021, section 3.3.
 *
 *     o_i = sum_j (f(q_i) . f(k_j)) v_j / sum_j f(q_i) . f(k_j),   f(x) = elu(x) + 1
 *
 * over the keys that a token sees. No T x T matrix exists: a row is cut into chunks of C tokens,
 * pairs within a chunk are computed one by one, and all tokens of other chunks contribute through
 * their states, sums of f(k) v^T (Hua et al. 2022 call this mixed chunk attention). States are
 * summed by one product with a 0/1 matrix over chunks, [T/C, T/C]. The op is in chunks.h.
 *
 * Segments. The segments of a row are runs of tokens in ascending order, followed by padding: that
 * is what packing makes. So beyond its own chunk, a token sees only tokens of the segment that
 * straddles the chunk's border. A chunk offers two states: one of the keys in its last segment, for
 * later chunks, and one of those in its first segment, for earlier chunks where those may look
 * ahead (in an encoder, and among given tokens). No state is ever subtracted, so segments are
 * separated exactly, not up to rounding.
 *
 * Cross-attention. Queries and keys are two sequences, so they are merged into one row, the keys of
 * each segment before its queries, and the results are taken out again. Finding the places compares
 * all segments of the two, once for all layers.
 *
 * Positions. A scheme that rotates turns f(q) and f(k) in the numerator only; one that biases
 * scores is refused. Attention dropout drops values, as elsewhere; the denominator stays whole.
 *
 * Generation carries one state per head, [E, F] and [E], however long the sequence. */
#include "chunks.h"
#include "heads.h"

struct linear {
    struct heads heads;
    int64_t      chunk;
};

HEADS_FIRST(struct linear, heads);

static const td_option options[] = {
    HEADS_SIZES,
    TD_OPTION_INT(struct linear, chunk, 64, 1, 65536,
                  "tokens in a chunk: pairs within it are computed one by one"),
    HEADS_QKV_NORM,
    HEADS_OUTPUT_NORM,
    HEADS_BIAS_AND_EPS,
    TD_OPTION_END
};

/* Per-token integers of a sequence, [B, T]; `input` NULL: no token sees later ones. */
struct tokens {
    td_tensor *segment, *input;
    bool       both, self; /* every token sees both sides; padding sees itself */
};

/* f(q) and f(k) for the denominator, the same rotated for the numerator, and values. [B, H, T,
 * E] */
struct features {
    td_tensor *q, *k, *turned_q, *turned_k, *v;
};

/* The sums over visible tokens, numerator and denominator: sums of weighted values [B, H, T, F] and
 * of weights [B, H, T, 1]. */
struct seen {
    td_tensor *values, *weights;
};

/* ---- integers per token ----------------------------------------------------------------------
 *
 * Truth is 0 or 1 in an i32: * is "and", td_maximum "or", not_ "not". */

static td_tensor *number(td_graph *g, int64_t x) { return td_full(g, TD_I32, 0, 0, (double)x); }
static td_tensor *not_(td_tensor *x) { return td_affine(x, -1, 1); }
static td_tensor *is_zero(td_tensor *x) { return td_equal(x, number(x->graph, 0)); }
static td_tensor *reshape3(td_tensor *x, int64_t a, int64_t b, int64_t c)
{
    return td_reshape(x, (int64_t[]){ a, b, c }, 3);
}

/* x [B, N, C] as real [B, 1, N, C, 1], which broadcasts over heads and their width. */
static td_tensor *factor(td_tensor *x)
{
    int64_t dims[] = { td_dim(x, 0), 1, td_dim(x, 1), td_dim(x, 2), 1 };
    return td_reshape(td_cast(x, TD_REAL), dims, 5);
}

/* Rows cut into chunks: segments and inputs [B, N, C], and the first and last segment of each chunk
 * [B, N]. */
struct chunks {
    int64_t    rows, count, length;
    td_tensor *segment, *input, *begin, *end;
};

/* Cut [B, T] into [B, N, C]. The last chunk is filled with 0, which is padding in every tensor
 * here. */
static td_tensor *in_chunks(const struct chunks *c, td_tensor *x)
{
    return reshape3(td_pad(x, 1, 0, c->count * c->length - td_dim(x, 1)), c->rows, c->count,
                    c->length);
}

/* Cut the rows into chunks of at most h->chunk tokens. */
static struct chunks cut(const struct linear *h, const struct tokens *t)
{
    int64_t       tokens = td_dim(t->segment, 1);
    struct chunks c = { .rows = td_dim(t->segment, 0),
                        .length = h->chunk < tokens ? h->chunk : tokens };
    int64_t       dims[2];

    /* one chunk if the row is short: no larger matrix of pairs than it needs */
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
    /* a query's place varies down the rows, a key's along the columns */
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

/* For each chunk the entry of x [B, N] of its neighbour, behind or ahead; 0, padding, at the
 * ends. */
static td_tensor *neighbour(td_tensor *x, bool ahead)
{
    int64_t n = td_dim(x, 1);
    return ahead ? td_pad(td_slice(x, 1, 1, n - 1), 1, 0, 1)
                 : td_pad(td_slice(x, 1, 0, n - 1), 1, 1, 0);
}

/* Which chunks' states each chunk sums: real [B, 1, N, N]. A chunk offers the state of its segment
 * `own`; wanted is the segment `across` the border of the chunk that reads. */
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

/* The link to the chunks behind, or to those ahead: which states are summed, which keys enter a
 * state, and which queries read it. */
static struct link link_of(const struct chunks *c, bool ahead)
{
    td_tensor *own = ahead ? c->begin : c->end, *across = neighbour(own, ahead);
    td_tensor *give = td_equal(c->segment, reshape3(own, c->rows, c->count, 1));
    td_tensor *take = td_mul(td_equal(c->segment, reshape3(across, c->rows, c->count, 1)),
                             not_(is_zero(c->segment)));

    /* in a causal stack, only given tokens look ahead, and only to given tokens */
    if (ahead && c->input) {
        give = td_mul(give, not_(is_zero(c->input)));
        take = td_mul(take, not_(is_zero(c->input)));
    }
    return (struct link){ chunk_pairs(c, across, own, ahead), factor(give), factor(take) };
}

/* Who sees whom, within chunks and across their borders. */
static struct chunk_mask mask_of(const struct chunks *c, const struct tokens *t)
{
    struct chunk_mask m = { .see = pairs(c, t) };
    /* an absent link costs nothing: none between chunks if there is one, none ahead if all is
     * causal */
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

/* And back, without the tokens that filled the last chunk. */
static td_tensor *from_chunks(td_tensor *x, int64_t tokens)
{
    int64_t dims[] = { td_dim(x, 0), td_dim(x, 1), td_dim(x, 2) * td_dim(x, 3), td_dim(x, 4) };
    return td_slice(td_reshape(x, dims, 4), 2, 0, tokens);
}

/* Numerator and denominator for all tokens of a row. The denominator is the same op on values of
 * 1. */
static struct seen see_row(const struct linear *h, const struct tokens *t, const struct features *x)
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

/* For each token of a, the number of tokens of b with a smaller segment or, with equal_too, with
 * one not greater: i32 [B, T]. In pieces, so that the matrix of all pairs never exists as a
 * whole. */
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

/* Move the tokens of x [B, H, T, E] to `place` in rows of `length`, which are 0 elsewhere. A place
 * (i32 [B, T]) counts through all B rows, as td_scatter_add wants. */
static td_tensor *put(td_tensor *x, td_tensor *place, int64_t length)
{
    int64_t    rows = td_dim(x, 0), heads = td_dim(x, 1), width = td_dim(x, 3);
    int64_t    dims[] = { rows, length, heads, width };
    /* tokens are rows of the scatter, so their axis comes before the heads */
    td_tensor *y = td_scatter_add(place, td_transpose(x, 1, 2), NULL, rows * length);
    return td_transpose(td_reshape(y, dims, 4), 1, 2);
}

/* The inverse: the tokens at `place`. */
static td_tensor *take(td_tensor *x, td_tensor *place)
{
    int64_t dims[] = { td_dim(x, 0) * td_dim(x, 2), td_dim(x, 1), td_dim(x, 3) };
    return td_transpose(td_gather(td_reshape(td_transpose(x, 1, 2), dims, 3), place), 1, 2);
}

/* `put` for integers. td_scatter_add adds reals, which hold segments exactly: they are small. */
static td_tensor *put_numbers(td_tensor *x, td_tensor *place, int64_t length)
{
    int64_t    rows = td_dim(x, 0);
    td_tensor *y = td_scatter_add(place, td_cast(x, TD_REAL), NULL, rows * length);
    return td_cast(td_reshape(y, (int64_t[]){ rows, length }, 2), TD_I32);
}

/* Segments for sorting: padding, 0, sorts last. */
static td_tensor *order_of(td_tensor *segment)
{
    return td_where(is_zero(segment), number(segment->graph, INT32_MAX), segment);
}

/* Merge keys and queries into one row, the keys of each segment before its queries. There, a query
 * sees exactly the keys of its segment if the row is read causally. */
static struct seen see_other(const struct linear *h, const td_mask *m, const struct features *x)
{
    int64_t    rows = td_dim(x->q, 0), queries = td_dim(x->q, 2), keys = td_dim(x->k, 2);
    int64_t    length = queries + keys, column[] = { rows, 1 };
    td_tensor *q_order = order_of(m->q_segment), *k_order = order_of(m->k_segment);
    td_tensor *row = td_affine(td_reshape(td_iota(x->q->graph, TD_I32, rows), column, 2),
                               (double)length, 0);
    /* A token's place is its rank in the merge: its index among its own kind, plus those of the
     * other kind that precede it. */
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

/* The state of all keys but padding, [B, H, E, F], and the sum of their features, [B, H, 1, E]. In
 * generation a row holds one example, so segments need no separating. */
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

/* The encoder's tokens, all of which a query sees. */
static struct seen see_kept(const struct features *x, td_tensor *segment)
{
    struct seen state = state_of(x, segment);
    state.values = td_remember_axis("values", state.values, 0, 0, TD_REMEMBER_WHOLE);
    state.weights = td_remember_axis("weights", state.weights, 0, 0, TD_REMEMBER_WHOLE);
    return see_state(x, &state);
}

/* Add the state that earlier passes left, and store the sum for later ones. */
static void carry_on(const struct features *x, td_tensor *segment, struct seen *s)
{
    td_graph   *g = x->q->graph;
    struct seen now = state_of(x, segment), before, old;
    before.values = td_carry(g, "values", now.values->dim, 4);
    before.weights = td_carry(g, "weights", now.weights->dim, 4);
    /* zeros in the first pass, so it needs no special case */
    old = see_state(x, &before);
    s->values = td_add(s->values, old.values);
    s->weights = td_add(s->weights, old.weights);
    td_carry_on(before.values, td_add(before.values, now.values));
    td_carry_on(before.weights, td_add(before.weights, now.weights));
}

/* ---- building -------------------------------------------------------------------------------- */

/* Repeat grouped heads, since chunk_attend wants one key head per query head: [B, G, S, E] -> [B,
 * H, S, E]. */
static td_tensor *each_head(td_tensor *x, int64_t heads)
{
    int64_t groups = td_dim(x, 1), one[] = { td_dim(x, 0), groups, 1, td_dim(x, 2), td_dim(x, 3) };
    int64_t wide[] = { one[0], groups, heads / groups, one[3], one[4] };
    int64_t dims[] = { one[0], heads, one[3], one[4] };
    return groups == heads ? x : td_reshape(td_expand(td_reshape(x, one, 5), wide), dims, 4);
}

/* Keys are rotated before they are repeated: G heads to turn, not H. */
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

/* Without segments, all tokens belong to segment 1. */
static td_tensor *ones_for(td_tensor *segment, const td_tensor *like)
{
    int64_t dims[] = { td_dim(like, 0), td_dim(like, 1) };
    return segment ? segment : td_full(like->graph, TD_I32, dims, 2, 1);
}

static struct seen see(const struct linear *c, const td_attention_in *in, const struct features *f)
{
    td_graph *g = in->query->graph;
    td_mask   m = in->mask;
    m.q_segment = ones_for(m.q_segment, in->query);
    m.k_segment = ones_for(m.k_segment, in->key);
    if (in->role == TD_ROLE_CROSS)
        return td_keeps_keys(in) ? see_kept(f, m.k_segment) : see_other(c, &m, f);

    /* a row may have fewer new tokens than the pass has places: the rest is padding */
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
    const struct linear *c = config;
    td_graph            *g = in->query->graph;
    struct features      f;
    struct seen          s;

    /* refused rather than ignored: neither could be applied without the matrix of all pairs */
    if (td_position_of(&in->position)->bias)
        return td_graph_fail(
            g,
            "attention 'linear' has no scores for position '%s' to bias: use one that rotates or "
            "embeds, such as rope, xpos or sinusoidal, or none",
            in->position.plugin->name);
    if (in->mask.dense || in->mask.window > 0)
        return td_graph_fail(g, "attention 'linear' supports neither dense masks nor windows: use "
                                "attention 'softmax' or 'sliding-window'");
    f = features_of(&c->heads, in);
    s = see(c, in, &f);
    /* a token that sees nothing has weight 0: divide by 1, and it gets 0, not NaN */
    return heads_out(&c->heads, in,
                     td_div(s.values, td_add(s.weights, td_equal(s.weights, td_scalar(g, 0)))));
}

static const td_attention linear = {
    .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "linear", options, struct linear,
                        .brief = "linear attention: sums of features instead of a softmax",
                        .paper = "Katharopoulos et al., Transformers are RNNs, 2020",
                        .check = heads_check),
    .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
    .build = build,
    .head_dim = heads_dim,
};

TD_MODULE("linear", "1.0", "tandem", "MIT", &linear.plugin, &chunk_attend_op.plugin,
          &elu_plus_one_op.plugin)
