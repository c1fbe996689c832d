/* embed.h - tandem inside another program: open an experiment, describe it, train it, evaluate it,
 * continue text with it, and read and write its parameters.
 *
 * Everything the `tandem` command does with a config goes through a *session*: a config with its
 * plugins found and checked, and, from the first call that needs them, a thread pool, the data, and
 * a model in memory. The command itself is built on this header, so a program that embeds the
 * library produces the same run directories, the same checkpoints and the same bits.
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
 * Build it with `cc -std=c11 example.c $(pkg-config --cflags --libs tandem-embed)`; if the library
 * is not where the loader looks, add `-Wl,-rpath,$(pkg-config --variable=libdir tandem-embed)`. A
 * second start is refused, because the run exists: set `.resume`, or another run.name. With CMake:
 * find_package(tandem), then target_link_libraries(example PRIVATE tandem::tandem).
 *
 * Errors. A function that can fail takes a td_error, returns 0 or a negative td_status (or NULL),
 * and says in error.text what was tried, on what, what was found and what to do. Errors in a config
 * are collected: the text has one line per error, as many as fit, and the log has all of them.
 *
 * The library prints nothing, never exits, and leaves signals alone. If a plugin changes the
 * locale, signal handlers, umask, working directory or floating-point mode, the library restores
 * them. Its messages are passed to the log callback and, while a run trains, to log.txt in the
 * run's directory. To stop a run, return nonzero from a callback: a checkpoint is saved, and the
 * run can be resumed.
 *
 * Ownership. Arguments are copied, or used only during the call. Returned pointers belong to the
 * session; the function's comment says how long they are valid.
 *
 * Threads. A session belongs to one thread at a time; it has its own thread pool for the arithmetic
 * (backend.threads). Several sessions may be open, each on its own thread. Step and evaluation
 * callbacks run on the calling thread; the log callback may run on any.
 *
 * Units. Losses are in nats per predicted token, sizes in bytes, durations in seconds.
 *
 * The interface is a draft: build a program against the headers of the library that it is linked
 * to.
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

/* The library's version: "0.1.0". [any] */
const char *td_library_version(void);

/* ---- opening --------------------------------------------------------------------------------- */

/* The purpose of a session. It decides which groups the config must have (those missing are
 * reported together when the session is opened), and how much is loaded: a session for evaluation
 * keeps no gradients and no optimizer state. */
typedef enum td_purpose {
    TD_PURPOSE_TRAIN,    /* everything below, and training: a whole config */
    TD_PURPOSE_EVALUATE, /* model, loss, tokenizer and data */
    TD_PURPOSE_MODEL,   /* model and loss: describe, read and write parameters; no data is opened */
    TD_PURPOSE_GENERATE /* model, and the tokenizer if there is one: continue texts */
} td_purpose;

typedef struct td_session_options {
    size_t             size; /* sizeof(td_session_options) */
    td_purpose         purpose;
    /* The config, in order; later settings win. Each list ends with NULL, and may be NULL. A file
     * that does not exist is looked up among the shipped configs ("nano/redllm.cfg"). */
    const char *const *files;
    const char *const *texts;    /* read after the files; messages call them "text 1", .. */
    const char *const *settings; /* "train.steps=20", applied after both */
    /* The directory of a run or of one of its checkpoints, or NULL. Its config is read first, like one
     * of `kept`, and td_session_directory is this run, wherever it was made. Parameters are loaded
     * by td_session_load. */
    const char        *run;
    /* The number of `files`, from the first on, that are configs kept by runs (RUN/config.cfg).
     * Since a run may be a stranger's, `plugin_path` and `extends` in them are ignored: they cannot
     * name code. */
    size_t             kept;
    /* Follow no `plugin_path` at all: to look at a config of unknown origin. */
    bool               untrusted;
    /* Directories searched for plugins before all others. */
    const char *const *plugin_paths;
    /* Keys that may differ from the config that a checkpoint was trained with:
     * "model.position.*". */
    const char *const *allow;
    /* The directory of configs/ and data/; NULL: as installed with this library. */
    const char        *shipped;
    /* Receives each message as one line without a newline; may be NULL. It is called from any
     * thread, one at a time, until the session is closed, and must not call the session. */
    void (*log)(void *arg, int level /* td_log_level */, const char *line);
    void       *log_arg;
    /* Where `settings` come from, for messages; valid as long as the session. NULL: the command
     * line. */
    const char *origin;
} td_session_options;

/* Read and check the config, and start the thread pool. No data is read and no model is built yet.
 * NULL with `error`. [main] */
td_session *td_session_open(const td_session_options *, td_error *error);
/* NULL is allowed. [main] */
void        td_session_close(td_session *);

/* The resolved config, every option with its value, as an equivalent config file. Valid
 * until the session is closed. [main] */
const char *td_session_config(td_session *);
/* run.dir/run.name, where training writes. Valid until the session is closed. [main] */
const char *td_session_directory(td_session *);

/* ---- describing ------------------------------------------------------------------------------ */

/* Memory used by a model, in bytes. */
typedef struct td_footprint {
    size_t parameters, gradients, states; /* states: the optimizer's */
    size_t activations;                   /* one arena, shared by all plans: the largest plan's */
    size_t inputs;                        /* the batches of all plans, and those read ahead */
} td_footprint;

typedef struct td_flop_counts {
    double dense;       /* matrix products, attention over every pair */
    double visible;     /* the same, attention over the pairs that the masks show */
    double elementwise; /* everything else */
} td_flop_counts;

typedef struct td_description {
    int64_t        parameters;                             /* the total of the next line */
    int64_t        embedding, attention, ffn, norm, other; /* counted by parameter name */
    /* The tokens of one unpadded sequence (train.length, or the largest pair), and the number of
     * predicted ones. `split_varies`: the loss may split another sequence differently. */
    int64_t        length, predicted;
    bool           split_varies;
    td_flop_counts forward, backward;
    /* The dense forward pass, with embedding lookups counted as products, as in papers. */
    double         paper_flops;
    td_footprint   memory; /* for a whole training run: steps, accumulation, evaluation */
    /* NULL, or why the config's backend cannot be used on this machine (it has no GPU): `memory` is
     * then for the default backend. */
    const char    *unavailable;
} td_description;

/* Count parameters, FLOPs and memory without allocating the model. NULL with `error`; valid
 * until the session is closed. [main] */
const td_description *td_session_describe(td_session *, td_error *error);
/* The same as text, a few lines for people. Valid until the next call that returns text. [main] */
const char           *td_session_describe_text(td_session *, td_error *error);
/* The graph of one training step on one sequence, as text or, with `dot`, for Graphviz. NULL with
 * `error`; valid until the next call that returns text. [main] */
const char           *td_session_graph(td_session *, bool dot, td_error *error);
/* How that step computes each op, in bf16 or f32, with the op's rule and the casts in between, as
 * text. NULL with `error`; valid until the next call that returns text. [main] */
const char           *td_session_precision(td_session *, td_error *error);
/* The mask of the attention at `path` in the graph ("model.layers.0.self_attn") on one sequence:
 * one line per query, with a # for each key that it sees. NULL with `error`; valid until the next
 * call that returns text. [main] */
const char           *td_session_mask(td_session *, const char *path, td_error *error);

/* ---- evaluating ------------------------------------------------------------------------------ */

/* The score of one data source's held-out text. */
typedef struct td_score {
    const char *source;
    int64_t     sequences, targets; /* targets: scored tokens */
    double      nll;                /* weighted mean per target; NaN: no held-out text */
    double      nll_error;          /* standard error over independent sequences; NaN: unknown */
    double      bits_per_byte;      /* negative: unknown */
} td_score;

/* The score of one held-out sequence, for comparing two models sequence by sequence. */
typedef struct td_sequence_score {
    int64_t  source, index; /* the source, and the sequence within it */
    int64_t  targets;
    double   nll, weight; /* sums over the targets; nll / weight is per target */
    double   bytes;       /* text that the targets encode; negative: unknown */
    uint64_t hash;        /* hash of the tokens and the split: equal for the same question */
} td_sequence_score;

typedef struct td_evaluation {
    td_score          *at; /* [count], one per source */
    int64_t            count;
    double             nll;           /* mean over the sources that have held-out text */
    double             nll_error;     /* its standard error; NaN: unknown */
    double             bits_per_byte; /* the mean; negative: unknown */
    td_sequence_score *sequences;     /* [n_sequences], ordered by source */
    int64_t            n_sequences;
} td_evaluation;

/* Reports progress in sequences. Return nonzero to end the evaluation. */
typedef int td_evaluation_progress(void *arg, int64_t done, int64_t all);

/* Score the held-out text with the parameters that the session holds: those just trained, loaded or
 * written, else initial values. Every model gets the same prefix (evaluate.prefix, half by default)
 * and is scored on the same tokens. `progress` may be NULL.
 * TD_EEND: `progress` ended it. TD_EDIVERGED: the NLL is not finite; `*out` is still set.
 * `*out` is valid until the session evaluates again or is closed. [main] */
int td_session_evaluate(td_session *, td_evaluation_progress *progress, void *arg,
                        const td_evaluation **out, td_error *error);

/* ---- texts and tokens ------------------------------------------------------------------------ */

/* The session's tokenizer is opened by the first call. Without one in the config: TD_ECONFIG. */

/* The ids [*n] of `size` bytes of text, with nothing added. Valid until the next call of this, or
 * until the session is closed. [main] */
int td_session_encode(td_session *, const char *text, size_t size, const int32_t **ids, int64_t *n,
                      td_error *error);
/* The text of ids, [*size] bytes and a 0, which may not be UTF-8 if the ids end within a character.
 * NULL with `error`; valid until the next call that returns text. [main] */
const char *td_session_decode(td_session *, const int32_t *ids, int64_t n, size_t *size,
                              td_error *error);

/* ---- scoring tokens -------------------------------------------------------------------------- */

/* Tokens to score, and their score. An encoder-decoder reads `given` in its encoder, a decoder-only
 * model in front of the target. Nothing is appended to either. */
typedef struct td_scored {
    const int32_t *given;
    int64_t        n_given; /* 0: the target begins the text */
    const int32_t *target;
    int64_t        n_target;
    double         logprob; /* out: log-likelihood of the whole target, in nats */
    bool           greedy;  /* out: each of its tokens is the model's most likely one */
} td_scored;

/* Score items with the parameters that the session holds, as in td_session_evaluate. A score
 * depends neither on the other items nor on the number of threads. `progress`, which counts items,
 * may be NULL. TD_EEND: `progress` ended it. TD_EDIVERGED: a score is not finite. [main] */
int td_session_score(td_session *, td_scored *items, int64_t count,
                     td_evaluation_progress *progress, void *arg, td_error *error);

/* The tokens of a prompt and of an answer to it, as tasks encode them: the answer's tokens are those
 * that it adds to the prompt, and the prompt ends as inputs do in training. The pointers in
 * `out` are valid until the next call of this, or until the session is closed. [main] */
int td_session_encode_pair(td_session *, const char *given, const char *target, td_scored *out,
                           td_error *error);

/* ---- tasks ----------------------------------------------------------------------------------- */

/* One score of a task, or of a group of tasks. */
typedef struct td_task_score {
    const char *task; /* "boolq" */
    const char *key;  /* "acc"; of texts under a filter "exact_match,number"; of a group "mean" */
    bool        own;  /* the task's first score, which represents it */
    bool        percent; /* it lies in [0, 100]; otherwise in [0, 1], or it is a perplexity */
    bool        lower_is_better;
    double      score, error; /* error: standard error; NaN: unknown */
    double      chance;       /* the score of guessing; NaN: unknown, as for all but the first */
    int64_t     items, shots; /* of a group: its tasks, and 0 */
} td_task_score;

typedef struct td_task_scores {
    td_task_score *at; /* [count], task by task, then groups */
    size_t         count;
} td_task_scores;

/* Reports progress over all tasks, in items. Return nonzero to end the scoring. */
typedef int td_task_progress(void *arg, const char *task, int64_t done, int64_t all);

enum { TD_NO_SHOTS = -1 };

/* What to ask a model. Where a field is 0, the config's group `tasks` decides. */
typedef struct td_asking {
    size_t             size;  /* sizeof(td_asking) */
    const char *const *tasks; /* [n_tasks]: tasks, groups, and files (.cfg); 0: tasks.names */
    size_t             n_tasks;
    const char        *data;  /* where the data sets are; NULL: tasks.data */
    int64_t            shots; /* exemplars in a prompt; 0: tasks.shots; TD_NO_SHOTS: none */
    int64_t            limit; /* items of each task, at most; 0: tasks.limit */
    int64_t           batch; /* answers computed together, without effect on scores; 0: automatic */
    bool              generate; /* also generate answers to multiple-choice questions */
    bool              chat;     /* prompts are turns of the chat template */
    /* Where NAME.json, with lm-evaluation-harness's keys, and NAME.samples_TASK.jsonl are written.
     * NULL for the directory: nowhere; for the name: one made from tasks and settings. */
    const char       *directory, *name;
    td_task_progress *progress; /* NULL: none */
    void             *arg;
} td_asking;

/* Score tasks with the parameters that the session holds, as `tandem evaluate --tasks` does. All
 * items are read before the first is scored. TD_EEND: `progress` ended it. TD_EDIVERGED: a score is
 * not finite. `*out` is valid until the next call of this function or until the session is closed.
 * [main] */
int td_session_ask(td_session *, const td_asking *, const td_task_scores **out, td_error *error);

/* ---- comparing ------------------------------------------------------------------------------- */

/* Which runs to compare; their scores are read from RUN/eval. */
typedef struct td_comparing {
    size_t             size; /* sizeof(td_comparing) */
    const char *const *runs; /* [n_runs], two or more: directories of runs or of checkpoints */
    size_t             n_runs;
    bool               by_run; /* seeds of one config individually, not as a group */
    int64_t            draws;  /* samples of a bootstrap; 0: 10000 */
    uint64_t           seed;   /* of those samples; 0: 1 */
} td_comparing;

/* What `tandem compare --json` prints: scores, differences and tests as a JSON object. The session
 * only supplies the plugins that are needed to read the runs' configs: it may have any purpose, and
 * is not changed. NULL with `error`; valid until the next call that returns text. [main] */
const char *td_session_compare(td_session *, const td_comparing *, td_error *error);

/* ---- training -------------------------------------------------------------------------------- */

/* Reported after each update of the parameters. */
typedef struct td_training_step {
    int64_t step, steps;   /* updates made; train.steps */
    double  loss;          /* of this step: the minimized loss, auxiliary losses included */
    double  cross_entropy; /* nats per predicted token, without z-loss and smoothing */
    double  gradient_norm, learning_rate;
    bool    applied; /* false: the guard refused the update */
    /* Since the run was started or resumed; evaluations do not count as time. */
    double  seconds;
    double  tokens_per_second, targets_per_second; /* tokens read; tokens predicted */
    double  share_of_peak; /* relative to the machine's rate of matrix products; 0: unknown */
} td_training_step;

/* How to train. Callbacks may be NULL; each receives `arg` and returns nonzero to stop the run. */
typedef struct td_training {
    size_t size;   /* sizeof(td_training) */
    bool   resume; /* continue from the run's newest checkpoint, if it has one */
    /* Called when everything is loaded and the first step is next. `step` updates were made in
     * earlier parts of the run. Before this call there is nothing to save. */
    int (*begin)(void *arg, int64_t step, int64_t steps);
    int (*step)(void *arg, const td_training_step *);
    int (*evaluating)(void *arg, int64_t step, int64_t done, int64_t all); /* sequences */
    int (*scoring)(void *arg, int64_t step, const char *task, int64_t done,
                   int64_t all); /* items */
    /* Between the micro-batches of a step, which may take long: `done` of `all` are computed.
     * Stopping here abandons the step, which a resumed run repeats. */
    int (*accumulating)(void *arg, int64_t step, int64_t done, int64_t all);
    void *arg;
    /* In a run of several processes: this one has waited comm.timeout seconds for the others, or
     * cannot reach them; `why` has the reason. It may be called on another thread while
     * td_session_train is still waiting; all that it can do is end the process: the newest
     * checkpoint is intact. NULL: the wait continues. */
    void (*lost)(void *arg, const char *why);
} td_training;

typedef struct td_trained {
    const char           *directory;     /* of the run */
    int64_t               step;          /* updates made, earlier parts of the run included */
    bool                  stopped;       /* by a callback, before the last step */
    double                cross_entropy; /* of the last step; NaN: no step was made */
    double                seconds;
    double                tokens_per_second, targets_per_second; /* 0: no step was made */
    int64_t               skipped;    /* updates that the guard refused, earlier parts included */
    const td_evaluation  *evaluation; /* the last one; NULL: none */
    const td_task_scores *tasks;      /* the last scores of tasks.names; NULL: none */
    int64_t               best_step;  /* of the best score (train.best); -1: none */
    double                best;       /* that score */
    const char           *best_name;  /* what it is: "nll", or a metric: "tasks/boolq/acc" */
} td_trained;

/* Train as the config says, in the run's directory: metrics, checkpoints, evaluations, log.
 * Training starts from initial values, train.weights, or a checkpoint, and replaces the parameters
 * that the session held. TD_EDIVERGED: the guard stopped it, or the loss is not finite. `*out` is
 * NULL unless the run finished, diverged at its end, or was stopped; valid until the session trains
 * again or is closed. [main] */
int td_session_train(td_session *, const td_training *, const td_trained **out, td_error *error);

/* ---- generating ------------------------------------------------------------------------------ */

/* The prompt to continue: a text, which needs a tokenizer, or tokens. */
typedef struct td_given {
    const char    *text; /* NULL: `ids` */
    const int32_t *ids;  /* [n] */
    int64_t        n;
} td_given;

/* An answer. The pointers are valid during the callback. */
typedef struct td_answered {
    int64_t        prompt;      /* its index */
    int64_t        rank, ranks; /* which of its answers, best first: beam search returns several */
    const int32_t *ids;         /* [n] new tokens, without the one that ended the answer */
    int64_t        n;
    const char    *text;    /* their text, cut at a stop; NULL without a tokenizer */
    double         logprob; /* summed over new tokens and the end, before any filter */
    bool           stopped; /* at an end token or a stop text; false: at max_tokens */
} td_answered;

/* How to continue. If every field but `size` is 0: greedy generation of up to 128 tokens. */
typedef struct td_generation {
    size_t             size;        /* sizeof(td_generation) */
    int64_t            max_tokens;  /* most new tokens, an end token included; 0: 128 */
    int64_t            min_tokens;  /* before an answer may end */
    double             temperature; /* 0: greedy, whatever the filters below */
    int64_t            top_k;       /* 0: off */
    double             top_p;       /* 0 or 1: off */
    double             min_p;
    double             repetition_penalty; /* 0 or 1: off */
    uint64_t           seed;
    int64_t            beams;          /* width of the beam search; 0 or 1: none */
    double             length_penalty; /* beams are ranked by sum / length^penalty */
    const char *const *stops;          /* texts that end an answer, then NULL; may be NULL */
    const int32_t     *stop_ids;       /* [n_stop_ids] end tokens besides the tokenizer's */
    size_t             n_stop_ids;
    bool               ignore_eos; /* the tokenizer's end token does not end an answer */
    /* read the whole text again for each token: slow, for comparison */
    bool               no_cache;
    int64_t            batch; /* prompts at a time; 0: 8. Answers do not depend on it */
    /* Callbacks may be NULL; each receives `arg`. `text` receives new text of an answer, in whole
     * characters that no later token changes; beam search does not call it. `stop` returns nonzero
     * to end the generation. */
    void (*text)(void *arg, int64_t prompt, const char *text, size_t size);
    void (*answer)(void *arg, const td_answered *);
    int (*stop)(void *arg);
    void *arg;
} td_generation;

typedef struct td_generated {
    int64_t given, generated;      /* tokens */
    double  prefill, decode;       /* seconds for each */
    size_t  cache, layouts, plans; /* bytes of the cache, bytes of packed parameters, number of
                                    * plans */
} td_generated;

/* Check the options without generating: 0, or TD_ECONFIG. [main] */
int td_session_check_generation(const td_session *, const td_generation *, td_error *error);
/* Continue prompts with the parameters that the session holds: those just trained, loaded or
 * written, else initial values. Each answer is passed on when it is complete. The same seed gives
 * the same answers at any batch size and number of threads. `out` may be NULL. TD_EEND: `stop`
 * ended it. [main] */
int td_session_generate(td_session *, const td_generation *, const td_given *prompts, int64_t count,
                        td_generated *out, td_error *error);
/* Rows of the embedding; ids are less than this. [main] */
int64_t td_session_vocab(const td_session *);

/* ---- parameters ------------------------------------------------------------------------------ */

typedef struct td_parameter {
    const char *name; /* "model.layers.0.mlp.up_proj.weight" */
    int32_t     rank;
    int64_t     shape[8];
    int64_t     count; /* elements */
} td_parameter;

/* The number of parameters in the model; negative with `error`. Builds the model with initial
 * values if the session holds none yet. [main] */
int64_t td_session_parameters(td_session *, td_error *error);
/* The parameter numbered `index`, in the model's own order; the name is valid until the session
 * trains or is closed. [main] */
int     td_session_parameter(td_session *, int64_t index, td_parameter *out, td_error *error);

/* A parameter's own memory, [*count] floats, which the next update changes; NULL, without an error,
 * where it is a device's memory or does not hold floats. It must not be written to, because other
 * forms of the parameter are kept as well: use td_session_write. Valid until the session
 * trains, loads or is closed. [main] */
int td_session_view(td_session *, const char *name, const float **values, int64_t *count,
                    td_error *error);

/* Copy a parameter out, or in, as floats; `count` must be all of its elements. [main] */
int td_session_read(td_session *, const char *name, float *values, int64_t count, td_error *error);
int td_session_write(td_session *, const char *name, const float *values, int64_t count,
                     td_error *error);

/* Can be given instead of a step number, to choose a checkpoint of a run. */
enum {
    TD_STEP_NEWEST = -1,
    TD_STEP_BEST = -2 /* the one with the best score (train.best), which train.keep_best keeps */
};

/* Load all parameters from `path`: a safetensors file, a checkpoint's directory, or a run's
 * directory, from which the checkpoint of `step` is taken (a number or TD_STEP_..); NULL: the
 * config's run. If the file belongs to a checkpoint, its model and tokenizer must be this config's,
 * except for the keys that are allowed to differ; otherwise names and shapes must match. After a
 * failure the session may hold no parameters. [main] */
int         td_session_load_step(td_session *, const char *path, int64_t step, td_error *error);
/* The same with TD_STEP_NEWEST. [main] */
int         td_session_load(td_session *, const char *path, td_error *error);
/* Write all parameters to a safetensors file, which appears complete or not at all. [main] */
int         td_session_save(td_session *, const char *path, td_error *error);
/* The file that the parameters were loaded from, or NULL. Valid until the next load, training or
 * close. [main] */
const char *td_session_loaded(const td_session *);

#ifdef __cplusplus
}
#endif

#include "embed_analysis.h"

#endif
