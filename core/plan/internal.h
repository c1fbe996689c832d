/* internal.h - shared by the files of core/plan.
 *
 * A plan is made in one walk over the live nodes of a graph, in the order of their emission:
 *
 *     plan.c     liveness, then each node in turn: a view, a kernel call, or its lowering
 *     fold.c     before that: sums that a product can start from are folded into the product
 *     kernels.c  which kernels could compute a node
 *     calls.c    one node as one kernel call, with the copies that the kernel needs
 *     layout.c   strides: movements as views, the layout of an output
 *     windows.c  other processes' parameters and gradients, which are here for some of the calls
 *     fuse.c     after that: calls that the backend computes together
 *     place.c    after that: storages share memory where they may, and get offsets in the arena
 *     precision.c  what is called and stored in bf16
 *     run.c      binding memory, inputs, running, results
 *     profile.c  what the calls cost
 *     records.c  the lists that all of the above write to; it calls none of them
 *
 * Four words have one meaning each. A *value* is one output of a node. A *storage* is a piece of
 * memory. A *place* is where a value lies: a strided window of a storage, so that a value and its
 * views have different places in one storage. A *call* is one run of one kernel; its index is the
 * plan's clock, by which the lifetimes of storages are measured.
 */
#ifndef TD_PLAN_INTERNAL_H
#define TD_PLAN_INTERNAL_H

#include "graph/internal.h"
#include "plan/plan.h"
#include "plan/precision.h"
#include "tandem/kind/kernels.h"

typedef enum td_storage_kind {
    TD_STORAGE_ARENA,    /* activations and workspace: reused as soon as the last reader ran */
    TD_STORAGE_VARIABLE, /* the variable's own memory, which outlives the plan */
    TD_STORAGE_INPUT,    /* written by the host before each run */
    TD_STORAGE_CONSTANT  /* written once, when memory is bound */
} td_storage_kind;

typedef struct td_storage {
    int32_t  kind, dtype;
    int64_t  count;       /* elements */
    size_t   bytes;       /* rounded up to 64, so that the next storage is aligned too */
    int32_t  first, last; /* the calls that touch it first and last: its lifetime */
    int32_t  same_as;     /* the storage that it was merged into; itself if none */
    size_t   offset;      /* bytes, in the arena or in the plan's own memory */
    td_node *leaf;        /* of a variable, input or constant */
    void    *memory;      /* once bound */
    bool     is_set;      /* an input: its values for the next run have arrived */
} td_storage;

typedef struct td_place {
    int32_t storage;
    int64_t offset; /* elements */
    td_view view;   /* its `data` stays NULL: addresses are known when memory is bound */
} td_place;

typedef struct td_kernel_call {
    const td_kernel *kernel;
    const td_node   *node;              /* NULL: a copy that the planner inserted */
    td_call          call;              /* the kernel's arguments */
    int32_t          in[TD_MAX_INPUTS]; /* storages; -1: absent */
    int32_t          out[TD_MAX_OUTPUTS];
    int64_t          in_offset[TD_MAX_INPUTS], out_offset[TD_MAX_OUTPUTS]; /* elements */
    int32_t          workspace;                                            /* storage; -1: none */
    const td_fusion *fusion;   /* computes the call and its neighbours; NULL: the kernel does */
    int32_t          together; /* calls that are computed here: 1, or those of the fusion; 0: it was
                                  computed with one before */
    bool             dropped;  /* an assignment whose value was computed in the state itself */
    double           seconds;  /* profile: over `runs` runs */
    int64_t          runs;
} td_kernel_call;

/* The planner's record of a node. */
typedef struct td_node_plan {
    bool      live, used[TD_MAX_OUTPUTS];
    int32_t   uses[TD_MAX_OUTPUTS];  /* number of live inputs that read each output */
    td_value *alias[TD_MAX_OUTPUTS]; /* the value that takes its place: its lowering, or a fold */
    td_place  place[TD_MAX_OUTPUTS];
    bool      placed[TD_MAX_OUTPUTS];
    td_value *accumulate; /* the summand that this node starts from, folded into it */
    bool      folded;     /* an `add` that a product includes: never scheduled */
    int32_t   written;    /* a variable: the last node, of those passed so far, that writes to it */
    int32_t   changed;    /* a variable: calls planned when it was last written to */
    int32_t   copied;     /* a view: calls planned when it was taken */
    int32_t   wide[TD_MAX_OUTPUTS]; /* how many of `uses` want the wide dtype, */
    int32_t   bf16[TD_MAX_OUTPUTS]; /* and how many bf16; the others accept either */
    bool      inside;               /* part of an op that computes in the wide dtype */
    bool      narrow;               /* its call is in bf16 */
    int32_t   copy; /* a parameter: 1 + the storage of its copy in bf16; 0: none yet */
} td_node_plan;

enum { TD_RECENT_CASTS = 16 };
typedef struct td_recent_cast {
    td_place from, to;
} td_recent_cast;

/* A parameter that is gathered, or a gradient that is delivered, between call at - 1 and call at. */
typedef struct td_transfer {
    int32_t      at;
    bool         delivers;
    td_variable *variable;
    int32_t      storage;
} td_transfer;

typedef struct td_kernel_choice {
    const td_op     *op;
    int32_t          dtype;
    const td_kernel *kernel;
} td_kernel_choice;

struct td_plan {
    td_graph_full     *g;
    td_device          device;
    td_arena          *records; /* owns the structs below, not tensors */
    td_node_plan     **nodes;   /* by node index; grows with the graph as nodes are lowered */
    int32_t            nodes_room;
    td_node_plan       no_node; /* stands in for a record that could not be allocated */
    td_kernel_call   **calls;
    int32_t            n_calls, calls_room;
    td_storage        *storages;
    int32_t            n_storages, storages_room;
    td_place          *roots;
    td_tensor        **root_tensors;
    size_t             n_roots;
    const td_kernels **kernels; /* of the device's backend, by precedence */
    size_t             n_kernels;
    td_kernel_choice   choices[256]; /* memo: a graph has thousands of nodes, but few ops */
    int32_t            n_choices;
    size_t             arena_bytes, own_bytes;
    int32_t           *inputs, n_inputs; /* storages of graph inputs */
    void              *own_memory;       /* on the device: inputs and constants */
    void              *scratch;          /* on the host: where transfers are converted */
    void              *recording;        /* of all calls, by the backend; NULL: none yet */
    bool               profile, bound;
    bool               warm;      /* it has run since memory was bound */
    bool               single;    /* its calls cannot be recorded */
    bool               asking;    /* copies are only described, not planned: see calls.c */
    td_transfer       *transfers; /* in order */
    int32_t            n_transfers, transfers_room;
    td_recent_cast     casts[TD_RECENT_CASTS]; /* a ring: precision.c */
    int32_t            n_casts;
    td_error           error; /* the first; every later step of planning checks it */
};

/* ---- records.c ------------------------------------------------------------------------------- */

void td_plan_out_of_memory(td_plan *);
/* Keep the plan's first error, with the path of node `n` (or NULL) in front. */
int  td_plan_refuse(td_plan *, int code, const td_node *n, const char *format, ...) TD_PRINTF(4, 5);
/* Grow `list` to hold entry `count` (a pointer to the list); new entries are zeroed. False with
 * p->error when memory ran out. */
bool td_plan_grow(td_plan *, void *list, int32_t count, int32_t *room, size_t size);
/* The node's record, made on first use; never NULL. */
td_node_plan *td_plan_node(td_plan *, const td_node *);
/* A new storage, alive at the current call. */
int32_t       td_plan_storage(td_plan *, int kind, int dtype, int64_t count);
/* The storage that `storage` was merged into, or itself. */
int32_t       td_storage_root(const td_plan *, int32_t storage);

/* ---- windows.c ------------------------------------------------------------------------------- */

/* Of a graph whose variables are sharded: parameters before storages are merged, since what reads
 * a window may overwrite it; gradients after that, when values are computed where they are assigned. */
void td_plan_cut_windows(td_plan *);
void td_plan_cut_gradients(td_plan *);
int  td_plan_transfer(td_plan *, const td_transfer *, td_error *error);

/* ---- kernels.c ------------------------------------------------------------------------------- */

int              td_plan_find_kernels(td_plan *, td_error *error);
/* The first row for the op, or the next one after `after`; NULL: no more. */
const td_kernel *td_plan_kernel(td_plan *, const char *op, int dtype, const td_kernel *after);
/* The same for a node; NULL also where the device wants all ops lowered and this one can be. */
const td_kernel *td_plan_kernel_of(td_plan *, const td_node *, int dtype, const td_kernel *after);
/* The dtype by which a node's kernel is chosen: the dtype of its data, not of masks and indices. */
int              td_plan_kernel_dtype(const td_node *);

/* ---- fold.c ---------------------------------------------------------------------------------- */

/* Fold sums into products among the first `count` nodes, whose liveness is known. */
void td_plan_fold_sums(td_plan *, int32_t count);

/* ---- calls.c --------------------------------------------------------------------------------- */

/* The value that computes `v`: `v` itself, or what it was lowered to or folded into. */
td_value *td_plan_resolve(td_plan *, td_value *v);
/* Where a value is stored, in its own dims; `why`: the node that needs it, for error messages,
 * or NULL. */
td_place  td_plan_place_of(td_plan *, td_value *, const td_node *why);
/* The same elements in other dims: a view if the strides allow it, else a copy. */
td_place  td_plan_place_as(td_plan *, const td_place *, const td_tensor *dims, const td_node *why);
/* A new storage for `t`, dense. */
td_place  td_plan_dense(td_plan *, const td_tensor *t);
/* A dense copy, by a call that is planned here. */
td_place  td_plan_copy(td_plan *, const td_place *, const td_node *why);
/* Plan a cast from one place to another of the same dims. */
void td_plan_cast_into(td_plan *, const td_place *from, const td_place *to, const td_node *why);
/* The number of inputs of the node's call, and input k: the op's own, or the folded summand;
 * NULL: absent. */
int  td_plan_n_inputs(const td_node *);
td_value *td_plan_input(const td_node *, const td_node_plan *, int k);
/* Plan the node as a call of `kernel`; false if the kernel refuses it: nothing was planned then. */
bool      td_plan_call(td_plan *, td_node *, const td_kernel *);

/* ---- precision.c ----------------------------------------------------------------------------- */

/* The dtype in which node n, whose readers are known, wants its input k: TD_BF16, the wide dtype, or
 * 0, either. */
int      td_plan_wanted(td_plan *, const td_node *n, int k);
/* Whether the node is to be called in bf16, now that its inputs are placed. */
bool     td_plan_is_narrow(td_plan *, const td_node *);
/* Whether it writes to a state that is stored in bf16. */
bool     td_plan_writes_narrow(td_plan *, const td_node *);
/* Where the node's call reads its input k, which lies at `place`: there, in a copy of the
 * parameter, or in a cast that is planned here. */
td_place td_plan_as_read(td_plan *, const td_node *, int k, const td_place *place);
/* The dtype in which the node's call writes its output k. */
int      td_plan_written_dtype(td_plan *, const td_node *, int k);
/* The same elements in another dtype. */
td_place td_plan_cast(td_plan *, const td_place *, int dtype, const td_node *why);
/* Write the copies of all parameters that the plan has written. */
void     td_plan_write_copies(td_plan *);

/* ---- layout.c -------------------------------------------------------------------------------- */

td_view td_view_dense(int dtype, int rank, const int64_t *dims); /* row-major */
bool    td_view_is_dense(const td_view *);
bool    td_view_same(const td_view *, const td_view *); /* dims, strides and dtype */
/* The view in the dims of `to`; false: no strides do that, it needs a copy. */
bool    td_view_reshape(const td_view *, const td_tensor *to, td_view *out);
/* A view without gaps of the dims of `dims`, with axes in the order of `order_of`'s strides. */
td_view td_view_like(const td_view *order_of, const td_tensor *dims);

/* ---- fuse.c ---------------------------------------------------------------------------------- */

/* Choose which calls are computed together; storages live longer accordingly. */
void td_plan_fuse(td_plan *);

/* ---- place.c --------------------------------------------------------------------------------- */

/* Merge storages: in-place kernels, accumulators, values computed straight into states. */
void td_plan_merge_storages(td_plan *);
/* Give every remaining storage its offset; sets arena_bytes, own_bytes and the list of inputs. */
int  td_plan_set_offsets(td_plan *, td_error *error);

/* ---- run.c ----------------------------------------------------------------------------------- */

/* Free the recording of the calls, if there is one. */
void td_plan_forget(td_plan *);

#endif
