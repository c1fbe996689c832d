/* review.c - looking at all that a run needs, without beginning it. */
#include "run/review.h"

#include <stdlib.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "model/footprint.h"
#include "plugin/hook.h"
#include "run/weights.h"

typedef struct review {
    td_session *session;
    td_errors  *errors;
    td_text    *notes;
} review;

/* Each part goes on after a failure of another: all of it is reported together. */
static void add(const review *r, const td_error *e)
{
    td_errors_add(r->errors, "%s", e->code ? e->text : "a plugin failed without a message");
}

static void review_data(const review *r)
{
    const td_experiment *x = r->session->x;
    const td_data       *d = (const void *)x->data.plugin;
    td_error             e = { 0 };
    if (x->tokenizer.plugin && td_session_open_tokenizer(r->session, &e))
        add(r, &e);
    e = (td_error){ 0 };
    if (d && d->check_files && TD_HOOK(d, check_files, x->data.config, r->session->services, &e))
        add(r, &e);
}

/* Only a note, since the run may be meant for another machine. */
static void note_machine(const review *r, const td_description *d)
{
    td_error e = { 0 };
    if (d->unavailable)
        td_text_print(r->notes, "on this machine it would not start: %s\n", d->unavailable);
    else if (td_footprint_check(&d->memory, td_engine_device(r->session->sketch), &e))
        td_text_print(r->notes, "on this machine it would not start: %s\n", e.text);
}

/* False: there is no model to compare parameters with. */
static bool review_model(const review *r)
{
    const td_experiment  *x = r->session->x;
    const td_description *d = NULL;
    td_error              e = { 0 };
    if (!x->model.plugin || !x->loss.plugin)
        return false;
    d = td_session_describe(r->session, &e);
    if (d)
        note_machine(r, d);
    else
        add(r, &e);
    return d != NULL;
}

static void review_weights(const review *r)
{
    td_session *s = r->session;
    td_error    e = { 0 };
    char       *file = *s->x->train.weights ? td_session_start(s, &e) : NULL;
    if (!file && *s->x->train.weights)
        add(r, &e);
    else if (file && (td_session_check_weights(s, file, &e) ||
                      td_weights_check(file, td_engine_variables(s->sketch), &e)))
        add(r, &e);
    free(file);
}

static void note_directory(const review *r)
{
    const char *run = td_session_directory(r->session);
    char       *checkpoints = td_path_join(run, "checkpoints"), *latest = NULL;
    if (checkpoints && td_file_exists(checkpoints) &&
        !td_checkpoint_latest(checkpoints, &latest, NULL) && latest)
        td_text_print(r->notes,
                      "'%s' already contains a run: train needs --resume, or another run.name\n",
                      run);
    free(checkpoints);
    free(latest);
}

int td_session_review(td_session *s, td_errors *errors, td_text *notes)
{
    const review r = { s, errors, notes };
    size_t       before = errors->count;
    review_data(&r);
    if (review_model(&r))
        review_weights(&r);
    if (s->x->data.plugin)
        note_directory(&r);
    return errors->count == before ? 0 : TD_ECONFIG;
}
