/* commands.h - the commands that are run for a cell: the arguments of `tandem train`, `evaluate`,
 * `analyze` or `bench`. */
#ifndef TD_STUDY_COMMANDS_H
#define TD_STUDY_COMMANDS_H

#include "study/matrix.h"

/* Arguments, each ended by a zero byte; without the program's name. */
typedef struct td_arguments {
    td_text text;
    size_t  n;
} td_arguments;
void   td_arguments_add(td_arguments *, const char *format, ...) TD_PRINTF(2, 3);
/* --plugin-path as it was given for the study. */
void   td_arguments_add_paths(td_arguments *, const td_matrix *);
void   td_arguments_free(td_arguments *);
/* [n + 2]: the program, the arguments, NULL; they point into the text. free() the list. */
char **td_arguments_list(const td_arguments *, const char *program);
/* The command as a line of shell, quoted where necessary. */
void   td_arguments_quote(const td_arguments *, td_text *out);
void   td_quote(const char *word, td_text *out);

/* Most cells need one command; an evaluation with tasks needs two. */
size_t td_cell_commands(const td_matrix *, const td_matrix_cell *);

/* The command number `k` of a cell. `directory`: the study's, as the command must name it;
 * `threads` 0: all. */
void td_cell_command(const td_matrix *, const td_matrix_cell *, size_t k, const char *directory,
                     int64_t threads, td_arguments *out);

/* Append what the phase asks for beyond the config; it is part of the cell's key. */
void td_phase_arguments(const td_design *, const td_point *, td_text *out);

#endif
