/* plan.h - a graph as kernel calls over memory: which kernel computes each node, where each tensor
 * lies, and running it all.
 *
 * Planning needs dims only, so the memory of a run is known, and the run can be refused, before any
 * is allocated. A plan is made once for a graph, that is, for a phase and a batch shape, and run
 * many times; plans of one engine take turns in one arena.
 *
 *     td_plan *plan = td_plan_new(g, roots, n_roots, &device, &error);     nothing is allocated yet
 *     void *arena = backend->allocate(device.state, td_plan_arena(plan));
 *     td_variables_allocate(variables, &device, TD_F32, &error);
 *     td_plan_bind(plan, arena, &error);
 *     td_plan_set_batch(plan, batch, &error);                              before each run
 *     td_plan_run(plan, &error);
 *     loss = td_plan_get_scalar(plan, roots[0]);
 *
 * All functions return 0, or a negative code with `error`, unless they say otherwise; all are
 * [main].
 */
#ifndef TD_PLAN_PLAN_H
#define TD_PLAN_PLAN_H

#include "graph/graph.h"
#include "tandem/kind/backend.h"

typedef struct td_prepared td_prepared; /* plan/prepared.h */

/* How processes that shard a model exchange what a plan needs. All of them call the same
 * hooks for the same variables, in the same order. Memory is the host's. */
typedef struct td_exchange {
    /* `to` gets the parameter's elements from its owner. */
    int (*collect)(void *arg, const td_variable *parameter, void *to, size_t bytes,
                   td_error *error);
    /* This process's part of the gradient of the running micro-batch is complete. */
    int (*deliver)(void *arg, td_variable *gradient, const void *from, td_error *error);
    void *arg;
} td_exchange;

/* An open backend and the other things that plans need. Copied into each plan; the objects it
 * points to must outlive them. */
typedef struct td_device {
    const td_backend  *backend;
    void              *state;     /* of backend->open */
    const td_services *services;  /* threads and log */
    td_registry       *registry;  /* where kernels are found */
    bool               lower_all; /* lower every op that has a lowering, kernel or not: for tests */
    td_prepared       *prepared;  /* NULL: parameters may change between runs */
    const td_exchange *exchange;  /* for graphs with td_graph_options.shared; may be set later */
} td_device;

/* The wide dtype of reals on a backend or device, TD_F32 or TD_F64, as its own kernels use; f32 if
 * it has both. Loads the module with these kernels. */
int    td_backend_real(td_registry *, const td_backend *);
int    td_device_real(const td_device *);
/* Whether graphs with td_graph_options.narrow of this dtype can be planned: there are kernels that
 * cast and copy it. */
bool   td_device_has(const td_device *, int narrow);
/* Measure the device's rate of matrix products of that dtype, 0 for f32, in FLOP/s; 0: unknown. */
double td_device_peak(const td_device *, int narrow);

typedef struct td_plan td_plan;

/* ---- making a plan --------------------------------------------------------------------------- */

/* Plan the computation of `roots`, and of all effects: select kernels, lower ops without one,
 * lay out memory. NULL with `error`. Lowering adds nodes to the graph, which must outlive the
 * plan. */
td_plan *td_plan_new(td_graph *, td_tensor *const *roots, size_t n, const td_device *,
                     td_error *error);
void     td_plan_free(td_plan *); /* NULL is fine; the arena is the caller's */

/* Bytes that a run needs in the arena (activations and workspace). */
size_t td_plan_arena(const td_plan *);
/* Bytes of the plan's own memory: inputs and constants. */
size_t td_plan_inputs(const td_plan *);

/* Bind memory. `arena` is device memory of at least td_plan_arena bytes, and may be shared: a run
 * leaves nothing in it but roots, which the next run of any plan overwrites. Variables must be
 * allocated. May be called again, with another arena. */
int td_plan_bind(td_plan *, void *arena, td_error *error);

/* ---- running --------------------------------------------------------------------------------- */

/* Set an input by name. All of the graph's inputs must be set again before each run. Reals are
 * converted to the input's dtype; a name that the graph does not read is ignored, since a batch
 * may serve several graphs. */
int td_plan_set_ints(td_plan *, const char *name, const int32_t *values, int64_t count,
                     td_error *error);
int td_plan_set_floats(td_plan *, const char *name, const float *values, int64_t count,
                       td_error *error);
int td_plan_set_doubles(td_plan *, const char *name, const double *values, int64_t count,
                        td_error *error);
int td_plan_set_scalar(td_plan *, const char *name, double value, td_error *error);
/* All arrays of a batch that have data. */
int td_plan_set_batch(td_plan *, const td_batch *, td_error *error);

/* Run all calls and wait for them. On failure variables may be partly updated. If variables are
 * sharded, a failed run still takes part in all transfers. */
int      td_plan_run(td_plan *, td_error *error);
/* Take part in the transfers of a run without computing: this process has no work, another has. */
int      td_plan_serve(td_plan *, td_error *error);
/* Equal for plans with the same transfers. */
uint64_t td_plan_order(const td_plan *);

/* Copy a root's elements out, as doubles, row-major. `count`: of the root. */
int td_plan_get(td_plan *, const td_tensor *root, double *values, int64_t count, td_error *error);
/* The same as floats. */
int td_plan_get_floats(td_plan *, const td_tensor *root, float *values, int64_t count,
                       td_error *error);
double td_plan_get_scalar(td_plan *, const td_tensor *root); /* 0 if it cannot be read */

/* ---- profile --------------------------------------------------------------------------------- */

/* The cost of all calls of one op since profiling was turned on. */
typedef struct td_profile_row {
    const char *op;
    double      seconds, flops, bytes;
    int64_t     calls;
} td_profile_row;

/* For one run, the FLOPs of all products with parameters, and the bytes of those parameters. */
void td_plan_products(const td_plan *, double *flops, double *bytes);

/* Turn timing of single calls on or off; forgets earlier times. Slower: it waits for each call. */
void   td_plan_profile(td_plan *, bool on);
/* Fill one row per op, in order of first call, and return their number; ops beyond `room` rows are
 * left out. */
size_t td_plan_profile_rows(const td_plan *, td_profile_row *rows, size_t room);

/* ---- memory of a device ---------------------------------------------------------------------- */

/* Copy between host and device memory, whichever way the backend reaches it: 0 or a negative
 * td_status. `device` points to memory of the backend, which may not be dereferenced. */
int td_device_write(const td_device *, void *device, const void *host, size_t bytes);
int td_device_read(const td_device *, void *host, const void *device, size_t bytes);

/* ---- variables on a device ------------------------------------------------------------------- */

/* `real`: the dtype of reals, TD_F32 or TD_F64, the same for all graphs over these variables. */

/* Allocate zeroed device memory for all variables that have none yet. */
int  td_variables_allocate(td_variables *, const td_device *, int real, td_error *error);
void td_variables_release(td_variables *, const td_device *);
/* Give all variables their initial values: a function of seed, name and element, so models share
 * the values of the parameters that they have in common. */
int  td_variables_initialize(td_variables *, const td_device *, int real, uint64_t seed,
                             td_error *error);
/* Call it after writing to a parameter by means other than these functions and plans: it updates
 * the copy in bf16, if there is one. */
int  td_variable_write_copy(td_variable *, const td_device *, int real, td_error *error);
/* How the owners of absent variables are reached from now on; NULL: they are not. */
void td_variables_reach(td_variables *, const td_remote *);
/* Bytes as they are in memory; the variable may be absent. */
int  td_variable_read_bytes(const td_variable *, const td_device *, size_t offset, size_t bytes,
                            void *out, td_error *error);
/* Write or read all elements, as floats; an absent variable can be written, too. */
int  td_variable_set(td_variable *, const td_device *, int real, const float *values,
                     td_error *error);
int  td_variable_get(const td_variable *, const td_device *, int real, float *values,
                     td_error *error);
/* The same without rounding, elements [first, first + count): for callers that need the backend's
 * own precision. */
int  td_variable_write(td_variable *, const td_device *, int real, int64_t first, int64_t count,
                       const double *values, td_error *error);
int td_variable_read(const td_variable *, const td_device *, int real, int64_t first, int64_t count,
                     double *values, td_error *error);
/* Read elements [first, first + count); no more than these leave the device. */
int td_variable_slice(const td_variable *, const td_device *, int real, int64_t first,
                      int64_t count, float *values, td_error *error);
/* XXH3 of the parameters, in order of declaration: of all their bytes up to 64 MiB (8 MiB in a
 * device's own memory); beyond that, of a first part of each, in proportion to its size. */
int td_variables_hash(const td_variables *, const td_device *, uint64_t *hash, td_error *error);

#endif
