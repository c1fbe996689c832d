/* compared.c - reads a run's state, config and scores. */
#include "run/compared.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "config/config.h"
#include "io/safetensors.h"
#include "model/checkpoint.h"
#include "run/place.h"

static double number(const json_t *j, const char *key)
{
    const json_t *x = json_object_get(j, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

/* As stored: parameters that are tied count once. Only the header is read. */
static double count_parameters(const char *checkpoint)
{
    char           *path = td_path_join(checkpoint, "model.safetensors");
    td_safetensors *s = path && td_file_exists(path) ? td_safetensors_open(path, NULL) : NULL;
    double          n = s ? 0 : (double)NAN;
    for (size_t k = 0; s && k < td_safetensors_count(s); k++)
        n += (double)td_stored_count(td_safetensors_at(s, k));
    td_safetensors_close(s);
    free(path);
    return n;
}

/* A checkpoint's state.json; NULL, which is noted, if it cannot be read. */
static json_t *load_state(const char *checkpoint, td_text *notes)
{
    char        *path = td_path_join(checkpoint, "state.json");
    size_t       size = 0;
    td_error     why = { 0 };
    json_error_t where = { .text = "" };
    char        *text = path ? td_file_read(path, &size, &why) : NULL;
    json_t      *j = text ? json_loadb(text, size, 0, &where) : NULL;
    if (path && !j)
        td_text_print(notes, "steps, tokens and FLOPs of '%s' are unknown: %s\n", checkpoint,
                      text ? where.text : why.text);
    free(text);
    free(path);
    return j;
}

/* Tokens and FLOPs of its training, according to the checkpoint; unknown without one. */
static void read_state(const char *checkpoint, td_compared_run *r, td_text *notes)
{
    json_t       *j = checkpoint ? load_state(checkpoint, notes) : NULL;
    const json_t *step = json_object_get(j, "step");
    r->step = json_is_integer(step) ? (int64_t)json_integer_value(step) : -1;
    r->tokens = number(j, "tokens");
    r->flops = number(j, "flops");
    r->parameters = checkpoint ? count_parameters(checkpoint) : (double)NAN;
    json_decref(j);
}

/* The scores are still valid if the config cannot be read. */
static td_config *read_config(const td_run_place *place, const char *run, td_text *notes)
{
    td_errors  errors = { 0 };
    td_config *c = td_run_place_config(place, &errors);
    if (!c)
        td_text_print(notes, "the config of '%s' cannot be compared: %s\n", run,
                      td_text_get(&errors.text));
    td_errors_free(&errors);
    return c;
}

/* Scores of an earlier checkpoint would mislead next to the step count of a later one. */
static void note_old_scores(const td_compared_run *r, const td_series_list *series, td_text *notes)
{
    for (size_t i = 0; i < series->count && r->step >= 0; i++) {
        const td_series *s = &series->at[i];
        if (s->step < 0 || s->step == r->step)
            continue;
        td_text_print(notes,
                      "%s: the scores of '%s' are from step %" PRId64 ", but the run is at step "
                      "%" PRId64 ": evaluate it again\n",
                      s->name, r->name, s->step, r->step);
        return; /* one warning is enough: scores are made together */
    }
}

/* A run that was never evaluated has a config and a loss to show all the same. */
static int read_scores(const td_run_place *place, td_arena *arena, td_series_list *series,
                       td_text *notes, bool unscored, td_error *error)
{
    td_error why = { 0 };
    int      code = td_series_read(place->run, place->checkpoint, arena, series, &why);
    if (code == TD_ECONFIG && unscored)
        td_text_print(notes, "%s\n", why.text);
    else if (code)
        return td_fail(error, why.code, "%s", why.text);
    return 0;
}

int td_compared_read(const char *name, td_arena *arena, td_compared_run *out,
                     td_series_list *series, td_config **config, td_text *notes, bool unscored,
                     td_error *error)
{
    td_run_place place;
    char        *checkpoints = NULL, *latest = NULL;
    int          code;

    *config = NULL;
    if (!td_run_place_find(&place, name))
        return td_fail(error, TD_ECONFIG,
                       "'%s' is neither a run nor a checkpoint: it has no config.cfg", name);
    out->name = td_arena_copy(arena, name);
    checkpoints = td_path_join(place.run, "checkpoints");
    code = out->name && checkpoints
               ? 0
               : td_fail(error, TD_ENOMEM, "out of memory while reading run '%s'", name);
    /* a run is represented by its newest checkpoint, to which its last results belong */
    if (!code && !place.checkpoint)
        code = td_checkpoint_latest(checkpoints, &latest, error);
    if (!code)
        read_state(place.checkpoint ? place.checkpoint : latest, out, notes);
    if (!code) {
        *config = read_config(&place, name, notes);
        code = read_scores(&place, arena, series, notes, unscored, error);
    }
    if (!code)
        note_old_scores(out, series, notes);
    free(checkpoints);
    free(latest);
    td_run_place_free(&place);
    return code;
}
