/* view.h - the live table of a running study: redrawn in place on a terminal, plain lines elsewhere. */
#ifndef TD_TOOLS_STUDY_VIEW_H
#define TD_TOOLS_STUDY_VIEW_H

#include "command.h"
#include "study/run.h"

typedef struct td_view {
    const char *study;
    td_journal *log; /* of the study: log.txt, and stderr around the table */
    bool        terminal, quiet;
    int         drawn; /* lines of the table on the screen */
    double      start, shown;
    double      before; /* FLOPs that were done when this began */
} td_view;

/* Log to FILE from now on. */
int  td_view_open(td_view *, const td_tool *, const char *study, const char *file, td_error *error);
void td_view_close(td_view *);
/* Show the cells, unless that was done a moment ago. */
void td_view_show(td_view *, const td_cell_progress *rows, size_t n, bool last);

#endif
