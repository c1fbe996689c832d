/* emit.h - a study as files for another machine: a Makefile, a list of commands, or jobs for Slurm. */
#ifndef TD_STUDY_EMIT_H
#define TD_STUDY_EMIT_H

#include "study/matrix.h"

/* "make", "list" or "slurm". */
bool td_emit_knows(const char *kind);

/* Fill DIRECTORY, which becomes a study's directory, with the composed configs, cells.json,
 * modules from outside this installation with their hashes, and
 *
 *     make     Makefile            make -j 8
 *     list     commands.txt        one cell per line, each after the cells that it needs
 *     slurm    submit.sh, cell.sh  one job array for each level of dependencies
 *
 * Commands run in DIRECTORY, with the `tandem` that $TANDEM names, or else the one on the path. */
int td_study_emit(const td_matrix *, const char *kind, const char *directory, td_error *error);

#endif
