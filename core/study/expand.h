/* expand.h - the points of a study: every variant, level, size, seed and phase, in order. */
#ifndef TD_STUDY_EXPAND_H
#define TD_STUDY_EXPAND_H

#include "study/matrix.h"

/* One variant with one level of each axis of the grid. */
typedef struct td_combination {
    const td_variant      *variant;
    const td_level *const *levels;
    const char            *name;
} td_combination;

/* All combinations, variants first; `*n` gets their number. NULL when out of memory. */
td_combination *td_combinations(const td_design *, td_arena *, size_t *n);

enum { TD_MOST_CELLS = 20000 };

/* Whether the study is within the limit on cells; adds an error otherwise. Call it before the
 * other functions here. */
bool td_study_fits(const td_design *, td_errors *errors);

/* The cells with their labels and points, without configs. NULL after adding errors. */
td_matrix_cell *td_study_expand(const td_design *, td_arena *, const char *directory, size_t *n,
                                td_errors *errors);

#endif
