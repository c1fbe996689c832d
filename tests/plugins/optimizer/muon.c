/* muon.c - the optimizer 'muon' against plain loops: matrices of all shapes, and the parameters
 * that AdamW updates. */
#include "plugins/optimizer/machine.h"

enum { SIDE = 8 };

/* One matrix of a parameter, rows x columns. */
typedef struct plain {
    int    rows, columns;
    double x[SIDE][SIDE];
} plain;

static plain transposed(const plain *a)
{
    plain t = { a->columns, a->rows, { { 0 } } };
    for (int i = 0; i < a->rows; i++)
        for (int j = 0; j < a->columns; j++)
            t.x[j][i] = a->x[i][j];
    return t;
}

static plain product(const plain *a, const plain *b)
{
    plain c = { a->rows, b->columns, { { 0 } } };
    for (int i = 0; i < a->rows; i++)
        for (int j = 0; j < b->columns; j++)
            for (int k = 0; k < a->columns; k++)
                c.x[i][j] += a->x[i][k] * b->x[k][j];
    return c;
}

/* X <- a X + b (X X^T) X + c (X X^T)^2 X, of any shape: transposing does not change it. */
static plain orthogonal(plain x, int iterations)
{
    double norm = 0;
    for (int i = 0; i < x.rows; i++)
        for (int j = 0; j < x.columns; j++)
            norm += x.x[i][j] * x.x[i][j];
    for (int i = 0; i < x.rows; i++)
        for (int j = 0; j < x.columns; j++)
            x.x[i][j] /= sqrt(norm) + 1e-7;
    for (int k = 0; k < iterations; k++) {
        plain t = transposed(&x), a = product(&x, &t), once = product(&a, &x),
              twice = product(&a, &once);
        for (int i = 0; i < x.rows; i++)
            for (int j = 0; j < x.columns; j++)
                x.x[i][j] = 3.4445 * x.x[i][j] - 4.7750 * once.x[i][j] + 2.0315 * twice.x[i][j];
    }
    return x;
}

/* ---- updates --------------------------------------------------------------------------------- */

/* `at`: place of the matrix in the parameter. */
static void muon_steps(int rows, int columns, int at, bool nesterov, double scale, double *p)
{
    double m[SIDE * SIDE] = { 0 };
    for (int s = 0; s < STEPS; s++) {
        plain u = { rows, columns, { { 0 } } };
        for (int k = 0; k < rows * columns; k++) {
            double g = clip * gradient(s, at + k);
            m[k] = 0.95 * m[k] + g;
            u.x[k / columns][k % columns] = nesterov ? g + 0.95 * m[k] : m[k];
        }
        u = orthogonal(u, 5);
        for (int k = 0; k < rows * columns; k++)
            p[k] -= rates[s] * (scale * u.x[k / columns][k % columns] + 0.1 * decay_scale * p[k]);
    }
}

static void adamw_steps(int count, double rate, double decay, double *p)
{
    double m[LARGEST] = { 0 }, v[LARGEST] = { 0 };
    for (int s = 0; s < STEPS; s++)
        for (int k = 0; k < count; k++) {
            double g = clip * gradient(s, k);
            m[k] = 0.9 * m[k] + 0.1 * g;
            v[k] = 0.95 * v[k] + 0.05 * g * g;
            p[k] -= rate * rates[s] *
                    (m[k] / (1 - pow(0.9, s + 1)) / (sqrt(v[k] / (1 - pow(0.95, s + 1))) + 1e-8) +
                     decay * decay_scale * p[k]);
        }
}

static void expect(const char *what, const float *got, const double *want, int count)
{
    for (int k = 0; k < count; k++)
        cr_expect(fabs(got[k] - want[k]) <= 1e-6, "%s: element %d is %.9g, not %.9g", what, k,
                  got[k], want[k]);
}

static int size_of(const weight *w)
{
    int n = 1;
    for (int a = 0; a < w->rank; a++)
        n *= (int)w->dim[a];
    return n;
}

static void check_muon(const weight *w, bool nesterov, bool shape)
{
    struct machine machine;
    int            rows = (int)w->dim[w->rank - 2], columns = (int)w->dim[w->rank - 1];
    double         p[LARGEST], scale = 0.2 * sqrt(rows > columns ? rows : columns);
    float          got[LARGEST];
    machine_open(&machine);
    td_part part = part_of(&machine, "muon");
    set(&part, "nesterov", nesterov);
    set(&part, "scale", shape);
    if (shape)
        scale = sqrt(rows > columns ? (double)rows / columns : 1);
    update(&machine, &part, w, got);
    for (int k = 0; k < size_of(w); k++)
        p[k] = first(k);
    for (int k = 0; k < size_of(w); k += rows * columns)
        muon_steps(rows, columns, k, nesterov, scale, p + k);
    expect(w->name, got, p, size_of(w));
    machine_close(&machine);
}

Test(muon, wide_tall_square_and_stacked)
{
    static const weight shapes[] = {
        { "wide", 2, { 3, 5 } },     { "tall", 2, { 7, 2 } }, { "square", 2, { 5, 5 } },
        { "stack", 3, { 2, 3, 5 } }, { "row", 2, { 1, 7 } },  { "tall stack", 3, { 3, 5, 2 } },
    };
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        check_muon(&shapes[k], true, false);
    check_muon(&shapes[0], false, false);
    check_muon(&shapes[0], true, true);
    check_muon(&shapes[1], true, true);
}

/* Vectors, and parameters with certain names, are updated by AdamW at a separate rate. */
Test(muon, adamw_for_the_rest)
{
    static const weight others[] = {
        { "model.decoder.embed_tokens.weight", 2, { 3, 5 } },
        { "lm_head.weight", 2, { 3, 5 } },
        { "model.encoder.relative_attention_bias.weight", 2, { 3, 5 } },
        { "model.layers.0.mlp.bias", 1, { 15 } },
    };
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        struct machine machine;
        double         p[LARGEST];
        float          got[LARGEST];
        machine_open(&machine);
        td_part part = part_of(&machine, "muon");
        set(&part, "adamw_rate", 0.25);
        update(&machine, &part, &others[k], got);
        for (int i = 0; i < 15; i++)
            p[i] = first(i);
        adamw_steps(15, 0.25, others[k].rank > 1 ? 0.1 : 0, p);
        expect(others[k].name, got, p, 15);
        machine_close(&machine);
    }
}

/* Whether AdamW updates `name` when the config lists `pattern`: only then does its rate matter. */
static bool is_adamws(const char *pattern, const char *name)
{
    const weight w = { name, 2, { 3, 5 } };
    float        got[2][LARGEST];
    for (int i = 0; i < 2; i++) {
        struct machine machine;
        machine_open(&machine);
        td_part    part = part_of(&machine, "muon");
        td_strings list = { &pattern, 1 };
        for (const td_option *o = part.plugin->options; o->type != TD_TYPE_END; o++)
            if (!strcmp(o->name, "adamw"))
                *(td_strings *)(void *)((char *)(uintptr_t)part.config + o->offset) = list;
        set(&part, "adamw_rate", i);
        update(&machine, &part, &w, got[i]);
        machine_close(&machine);
    }
    return memcmp(got[0], got[1], 15 * sizeof(float)) != 0;
}

Test(muon, patterns_of_the_config)
{
    static const struct {
        const char *pattern, *name;
        bool        matches;
    } cases[] = {
        { "*q_proj*", "a.q_proj.weight", true },
        { "*q_proj*", "a.k_proj.weight", false },
        { "*q_proj*", "lm_head.weight", false },
        { "a.?.c", "a.b.c", true },
        { "a.?.c", "a.bb.c", false },
        { "a*b*c", "a1b2bc", true },
        { "a*b*c", "a1b2bcd", false },
        { "**c", "c", true },
        { "a*", "a", true },
        { "a?", "a", false },
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        cr_expect_eq(is_adamws(cases[k].pattern, cases[k].name), cases[k].matches, "%s %s",
                     cases[k].pattern, cases[k].name);
}
