/* compose.h - the config of a cell, from the layers that a study states for it.
 *
 *  1. study.base, then `base` of the variant and of the variants it is made from
 *  2. the -c files of the command line
 *  3. the size, and what it states for the variant
 *  4. the variant's own files and keys, and the levels of the grid
 *  5. the phase, and what the variant states for it
 *  6. what was chosen for it: its budget, its match, its seed
 *  7. key=value of the command line
 *
 * run.name, run.dir and backend.threads are the same for every cell: the command that runs a cell
 * sets them, so cells that compute the same thing have the same text. A cell of several processes has
 * a comm that connects them; how many there are is not part of the text.
 */
#ifndef TD_STUDY_COMPOSE_H
#define TD_STUDY_COMPOSE_H

#include "base/log.h"
#include "study/design.h"

/* A point of the matrix. */
typedef struct td_point {
    const td_variant      *variant;
    const td_level *const *levels; /* [design->n_grid] */
    const char            *name;   /* of the variant with its levels: "decllm+window-32" */
    const td_size         *size;
    int64_t                seed;
    td_study_phase         trains; /* pretrain or finetune */
    bool                   starts; /* .. from the run of an earlier phase */
    td_study_phase reads; /* evaluate, .. what the other phase trained; TD_STUDY_PHASES: none */
    bool           alone; /* as one process would compute it, whatever the study asks for */
} td_point;

/* How many processes compute the cell, 1 if no launcher is needed. */
int64_t td_point_processes(const td_design *, const td_point *);

/* A value that was chosen, "model.layers=5", and the origin that messages name for it. */
typedef struct td_choice {
    const char *key, *origin;
} td_choice;

typedef struct td_choices {
    td_choice at[16];
    size_t    n;
} td_choices;

/* The inputs that all cells are composed from. */
typedef struct td_composer {
    const td_design   *design;
    const char        *search;       /* the shipped configs */
    const char *const *files;        /* of the command line, over the base; ends with NULL */
    const char *const *settings;     /* .. and key=value, over all else; ends with NULL */
    const char *const *plugin_paths; /* ends with NULL */
    bool               untrusted;    /* follow no plugin_path */
    bool               here;         /* cells run on this machine, which must have their backends */
    td_registry       *registry;     /* for cells that have no plugin_path of their own */
    td_journal        *log;
} td_composer;

/* The config, not bound yet. `directory`, unless NULL, gets a copy of the run.dir that the
 * config states, to be freed, or NULL. Returns NULL after adding errors. */
td_config *td_compose(const td_composer *, const td_point *, const td_choices *, char **directory,
                      td_errors *errors);

#endif
