/* cpu_layers.c - the composites of the backend 'cpu' and its optimizer steps, against plain loops
 * in double. */
#include "cpu.h"

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static double activation(int kind, double x)
{
    switch (kind) {
    case TD_SILU:
        return x * sigmoid(x);
    case TD_GELU:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case TD_RELU:
        return fmax(x, 0);
    case TD_RELU2:
        return fmax(x, 0) * fmax(x, 0);
    default:
        return sigmoid(x);
    }
}

static double slope(int kind, double x)
{
    return (activation(kind, x + 1e-5) - activation(kind, x - 1e-5)) / 2e-5;
}

Test(cpu_layers, activations_and_glu)
{
    enum { N = 3 * 37 };
    float *x = randoms(N, 1), *up = randoms(N, 2), *dy = randoms(N, 3), y[N], dgate[N], dup[N];
    for (int kind = 0; kind < 5; kind++) {
        td_attrs a = { .i = { kind } };
        td_call  f = { .n_in = 1, .n_out = 1, .in = { REAL(x, N) }, .out = { REAL(y, N) } };
        cpu_run("activation", TD_F32, &f, &a);
        for (int i = 0; i < N; i++)
            near("activation", y[i], activation(kind, x[i]), 5e-7);
        td_call b = {
            .n_in = 2, .n_out = 1, .in = { REAL(dy, N), REAL(x, N) }, .out = { REAL(y, N) }
        };
        cpu_run("activation_grad", TD_F32, &b, &a);
        for (int i = 0; i < N; i++)
            near("activation_grad", y[i], dy[i] * slope(kind, x[i]), 1e-5);
        td_call g = { .n_in = 2,
                      .n_out = 1,
                      .in = { REAL(x, 3, 37), REAL(up, 3, 37) },
                      .out = { REAL(y, 3, 37) } };
        cpu_run("glu", TD_F32, &g, &a);
        for (int i = 0; i < N; i++)
            near("glu", y[i], activation(kind, x[i]) * up[i], 5e-7);
        td_call d = { .n_in = 3,
                      .n_out = 2,
                      .in = { REAL(dy, 3, 37), REAL(x, 3, 37), REAL(up, 3, 37) },
                      .out = { REAL(dgate, 3, 37), REAL(dup, 3, 37) } };
        cpu_run("glu_grad", TD_F32, &d, &a);
        for (int i = 0; i < N; i++) {
            near("dgate", dgate[i], dy[i] * up[i] * slope(kind, x[i]), 1e-5);
            near("dup", dup[i], dy[i] * activation(kind, x[i]), 1e-6);
        }
    }
    free(x);
    free(up);
    free(dy);
}

Test(cpu_layers, softmax)
{
    static const int64_t widths[] = { 1, 16, 37, 101 };
    for (int w = 0; w < 4; w++) {
        int64_t n = widths[w];
        float  *x = randoms(5 * n, 1), *dy = randoms(5 * n, 2), *y = malloc(20 * n),
              *dx = malloc(20 * n);
        td_call f = { .n_in = 1, .n_out = 1, .in = { REAL(x, 5, n) }, .out = { REAL(y, 5, n) } };
        td_call b = { .n_in = 2,
                      .n_out = 1,
                      .in = { REAL(dy, 5, n), REAL(y, 5, n) },
                      .out = { REAL(dx, 5, n) } };
        cpu_run("softmax", TD_F32, &f, NULL);
        cpu_run("softmax_grad", TD_F32, &b, NULL);
        for (int r = 0; r < 5; r++) {
            double sum = 0, dot = 0;
            for (int i = 0; i < n; i++)
                sum += exp(x[r * n + i]);
            for (int i = 0; i < n; i++)
                dot += exp(x[r * n + i]) / sum * dy[r * n + i];
            for (int i = 0; i < n; i++) {
                double p = exp(x[r * n + i]) / sum;
                near("softmax", y[r * n + i], p, 5e-7);
                near("softmax_grad", dx[r * n + i], p * (dy[r * n + i] - dot), 2e-6);
            }
        }
        free(x);
        free(dy);
        free(y);
        free(dx);
    }
}

/* x is [2, 3, 67, n] seen through swapped axes; the output keeps that order. */
static void check_norm(bool layer, int64_t n, bool weighted)
{
    int64_t rows = 2 * 3 * 67, swap_rows[2 * 3 * 67];
    float  *x = randoms(rows * n, 1), *w = randoms(n, 2), *b = randoms(n, 3),
          *dy = randoms(rows * n, 4);
    float *y = malloc(4 * rows * n), *dx = malloc(4 * rows * n), *mean = malloc(4 * rows),
          *rstd = malloc(4 * rows), dw[101], db[101];
    td_attrs a = { .f = { 1e-3 } };
    td_view  xv = swapped(REAL(x, 2, 67, 3, n), 1, 2), yv = swapped(REAL(y, 2, 67, 3, n), 1, 2);
    td_view  wv = REAL(weighted ? w : NULL, n), bv = REAL(weighted ? b : NULL, n);
    td_view mv = REAL(mean, 2, 3, 67, 1), rv = REAL(rstd, 2, 3, 67, 1), dyv = REAL(dy, 2, 3, 67, n),
            dxv = REAL(dx, 2, 3, 67, n);
    td_call f = { .n_in = layer ? 3 : 2,
                  .n_out = layer ? 3 : 2,
                  .in = { xv, wv, bv },
                  .out = { yv, layer ? mv : rv, rv } };
    td_call g = { .n_in = 5,
                  .n_out = 3,
                  .in = { dyv, xv, wv, mv, rv },
                  .out = { dxv, REAL(dw, n), REAL(db, n) } };
    double  tw[101] = { 0 }, tb[101] = { 0 };
    if (!layer) {
        g.n_in = 4;
        g.n_out = 2;
        g.in[3] = rv;
    }
    cpu_run(layer ? "layer_norm" : "rms_norm", TD_F32, &f, &a);
    cpu_run(layer ? "layer_norm_grad" : "rms_norm_grad", TD_F32, &g, &a);
    for (int64_t r = 0; r < rows; r++) /* row r of the view is row swap_rows[r] in memory */
        swap_rows[r] = r / 201 * 201 + r % 67 * 3 + r / 67 % 3;
    for (int64_t r = 0; r < rows; r++) {
        const float *p = x + swap_rows[r] * n, *q = dy + r * n;
        double       m = 0, v = 0, ka = 0, kah = 0, s;
        for (int i = 0; i < n && layer; i++)
            m += p[i] / (double)n;
        for (int i = 0; i < n; i++)
            v += (p[i] - m) * (p[i] - m) / n;
        s = 1 / sqrt(v + 1e-3);
        near("rstd", rstd[r], s, 3e-6);
        for (int i = 0; i < n; i++) {
            double h = (p[i] - m) * s, wi = weighted ? w[i] : 1;
            near("norm", y[swap_rows[r] * n + i], h * wi + (layer && weighted ? b[i] : 0), 3e-6);
            ka += q[i] * wi / n;
            kah += q[i] * wi * h / n;
            tw[i] += q[i] * h;
            tb[i] += q[i];
        }
        for (int i = 0; i < n; i++) {
            double h = (p[i] - m) * s, wi = weighted ? w[i] : 1;
            near("dx", dx[r * n + i], s * (q[i] * wi - (layer ? ka : 0) - h * kah), 3e-5);
        }
    }
    for (int i = 0; i < n; i++) {
        near("dw", dw[i], tw[i], 3e-5);
        if (layer)
            near("db", db[i], tb[i], 3e-5);
    }
    free(x);
    free(w);
    free(b);
    free(dy);
    free(y);
    free(dx);
    free(mean);
    free(rstd);
}

Test(cpu_layers, norms)
{
    static const int64_t widths[] = { 1, 7, 16, 101 };
    for (int i = 0; i < 16; i++)
        check_norm(i & 1, widths[i / 4], i >> 1 & 1);
}

Test(cpu_layers, rope_turns_and_turns_back)
{
    enum { B = 2, H = 3, T = 19, E = 22 };
    float *x = randoms(B * T * H * E, 1), y[B * H * T * E], back[B * H * T * E], c[B * T * E / 2],
          s[B * T * E / 2];
    td_attrs a = { .i = { 0 } }, b = { .i = { 1 } };
    for (int i = 0; i < B * T * E / 2; i++) {
        c[i] = (float)cos(0.3 * i);
        s[i] = (float)sin(0.3 * i);
    }
    td_call f = { .n_in = 3,
                  .n_out = 1,
                  .in = { swapped(REAL(x, B, T, H, E), 1, 2), REAL(c, B, T, E / 2),
                          REAL(s, B, T, E / 2) },
                  .out = { REAL(y, B, H, T, E) } };
    cpu_run("rope", TD_F32, &f, &a);
    td_call g = f;
    g.in[0] = REAL(y, B, H, T, E);
    g.out[0] = swapped(REAL(back, B, T, H, E), 1, 2);
    cpu_run("rope", TD_F32, &g, &b);
    for (int i = 0; i < B * H * T * E; i++) {
        int e = i % E, t = i / E % T, h = i / (E * T) % H, r = i / (E * T * H),
            k = (r * T + t) * (E / 2) + e % (E / 2);
        float *p = x + ((r * T + t) * H + h) * E;
        double want = e < E / 2 ? p[e] * (double)c[k] - p[e + E / 2] * (double)s[k]
                                : p[e] * (double)c[k] + p[e - E / 2] * (double)s[k];
        near("rope", y[i], want, 1e-6);
        near("back", back[i], x[i], 1e-6);
    }
    free(x);
}

/* The definition, in double. */
static double ce_loss(const float *h, const float *e, const int32_t *label, const float *w, int n,
                      int v, int d, double scale, double z_loss, double s, double *nll)
{
    double loss = 0, constant = s > 0 ? (1 - s) * log(1 - s) + s * log(s / (v - 1)) : 0;
    *nll = 0;
    for (int i = 0; i < n; i++) {
        double sum = 0, target = 0, zy = 0, log_z;
        for (int k = 0; k < v && w[i] != 0; k++) {
            double z = 0;
            for (int j = 0; j < d; j++)
                z += scale * h[i * d + j] * (double)e[k * d + j];
            sum += exp(z);
            target += (k == label[i] ? 1 - s : s / (v - 1)) * z;
            zy += k == label[i] ? z : 0;
        }
        log_z = w[i] != 0 ? log(sum) : 0;
        if (w[i] != 0) {
            loss += w[i] * (log_z - target + z_loss * log_z * log_z + constant);
            *nll += w[i] * (log_z - zy);
        }
    }
    return loss;
}

static void check_cross_entropy(double z_loss, double s, bool accumulate)
{
    enum { N = 13, V = 37, D = 7 };
    float *h = randoms(N * D, 1), *e = randoms(V * D, 2), w[N], divisor = 11, loss, sum, nll[N],
          dh[N * D], de[V * D];
    int32_t  label[N];
    td_attrs a = { .f = { 0.5, z_loss, s } };
    double   total, want;
    for (int i = 0; i < N; i++) {
        w[i] = i % 3 == 1 ? 0 : 1 + 0.25f * (float)(i % 2);
        label[i] = i % 3 == 1 ? -100 : i * 5 % V;
    }
    for (int i = 0; i < V * D; i++)
        de[i] = 0.5f;
    td_call c = { .n_in = 6,
                  .n_out = 5,
                  .in = { REAL(h, N, D), REAL(e, V, D), WHOLE(label, N), REAL(w, N),
                          SCALAR(&divisor), REAL(accumulate ? de : NULL, V, D) },
                  .out = { SCALAR(&loss), SCALAR(&sum), REAL(nll, N), REAL(dh, N, D),
                           REAL(de, V, D) } };
    cr_assert_eq(cpu_run("cross_entropy", TD_F32, &c, &a), 0);
    want = ce_loss(h, e, label, w, N, V, D, 0.5, z_loss, s, &total) / 11;
    near("loss", loss, want, 2e-6);
    near("sum", sum, total, 2e-6);
    for (int i = 0; i < N * D + V * D; i++) {
        float *at = i < N * D ? h + i : e + i - N * D, old = *at;
        double up, down, got = i < N * D ? dh[i] : de[i - N * D] - (accumulate ? 0.5 : 0), unused;
        *at = old + 1e-2f;
        up = ce_loss(h, e, label, w, N, V, D, 0.5, z_loss, s, &unused);
        *at = old - 1e-2f;
        down = ce_loss(h, e, label, w, N, V, D, 0.5, z_loss, s, &unused);
        *at = old;
        near("gradient", got, (up - down) / 2e-2 / 11, 2e-5);
    }
    cr_assert(nll[1] == 0 && dh[D] == 0);
    label[0] = V;
    cr_assert(cpu_run("cross_entropy", TD_F32, &c, &a) < 0);
    free(h);
    free(e);
}

Test(cpu_layers, cross_entropy)
{
    for (int i = 0; i < 8; i++)
        check_cross_entropy(i & 1 ? 1e-2 : 0, i & 2 ? 0.1 : 0, i & 4);
}

/* More rows than a chunk holds: the loss must be the sum over single rows. */
Test(cpu_layers, cross_entropy_in_chunks)
{
    enum { N = 1301, V = 53, D = 5 };
    float *h = randoms(N * D, 1), *e = randoms(V * D, 2), *w = malloc(4 * N), divisor = 1, loss,
          *dh = malloc(4 * N * D), de[V * D];
    int32_t  label[N];
    td_attrs a = { .f = { 1, 0, 0 } };
    double   total;
    for (int i = 0; i < N; i++) {
        w[i] = i % 7 != 0;
        label[i] = i % V;
    }
    td_call c = {
        .n_in = 5,
        .n_out = 5,
        .in = { REAL(h, N, D), REAL(e, V, D), WHOLE(label, N), REAL(w, N), SCALAR(&divisor) },
        .out = { SCALAR(&loss), SCALAR(NULL), REAL(NULL, N), REAL(dh, N, D), REAL(de, V, D) }
    };
    cpu_run("cross_entropy", TD_F32, &c, &a);
    near("loss", loss, ce_loss(h, e, label, w, N, V, D, 1, 0, 0, &total), 1e-6);
    for (int i = 0; i < V * D; i++) { /* dE = G^T H, G = p - onehot */
        double sum = 0;
        for (int r = 0; r < N; r++) {
            double z[V], all = 0;
            for (int k = 0; k < V; k++) {
                z[k] = 0;
                for (int j = 0; j < D; j++)
                    z[k] += h[r * D + j] * (double)e[k * D + j];
                all += exp(z[k]);
            }
            sum += w[r] * (exp(z[i / D]) / all - (label[r] == i / D)) * h[r * D + i % D];
        }
        near("dE", de[i], sum, 3e-5);
    }
    free(h);
    free(e);
    free(w);
    free(dh);
}

Test(cpu_layers, dropout_is_the_defined_number)
{
    enum { B = 3, T = 5, D = 301 };
    float  *x = randoms(B * T * D, 1), y[B * T * D];
    int32_t step = 17, example[B] = { 4, 1000003, 0 };
    for (int shared = 0; shared < 8; shared += 2) {
        td_attrs a = { .f = { 0.25 }, .i = { 123456789, shared, 987654321 } };
        td_call  c = { .n_in = 3,
                       .n_out = 1,
                       .in = { REAL(x, B, T, D), view_of(&step, TD_I32, 0, NULL),
                               WHOLE(example, B) },
                       .out = { REAL(y, B, T, D) } };
        int      kept = 0;
        cpu_run("dropout", TD_F32, &c, &a);
        for (int i = 0; i < B * T * D; i++) {
            uint64_t stream = 123456789u + 0x9E3779B97F4A7C15u * 17u +
                              0xD1B54A32D192ED03u * (uint64_t)(uint32_t)example[i / (T * D)];
            uint64_t t = shared & 2 ? 0 : (uint64_t)(i / D % T),
                     d = shared & 4 ? 0 : (uint64_t)(i % D);
            uint64_t n = t * (shared & 4 ? 1 : D) + d;
            bool     keep = td_philox(987654321, stream, n >> 2).v[n & 3] >= 0x40000000u;
            cr_assert_float_eq(y[i], keep ? x[i] * (float)(1 / 0.75) : 0, 1e-6);
            kept += keep;
        }
        if (!shared)
            cr_assert(abs(kept - B * T * D * 3 / 4) < 200);
    }
    free(x);
}

Test(cpu_layers, sums_of_squares_and_assign)
{
    int64_t n = 100003;
    float  *x = randoms(n, 1), *s = randoms(n, 2), total, shut = 0;
    double  want = 0;
    td_call c = { .n_in = 1, .n_out = 1, .in = { REAL(x, n) }, .out = { SCALAR(&total) } };
    for (int64_t i = 0; i < n; i++)
        want += (double)x[i] * x[i];
    cpu_run("sum_squares", TD_F32, &c, NULL);
    near("sum_squares", total, want, 3e-7);
    td_call a = { .n_in = 3,
                  .n_out = 1,
                  .in = { REAL(s, n), REAL(x, n), SCALAR(&shut) },
                  .out = { REAL(s, n) } };
    float   first = s[0];
    cpu_run("assign", TD_F32, &a, NULL);
    cr_assert_eq(s[0], first);
    shut = 1;
    cpu_run("assign", TD_F32, &a, NULL);
    cr_assert(!memcmp(s, x, (size_t)n * 4));
    free(x);
    free(s);
}

Test(cpu_layers, adamw)
{
    int64_t n = 40009;
    float *p = randoms(n, 1), *g = randoms(n, 2), *m = randoms(n, 3), *v = randoms(n, 4), lr = 0.1f,
          t = 3, clip = 0.5f, gate = 0;
    float   *p0 = randoms(n, 1), *m0 = randoms(n, 3), *v0 = malloc(4 * n);
    td_attrs a = { .f = { 0.9, 0.99, 1e-8, 0.01 } };
    for (int64_t i = 0; i < n; i++)
        v0[i] = v[i] = fabsf(v[i]);
    td_call c = { .n_in = 8,
                  .n_out = 3,
                  .out = { REAL(p, n), REAL(m, n), REAL(v, n) },
                  .in = { REAL(p, n), REAL(g, n), REAL(m, n), REAL(v, n), SCALAR(&lr), SCALAR(&t),
                          SCALAR(&clip), SCALAR(&gate) } };
    cpu_run("adamw_step", TD_F32, &c, &a);
    cr_assert(!memcmp(p, p0, (size_t)n * 4));
    gate = 1;
    cpu_run("adamw_step", TD_F32, &c, &a);
    for (int64_t i = 0; i < n; i++) {
        double d = 0.5 * g[i], m1 = 0.9 * m0[i] + 0.1 * d, v1 = 0.99 * v0[i] + 0.01 * d * d;
        double u = m1 / (1 - pow(0.9, 3)) / (sqrt(v1 / (1 - pow(0.99, 3))) + 1e-8);
        near("p", p[i], p0[i] - 0.1 * (u + 0.01 * p0[i]), 2e-5);
        near("m", m[i], m1, 1e-6);
        near("v", v[i], v1, 1e-6);
    }
    free(p);
    free(g);
    free(m);
    free(v);
    free(p0);
    free(m0);
    free(v0);
}

/* Moments that were 0 become 1 - b times the new value; with b2 = 0.999 rounded to float they would
 * be off by 1e-5. */
Test(cpu_layers, adamw_of_long_memory)
{
    float    p[37] = { 0 }, g[37], m[37] = { 0 }, v[37] = { 0 };
    float    lr = 0.1f, t = 1, clip = 1, gate = 1;
    td_attrs a = { .f = { 0.9, 0.999, 1e-8, 0 } };
    td_call  c = { .n_in = 8,
                   .n_out = 3,
                   .out = { REAL(p, 37), REAL(m, 37), REAL(v, 37) },
                   .in = { REAL(p, 37), REAL(g, 37), REAL(m, 37), REAL(v, 37), SCALAR(&lr),
                           SCALAR(&t), SCALAR(&clip), SCALAR(&gate) } };
    for (int i = 0; i < 37; i++)
        g[i] = (float)(i + 1);
    cpu_run("adamw_step", TD_F32, &c, &a);
    for (int i = 0; i < 37; i++) {
        near("m", m[i] / (g[i] * 0.1), 1, 1e-6);
        near("v", v[i] / ((double)g[i] * g[i] * 0.001), 1, 1e-6);
    }
}

/* A moment that was 0 becomes t^-0.8 g^2, however small. */
Test(cpu_layers, adafactor_late)
{
    float    g[37], v[37] = { 0 }, t = 400000, clip = 1, gate = 1, u2;
    td_attrs rate = { .f = { 0.8 } };
    td_call  a = { .n_in = 5,
                   .n_out = 2,
                   .in = { REAL(g, 37), REAL(v, 37), SCALAR(&t), SCALAR(&clip), SCALAR(&gate) },
                   .out = { REAL(v, 37), SCALAR(&u2) } };
    for (int i = 0; i < 37; i++)
        g[i] = (float)(i + 1);
    cpu_run("adafactor_moment", TD_F32, &a, &rate);
    for (int i = 0; i < 37; i++)
        near("v", v[i] / (g[i] * g[i] * pow(400000, -0.8)), 1, 1e-6);
}

Test(cpu_layers, adafactor)
{
    int64_t n = 40009;
    float  *p = randoms(n, 1), *g = randoms(n, 2), *v = calloc((size_t)n, 4), *m = randoms(n, 3),
          *p0 = randoms(n, 1), *m0 = randoms(n, 3);
    float    t = 4, clip = 0.5f, gate = 1, u2, p2 = 0, lr = 0.01f;
    double   b2 = 1 - pow(4, -0.8), sum = 0, rms, eta;
    td_attrs rate = { .f = { 0.8 } }, step = { .f = { 0.9, -1, 1, 1e-3 } };
    td_call  a = { .n_in = 5,
                   .n_out = 2,
                   .in = { REAL(g, n), REAL(v, n), SCALAR(&t), SCALAR(&clip), SCALAR(&gate) },
                   .out = { REAL(v, n), SCALAR(&u2) } };
    cpu_run("adafactor_moment", TD_F32, &a, &rate);
    for (int64_t i = 0; i < n; i++) {
        double s = 0.25 * (double)g[i] * g[i], v1 = (1 - b2) * (s + 1e-30);
        near("v", v[i], v1, 1e-6);
        sum += s / v1;
        p2 += p[i] * p[i];
    }
    near("sum_u2", u2, sum, 1e-5);
    td_call b = { .n_in = 9,
                  .n_out = 2,
                  .out = { REAL(p, n), REAL(m, n) },
                  .in = { REAL(p, n), REAL(g, n), REAL(v, n), REAL(m, n), SCALAR(&u2), SCALAR(&p2),
                          SCALAR(&lr), SCALAR(&clip), SCALAR(&gate) } };
    cpu_run("adafactor_step", TD_F32, &b, &step);
    rms = sqrt(sum / (double)n);
    eta = 0.01 * sqrt(p2 / (double)n);
    for (int64_t i = 0; i < n; i++) {
        double u = 0.5 * g[i] / sqrt((double)v[i]) / fmax(1, rms), m1 = 0.9 * m0[i] + 0.1 * eta * u;
        near("m", m[i], m1, 1e-5);
        near("p", p[i], (1 - 1e-4) * p0[i] - m1, 1e-5);
    }
    free(p);
    free(g);
    free(v);
    free(m);
    free(p0);
    free(m0);
}
