/* mla.c - latent attention against a plain loop, and the size of its cache in generation. */
#include "plugins/attention/lab.h"

enum { H = 3, E = 4, R = 2, F = 5, RANK = 7, Q_RANK = 5, W = E + R };

static scene latent(int64_t q_rank)
{
    scene s = scene_of("mla", "rope");
    set_option(&s.attention, "heads", H);
    set_option(&s.attention, "head_dim", E);
    set_option(&s.attention, "rope_dim", R);
    set_option(&s.attention, "v_dim", F);
    set_option(&s.attention, "kv_rank", RANK);
    set_option(&s.attention, "q_rank", (double)q_rank);
    return s;
}

static double *queries(const lab *l, const scene *s, int64_t q_rank)
{
    int64_t tokens = (int64_t)B * T;
    double *narrow, *q;
    if (q_rank) {
        narrow = times(l, "attention.q_a_proj.weight", s->own.x, tokens, D, q_rank);
        normalize(narrow, tokens, q_rank, parameter(l, "attention.q_a_layernorm.weight"));
        q = times(l, "attention.q_b_proj.weight", narrow, tokens, q_rank, H * W);
        free(narrow);
    } else
        q = times(l, "attention.q_proj.weight", s->own.x, tokens, D, H * W);
    turn(q + E, tokens, H * W, H, W, R, s->own.position);
    return q;
}

/* The keys [tokens, H, W] and values [tokens, H, F] of `from`. */
static void keys_and_values(const lab *l, const source *from, double **k, double **v)
{
    int64_t tokens = B * from->length;
    double *a = times(l, "attention.kv_a_proj_with_mqa.weight", from->x, tokens, D, RANK + R),
           *c = malloc((size_t)(tokens * RANK) * sizeof *c), *b;
    *k = malloc((size_t)(tokens * H * W) * sizeof **k);
    *v = malloc((size_t)(tokens * H * F) * sizeof **v);
    turn(a + RANK, tokens, RANK + R, 1, 0, R, from->position);
    for (int64_t t = 0; t < tokens; t++)
        memcpy(c + t * RANK, a + t * (RANK + R), RANK * sizeof *c);
    normalize(c, tokens, RANK, parameter(l, "attention.kv_a_layernorm.weight"));
    b = times(l, "attention.kv_b_proj.weight", c, tokens, RANK, H * (E + F));
    for (int64_t n = 0; n < tokens * H; n++) {
        memcpy(*k + n * W, b + n * (E + F), E * sizeof *b);
        memcpy(*k + n * W + E, a + n / H * (RANK + R) + RANK, R * sizeof *b);
        memcpy(*v + n * F, b + n * (E + F) + E, F * sizeof *b);
    }
    free(a);
    free(b);
    free(c);
}

static double *plain(const lab *l, const scene *s, int64_t q_rank)
{
    bool          cross = s->role == TD_ROLE_CROSS;
    const source *from = cross ? &s->other : &s->own;
    double *q = queries(l, s, q_rank), *o = calloc((size_t)B * T * H * F, sizeof *o), *k, *v, *y;
    keys_and_values(l, from, &k, &v);
    for (int64_t n = 0; n < (int64_t)B * T * H; n++) {
        int64_t b = n / H / T, i = n / H % T, key = b * from->length * H + n % H;
        bool    see[T];
        view    x = { q + n * W, k + key * W, v + key * F, H * W, H * F, from->length,
                      W,         F,           1 / sqrt(W), NULL,  see,   0 };
        for (int64_t j = 0; j < from->length; j++)
            see[j] = cross ? sees_other(s, b, i, j) : sees_own(s, b, i, j);
        softmax_of(&x, o + n * F);
    }
    y = times(l, "attention.o_proj.weight", o, (int64_t)B * T, H * F, D);
    free(q);
    free(k);
    free(v);
    free(o);
    return y;
}

static void check(const char *what, td_role role, int64_t q_rank)
{
    lab     l = lab_new();
    scene   s = latent(q_rank);
    double *have;
    s.role = role;
    s.causal = role == TD_ROLE_DECODER;
    if (role == TD_ROLE_CROSS)
        add_other(&s);
    have = run(&l, &s);
    expect_same(what, &s, have, plain(&l, &s, q_rank), true);
    scene_free(&s);
    lab_free(&l);
}

Test(mla, whole_queries) { check("whole queries", TD_ROLE_DECODER, 0); }
Test(mla, narrow_queries) { check("narrow queries", TD_ROLE_ENCODER, Q_RANK); }
Test(mla, another_sequence) { check("another sequence", TD_ROLE_CROSS, Q_RANK); }

/* The cache holds a latent, one rotated key and the mask's integers per token, but nothing per
 * head. */
Test(mla, generation_keeps_latents)
{
    lab     l = lab_new();
    scene   s = latent(0);
    int64_t numbers = 0;
    s.phase = TD_PHASE_PREFILL;
    lab_cache(&l, T + 4, T);
    free(run(&l, &s));
    for (size_t i = 0; i < td_variables_count(l.cache->variables); i++) {
        td_variable *v = td_variables_at(l.cache->variables, i);
        numbers += v->rank > 2 ? v->count : 0;
    }
    cr_expect_eq(numbers, B * (T + 4) * (RANK + R));
    scene_free(&s);
    lab_free(&l);
}

/* As in the paper: half a head is rotated, the latent is four heads wide. */
Test(mla, widths_follow_the_head)
{
    lab   l = lab_new();
    scene s = scene_of("mla", "rope");
    set_option(&s.attention, "heads", H);
    set_option(&s.attention, "head_dim", 6);
    free(run(&l, &s));
    td_variable *v = td_variables_find(l.variables, "attention.kv_a_proj_with_mqa.weight");
    cr_expect_eq(v->dim[0], 24 + 4);
    cr_expect_eq(
        ((const td_attention *)(const void *)s.attention.plugin)->head_dim(s.attention.config), 4);
    scene_free(&s);
    lab_free(&l);
}
