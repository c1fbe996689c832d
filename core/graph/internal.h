/* internal.h - what the files of core/graph share: nodes, values and the graph itself. */
#ifndef TD_GRAPH_INTERNAL_H
#define TD_GRAPH_INTERNAL_H

#include "base/map.h"
#include "graph/graph.h"

typedef struct td_node td_node;

/* A tensor as the host sees it: the public part first. */
typedef struct td_value {
    td_tensor t;
    td_node  *node;
    int32_t   slot; /* which output of the node */
} td_value;

typedef enum td_node_kind {
    TD_NODE_OP,
    TD_NODE_VARIABLE,
    TD_NODE_INPUT,
    TD_NODE_CONSTANT,
    TD_NODE_ERROR
} td_node_kind;

struct td_node {
    int32_t       kind, index; /* index: order of emission, which is the order of execution */
    int32_t       region;      /* marked layer it was built in, 0: none */
    int32_t       n_in, n_out;
    bool          backward;
    const td_op  *op;
    td_attrs      attrs;
    td_value    **in;
    td_value     *out;
    const char   *path;
    td_variable  *variable;
    int32_t       written; /* of a variable: the last node that writes to it, 0: none */
    const char   *input;   /* name of a graph input */
    const double *values;  /* of a constant */
    td_node      *twin;    /* its copy in the backward pass (recompute) */
    uint64_t      hash;
    td_node      *next; /* in the same bucket */
};

typedef struct td_scope {
    const char *path, *scope;
} td_scope;

enum { TD_SCOPES = 64, TD_BUCKETS = 8192 };

typedef struct td_graph_full {
    td_graph         base; /* must be first */
    td_arena        *arena;
    td_registry     *registry;
    td_variables    *variables;
    td_graph_options options;
    td_error         error;
    td_node        **nodes;
    int32_t          n_nodes, room;
    td_node         *error_node;
    td_map          *ops, *leaves, *inputs;
    td_scope         scopes[TD_SCOPES];
    int              depth;
    int32_t          region, regions;
    bool             backward; /* building gradients */
    bool             unique;   /* do not merge equal nodes: recomputation and lowering */
    td_node         *bucket[TD_BUCKETS];
    td_aux           aux[TD_AUX];
    size_t           n_aux;
    struct td_remembered *remembered; /* cache.c: what the pass keeps */
    struct td_carried    *carried;
} td_graph_full;

static inline td_graph_full *td_full_of(const td_graph *g) { return (td_graph_full *)(uintptr_t)g; }
static inline td_value      *td_value_of(const td_tensor *t) { return (td_value *)(uintptr_t)t; }

/* ---- node.c ---------------------------------------------------------------------------------- */

/* A node with room for its outputs, appended to the graph; NULL: out of memory. */
td_node *td_node_new(td_graph_full *, int kind, int n_in, int n_out);
/* Whether the node is the op `name`. */
bool     td_node_is(const td_node *, const char *name);

/* Keep the first error, with the current path in front. Both return the error tensor. */
td_tensor *td_graph_refuse(td_graph *, const char *message);
td_tensor *td_graph_out_of_memory(td_graph_full *);

/* Refuse a shape that no tensor may have, whatever op or leaf it is for; `k` is its output. */
int td_check_shape(const td_shape *, int k, td_error *error);

/* The variable whose memory the value is: itself, or through views and what is written in place;
 * NULL: memory of its own. Such a value is read when its reader runs. */
td_node *td_state_of(const td_value *);
/* Whether a state that `n` reads was written to after it: the same node now would read another. */
bool     td_written_since(const td_node *n);

/* ---- the host's table ------------------------------------------------------------------------ */

extern const td_host td_graph_host;

/* emit.c */
td_tensor *td_graph_emit(td_graph *, const char *op, td_tensor *const *in, int n, const td_attrs *);
td_tensor *td_graph_output(td_tensor *first, int index);

/* leaves.c */
/* The leaf for a variable, found again by `key`: its name, unless another set of variables may have
 * that name too. */
td_tensor *td_graph_leaf(td_graph *, const char *key, td_variable *);
td_tensor *td_graph_param(td_graph *, const char *name, const int64_t *dims, int rank, td_init);
td_tensor *td_graph_state(td_graph *, const char *name, const int64_t *dims, int rank,
                          double initial);
td_tensor *td_graph_constant(td_graph *, int dtype, const int64_t *dims, int rank,
                             const double *values);
td_tensor *td_graph_input(td_graph *, const char *name, int dtype, const int64_t *dims, int rank);

/* cache.c: td_remember_axis, td_carry and td_carry_on */
td_tensor *td_graph_remember(td_tensor *, const char *name, int axis, int64_t window, int mode);
td_tensor *td_graph_carry(td_graph *, const char *name, const int64_t *dims, int rank);
void       td_graph_carry_on(td_tensor *shown, td_tensor *value);

/* Simpler than the node that was asked for (identity reshapes, products with ones, ..), or NULL. */
td_tensor *td_simplify(td_graph_full *, const td_op *, td_tensor *const *in, int n,
                       const td_attrs *, const td_shape *);

/* An element of what follows from a batch and constants by moving, adding and scaling; false: it
 * depends on something else (numbers.c). */
bool td_number_at(const td_value *, int64_t flat, const td_batch *, double *out);

/* Share of query-key pairs that an attention node's rule shows; 1 where the batch cannot tell.
 * `room`: of td_mask_room integers for masks that are computed in the graph; NULL: taken for the
 * call. */
double  td_visible_pairs(const td_node *, const td_batch *, int32_t *room);
int64_t td_mask_room(const td_node *);
/* Whether two attention nodes show the same pairs of any batch. */
bool   td_same_mask(const td_node *, const td_node *);

const char *td_dtype_name(int dtype); /* "f32" */
/* "f32[2, 3]" */
void        td_print_dims(td_text *out, int dtype, int rank, const int64_t *dims);

#endif
