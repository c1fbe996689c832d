/* read.c - a folder or file of another program as a run: its config, and one checkpoint. */
#include <stdlib.h>

#include "base/file.h"
#include "convert/convert.h"
#include "convert/gguf.h"
#include "convert/move.h"
#include "io/shards.h"

/* A model that is being read. */
typedef struct job {
    const td_convert_in *how;
    td_shards           *from;
    const td_gguf       *gguf;       /* the file; NULL: a folder */
    const char          *place;      /* of the settings, for messages */
    char                *tokenizers; /* a temporary folder with the file's tokenizer; or NULL */
    td_record           *found;      /* the settings */
    td_arena            *arena;
    td_part              format;
    td_translated        to;
    td_session          *s;
    td_move             *moves;      /* [variables] */
    td_stored           *parameters; /* [n_parameters] */
    size_t               n_parameters;
} job;

static int no_memory(const job *j, td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", j->how->folder);
}

/* ---- the format ------------------------------------------------------------------------------ */

static int read_json(job *j, td_error *error)
{
    char  *path = td_path_join(j->how->folder, "config.json");
    size_t size = 0;
    char  *text = path ? td_file_read(path, &size, error) : NULL;
    if (text)
        j->found = td_record_from_json(text, size, path, error);
    free(text);
    free(path);
    return j->found ? 0 : td_failed(error, TD_ENOMEM);
}

static int read_settings(job *j, td_error *error)
{
    if (!td_gguf_is(j->how->folder)) {
        j->place = "config.json";
        return read_json(j, error);
    }
    j->place = "its metadata";
    j->from = td_shards_open(j->how->folder, error);
    if (!j->from)
        return td_failed(error, TD_EIO);
    j->gguf = td_shards_gguf(j->from);
    j->found = td_gguf_settings(j->gguf, j->how->folder, error);
    return j->found ? 0 : td_failed(error, TD_ENOMEM);
}

/* Whether the format is stored as the model is: in a GGUF file, or in a folder. */
static bool fits(const job *j, const td_plugin *p)
{
    const td_format *f = (const void *)p;
    return (f->container == TD_CONTAINER_GGUF) == (j->gguf != NULL);
}

/* The types that a plugin reads from this container. */
static const char *const *types_of(const job *j, const td_plugin *p)
{
    static const char *const none[] = { NULL };
    const td_format         *f = (const void *)p;
    if (strcmp(p->kind, TD_FORMAT_KIND) || !fits(j, p))
        return none;
    return f->model_types ? f->model_types : none;
}

static bool reads(const job *j, const td_plugin *p, const char *type)
{
    const char *const *name = types_of(j, p);
    while (*name && strcmp(*name, type))
        name++;
    return *name;
}

/* The format for a "model_type"; NULL: there is none. */
static const td_plugin *format_for(const job *j, const char *type)
{
    td_registry *r = j->how->registry;
    td_registry_scan_kind(r, TD_FORMAT_KIND);
    for (size_t i = 0; i < td_registry_count(r); i++)
        if (reads(j, td_registry_plugin(r, i), type))
            return td_registry_plugin(r, i);
    return NULL;
}

/* The types that there are formats for, as the message about another one. */
static int refuse_type(const job *j, const char *type, td_error *error)
{
    td_registry *r = j->how->registry;
    td_text      known = { 0 };
    for (size_t i = 0; i < td_registry_count(r); i++)
        for (const char *const *name = types_of(j, td_registry_plugin(r, i)); *name; name++)
            td_text_print(&known, "%s %s", known.size ? "," : "", *name);
    td_fail(error, TD_EUNSUPPORTED,
            "no format reads models of type '%.100s'; there are formats for:%s", type,
            td_text_get(&known));
    td_text_free(&known);
    return TD_EUNSUPPORTED;
}

static int find_format(job *j, td_error *error)
{
    const char            *key = j->gguf ? "general.architecture" : "model_type";
    const td_format_value *type = td_record_ask(j->found, key);
    const char            *name = j->how->format;
    const td_plugin       *p;
    int                    code;
    if (!type)
        return td_fail(error, TD_EFORMAT, "'%s' has no \"%s\" in %s: is this a model?",
                       j->how->folder, key, j->place);
    if (!name) {
        p = format_for(j, type->text);
        if (!p)
            return refuse_type(j, type->text, error);
        name = p->name;
    }
    code = td_convert_format(j->how->registry, name, j->arena, &j->format, error);
    if (!code && !fits(j, j->format.plugin))
        code = td_fail(error, TD_EUNSUPPORTED, "format '%s' does not read %s like '%s'", name,
                       j->gguf ? "files" : "folders", j->how->folder);
    return code;
}

static bool has_tensor(const void *of, const char *name) { return td_shards_find(of, name); }

static int translate(job *j, td_error *error)
{
    td_tensor_names names = { has_tensor, NULL };
    if (!j->from)
        j->from = td_shards_open(j->how->folder, error);
    names.of = j->from;
    return j->from ? td_translate_read(&j->format, j->found, &names, &j->to, error)
                   : td_failed(error, TD_EIO);
}

/* ---- the config ------------------------------------------------------------------------------ */

/* "model.d_model=64", for each setting that the format has put. */
static int list_settings(job *j, const char ***out, td_error *error)
{
    const char  *path;
    size_t       n = 0;
    const char **list;
    while (td_record_path(j->to.settings, n))
        n++;
    list = calloc(n + 1, sizeof *list);
    *out = list;
    for (size_t i = 0; list && (path = td_record_path(j->to.settings, i)) != NULL; i++) {
        list[i] = td_arena_print(j->arena, "%s=%s", path,
                                 td_record_get(j->to.settings, path)->text);
        if (!list[i])
            return no_memory(j, error);
    }
    return list ? 0 : no_memory(j, error);
}

/* The format is a plugin, and its settings come from a stranger's file: they are bound and checked
 * like any config. `tokenizer`: the text of its group, "" if there is none. */
static int begin_session(job *j, const char *const *settings, const char *tokenizer,
                         td_errors *errors, td_error *error)
{
    const char *const  texts[] = { tokenizer, NULL };
    td_session_options o = { .size = sizeof o,
                             .texts = *tokenizer ? texts : NULL,
                             .settings = settings,
                             .plugin_paths = j->how->plugin_paths,
                             .origin = td_arena_print(j->arena, "%s%s", j->how->folder,
                                                      j->gguf ? "" : "/config.json"),
                             .untrusted = true };
    j->s = td_session_begin(&o, TD_NEED_MODEL, j->how->log, errors, error);
    return j->s ? 0 : td_failed(error, TD_ECONFIG);
}

/* A model without its tokenizer can still be used by its ids: j->s is then NULL. */
static void begin_with_tokenizer(job *j, const char *const *settings, const char *tokenizer)
{
    td_errors errors = { 0 };
    td_error  why = { 0 };
    bool      opened = !begin_session(j, settings, tokenizer, &errors, &why) &&
                  !td_session_open_tokenizer(j->s, &why);
    if (!opened)
        td_log_line(j->how->log, TD_LOG_WARN, "the tokenizer of '%s' cannot be used: %s",
                    j->how->folder, errors.count ? td_text_get(&errors.text) : why.text);
    if (!opened) {
        td_session_close(j->s);
        j->s = NULL;
    }
    td_errors_free(&errors);
}

/* Folders often have their tokenizer in two forms, of which one may have what we do not: the first
 * that can be opened is taken. j->s is NULL if none can. */
static int open_with_tokenizer(job *j, const char *const *settings, td_error *error)
{
    size_t from = 0;
    bool   found;
    int    code;
    do {
        td_text tokenizer = { 0 };
        code = td_convert_find_tokenizer(j->how->registry,
                                         j->tokenizers ? j->tokenizers : j->how->folder, &from,
                                         &tokenizer, error);
        found = !code && tokenizer.size;
        if (found)
            begin_with_tokenizer(j, settings, td_text_get(&tokenizer));
        td_text_free(&tokenizer);
    } while (found && !j->s);
    return code;
}

/* Writes the tokenizer of a file to a folder, where it is found like any other. */
static int make_tokenizer(job *j, td_error *error)
{
    td_error why = { 0 };
    int      code;
    j->tokenizers = td_temporary_directory("tandem-tokenizer", error);
    if (!j->tokenizers)
        return td_failed(error, TD_EIO);
    code = td_gguf_write_tokenizer(j->gguf, j->tokenizers, &why);
    if (!code)
        td_gguf_warn_of_ends(j->gguf, j->how->folder, j->how->log);
    if (code == TD_EUNSUPPORTED || code == TD_EFORMAT) {
        td_log_line(j->how->log, TD_LOG_WARN, "the tokenizer of '%s' cannot be used: %s",
                    j->how->folder, why.text);
        return 0;
    }
    return code ? td_fail(error, code, "%s", why.text) : 0;
}

static int open_session(job *j, td_errors *errors, td_error *error)
{
    const char **settings = NULL;
    int          code = list_settings(j, &settings, error);
    if (!code && j->gguf)
        code = make_tokenizer(j, error);
    if (!code)
        code = open_with_tokenizer(j, settings, error);
    if (!code && !j->s)
        code = begin_session(j, settings, "", errors, error);
    if (!code)
        code = td_session_declare(j->s, error);
    free(settings);
    return code;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static int check_tensor(const job *j, const td_variable *x, const td_stored *t, td_error *error)
{
    char found[200], expected[200];
    if (!td_stored_has_shape(t, x->rank, x->dim))
        return td_fail(error, TD_EFORMAT,
                       "'%s': tensor '%s' has shape %s, but according to %s it should be %s",
                       j->how->folder, t->name, td_shape_text(found, t->rank, t->dim), j->place,
                       td_shape_text(expected, x->rank, x->dim));
    if (!td_stored_is_real(t))
        return td_fail(
            error, TD_EFORMAT,
            "'%s': tensor '%s' is of type %s; F32, F64, F16, BF16 and, in GGUF, Q8_0 can be "
            "read",
            j->how->folder, t->name, t->dtype);
    return 0;
}

/* Neither the plugin nor the file's number of rows can be trusted. */
static int check_rows(const job *j, const td_variable *x, const td_translated_tensor *t,
                      td_error *error)
{
    if (!t->interleaved || (x->rank && x->dim[0] % t->interleaved == 0))
        return 0;
    return td_fail(error, TD_EFORMAT,
                   "'%s': tensor '%s' has %lld rows, which do not divide into groups of %lld",
                   j->how->folder, t->name, (long long)(x->rank ? x->dim[0] : 0),
                   (long long)t->interleaved);
}

static int add_parameter(job *j, const td_variable *x, td_error *error)
{
    const td_translated_tensor *t = td_translated_of(&j->to, x->name);
    const td_stored            *from = t ? td_shards_find(j->from, t->name) : NULL;
    td_move                    *move = &j->moves[j->n_parameters];
    int                         code;
    /* the translation may be a stranger's, and the folder incomplete */
    if (!t)
        return td_fail(error, TD_EPLUGIN, "format '%s' is faulty: no tensor is for parameter '%s'",
                       j->format.plugin->name, x->name);
    if (!from)
        return td_fail(error, TD_EFORMAT, "'%s' has no tensor '%s', which %s requires",
                       j->how->folder, t->name, j->place);
    code = check_tensor(j, x, from, error);
    if (!code)
        code = check_rows(j, x, t, error);
    if (code)
        return code;
    *move = (td_move){ .from = from,
                       .scale = t->scale,
                       .shift = t->shift,
                       .type = TD_STORED_F32,
                       .interleaved = t->interleaved,
                       .back = true };
    j->parameters[j->n_parameters++] = td_move_to(x->name, move, x->rank, x->dim);
    return 0;
}

/* Tied parameters are often stored under both names. They are matrices: vectors are equal by
 * chance, as norms of ones and biases of zeros are. */
static bool is_copy(const job *j, const td_stored *t)
{
    for (size_t i = 0; t->rank >= 2 && i < j->n_parameters; i++) {
        const td_stored *x = j->moves[i].from;
        if (x->type == t->type && x->size == t->size && !memcmp(x->data, t->data, t->size))
            return true;
    }
    return false;
}

/* A tensor that is not needed may matter all the same: the file of another model can have all the
 * names of this one, and more. */
static int check_surplus(const job *j, td_error *error)
{
    for (size_t i = 0; i < td_shards_count(j->from); i++) {
        const td_stored *t = td_shards_at(j->from, i);
        if (!td_translated_named(&j->to, t->name) && !is_copy(j, t))
            return td_fail(error, TD_EFORMAT,
                           "'%s' has a tensor '%s', which according to %s it should not",
                           j->how->folder, t->name, j->place);
    }
    return 0;
}

static int plan_tensors(job *j, td_error *error)
{
    td_variables *v = td_engine_variables(j->s->engine);
    size_t        n = td_variables_count(v);
    int           code;
    j->moves = calloc(n + 1, sizeof *j->moves);
    j->parameters = calloc(n + 1, sizeof *j->parameters);
    if (!j->moves || !j->parameters)
        return no_memory(j, error);
    code = 0;
    for (size_t i = 0; !code && i < n; i++)
        if (td_variables_at(v, i)->kind == TD_VARIABLE_PARAM)
            code = add_parameter(j, td_variables_at(v, i), error);
    return code ? code : check_surplus(j, error);
}

static void close_job(job *j)
{
    td_session_close(j->s);
    if (j->tokenizers)
        td_remove_tree(j->tokenizers, NULL);
    free(j->tokenizers);
    td_shards_close(j->from);
    td_translated_free(&j->to);
    td_record_free(j->found);
    td_arena_free(j->arena);
    free(j->moves);
    free(j->parameters);
}

int td_convert_read(const td_convert_in *how, td_errors *errors, td_error *error)
{
    job j = { .how = how, .arena = td_arena_new() };
    int code = j.arena ? read_settings(&j, error) : no_memory(&j, error);
    if (!code)
        code = find_format(&j, error);
    if (!code)
        code = translate(&j, error);
    if (!code)
        code = open_session(&j, errors, error);
    if (!code)
        code = plan_tensors(&j, error);
    if (!code)
        code = td_convert_write_run(j.s, j.parameters, j.n_parameters, how->run, error);
    close_job(&j);
    return code;
}
