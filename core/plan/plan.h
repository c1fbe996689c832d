/* plan.h - a graph as kernel calls over memory: which kernel computes each node, where each tensor
 * lies, and running it all.
 *
 *     td_plan *plan = td_plan_new(g, roots, n_roots, &device, &error);     nothing is allocated yet
 *     void *arena = backend->allocate(device.state, td_plan_arena(plan));
 *     td_variables_allocate(variables, &device, TD_F32, &error);
 *     td_plan_bind(plan, arena, &error);
 *     td_plan_set_batch(plan, batch, &error);                              before each run
 *     td_plan_run(plan, &error);
 */
#ifndef TD_PLAN_PLAN_H
#define TD_PLAN_PLAN_H

#include "graph/graph.h"
#include "tandem/kind/backend.h"

typedef struct td_device {
    const td_backend  *backend;
    void              *state;
    const td_services *services;
    td_registry       *registry; /* for kernels */
    bool               fallback; /* lower ops even where a fused kernel exists: for tests */
} td_device;

typedef struct td_plan td_plan;

/* Plan the computation of `roots` (plus all effects): select kernels, lower what has none, place
 * buffers. Allocates no tensors. NULL with `error`. The graph must outlive the plan. */
td_plan *td_plan_new(td_graph *, td_tensor *const *roots, size_t n, const td_device *,
                     td_error *error);
void     td_plan_free(td_plan *);
/* Bytes of the arena that a run needs (activations and workspace), and of inputs and constants. */
size_t   td_plan_arena(const td_plan *);
size_t   td_plan_inputs(const td_plan *);

/* Take memory: `arena` is shared by plans and must hold at least td_plan_arena bytes; inputs,
 * constants and roots are the plan's own. Variables must be allocated. */
int td_plan_bind(td_plan *, void *arena, td_error *error);
/* Set an input by name (i32, or float converted to the real type), before each run: a run that
 * misses one is an error. Unknown names are ignored. */
int td_plan_set_ints(td_plan *, const char *name, const int32_t *values, int64_t count,
                     td_error *error);
int td_plan_set_floats(td_plan *, const char *name, const float *values, int64_t count,
                       td_error *error);
int td_plan_set_scalar(td_plan *, const char *name, double value, td_error *error);
int td_plan_set_batch(td_plan *, const td_batch *, td_error *error);
int td_plan_run(td_plan *, td_error *error);
/* Copy a root out as doubles. */
int td_plan_get(td_plan *, const td_tensor *root, double *values, int64_t count, td_error *error);
double td_plan_get_scalar(td_plan *, const td_tensor *root);

/* One row per op name: seconds, calls, FLOPs, bytes, since the last reset. */
typedef struct td_profile_row {
    const char *op;
    double      seconds, flops, bytes;
    int64_t     calls;
} td_profile_row;
void   td_plan_profile(td_plan *, bool on);
size_t td_plan_profile_rows(const td_plan *, td_profile_row *rows, size_t room);

/* ---- variables on a device ------------------------------------------------------------------- */

int  td_variables_allocate(td_variables *, const td_device *, int real, td_error *error);
void td_variables_release(td_variables *, const td_device *);
int  td_variables_initialize(td_variables *, const td_device *, int real, uint64_t seed,
                             td_error *error);
int  td_variable_set(td_variable *, const td_device *, int real, const float *values,
                     td_error *error);
int  td_variable_get(const td_variable *, const td_device *, int real, float *values,
                     td_error *error);
/* Elements [first, first + count) of it, and no more of the device's memory. */
int  td_variable_slice(const td_variable *, const td_device *, int real, int64_t first,
                       int64_t count, float *values, td_error *error);

#endif
