/* graph.h - the graph behind tandem/graph.h: building it, differentiating it, looking at it.
 *
 * A graph is a list of nodes. It is built once for a phase and a shape of batch, never changed,
 * only appended to: by plugins, then by td_gradients, then by the planner as it lowers ops. An
 * input is always emitted before its reader, so the list is an order of execution, and every pass
 * over the graph is a walk along it.
 *
 *     td_variables *variables = td_variables_new();
 *     td_graph_options options = { .phase = TD_PHASE_TRAIN, .real = TD_F32 };
 *     td_graph *g = td_graph_new(registry, variables, &options);
 *     ... plugins emit nodes ...
 *     td_gradients(g, loss, params, n, grads, &error);
 *     if (td_graph_error(g, &error))      the first error that a plugin made, with its scope
 *         ...
 *
 * plan/plan.h turns a graph into kernel calls and memory. Tensors and nodes live as long as their
 * graph; variables outlive it. All functions are [build]: one thread at a time per graph.
 */
#ifndef TD_GRAPH_GRAPH_H
#define TD_GRAPH_GRAPH_H

#include "base/arena.h"
#include "base/text.h"
#include "plugin/registry.h"
#include "tandem/graph.h"
#include "tandem/kind/batch.h"
#include "tandem/kind/op.h"

/* Bytes of an element; not for TD_REAL, which only a graph can resolve. */
size_t td_dtype_size(int dtype);
bool   td_has_dims(const td_tensor *, int dtype, int rank, const int64_t *dims);

/* ---- variables: what outlives a graph (parameters, their gradients, states) ------------------ */

/* A set of variables by name, shared by all graphs of a model. */
typedef struct td_variables td_variables;

typedef enum td_variable_kind {
    TD_VARIABLE_PARAM, /* trained, saved, in the order of declaration */
    TD_VARIABLE_GRAD,  /* where the gradients of micro-batches are summed */
    TD_VARIABLE_STATE  /* everything else that a run keeps: an optimizer's moments, a cache */
} td_variable_kind;

typedef struct td_variable td_variable;

/* Reads and writes bytes of a variable that only another process has. */
typedef struct td_remote {
    int (*read)(void *arg, const td_variable *, size_t offset, size_t bytes, void *out,
                td_error *error);
    int (*write)(void *arg, const td_variable *, size_t offset, size_t bytes, const void *data,
                 td_error *error);
    void *arg;
} td_remote;

struct td_variable {
    const char *name; /* "model.layers.0.self_attn.q_proj.weight", "<param>.m" for a state */
    int32_t     kind, rank;
    int32_t     dtype; /* TD_I32, or TD_REAL: the real type of the device that it is allocated on */
    int64_t     dim[TD_MAX_RANK];
    td_init     init;    /* of a parameter */
    double      initial; /* of a state */
    int64_t     index;   /* in order of creation */
    int64_t     count;   /* of elements */
    void       *memory;  /* device memory once allocated */
    size_t      bytes;   /* of `memory` */
    bool        narrow;  /* its reals are stored in bf16 */
    bool        copied;  /* a parameter: graphs in bf16 read a copy, which updates write too */
    void       *copy;    /* device memory of that copy, in bf16 */
    /* of a model whose update is sharded across processes (model/shard.h) */
    int32_t     owner;         /* the rank that alone updates it, or has the sum; -1: every rank */
    bool        absent;        /* another rank's: it has no memory here */
    const td_variable *of;     /* of a state: the parameter that it belongs to */
    const td_remote   *remote; /* of an absent one; NULL: it cannot be reached */
};

td_variables *td_variables_new(void);            /* NULL: out of memory */
void          td_variables_free(td_variables *); /* td_variables_release frees device memory */
size_t        td_variables_count(const td_variables *);
td_variable  *td_variables_at(const td_variables *, size_t i);           /* in order of creation */
td_variable  *td_variables_find(const td_variables *, const char *name); /* NULL: none */
/* Fetch or declare; NULL when the dims differ from an earlier declaration, or memory ran out. */
td_variable  *td_variables_add(td_variables *, const char *name, int kind, const int64_t *dims,
                               int rank, td_init init, double initial);
/* The same for a state of zeros: of reals (TD_REAL) or of integers (TD_I32). NULL also when the
 * dtype differs. */
td_variable  *td_variables_add_state(td_variables *, const char *name, int dtype,
                                     const int64_t *dims, int rank);

/* ---- building -------------------------------------------------------------------------------- */

typedef struct td_cache td_cache; /* cache.h */

typedef struct td_graph_options {
    int       phase; /* td_phase */
    int       real;  /* TD_F32 or TD_F64 */
    /* TD_BF16: products compute and most activations are stored in bf16, by the rules of
     * plan/precision.h; 0: all reals are `real`. The dtypes of tensors do not show it. */
    int       narrow;
    uint64_t  dropout_seed;
    /* layers marked by td_layer_begin are computed again in the backward pass */
    bool      recompute;
    /* parameters and gradients that have an owner are here only while they are used (model/shard.h) */
    bool      shared;
    /* required for TD_PHASE_PREFILL and TD_PHASE_STEP; must outlive the graph */
    td_cache *cache;
} td_graph_options;

/* An empty graph; NULL: out of memory. The registry and the variables must outlive it. */
td_graph *td_graph_new(td_registry *, td_variables *, const td_graph_options *);
void      td_graph_free(td_graph *);
/* The first error made in building, as a failure; 0 if there is none. */
int       td_graph_error(const td_graph *, td_error *error);

/* What plugins log under a name: the weighted sum of all that td_aux_loss added, or the sum of all
 * that td_log_scalar did. */
enum { TD_AUX = 16 };
typedef struct td_aux {
    const char *name;
    td_tensor  *loss;   /* scalar */
    int         logged; /* how many scalars td_log_scalar summed; 0: it is an auxiliary loss */
} td_aux;
const td_aux *td_graph_aux(const td_graph *, size_t *count);

/* The leaf for a variable: a parameter, or (kind GRAD, STATE) storage to assign to. */
td_tensor   *td_graph_variable(td_graph *, td_variable *);
/* The variables that have a leaf in the graph, each once, from *at = 0 on; NULL at the end. */
td_variable *td_graph_next_variable(const td_graph *, int32_t *at);
/* The graph's input of this name; NULL: it has none. */
td_tensor   *td_graph_find_input(const td_graph *, const char *name);

/* Emit d loss / d wrt[i] for a scalar loss; grads[i] is NULL where no gradient flows. States that
 * the forward pass reads must not be written to before this: emit such writes afterwards. */
int td_gradients(td_graph *, td_tensor *loss, td_tensor *const *wrt, size_t n, td_tensor **grads,
                 td_error *error);

/* ---- looking --------------------------------------------------------------------------------- */

/* FLOPs of the forward pass, and of all that is computed from the first gradient on. */
typedef struct td_flops_phases {
    td_flops forward, backward;
} td_flops_phases;
/* Roots of the forward pass come first. `batch`: data to count visible pairs by; NULL: every pair
 * counts. */
void td_graph_flops(const td_graph *, td_tensor *const *roots, size_t n, const td_batch *batch,
                    td_flops_phases *out);

/* FLOPs of the matrix products for any batch of the graph's shape, visible pairs only: counted
 * once, then evaluated for each batch without allocating. The graph must outlive it. */
typedef struct td_cost {
    double            products; /* of every batch */
    struct td_masked *masks;    /* scores, of which a batch's mask shows a share */
    size_t            n_masks;
} td_cost;
/* Call td_cost_free(out) even after an error. */
int    td_graph_cost(const td_graph *, td_tensor *const *roots, size_t n, td_cost *out,
                     td_error *error);
double td_cost_of(const td_cost *, const td_batch *);
void   td_cost_free(td_cost *);

/* The nodes, one a line: "%7 = matmul(%5, %6) f32[2, 3]  model.layers.0". */
void td_graph_dump_text(const td_graph *, td_text *out);
/* The same for graphviz. */
void td_graph_dump_dot(const td_graph *, td_text *out);
/* The mask of the first attention at `path` or inside, for row `row` of the batch: one character
 * per pair, '#' where the query sees the key. */
int  td_graph_dump_mask(const td_graph *, const td_batch *, const char *path, int64_t row,
                        td_text *out, td_error *error);

#endif
