/* graph.h - the graph behind tandem/graph.h: building it, differentiating it, looking at it.
 *
 *     td_variables *variables = td_variables_new();
 *     td_graph_options options = { .phase = TD_PHASE_TRAIN, .real = TD_F32 };
 *     td_graph *g = td_graph_new(registry, variables, &options);
 *     ... plugins emit nodes ...
 *     td_gradients(g, loss, params, n, grads, &error);
 *     if (td_graph_error(g, &error))      the first error that a plugin made, with its scope
 *         ...
 *
 * plan/plan.h turns a graph into kernel calls and memory.
 */
#ifndef TD_GRAPH_GRAPH_H
#define TD_GRAPH_GRAPH_H

#include "base/arena.h"
#include "base/text.h"
#include "plugin/registry.h"
#include "tandem/graph.h"
#include "tandem/kind/batch.h"
#include "tandem/kind/op.h"

size_t td_dtype_size(int dtype);
bool   td_has_dims(const td_tensor *, int dtype, int rank, const int64_t *dims);

/* ---- variables: what outlives a graph (parameters, their gradients, states) ------------------ */

typedef struct td_variables td_variables;

typedef enum td_variable_kind {
    TD_VARIABLE_PARAM,
    TD_VARIABLE_GRAD,
    TD_VARIABLE_STATE
} td_variable_kind;

typedef struct td_variable {
    const char *name; /* "model.layers.0.self_attn.q_proj.weight", "<param>.m" for a state */
    int32_t     kind, rank;
    int32_t     dtype; /* TD_I32, or TD_REAL: the real type of whoever allocates it */
    int64_t     dim[TD_MAX_RANK];
    td_init     init;    /* of a parameter */
    double      initial; /* of a state */
    int64_t     index;   /* in order of creation */
    int64_t     count;   /* of elements */
    void       *memory;  /* device memory once allocated */
} td_variable;

td_variables *td_variables_new(void);
void          td_variables_free(td_variables *); /* device memory is td_variables_release's */
size_t        td_variables_count(const td_variables *);
td_variable  *td_variables_at(const td_variables *, size_t i);
td_variable  *td_variables_find(const td_variables *, const char *name);
/* Fetch or declare; NULL when the dims differ from an earlier declaration. */
td_variable  *td_variables_add(td_variables *, const char *name, int kind, const int64_t *dims,
                               int rank, td_init init, double initial);
/* The same for a state of zeros: of reals (TD_REAL) or of integers (TD_I32). NULL also when the
 * dtype differs. */
td_variable  *td_variables_add_state(td_variables *, const char *name, int dtype,
                                     const int64_t *dims, int rank);

/* ---- building -------------------------------------------------------------------------------- */

typedef struct td_cache td_cache; /* cache.h */

typedef struct td_graph_options {
    int      phase; /* td_phase */
    int      real;  /* TD_F32 or TD_F64 */
    uint64_t dropout_seed;
    /* layers marked by td_layer_begin are computed again in the backward pass */
    bool     recompute;
    /* of TD_PHASE_PREFILL and TD_PHASE_STEP, which need one; it must outlive the graph */
    td_cache *cache;
} td_graph_options;

td_graph *td_graph_new(td_registry *, td_variables *, const td_graph_options *);
void      td_graph_free(td_graph *);
/* The first mistake, as a failure; 0 if there is none. */
int       td_graph_error(const td_graph *, td_error *error);
/* Auxiliary losses of one name: the weighted sum of all that td_aux_loss was told. */
enum { TD_AUX = 8 };
typedef struct td_aux {
    const char *name;
    td_tensor  *loss; /* scalar */
} td_aux;
const td_aux *td_graph_aux(const td_graph *, size_t *count);

/* The leaf for a variable: a parameter, or (kind GRAD, STATE) storage to assign to. */
td_tensor *td_graph_variable(td_graph *, td_variable *);
/* A tensor's input by name, or NULL. */
td_tensor *td_graph_find_input(const td_graph *, const char *name);

/* d loss / d wrt[i] as graph tensors; NULL where nothing flows. */
int td_gradients(td_graph *, td_tensor *loss, td_tensor *const *wrt, size_t n, td_tensor **grads,
                 td_error *error);

/* ---- looking --------------------------------------------------------------------------------- */

/* FLOPs of the nodes before (`forward`) and from the backward pass on. `batch`: data for counting
 * visible pairs, or NULL. */
typedef struct td_flops_phases {
    td_flops forward, backward;
} td_flops_phases;
void td_graph_flops(const td_graph *, td_tensor *const *roots, size_t n, const td_batch *batch,
                    td_flops_phases *out);

/* FLOPs of the matrix products for any batch of the graph's shape, visible pairs only: counted
 * once, told for each batch without allocating. The graph must outlive it. */
typedef struct td_cost {
    double            products; /* of every batch */
    struct td_masked *masks;    /* scores, of which a batch's mask shows a share */
    size_t            n_masks;
} td_cost;
int    td_graph_cost(const td_graph *, td_tensor *const *roots, size_t n, td_cost *out,
                     td_error *error);
double td_cost_of(const td_cost *, const td_batch *);
void   td_cost_free(td_cost *);

void td_graph_dump_text(const td_graph *, td_text *out);
void td_graph_dump_dot(const td_graph *, td_text *out);
/* The mask of the attention node at `path` for row `row` of the batch, as text: one character per
 * pair. */
int  td_graph_dump_mask(const td_graph *, const td_batch *, const char *path, int64_t row,
                        td_text *out, td_error *error);

#endif
