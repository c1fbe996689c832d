/* request.h - shared by the commands of `tandem study`. Functions that return an exit code have
 * printed the reason. */
#ifndef TD_TOOLS_STUDY_REQUEST_H
#define TD_TOOLS_STUDY_REQUEST_H

#include "command.h"
#include "study/matrix.h"

typedef struct td_study_request {
    td_matrix_request matrix;
    const char       *study[TD_ARGUMENTS], *cells[TD_ARGUMENTS]; /* overrides of each */
} td_study_request;

/* From the arguments: the first file is the study's, the others are merged over its base.
 * `measures`: the word has --threads and --no-measure. False with `*code`. */
bool td_study_take(td_tool *, td_study_request *, bool measures, int *code);

/* NULL with `*code`. */
td_matrix *td_study_matrix(td_tool *, const td_matrix_request *, int *code);
/* Print the errors and release them: TD_EXIT_USAGE. */
int        td_study_errors(td_errors *);

/* What to do with runs that cannot be continued. */
typedef enum td_refusal { TD_REFUSE, TD_TELL, TD_PASS } td_refusal;
int td_study_look(td_tool *, td_matrix *, bool restart, td_refusal what);
int td_study_plan(td_matrix *);
/* Fills in expected times: those measured before, and new ones for cells that are not done. */
int td_study_measure(td_tool *, td_matrix *);

/* As text, or with --json as JSON. */
void td_study_print(const td_tool *, const td_matrix *, FILE *out);
/* All of the above: `study show`, and `study run --dry-run`, which exits as a run would
 * (TD_REFUSE). */
int  td_study_show(td_tool *, const td_study_request *, td_refusal what);

extern const td_usage td_usage_study_run;
int                   td_study_command_run(td_tool *, int argc, char **argv);

#endif
