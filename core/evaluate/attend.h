/* attend.h - every attention weight while a model reads one text (td_attended, tandem/embed.h). */
#ifndef TD_EVALUATE_ATTEND_H
#define TD_EVALUATE_ATTEND_H

#include "model/arrange.h"
#include "model/engine.h"
#include "tandem/embed.h"

/* `feed`: how examples are arranged. Always free `out`. */
int  td_attend_to(td_engine *, const td_arrange_spec *feed, const td_attending *, td_attended *out,
                  td_error *error);
void td_attended_free(td_attended *);

#endif
