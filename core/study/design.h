/* design.h - a study as it is written: the group `study` of a config file.
 *
 *     study = {
 *       name = "quick";  seeds = [ 1, 2 ];  processes = 2;
 *       base = "base/small.cfg";
 *       variants = { decllm = { base = "base/decllm.cfg"; }; wide = { from = "decllm"; keys = { .. }; }; };
 *       sizes = { nano = "size/nano.cfg"; };
 *       grid = { window = { key = "model.attention.window"; values = [ 32, 64 ]; }; };
 *       phases = { pretrain = { .. }; evaluate = { .. }; };
 *       budget = { equal = "flops"; };
 *       match = { what = "parameters"; to = "decllm"; by = "model.layers"; within = 0.01; };
 *     };
 *
 * Reading checks words, types and names; the keys of configs are checked when the cells are
 * composed (compose.h). docs/studies.md describes it for users.
 */
#ifndef TD_STUDY_DESIGN_H
#define TD_STUDY_DESIGN_H

#include "config/config.h"

typedef enum td_study_phase {
    TD_STUDY_PRETRAIN,
    TD_STUDY_FINETUNE,
    TD_STUDY_EVALUATE,
    TD_STUDY_EXTRAPOLATE,
    TD_STUDY_ANALYZE,
    TD_STUDY_BENCH, /* latency of generation */
    TD_STUDY_PHASES
} td_study_phase;

const char *td_study_phase_name(td_study_phase);
bool        td_study_phase_trains(td_study_phase);

/* Settings that change a config: first files, in order, which may also be strings "key=value";
 * then keys. Either may be NULL. */
typedef struct td_overlay {
    const td_setting *files; /* a string, or a list of strings */
    const td_setting *keys;  /* a group as in a config */
} td_overlay;

typedef struct td_integers {
    const int64_t *at;
    size_t         count;
} td_integers;

/* Choose one value for all the keys `by`, so that `what` agrees with another variant, or with
 * the budget. */
typedef struct td_matching {
    const td_setting *at;   /* its file and line; NULL: there is none */
    const char       *what; /* "flops" (of a training step) or "parameters" */
    const char       *to;   /* a variant; NULL: `amount` */
    double            amount;
    td_strings        by;
    double            within; /* the largest relative difference */
    int64_t           multiple, least, most;
} td_matching;

typedef struct td_variant {
    const char                     *name;
    const td_setting               *at;
    td_strings                      from;
    td_overlay                      base;                    /* applied before the size */
    td_overlay                      own;                     /* .. and after it */
    td_overlay                      phases[TD_STUDY_PHASES]; /* .. and in that phase */
    td_matching                     match;
    /* itself, after the variants it is made from, each once */
    const struct td_variant *const *chain;
    size_t                          n_chain;
} td_variant;

typedef struct td_size {
    const char       *name; /* "": the study states no sizes */
    const td_setting *at;
    td_overlay        own;
    const td_setting *variants;  /* a group of further overlays by variant; NULL: none */
    int64_t           processes; /* as in td_design; 0: the study's */
} td_size;

typedef struct td_level {
    const char *label; /* "window-64" */
    td_overlay  own;
} td_level;

typedef struct td_axis {
    const char *name;
    td_level   *levels;
    size_t      n;
} td_axis;

/* A phase's options besides its config's: see docs/studies.md. Numbers are -1 if unset. */
typedef struct td_phase_design {
    const td_setting *at; /* NULL: the study has no such phase */
    td_overlay        own;
    td_strings        only; /* the variants that have the phase; none: all */
    td_strings        of;   /* the phases whose runs it reads */
    td_strings        tasks;
    const char       *data;
    int64_t           shots, limit, sequences, length, prefix;
    int64_t           batch, prompt_tokens, max_new_tokens;
    td_integers       lengths, prefixes;
    td_strings        layers;
    bool              best; /* use a run's best checkpoint, not its newest */
} td_phase_design;

typedef struct td_budget_design {
    const td_setting *at;     /* NULL: each cell trains as long as its config says */
    const char       *equal;  /* "tokens", "target_tokens", "flops", "parameters", "time" */
    double            amount; /* 0: the first variant's */
    td_strings        by;     /* for "parameters", as in a td_matching */
    double            within;
    int64_t           multiple;
} td_budget_design;

/* The machine that the study is meant for, used to estimate how long it takes there. */
typedef struct td_device_design {
    const char *name;
    double      flops_per_second; /* the rate that training reaches; 0: unknown */
} td_device_design;

typedef struct td_design {
    const char      *file; /* as it was named */
    const char      *path; /* .. and where it was found */
    const char      *name;
    const char      *brief;
    td_integers      seeds;
    int64_t          processes; /* of a cell (mpirun); 0: it needs no launcher */
    td_overlay       base;
    td_variant      *variants; /* at least one */
    size_t           n_variants;
    td_size         *sizes; /* at least one */
    size_t           n_sizes;
    td_axis         *grid;
    size_t           n_grid;
    td_phase_design  phases[TD_STUDY_PHASES];
    td_budget_design budget;
    td_matching      match;
    td_device_design device;
    td_config       *config; /* owns all of the above */
} td_design;

/* Read FILE, with overrides such as "study.seeds=[1]". NULL after adding errors. */
td_design *td_design_read(const char *file, const char *const *overrides, size_t n_overrides,
                          const char *search, td_errors *errors);
void       td_design_close(td_design *);

/* NULL: none. */
const td_variant *td_design_variant(const td_design *, const char *name);

#endif
