/* rope.c - the angles of rotary positions and of their scalings, in double precision, against the
 * papers' formulas. */
#include "plugins/position/rotate.h"

enum { NONE, LINEAR, NTK, YARN };

static const int32_t positions[T] = { 0, 1, 7, 100, 2999 };

static void expect(const td_part *part, const double frequency[HALF], double grow)
{
    double y[T * E];
    rotate(part, positions, TD_ROLE_DECODER, true, y);
    for (int t = 0; t < T; t++)
        for (int j = 0; j < HALF; j++) {
            double angle = positions[t] * frequency[j];
            cr_expect(fabs(y[t * E + j] - grow * cos(angle)) < 1e-9, "cosine of wave %d at %d", j,
                      positions[t]);
            cr_expect(fabs(y[t * E + HALF + j] - grow * sin(angle)) < 1e-9, "sine of wave %d at %d",
                      j, positions[t]);
        }
}

static td_part scaled(int scaling, double factor)
{
    td_part p = load_part("position-rope", "rope");
    set_option(&p, "scaling", scaling);
    set_option(&p, "factor", factor);
    return p;
}

Test(rope, plain_and_linear)
{
    for (int scaling = NONE; scaling <= LINEAR; scaling++) {
        td_part p = scaled(scaling, scaling == LINEAR ? 4 : 1);
        double  f[HALF];
        for (int j = 0; j < HALF; j++)
            f[j] = pow(10000, -2.0 * j / E) / (scaling == LINEAR ? 4 : 1);
        expect(&p, f, 1);
        free_part(&p);
    }
}

/* The fastest wave is kept, the slowest is interpolated by the factor. */
Test(rope, ntk)
{
    td_part p = scaled(NTK, 4);
    double  f[HALF];
    for (int j = 0; j < HALF; j++)
        f[j] = pow(10000, -2.0 * j / E) * pow(4, -(double)j / (HALF - 1));
    expect(&p, f, 1);
    free_part(&p);
}

/* Over 2048 tokens, wave 1.76 turns 32 times and wave 4.40 once: waves to 1 are kept, those from 5
 * on interpolated. */
Test(rope, yarn)
{
    static const double share[HALF] = { 0, 0, 0.25, 0.5, 0.75, 1, 1 };
    td_part             p = scaled(YARN, 4);
    double              f[HALF];
    for (int j = 0; j < HALF; j++)
        f[j] = pow(10000, -2.0 * j / E) * (1 - share[j] + share[j] / 4);
    expect(&p, f, 0.1 * log(4) + 1);
    free_part(&p);
}

Test(rope, refuses_odd_heads_and_idle_factors)
{
    td_part  p = scaled(NONE, 1);
    td_error error = { 0 };
    cr_expect(((const td_position *)(const void *)p.plugin)->check_head(p.config, 7, &error) ==
              TD_ECONFIG);
    set_option(&p, "factor", 2);
    cr_expect(p.plugin->check(p.config, NULL) == TD_ECONFIG);
    free_part(&p);
    for (int scaling = LINEAR; scaling <= YARN; scaling++) {
        p = scaled(scaling, 1);
        cr_expect(p.plugin->check(p.config, NULL) == TD_ECONFIG, "scaling %d by 1", scaling);
        set_option(&p, "factor", 2);
        cr_expect(p.plugin->check(p.config, NULL) == 0, "scaling %d by 2", scaling);
        free_part(&p);
    }
}
