/* embed.h - tandem inside another program: open an experiment, describe it, train it, evaluate it,
 * and read and write its parameters.
 *
 * Everything the `tandem` command does with a config goes through a *session*: a config with its
 * plugins found and checked, and, from the first call that needs them, a thread pool, the data, and
 * a model in memory. The command itself is written on this header, so a program that embeds the
 * library gets the same run directories, the same checkpoints and the same bits.
 *
 * Example:
 *
 *     #include <stdio.h>
 *     #include <tandem/embed.h>
 *
 *     static int show(void *arg, const td_training_step *s)
 *     {
 *         (void)arg;
 *         printf("step %lld: loss %.3f\n", (long long)s->step, s->loss);
 *         return 0;
 *     }
 *
 *     int main(void)
 *     {
 *         const char *files[] = { "quickstart/redllm.cfg", NULL };
 *         const char *settings[] = { "run.name=embedded", "train.steps=20", NULL };
 *         td_session_options options = { .size = sizeof options,
 *                                        .files = files,
 *                                        .settings = settings };
 *         td_training training = { .size = sizeof training, .step = show };
 *         const td_trained *trained;
 *         td_error error = { 0 };
 *
 *         td_session *session = td_session_open(&options, &error);
 *         if (!session || td_session_train(session, &training, &trained, &error))
 *             fprintf(stderr, "%s\n", error.text);
 *         else if (trained->evaluation)
 *             printf("held-out NLL %.3f\n", trained->evaluation->nll);
 *         td_session_close(session);
 *         return error.code != 0;
 *     }
 *
 * Build it with `cc -std=c11 example.c $(pkg-config --cflags --libs tandem-embed)`.
 * With CMake: find_package(tandem), then target_link_libraries(example PRIVATE tandem::tandem).
 *
 * Errors. A function that can fail takes a td_error, returns 0 or a negative td_status (or NULL),
 * and says in error.text what was tried, on what, what was found and what to do. Errors in a config
 * are collected: the text has a line for each, as many as fit, and the log gets them all.
 *
 * The library prints nothing, never exits, and leaves signals alone. Its messages go to the log
 * callback and, while a run trains, to log.txt in the run's directory. To stop a run, return
 * nonzero from a callback: a checkpoint is saved, and the run can be resumed.
 *
 * Ownership. Arguments are copied, or used only during the call. Whatever a function returns a
 * pointer to belongs to the session; the function's comment says how long it is valid.
 *
 * Threads. A session belongs to one thread at a time; it has a pool of its own for the arithmetic
 * (backend.threads). Several sessions may be open, each on its own thread. Step and evaluation
 * callbacks come from the thread that called; the log callback may come from any.
 *
 * Units. Losses are in nats per predicted token, sizes in bytes, durations in seconds.
 *
 * To come: generating text, and scoring token arrays. The interface is a draft until then; build a
 * program against the headers of the library that it is linked to.
 */
#ifndef TANDEM_EMBED_H
#define TANDEM_EMBED_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "host.h" /* td_log_level */

#ifdef __cplusplus
extern "C" {
#endif

typedef struct td_session td_session;

/* ---- opening --------------------------------------------------------------------------------- */

/* What a session is for. It decides which groups the config must have, all reported together when
 * the session is opened, and how much is loaded: a session for evaluation keeps no gradients and no
 * optimizer state. */
typedef enum td_purpose {
    TD_PURPOSE_TRAIN,    /* everything below, and training: a whole config */
    TD_PURPOSE_EVALUATE, /* model, loss, tokenizer and data */
    TD_PURPOSE_MODEL /* model and loss: describe, read and write parameters; no data is opened */
} td_purpose;

typedef struct td_session_options {
    size_t             size; /* sizeof(td_session_options) */
    td_purpose         purpose;
    /* The config, in order; later wins. Each list ends with NULL; NULL: none. A file that does not
     * exist is looked for among the shipped configs ("nano/redllm.cfg"). */
    const char *const *files;
    const char *const *texts; /* configs as text, after the files; messages call them "text 1" .. */
    const char *const *settings; /* "train.steps=20", after both */
    /* Directories searched for plugins before all others. */
    const char *const *plugin_paths;
    /* Keys that may differ from the config that a checkpoint was trained with:
     * "model.position.*". */
    const char *const *allow;
    /* Where configs/ and data/ are; NULL: where they were installed with this library. */
    const char        *shipped;
    /* Each message, one line without a newline; NULL: none. May come from any thread, one at a
     * time, until the session is closed. It must not call the session. */
    void (*log)(void *arg, int level /* td_log_level */, const char *line);
    void *log_arg;
} td_session_options;

/* Read and check the config, and start the thread pool. No data is read and no model is built yet.
 * NULL with `error`. [main] */
td_session *td_session_open(const td_session_options *, td_error *error);
/* NULL is allowed. [main] */
void        td_session_close(td_session *);

/* The resolved config, every option with its value, as a config file that means the same. Valid
 * until the session is closed. [main] */
const char *td_session_config(td_session *);
/* run.dir/run.name, where training writes. Valid until the session is closed. [main] */
const char *td_session_directory(td_session *);

/* ---- describing ------------------------------------------------------------------------------ */

/* Bytes that a model at work takes. */
typedef struct td_footprint {
    size_t parameters, gradients, states; /* states: of the optimizer */
    size_t activations;                   /* one arena, shared by all plans: the largest counts */
    size_t inputs;                        /* batches, of every plan and of those read ahead */
} td_footprint;

typedef struct td_flop_counts {
    double dense;       /* matrix products, attention over every pair */
    double visible;     /* the same, attention over the pairs that the masks show */
    double elementwise; /* everything else */
} td_flop_counts;

typedef struct td_description {
    int64_t        parameters;                             /* in all, the sum of: */
    int64_t        embedding, attention, ffn, norm, other; /* by name */
    /* One sequence of train.length tokens, without padding, and how many of them are predicted.
     * `split_varies`: the loss splits other sequences elsewhere. */
    int64_t        length, predicted;
    bool           split_varies;
    td_flop_counts forward, backward;
    /* Forward, dense, with embedding lookups counted as products, as papers count. */
    double         paper_flops;
    td_footprint   memory; /* of a whole training run: steps, accumulation, evaluation */
} td_description;

/* Count parameters, FLOPs and memory; nothing of the model is allocated. NULL with `error`; valid
 * until the session is closed. [main] */
const td_description *td_session_describe(td_session *, td_error *error);
/* The same as text, a few lines for people. Valid until the next call that returns text. [main] */
const char           *td_session_describe_text(td_session *, td_error *error);
/* The graph of one training step on one sequence, as text or, `dot`, for Graphviz. NULL with
 * `error`; valid until the next call that returns text. [main] */
const char           *td_session_graph(td_session *, bool dot, td_error *error);
/* The mask of the attention at a path of the graph ("model.layers.0.self_attn") on one sequence: a
 * line per query, a # for each key that it sees. NULL with `error`; valid until the next call that
 * returns text. [main] */
const char           *td_session_mask(td_session *, const char *path, td_error *error);

/* ---- evaluating ------------------------------------------------------------------------------ */

/* Held-out text of one source of the data. */
typedef struct td_score {
    const char *source;
    int64_t     sequences, targets; /* targets: tokens scored */
    double      nll;                /* per target, weighted; NaN: the source has no held-out text */
    double      bits_per_byte;      /* negative: unknown */
} td_score;

typedef struct td_evaluation {
    td_score *at; /* [count], a source each */
    int64_t   count;
    double    nll;           /* mean over the sources that have held-out text */
    double    bits_per_byte; /* the same; negative: unknown */
} td_evaluation;

/* How far an evaluation is, in sequences. Return nonzero to end it. */
typedef int td_evaluation_progress(void *arg, int64_t done, int64_t all);

/* Score the held-out text with the parameters that the session holds: those just trained, loaded or
 * written, else initial values. Every model gets the same prefix (evaluate.prefix, half by default)
 * and is scored on the same tokens. `progress` may be NULL.
 * TD_EEND: `progress` ended it. TD_EDIVERGED: the NLL is not finite; `*out` is set all the same.
 * `*out` is valid until the session evaluates again or is closed. [main] */
int td_session_evaluate(td_session *, td_evaluation_progress *progress, void *arg,
                        const td_evaluation **out, td_error *error);

/* ---- training -------------------------------------------------------------------------------- */

/* After one update of the parameters. */
typedef struct td_training_step {
    int64_t step, steps;   /* updates made; train.steps */
    double  loss;          /* what was minimized, auxiliary losses included */
    double  cross_entropy; /* of the predicted tokens, without z-loss and smoothing */
    double  gradient_norm, learning_rate;
    bool    applied; /* false: the guard refused the update */
    /* Since the run was started or resumed; evaluations do not count as time. */
    double  seconds, tokens_per_second;
    double  share_of_peak; /* of the machine's own matrix products; 0: unknown */
} td_training_step;

/* How to train. Callbacks may be NULL; each gets `arg` and returns nonzero to stop the run. */
typedef struct td_training {
    size_t size;   /* sizeof(td_training) */
    bool   resume; /* go on from the run's newest checkpoint, if it has one */
    /* Everything is loaded and the first step is next: `step` updates were made in earlier parts of
     * the run. Until then there is nothing to save. */
    int (*begin)(void *arg, int64_t step, int64_t steps);
    int (*step)(void *arg, const td_training_step *);
    int (*evaluating)(void *arg, int64_t step, int64_t done, int64_t all); /* sequences */
    void *arg;
} td_training;

typedef struct td_trained {
    const char          *directory;     /* of the run */
    int64_t              step;          /* updates made, earlier parts of the run included */
    bool                 stopped;       /* by a callback: there is more to do */
    double               cross_entropy; /* of the last step; NaN: none was made */
    double               seconds, tokens_per_second;
    const td_evaluation *evaluation; /* the last one; NULL: none */
} td_trained;

/* Train as the config says, in the run's directory: metrics, checkpoints, evaluations, log. Starts
 * from initial values, train.weights, or a checkpoint; whatever the session held before is
 * replaced. TD_EDIVERGED: the guard stopped it, or the loss is not finite. `*out` is NULL unless
 * the run came to its end, diverged at its end, or was stopped; valid until the session trains
 * again or is closed. [main] */
int td_session_train(td_session *, const td_training *, const td_trained **out, td_error *error);

/* ---- parameters ------------------------------------------------------------------------------ */

typedef struct td_parameter {
    const char *name; /* "model.layers.0.mlp.up_proj.weight" */
    int32_t     rank;
    int64_t     shape[8];
    int64_t     count; /* elements */
} td_parameter;

/* How many parameters the model has; negative with `error`. Builds the model with initial values if
 * the session holds none yet. [main] */
int64_t td_session_parameters(td_session *, td_error *error);
/* The parameter numbered `index`, in the model's own order; the name is valid until the session
 * trains or is closed. [main] */
int     td_session_parameter(td_session *, int64_t index, td_parameter *out, td_error *error);

/* Copy a parameter out, or in, as floats; `count` must be all of its elements. [main] */
int td_session_read(td_session *, const char *name, float *values, int64_t count, td_error *error);
int td_session_write(td_session *, const char *name, const float *values, int64_t count,
                     td_error *error);

/* All parameters from a safetensors file; NULL: from the newest checkpoint of the config's run. If
 * the file belongs to a checkpoint, its model and tokenizer must be this config's, except for the
 * keys that are allowed to differ; otherwise names and shapes must match. After a failure the
 * session may hold no parameters. [main] */
int         td_session_load(td_session *, const char *path, td_error *error);
/* All parameters to a safetensors file, which appears whole or not at all. [main] */
int         td_session_save(td_session *, const char *path, td_error *error);
/* The file that the parameters were loaded from; NULL: none. Valid until the next load, training or
 * close. [main] */
const char *td_session_loaded(const td_session *);

#ifdef __cplusplus
}
#endif
#endif
