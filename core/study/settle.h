/* settle.h - chooses values that make variants comparable: a size that agrees with another's,
 * and a length of training that spends the same budget. */
#ifndef TD_STUDY_SETTLE_H
#define TD_STUDY_SETTLE_H

#include "study/figures.h"
#include "study/times.h"

/* The choices of one variant at one size, the same for all seeds. */
typedef struct td_settled {
    td_choices sizes;        /* made by `match`, for every phase */
    td_choices budget;       /* for pretraining alone */
    td_text    size, length; /* both in words; free them */
} td_settled;

/* Choose the value of the keys m->by, so that m->what of the point agrees with that of `to`, or
 * with m->amount if `to` is NULL. The value in [least, most] with the smallest difference is
 * chosen; if that difference is larger than m->within, it is an error, which says which values
 * came nearest. 0, or TD_ECONFIG. */
int td_settle_size(const td_composer *, td_arena *, const td_point *, const td_point *to,
                   const td_matching *m, td_settled *out, td_errors *errors);

/* Choose how long the point trains, so that it spends the study's budget; without an amount, the
 * budget is what `first` spends. Call it after td_settle_size. */
int td_settle_length(const td_composer *, td_arena *, const td_point *, const td_point *first,
                     td_times *, td_settled *out, td_errors *errors);

#endif
