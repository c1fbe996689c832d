/* palette.c - the colours of pictures. */
#include "report/palette.h"

#include <stdio.h>

const td_colour td_palette[TD_SERIES + TD_SERIES_COUNT] = {
    [TD_INK] = { "ink", 0x1b1f24, 0xe6edf3 },
    [TD_MUTED] = { "muted", 0x57606a, 0x9da7b3 },
    [TD_GRID] = { "grid", 0xd8dee4, 0x363d47 },
    [TD_SERIES] = { "blue", 0x1f6fb2, 0x6cb2f0 },
    { "red", 0xc1403d, 0xf28b82 },
    { "green", 0x2b7f4f, 0x7ccf9b },
    { "purple", 0x7b4ea3, 0xc5a3ec },
    { "orange", 0xa85a0b, 0xf2b36b },
    { "teal", 0x137d87, 0x62cfd6 },
    { "pink", 0xb83b7d, 0xf29cc4 },
    { "grey", 0x5f6670, 0xb7bec8 },
};

enum { COLOURS = sizeof td_palette / sizeof *td_palette };

const char *td_palette_colour(int colour, char out[8])
{
    snprintf(out, 8, "#%06x", td_palette[colour].light & 0xffffff);
    return out;
}

const char *td_palette_series(size_t k, char out[8])
{
    return td_palette_colour(TD_SERIES + (int)(k % TD_SERIES_COUNT), out);
}

/* gnuplot writes colours as "rgb( 31, 111, 178)" for lines, "rgb(31,111,178)" for text and "#1f6fb2"
 * for areas: attributes, which rules of CSS override. */
static void print_rules(td_text *t, const char *attribute, const td_colour *c)
{
    unsigned r = c->light >> 16, g = c->light >> 8 & 255, b = c->light & 255;
    td_text_print(t,
                  ".picture [%s='rgb(%3u, %3u, %3u)'],.picture [%s='rgb(%u,%u,%u)'],"
                  ".picture [%s='#%06x' i]{%s:#%06x}\n",
                  attribute, r, g, b, attribute, r, g, b, attribute, c->light, attribute, c->dark);
}

void td_palette_dark(td_text *t)
{
    for (int k = 0; k < COLOURS; k++) {
        print_rules(t, "stroke", &td_palette[k]);
        print_rules(t, "fill", &td_palette[k]);
        print_rules(t, "color", &td_palette[k]);
    }
}
