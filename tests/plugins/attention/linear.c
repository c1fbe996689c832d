/* linear.c - linear attention against a plain loop over all pairs: any size of chunk, several
 * segments in a row, keys on one side or on both, keys of another sequence. */
#include "plugins/attention/lab.h"

enum { H = 4, G = 2, E = 6 };

static double feature(double x) { return x > 0 ? x + 1 : exp(x); }

static double *features(const lab *l, const char *name, const source *from, int64_t heads)
{
    double *x = times(l, name, from->x, B * from->length, D, heads * E);
    for (int64_t i = 0; i < B * from->length * heads * E; i++)
        x[i] = feature(x[i]);
    return x;
}

static double *turned(const double *x, const source *from, int64_t heads)
{
    int64_t count = B * from->length * heads * E;
    double *y = malloc((size_t)count * sizeof *y);
    memcpy(y, x, (size_t)count * sizeof *y);
    turn(y, B * from->length, heads * E, heads, E, E, from->position);
    return y;
}

static double dot(const double *x, const double *y)
{
    double sum = 0;
    for (int e = 0; e < E; e++)
        sum += x[e] * y[e];
    return sum;
}

/* Rotated features weigh the values; the sum of weights is taken before the rotation. */
static double *plain(const lab *l, const scene *s)
{
    bool          cross = s->role == TD_ROLE_CROSS;
    const source *from = cross ? &s->other : &s->own;
    double *q = features(l, "attention.q_proj.weight", &s->own, H), *tq = turned(q, &s->own, H),
           *k = features(l, "attention.k_proj.weight", from, G), *tk = turned(k, from, G),
           *v = times(l, "attention.v_proj.weight", from->x, B * from->length, D, G * E),
           *o = calloc((size_t)B * T * H * E, sizeof *o), *y;
    for (int64_t n = 0; n < (int64_t)B * T * H; n++) {
        int64_t b = n / H / T, i = n / H % T;
        double  sum = 0;
        for (int64_t j = 0; j < from->length; j++) {
            int64_t at = ((b * from->length + j) * G + n % H / (H / G)) * E;
            if (cross ? !sees_other(s, b, i, j) : !sees_own(s, b, i, j))
                continue;
            sum += dot(q + n * E, k + at);
            for (int e = 0; e < E; e++)
                o[n * E + e] += dot(tq + n * E, tk + at) * v[at + e];
        }
        for (int e = 0; sum > 0 && e < E; e++)
            o[n * E + e] /= sum;
    }
    y = times(l, "attention.o_proj.weight", o, (int64_t)B * T, H * E, D);
    free(q);
    free(k);
    free(v);
    free(o);
    free(tq);
    free(tk);
    return y;
}

static scene chunked(int64_t chunk)
{
    scene s = scene_of("linear", "rope");
    set_option(&s.attention, "heads", H);
    set_option(&s.attention, "kv_heads", G);
    set_option(&s.attention, "head_dim", E);
    set_option(&s.attention, "qkv_norm", 0);
    set_option(&s.attention, "chunk", (double)chunk);
    return s;
}

static void check(const char *what, td_role role, const int32_t *given)
{
    for (int64_t chunk = 1; chunk <= T + 2; chunk++) {
        lab     l = lab_new();
        scene   s = chunked(chunk);
        double *have;
        s.role = role;
        s.causal = role == TD_ROLE_DECODER;
        s.input = given;
        if (role == TD_ROLE_CROSS)
            add_other(&s);
        have = run(&l, &s);
        expect_same(what, &s, have, plain(&l, &s), true);
        scene_free(&s);
        lab_free(&l);
    }
}

Test(linear, causal) { check("causal", TD_ROLE_DECODER, NULL); }
Test(linear, given_tokens_see_each_other) { check("given", TD_ROLE_DECODER, inputs); }
Test(linear, both_sides) { check("encoder", TD_ROLE_ENCODER, NULL); }
Test(linear, another_sequence) { check("cross", TD_ROLE_CROSS, NULL); }

/* Segments that begin and end within a chunk, at its borders, and over several of them. */
Test(linear, many_segments)
{
    static const int32_t many[][B * T] = {
        { 1, 2, 3, 4, 5, 6, 7, 1, 1, 2, 2, 3, 3, 4 },
        { 1, 2, 2, 2, 2, 2, 3, 1, 1, 1, 1, 2, 0, 0 },
        { 0, 0, 0, 0, 0, 0, 0, 5, 5, 5, 9, 9, 9, 0 },
    };
    for (size_t k = 0; k < sizeof many / sizeof *many; k++)
        for (int64_t chunk = 1; chunk <= 4; chunk++)
            for (int role = TD_ROLE_ENCODER; role <= TD_ROLE_DECODER; role++) {
                lab     l = lab_new();
                scene   s = chunked(chunk);
                double *have;
                s.role = (td_role)role;
                s.causal = role == TD_ROLE_DECODER;
                s.own.segment = many[k];
                have = run(&l, &s);
                expect_same("many segments", &s, have, plain(&l, &s), true);
                scene_free(&s);
                lab_free(&l);
            }
}

Test(linear, refuses_biases_on_scores)
{
    lab   l = lab_new();
    scene s = chunked(64);
    free_part(&s.position);
    s.position = load_part("position-alibi", "alibi");
    expect_mistake(&l, &s, "has no scores for position 'alibi' to bias: use one that rotates");
    scene_free(&s);
    lab_free(&l);
}
