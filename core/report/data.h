/* data.h - the data of a report: the comparison of its runs, their histories and their models. */
#ifndef TD_REPORT_DATA_H
#define TD_REPORT_DATA_H

#include "base/arena.h"
#include "report/history.h"
#include "report/report.h"
#include "run/comparison.h"

/* Seconds on this or another machine, from RUN/eval/bench-generate.json; NaN: not measured. */
typedef struct td_latency {
    double prefill; /* until the first token of a prompt */
    double step;    /* of each further token */
    double prompt;  /* tokens */
    double memory;  /* peak, bytes */
} td_latency;

typedef struct td_report_run {
    const char *directory; /* of the run, not of a checkpoint */
    const char *tokenizer; /* identifies it; "": unknown */
    td_history  history;
    td_latency  latency;
} td_report_run;

/* A group of the comparison, with what its runs have in common. */
typedef struct td_report_group {
    const char *name;  /* for people */
    const char *class; /* "": all; groups are compared within one, such as a size of a study */
    const char    *variant, *size, *phase; /* of a study; "": no study */
    size_t         colour;                 /* in pictures: its variant's */
    double         width;                  /* .. of its lines: larger sizes have thicker ones */
    bool           described;
    td_description model; /* if described */
} td_report_group;

typedef struct td_report_data {
    const td_report_options *options;
    const char              *study; /* its name; NULL: none */
    const char              *brief; /* its question; NULL or "": none */
    td_comparison            comparison;
    td_report_run           *runs;   /* [comparison.n_runs] */
    td_report_group         *groups; /* [comparison.n_groups] */
    /* of a study; by run */
    const char **directories, **labels, **classes, **variants, **from, **sizes, **phases;
    size_t       count;
    bool         tokenizers_differ; /* losses per token are not comparable */
    td_text      notes;             /* what is missing, a line each */
    td_text      announced;         /* lines of the log about modules, each written once */
    td_arena    *arena;
} td_report_data;

/* Read everything. Free the result even after a failure. */
int  td_report_gather(const td_report_options *, td_report_data *, td_error *error);
void td_report_data_free(td_report_data *);

/* The measure of that name; NULL: no run has it. */
const td_measure       *td_report_measure(const td_report_data *, const char *name);
/* The test of two groups, and whether it tests b minus a, as asked, or a minus b; NULL: there is
 * none. */
const td_compared_pair *td_report_pair(const td_report_data *, const td_measure *, size_t a,
                                       size_t b, bool *reversed);
/* How many phases of a study the groups belong to, and whether a group is the first of its
 * phase. */
size_t                  td_report_phases(const td_report_data *);
bool                    td_report_begins_phase(const td_report_data *, size_t group);
/* Half the width of the 95 % interval of a group's score: Student's t over seeds or, for a
 * single run, 1.96 standard errors over items; NaN: unknown. */
double                  td_report_half(const td_measured *);
/* Whether it is a measure of a task: not of held-out text, and not too detailed for a table. */
bool                    td_report_is_task(const td_measure *);
/* Whether measure k is the first of its task in its setting ("5-shot"): the one that the task is
 * known for. */
bool                    td_report_is_main(const td_report_data *, size_t k);

#endif
