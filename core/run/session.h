/* session.h - the inside of a td_session (tandem/embed.h): an opened config, its threads, its data,
 * and a model in memory. Shared by the files of core/run; the command uses it where embed.h is not
 * enough.
 *
 *     session.c      opening and closing; the engine
 *     data.c         tokenizer and data source
 *     batches.c      arrangement of batches; planning a run; random batches
 *     generation.c   continuing texts
 *     tokens.c       texts as tokens
 *     place.c        a run or checkpoint by its directory
 *     review.c       what would stop a run before it begins
 *     keep.c         the files that a run keeps copies of
 *     cache.c        where prepared data is kept
 *     results.c      scores as files
 *     scoring.c      log-likelihoods of tokens
 *     tasks.c, tasks_name.c, task_scores.c, training_tasks.c
 *                    downstream tasks, their files, and those scored in training
 *     asking.c       tasks and comparisons for embed.h
 *     extrapolation.c, curves.c    the loss beyond the training length, and as files
 *     analysis.c, maps.c           attention by position, and as files
 *     attending.c    attention weights of one text
 *     budget.c       the steps that a budget comes to
 *     training.c, evaluation.c, description.c, parameters.c    the functions of embed.h
 */
#ifndef TD_RUN_SESSION_H
#define TD_RUN_SESSION_H

#include "base/threads.h"
#include "generate/decode.h"
#include "generate/encode.h"
#include "run/experiment.h"
#include "tandem/embed.h"
#include "team/team.h"

struct td_session {
    td_experiment     *x;
    td_registry       *registry;
    td_journal        *log;
    bool               owns_log; /* private to the session, so failures are stored there too */
    unsigned           needs;    /* the groups that the session requires */
    td_pool           *pool;
    const td_services *services;
    char              *shipped, *configs; /* directories */

    char   **allow;      /* ends with NULL */
    uint64_t allow_used; /* bit k: the k-th allowed key does differ */

    bool       tokenizer_opened, data_opened;
    void      *tokenizer, *data; /* plugin states, which may be NULL although opened */
    int64_t    held_out_length;  /* held-out length of the data opened next; 0: evaluate.length */
    bool       whole_documents;  /* and whether its held-out records are within documents */
    char       tokenizer_id[64]; /* different for tokenizers whose ids have different meanings */
    td_special special;
    bool       lossy;      /* the tokenizer changes text: bits per byte would mean nothing */
    bool       inputs_end; /* the loaded parameters were trained on inputs that end in eos */

    td_team     *team;     /* the processes of a training run; NULL: this one alone */
    int64_t      imagined; /* processes that descriptions are for; 0: the team's */
    td_engine   *engine;   /* allocated; NULL if the session holds no parameters yet */
    td_engine   *sketch;   /* planned but never allocated, for descriptions */
    /* Why the config's backend cannot be used on this machine: the sketch is then planned for the
     * default one, `stand_in`. NULL: it can. */
    char        *unavailable;
    td_part      stand_in;
    td_arena    *stand_in_options;
    /* The engine's parameters in the layouts that kernels read fastest, kept for repeated
     * generation; NULL: none were made, or parameters may have changed since. */
    td_prepared *layouts;
    char        *loaded; /* the file that the parameters were loaded from, or NULL */

    /* results that belong to the session */
    td_description   description;
    bool             described;
    td_evaluation    evaluation;      /* of td_session_evaluate */
    td_evaluation    last_evaluation; /* of td_session_train; `trained` points to it */
    td_task_scores   tasks;           /* of td_session_ask */
    td_task_scores   last_tasks;      /* the same of tasks */
    char            *best_name;       /* the same */
    td_trained       trained;
    td_extrapolation extrapolation;
    td_analysis      analysis;
    td_attended      attended;
    int32_t         *ids;            /* of td_session_encode */
    int32_t         *given, *target; /* of td_session_encode_pair */
    char            *directory;
    bool             entered; /* .. is a run that was found there, wherever run.dir points now */
    td_text          config, text;
};

/* ---- opening --------------------------------------------------------------------------------- */

/* td_session_open, but with TD_NEED_ bits instead of a purpose, and with a log that the caller
 * keeps. All errors of the config are in `errors`; any other error is in `error`. Returns NULL
 * after either. */
td_session *td_session_begin(const td_session_options *, unsigned needs, td_journal *log,
                             td_errors *errors, td_error *error);

/* The directory of the shipped configs/ and data/: as installed with this library, or in the source
 * tree. free() it; NULL when out of memory. */
char *td_shipped_directory(void);

/* ---- the engine ------------------------------------------------------------------------------ */

/* Join the other processes that a launcher started, if any: from then on all of them make the same
 * calls and compute together. `lost` as in td_team_spec. Closing the session, or td_session_leave,
 * leaves them. */
int  td_session_join(td_session *, void (*lost)(void *arg, const char *why), void *arg,
                     td_error *error);
void td_session_leave(td_session *);

/* On all ranks, once they hold parameters: an error unless all have the same config and parameters.
 * Scores of different models must not be mixed. */
int td_session_compare_ranks(td_session *, td_error *error);

/* Open an engine for the session's model, which the caller plans and closes; with an optimizer if
 * `updates`. */
td_engine *td_session_engine(const td_session *, bool updates, td_error *error);
/* The same, but only planned, never allocated. If this machine lacks what the backend needs, such
 * as a GPU, the default backend stands in, and `unavailable` says why. */
td_engine *td_session_sketch(td_session *, td_error *error);
/* The parameters are about to change: discard what was made from them. */
void       td_session_forget_layouts(td_session *);
/* Replace the session's engine with one that is not planned yet. */
int        td_session_replace(td_session *, bool updates, td_error *error);
/* Replace the session's engine with one that has the model's parameters by name and shape, but no
 * memory for them: for looking at files. */
int        td_session_declare(td_session *, td_error *error);
/* Make sure that the session holds parameters. Otherwise they get initial values, and evaluation
 * is planned. Opens the data if the session is for evaluation. */
int        td_session_hold(td_session *, td_error *error);
/* Load parameters from a file into the engine. A failure may leave some of them replaced, so none can be
 * used: drop them, once no other process can reach them (td_team_lend). */
int        td_session_take(td_session *, const char *path, td_error *error);
void       td_session_drop(td_session *);

/* The end of a public function: returns `code`, and adds a message to a failure without one, which
 * plugins may return. */
int td_session_result(int code, td_error *error);

/* ---- data ------------------------------------------------------------------------------------ */

/* Open the tokenizer alone, unless it is open, and set tokenizer_id. */
int  td_session_open_tokenizer(td_session *, td_error *error);
/* Open tokenizer and data source, unless they are open; prepares missing token shards. */
int  td_session_open_data(td_session *, td_error *error);
/* The same on all ranks. The leader prepares what is missing; the others read it afterwards. */
int  td_session_open_data_together(td_session *, td_error *error);
/* Prepare the shards that opening the data would, without opening it. */
int  td_session_prepare_data(td_session *, td_error *error);
void td_session_close_data(td_session *);
/* Open the data a second time, with held-out records of `length` tokens, and use it instead of the
 * session's own until td_session_restore_data. */
typedef struct td_own_data {
    void *data;
    bool  opened;
} td_own_data;
int  td_session_long_data(td_session *, int64_t length, bool whole_documents, td_own_data *own,
                          td_error *error);
/* The same with long documents if there are any, else with joined text, in which distant tokens
 * are useless. `*documents` says which. */
int  td_session_long_text(td_session *, int64_t length, bool *documents, td_own_data *own,
                          td_error *error);
void td_session_restore_data(td_session *, const td_own_data *own);

/* ---- generation ------------------------------------------------------------------------------ */

/* The tokenizer and its special ids, or placeholders without a tokenizer. */
int                td_session_open_special(td_session *, td_error *error);
/* The tokenizer, which is open. */
td_encoder         td_session_encoder(const td_session *);
/* The options of a decoder for this session, except rows and lengths. */
td_decoder_options td_session_decoder(const td_session *);

/* ---- batches --------------------------------------------------------------------------------- */

/* How training or evaluation arranges its batches; before td_session_open_data it has no data. */
td_arrange_spec  td_session_feed(const td_session *);
td_evaluate_spec td_session_evaluation_spec(const td_session *);
/* The number of processes of a run: the team's, or the one that a description assumes. */
int              td_session_processes(const td_session *);
/* Make micro-batches smaller if there are fewer than processes. Refused where that changes results. */
int              td_session_share_out(td_session *, td_error *error);
/* From now on, descriptions are for `processes` processes, of which they show the one that needs
 * the most memory. */
int              td_session_imagine(td_session *, int64_t processes, td_error *error);
/* Plan everything that a run of the config computes: steps with the largest possible micro-batches,
 * norms, evaluation. The footprint covers all of it, including batches read ahead. */
int              td_session_plan(const td_session *, td_engine *, td_footprint *, td_error *error);
/* `rows` rows of random tokens of full length, split as the loss splits them; lengths are rounded
 * up to `bucket`. NULL with `error`; free it with td_batch_free. */
td_batch        *td_session_random_batch(const td_session *, int64_t rows, int64_t bucket,
                                         td_error *error);
int64_t          td_session_vocabulary(const td_session *);
/* Where a budget sets the length of the run (train.target_tokens, train.flops), find its steps; the
 * data is open. */
int              td_session_set_length(td_session *, td_error *error);

#endif
