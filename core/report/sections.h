/* sections.h - the parts of a report, in the order of the page. Each adds what its data allows,
 * and adds nothing without data. */
#ifndef TD_REPORT_SECTIONS_H
#define TD_REPORT_SECTIONS_H

#include "report/data.h"
#include "report/document.h"

/* The three sentences of the first page: held-out text, tasks, and costs. */
void td_report_answer(const td_report_data *, td_document *);

/* Pictures and tables of scores: held-out loss by source, tasks, and the tests. */
void td_report_scores(const td_report_data *, td_document *);
/* Loss against training FLOPs and parameters, the frontier; quality against the cost of inference. */
void td_report_scaling(const td_report_data *, td_document *);
/* Loss beyond the training length. */
void td_report_extrapolation(const td_report_data *, td_document *);
/* Maps and locality. */
void td_report_attention(const td_report_data *, td_document *);
/* Loss by tokens read, throughput and memory. */
void td_report_training(const td_report_data *, td_document *);
/* What the runs are: their settings, sizes and budgets. */
void td_report_setup(const td_report_data *, td_document *);

/* ---- shared by them -------------------------------------------------------------------------- */

/* "0.034", with a sign if `sign`: with enough digits to distinguish the models' scores. */
const char *td_report_number(td_document *, double x, bool sign);
/* "p = 0.012", "p < 0.0001". */
const char *td_report_p(td_document *, double p);
/* "0.012", "< 0.0001", "". */
const char *td_report_p_cell(td_document *, double p);
/* "3 seeds", "one seed". */
const char *td_report_seeds(td_document *, int64_t n);
/* The caption of a picture with lines, which says what their widths mean if there are several
 * sizes. */
const char *td_report_with_sizes(const td_report_data *, td_document *, const char *caption);
/* "2.3 PFLOP"; "" if unknown. */
const char *td_report_flops(td_document *, double flops);
/* Seconds per generated token, the mean over the runs that were measured; NaN: none was. */
double      td_report_latency(const td_report_data *, size_t group);
/* FLOPs of a forward pass per target token; NaN: unknown. */
double      td_report_inference(const td_report_data *, size_t group);
/* The command that made the results: "tandem evaluate RUN --extrapolate, for each run (runs/red,
 * ..)". */
const char *td_report_command(const td_report_data *, td_document *, const char *command,
                              const char *options);

#endif
