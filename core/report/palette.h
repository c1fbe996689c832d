/* palette.h - the colours of pictures and pages, for light and dark screens.
 *
 * Scripts draw in the light colours, so that gnuplot alone makes a whole picture. On a dark screen,
 * the picture's style replaces them: one CSS rule for each colour, which selects it by its
 * attribute.
 */
#ifndef TD_REPORT_PALETTE_H
#define TD_REPORT_PALETTE_H

#include <stddef.h>

#include "base/text.h"

typedef struct td_colour {
    const char *name;        /* of its CSS variable */
    unsigned    light, dark; /* 0xrrggbb */
} td_colour;

/* Colours of text, axes and grid, then of series; the contrast with the page is at least 4.5 for
 * text and 3 for lines. */
enum { TD_INK, TD_MUTED, TD_GRID, TD_SERIES, TD_SERIES_COUNT = 8 };
extern const td_colour td_palette[TD_SERIES + TD_SERIES_COUNT];

/* The colour of series k as gnuplot takes it, "#1f6fb2"; colours repeat after TD_SERIES_COUNT. */
const char *td_palette_series(size_t k, char out[8]);
const char *td_palette_colour(int colour, char out[8]);
/* Append the rules that give a picture its dark colours. */
void        td_palette_dark(td_text *);

#endif
