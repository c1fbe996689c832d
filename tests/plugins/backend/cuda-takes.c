/* cuda-takes.c - which calls the backend 'cuda' computes together. Nothing is computed, so this needs no
 * GPU: addresses are stand-ins, as they are when a plan is made. */
#include "plugins/backend/cuda_calls.h"

#ifdef TANDEM_HAS_CUDA

#include "../../../plugins/backend/cuda/state.h"
#include "tandem/generation.h"
#include "tandem/ops.h"

/* A GPU of compute capability 9.0, as far as hooks look at it while a plan is made. */
static td_cuda hopper = { .properties = { .major = 9 } };

static void pretend(void)
{
    find_plugins();
    cr_assert(kernels, "the module backend-cuda cannot be loaded: %s", dlerror());
    gpu = &hopper;
}

TestSuite(cuda_takes, .init = pretend);

/* Row-major, in a storage of its own. */
static td_view stand_in(int storage, int dtype, int rank, const int64_t *dims)
{
    td_view v = row_major(dtype, rank, dims);
    v.data = (void *)((uintptr_t)storage << 40);
    return v;
}

static td_view matrix(int storage, int64_t rows, int64_t columns)
{
    return stand_in(storage, TD_BF16, 2, (int64_t[]){ rows, columns });
}

static td_view heads(int storage)
{
    return stand_in(storage, TD_BF16, 4, (int64_t[]){ 3, 5, 2, 64 });
}

/* The part of the last axis from `start` on. */
static td_view slice(td_view v, int64_t start, int64_t length)
{
    v.data = (uint16_t *)v.data + start;
    v.dim[v.rank - 1] = length;
    return v;
}

static void expect_taken(const sequence *s, int wanted)
{
    const td_fusion *by;
    const td_call   *list[MOST];
    int              taken = take(s, 0, list, &by);
    cr_expect_eq(taken, wanted, "%d of %d calls are taken, expected %d", taken, s->count, wanted);
}

/* ---- memory ---------------------------------------------------------------------------------- */

Test(cuda_takes, views_share_memory)
{
    td_view x = matrix(1, 3, 7), y = slice(x, 3, 4), z = slice(x, 0, 3), other = matrix(2, 3, 7);
    td_view last = x, back = x, none = x;
    last.data = (uint16_t *)x.data + 20;
    last.dim[0] = last.dim[1] = 1;
    cr_expect(td_cuda_share_memory(&x, &x));
    cr_expect(td_cuda_share_memory(&x, &y) && td_cuda_share_memory(&y, &x));
    cr_expect(td_cuda_share_memory(&y, &z), "gaps count");
    cr_expect(!td_cuda_share_memory(&x, &other));
    cr_expect(td_cuda_share_memory(&x, &last));
    last.data = (uint16_t *)x.data + 21;
    cr_expect(!td_cuda_share_memory(&x, &last) && !td_cuda_share_memory(&last, &x));
    back.data = last.data; /* from there backwards */
    back.stride[0] = -7;
    back.stride[1] = -1;
    cr_expect(td_cuda_share_memory(&x, &back) && td_cuda_share_memory(&back, &x));
    none.dim[1] = 0;
    cr_expect(!td_cuda_share_memory(&x, &none));
    none = x;
    none.data = NULL;
    cr_expect(!td_cuda_share_memory(&none, &none));
}

Test(cuda_takes, calls_are_apart)
{
    td_call        a = { .n_in = 1, .n_out = 1, .in = { matrix(1, 3, 7) } }, b = a;
    const td_call *calls[] = { &a, &b };
    a.out[0] = matrix(2, 3, 7);
    b.out[0] = matrix(3, 3, 7);
    cr_expect(td_cuda_is_apart(calls, 1, 0), "both read the same");
    b.in[0] = slice(a.out[0], 2, 5);
    cr_expect(!td_cuda_is_apart(calls, 1, 0), "b reads what a writes");
    cr_expect(td_cuda_is_apart(calls, 1, 1), "which it is handed");
    b.out[0] = slice(a.out[0], 0, 1);
    cr_expect(!td_cuda_is_apart(calls, 1, 1), "both write the same");
    b.out[0] = slice(a.in[0], 6, 1);
    cr_expect(!td_cuda_is_apart(calls, 1, 1), "b writes what a reads");
}

/* ---- products -------------------------------------------------------------------------------- */

enum { ROWS = 2, TERMS = 160 };

static td_view add_norm(sequence *s, td_view x, int to)
{
    td_call c = { .n_in = 1, .n_out = 1, .in = { x }, .out = { x } };
    c.out[0].data = (void *)((uintptr_t)to << 40);
    return add(s, "rms_norm", &c)->out[0];
}

static td_view add_product(sequence *s, td_view x, td_view w, int to)
{
    td_call c = { .n_in = 2, .n_out = 1, .in = { x, turned(w) } };
    c.out[0] = matrix(to, x.dim[0], w.dim[0]);
    return add(s, "matmul", &c)->out[0];
}

static void add_gate(sequence *s, td_view gate, td_view up, int to)
{
    td_call c = { .n_in = 2, .n_out = 1, .in = { gate, up } };
    c.out[0] = matrix(to, up.dim[0], up.dim[1]);
    add(s, "glu", &c);
}

Test(cuda_takes, products_of_the_same_rows)
{
    sequence s = { .count = 0 };
    td_view  n = add_norm(&s, matrix(1, ROWS, TERMS), 2), gate, up;
    expect_taken(&s, 1);
    gate = add_product(&s, n, matrix(3, 40, TERMS), 4);
    expect_taken(&s, 2);
    up = add_product(&s, n, matrix(5, 40, TERMS), 6);
    add_gate(&s, gate, up, 7);
    expect_taken(&s, 4);
}

Test(cuda_takes, one_product_is_none)
{
    sequence s = { .count = 0 };
    add_product(&s, matrix(1, ROWS, TERMS), matrix(2, 40, TERMS), 3);
    expect_taken(&s, 1);
}

/* n n^T */
Test(cuda_takes, a_matrix_that_the_norm_writes)
{
    sequence s = { .count = 0 };
    td_view  n = add_norm(&s, matrix(1, ROWS, TERMS), 2);
    add_product(&s, n, n, 3);
    expect_taken(&s, 1);
}

/* x W, x V, x (x V)^T */
Test(cuda_takes, a_matrix_that_a_product_writes)
{
    sequence s = { .count = 0 };
    td_view  x = matrix(1, ROWS, TERMS), y;
    add_product(&s, x, matrix(2, 40, TERMS), 3);
    y = add_product(&s, x, matrix(4, TERMS, TERMS), 5);
    add_product(&s, x, y, 6);
    expect_taken(&s, 2);
}

/* The same rows, of which the second product reads others. */
Test(cuda_takes, a_gate_that_is_repeated)
{
    sequence s = { .count = 0 };
    td_view  x = matrix(1, 1, TERMS), gate = add_product(&s, x, matrix(2, 40, TERMS), 3);
    td_view  up = add_product(&s, x, matrix(4, 40, TERMS), 5);
    gate.stride[1] = 0;
    add_gate(&s, gate, up, 6);
    expect_taken(&s, 2);
}

/* ---- heads ----------------------------------------------------------------------------------- */

static td_view angles(int storage, const td_view *x)
{
    return stand_in(storage, TD_F32, 3, (int64_t[]){ x->dim[0], x->dim[2], x->dim[3] / 2 });
}

static td_view add_turn(sequence *s, td_view x, td_view cosine, int to)
{
    td_call c = { .n_in = 3, .n_out = 1, .in = { x, cosine, angles(99, &x) } };
    c.out[0] = stand_in(to, TD_BF16, 4, x.dim);
    return add(s, "rope", &c)->out[0];
}

static void add_append(sequence *s, td_view x, int to)
{
    td_call c = { .n_in = TD_APPEND_INPUTS, .n_out = 1 };
    c.in[TD_APPEND_BUFFER] = c.out[0] = stand_in(to, TD_BF16, 4, (int64_t[]){ 3, 5, 11, 64 });
    c.in[TD_APPEND_NEW] = x;
    c.in[TD_APPEND_LENGTHS] = stand_in(97, TD_I32, 1, x.dim);
    c.in[TD_APPEND_COUNTS] = stand_in(98, TD_I32, 1, x.dim);
    s->attrs[s->count].i[0] = 2;
    add(s, "append", &c);
}

Test(cuda_takes, heads)
{
    sequence s = { .count = 0 };
    td_view  q = heads(1), k = heads(2), cosine = angles(3, &q);
    q = add_norm(&s, q, 4);
    k = add_norm(&s, k, 5);
    add_turn(&s, q, cosine, 6);
    k = add_turn(&s, k, cosine, 7);
    add_append(&s, k, 8);
    add_append(&s, heads(9), 10);
    expect_taken(&s, 6);
}

Test(cuda_takes, half_a_head)
{
    for (int64_t start = 0; start < 64; start += 32) {
        sequence s = { .count = 0 };
        td_view  x = slice(add_norm(&s, heads(1), 2), start, 32);
        add_turn(&s, x, angles(3, &x), 4);
        expect_taken(&s, 1);
    }
}

/* The angles are in what the norm writes. */
Test(cuda_takes, angles_that_are_written)
{
    sequence s = { .count = 0 };
    td_view  x = add_norm(&s, heads(1), 2), cosine = angles(2, &x);
    cosine.data = (uint16_t *)cosine.data + 8;
    add_turn(&s, x, cosine, 3);
    expect_taken(&s, 1);
}

/* One buffer for two values, whose order would be lost. */
Test(cuda_takes, a_buffer_that_is_written_twice)
{
    sequence s = { .count = 0 };
    add_append(&s, heads(1), 2);
    add_append(&s, heads(3), 2);
    expect_taken(&s, 1);
}

#else

Test(cuda_takes, is_not_built) { cr_skip_test("the backend 'cuda' is not built here"); }

#endif
