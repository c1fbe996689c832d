/* table.h - a study's matrix for people and for programs. */
#ifndef TD_TOOLS_STUDY_TABLE_H
#define TD_TOOLS_STUDY_TABLE_H

#include "command.h"
#include "study/matrix.h"

/* Cells with parameters, FLOPs, memory, steps and time; totals. */
void    td_matrix_print(const td_matrix *, FILE *out);
json_t *td_matrix_report(const td_matrix *);

/* The states of the cells of a study. */
void    td_status_print(const td_study *);
json_t *td_status_json(const td_study *);

#endif
