/* sliding-window.c - which tokens a window shows: behind a decoder's token, on both sides of an
 * encoder's and of given tokens that see each other. */
#include "plugins/attention/lab.h"

enum { H = 4, G = 2, E = 4 };

static bool within(const scene *s, int64_t b, int64_t i, int64_t j, int64_t window)
{
    return sees_own(s, b, i, j) && i - j < window && j - i < window;
}

/* Grouped heads, no norms, no positions. */
static double *plain(const lab *l, const scene *s, int64_t window)
{
    int64_t tokens = (int64_t)B * T;
    double *q = times(l, "attention.q_proj.weight", s->own.x, tokens, D, H * E),
           *k = times(l, "attention.k_proj.weight", s->own.x, tokens, D, G * E),
           *v = times(l, "attention.v_proj.weight", s->own.x, tokens, D, G * E),
           *o = calloc((size_t)(tokens * H * E), sizeof *o), *y;
    for (int64_t n = 0; n < tokens * H; n++) {
        int64_t b = n / H / T, i = n / H % T, first = b * T * G * E + n % H / (H / G) * E;
        bool    see[T];
        view    x = { q + n * E, k + first, v + first, G * E, G * E, T, E, E, 0.5, NULL, see };
        for (int64_t j = 0; j < T; j++)
            see[j] = within(s, b, i, j, window);
        softmax_of(&x, o + n * E);
    }
    y = times(l, "attention.o_proj.weight", o, tokens, H * E, D);
    free(q), free(k), free(v), free(o);
    return y;
}

static scene windowed(int64_t window)
{
    scene s = scene_of("sliding-window", "none");
    set_option(&s.attention, "heads", H), set_option(&s.attention, "kv_heads", G);
    set_option(&s.attention, "head_dim", E), set_option(&s.attention, "qkv_norm", 0);
    set_option(&s.attention, "window", (double)window);
    return s;
}

static void check(const char *what, td_role role, const int32_t *given)
{
    for (int64_t window = 1; window <= T + 1; window += window == 3 ? 2 : 1) {
        lab   l = lab_new();
        scene s = windowed(window);
        s.role = role, s.causal = role == TD_ROLE_DECODER, s.input = given;
        double *have = run(&l, &s);
        expect_same(what, &s, have, plain(&l, &s, window), false);
        scene_free(&s);
        lab_free(&l);
    }
}

Test(sliding_window, behind_a_decoders_token) { check("decoder", TD_ROLE_DECODER, NULL); }
Test(sliding_window, both_sides_of_an_encoders) { check("encoder", TD_ROLE_ENCODER, NULL); }
Test(sliding_window, both_sides_of_given_tokens) { check("given", TD_ROLE_DECODER, inputs); }

/* What is too long for a batch hides nothing, whatever its number. */
Test(sliding_window, a_long_window_is_softmax)
{
    lab     l = lab_new();
    scene   s = windowed(1 << 30), t;
    double *have, *want;
    s.role = TD_ROLE_ENCODER, s.causal = false;
    t = s, t.attention = load_part("attention-softmax", "softmax");
    set_option(&t.attention, "heads", H), set_option(&t.attention, "kv_heads", G);
    set_option(&t.attention, "head_dim", E), set_option(&t.attention, "qkv_norm", 0);
    have = run(&l, &s), want = run(&l, &t);
    expect_same("long", &s, have, want, false);
    free_part(&t.attention);
    scene_free(&s);
    lab_free(&l);
}

/* Cross-attention has no window. */
Test(sliding_window, reads_all_of_another_sequence)
{
    lab     l = lab_new();
    scene   s = windowed(1), t = windowed(S);
    double *have, *want;
    add_other(&s), add_other(&t);
    s.role = t.role = TD_ROLE_CROSS, s.causal = t.causal = false;
    have = run(&l, &s), want = run(&l, &t);
    expect_same("cross", &s, have, want, true);
    scene_free(&s), scene_free(&t);
    lab_free(&l);
}
