/* palette.c - colours can be told from the page, light and dark, by the contrast of WCAG 2. */
#include <criterion/criterion.h>
#include <math.h>

#include "report/palette.h"

static double channel(unsigned value)
{
    double x = value / 255.0;
    return x <= 0.04045 ? x / 12.92 : pow((x + 0.055) / 1.055, 2.4);
}

static double luminance(unsigned rgb)
{
    return 0.2126 * channel(rgb >> 16) + 0.7152 * channel(rgb >> 8 & 255) +
           0.0722 * channel(rgb & 255);
}

static double contrast(unsigned a, unsigned b)
{
    double x = luminance(a), y = luminance(b);
    return (fmax(x, y) + 0.05) / (fmin(x, y) + 0.05);
}

/* The pages of html.c: background, and that of the answer and of every other row of a table. */
static const unsigned light[] = { 0xffffff, 0xf6f8fa }, dark[] = { 0x0f1318, 0x181e25 };

static void expect(const td_colour *c, double least)
{
    for (int k = 0; k < 2; k++) {
        cr_expect(contrast(c->light, light[k]) >= least, "%s: %g on light", c->name,
                  contrast(c->light, light[k]));
        cr_expect(contrast(c->dark, dark[k]) >= least, "%s: %g on dark", c->name,
                  contrast(c->dark, dark[k]));
    }
}

Test(palette, the_measure_itself)
{
    cr_expect_float_eq(contrast(0, 0xffffff), 21, 1e-9);
    cr_expect_float_eq(contrast(0x767676, 0xffffff), 4.54, 0.005);
}

Test(palette, text)
{
    expect(&td_palette[TD_INK], 4.5);
    expect(&td_palette[TD_MUTED], 4.5);
    expect(&(td_colour){ "links", 0x1a5fa0, 0x79b8f5 }, 4.5);
}

Test(palette, lines)
{
    for (int k = 0; k < TD_SERIES_COUNT; k++)
        expect(&td_palette[TD_SERIES + k], 3);
}

/* A rule for every colour, in each way that gnuplot writes it. */
Test(palette, dark_rules)
{
    td_text t = { 0 };
    td_palette_dark(&t);
    cr_expect(strstr(td_text_get(&t), "[stroke='rgb( 31, 111, 178)']"));
    cr_expect(strstr(td_text_get(&t), "[fill='rgb(27,31,36)']"));
    cr_expect(strstr(td_text_get(&t), "{color:#6cb2f0}"));
    td_text_free(&t);
}
