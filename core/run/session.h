/* session.h - the inside of a td_session (tandem/embed.h): a config opened, its threads, its data,
 * and a model in memory. Shared by the files of core/run; the command uses it where embed.h says
 * nothing of what it needs.
 *
 *     session.c      opening and closing; the engine
 *     data.c         tokenizer and data source
 *     batches.c      how batches are arranged; planning a run; random batches
 *     generation.c   continuing texts
 *     training.c, evaluation.c, description.c, parameters.c    the functions of embed.h
 */
#ifndef TD_RUN_SESSION_H
#define TD_RUN_SESSION_H

#include "base/threads.h"
#include "generate/decode.h"
#include "run/experiment.h"
#include "tandem/embed.h"

struct td_session {
    td_experiment     *x;
    td_registry       *registry;
    td_journal        *log;
    bool               owns_log; /* nobody else writes to it: failures go there, too */
    unsigned           needs;    /* the groups that the session was opened for */
    td_pool           *pool;
    const td_services *services;
    char              *shipped, *configs; /* directories */

    char   **allow;      /* ends with NULL */
    uint64_t allow_used; /* bit k: something differs in the k-th allowed key */

    bool       tokenizer_opened, data_opened;
    void      *tokenizer, *data; /* states, which may be NULL though opened */
    char       tokenizer_id[64]; /* differs between tokenizers whose ids mean different things */
    td_special special;

    td_engine *engine; /* allocated; NULL: the session holds no parameters yet */
    td_engine *sketch; /* planned, never allocated: for descriptions */
    char      *loaded; /* the file that the parameters are from; NULL: none */

    /* results that belong to the session */
    td_description description;
    bool           described;
    td_evaluation  evaluation;      /* of td_session_evaluate */
    td_evaluation  last_evaluation; /* of td_session_train; `trained` points to it */
    td_trained     trained;
    char          *directory;
    td_text        config, text;
};

/* ---- opening --------------------------------------------------------------------------------- */

/* td_session_open, but with TD_NEED_ bits in place of a purpose, and with a log that stays the
 * caller's. All errors of the config are in `errors`; any other one is in `error`. NULL after
 * either. */
td_session *td_session_begin(const td_session_options *, unsigned needs, td_journal *log,
                             td_errors *errors, td_error *error);

/* The directory of the shipped configs/ and data/: where they were installed with this library, or
 * the source tree. free() it; NULL without memory. */
char *td_shipped_directory(void);

/* ---- the engine ------------------------------------------------------------------------------ */

/* An engine of the session's model, for the caller to plan and close; with an optimizer if
 * `updates`. */
td_engine *td_session_engine(const td_session *, bool updates, td_error *error);
/* Replace what the session holds by an engine that is not planned yet. */
int        td_session_replace(td_session *, bool updates, td_error *error);
/* Make sure that the session holds parameters: at first with initial values, and planned for
 * evaluation. Opens the data if the session is for evaluation. */
int        td_session_hold(td_session *, td_error *error);
/* Parameters from a file into the engine; after a failure, which may leave some of them replaced,
 * the session holds none. */
int        td_session_take(td_session *, const char *path, td_error *error);
void       td_session_drop(td_session *);

/* The end of a public function: `code`, and never a failure without a message, which plugins can
 * make. */
int td_session_result(int code, td_error *error);

/* ---- data ------------------------------------------------------------------------------------ */

/* Open the tokenizer alone, unless it is open, and set tokenizer_id. */
int  td_session_open_tokenizer(td_session *, td_error *error);
/* Open tokenizer and data source, unless they are; makes token shards that are missing. */
int  td_session_open_data(td_session *, td_error *error);
/* Only make what opening the data would make. */
int  td_session_prepare_data(td_session *, td_error *error);
void td_session_close_data(td_session *);

/* ---- generation ------------------------------------------------------------------------------ */

/* Make the session ready to continue texts with the parameters of a file. */
int                td_session_open_generation(td_session *, const char *weights, td_error *error);
/* What a decoder of it needs, its rows and lengths not set. */
td_decoder_options td_session_decoder(const td_session *);

/* ---- batches --------------------------------------------------------------------------------- */

/* How training, or evaluation, arranges its batches; without data before td_session_open_data. */
td_arrange_spec  td_session_feed(const td_session *);
td_evaluate_spec td_session_evaluation_spec(const td_session *);
/* Plan everything a run of the config computes: steps of the largest micro-batches that can come,
 * norms, evaluation. The footprint is that of all of it, with the batches that are read ahead. */
int              td_session_plan(const td_session *, td_engine *, td_footprint *, td_error *error);
/* `rows` rows of random tokens of full length, split as the loss splits them; lengths are rounded
 * up to `bucket`. NULL with `error`; td_batch_free it. */
td_batch        *td_session_random_batch(const td_session *, int64_t rows, int64_t bucket,
                                         td_error *error);
int64_t          td_session_vocabulary(const td_session *);

#endif
