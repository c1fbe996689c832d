/* task.h - a task: a config file that names the items and says how one becomes a prompt, what the
 * model does with it, and how its answer is scored. docs/tasks.md is its manual.
 *
 *     td_task *t = td_task_open(&spec, "boolq", &errors);     configs/tasks/boolq.cfg
 *     td_task_read(t, "/data", &error);                       its items
 *     ..
 *     td_task_close(t);
 *
 * Options are named as in lm-evaluation-harness where it has them.
 */
#ifndef TD_EVALUATE_TASK_H
#define TD_EVALUATE_TASK_H

#include "config/config.h"
#include "evaluate/filter.h"
#include "evaluate/items.h"
#include "evaluate/template.h"
#include "tandem/kind/metric.h"

typedef enum td_output_type {
    TD_MULTIPLE_CHOICE, /* the log-likelihoods of choices */
    TD_GENERATE_UNTIL,  /* a text, generated greedily */
    TD_LOGLIKELIHOOD    /* the log-likelihood of the target itself */
} td_output_type;

typedef enum td_exemplar_order { TD_SAMPLER_FIRST, TD_SAMPLER_RANDOM } td_exemplar_order;

/* One way of finding the answer in a generated text; each yields separate scores. */
typedef struct td_task_filter {
    const char *name;
    td_list     steps; /* of td_filter_step */
} td_task_filter;

/* The group `task` of a task file. */
typedef struct td_task_options {
    const char *name, *brief;
    int64_t     version;
    td_strings  groups;
    /* items */
    td_strings  files, columns;
    int64_t     format;
    const char *rows, *split_field, *split;
    const char *by, *by_regex; /* groups of items: for separate scores and the choice of
                                * exemplars */
    /* the model's input and the kind of answer */
    int64_t     output_type;
    const char *description, *doc_to_text, *doc_to_target, *target_delimiter;
    const char *choices;
    td_strings  doc_to_choice;
    const char *gold, *label;
    td_strings  labels;
    bool        multiple_inputs;
    const char *references;
    td_list     reference_steps; /* of td_filter_step */
    td_strings  until;
    int64_t     max_gen_toks;
    /* exemplars */
    int64_t     num_fewshot, fewshot_sampler;
    td_strings  fewshot_files, fewshot_text, fewshot_columns;
    int64_t     fewshot_format;
    const char *fewshot_rows, *fewshot_split, *fewshot_doc_to_text, *fewshot_doc_to_target;
    td_list     fewshot_steps; /* of td_filter_step */
    const char *fewshot_context, *fewshot_begin, *fewshot_delimiter;
    /* scores */
    td_list     filters; /* of td_task_filter */
    td_parts    metrics;
    double      chance;
} td_task_options;

/* Its table: name, type, default and meaning of every option. */
extern const td_option td_task_table[];

typedef struct td_task {
    td_config      *config;
    char           *path;
    td_task_options options;
    td_template    *description, *text, *target, *gold, *label, *by;
    td_template    *fewshot_text, *fewshot_target, *fewshot_context;
    td_template   **choice; /* [options.doc_to_choice.count, at least 1] */
    size_t          n_choice;
    td_filter     **filters; /* [n_filters], never none */
    size_t          n_filters;
    td_filter      *reference, *by_filter, *fewshot; /* NULL: as it is */
    td_items        items, exemplars;
} td_task;

typedef struct td_task_spec {
    td_registry *registry;
    const char  *configs; /* the shipped configs/, in which tasks/NAME.cfg are */
} td_task_spec;

/* By name (tasks/NAME.cfg of the shipped configs) or by the path of a file that ends in .cfg.
 * NULL with all its `errors`. */
td_task *td_task_open(const td_task_spec *, const char *name, td_errors *errors);
void     td_task_close(td_task *);

/* The name of a filter's scores, "none" without filters. */
const char *td_task_filter_name(const td_task *, size_t filter);

/* Read its items, and those that exemplars are taken from, from files relative to `directory`. */
int td_task_read(td_task *, const char *directory, td_error *error);

/* The names of all shipped tasks ("boolq", "small/boolq"), sorted; free them with td_free_names. */
int64_t td_task_names(const td_task_spec *, char ***names, td_error *error);

/* ---- an item --------------------------------------------------------------------------------- */

/* Texts of one item; all owned by it. */
typedef struct td_task_item {
    char  *text; /* the question, which the answer follows; with multiple_inputs there is one for
                  * each choice, in `choices` */
    char  *description; /* the text before all exemplars */
    char  *target;      /* the correct answer, as shown in exemplars; or NULL */
    char **choices;
    size_t n_choices, gold;
    char **references; /* correct answers, after reference_steps */
    size_t n_references;
    char  *by; /* "": the task has no `by` */
} td_task_item;

/* TD_EFORMAT: the item lacks a field, or its correct choice is not among the choices. */
int  td_task_item_open(const td_task *, const json_t *item, td_task_item *, td_error *error);
void td_task_item_close(td_task_item *);

/* The value of `by` for an item; free() it. */
int td_task_by(const td_task *, const json_t *item, char **out, td_error *error);

#endif
