/* internal.h - what the files of the planner share.
 *
 * plan.c   orders the live nodes, picks kernels, lowers what has none, folds sums into products
 * calls.c  kernel calls: inputs, outputs, copies
 * layout.c strides: views, dense copies
 * place.c  merges storages (in place, straight into states) and gives each a place in the arena
 * run.c    binds memory and runs
 */
#ifndef TD_PLAN_INTERNAL_H
#define TD_PLAN_INTERNAL_H

#include "graph/internal.h"
#include "plan/plan.h"
#include "tandem/kind/kernels.h"

typedef enum td_storage_kind {
    TD_STORAGE_ARENA,
    TD_STORAGE_VARIABLE,
    TD_STORAGE_INPUT,
    TD_STORAGE_CONSTANT
} td_storage_kind;

/* A piece of memory that tensors are views of. */
typedef struct td_storage {
    int32_t  kind, dtype;
    int64_t  count;       /* elements */
    size_t   bytes;       /* rounded up to 64 */
    int32_t  first, last; /* calls that write it first and touch it last */
    int32_t  same_as;     /* merged into this one; itself if not */
    size_t   offset;      /* in the arena */
    td_node *leaf;        /* of a variable, input or constant */
    void    *memory;      /* once bound */
    bool     is_set;      /* an input that was given values */
} td_storage;

/* Where a tensor is: a strided window of a storage. */
typedef struct td_place {
    int32_t storage; /* -1: nowhere */
    int64_t offset;  /* elements */
    td_view view;    /* data is filled by bind */
} td_place;

typedef struct td_kernel_call {
    const td_kernel *kernel;
    const td_node   *node; /* NULL: a copy that the planner put in */
    td_call          call;
    int32_t          in[TD_MAX_INPUTS]; /* storages, -1: absent */
    int32_t          out[TD_MAX_OUTPUTS];
    int64_t          in_offset[TD_MAX_INPUTS], out_offset[TD_MAX_OUTPUTS];
    int32_t          workspace; /* storage, -1: none */
    bool             dropped;
    double           seconds, flops;
    int64_t          runs;
} td_kernel_call;

/* What the planner knows of a node. */
typedef struct td_node_plan {
    bool      live, used[TD_MAX_OUTPUTS];
    int32_t   uses[TD_MAX_OUTPUTS];
    td_value *alias[TD_MAX_OUTPUTS]; /* the value that stands for it (lowering, folding) */
    td_place  place[TD_MAX_OUTPUTS];
    bool      placed[TD_MAX_OUTPUTS];
    td_value *accumulate; /* a summand folded into this node */
    bool      folded;     /* an add that is done by a product */
    int32_t   written;    /* of a variable: the last node so far that writes to it, 0: none */
    int32_t   changed;    /* and after how many calls, while they are planned */
    int32_t   copied;     /* of a view: after how many calls it was taken */
} td_node_plan;

typedef struct td_kernel_choice {
    const td_op     *op;
    int32_t          dtype;
    const td_kernel *kernel;
} td_kernel_choice;

struct td_plan {
    td_graph_full     *g;
    td_device          device;
    td_arena          *memory; /* of the plan's own structs */
    td_node_plan     **nodes;  /* by node index */
    int32_t            nodes_room;
    /* stands for one that memory was too short for; never read for a result */
    td_node_plan       no_node;
    td_kernel_call   **calls;
    int32_t            n_calls, calls_room;
    td_storage        *storages;
    int32_t            n_storages, storages_room;
    td_place          *roots;
    td_tensor        **root_tensors;
    size_t             n_roots;
    const td_kernels **kernels;
    size_t             n_kernels;
    td_kernel_choice   choices[256];
    int32_t            n_choices;
    size_t             arena, own;
    int32_t           *inputs, n_inputs;     /* storages of graph inputs */
    void              *own_memory, *scratch; /* inputs and constants; host memory for transfers */
    bool               profile, bound;
    bool               asking; /* td_plan_copy only says how the copy would look */
    td_error           error;
};

void             td_plan_out_of_memory(td_plan *);
/* Room for one more in a list of `count`; new room is 0. */
bool             td_plan_grow(td_plan *, void *list, int32_t count, int32_t *room, size_t size);
td_node_plan    *td_plan_node(td_plan *, const td_node *);
int32_t          td_plan_storage(td_plan *, int kind, int dtype, int64_t count);
td_place         td_plan_dense(td_plan *, const td_tensor *); /* a new dense place */
td_place         td_plan_copy(td_plan *, const td_place *, const td_node *why);
/* The first row for the op, or the next one after `after`; NULL: there is no other. */
const td_kernel *td_plan_kernel(td_plan *, const char *op, int dtype, const td_kernel *after);

/* calls.c */
/* the value that it stands for */
td_value *td_plan_resolve(td_plan *, td_value *);
/* Where a value is; it may be copied into its dims, for `why`. */
td_place  td_plan_place_of(td_plan *, td_value *, const td_node *why);
td_place  td_plan_place_as(td_plan *, const td_place *, const td_tensor *dims, const td_node *why);
/* Input k, a folded summand among them; or NULL. */
td_value *td_plan_input(const td_node *, const td_node_plan *, int k);
/* The kernel's call for the node; false if it does not take it. */
bool      td_plan_call(td_plan *, td_node *, const td_kernel *);

/* layout.c */
td_view td_view_dense(int dtype, int rank, const int64_t *dims);
bool    td_view_is_dense(const td_view *);
/* the same dims, strides and dtype */
bool    td_view_same(const td_view *, const td_view *);
/* false: needs a copy */
bool    td_view_reshape(const td_view *, const td_tensor *to, td_view *out);
/* dense, in another's axis order */
td_view td_view_like(const td_view *order_of, const td_tensor *dims);

/* place.c */
void    td_plan_merge(td_plan *);
int     td_plan_arrange(td_plan *, td_error *error);
int32_t td_storage_root(const td_plan *, int32_t storage);

#endif
