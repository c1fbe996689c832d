/* sliding-window.c - the tokens that a window shows: those before a decoder's token, and those
 * on both sides of an encoder's token or of given tokens that see each other. */
#include "plugins/attention/lab.h"

enum { H = 4, G = 2, E = 4 };

static bool within(const scene *s, int64_t b, int64_t i, int64_t j, int64_t window)
{
    return sees_own(s, b, i, j) && i - j < window && j - i < window;
}

/* Grouped heads, without norms and positions. */
static double *plain(const lab *l, const scene *s, int64_t window, double cap)
{
    int64_t tokens = (int64_t)B * T;
    double *q = times(l, "attention.q_proj.weight", s->own.x, tokens, D, H * E),
           *k = times(l, "attention.k_proj.weight", s->own.x, tokens, D, G * E),
           *v = times(l, "attention.v_proj.weight", s->own.x, tokens, D, G * E),
           *o = calloc((size_t)(tokens * H * E), sizeof *o), *y;
    for (int64_t n = 0; n < tokens * H; n++) {
        int64_t b = n / H / T, i = n / H % T, first = b * T * G * E + n % H / (H / G) * E;
        bool    see[T];
        view    x = { q + n * E, k + first, v + first, G * E, G * E, T, E, E, 0.5, NULL, see, cap };
        for (int64_t j = 0; j < T; j++)
            see[j] = within(s, b, i, j, window);
        softmax_of(&x, o + n * E);
    }
    y = times(l, "attention.o_proj.weight", o, tokens, H * E, D);
    free(q);
    free(k);
    free(v);
    free(o);
    return y;
}

static scene windowed(int64_t window)
{
    scene s = scene_of("sliding-window", "none");
    set_option(&s.attention, "heads", H);
    set_option(&s.attention, "kv_heads", G);
    set_option(&s.attention, "head_dim", E);
    set_option(&s.attention, "qkv_norm", 0);
    set_option(&s.attention, "window", (double)window);
    return s;
}

static void check(const char *what, td_role role, const int32_t *given)
{
    for (int64_t window = 1; window <= T + 1; window += window == 3 ? 2 : 1) {
        lab   l = lab_new();
        scene s = windowed(window);
        s.role = role;
        s.causal = role == TD_ROLE_DECODER;
        s.input = given;
        double *have = run(&l, &s);
        expect_same(what, &s, have, plain(&l, &s, window, 0), false);
        scene_free(&s);
        lab_free(&l);
    }
}

Test(sliding_window, behind_a_decoders_token) { check("decoder", TD_ROLE_DECODER, NULL); }
Test(sliding_window, both_sides_of_an_encoders) { check("encoder", TD_ROLE_ENCODER, NULL); }
Test(sliding_window, both_sides_of_given_tokens) { check("given", TD_ROLE_DECODER, inputs); }

/* Scores are of the order of 1, so this cap matters. */
Test(sliding_window, under_a_cap)
{
    lab     l = lab_new();
    scene   s = windowed(3);
    double *have;
    set_option(&s.attention, "score_cap", 0.25);
    have = run(&l, &s);
    expect_same("capped", &s, have, plain(&l, &s, 3, 0.25), false);
    scene_free(&s);
    lab_free(&l);
}

/* Layers 3, 6, .. have no window. */
Test(sliding_window, not_in_every_layer)
{
    lab   l = lab_new();
    scene s = windowed(2);
    set_option(&s.attention, "full_every", 3);
    for (int encoder = 0; encoder < 2; encoder++)
        for (s.layer = 1; s.layer <= 7; s.layer++) {
            double *have;
            s.role = encoder ? TD_ROLE_ENCODER : TD_ROLE_DECODER;
            s.causal = !encoder;
            have = run(&l, &s);
            expect_same("layers", &s, have, plain(&l, &s, s.layer % 3 ? 2 : T, 0), false);
        }
    s.layer = 0;
    expect_mistake(&l, &s, "needs each layer's number, which this architecture does not give");
    scene_free(&s);
    lab_free(&l);
}

/* A window longer than the batch hides nothing, however large it is. */
Test(sliding_window, a_long_window_is_softmax)
{
    lab     l = lab_new();
    scene   s = windowed(1 << 30), t;
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
    expect_same("long", &s, have, want, false);
    free_part(&t.attention);
    scene_free(&s);
    lab_free(&l);
}

/* The graph as text, a node per line. */
static td_text graph_of(lab *l, const scene *s)
{
    td_tensor *y;
    td_graph  *g = build(l, s, &y);
    td_text    text = { 0 };
    td_graph_dump_text(g, &text);
    td_graph_free(g);
    return text;
}

/* A window that contains every key needs no separate mask. */
static void check_costs_nothing(const char *what, td_role role, const int32_t *given)
{
    lab   l = lab_new();
    scene all = windowed(T), some = windowed(T - 1), none = windowed(T);
    free_part(&none.attention);
    none.attention = load_part("attention-softmax", "softmax");
    set_option(&none.attention, "heads", H);
    set_option(&none.attention, "kv_heads", G);
    set_option(&none.attention, "head_dim", E);
    set_option(&none.attention, "qkv_norm", 0);
    all.role = some.role = none.role = role;
    all.input = some.input = none.input = given;
    all.causal = some.causal = none.causal = role == TD_ROLE_DECODER;
    td_text a = graph_of(&l, &all), b = graph_of(&l, &some), c = graph_of(&l, &none);
    cr_expect_str_eq(td_text_get(&a), td_text_get(&c), "%s: a window of all tokens", what);
    cr_expect_str_neq(td_text_get(&b), td_text_get(&c), "%s: a window one token shorter", what);
    td_text_free(&a);
    td_text_free(&b);
    td_text_free(&c);
    scene_free(&all);
    scene_free(&some);
    scene_free(&none);
    lab_free(&l);
}

Test(sliding_window, a_window_of_all_costs_nothing)
{
    check_costs_nothing("encoder", TD_ROLE_ENCODER, NULL);
    check_costs_nothing("given", TD_ROLE_DECODER, inputs);
}

/* Cross-attention has no window. */
Test(sliding_window, reads_all_of_another_sequence)
{
    lab     l = lab_new();
    scene   s = windowed(1), t = windowed(S);
    double *have, *want;
    add_other(&s);
    add_other(&t);
    s.role = t.role = TD_ROLE_CROSS;
    s.causal = t.causal = false;
    have = run(&l, &s);
    want = run(&l, &t);
    expect_same("cross", &s, have, want, true);
    scene_free(&s);
    scene_free(&t);
    lab_free(&l);
}
