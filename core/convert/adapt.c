/* adapt.c - a model made from one or two models of another architecture: an encoder-decoder from
 * decoder-only models. Paper: Zhang et al. 2025 (arXiv 2504.06225). */
#include <stdlib.h>

#include "convert/convert.h"
#include "convert/move.h"
#include "plugin/hook.h"
#include "run/weights.h"
#include "tandem/kind/position.h"

/* One of the models that parameters come from. */
typedef struct source {
    const td_adapt_from *from;
    td_safetensors      *file;
    bool                *taken; /* [tensors] */
} source;

/* A model that is being made. */
typedef struct job {
    td_session            *s;
    const td_architecture *architecture;
    source                 decoder, encoder; /* which may be one run, whose layers are used twice */
    td_move               *moves;            /* [parameters] */
    td_stored             *parameters;
    size_t                 count;
} job;

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while making a model from another");
}

/* ---- whether they fit together --------------------------------------------------------------- */

static bool listed(const char *const *names, const char *name)
{
    while (names && *names && strcmp(*names, name))
        names++;
    return names && *names;
}

static int check_architecture(const job *j, const td_adapt_from *from, td_error *error)
{
    const td_architecture *a = j->architecture;
    const td_setting      *v = td_config_get(from->config, "model.plugin");
    const char            *was = v && v->type == TD_SETTING_STRING ? v->text : "";
    if (!a->adapts || !a->origin)
        return td_fail(
            error, TD_ECONFIG,
            "model.plugin is %s, which cannot be made from other models: choose one that "
            "can (model.plugin=encoder-decoder, say)",
            a->plugin.name);
    if (listed(a->adapts, was))
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "'%s' has the architecture '%s', from which '%s' cannot be made", from->run, was,
                   a->plugin.name);
}

typedef struct comparison {
    td_session *s;
    bool        encoder; /* only the encoder is made from the model */
} comparison;

/* What an encoder has no use for. */
static bool is_of_logits(const char *key)
{
    return !strcmp(key, "model.logit_scale") || !strcmp(key, "model.logit_cap") ||
           !strcmp(key, "model.tie_embeddings");
}

/* Whether an option changes what parameters compute. Options of the architecture that only one of the
 * two has, such as numbers of layers, show in the parameters. */
static bool matters(const comparison *c, const char *key, const char *line)
{
    static const char model[] = "model.";
    if (strncmp(key, model, strlen(model)) || !strcmp(key, "model.plugin"))
        return false;
    if (c->encoder && is_of_logits(key))
        return false;
    return strchr(key + strlen(model), '.') || !strstr(line, "(absent)");
}

static bool accept(void *arg, const char *key, const char *line)
{
    const comparison *c = arg;
    if (!matters(c, key, line))
        return true;
    if (!td_session_allows(c->s, key))
        return false;
    td_log_line(c->s->log, TD_LOG_WARN, "the layers are from a model with another %s (allowed)",
                line);
    return true;
}

/* A difference may be intended, but must then be allowed explicitly. */
static int check_options(const job *j, const td_adapt_from *from, bool encoder, td_error *error)
{
    td_text differences = { 0 }, refused;
    int     code = 0;
    td_config_diff(from->config, j->s->x->config, &differences);
    refused = td_refused_differences(&differences, accept, &(comparison){ j->s, encoder });
    if (refused.size)
        code =
            td_fail(error, TD_ECONFIG,
                    "the layers of '%s' were trained with other options:%.1500s\nuse the same, or "
                    "allow the difference if it is intended (--allow KEY)",
                    from->run, td_text_get(&refused));
    td_text_free(&differences);
    td_text_free(&refused);
    return code;
}

static int check_position(const job *j, td_error *error)
{
    const td_plugin *p;
    for (size_t i = 0; (p = td_config_plugin(j->s->x->config, i)) != NULL; i++) {
        if (strcmp(p->kind, TD_POSITION_KIND) || !((const td_position *)(const void *)p)->by_role)
            continue;
        if (!td_session_allows(j->s, "model.position.plugin"))
            return td_fail(
                error, TD_ECONFIG,
                "the parameters of position '%s' mean something else in an encoder than in the "
                "decoder that they come from: make the model from one with another "
                "position, or allow it, so that training has to change them (--allow "
                "model.position.plugin)",
                p->name);
        td_log_line(j->s->log, TD_LOG_WARN,
                    "the parameters of position '%s' mean something else in an encoder: allowed",
                    p->name);
    }
    return 0;
}

static int check_source(const job *j, const td_adapt_from *from, bool encoder, td_error *error)
{
    int code = check_architecture(j, from, error);
    if (!code)
        code = check_options(j, from, encoder, error);
    if (!code)
        code = td_session_open_special(j->s, error); /* the tokenizer */
    if (!code)
        code = td_session_check_tokenizer(j->s, from->weights, error);
    return code;
}

static int check_sources(const job *j, const td_adapt_from *decoder, const td_adapt_from *encoder,
                         td_error *error)
{
    int code = check_source(j, decoder, false, error);
    if (!code && encoder)
        code = check_source(j, encoder, true, error);
    if (!code)
        code = check_position(j, error);
    return code;
}

static int open_source(source *x, const td_adapt_from *from, td_error *error)
{
    x->from = from;
    x->file = td_safetensors_open(from->weights, error);
    if (!x->file)
        return td_failed(error, TD_EIO);
    x->taken = calloc(td_safetensors_count(x->file) + 1, sizeof *x->taken);
    return x->taken ? 0 : no_memory(error);
}

/* ---- parameters ------------------------------------------------------------------------------ */

/* The tensor, which now counts as used; NULL: there is none. */
static const td_stored *take(source *x, const char *name)
{
    const td_stored *t = td_safetensors_find(x->file, name);
    for (size_t i = 0; t && i < td_safetensors_count(x->file); i++)
        if (td_safetensors_at(x->file, i) == t)
            x->taken[i] = true;
    return t;
}

static int refuse(const td_variable *v, const td_origin *o, const source *x, const td_stored *t,
                  td_error *error)
{
    char found[200], expected[200];
    if (!t)
        return td_fail(
            error, TD_ECONFIG,
            "'%s' has no parameter '%s', from which '%s' would be made: give both models "
            "the same layers and options",
            x->from->run, o->name, v->name);
    return td_fail(error, TD_ECONFIG,
                   "'%s' has '%s' with shape %s, but '%s' of the new model has %s: give the "
                   "model the same sizes",
                   x->from->run, o->name, td_shape_text(found, t->rank, t->dim), v->name,
                   td_shape_text(expected, v->rank, v->dim));
}

/* Whether a parameter of the encoder's own is made from the second model's. */
static bool is_used(const job *j, const char *name)
{
    td_variables *v = td_engine_variables(j->s->engine);
    bool          used = false;
    for (size_t i = 0; !used && i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        td_origin          o = { 0 };
        if (x->kind == TD_VARIABLE_PARAM)
            TD_HOOK(j->architecture, origin, x->name, &o);
        used = o.encoder && !strcmp(o.name, name);
    }
    return used;
}

/* The second model's copy is not used, but its layers were trained with it. */
static void share(job *j, const td_origin *o, const td_stored *t)
{
    const td_stored *own = is_used(j, o->name) ? NULL : take(&j->encoder, o->name);
    if (own && (t->size != own->size || memcmp(t->data, own->data, t->size)))
        td_log_line(j->s->log, TD_LOG_WARN,
                    "the encoder's layers come from '%s', but will read '%s' from '%s', which "
                    "differs",
                    j->encoder.from->run, o->name, j->decoder.from->run);
}

static int add_parameter(job *j, const td_variable *v, td_error *error)
{
    td_origin        o = { 0 };
    td_move         *move = &j->moves[j->count];
    source          *x;
    const td_stored *t;
    TD_HOOK(j->architecture, origin, v->name, &o);
    x = o.encoder ? &j->encoder : &j->decoder;
    t = take(x, o.name);
    if (!t || !td_stored_is_real(t) || !td_stored_has_shape(t, v->rank, v->dim))
        return refuse(v, &o, x, t, error);
    if (o.shared)
        share(j, &o, t);
    *move = (td_move){ .from = t, .scale = 1, .type = TD_STORED_F32 };
    j->parameters[j->count++] = td_move_to(v->name, move, v->rank, v->dim);
    return 0;
}

static int plan_parameters(job *j, td_error *error)
{
    td_variables *v = td_engine_variables(j->s->engine);
    size_t        n = td_variables_count(v);
    int           code = 0;
    j->moves = calloc(n + 1, sizeof *j->moves);
    j->parameters = calloc(n + 1, sizeof *j->parameters);
    if (!j->moves || !j->parameters)
        return no_memory(error);
    for (size_t i = 0; !code && i < n; i++)
        if (td_variables_at(v, i)->kind == TD_VARIABLE_PARAM)
            code = add_parameter(j, td_variables_at(v, i), error);
    return code;
}

/* ---- what is left ---------------------------------------------------------------------------- */

/* An encoder's run may have what only the whole model needs, such as a matrix for the logits. */
static bool is_needless(const job *j, const source *x, const char *name)
{
    td_origin o = { 0 };
    TD_HOOK(j->architecture, origin, name, &o);
    return x == &j->encoder && x->from != j->decoder.from && o.shared && !strcmp(o.name, name);
}

/* A layer from which no parameter is made would be lost. */
static int check_rest(const job *j, const source *x, td_error *error)
{
    for (size_t i = 0; i < td_safetensors_count(x->file); i++) {
        const char *name = td_safetensors_at(x->file, i)->name;
        if (!x->taken[i] && !is_needless(j, x, name))
            return td_fail(error, TD_ECONFIG,
                           "no parameter is made from '%s' of '%s': give both models the same "
                           "number of layers and the same options",
                           name, x->from->run);
    }
    return 0;
}

static void close_source(source *x)
{
    td_safetensors_close(x->file);
    free(x->taken);
}

static void close_job(job *j)
{
    close_source(&j->decoder);
    close_source(&j->encoder);
    free(j->moves);
    free(j->parameters);
}

int td_convert_adapt(td_session *s, const td_adapt_from *decoder, const td_adapt_from *encoder,
                     const char *run, td_error *error)
{
    job j = { .s = s, .architecture = (const void *)s->x->model.plugin };
    int code = check_sources(&j, decoder, encoder, error);
    if (!code)
        code = open_source(&j.decoder, decoder, error);
    if (!code)
        code = open_source(&j.encoder, encoder ? encoder : decoder, error);
    if (!code)
        code = td_session_declare(s, error);
    if (!code)
        code = plan_parameters(&j, error);
    if (!code)
        code = check_rest(&j, &j.decoder, error);
    if (!code)
        code = check_rest(&j, &j.encoder, error);
    if (!code)
        code = td_convert_write_run(s, j.parameters, j.count, run, error);
    close_job(&j);
    return code;
}
