/* differential.c - the difference of two maps against a plain loop, and the initial lambda of each
 * layer. */
#include "plugins/attention/lab.h"

enum { H = 3, E = 4, W = 2 * E };

static double product(const lab *l, const char *path, const char *a, const char *b)
{
    char          name[2][96];
    const double *x, *y;
    double        sum = 0;
    snprintf(name[0], sizeof name[0], "%s.%s", path, a);
    snprintf(name[1], sizeof name[1], "%s.%s", path, b);
    x = parameter(l, name[0]);
    y = parameter(l, name[1]);
    for (int e = 0; e < E; e++)
        sum += x[e] * y[e];
    return exp(sum);
}

/* The projection `which` of a path; free it. */
static double *projected(const lab *l, const char *path, const char *which, const double *x,
                         int64_t in, int64_t out)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s.weight", path, which);
    return times(l, name, x, (int64_t)B * T, in, out);
}

static double *plain(const lab *l, const scene *s, const char *path, double first)
{
    int64_t tokens = (int64_t)B * T;
    char    norm[96];
    double *q = projected(l, path, "q_proj", s->own.x, D, H * W),
           *k = projected(l, path, "k_proj", s->own.x, D, H * W),
           *v = projected(l, path, "v_proj", s->own.x, D, H * W),
           *o = calloc((size_t)(tokens * H * W), sizeof *o), *y;
    double lambda = product(l, path, "lambda_q1", "lambda_k1") -
                    product(l, path, "lambda_q2", "lambda_k2") + first;
    snprintf(norm, sizeof norm, "%s.sub_norm.weight", path);
    for (int64_t n = 0; n < tokens * H; n++) {
        int64_t b = n / H / T, i = n / H % T, at = b * T * H * W + n % H * W;
        bool    see[T];
        double  second[W];
        view    x = { q + n * W, k + at, v + at, H * W, H * W, T, E, W, 0.5, NULL, see, 0 };
        for (int64_t j = 0; j < T; j++)
            see[j] = sees_own(s, b, i, j);
        softmax_of(&x, o + n * W);
        x.q += E;
        x.k += E;
        softmax_of(&x, second);
        for (int e = 0; e < W; e++)
            o[n * W + e] -= lambda * second[e];
    }
    normalize(o, tokens * H, W, parameter(l, norm));
    for (int64_t n = 0; n < tokens * H * W; n++)
        o[n] *= 1 - first;
    y = projected(l, path, "o_proj", o, H * W, D);
    free(q);
    free(k);
    free(v);
    free(o);
    return y;
}

static void check(const char *path, double option, double first)
{
    lab     l = lab_new();
    scene   s = scene_of("differential", "none");
    double *have;
    set_option(&s.attention, "heads", H);
    set_option(&s.attention, "head_dim", E);
    set_option(&s.attention, "qkv_norm", 0);
    set_option(&s.attention, "lambda_init", option);
    s.path = path;
    have = run(&l, &s);
    expect_same(path, &s, have, plain(&l, &s, path, first), true);
    scene_free(&s);
    lab_free(&l);
}

Test(differential, as_given) { check("attention", 0.35, 0.35); }
Test(differential, outside_of_layers) { check("attention", 0, 0.2); }
Test(differential, by_layer) { check("model.layers.12.self_attn", 0, 0.8 - 0.6 * exp(-3.6)); }
