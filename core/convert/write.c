/* write.c - the parameters of a run in another program's format. */
#include <errno.h>
#include <stdlib.h>

#include "base/file.h"
#include "convert/convert.h"
#include "convert/gguf.h"
#include "convert/move.h"
#include "model/checkpoint.h"
#include "run/weights.h"

/* A model that is being written. */
typedef struct job {
    const td_convert_out *how;
    td_session           *s;
    td_safetensors       *from;
    bool                  gguf; /* the format's container */
    td_translated         to;
    td_move              *moves;   /* [to.n_tensors] */
    td_stored            *tensors; /* the same */
} job;

/* ---- the format ------------------------------------------------------------------------------ */

static const char *dtype_of(const td_convert_out *how)
{
    return how->type == TD_STORED_BF16   ? "bfloat16"
           : how->type == TD_STORED_Q8_0 ? "q8_0"
                                         : "float32";
}

static bool is_gguf(const td_part *format)
{
    return ((const td_format *)(const void *)format->plugin)->container == TD_CONTAINER_GGUF;
}

/* Only GGUF has blocks. */
static bool takes_type(const td_part *format, int type)
{
    return type != TD_STORED_Q8_0 || is_gguf(format);
}

/* Whether another format can represent the model. */
static bool can(td_session *s, const char *name, const td_convert_out *how)
{
    td_arena     *arena = td_arena_new();
    td_record    *model = td_convert_settings(s, NULL);
    td_translated to = { 0 };
    td_part       part;
    bool yes = arena && model && !td_convert_format(s->registry, name, arena, &part, NULL) &&
               takes_type(&part, how->type) &&
               !td_translate_write(&part, model, dtype_of(how), &to, NULL);
    td_translated_free(&to);
    td_record_free(model);
    td_arena_free(arena);
    return yes;
}

/* "; formats that can: a, b" */
static void print_others(td_session *s, const td_convert_out *how, td_text *out)
{
    const td_plugin *p;
    td_registry_scan_kind(s->registry, TD_FORMAT_KIND);
    for (size_t i = 0; i < td_registry_count(s->registry); i++) {
        p = td_registry_plugin(s->registry, i);
        if (!strcmp(p->kind, TD_FORMAT_KIND) && can(s, p->name, how))
            td_text_print(out, "%s '%s'", out->size ? "," : "; formats that can:", p->name);
    }
    if (!out->size)
        td_text_print(out, "; no other format can either");
}

static int check_container(job *j, const td_part *format, td_error *error)
{
    j->gguf = is_gguf(format);
    if (takes_type(format, j->how->type))
        return 0;
    return td_fail(error, TD_EUNSUPPORTED,
                   "format '%s' has no tensors of type q8_0: use --dtype f32 or bf16, or a format "
                   "whose file is GGUF",
                   j->how->format);
}

static int translate(job *j, td_error *error)
{
    td_arena  *arena = td_arena_new();
    td_record *model = td_convert_settings(j->s, error);
    td_text    others = { 0 };
    td_error   why = { 0 };
    td_part    part;
    int        code = model && arena
                          ? td_convert_format(j->s->registry, j->how->format, arena, &part, error)
                          : td_failed(error, TD_ENOMEM);
    if (!code)
        code = check_container(j, &part, error);
    if (!code && td_translate_write(&part, model, dtype_of(j->how), &j->to, &why)) {
        if (why.code == TD_ECONFIG)
            print_others(j->s, j->how, &others);
        code = td_fail(error, why.code, "%s%s", why.text, td_text_get(&others));
    }
    td_text_free(&others);
    td_record_free(model);
    td_arena_free(arena);
    return code;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while converting a model");
}

static int add_tensor(job *j, size_t i, td_error *error)
{
    const td_translated_tensor *t = &j->to.tensors[i];
    const td_stored *from = t->parameter ? td_safetensors_find(j->from, t->parameter) : NULL;
    int              rank = from ? from->rank : t->rank;
    const int64_t   *dim = from ? from->dim : t->dim;
    /* the format may be a stranger's */
    if (t->parameter && !from)
        return td_fail(
            error, TD_EPLUGIN,
            "format '%s' is faulty: tensor '%s' is for parameter '%s', which the model lacks",
            j->how->format, t->name, t->parameter);
    if (t->interleaved && (!rank || dim[0] % t->interleaved))
        return td_fail(error, TD_EPLUGIN,
                       "format '%s' is faulty: tensor '%s' has groups of %lld in %lld rows",
                       j->how->format, t->name, (long long)t->interleaved,
                       (long long)(rank ? dim[0] : 0));
    j->moves[i] = (td_move){ .from = from,
                             .scale = t->scale,
                             .fill = t->fill,
                             .shift = t->shift,
                             .type = j->gguf ? td_gguf_type_for(j->how->type, rank, dim)
                                             : j->how->type,
                             .interleaved = t->interleaved };
    j->tensors[i] = td_move_to(t->name, &j->moves[i], rank, dim);
    return 0;
}

/* The plugin may be a stranger's: a parameter that it forgets would be missing in the file. */
static int check_complete(const job *j, td_error *error)
{
    td_variables *v = td_engine_variables(j->s->engine);
    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        if (x->kind == TD_VARIABLE_PARAM && !td_translated_of(&j->to, x->name))
            return td_fail(error, TD_EPLUGIN,
                           "format '%s' is faulty: no tensor is made from the parameter '%s'",
                           j->how->format, x->name);
    }
    return 0;
}

static int plan_tensors(job *j, td_error *error)
{
    size_t n = j->to.n_tensors;
    int    code;
    j->moves = calloc(n + 1, sizeof *j->moves);
    j->tensors = calloc(n + 1, sizeof *j->tensors);
    code = j->moves && j->tensors ? check_complete(j, error) : no_memory(error);
    for (size_t i = 0; !code && i < n; i++)
        code = add_tensor(j, i, error);
    return code;
}

/* The parameters must be those of the config's model, which is what the format has translated. */
static int open_weights(job *j, td_error *error)
{
    int code = td_session_check_weights(j->s, j->how->weights, error);
    if (!code)
        code = td_session_declare(j->s, error);
    if (!code)
        code = td_weights_check(j->how->weights, td_engine_variables(j->s->engine), error);
    if (!code && !(j->from = td_safetensors_open(j->how->weights, error)))
        code = td_failed(error, TD_EIO);
    return code;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int write_files(const job *j, const char *folder, td_error *error)
{
    static const char *const metadata[] = { "format", "pt", NULL };
    char                    *json = td_record_to_json(j->to.settings, error);
    char                    *path = td_path_join(folder, "model.safetensors");
    int code = json && path ? td_file_write_in(folder, "config.json", json, strlen(json), error)
                            : td_failed(error, TD_ENOMEM);
    for (size_t k = 0; !code && k < j->to.n_files; k++)
        code = td_file_write_in(folder, j->to.files[k].name, j->to.files[k].text,
                                j->to.files[k].size, error);
    if (!code)
        code = td_convert_write_tokenizer(j->s, j->to.settings, folder, error);
    if (!code)
        code = td_safetensors_write(path, j->tensors, j->to.n_tensors, metadata, error);
    free(json);
    free(path);
    return code;
}

static int write_folder(const job *j, td_error *error)
{
    char *temporary = td_convert_begin(j->how->folder, error);
    if (!temporary)
        return td_failed(error, TD_EIO);
    return td_convert_end(temporary, j->how->folder, write_files(j, temporary, error), error);
}

static int write_gguf(const job *j, td_error *error)
{
    td_gguf_out keys = { 0 };
    char       *parent = td_path_directory(j->how->folder);
    int         code = parent ? td_make_directories(parent, error) : no_memory(error);
    if (!code && (td_file_exists(j->how->folder) || errno != ENOENT))
        code = td_fail(error, TD_EIO, "'%s' exists: choose another name, or remove it",
                       j->how->folder);
    if (!code)
        code = td_gguf_put_settings(&keys, j->to.settings, error);
    if (!code)
        code = td_gguf_put_tokenizer(&keys, j->s, j->to.settings, error);
    if (!code)
        code = td_gguf_write(j->how->folder, &keys, j->tensors, j->to.n_tensors, error);
    td_gguf_out_free(&keys);
    free(parent);
    return code;
}

int td_convert_write(td_session *s, const td_convert_out *how, td_error *error)
{
    job j = { .how = how, .s = s };
    int code = translate(&j, error);
    if (!code)
        code = open_weights(&j, error);
    if (!code)
        code = plan_tensors(&j, error);
    if (!code)
        code = j.gguf ? write_gguf(&j, error) : write_folder(&j, error);
    td_safetensors_close(j.from);
    td_translated_free(&j.to);
    free(j.moves);
    free(j.tensors);
    return code;
}
