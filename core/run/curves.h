/* curves.h - the loss beyond the training length as files: NAME.json with all points, NAME.csv by
 * total length, NAME-position.csv by position, and NAME.gnuplot, which draws NAME.svg from both. */
#ifndef TD_RUN_CURVES_H
#define TD_RUN_CURVES_H

#include <jansson.h>

#include "run/session.h"

/* {"trained", "documents", "sequences", "lengths": [..], "positions": [..]} */
json_t *td_curves_json(const td_extrapolation *);
/* Write all files but the picture, which td_picture_draw draws. */
int     td_curves_write(const td_session *, const td_extrapolation *, const char *directory,
                        const char *name, td_error *error);

#endif
