/* graph.h - tensors, and how a plugin builds a graph of them.
 *
 * A model plugin is a pure function from tensors to tensors: its `build` hook emits nodes, and
 * nothing is computed while it runs. From the graph the host derives gradients, memory, FLOPs,
 * generation and bf16, so a plugin contains none of these. The host builds once per shape and
 * phase, plans once, and runs the plan many times; what changes from step to step (learning rate,
 * lengths, the step number) is therefore a tensor, never an `if` in a build hook.
 *
 * Tensors. A td_tensor has a dtype, a rank and static dims, row-major, dim 0 varying slowest. It
 * belongs to its graph and is valid as long as the graph is; plugins never free it. Leaves are
 * parameters (td_param), constants (td_constant) and inputs (td_input); everything else comes from
 * ops.h.
 *
 * Scopes. Parameters are named by the scope that requests them: td_linear("q_proj", ..) inside the
 * scope "model.layers.0.self_attn" owns "model.layers.0.self_attn.q_proj.weight". The host pushes
 * the scope before it calls a hook; a plugin pushes further ones for its own parts.
 *
 * Errors. There is nothing to check. The graph keeps the first error with its scope
 * ("model.layers.0.self_attn: matmul: inner dims 32 and 48 differ") and continues with an error
 * tensor, on which every op is a no-op; whoever runs the graph reports it. A plugin reports its own
 * errors with td_graph_fail.
 *
 * The host's services are a table behind the graph pointer (td_host), so a module needs no tandem
 * symbol at link time. Everything here is [build]: one thread at a time per graph.
 *
 * Example:
 *
 *     #include "tandem/ops.h"
 *
 *     // y = x W^T + b, x [N, in], under the scope `name`.
 *     static td_tensor *dense(td_graph *g, const char *name, td_tensor *x, int64_t out)
 *     {
 *         int64_t    dims[] = { out, td_dim(x, -1) };
 *         td_init    zeros = { TD_INIT_ZEROS, 0 }, normal = { TD_INIT_NORMAL, 0.02 };
 *         td_tensor *w, *b;
 *         td_push(g, name);
 *         w = td_param(g, "weight", dims, 2, normal); // name.weight [out, in]
 *         b = td_param(g, "bias", dims, 1, zeros);    // name.bias [out]
 *         td_pop(g);
 *         return td_add(td_matmul(x, td_transpose(w, 0, 1)), b);
 *     }
 */
#ifndef TANDEM_GRAPH_H
#define TANDEM_GRAPH_H

#include <string.h>

#include "plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Limits on a tensor's rank and on a node's inputs and outputs. */
enum { TD_MAX_RANK = 8, TD_MAX_INPUTS = 20, TD_MAX_OUTPUTS = 6 };

typedef enum td_dtype {
    TD_REAL = 0, /* only as an argument: the graph's real type, f32 (f64 when checking) */
    TD_F32 = 1,
    TD_F64 = 2,
    TD_BF16 = 3,
    TD_I32 = 4
} td_dtype;

typedef struct td_graph  td_graph;
typedef struct td_tensor td_tensor;

/* The fields of a tensor that a plugin may read, and never writes. A scalar has rank 0. */
struct td_tensor {
    td_graph *graph;
    int32_t   dtype; /* td_dtype */
    int32_t   rank;
    int64_t   dim[TD_MAX_RANK];
};

/* The attributes of a node: numbered slots, zero where the op does not use them. The comment of
 * each function in ops.h lists the slots of its op. Equal nodes are merged by comparing the bytes. */
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

/* How a parameter is initialized; layers.h has a constructor for each kind. TRUNCATED is a normal
 * distribution cut at two standard deviations, rescaled so that its deviation is `std` again. The
 * numbers depend on the run's seed and the parameter's name, so adding a layer changes no other. */
typedef struct td_init {
    int32_t kind; /* td_init_kind */
    double  std;
} td_init;

/* The purpose that a graph is built for. The same `build` serves all four; few plugins need to
 * know which. */
typedef enum td_phase {
    TD_PHASE_TRAIN,    /* whole sequences, with dropout and gradients */
    TD_PHASE_EVALUATE, /* whole sequences, no dropout */
    TD_PHASE_PREFILL, /* generation: the first pass over a text, which reads an encoder's input too */
    TD_PHASE_STEP     /* generation: a later pass, over one new token per row or several */
} td_phase;

/* How td_remember_axis treats a tensor in generation. */
typedef enum td_remember_mode {
    TD_REMEMBER_APPEND, /* its tokens are new: they are appended to earlier ones */
    TD_REMEMBER_KEEP,   /* its tokens are an encoder's: kept in the prefill, dead code after it */
    TD_REMEMBER_WHOLE   /* it has no axis of tokens but comes from an encoder: kept likewise */
} td_remember_mode;

/* The host's table. Plugins call the inline functions below and in ops.h and layers.h instead,
 * which read better. New members are added only at the end, so an older module finds those it
 * knows; `size` is the size of this host's table. */
typedef struct td_host {
    size_t size;
    td_tensor *(*emit)(td_graph *, const char *op, td_tensor *const *in, int n_in,
                       const td_attrs *);
    /* output `index` of the node whose output 0 is `first` */
    td_tensor *(*output)(td_tensor *first, int index);
    td_tensor *(*param)(td_graph *, const char *name, const int64_t *dims, int rank, td_init);
    td_tensor *(*constant)(td_graph *, int dtype, const int64_t *dims, int rank,
                           const double *values);
    td_tensor *(*input)(td_graph *, const char *name, int dtype, const int64_t *dims, int rank);
    td_tensor *(*state)(td_graph *, const char *name, const int64_t *dims, int rank,
                        double initial);
    /* enter a scope: both the parameters' names and the path get longer */
    void (*push)(td_graph *, const char *scope);
    /* the path gets longer, the scope of parameters is replaced */
    void (*push_path)(td_graph *, const char *path, const char *scope);
    void (*pop)(td_graph *);
    /* "model.layers.0.self_attn"; valid until the next push or pop */
    const char *(*path)(td_graph *);
    /* begin or end a stretch of nodes that may be recomputed in the backward pass */
    void (*mark)(td_graph *, int begin);
    td_tensor *(*remember)(td_tensor *, const char *name, int time_axis, int64_t window, int mode);
    td_tensor *(*carry)(td_graph *, const char *name, const int64_t *dims, int rank);
    void (*aux_loss)(td_graph *, const char *name, td_tensor *scalar, double weight);
    td_tensor *(*fail)(td_graph *, const char *message); /* returns the error tensor */
    int (*phase)(td_graph *);                            /* td_phase */
    /* the dtype of reals: TD_F32 or TD_F64 */
    int (*real)(td_graph *);
    uint64_t (*seed)(td_graph *); /* of dropout's random numbers */
    void (*carry_on)(td_tensor *state, td_tensor *value);
    /* around a hook of one plugin that another calls: td_hook_begin */
    void (*enter)(td_graph *, const td_plugin *, const char *hook);
    void (*leave)(td_graph *);
    void (*log_scalar)(td_graph *, const char *name, td_tensor *scalar);
} td_host;

/* The fields of a graph that a plugin may read. */
struct td_graph {
    const td_host *host;
};

/* ---- reading a tensor ------------------------------------------------------------------------ */

/* The size along `axis`; negative axes count from the end. 1 for an axis that does not exist, as
 * in broadcasting. */
static inline int64_t td_dim(const td_tensor *t, int axis)
{
    int a = axis < 0 ? t->rank + axis : axis;
    return a >= 0 && a < t->rank ? t->dim[a] : 1;
}

/* The number of elements. */
static inline int64_t td_count(const td_tensor *t)
{
    int64_t n = 1;
    for (int a = 0; a < t->rank; a++)
        n *= t->dim[a];
    return n;
}

/* ---- leaves ---------------------------------------------------------------------------------- */

/* The trained parameter `name` of the current scope. A name is one parameter: requesting it again
 * shares the weight, and requesting other dims is an error. It is created on first use; the same
 * name in a later graph (another length, another phase) is the same weight. */
static inline td_tensor *td_param(td_graph *g, const char *name, const int64_t *dims, int rank,
                                  td_init init)
{
    return g->host->param(g, name, dims, rank, init);
}

/* Values known while building, row-major; they are copied. `dtype` is TD_REAL or TD_I32. Small
 * tables only: they live in the graph. td_full and td_iota (ops.h) store nothing. */
static inline td_tensor *td_constant(td_graph *g, int dtype, const int64_t *dims, int rank,
                                     const double *values)
{
    return g->host->constant(g, dtype, dims, rank, values);
}

/* A tensor that the host fills before each run. Only architectures need it, through td_batch_input
 * (kind/batch.h). Requesting a name again returns the same tensor; requesting other dims or another
 * dtype is an error. */
static inline td_tensor *td_input(td_graph *g, const char *name, int dtype, const int64_t *dims,
                                  int rank)
{
    return g->host->input(g, name, dtype, dims, rank);
}

/* ---- scopes ---------------------------------------------------------------------------------- */

/* Enter the scope `scope` ("self_attn", "layers.0") below the current one; td_pop leaves it. They
 * come in pairs within one hook. */
static inline void td_push(td_graph *g, const char *scope) { g->host->push(g, scope); }
static inline void td_pop(td_graph *g) { g->host->pop(g); }

/* Enter a scope whose weights are shared, such as a bias table that all layers of a stack use.
 * `path` is appended to the call path, which caches, random streams and profiles use to tell layers
 * apart, while parameters belong to `scope`, a full name ("model.decoder"). td_pop leaves it. */
static inline void td_push_shared(td_graph *g, const char *path, const char *scope)
{
    g->host->push_path(g, path, scope);
}

/* Architectures put these around one layer. With train.recompute = "layer" the nodes in between are
 * computed again in the backward pass instead of being kept: less memory, a third more
 * arithmetic. */
static inline void td_layer_begin(td_graph *g) { g->host->mark(g, 1); }
static inline void td_layer_end(td_graph *g) { g->host->mark(g, 0); }

/* ---- losses, errors, phases ------------------------------------------------------------------ */

/* Add `weight` times `scalar` to the training loss, as a mixture of experts does to balance its
 * load. The scalar is a mean over the tokens of the batch, not a sum: each micro-batch counts by
 * its share of the target weights. Losses with the same name are logged together, as
 * "train/NAME". */
static inline void td_aux_loss(td_graph *g, const char *name, td_tensor *scalar, double weight)
{
    g->host->aux_loss(g, name, scalar, weight);
}

/* Log a scalar with the metrics of training as "train/NAME", without an effect on the loss: how
 * many experts are idle, how sharp an attention is. Like an auxiliary loss it is a mean over the
 * tokens of the batch; layers that log the same name are averaged. A line of metrics has the value
 * of its last step. */
static inline void td_log_scalar(td_graph *g, const char *name, td_tensor *scalar)
{
    g->host->log_scalar(g, name, scalar);
}

/* Report an error: what was found, what was expected, what to do. The host prefixes the scope. The
 * first error of a graph wins. Returns the error tensor, to be returned in turn. */
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

/* Around a call of hook `hook` of another plugin `p`: if it crashes or hangs, the host knows whose
 * code it was. For plugins that call others, like td_hook_result. */
static inline void td_hook_begin(td_graph *g, const td_plugin *p, const char *hook)
{
    g->host->enter(g, p, hook);
}
static inline void td_hook_end(td_graph *g) { g->host->leave(g); }

/* `y`, which hook `hook` of plugin `p` returned; NULL becomes a graph error that names the plugin.
 * Used by the helpers that build a part (norm.h, ffn.h, attention.h) and by architectures. */
static inline td_tensor *td_hook_result(td_graph *g, const td_plugin *p, const char *hook,
                                        td_tensor *y)
{
    if (y)
        return y;
    return td_graph_fail(g, "%.*s '%s': hook '%s' returned NULL; it must return a tensor",
                         (int)strcspn(p->kind, "/"), p->kind, p->name, hook);
}

/* Whether dropout applies and gradients are computed. */
static inline bool td_is_training(td_graph *g) { return g->host->phase(g) == TD_PHASE_TRAIN; }

/* Whether a row is one text that is read in several passes. */
static inline bool td_is_generating(td_graph *g)
{
    return g->host->phase(g) == TD_PHASE_PREFILL || g->host->phase(g) == TD_PHASE_STEP;
}

#ifdef __cplusplus
}
#endif
#endif
