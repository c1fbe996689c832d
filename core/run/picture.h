/* picture.h - pictures, drawn by gnuplot from a script that is kept next to them. */
#ifndef TD_RUN_PICTURE_H
#define TD_RUN_PICTURE_H

#include "tandem/error.h"

/* Run DIRECTORY/SCRIPT in its directory. TD_EUNSUPPORTED: gnuplot is not installed; the message
 * says how to install it and how to draw the picture then. */
int td_picture_draw(const char *directory, const char *script, td_error *error);

#endif
