/* internal.h - the inside of an engine, for engine.c (computing) and plans.c (the plans and memory
 * it computes with). */
#ifndef TD_MODEL_INTERNAL_H
#define TD_MODEL_INTERNAL_H

#include "model/engine.h"

/* The purpose of a plan. One graph could not serve two of these: they differ in phase, in effects
 * on variables, or in what they read. */
typedef enum purpose {
    GRADIENT,     /* of a batch, assigned: the first micro-batch of a step */
    GRADIENT_ADD, /* added to the gradients of earlier micro-batches */
    SCORE,        /* forward only, as in evaluation: no dropout */
    PROBE,        /* GRADIENT, with the logits */
    TOKENS,       /* forward only: single tokens, without the loss */
    UPDATE,       /* gradients to parameters; reads no batch */
    SQUARES,      /* the squared norms of this rank's gradients, if the update is sharded */
    NORMS         /* of parameters and gradients; reads no batch */
} purpose;

enum { KEY = 1024 };

typedef struct planned {
    purpose purpose;
    char    key[KEY]; /* the shapes of its batch; "" if it reads none */
    union {           /* what was built for the purpose; it owns the graph */
        td_built   built;
        td_tokens  tokens;
        td_update  update;
        td_squares squares;
        td_norms   norms;
    };
    td_graph   *graph;
    td_tensor **roots; /* [n_roots]; in `own_roots`, except for SQUARES and NORMS */
    size_t      n_roots;
    td_tensor  *own_roots[3 + TD_AUX];
    td_cost     cost; /* of gradients */
    td_plan    *plan;
} planned;

struct td_engine {
    td_model      model;
    td_device     device;
    td_exchange   exchange; /* of the device */
    td_journal   *log;
    td_variables *variables;
    planned     **plans; /* in order of planning */
    size_t        n_plans;
    void         *arena; /* shared: one plan runs at a time */
    size_t        arena_size;
    double        planning;  /* seconds */
    bool          allocated; /* from then on a new plan gets its memory when it is made */
    bool          profile;
    double       *squares;  /* of all gradients, if the update is sharded; NULL: not planned */
    int32_t      *examples; /* 0, 1, 2 .. */
    int64_t       n_examples;
};

/* The plan for a purpose and the shapes of a batch (NULL: it reads none), made if necessary.
 * NULL with `error`. */
planned *td_engine_find(td_engine *, purpose, const td_batch *, td_error *error);
/* The same, if it was made before; else NULL. */
planned *td_engine_known(const td_engine *, purpose, const char *key);
void     td_engine_free_plans(td_engine *);

#endif
