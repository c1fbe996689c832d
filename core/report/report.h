/* report.h - the results of runs, as a page to read, print and cite: `tandem report`.
 *
 *     DIRECTORY/index.html   everything in one file, which needs no network and no script
 *               report.md    the same as Markdown
 *               figures/NAME.svg, drawn by NAME.gp from NAME.csv
 *               tables/NAME.csv and NAME.tex
 *
 * It reads the results of training and evaluations (comparison.h, metrics.jsonl, RUN/eval), and
 * opens one config of each group for its parameters and FLOPs. It computes no model.
 */
#ifndef TD_REPORT_REPORT_H
#define TD_REPORT_REPORT_H

#include <jansson.h>

#include "base/log.h"
#include "tandem/embed.h"

typedef struct td_report_options {
    const char *const *runs;  /* [count]: directories of runs or of their checkpoints */
    size_t             count; /* 0: the study's */
    const char        *study; /* the directory of a study; NULL: `runs` */
    const char        *directory;
    const char        *title;        /* NULL: one made from the groups' names */
    const char *const *plugin_paths; /* ends with NULL; NULL: none */
    bool               trust;        /* load the modules that runs keep */
    int64_t            draws;        /* of a bootstrap; 0: 10000 */
    td_journal        *log; /* gets parts that may take seconds, modules, warnings; or NULL */
} td_report_options;

/* Write all files. `summary`, to be released, is {"report", "title", "answer": [..], "figures": [..],
 * "tables": [..], "notes": [..], "comparison": {..}}. TD_ECONFIG: there is nothing to report. */
int td_report_write(const td_report_options *, json_t **summary, td_error *error);

/* Whether `name` is the directory of a study. */
bool td_report_is_study(const char *name);

#endif
