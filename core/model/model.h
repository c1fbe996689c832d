/* model.h - one model from its parts: the graphs of a batch's loss, of its gradients, and of the
 * update.
 *
 * Training, evaluation, probe and bench all build their steps here, so there is one way to build
 * one.
 */
#ifndef TD_MODEL_MODEL_H
#define TD_MODEL_MODEL_H

#include "graph/graph.h"
#include "tandem/kind/architecture.h"
#include "tandem/kind/loss.h"
#include "tandem/kind/optimizer.h"
#include "model/batch.h"

/* A rule of optimizer.groups: the first whose pattern matches a parameter's name applies. */
typedef struct td_group_rule {
    const char *match;
    double      rate, decay; /* factors of the learning rate and of the weight decay */
    bool        freeze;
} td_group_rule;

/* One of several processes that shard the update: each updates some parameters, and has the
 * only copy of their states and sums of gradients (model/shard.h). */
typedef struct td_shard {
    int  rank, size; /* size 0 or 1: nothing is sharded */
    bool parameters; /* they and their gradients, too: here only while used */
} td_shard;

typedef struct td_model {
    td_registry         *registry;
    td_part              architecture, loss, optimizer; /* optimizer.plugin NULL: none */
    const td_group_rule *groups;
    size_t               n_groups;
    double               dropout, clip; /* clip 0: none */
    bool                 dropout_shared, guard, recompute;
    uint64_t             dropout_seed;
    int                  real;   /* TD_F32 or TD_F64 */
    int                  narrow; /* TD_BF16: forward and backward passes compute in bf16; 0 */
    td_shard             shard;
} td_model;

/* The graph of one batch, and its results. */
typedef struct td_built {
    td_graph  *graph;
    /* the differentiated scalar: auxiliary losses included, divided by the divisor */
    td_tensor *loss;
    td_tensor *sum;    /* sum of the cross-entropy without z-loss and smoothing, not divided */
    td_tensor *nll;    /* the same per token */
    td_tensor *logits; /* [B, U, V], only if requested */
    /* auxiliary losses, already in `loss`: each times this batch's share of the divisor */
    td_aux     aux[TD_AUX];
    size_t     n_aux;
} td_built;

/* Build the forward pass. `batch` gives names and shapes; its values are not read. Free the graph
 * with td_graph_free; after a failure there is none. */
int td_model_forward(const td_model *, td_variables *, int phase, const td_batch *batch,
                     bool logits, td_built *out, td_error *error);

/* Append the backward pass: every trained parameter's gradient is assigned to (or, `add`, added to)
 * its variable "NAME.grad". */
int td_model_backward(const td_model *, td_variables *, td_built *, bool add, td_error *error);

/* The forward pass alone, without the loss: hidden states. Free the graph; after a failure there is
 * none. */
int td_model_read(const td_model *, td_variables *, const td_batch *batch, td_graph **graph,
                  td_architecture_out *out, td_error *error);

/* Single tokens: forward only, without the loss. Besides the architecture's arrays, the batch has
 * "scored" and "scored_labels" (i32 [n], n a multiple of td_model_tokens_piece): positions in the
 * flat labels, and the tokens to score there, which may differ from the batch's own. Free the
 * graph; after a failure there is none. */
typedef struct td_tokens {
    td_graph  *graph;
    td_tensor *nll;  /* [n, 1]: of each label, in nats */
    td_tensor *best; /* i32 [n, 1]: the token with the largest logit, or the first of several */
} td_tokens;
int64_t td_model_tokens_piece(const td_model *);
int     td_model_tokens(const td_model *, td_variables *, const td_batch *batch, td_tokens *out,
                        td_error *error);

/* The same nodes for a graph whose hidden states an architecture has built: `batch` has the two
 * arrays, and n is a multiple of `piece`, the tokens whose logits exist at a time. */
int td_model_score(const td_batch *batch, const td_architecture_out *, td_graph *, int64_t piece,
                   td_tensor **nll, td_tensor **best, td_error *error);

/* The update: gradients to parameters and optimizer states. Inputs "rate", "step" (from 1),
 * "norm_limit" and, if it is sharded, "squares" (td_model_squares). Build it after a backward pass,
 * which declares the gradients. */
typedef struct td_update {
    td_graph  *graph;
    td_tensor *norm; /* norm of all gradients together */
    td_tensor *gate; /* 0: the update changes nothing */
} td_update;
int td_model_update(const td_model *, td_variables *, td_update *out, td_error *error);

/* Squared norms of the gradients that this process has, for an update that is sharded: build it
 * after the update, which decides who has them. at[i] is the one of gradient index[i] of `all`. The
 * input "squares" [all] of updates and norms has the squared norms of all processes. Free them
 * after a failure as well. */
typedef struct td_squares {
    td_graph   *graph;
    td_tensor **at;    /* [count] */
    int64_t    *index; /* [count] */
    size_t      count;
    int64_t     all;
} td_squares;
int  td_model_squares(const td_model *, td_variables *, td_squares *out, td_error *error);
void td_squares_free(td_squares *);

/* Emit the update of one parameter; `shared` is what all updates have in common. */
void td_model_update_one(const td_model *, td_variable *parameter, td_variable *gradient,
                         const td_optimizer_in *shared);

/* Norms: at[2k] of the k-th trained parameter, at[2k + 1] of its gradient. If the update is
 * sharded, it has the input "squares". Free them after a failure as well. */
typedef struct td_norms {
    td_graph           *graph;
    const td_variable **parameters; /* [count] */
    td_tensor         **at;         /* [2 count] */
    size_t              count;
} td_norms;
int  td_model_norms(const td_model *, td_variables *, td_norms *out, td_error *error);
void td_norms_free(td_norms *);

/* The rule for a parameter; factors of 1 where none applies. */
td_group_rule td_model_group(const td_model *, const char *parameter);

/* The variable "NAME.grad"; NULL before the first backward pass, or if the parameter is frozen. */
td_variable *td_model_gradient(td_variables *, const char *parameter);

#endif
