/* maps.h - an analysis of attention as files: NAME.json with the numbers, NAME-locality.csv by position,
 * NAME-map-self.csv, -map-cross.csv and -map-encoder.csv with the weights between parts of the text,
 * NAME-coverage.csv, NAME-logprob.csv, and NAME.gnuplot, which draws NAME-maps.svg and NAME-curves.svg
 * from them. */
#ifndef TD_RUN_MAPS_H
#define TD_RUN_MAPS_H

#include <jansson.h>

#include "run/session.h"

/* {"length", "prefix", "sequences", "attentions": [..], "all": {"self": ..}, "without": [..],
 * "logprobs": [..]}, without the maps. */
json_t *td_maps_json(const td_analysis *);
/* Write all files but the pictures, which td_picture_draw draws. */
int td_maps_write(const td_session *, const td_analysis *, const char *directory, const char *name,
                  td_error *error);

#endif
