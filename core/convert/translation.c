/* translation.c - the host's side of kind/format.h. */
#include "convert/translation.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "plugin/hook.h"

/* A translation under way; `failed` is the first refusal or error. */
typedef struct work {
    td_record             *in;
    const td_tensor_names *names; /* NULL when writing */
    td_translated         *out;
    td_error               failed;
    size_t                 room_tensors, room_files;
} work;

static void no_memory(work *w)
{
    td_fail(&w->failed, TD_ENOMEM, "out of memory while translating the settings of a model");
}

/* ---- what hooks call ------------------------------------------------------------------------- */

static const td_format_value *ask(td_translation *t, const char *path)
{
    work *w = t->host;
    return td_record_ask(w->in, path);
}

static void put(td_translation *t, const char *path, const td_format_value *v)
{
    work *w = t->host;
    if (!w->failed.code)
        td_record_put(w->out->settings, path, v, &w->failed);
}

static char *keep(work *w, const char *text)
{
    char *copy = td_arena_copy(w->out->arena, text);
    if (!copy)
        no_memory(w);
    return copy;
}

/* Room for one more item at `*list`, which has `n`; false: out of memory. */
static bool grow(work *w, void **list, size_t n, size_t *room, size_t size)
{
    size_t more = *room ? 2 * *room : 64;
    void  *larger;
    if (n < *room)
        return true;
    larger = realloc(*list, more * size);
    if (!larger) {
        no_memory(w);
        return false;
    }
    *list = larger;
    *room = more;
    return true;
}

/* The plugin may be a stranger's. What has a parameter takes its shape from it. */
static bool is_tensor(const td_format_tensor *x, int64_t rows)
{
    bool sound = rows >= 0 && rows % 2 == 0 && x->name &&
                 (x->parameter || (x->rank >= 0 && x->rank <= TD_MAX_RANK));
    for (int k = 0; sound && !x->parameter && k < x->rank; k++)
        sound = x->dim[k] >= 0;
    return sound;
}

static void add(td_translation *t, const td_format_tensor *x, int64_t rows, double shift)
{
    work          *w = t->host;
    td_translated *o = w->out;
    void          *list = o->tensors;
    char          *name, *parameter;
    bool           room;
    if (!w->failed.code && !is_tensor(x, rows))
        td_fail(&w->failed, TD_EPLUGIN,
                "the format is faulty: its tensor %zu, '%s', must have a name and at most %d dims, "
                "each 0 or more, and an even number of rows that change places",
                o->n_tensors, x->name ? x->name : "", TD_MAX_RANK);
    if (w->failed.code)
        return;
    /* copies: the format may have built the names on its stack */
    name = keep(w, x->name);
    parameter = x->parameter ? keep(w, x->parameter) : NULL;
    room = grow(w, &list, o->n_tensors, &w->room_tensors, sizeof *o->tensors);
    o->tensors = list;
    if (!room || w->failed.code)
        return;
    o->tensors[o->n_tensors] = (td_translated_tensor){ .name = name,
                                                       .parameter = parameter,
                                                       .scale = x->scale,
                                                       .fill = x->fill,
                                                       .shift = shift,
                                                       .rank = x->rank,
                                                       .interleaved = rows };
    memcpy(o->tensors[o->n_tensors++].dim, x->dim, sizeof x->dim);
}

static void tensor(td_translation *t, const td_format_tensor *x) { add(t, x, 0, 0); }

static void interleaved(td_translation *t, const td_format_tensor *x, int64_t rows)
{
    add(t, x, rows, 0);
}

static void shifted(td_translation *t, const td_format_tensor *x, double shift)
{
    add(t, x, 0, shift);
}

static bool has(td_translation *t, const char *name)
{
    work *w = t->host;
    return w->names && w->names->has(w->names->of, name);
}

static void file(td_translation *t, const char *name, const char *text, size_t size)
{
    work          *w = t->host;
    td_translated *o = w->out;
    void          *list = o->files;
    char          *copy;
    bool           room;
    if (w->failed.code)
        return;
    copy = td_arena_alloc(o->arena, size + 1);
    room = grow(w, &list, o->n_files, &w->room_files, sizeof *o->files);
    o->files = list;
    if (!copy)
        no_memory(w);
    if (!copy || !room)
        return;
    memcpy(copy, text, size);
    o->files[o->n_files++] = (td_translated_file){ keep(w, name), copy, size };
}

static void refuse(td_translation *t, const char *format, ...) TD_PRINTF(2, 3);

static void refuse(td_translation *t, const char *format, ...)
{
    work   *w = t->host;
    char    text[1500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    td_fail(&w->failed, TD_ECONFIG, "%s", text);
}

/* ---- running a hook -------------------------------------------------------------------------- */

static int run(const td_part *part, bool writes, const char *dtype, work *w)
{
    const td_format *f = (const void *)part->plugin;
    td_translation   t = { .size = sizeof t,
                           .dtype = dtype,
                           .ask = ask,
                           .put = put,
                           .tensor = tensor,
                           .file = file,
                           .refuse = refuse,
                           .host = w,
                           .interleaved = interleaved,
                           .has = has,
                           .shifted = shifted };
    *w->out = (td_translated){ .settings = td_record_new(), .arena = td_arena_new() };
    if (!w->out->settings || !w->out->arena)
        no_memory(w);
    /* hooks return nothing, so that they need no checks: the first refusal is kept, and what they put
     * after it is dropped */
    else if (writes)
        TD_HOOK(f, write, part->config, &t);
    else
        TD_HOOK(f, read, part->config, &t);
    return w->failed.code;
}

int td_translate_write(const td_part *format, td_record *model, const char *dtype,
                       td_translated *out, td_error *error)
{
    work        w = { .in = model, .out = out };
    const char *name = format->plugin->name, *rest;
    if (run(format, true, dtype, &w))
        return td_fail(error, w.failed.code, "format '%s' cannot represent this model: %s", name,
                       w.failed.text);
    /* an option that the format does not know may change what the model computes */
    rest = td_record_unasked(model, "model.");
    if (rest)
        return td_fail(error, TD_ECONFIG,
                       "format '%s' cannot represent this model: it does not know %s, which is %s",
                       name, rest, td_record_get(model, rest)->text);
    return 0;
}

int td_translate_read(const td_part *format, td_record *settings, const td_tensor_names *names,
                      td_translated *out, td_error *error)
{
    const td_format *f = (const void *)format->plugin;
    work             w = { .in = settings, .names = names, .out = out };
    const char      *rest;
    if (!f->read)
        return td_fail(error, TD_EUNSUPPORTED, "format '%s' can only be written", f->plugin.name);
    if (run(format, false, "", &w))
        return td_fail(error, w.failed.code == TD_ECONFIG ? TD_EFORMAT : w.failed.code,
                       "format '%s' cannot read this model: %s", f->plugin.name, w.failed.text);
    rest = td_record_unasked(settings, "");
    if (rest)
        return td_fail(error, TD_EFORMAT,
                       "format '%s' does not know %s, which is %s: if it does not change what the "
                       "model computes, remove it from %s",
                       f->plugin.name, rest, td_record_get(settings, rest)->text,
                       f->container == TD_CONTAINER_GGUF ? "the file" : "config.json");
    return 0;
}

void td_translated_free(td_translated *x)
{
    td_record_free(x->settings);
    td_arena_free(x->arena);
    free(x->tensors);
    free(x->files);
    *x = (td_translated){ 0 };
}

const td_translated_tensor *td_translated_of(const td_translated *x, const char *parameter)
{
    for (size_t i = 0; i < x->n_tensors; i++)
        if (x->tensors[i].parameter && !strcmp(x->tensors[i].parameter, parameter))
            return &x->tensors[i];
    return NULL;
}

const td_translated_tensor *td_translated_named(const td_translated *x, const char *name)
{
    for (size_t i = 0; i < x->n_tensors; i++)
        if (!strcmp(x->tensors[i].name, name))
            return &x->tensors[i];
    return NULL;
}
