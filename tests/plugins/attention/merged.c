/* merged.c - one softmax over two sources of keys, against a plain loop; biases of schemes. */
#include "plugins/attention/lab.h"

enum { H = 4, G = 2, E = 4 };

static scene both(const char *position)
{
    scene s = scene_of("merged", position);
    set_option(&s.attention, "heads", H);
    set_option(&s.attention, "kv_heads", G);
    set_option(&s.attention, "head_dim", E);
    set_option(&s.attention, "qkv_norm", 0);
    return s;
}

/* Which sources' keys are rotated; queries are if any is. */
enum { NO_ONES, OWN, BOTH };

/* Keys or values of both sources, own first: [B, T + S, G, E]. */
static double *joined(const lab *l, const scene *s, const char *name, int turned)
{
    const source *from[] = { &s->own, &s->other };
    double       *all = malloc(sizeof *all * B * (T + S) * G * E);
    for (int k = 0; k < 2; k++) {
        int64_t n = from[k]->length, row = n * G * E;
        double *x = times(l, name, from[k]->x, B * n, D, G * E);
        if (turned > k)
            turn(x, B * n, G * E, G, E, E, from[k]->position);
        for (int64_t b = 0; b < B; b++)
            memcpy(all + (b * (T + S) + k * T) * G * E, x + b * row, (size_t)row * sizeof *x);
        free(x);
    }
    return all;
}

/* bias(h, distance) on the decoder's own keys, or NULL */
static double *plain(const lab *l, const scene *s, int turned, double (*bias)(int64_t, int64_t))
{
    int64_t tokens = (int64_t)B * T;
    double *q = times(l, "attention.q_proj.weight", s->own.x, tokens, D, H * E),
           *k = joined(l, s, "attention.k_proj.weight", turned),
           *v = joined(l, s, "attention.v_proj.weight", NO_ONES),
           *o = calloc((size_t)(tokens * H * E), sizeof *o), *y;
    if (turned)
        turn(q, tokens, H * E, H, E, E, s->own.position);
    for (int64_t n = 0; n < tokens * H; n++) {
        int64_t b = n / H / T, i = n / H % T, at = b * (T + S) * G * E + n % H / (H / G) * E;
        bool    see[T + S];
        double  add[T + S] = { 0 };
        view    x = { q + n * E, k + at, v + at, G * E, G * E, T + S, E, E, 0.5, add, see, 0 };
        for (int64_t j = 0; j < T; j++) {
            see[j] = sees_own(s, b, i, j);
            add[j] = bias ? bias(n % H, s->own.position[b * T + j] - s->own.position[b * T + i])
                          : 0;
        }
        for (int64_t j = 0; j < S; j++)
            see[T + j] = sees_other(s, b, i, j);
        softmax_of(&x, o + n * E);
    }
    y = times(l, "attention.o_proj.weight", o, tokens, H * E, D);
    free(q);
    free(k);
    free(v);
    free(o);
    return y;
}

static double slope(int64_t h, int64_t distance)
{
    return -exp2(-2.0 * (double)(h + 1)) * (double)llabs(distance);
}

static void check(const char *position, int turned, double (*bias)(int64_t, int64_t))
{
    lab     l = lab_new();
    scene   s = both(position);
    double *have;
    add_other(&s);
    set_option(&s.attention, "memory_positions", turned != OWN);
    have = run(&l, &s);
    expect_same(position, &s, have, plain(&l, &s, turned, bias), true);
    scene_free(&s);
    lab_free(&l);
}

Test(merged, plain) { check("none", NO_ONES, NULL); }
Test(merged, rotated_by_their_own_positions) { check("rope", BOTH, NULL); }
Test(merged, the_encoders_not_rotated) { check("rope", OWN, NULL); }
/* The encoder's tokens have no bias, as in cross-attention. */
Test(merged, alibi_biases_own_tokens) { check("alibi", NO_ONES, slope); }

/* A dense bias: a network that multiplies the share by -1/4 in each head. */
static double share(int64_t h, int64_t distance)
{
    return -0.25 * log(0.5 * (double)llabs(distance) + 1) / log(0.5 * 100 + 1);
}

Test(merged, dense_biases_are_of_own_tokens)
{
    lab     l = lab_new();
    scene   s = both("fire");
    double *have;
    add_other(&s);
    set_option(&s.position, "hidden", 1);
    set_option(&s.position, "threshold", 100);
    free(run(&l, &s));
    set_parameter(&l, "stack.fire.c", 5);
    set_parameter(&l, "stack.fire.threshold", 1);
    set_parameter(&l, "stack.fire.inner.weight", 1);
    set_parameter(&l, "stack.fire.inner.bias", 0);
    set_parameter(&l, "stack.fire.outer.weight", -0.25);
    set_parameter(&l, "stack.fire.outer.bias", 0);
    have = run(&l, &s);
    expect_same("fire", &s, have, plain(&l, &s, NO_ONES, share), true);
    scene_free(&s);
    lab_free(&l);
}

/* In an encoder, and in a model without one. */
Test(merged, without_an_encoder_is_softmax)
{
    lab     l = lab_new();
    scene   s = both("rope"), t;
    double *have, *want;
    s.role = TD_ROLE_ENCODER;
    s.causal = false;
    t = s;
    t.attention = load_part("attention-softmax", "softmax");
    set_option(&t.attention, "heads", H);
    set_option(&t.attention, "kv_heads", G);
    set_option(&t.attention, "head_dim", E);
    set_option(&t.attention, "qkv_norm", 0);
    have = run(&l, &s);
    want = run(&l, &t);
    expect_same("encoder", &s, have, want, true);
    free_part(&t.attention);
    scene_free(&s);
    lab_free(&l);
}
