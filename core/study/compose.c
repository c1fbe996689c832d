/* compose.c - merges the layers of a cell. */
#include "study/compose.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run/experiment.h"

typedef struct composition {
    const td_composer *composer;
    const td_point    *point;
    td_config         *config;
    td_errors         *errors;
} composition;

/* ---- files ----------------------------------------------------------------------------------- */

/* The name that {variant} stands for: that of the variant at the root of this one, for which
 * files exist. */
static const char *root_of(const td_variant *v) { return v->chain[0]->name; }

/* {size} and {variant} in the name of a file, or in a value. */
static const char *fill(const composition *c, const char *text)
{
    td_text     out = { 0 };
    const char *copy;
    while (*text) {
        bool size = !strncmp(text, "{size}", 6), variant = !strncmp(text, "{variant}", 9);
        if (size || variant)
            td_text_print(&out, "%s", size ? c->point->size->name : root_of(c->point->variant));
        else
            td_text_append(&out, text, 1);
        text += size ? 6 : variant ? 9 : 1;
    }
    copy = td_arena_copy(td_config_arena(c->config), td_text_get(&out));
    td_text_free(&out);
    return copy ? copy : text;
}

static bool is_key(const char *text)
{
    size_t n = strlen(text);
    return strchr(text, '=') && !(n > 4 && !strcmp(text + n - 4, ".cfg"));
}

static void lay_file(const composition *c, const td_setting *v)
{
    td_setting *file = td_setting_copy(td_config_arena(c->config), v);
    if (!file)
        return;
    file->text = fill(c, v->text);
    if (is_key(file->text))
        td_config_lay_key(c->config, file->text, td_setting_origin(v), c->errors);
    else
        td_config_lay(c->config, file, c->errors);
}

static void lay(const composition *c, const td_overlay *o)
{
    const td_setting *list = o->files && o->files->type == TD_SETTING_LIST ? o->files : NULL;
    if (o->files && !list)
        lay_file(c, o->files);
    for (const td_setting *v = list ? list->first : NULL; v; v = v->next)
        lay_file(c, v);
    if (o->keys)
        td_config_lay(c->config, o->keys, c->errors);
}

/* ---- layers ---------------------------------------------------------------------------------- */

/* The -c files, as if a file in the working directory extended them. */
static void lay_given(const composition *c)
{
    for (const char *const *f = c->composer->files; f && *f; f++) {
        td_setting *v = td_setting_new(td_config_arena(c->config), TD_SETTING_STRING, "",
                                       "command line", 0);
        if (!v)
            return;
        v->text = *f;
        td_config_lay(c->config, v, c->errors);
    }
}

/* The settings of a size for the variant, and for the variants it is made from. */
static void lay_size(const composition *c)
{
    const td_variant *v = c->point->variant;
    lay(c, &c->point->size->own);
    for (size_t k = 0; k < v->n_chain; k++) {
        const td_setting *own = td_setting_child(c->point->size->variants, v->chain[k]->name);
        td_overlay        o = { 0 };
        if (own && own->type == TD_SETTING_GROUP)
            o = (td_overlay){ td_setting_child(own, "files"), td_setting_child(own, "keys") };
        else if (own)
            o.files = own;
        lay(c, &o);
    }
}

static void lay_phase(const composition *c, td_study_phase p)
{
    const td_variant *v = c->point->variant;
    lay(c, &c->composer->design->phases[p].own);
    for (size_t k = 0; k < v->n_chain; k++)
        lay(c, &v->chain[k]->phases[p]);
}

static void lay_model(const composition *c)
{
    const td_design  *d = c->composer->design;
    const td_variant *v = c->point->variant;
    lay(c, &d->base);
    for (size_t k = 0; k < v->n_chain; k++)
        lay(c, &v->chain[k]->base);
    lay_given(c);
    lay_size(c);
    for (size_t k = 0; k < v->n_chain; k++)
        lay(c, &v->chain[k]->own);
    for (size_t k = 0; k < d->n_grid; k++)
        lay(c, &c->point->levels[k]->own);
}

static void lay_choices(const composition *c, const td_choices *choices)
{
    char seed[64];
    snprintf(seed, sizeof seed, "train.seed=%lld", (long long)c->point->seed);
    td_config_lay_key(c->config, seed, "study.seeds", c->errors);
    for (size_t k = 0; k < choices->n; k++)
        td_config_lay_key(c->config, choices->at[k].key, choices->at[k].origin, c->errors);
    for (const char *const *s = c->composer->settings; s && *s; s++)
        td_config_lay_key(c->config, *s, NULL, c->errors);
}

/* Two phases have commands that only one process can run. */
int64_t td_point_processes(const td_design *d, const td_point *p)
{
    int64_t n = p->size->processes ? p->size->processes : d->processes;
    bool    alone = p->alone || p->reads == TD_STUDY_ANALYZE || p->reads == TD_STUDY_BENCH;
    return n > 1 && !alone ? n : 1;
}

/* Here there is one process, whose default is a comm that connects no others. */
static void lay_comm(const composition *c, int64_t processes)
{
    const td_setting *v = td_config_get(c->config, "comm.plugin");
    td_registry      *registry = c->composer->registry;
    char              key[64];
    snprintf(key, sizeof key, "comm.plugin=%s", td_experiment_comm(registry, c->config, processes));
    if (!v)
        td_config_lay_key(c->config, key, "study.processes", c->errors);
    else if (v->type == TD_SETTING_STRING &&
             !strcmp(v->text, td_experiment_comm(registry, c->config, 1)))
        td_errors_add(c->errors,
                      "%s: comm.plugin = \"%s\" does not connect the %lld processes that compute "
                      "the cell: leave it out, or set study.processes = 1",
                      td_setting_origin(v), v->text, (long long)processes);
}

/* The command that runs the cell sets these, so they are the same for all cells here. */
static void lay_place(const composition *c)
{
    static const char *const keys[] = { "run.name=cell", "run.dir=cells", "backend.threads=0" };
    int64_t                  processes = td_point_processes(c->composer->design, c->point);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        td_config_lay_key(c->config, keys[k], "the study", c->errors);
    if (processes > 1)
        lay_comm(c, processes);
    if (c->point->starts)
        td_config_lay_key(c->config, "train.weights=\"\"", "the study", c->errors);
}

static void take_directory(const td_config *c, char **out)
{
    const td_setting *v = td_config_get(c, "run.dir");
    *out = v && v->type == TD_SETTING_STRING && *v->text ? strdup(v->text) : NULL;
}

td_config *td_compose(const td_composer *composer, const td_point *point, const td_choices *choices,
                      char **directory, td_errors *errors)
{
    composition c = { composer, point, td_config_new(composer->search, composer->untrusted),
                      errors };
    size_t      before = errors->count;
    if (!c.config) {
        td_errors_add(errors, "out of memory while composing a cell");
        return NULL;
    }
    lay_model(&c);
    /* a cell that reads a run has the config of that run, and its own phase on top */
    lay_phase(&c, point->trains);
    if (point->reads != TD_STUDY_PHASES)
        lay_phase(&c, point->reads);
    lay_choices(&c, choices);
    if (directory)
        take_directory(c.config, directory);
    lay_place(&c);
    if (errors->count == before)
        return c.config;
    td_config_free(c.config);
    return NULL;
}
