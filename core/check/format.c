/* format.c - requirements on every format: it names each parameter of a model that it accepts, once,
 * refuses the others with a message, and reads what it writes as the same model.
 *
 * Models are the architectures found, with their defaults and with one option changed at a time, bound
 * as configs are.
 */
#include "check/cases.h"
#include "check/internal.h"
#include "config/config.h"
#include "convert/translation.h"
#include "generate/decode.h"

/* A small model, from overrides alone. */
typedef struct subject {
    td_config    *config;
    td_part       model;
    td_variables *parameters;
    td_record    *settings;
} subject;

static void close_subject(subject *s)
{
    td_variables_free(s->parameters);
    td_record_free(s->settings);
    td_config_free(s->config);
    *s = (subject){ 0 };
}

/* ---- models ---------------------------------------------------------------------------------- */

static void put_number(td_record *r, const char *path, int64_t x)
{
    td_format_value v = { TD_VALUE_INT, x, (double)x, "" };
    td_record_put(r, path, &v, NULL);
}

static void declare(td_check *c, subject *s)
{
    td_model   model = { .registry = c->registry, .architecture = s->model, .real = TD_F32 };
    td_special special = { .pad = 0, .bos = -1, .eos = 1, .unk = 2 };
    td_error   e = { 0 };
    s->parameters = td_variables_new();
    s->settings = td_record_new();
    MUST(c, s->parameters && s->settings, "out of memory");
    MUST(c, !td_decoder_declare(&model, &special, s->parameters, &e), "%s", td_check_error(&e));
    MUST(c, !td_record_put_part(s->settings, "model", &s->model, &e), "%s", td_check_error(&e));
    put_number(s->settings, "train.length", 37);
    put_number(s->settings, "special.pad", special.pad);
    put_number(s->settings, "special.bos", special.bos);
    put_number(s->settings, "special.eos", special.eos);
}

/* False: the parts refuse each other, as some options do. */
static bool open_subject(td_check *c, const char *const *overrides, size_t n, subject *out)
{
    td_errors errors = { 0 };
    bool      bound;
    *out = (subject){ .config = td_config_load(NULL, 0, overrides, n, c->search, &errors) };
    bound = out->config && !errors.count &&
            !td_config_bind(out->config, c->registry, "model", TD_ARCHITECTURE_KIND, NULL,
                            &out->model, &errors);
    td_errors_free(&errors);
    if (bound)
        declare(c, out);
    else
        close_subject(out);
    return bound;
}

enum { MOST = 32 }; /* overrides of a model */

/* Required sizes, and widths that are small; a value that an architecture does not have is no
 * override of it. Then those of the command line, for a format that takes no model as it is. */
static size_t small_model(td_check *c, const td_plugin *architecture, const char *out[MOST])
{
    td_option o;
    size_t    n = 0;
    out[n++] = td_arena_print(c->arena, "model.plugin=\"%s\"", architecture->name);
    for (size_t i = 0; n < 12 && architecture->options &&
                       td_option_row(architecture->options, architecture->option_size, i, &o);
         i++)
        if (o.flags & TD_OPTION_REQUIRED && o.type == TD_TYPE_INT)
            out[n++] = td_arena_print(c->arena, "model.%s=%lld", o.name,
                                      (long long)fmin(fmax(o.min,
                                                           strstr(o.name, "layers") ? 2 : 12),
                                                      o.max));
    out[n++] = "model.attention.heads=2";
    out[n++] = "model.attention.head_dim=6";
    out[n++] = "model.ffn.d_ff=11";
    for (size_t k = 0; k < c->n_overrides && n < MOST; k++)
        if (!strncmp(c->overrides[k], "model.", 6))
            out[n++] = c->overrides[k];
    return n;
}

/* ---- one option changed ---------------------------------------------------------------------- */

typedef struct changes {
    const char **at;
    size_t       count, room;
} changes;

static void add_change(td_check *c, changes *l, const char *path, const char *name,
                       const char *value)
{
    if (l->count == l->room) {
        size_t       room = l->room ? 2 * l->room : 64;
        const char **larger = td_arena_alloc(c->arena, room * sizeof *larger);
        MUST(c, larger, "out of memory");
        if (l->count) /* memcpy takes no NULL */
            memcpy(larger, l->at, l->count * sizeof *larger);
        l->at = larger;
        l->room = room;
    }
    l->at[l->count++] = td_arena_print(c->arena, "%s.%s=%s", path, name, value);
}

/* The other values of the switches and choices of a part, and of the parts in it. */
static void list_changes(td_check *c, const char *path, const td_part *part, changes *l)
{
    td_option o;
    for (size_t i = 0; part->plugin && part->plugin->options &&
                       td_option_row(part->plugin->options, part->plugin->option_size, i, &o);
         i++) {
        const void *field = (const char *)part->config + o.offset;
        if (o.type == TD_TYPE_BOOL)
            add_change(c, l, path, o.name, *(const bool *)field ? "false" : "true");
        for (int k = 0; o.type == TD_TYPE_CHOICE && o.choices[k]; k++)
            if (k != *(const int64_t *)field)
                add_change(c, l, path, o.name, td_arena_print(c->arena, "\"%s\"", o.choices[k]));
        if (o.type == TD_TYPE_PART)
            list_changes(c, td_arena_print(c->arena, "%s.%s", path, o.name), field, l);
    }
}

/* ---- what is written ------------------------------------------------------------------------- */

/* A test of a model that the format accepts. */
typedef void model_test(td_check *, const td_part *format, subject *, td_translated *written,
                        const char *label);

/* Returns whether it is accepted; if not, `refusal` says why. */
static bool try_model(td_check *c, const td_part *format, const char *const *overrides, size_t n,
                      const char *label, model_test *f, td_error *refusal)
{
    subject       s;
    td_translated to = { 0 };
    int           code;
    if (!open_subject(c, overrides, n, &s))
        return false;
    code = td_translate_write(format, s.settings, "float32", &to, refusal);
    if (!code)
        f(c, format, &s, &to, label);
    else if (code == TD_EPLUGIN) /* no refusal of the model */
        td_check_finding(c, "%s: %s", label, td_check_error(refusal));
    td_translated_free(&to);
    close_subject(&s);
    return !code;
}

/* Returns how many models of the architecture are accepted. */
static int try_architecture(td_check *c, const td_part *format, const td_plugin *architecture,
                            model_test *f, td_text *refusals)
{
    const char *overrides[MOST + 1];
    size_t      n = small_model(c, architecture, overrides);
    changes     l = { 0 };
    subject     s;
    int         accepted = 0;
    if (!open_subject(c, overrides, n, &s))
        return 0;
    list_changes(c, "model", &s.model, &l);
    close_subject(&s);
    /* the model as it is, then with one option changed at a time */
    for (size_t k = 0; k <= l.count; k++) {
        td_error    refusal = { 0 };
        const char *label = architecture->name;
        overrides[n] = k ? l.at[k - 1] : NULL;
        if (k)
            label = td_arena_print(c->arena, "%s with %s", label, overrides[n]);
        accepted += try_model(c, format, overrides, n + (k > 0), label, f, &refusal);
        if (!k && refusal.code)
            td_text_print(refusals, "%s%s: %s", refusals->size ? "; " : "", label, refusal.text);
    }
    return accepted;
}

static void each_model(td_check *c, model_test *f)
{
    td_part format = td_check_part(c);
    td_text refusals = { 0 };
    int     accepted = 0;
    td_check_need_options(c);
    td_registry_scan_kind(c->registry, TD_ARCHITECTURE_KIND);
    for (size_t i = 0; i < td_registry_count(c->registry); i++)
        if (td_check_is_kind(td_registry_plugin(c->registry, i), TD_ARCHITECTURE_KIND))
            accepted += try_architecture(c, &format, td_registry_plugin(c->registry, i), f,
                                         &refusals);
    if (!accepted)
        td_check_finding(c, "it accepts no model: %s", td_text_get(&refusals));
    td_text_free(&refusals);
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Every parameter has a tensor, every tensor a parameter or values, and no name is used twice. */
static void complete(td_check *c, const td_part *format, subject *s, td_translated *to,
                     const char *label)
{
    for (size_t i = 0; i < to->n_tensors; i++) {
        const td_translated_tensor *t = &to->tensors[i];
        if (t->parameter && !td_variables_find(s->parameters, t->parameter))
            td_check_finding(c, "%s: tensor '%s' is '%s', which is not a parameter of the model",
                             label, t->name, t->parameter);
        if (td_translated_named(to, t->name) != t)
            td_check_finding(c, "%s: two tensors are named '%s'", label, t->name);
    }
    for (size_t i = 0; i < td_variables_count(s->parameters); i++) {
        const char *name = td_variables_at(s->parameters, i)->name;
        if (td_variables_at(s->parameters, i)->kind == TD_VARIABLE_PARAM &&
            !td_translated_of(to, name))
            td_check_finding(c, "%s: no tensor is made from the parameter '%s'", label, name);
    }
}

void td_check_format(td_check *c) { each_model(c, complete); }

/* The config that the format has read, as overrides. */
static size_t overrides_of(td_check *c, const td_record *r, const char ***out)
{
    const char *path;
    size_t      n = 0, used = 0;
    while (td_record_path(r, n))
        n++;
    *out = td_arena_alloc(c->arena, (n + 1) * sizeof **out);
    MUST(c, *out, "out of memory");
    for (size_t i = 0; (path = td_record_path(r, i)) != NULL; i++)
        if (!strncmp(path, "model.", 6))
            (*out)[used++] = td_arena_print(c->arena, "%s=%s", path, td_record_get(r, path)->text);
    return used;
}

static bool same_dims(const td_variable *a, const td_variable *b)
{
    bool same = a->rank == b->rank;
    for (int k = 0; same && k < a->rank; k++)
        same = a->dim[k] == b->dim[k];
    return same;
}

/* Each parameter of the model that was read has a tensor, which the file has, in its shape. */
static void compare_tensors(td_check *c, const subject *before, const subject *after,
                            const td_translated *written, const td_translated *read,
                            const char *label)
{
    for (size_t i = 0; i < td_variables_count(after->parameters); i++) {
        const td_variable          *x = td_variables_at(after->parameters, i), *was = NULL;
        const td_translated_tensor *t = td_translated_of(read, x->name);
        const td_translated_tensor *w = t ? td_translated_named(written, t->name) : NULL;
        if (x->kind != TD_VARIABLE_PARAM)
            continue;
        if (w && w->parameter)
            was = td_variables_find(before->parameters, w->parameter);
        if (!w)
            td_check_finding(
                c, "%s: when it is read again, the parameter '%s' is in no tensor that was written",
                label, x->name);
        else if (was ? !same_dims(was, x) : w->rank != x->rank || w->dim[0] != x->dim[0])
            td_check_finding(c, "%s: when it is read again, the parameter '%s' has another shape",
                             label, x->name);
    }
}

/* Reading and writing again must not change anything more. */
static void compare_again(td_check *c, const td_part *format, subject *after, const char *json,
                          const char *label)
{
    td_translated again = { 0 };
    td_error      e = { 0 };
    char         *text = NULL;
    if (td_translate_write(format, after->settings, "float32", &again, &e))
        td_check_finding(c, "%s: when it is read again, it is refused: %s", label,
                         td_check_error(&e));
    else if ((text = td_record_to_json(again.settings, &e)) && strcmp(text, json))
        td_check_finding(
            c, "%s: when it is read and written again, its settings differ:\n%.300s\n%.300s", label,
            json, text);
    free(text);
    td_translated_free(&again);
}

static bool has_tensor(const void *of, const char *name)
{
    return td_translated_named(of, name) != NULL;
}

static void read_again(td_check *c, const td_part *format, subject *s, td_translated *to,
                       const char *label)
{
    td_error        e = { 0 };
    td_translated   from = { 0 };
    td_tensor_names names = { has_tensor, to };
    const char    **overrides;
    subject         after;
    size_t          n;
    char           *json = td_record_to_json(to->settings, &e);
    td_record *found = json ? td_record_from_json(json, strlen(json), "config.json", &e) : NULL;
    MUST(c, found, "%s: %s", label, td_check_error(&e));
    td_record_ask(found, "model_type"); /* as `tandem convert` does, to find the format */
    MUST(c, !td_translate_read(format, found, &names, &from, &e),
         "%s: it does not read what it writes: %s", label, td_check_error(&e));
    n = overrides_of(c, from.settings, &overrides);
    MUST(c, open_subject(c, overrides, n, &after),
         "%s: the settings it reads back do not describe a model", label);
    compare_tensors(c, s, &after, to, &from, label);
    compare_again(c, format, &after, json, label);
    close_subject(&after);
    td_translated_free(&from);
    td_record_free(found);
    free(json);
}

void td_check_format_read(td_check *c)
{
    td_part part = td_check_part(c);
    if (!((const td_format *)(const void *)part.plugin)->read)
        td_check_skip(c, "it only writes");
    each_model(c, read_again);
}

/* ---- leaks ----------------------------------------------------------------------------------- */

typedef struct repeated {
    const td_part *format;
    td_record     *settings;
} repeated;

static void translate_again(td_check *c, void *argument)
{
    const repeated *r = argument;
    td_translated   to = { 0 };
    td_translate_write(r->format, r->settings, "float32", &to, NULL);
    td_translated_free(&to);
}

/* Of the first model; the others are treated alike. */
static void leak_of(td_check *c, const td_part *format, subject *s, td_translated *to,
                    const char *label)
{
    repeated r = { format, s->settings };
    if (c->collected)
        return;
    c->collected = c;
    td_check_leak(c, "writing", translate_again, &r);
}

void td_check_format_leak(td_check *c)
{
    c->collected = NULL;
    each_model(c, leak_of);
}
