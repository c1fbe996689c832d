/* cuda-fusions.c - calls that the backend 'cuda' computes together, against the same calls one by
 * one: they must have the same bits. Skipped without a GPU. */
#include "plugins/backend/cuda_calls.h"
#include "tandem/generation.h"
#include "tandem/ops.h"

TestSuite(cuda_fusions, .init = setup, .fini = teardown);

static void run_each(const sequence *s)
{
    for (int k = 0; k < s->count; k++)
        cr_assert_eq(s->kernels[k]->run(&s->calls[k]), 0);
    cr_assert_eq(backend->sync(gpu), 0);
}

/* As the planner does it: what a fusion takes by that, the others by their kernels. Returns the number
 * of pieces. */
static int run_planned(const sequence *s)
{
    int pieces = 0;
    for (int k = 0; k < s->count; pieces++) {
        const td_fusion *by;
        const td_call   *list[MOST];
        int              taken = take(s, k, list, &by);
        int code = by ? by->run(list, s->kernels + k, taken) : s->kernels[k]->run(&s->calls[k]);
        cr_assert_eq(code, 0);
        k += taken;
    }
    cr_assert_eq(backend->sync(gpu), 0);
    return pieces;
}

static td_view tensor(int dtype, int rank, const int64_t *dims)
{
    td_view v = row_major(dtype, rank, dims);
    allocate(&v);
    return v;
}

static td_view matrix(int dtype, int64_t rows, int64_t columns)
{
    return tensor(dtype, 2, (int64_t[]){ rows, columns });
}

/* Unwritten elements are NaN again. */
static void clear(const td_view *v)
{
    void *host = malloc(bytes_of(v));
    memset(host, 0xFF, bytes_of(v));
    cr_assert_eq(backend->upload(gpu, v->data, host, bytes_of(v)), 0);
    free(host);
}

static void *raw(const td_view *v)
{
    void *host = malloc(bytes_of(v));
    cr_assert_eq(backend->download(gpu, host, v->data, bytes_of(v)), 0);
    return host;
}

/* Every output, computed in `pieces` pieces, has the bits that it has one by one; inner ones are not
 * written. */
static void expect_same_bits(sequence *s, int pieces, const char *what)
{
    void *each[MOST][2] = { { NULL } };
    int   found;
    run_each(s);
    for (int k = 0; k < s->count; k++)
        for (int o = 0; o < s->calls[k].n_out; o++)
            if (s->calls[k].out[o].data) {
                each[k][o] = raw(&s->calls[k].out[o]);
                clear(&s->calls[k].out[o]);
            }
    found = run_planned(s);
    cr_expect_eq(found, pieces, "%s: computed in %d pieces, expected %d", what, found, pieces);
    for (int k = 0; k < s->count; k++)
        for (int o = 0; o < s->calls[k].n_out; o++) {
            const td_view *v = &s->calls[k].out[o];
            uint16_t      *now = v->data ? raw(v) : NULL;
            if (now && s->calls[k].inner >> o & 1)
                cr_expect_eq(now[0], 0xFFFF, "%s: output %d of call %d is inner", what, o, k);
            else if (now)
                cr_expect(!memcmp(now, each[k][o], bytes_of(v)),
                          "%s: output %d of call %d has other bits", what, o, k);
            free(now);
            free(each[k][o]);
        }
}

/* ---- products of the same rows --------------------------------------------------------------- */

typedef struct shape {
    int rows, k, parts, n[3], norm, gated, inner; /* norm: 1, and 2 with a weight */
} shape;

enum { X, NORM_WEIGHT, NORMAL, GATED, W, Y = W + 3, VIEWS = Y + 3 };

static void make_products(sequence *s, td_view *v, const shape *p)
{
    memset(s, 0, sizeof *s);
    v[X] = matrix(p->norm ? TD_F32 : TD_BF16, p->rows, p->k);
    v[NORM_WEIGHT] = tensor(TD_F32, 1, (int64_t[]){ p->k });
    v[NORMAL] = matrix(TD_BF16, p->rows, p->k);
    v[GATED] = matrix(TD_BF16, p->rows, p->n[0]);
    randomize(v + X, 3, 1);
    randomize(v + NORM_WEIGHT, 4, 1);
    if (p->norm) {
        td_call norm = { .n_in = p->norm, .n_out = 2, .in = { v[X], v[NORM_WEIGHT] } };
        norm.out[0] = v[NORMAL];
        norm.out[1] = (td_view){ NULL, TD_F32, 2, { p->rows, 1 }, { 1, 1 } };
        norm.inner = p->inner;
        s->attrs[0].f[0] = 1e-6;
        add(s, "rms_norm", &norm);
    }
    for (int k = 0; k < p->parts; k++) {
        td_call product = { .n_in = 2, .n_out = 1, .fixed = p->rows % 2 ? 2 : 0 };
        v[W + k] = matrix(TD_BF16, p->n[k], p->k);
        v[Y + k] = matrix(TD_BF16, p->rows, p->n[k]);
        randomize(v + W + k, 5 + (uint64_t)k, 0.1);
        product.in[0] = v[p->norm ? NORMAL : X];
        product.in[1] = (td_view){ v[W + k].data, TD_BF16, 2, { p->k, p->n[k] }, { 1, p->k } };
        product.out[0] = v[Y + k];
        product.inner = p->gated && p->inner;
        add(s, "matmul", &product);
    }
    if (p->gated) {
        td_call gate = { .n_in = 2, .n_out = 1, .in = { v[Y], v[Y + 1] }, .out = { v[GATED] } };
        s->attrs[s->count].i[0] = TD_SILU;
        add(s, "glu", &gate);
    }
}

static void check_products(const shape *p)
{
    td_view  v[VIEWS] = { { 0 } };
    char     what[200];
    sequence s;
    make_products(&s, v, p);
    snprintf(what, sizeof what, "%d rows of %d, norm %d, %d parts of %d %d %d, gated %d, inner %d",
             p->rows, p->k, p->norm, p->parts, p->n[0], p->n[1], p->n[2], p->gated, p->inner);
    expect_same_bits(&s, 1, what);
    for (int k = 0; k < VIEWS; k++)
        release(v + k);
}

Test(cuda_fusions, products_of_the_same_rows)
{
    static const shape shapes[] = {
        { 1, 2048, 3, { 2048, 512, 512 }, 0, 0, 0 },
        { 16, 1024, 3, { 1024, 72, 71 }, 0, 0, 0 },
        { 5, 96, 2, { 40, 8 }, 0, 0, 0 },
        { 1, 2048, 3, { 2048, 2048, 520 }, 1, 0, 0 },
        { 2, 2048, 3, { 72, 8, 71 }, 2, 0, 0 },
        { 8, 768, 2, { 520, 33 }, 2, 0, 1 },
        { 2, 4096, 1, { 4100 }, 2, 0, 1 },
        { 2, 160, 1, { 40 }, 1, 0, 0 },
    };
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        check_products(&shapes[k]);
}

Test(cuda_fusions, gated_products)
{
    static const shape shapes[] = {
        { 1, 2048, 2, { 8192, 8192 }, 2, 1, 1 }, { 8, 1024, 2, { 520, 520 }, 2, 1, 0 },
        { 13, 1024, 2, { 71, 71 }, 0, 1, 1 },    { 16, 2048, 2, { 4096, 4096 }, 0, 1, 0 },
        { 4, 32, 2, { 8, 8 }, 0, 1, 0 },
    };
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        check_products(&shapes[k]);
}

/* ---- products that read parts of each other --------------------------------------------------- */

/* x y^T */
static td_view add_turned(sequence *s, const td_view *x, const td_view *y)
{
    td_call c = { .n_in = 2, .n_out = 1, .in = { *x, turned(*y) } };
    c.out[0] = matrix(TD_BF16, x->dim[0], y->dim[0]);
    return add(s, "matmul", &c)->out[0];
}

/* n = norm(x), n W and n n^T: the last matrix is what the norm writes. */
Test(cuda_fusions, a_norm_by_itself)
{
    static const shape p = { 2, 160, 1, { 40 }, 1, 0, 0 };
    td_view            v[VIEWS] = { { 0 } }, square;
    sequence           s;
    make_products(&s, v, &p);
    square = add_turned(&s, &v[NORMAL], &v[NORMAL]);
    expect_same_bits(&s, 2, "n n^T");
    release(&square);
    for (int k = 0; k < VIEWS; k++)
        release(v + k);
}

/* x W and x (x W)^T */
Test(cuda_fusions, a_product_by_its_neighbour)
{
    static const shape p = { 5, 96, 1, { 96 }, 0, 0, 0 };
    td_view            v[VIEWS] = { { 0 } }, square;
    sequence           s;
    make_products(&s, v, &p);
    square = add_turned(&s, &v[X], &v[Y]);
    expect_same_bits(&s, 2, "x (x W)^T");
    release(&square);
    for (int k = 0; k < VIEWS; k++)
        release(v + k);
}

/* The gate of all columns is the first column's. */
Test(cuda_fusions, one_gate_for_all_columns)
{
    static const shape p = { 1, 96, 2, { 40, 40 }, 0, 1, 0 };
    td_view            v[VIEWS] = { { 0 } };
    sequence           s;
    make_products(&s, v, &p);
    s.calls[2].in[0].stride[1] = 0;
    expect_same_bits(&s, 2, "one gate");
    for (int k = 0; k < VIEWS; k++)
        release(v + k);
}

/* ---- heads ----------------------------------------------------------------------------------- */

typedef struct heads_shape {
    int rows, heads, kv_heads, tokens, width, slots, weight, norms, inner, roots;
} heads_shape;

enum {
    Q,
    K,
    V,
    COSINE,
    SINE,
    SCALE,
    LENGTHS,
    COUNTS,
    K_BUFFER,
    V_BUFFER,
    ROOTS,
    OUT,
    HEADS = OUT + 8
};

/* [B, T, H E], seen as [B, H, T, E] */
static td_view heads_of(const heads_shape *p, int heads)
{
    td_view v = tensor(TD_BF16, 4, (int64_t[]){ p->rows, p->tokens, heads, p->width });
    td_view w = v;
    w.dim[1] = heads;
    w.dim[2] = p->tokens;
    w.stride[1] = p->width;
    w.stride[2] = (int64_t)heads * p->width;
    return w;
}

static td_view numbers(int rows, int first)
{
    td_view v = tensor(TD_I32, 1, (int64_t[]){ rows });
    int32_t host[64];
    for (int k = 0; k < rows; k++)
        host[k] = first + (first > 1 ? k % 3 : 0);
    cr_assert_eq(backend->upload(gpu, v.data, host, bytes_of(&v)), 0);
    return v;
}

static td_view add_head_norm(sequence *s, td_view *v, const heads_shape *p, int from, int at)
{
    td_call c = { .n_in = p->weight ? 2 : 1, .n_out = 2, .in = { v[from], v[SCALE] } };
    v[OUT + at] = c.out[0] = heads_of(p, from == Q ? p->heads : p->kv_heads);
    c.out[1] = (td_view){ NULL, TD_F32, 4, { p->rows, c.out[0].dim[1], p->tokens, 1 }, { 0 } };
    if (p->roots && from == Q)
        v[ROOTS] = c.out[1] = tensor(TD_F32, 4, c.out[1].dim);
    c.inner = p->inner;
    s->attrs[s->count].f[0] = 1e-6;
    return add(s, "rms_norm", &c)->out[0];
}

static td_view add_turn(sequence *s, td_view *v, const heads_shape *p, const td_view *x, int at)
{
    td_call c = { .n_in = 3, .n_out = 1, .in = { *x, v[COSINE], v[SINE] } };
    v[OUT + at] = c.out[0] = heads_of(p, (int)x->dim[1]);
    c.inner = p->inner && at == 4; /* of keys */
    return add(s, "rope", &c)->out[0];
}

static void add_append(sequence *s, td_view *v, const td_view *x, int buffer)
{
    td_call c = { .n_in = TD_APPEND_INPUTS, .n_out = 1, .out = { v[buffer] } };
    c.in[TD_APPEND_BUFFER] = v[buffer];
    c.in[TD_APPEND_NEW] = *x;
    c.in[TD_APPEND_LENGTHS] = v[LENGTHS];
    c.in[TD_APPEND_COUNTS] = v[COUNTS];
    s->attrs[s->count].i[0] = 2;
    s->attrs[s->count].i[1] = 1; /* a ring */
    add(s, "append", &c);
}

static void make_heads(sequence *s, td_view *v, const heads_shape *p)
{
    int64_t angles[] = { p->rows, p->tokens, p->width / 2 };
    td_view q, k, x;
    memset(s, 0, sizeof *s);
    v[Q] = heads_of(p, p->heads);
    v[K] = heads_of(p, p->kv_heads);
    v[V] = heads_of(p, p->kv_heads);
    v[COSINE] = tensor(TD_F32, 3, angles);
    v[SINE] = tensor(TD_F32, 3, angles);
    v[SCALE] = tensor(TD_F32, 1, (int64_t[]){ p->width });
    v[LENGTHS] = numbers(p->rows, 5);
    v[COUNTS] = numbers(p->rows, 1);
    v[K_BUFFER] = tensor(TD_BF16, 4, (int64_t[]){ p->rows, p->kv_heads, p->slots, p->width });
    v[V_BUFFER] = tensor(TD_BF16, 4, (int64_t[]){ p->rows, p->kv_heads, p->slots, p->width });
    for (int n = Q; n <= SCALE; n++)
        randomize(v + n, 20 + (uint64_t)n, 1);
    q = v[Q];
    k = v[K];
    x = v[V];
    if (p->norms) {
        q = add_head_norm(s, v, p, Q, 0);
        k = add_head_norm(s, v, p, K, 1);
        x = add_head_norm(s, v, p, V, 2);
    }
    q = add_turn(s, v, p, &q, 3);
    k = add_turn(s, v, p, &k, 4);
    if (!p->slots)
        return;
    add_append(s, v, &k, K_BUFFER);
    add_append(s, v, &x, V_BUFFER);
}

Test(cuda_fusions, heads_are_normalized_turned_and_kept)
{
    static const heads_shape shapes[] = {
        { 1, 16, 16, 1, 128, 1152, 0, 1, 1, 0 }, { 3, 7, 7, 1, 64, 11, 1, 1, 0, 0 },
        { 32, 8, 2, 1, 96, 40, 0, 1, 1, 0 },     { 2, 5, 5, 3, 16, 13, 1, 1, 0, 1 },
        { 2, 4, 2, 37, 128, 0, 1, 1, 1, 1 },     { 3, 3, 1, 2, 48, 9, 0, 0, 0, 0 },
    };
    for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++) {
        td_view  v[HEADS] = { { 0 } };
        char     what[100];
        sequence s;
        make_heads(&s, v, &shapes[n]);
        snprintf(what, sizeof what, "shape %zu", n);
        expect_same_bits(&s, 1, what);
        for (int k = 0; k < HEADS; k++)
            release(v + k);
    }
}

/* The rotation begins in the middle of what the norm writes. */
Test(cuda_fusions, half_a_head_is_turned)
{
    static const heads_shape p = { 3, 5, 5, 2, 64, 0, 1, 1, 0, 0 },
                             half = { 3, 5, 5, 2, 32, 0, 1, 1, 0, 0 };
    td_view  v[HEADS] = { { 0 } }, x;
    sequence s = { .count = 0 };
    v[Q] = heads_of(&p, p.heads);
    v[SCALE] = tensor(TD_F32, 1, (int64_t[]){ p.width });
    v[COSINE] = tensor(TD_F32, 3, (int64_t[]){ p.rows, p.tokens, half.width / 2 });
    v[SINE] = tensor(TD_F32, 3, v[COSINE].dim);
    randomize(v + Q, 41, 1);
    randomize(v + SCALE, 42, 1);
    randomize(v + COSINE, 43, 1);
    randomize(v + SINE, 44, 1);
    x = add_head_norm(&s, v, &p, Q, 0);
    x.data = (uint16_t *)x.data + half.width;
    x.dim[3] = half.width;
    add_turn(&s, v, &half, &x, 3);
    expect_same_bits(&s, 2, "half a head");
    for (int k = 0; k < HEADS; k++)
        release(v + k);
}
