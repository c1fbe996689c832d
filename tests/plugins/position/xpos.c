/* xpos.c - rotation and fading of rotary positions against the paper's formula, and their range. */
#include "plugins/position/rotate.h"

static const int32_t near[T] = { 0, 1, 511, 2048, 29000 },
                     far[T] = { 0, 30000, 40000, 99999, 100000 };

static double zeta(int j) { return (2.0 * j / E + 0.4) / 1.4; }

/* A query at position n is multiplied by zeta^(n/512), a key divided by it; outside decoders
 * neither is scaled. */
static void check(td_role role, bool is_query)
{
    td_part p = load_part("position-xpos", "xpos");
    double  y[T * E], sign = role != TD_ROLE_DECODER ? 0 : is_query ? 1 : -1;
    rotate(&p, near, role, is_query, y);
    for (int t = 0; t < T; t++)
        for (int j = 0; j < HALF; j++) {
            double angle = near[t] * pow(10000, -2.0 * j / E);
            double grow = pow(zeta(j), sign * near[t] / 512);
            cr_expect(fabs(y[t * E + j] / grow - cos(angle)) < 1e-9, "cosine of wave %d at %d", j,
                      near[t]);
            cr_expect(fabs(y[t * E + HALF + j] / grow - sin(angle)) < 1e-9, "sine of wave %d at %d",
                      j, near[t]);
        }
    free_part(&p);
}

Test(xpos, queries) { check(TD_ROLE_DECODER, true); }
Test(xpos, keys) { check(TD_ROLE_DECODER, false); }
Test(xpos, only_turns_where_keys_are_ahead)
{
    check(TD_ROLE_ENCODER, true);
    check(TD_ROLE_ENCODER, false);
    check(TD_ROLE_CROSS, true);
    check(TD_ROLE_CROSS, false);
}

static double length(const double *y, int t, int j)
{
    return hypot(y[t * E + j], y[t * E + HALF + j]);
}

/* At position 100,000 everything is within f32's range, a token's score with itself is unscaled,
 * and earlier keys only fade. */
Test(xpos, long_texts_stay_in_range)
{
    td_part p = load_part("position-xpos", "xpos");
    double  q[T * E], k[T * E];
    rotate(&p, far, TD_ROLE_DECODER, true, q);
    rotate(&p, far, TD_ROLE_DECODER, false, k);
    for (int j = 0; j < HALF; j++)
        for (int n = 0; n < T; n++)
            for (int m = 0; m <= n; m++) {
                double a = length(q, n, j), b = length(k, m, j);
                cr_expect(a >= 1e-33 && a <= 1 + 1e-12 && b >= 1 - 1e-12 && b <= 1e33,
                          "wave %d: query %g at %d, key %g at %d", j, a, far[n], b, far[m]);
                cr_expect(m < n ? a * b <= 1 + 1e-12 : fabs(a * b - 1) < 1e-12,
                          "wave %d from %d to %d: %g", j, far[n], far[m], a * b);
            }
    free_part(&p);
}

Test(xpos, refuses_odd_heads)
{
    td_part  p = load_part("position-xpos", "xpos");
    td_error error = { 0 };
    cr_expect(((const td_position *)(const void *)p.plugin)->check_head(p.config, 7, &error) ==
              TD_ECONFIG);
    cr_expect(strstr(error.text, "head_dim = 7"), "%s", error.text);
    free_part(&p);
}
