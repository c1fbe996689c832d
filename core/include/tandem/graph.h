/* graph.h - tensors, and what a plugin may do with the graph that it builds.
 *
 * A model plugin is a pure function from tensors to tensors: it emits nodes. Nothing is computed
 * while building. A tensor knows its graph, its dtype and its static dims; a tensor pointer stays
 * valid as long as its graph.
 *
 * There are no error checks to write: the graph keeps the first mistake with its scope
 * ("model.layers.0.self_attn: matmul: inner dims 32 and 48 differ") and goes on with an error
 * tensor; whoever runs the graph reports it.
 *
 * The host's services are a table behind the graph pointer, so a module needs no tandem symbol at
 * link time. Everything here is [build]: one thread at a time per graph.
 */
#ifndef TANDEM_GRAPH_H
#define TANDEM_GRAPH_H

#include <string.h>

#include "plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TD_MAX_RANK = 8, TD_MAX_INPUTS = 20, TD_MAX_OUTPUTS = 6 };

typedef enum td_dtype {
    TD_REAL = 0, /* only when asking: the graph's own real type (f32, or f64 when checking) */
    TD_F32 = 1,
    TD_F64 = 2,
    TD_BF16 = 3,
    TD_I32 = 4
} td_dtype;

typedef struct td_graph  td_graph;
typedef struct td_tensor td_tensor;

/* The part of a tensor that plugins may read. Dim 0 varies slowest. A scalar has rank 0. */
struct td_tensor {
    td_graph *graph;
    int32_t   dtype; /* td_dtype */
    int32_t   rank;
    int64_t   dim[TD_MAX_RANK];
};

/* The attributes of a node: numbered slots. ops.h says which op reads which. */
typedef struct td_attrs {
    int64_t i[16];
    double  f[8];
} td_attrs;

typedef enum td_init_kind {
    TD_INIT_ZEROS,
    TD_INIT_ONES,
    TD_INIT_NORMAL,
    TD_INIT_TRUNCATED
} td_init_kind;

/* How a parameter begins. TRUNCATED: normal cut at two standard deviations, rescaled so that `std`
 * comes out. */
typedef struct td_init {
    int32_t kind; /* td_init_kind */
    double  std;
} td_init;

typedef enum td_phase {
    TD_PHASE_TRAIN,    /* dropout on, gradients wanted */
    TD_PHASE_EVALUATE, /* whole sequences, no dropout */
    TD_PHASE_PREFILL,  /* generation: the first pass of a text; reads the encoder's input, too */
    TD_PHASE_STEP      /* generation: a later pass, of one new token per row or several */
} td_phase;

/* What td_remember_axis does with a tensor in generation. */
typedef enum td_remember_mode {
    TD_REMEMBER_APPEND, /* its tokens are new ones: they go behind those before */
    TD_REMEMBER_KEEP,   /* its tokens are an encoder's: kept in the prefill, dead code after it */
    TD_REMEMBER_WHOLE   /* it has no axis of tokens, but comes from an encoder: kept likewise */
} td_remember_mode;

/* The host's table. Use the functions of ops.h and layers.h, which read better. Only ever grows at
 * its end. */
typedef struct td_host {
    size_t size;
    td_tensor *(*emit)(td_graph *, const char *op, td_tensor *const *in, int n_in,
                       const td_attrs *);
    /* another output of the node that made `first` */
    td_tensor *(*output)(td_tensor *first, int index);
    td_tensor *(*param)(td_graph *, const char *name, const int64_t *dims, int rank, td_init);
    td_tensor *(*constant)(td_graph *, int dtype, const int64_t *dims, int rank,
                           const double *values);
    td_tensor *(*input)(td_graph *, const char *name, int dtype, const int64_t *dims, int rank);
    td_tensor *(*state)(td_graph *, const char *name, const int64_t *dims, int rank,
                        double initial);
    /* enter: parameter scope and path */
    void (*push)(td_graph *, const char *scope);
    /* path grows, scope is replaced */
    void (*push_path)(td_graph *, const char *path, const char *scope);
    void (*pop)(td_graph *);
    /* "model.layers.0.self_attn" */
    const char *(*path)(td_graph *);
    /* a scope that recompute may redo */
    void (*mark)(td_graph *, int begin);
    td_tensor *(*remember)(td_tensor *, const char *name, int time_axis, int64_t window, int mode);
    td_tensor *(*carry)(td_graph *, const char *name, const int64_t *dims, int rank);
    void (*aux_loss)(td_graph *, const char *name, td_tensor *scalar, double weight);
    td_tensor *(*fail)(td_graph *, const char *message); /* gives the error tensor */
    int (*phase)(td_graph *);                            /* td_phase */
    /* the dtype of reals: TD_F32 or TD_F64 */
    int (*real)(td_graph *);
    uint64_t (*seed)(td_graph *); /* of dropout */
    void (*carry_on)(td_tensor *state, td_tensor *value);
} td_host;

/* The part of a graph that plugins may read. */
struct td_graph {
    const td_host *host;
};

/* ---- reading a tensor ------------------------------------------------------------------------ */

/* Size along `axis`; negative axes count from the end. 1 where there is none. */
static inline int64_t td_dim(const td_tensor *t, int axis)
{
    int a = axis < 0 ? t->rank + axis : axis;
    return a >= 0 && a < t->rank ? t->dim[a] : 1;
}

static inline int64_t td_count(const td_tensor *t)
{
    int64_t n = 1;
    for (int a = 0; a < t->rank; a++)
        n *= t->dim[a];
    return n;
}

/* ---- leaves ---------------------------------------------------------------------------------- */

/* The parameter `name` in the current scope, trained, one per name: asking twice shares it. */
static inline td_tensor *td_param(td_graph *g, const char *name, const int64_t *dims, int rank,
                                  td_init init)
{
    return g->host->param(g, name, dims, rank, init);
}

/* Values known while building, row-major; stored in the graph's real type, or i32. `dtype`: TD_REAL
 * or TD_I32. */
static inline td_tensor *td_constant(td_graph *g, int dtype, const int64_t *dims, int rank,
                                     const double *values)
{
    return g->host->constant(g, dtype, dims, rank, values);
}

/* A tensor that whoever runs the graph fills before each run. Asking twice for a name gives the
 * same one; with other dims or another dtype it is a mistake. */
static inline td_tensor *td_input(td_graph *g, const char *name, int dtype, const int64_t *dims,
                                  int rank)
{
    return g->host->input(g, name, dtype, dims, rank);
}

/* ---- scopes ---------------------------------------------------------------------------------- */

static inline void td_push(td_graph *g, const char *scope) { g->host->push(g, scope); }
static inline void td_pop(td_graph *g) { g->host->pop(g); }

/* Layers that share weights: the path (caches, random streams, profiles) is their own, the
 * parameters are `scope`'s. */
static inline void td_push_shared(td_graph *g, const char *path, const char *scope)
{
    g->host->push_path(g, path, scope);
}

/* Around one layer: with `train.recompute = "layer"` its inside is computed again in the backward
 * pass. */
static inline void td_layer_begin(td_graph *g) { g->host->mark(g, 1); }
static inline void td_layer_end(td_graph *g) { g->host->mark(g, 0); }

/* ---- the rest -------------------------------------------------------------------------------- */

/* Add `weight` times `scalar` to the loss: a mean over what the batch holds (a balance of experts),
 * not a sum. Of micro-batches each counts by its share of target weights. All that have one name
 * are logged together, as "train/NAME". */
static inline void td_aux_loss(td_graph *g, const char *name, td_tensor *scalar, double weight)
{
    g->host->aux_loss(g, name, scalar, weight);
}

/* Say what is wrong; the message gets the scope in front. Returns a tensor to go on with. */
static inline td_tensor *td_graph_fail(td_graph *g, const char *format, ...) TD_PRINTF(2, 3);

static inline td_tensor *td_graph_fail(td_graph *g, const char *format, ...)
{
    char    text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return g->host->fail(g, text);
}

/* What hook `name` of a plugin gave; NULL is a mistake, and told as one. */
static inline td_tensor *td_given(td_graph *g, const td_plugin *p, const char *name, td_tensor *y)
{
    return y ? y
             : td_graph_fail(g, "%.*s '%s': its hook '%s' gave NULL: return a tensor",
                             (int)strcspn(p->kind, "/"), p->kind, p->name, name);
}

static inline bool td_is_training(td_graph *g) { return g->host->phase(g) == TD_PHASE_TRAIN; }

/* Whether a row is one text that comes in several passes: some tokens are read already. */
static inline bool td_is_generating(td_graph *g)
{
    return g->host->phase(g) == TD_PHASE_PREFILL || g->host->phase(g) == TD_PHASE_STEP;
}

#ifdef __cplusplus
}
#endif
#endif
