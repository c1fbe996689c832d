/* internal.h - shared by the files of core/graph: nodes, values and the graph itself. The planner
 * (core/plan) reads it too.
 *
 *     graph.c      a graph's life, scopes, auxiliary losses, the host's table
 *     node.c       nodes, errors, and which states they read
 *     leaves.c     nodes without inputs: variables, constants, inputs
 *     emit.c       nodes with inputs
 *     simplify.c   identities that need no node
 *     autograd.c   gradients
 *     cache.c      the tokens that generation remembers
 *     variables.c  the set of variables behind the leaves
 *     numbers.c    integers worked out on the host; mask.c: masks on a batch; flops.c: counting
 *     dump.c, describe.c  for people
 */
#ifndef TD_GRAPH_INTERNAL_H
#define TD_GRAPH_INTERNAL_H

#include "base/map.h"
#include "graph/graph.h"

typedef struct td_node td_node;

/* One output of a node. The public part comes first: plugins hold a pointer to it. */
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
    TD_NODE_ERROR /* one per graph, which stands for everything that could not be built */
} td_node_kind;

struct td_node {
    int32_t       kind;
    int32_t       index;  /* in the list of nodes: the order of emission and of execution */
    int32_t       region; /* the marked layer it was built in; 0: none */
    int32_t       n_in, n_out;
    bool          backward; /* emitted by td_gradients */
    const td_op  *op;
    td_attrs      attrs;
    td_value    **in; /* NULL: an absent input */
    td_value     *out;
    const char   *path; /* "model.layers.0.self_attn" */
    td_variable  *variable;
    int32_t       written;  /* a variable: the last node that writes to it; 0: none */
    const char   *input;    /* the name of a graph input */
    const double *elements; /* of a constant */
    td_node      *twin;     /* its copy in the backward pass (recompute) */
    uint64_t      hash;     /* of op, inputs and attributes; for merging equal nodes */
    td_node      *next;     /* in the same bucket */
};

typedef struct td_scope {
    const char *path, *scope;
} td_scope;

enum { TD_SCOPES = 64, TD_BUCKETS = 8192 };

typedef struct td_graph_full {
    td_graph         base;  /* must be first: plugins hold a pointer to it */
    td_arena        *arena; /* nodes, paths, constants */
    td_registry     *registry;
    td_variables    *variables;
    td_graph_options options;
    td_error         error; /* the first */
    td_node        **nodes;
    int32_t          n_nodes, room;
    td_node         *error_node;
    td_map          *ops, *leaves, *inputs; /* by name; the leaves of variables */
    td_scope         scopes[TD_SCOPES];
    int              depth;
    int32_t          region, regions; /* the current marked layer (0: none), and the number so
                                       * far */
    bool             backward;        /* gradients are being emitted */
    bool             unique; /* never reuse or simplify a node: for recomputation and lowering */
    td_node         *bucket[TD_BUCKETS];
    td_aux           aux[TD_AUX];
    size_t           n_aux;
    struct td_remembered *remembered; /* cache.c: the tensors that the pass keeps */
    struct td_carried    *carried;
} td_graph_full;

static inline td_graph_full *td_full_of(const td_graph *g) { return (td_graph_full *)(uintptr_t)g; }
static inline td_value      *td_value_of(const td_tensor *t) { return (td_value *)(uintptr_t)t; }

/* ---- node.c ---------------------------------------------------------------------------------- */

/* A node appended to the graph, its lists of inputs and outputs still zero; NULL: out of memory. */
td_node *td_node_new(td_graph_full *, int kind, int n_in, int n_out);
/* Whether the node is the op `name`. */
bool     td_node_is(const td_node *, const char *name);

/* Keep the first error, with the current path in front. Both return the error tensor. */
td_tensor *td_graph_refuse(td_graph *, const char *message);
td_tensor *td_graph_out_of_memory(td_graph_full *);

/* Refuse a shape that no tensor may have, whatever op or leaf it is for: all code that follows
 * relies on ranks within TD_MAX_RANK and on counts that do not wrap. */
int td_check_shape(const td_shape *, td_error *error);

/* The variable in whose memory the value lies, perhaps through views or in-place ops; NULL: it has
 * its own memory. Such a value is read when its reader runs. */
td_node *td_state_of(const td_value *);
/* Whether a state that `n` reads was written to after `n` was emitted: the same node, emitted now,
 * would compute something else. */
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

/* ---- simplify.c, numbers.c, mask.c, dump.c --------------------------------------------------- */

/* A tensor that equals the requested node, so that it need not be emitted; NULL: there is none. */
td_tensor *td_simplify(td_graph_full *, const td_op *, td_tensor *const *in, int n,
                       const td_attrs *, const td_shape *);

/* Compute one element of a tensor on the host, if it follows from a batch and constants by moving,
 * adding and scaling; false: it depends on something else. */
bool td_number_at(const td_value *, int64_t flat, const td_batch *, double *out);

/* Share of query-key pairs that an attention node's rule shows; 1 where that does not follow from
 * the batch. `room`: td_mask_room integers for masks that the graph computes; NULL: allocated for
 * the call. */
double  td_visible_pairs(const td_node *, const td_batch *, int32_t *room);
int64_t td_mask_room(const td_node *);
/* Whether two attention nodes show the same pairs for every batch. */
bool    td_same_mask(const td_node *, const td_node *);

const char *td_dtype_name(int dtype); /* "f32" */
/* "f32[2, 3]" */
void        td_print_dims(td_text *out, int dtype, int rank, const int64_t *dims);

#endif
